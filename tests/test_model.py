"""The Transformer: what it computes, how its weights are initialized, and what it does not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_utils.batches import batch_of
from data_utils.prepared import clip_set
from model.config import ModelConfig
from model.device_clips import DeviceClips
from model.layers import ACTIVATIONS, Dropout, sinusoids
from model.transformer import TransformerEnISLR, logits

WORDS = 5


def make_model(seed: int = 0, **settings: object) -> TransformerEnISLR:
    """A small model."""
    config = ModelConfig(**{"width": 16, "ffn_width": 32, **settings})  # type: ignore[arg-type]
    return TransformerEnISLR(config, WORDS, torch.Generator().manual_seed(seed))


def make_clips(lengths: list[int], seed: int = 0) -> list[np.ndarray]:
    """Clips of random numbers."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((length, 260)).astype(np.float32) for length in lengths]


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=2, max_size=12), pooling=st.sampled_from(["none", "max"]))
def test_logits_do_not_depend_on_the_other_clips(lengths: list[int], pooling: str) -> None:
    """A clip has the same logits alone, among others, and in another order."""
    model, clips = make_model(pooling=pooling), make_clips(lengths)
    together = logits(model, clips)
    alone = np.concatenate([logits(model, [clip]) for clip in clips])
    reversed_order = logits(model, clips[::-1])[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, reversed_order, atol=1e-5)


def test_an_undetected_frame_counts_by_the_mask() -> None:
    """With `detected` an empty frame changes only the positions after it; with `lengths` it counts."""
    model, (clip,) = make_model(), make_clips([6])
    with_empty = np.concatenate([clip, np.zeros((2, 260), np.float32)])
    np.testing.assert_allclose(logits(model, [with_empty], mask="detected"), logits(model, [clip]), atol=1e-5)
    assert np.abs(logits(model, [with_empty], mask="lengths") - logits(model, [clip])).max() > 1e-3


def test_a_clip_without_any_detected_frame_gives_finite_logits() -> None:
    """Neither the empty clip nor the others in its batch get NaN."""
    result = logits(make_model(), [np.zeros((3, 260), np.float32), *make_clips([3, 4])], mask="detected")
    assert np.isfinite(result).all()


def test_clips_of_a_wrong_shape_are_refused() -> None:
    """Shapes other than [T, 260] and clips without frames raise a ValueError that names the clip."""
    for wrong in (np.zeros((3, 261), np.float32), np.zeros((0, 260), np.float32)):
        with pytest.raises(ValueError, match="clip 1"):
            logits(make_model(), [np.zeros((2, 260), np.float32), wrong])


def test_no_clips_give_no_logits() -> None:
    """An empty list gives an empty array."""
    assert logits(make_model(), []).shape == (0, WORDS)


@pytest.mark.parametrize(
    "change",
    [
        {"norm_first": False},
        {"tail_norm": False},
        {"bias": False},
        {"layers": 1},
        {"heads": 4},
        {"pooling": "average"},
        {"pooling": "max"},
        *[{"activation": name} for name in ACTIVATIONS if name not in ("relu", "swish")],
    ],
    ids=str,
)
def test_every_option_changes_what_is_computed(change: dict[str, object]) -> None:
    """Every option has an effect on the logits."""
    clips = make_clips([5, 9, 9, 30])
    assert np.abs(logits(make_model(**change), clips) - logits(make_model(), clips)).max() > 1e-6


def test_swish_is_silu() -> None:
    """`swish` and `silu` are the same activation."""
    clips = make_clips([7])
    np.testing.assert_array_equal(logits(make_model(activation="swish"), clips), logits(make_model(activation="silu"), clips))


def test_without_bias_only_embedding_and_head_have_one() -> None:
    """`bias=False` keeps the biases of the embedding and the head."""
    names = [name for name, _ in make_model(bias=False).named_parameters() if name.endswith("bias")]
    assert names == ["embed.bias", "head.bias"]


def test_average_pooling_of_a_single_frame_is_refused() -> None:
    """A clip without frames after pooling raises an error instead of giving NaN."""
    with pytest.raises(ValueError, match="no frame left"):
        logits(make_model(pooling="average"), make_clips([1, 8]))


def test_reference_init_has_equal_layers_and_a_wide_head() -> None:
    """Both layers are equal, the head's weight has sd 1/sqrt(words), biases are within 1/sqrt(fan-in)."""
    model = TransformerEnISLR(ModelConfig(init="reference", width=256), 10, torch.Generator().manual_seed(0))
    first, second = (layer.state_dict() for layer in model.layers)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert model.head.weight.std().item() == pytest.approx(10**-0.5, rel=0.1)
    assert model.embed.bias.abs().max().item() <= 260**-0.5


def test_sound_init_has_different_layers_and_a_first_loss_near_chance() -> None:
    """Each layer is drawn separately, and the first loss is near ln(words); with `reference` it is far above."""
    clips, labels = make_clips([20] * 40), torch.arange(40) % 10
    losses = {}
    for init in ("sound", "reference"):
        model = TransformerEnISLR(ModelConfig(init=init), 10, torch.Generator().manual_seed(3))
        losses[init] = torch.nn.functional.cross_entropy(torch.from_numpy(logits(model, clips)), labels).item()
        equal = torch.equal(model.layers[0].attention.qkv.weight, model.layers[1].attention.qkv.weight)
        assert equal == (init == "reference")
    assert losses["sound"] == pytest.approx(np.log(10), abs=0.25)
    assert losses["reference"] > 2.6


def test_the_initial_weights_depend_on_the_seed() -> None:
    """The same seed gives the same weights, another seed others; the global generator is not changed."""
    before = torch.random.get_rng_state()
    one, same, other = make_model(1), make_model(1), make_model(2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.embed.weight, other.embed.weight)
    assert torch.equal(before, torch.random.get_rng_state())


def test_positions_have_no_end() -> None:
    """The position table grows for a longer clip and still equals its formula."""
    model = make_model()
    long_clip = make_clips([700])
    assert np.isfinite(logits(model, long_clip)).all()
    assert len(model.position_table) >= 700
    assert torch.allclose(model.position_table, sinusoids(len(model.position_table), 16))
    assert sinusoids(3, 4)[2].tolist() == pytest.approx([np.sin(2), np.cos(2), np.sin(0.02), np.cos(0.02)], abs=1e-6)


def test_attention_weights_on_request() -> None:
    """Attention weights come by layer and block, each row sums to 1, and requesting them does not change the logits."""
    model, clips = make_model(), clip_set(make_clips([5, 6, 20]))
    held = DeviceClips(clips, torch.device("cpu"))
    batch = batch_of(clips, np.arange(3))
    weights: list[torch.Tensor] = []
    frames, layout = held.take(batch)
    with torch.inference_mode():
        with_weights, plain = model(frames, layout, weights=weights), model(frames, layout)
    assert [len(of_block) for of_block in weights] == [block.clips for block in batch.blocks] * 2
    for of_block in weights:
        torch.testing.assert_close(of_block.sum(dim=3), torch.ones(of_block.shape[:3]))
    torch.testing.assert_close(with_weights, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_dropout_drops_with_probability_p_and_keeps_the_mean(p: float) -> None:
    """The fraction of zeros and the mean are within 5 standard errors of the expected values."""
    count = 400_000
    result = Dropout(p, torch.Generator().manual_seed(7))(torch.ones(count))
    error = (p * (1 - p) / count) ** 0.5
    assert (result == 0).double().mean().item() == pytest.approx(p, abs=5 * error + 2**-16)
    assert result.double().mean().item() == pytest.approx(1.0, abs=(5 * error + 2**-16) / (1 - p))


def test_dropout_masks_are_independent_of_place() -> None:
    """Neighboring elements, and elements of one random word, are dropped independently."""
    zero = (Dropout(0.3, torch.Generator().manual_seed(1))(torch.ones(400_000)) == 0).double()
    for lag in (1, 2, 3, 4):
        together = (zero[:-lag] * zero[lag:]).mean().item()
        assert together == pytest.approx(0.09, abs=0.004)
    for lane in range(4):
        assert zero[lane::4].mean().item() == pytest.approx(0.3, abs=0.01)


def test_dropout_acts_only_with_a_generator() -> None:
    """Without a generator the model is deterministic; with one, the result depends on its seed."""
    model, clips = make_model(dropout=0.5), clip_set(make_clips([5, 6, 20]))
    held = DeviceClips(clips, torch.device("cpu"))
    frames, layout = held.take(batch_of(clips, np.arange(3)))
    plain = model(frames, layout)
    assert torch.equal(plain, model(frames, layout))
    dropped = [model(frames, layout, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(dropped[0], dropped[1])
    assert not torch.equal(dropped[0], dropped[2])
    assert not torch.equal(dropped[0], plain)


def test_gradients_are_those_of_the_function() -> None:
    """Numerical and analytical gradients agree in float64, for blocks with and without padding."""
    model = make_model(width=4, ffn_width=4, layers=1, activation="gelu").double()
    clips = clip_set(make_clips([2, 3, 3, 6]))
    held = DeviceClips(clips, torch.device("cpu"))
    frames, layout = held.take(batch_of(clips, np.arange(4)))
    weight = model.layers[0].attention.qkv.weight  # type: ignore[union-attr]

    def value(qkv: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(model, {"layers.0.attention.qkv.weight": qkv}, (frames.double(), layout))

    assert torch.autograd.gradcheck(value, (weight.detach().clone().requires_grad_(True),))
