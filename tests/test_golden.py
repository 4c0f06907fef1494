"""Comparison with recorded results: our own golden file, and the reference's if it is available."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from make_golden import FILE, STRUCTURES, arrays

from data_utils.batches import Batch, batch_of
from data_utils.prepared import ClipSet, clip_set
from model.config import ModelConfig
from model.device_clips import DeviceClips
from model.layers import sinusoids
from model.loss import plain_cross_entropy, smoothed_cross_entropy, smoothing_floor
from model.reference import load_reference
from model.transformer import TransformerEnISLR, logits

REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "golden.npz"
LENGTHS = [7, 5, 9, 6, 1, 1, 4, 3, 3]


def test_our_own_golden_file() -> None:
    """Every array of the project's golden file is reproduced."""
    stored, now = np.load(FILE), arrays()
    assert sorted(stored.files) == sorted(now)
    for name in stored.files:
        np.testing.assert_allclose(now[name], stored[name], rtol=2e-5, atol=2e-5, err_msg=name)


def test_the_golden_structures_differ() -> None:
    """The golden file detects if an option of the model has no effect."""
    stored = np.load(FILE)
    kept = [stored[f"logits_{name}"] for name in STRUCTURES]
    for i, one in enumerate(kept):
        for other in kept[i + 1 :]:
            assert np.abs(one - other).max() > 1e-3


@pytest.fixture(scope="module")
def golden() -> Mapping[str, np.ndarray]:
    """The reference's results."""
    if not REFERENCE.is_file():
        pytest.skip("the reference's golden.npz is not available")
    with np.load(REFERENCE) as stored:
        return {name: stored[name] for name in stored.files}


@pytest.fixture(scope="module")
def state(golden: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """The reference's weights under the reference's names."""
    return {name[3:]: torch.from_numpy(value) for name, value in golden.items() if name.startswith("sd/")}


@pytest.fixture(scope="module")
def padded(golden: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The nine clips as padded by the reference: nine frames each, with empty frames at the end."""
    return list(golden["batch_feature"].transpose(0, 2, 1, 3).reshape(9, 9, 260))


@pytest.fixture(scope="module")
def unpadded(padded: list[np.ndarray]) -> list[np.ndarray]:
    """The nine clips at their true lengths."""
    return [clip[:length] for clip, length in zip(padded, LENGTHS, strict=True)]


def test_batches_contain_the_references_clips_and_mask(golden: Mapping[str, np.ndarray], unpadded: list[np.ndarray]) -> None:
    """Our blocks contain the reference's padded features, tokens and value-based mask, frame by frame."""
    clips = clip_set(unpadded, golden["tokens"].tolist(), mask="detected")
    batch = batch_of(clips, np.arange(9))
    frames, real = clips.frames_NF[batch.source_M], clips.real_N[batch.source_M]
    for clip, rows in _clips_of(batch):
        expected = golden["batch_feature"][clip].transpose(1, 0, 2).reshape(9, 260)[: rows.stop - rows.start]
        np.testing.assert_array_equal(frames[rows], expected)
        np.testing.assert_array_equal(real[rows], golden["batch_feature_pad_mask"][clip][: rows.stop - rows.start])
        assert clips.labels_C[clip] == golden["batch_token"][clip, 0]


def _clips_of(batch: Batch) -> Iterator[tuple[int, slice]]:
    """Each clip of a batch with its rows, including padding."""
    clips = iter(batch.clips_B.tolist())
    for block in batch.blocks:
        for g in range(block.clips):
            start = block.start + g * block.frames
            yield next(clips), slice(start, start + block.frames)


def test_positions_and_parameters(golden: Mapping[str, np.ndarray], state: dict[str, torch.Tensor]) -> None:
    """The first positions and the number of parameters agree."""
    # An angle of up to 39 has a float32 step of 3.8e-6, and the exponential differs by a step between processors.
    np.testing.assert_allclose(sinusoids(40, 64).numpy(), golden["pose_first_40"], atol=5e-6)
    assert sum(p.numel() for p in load_reference(state).parameters()) == golden["num_parameters"]


def test_logits_with_the_mask(
    golden: Mapping[str, np.ndarray], state: dict[str, torch.Tensor], unpadded: list[np.ndarray]
) -> None:
    """Masked logits agree, for the padded batch and for each clip alone, in each structure."""
    model = load_reference(state)
    for name in ("logits_mask", "logits_single_mask"):
        np.testing.assert_allclose(logits(model, unpadded, mask="detected"), golden[name], atol=1e-5, err_msg=name)
    post = load_reference(state, norm_first=False)
    np.testing.assert_allclose(logits(post, unpadded, mask="detected"), golden["logits_mask_postln"], atol=1e-5)
    bare = load_reference({name: value for name, value in state.items() if not name.startswith("tr_encoder.norm.")})
    np.testing.assert_allclose(logits(bare, unpadded, mask="detected"), golden["logits_mask_preln_notail"], atol=1e-5)


def test_logits_without_the_mask(
    golden: Mapping[str, np.ndarray], state: dict[str, torch.Tensor], padded: list[np.ndarray], unpadded: list[np.ndarray]
) -> None:
    """Logits agree if padding is passed as frames, to which the reference attends, and for each clip alone."""
    model = load_reference(state)
    np.testing.assert_allclose(logits(model, padded), golden["logits_nomask"], atol=1e-5)
    np.testing.assert_allclose(logits(model, unpadded), golden["logits_single_nomask"], atol=1e-5)


def test_logits_with_time_pooling(golden: Mapping[str, np.ndarray], state: dict[str, torch.Tensor]) -> None:
    """Logits agree with average and max pooling over time, with odd lengths and a gap."""
    features = golden["pool_feature"].transpose(0, 2, 1, 3).reshape(4, 8, 260)
    clips = [clip[:length] for clip, length in zip(features, [7, 5, 8, 5], strict=True)]
    for how in ("average", "max"):
        result = logits(load_reference(state, pooling=how), clips, mask="detected")
        np.testing.assert_allclose(result, golden[f"logits_pool_{how}"], atol=1e-5, err_msg=how)


def test_a_clip_without_detection_is_finite_where_the_reference_is_not(
    golden: Mapping[str, np.ndarray], state: dict[str, torch.Tensor], unpadded: list[np.ndarray]
) -> None:
    """The reference gives NaN for a clip in which nothing is detected (its defect 9); our logits are finite."""
    assert np.isnan(golden["logits_allmissing"][1]).all()
    result = logits(load_reference(state), [unpadded[0], np.zeros((7, 260), np.float32)], mask="detected")
    assert np.isfinite(result).all()


def _run(
    model: TransformerEnISLR, clips: list[np.ndarray], mask: str
) -> tuple[ClipSet, Batch, list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """A forward pass that keeps attention weights, the embedding and the encoder's output, [M, D] each."""
    held = clip_set(clips, mask=mask)
    batch = batch_of(held, np.arange(len(clips)))
    weights: list[torch.Tensor] = []
    kept: dict[str, torch.Tensor] = {}
    model.embed.register_forward_hook(lambda _m, _i, out: kept.__setitem__("embed", out.relu()))
    model.norm_tail.register_forward_hook(lambda _m, _i, out: kept.__setitem__("encoded", out))
    with torch.no_grad():
        model(*DeviceClips(held, torch.device("cpu")).take(batch), weights=weights)
    return held, batch, weights, kept["embed"], kept["encoded"]


def test_attention_embedding_and_encoder(
    golden: Mapping[str, np.ndarray], state: dict[str, torch.Tensor], padded: list[np.ndarray], unpadded: list[np.ndarray]
) -> None:
    """Attention weights with and without the mask, embedded frames and the encoder's output agree in real frames."""
    for suffix, clips, mask in (("mask", unpadded, "detected"), ("nomask", padded, "lengths")):
        held, batch, weights, embed, encoded = _run(load_reference(state), clips, mask)
        count = len(batch.blocks)
        of_clip = [[w for block in weights[i : i + count] for w in block] for i in range(0, len(weights), count)]
        for place, (clip, rows) in enumerate(_clips_of(batch)):
            length = int(held.lengths_C[clip])
            rows = slice(rows.start, rows.start + length)
            real = held.real_N[batch.source_M[rows]]
            for layer in range(2):
                ours = of_clip[layer][place][:, :length, :length].numpy()
                theirs = golden[f"attw_{suffix}"][layer, clip, :, :length, :length]
                np.testing.assert_allclose(ours[:, real], theirs[:, real], atol=1e-5)
            if suffix == "mask":
                np.testing.assert_allclose(embed[rows].numpy(), golden["embed"][clip, :length], atol=1e-5)
                np.testing.assert_allclose(encoded[rows].numpy()[real], golden["encoded_mask"][clip, :length][real], atol=1e-5)


def test_label_smoothing_losses_and_floors(golden: Mapping[str, np.ndarray]) -> None:
    """Mean and per-sample smoothed losses, and their floors for ten words, agree at eight values of eps."""
    scores, labels = torch.from_numpy(golden["logits_mask"]), torch.from_numpy(golden["tokens"])
    for i, eps in enumerate(golden["ls_eps"].tolist()):
        assert smoothed_cross_entropy(scores, labels, eps).item() == pytest.approx(golden["ls_mean"][i], abs=1e-5)
        each = [smoothed_cross_entropy(scores[n : n + 1], labels[n : n + 1], eps).item() for n in range(9)]
        np.testing.assert_allclose(each, golden["ls_per_sample"][i], atol=1e-5)
        assert smoothing_floor(eps, 10) == pytest.approx(golden["ls_floor_K10"][i], abs=1e-9)
    np.testing.assert_allclose(plain_cross_entropy(scores, labels), golden["ls_per_sample"][0], atol=1e-5)


def test_adam_steps(golden: Mapping[str, np.ndarray], state: dict[str, torch.Tensor], unpadded: list[np.ndarray]) -> None:
    """Five Adam steps agree: each loss, the norms of the first gradients and weights, and the final logits."""
    model = load_reference(state, dropout=0.0)
    held = clip_set(unpadded, golden["tokens"].tolist(), mask="detected")
    batch = batch_of(held, np.arange(9))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4, fused=True)
    before = _by_reference_name(golden, {name: p.detach().clone() for name, p in model.named_parameters()})
    for step in range(5):
        scores = model(*DeviceClips(held, torch.device("cpu")).take(batch))
        loss = smoothed_cross_entropy(scores, torch.from_numpy(held.labels_C[batch.clips_B]), 0.1)
        optimizer.zero_grad()
        loss.backward()
        assert loss.item() == pytest.approx(golden["adam5_losses"][step], abs=1e-4)
        if step == 0:
            assert loss.item() == pytest.approx(golden["adam1_loss"][0], abs=1e-5)
            gradients = _by_reference_name(golden, {n: p.grad for n, p in model.named_parameters() if p.grad is not None})
            np.testing.assert_allclose(_norms(gradients), golden["adam1_grad_norm"], rtol=1e-4, atol=1e-5)
        optimizer.step()
        if step == 0:
            after = _by_reference_name(golden, {name: p.detach().clone() for name, p in model.named_parameters()})
            np.testing.assert_allclose(_norms(after), golden["adam1_param_norm"], rtol=1e-4)
            moved = [b - a for a, b in zip(before, after, strict=True)]
            # the gradient of a key's bias is 0 up to rounding, so the direction of Adam's first step on it is arbitrary
            nonzero = golden["adam1_grad_norm"] > 1e-5
            np.testing.assert_allclose(_norms(moved)[nonzero], golden["adam1_delta_norm"][nonzero], rtol=2e-2)
            np.testing.assert_allclose(after[36].numpy(), golden["adam1_head_weight"], atol=1e-4)
    final = _by_reference_name(golden, {name: p.detach() for name, p in model.named_parameters()})
    np.testing.assert_allclose(_norms(final), golden["adam5_param_norm"], atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(logits(model, unpadded, mask="detected"), golden["adam5_logits_mask"], atol=1e-4)


def _by_reference_name(golden: Mapping[str, np.ndarray], ours: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """Our tensors in the order of the reference's parameter names; query, key and value separate."""
    tensors: dict[str, torch.Tensor] = {}
    for name, value in ours.items():
        tensors |= _reference_names(name, value)
    return [tensors[str(name)] for name in golden["param_names"]]


def _norms(tensors: list[torch.Tensor]) -> np.ndarray:
    return np.array([tensor.double().norm().item() for tensor in tensors])


def test_a_foreign_state_dict_is_refused(state: dict[str, torch.Tensor]) -> None:
    """Missing layers, another input width and an incomplete projection are refused; names of later versions are accepted."""
    with pytest.raises(ValueError, match="not a state dict"):
        load_reference({"weight": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="100 inputs per frame"):
        load_reference({**state, "linear.weight": torch.zeros(64, 100)})
    lone = {name: value for name, value in state.items() if "layers.1.self_attn.w_key" not in name}
    with pytest.raises(ValueError, match="query, key and value"):
        load_reference(lone)
    with pytest.raises(ValueError, match="do not fit"):
        load_reference({**state, "something.else": torch.zeros(1)})
    later = {n.replace("norm1", "norm_sattn").replace("encoder.norm.", "encoder.norm_tail."): v for n, v in state.items()}
    for (name, one), (_, other) in zip(
        load_reference(state).state_dict().items(), load_reference(later).state_dict().items(), strict=True
    ):
        assert torch.equal(one, other), name


def test_the_reference_state_dict_round_trips_without_the_reference() -> None:
    """A state dict with the article's names, made from our own model, gives that model's logits."""
    model = TransformerEnISLR(ModelConfig(width=8, ffn_width=12), 3, torch.Generator().manual_seed(5))
    theirs: dict[str, torch.Tensor] = {"tr_encoder.pos_encoder.pose": sinusoids(10, 8)}
    for name, value in model.state_dict().items():
        theirs |= _reference_names(name, value)
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal((frames, 260)).astype(np.float32) for frames in (3, 8)]
    np.testing.assert_array_equal(logits(load_reference(theirs), clips), logits(model, clips))


def _reference_names(name: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    if ".qkv." in name:
        parts = zip(value.chunk(3), ("query", "key", "value"), strict=True)
        return {"tr_encoder." + name.replace("attention.qkv", f"self_attn.w_{which}"): part for part, which in parts}
    for mine, theirs in (
        ("embed.", "linear."),
        ("head.", "head.head."),
        ("norm_tail.", "tr_encoder.norm."),
        ("layers.", "tr_encoder.layers."),
        ("attention.out", "self_attn.w_out"),
        ("feed_forward.expand", "ffw.w_1"),
        ("feed_forward.contract", "ffw.w_2"),
        ("norm_attention", "norm1"),
        ("norm_feed_forward", "norm2"),
    ):
        name = name.replace(mine, theirs)
    return {name: value}
