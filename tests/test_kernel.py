"""The compiled kernel computes what PyTorch computes, draws dropout as it should, and refuses sizes that do not fit."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data_utils.augment import AugmentConfig
from data_utils.batches import batch_of
from data_utils.errors import ResourceError
from data_utils.prepared import ClipSet, clip_set
from model.config import ModelConfig, TrainConfig
from model.device_clips import DeviceClips
from model.flat import FlatWeights, flatten_weights
from model.kernel.binding import Kernel, KernelBatch, not_covered
from model.kernel.compiling import VERSION, find_compilers
from model.kernel.frames import RealFrames
from model.kernel.library import Library, NoKernel, build, instructions_of_cpu, load_library
from model.loss import SmoothedLoss, soft_targets
from model.training import Training, fit
from model.transformer import TransformerEnISLR

WORDS = 5
SMALL = ModelConfig(width=32, layers=2, heads=2, ffn_width=64)


def instruction_sets() -> list[str]:
    """Those that this CPU can run."""
    try:
        best = instructions_of_cpu()
    except NoKernel:
        return []
    return ["avx512", "avx2"] if best == "avx512" else [best]


def library(instructions: str) -> Library:
    """The kernel for an instruction set, by the first compiler at hand."""
    return build(instructions, next(iter(find_compilers())))


def make_set(lengths: list[int], seed: int = 0, masked: float = 0.0) -> ClipSet:
    """Random clips; a share of the frames is masked."""
    rng = np.random.default_rng(seed)
    clips = [rng.standard_normal((length, 260)).astype(np.float32) for length in lengths]
    made = clip_set(clips, rng.integers(0, WORDS, len(lengths)))
    real_N = made.real_N & (rng.random(len(made.real_N)) >= masked)
    return dataclasses.replace(made, real_N=real_N)


class Side:
    """A model with its weights in a buffer, and the kernel for them."""

    def __init__(self, config: ModelConfig, instructions: str, seed: int = 0) -> None:
        self.model = lively_model(config, seed)
        self.flat: FlatWeights = flatten_weights(self.model)
        self.kernel = Kernel(library(instructions), config, WORDS, self.flat.offsets)

    def train(self, batch: KernelBatch, loss: SmoothedLoss = SmoothedLoss(0.1, WORDS), seed: int = 0) -> float:
        """The loss of a batch; its gradients lie in the buffer."""
        self.flat.gradients_W.zero_()
        return self.kernel.train(batch, self.flat.values_W, self.flat.gradients_W, soft_targets(loss, WORDS), seed)


def lively_model(config: ModelConfig, seed: int) -> TransformerEnISLR:
    """A model whose biases are not 0 and whose norms are not 1, so that each of them shows."""
    rng = torch.Generator().manual_seed(seed)
    model = TransformerEnISLR(config, WORDS, rng)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim < 2:
                weight.add_(0.1 * torch.randn(weight.shape, generator=rng))
    return model


def judge(model: TransformerEnISLR, clips: ClipSet, loss: SmoothedLoss) -> tuple[float, dict[str, Tensor], Tensor, float]:
    """Loss, gradients and logits by PyTorch in float64, and how near to 0 the input of a ReLU came."""
    exact = TransformerEnISLR(model.config, WORDS, torch.Generator()).double()
    exact.load_state_dict(model.state_dict())
    exact.position_table = exact.position_table.double()
    nearest = [1.0]

    def watch(_: nn.Module, __: Any, output: Tensor) -> None:
        nearest.append(output.abs().min().item())

    for name, module in exact.named_modules():
        if name == "embed" or name.endswith("expand"):
            module.register_forward_hook(watch)
    selected = np.arange(len(clips))
    batch = batch_of(clips, selected)
    frames_MF, layout = DeviceClips(clips, torch.device("cpu")).take(batch)
    layout = dataclasses.replace(layout, key_bias=tuple(b if b is None else b.double() for b in layout.key_bias))
    logits_BK = exact(frames_MF.double(), layout)
    value = loss(logits_BK, torch.from_numpy(clips.labels_C[batch.clips_B]))
    value.backward()  # type: ignore[no-untyped-call]
    gradients = {name: weight.grad for name, weight in exact.named_parameters() if weight.grad is not None}
    in_order = torch.empty_like(logits_BK)
    in_order[torch.from_numpy(batch.clips_B)] = logits_BK.detach()
    return value.item(), gradients, in_order, min(nearest)


COVERED = [
    {},
    {"norm_first": False},
    {"tail_norm": False},
    {"bias": False},
    {"bias": False, "norm_first": False},
    {"activation": "gelu"},
    {"activation": "silu", "norm_first": False},
    {"activation": "swish", "bias": False},
    {"activation": "gelu", "tail_norm": False, "layers": 1},
    *({"width": width, "heads": heads, "ffn_width": 32} for width, heads in ((16, 8), (48, 4), (80, 2), (112, 8), (128, 1))),
    *({"width": 64, "heads": 4, "ffn_width": ffn, "layers": layers} for ffn, layers in ((32, 4), (128, 3), (512, 1), (256, 2))),
]


@pytest.mark.parametrize("instructions", instruction_sets())
@pytest.mark.parametrize("settings", COVERED, ids=str)
def test_loss_gradients_and_logits_are_pytorchs(settings: dict[str, Any], instructions: str) -> None:
    """They equal PyTorch's in float64, for clips of many lengths, masked frames and a clip without any real frame."""
    config = ModelConfig(**{**dataclasses.asdict(SMALL), "dropout": 0.0, **settings})
    loss = SmoothedLoss(0.1, WORDS)
    clips = make_set([1, 2, 7, 15, 16, 17, 33, 5], masked=0.2)
    clips.real_N[clips.starts_C[4] : clips.starts_C[4] + 16] = False
    for seed in range(40):  # a ReLU near 0 may fall on either side
        side = Side(config, instructions, seed)
        value, gradients, logits_BK, nearest = judge(side.model, clips, loss)
        if config.activation != "relu" or nearest > 3e-6:
            break
    batch = RealFrames(clips).batch(np.arange(len(clips)))
    assert side.train(batch, loss) == pytest.approx(value, abs=1e-6)
    for name, weight in side.model.named_parameters():
        assert weight.grad is not None
        apart = (weight.grad.double() - gradients[name]).norm()
        assert apart <= 1e-5 * gradients[name].norm(), name
    torch.testing.assert_close(side.kernel.classify(batch, side.flat.values_W).double(), logits_BK, atol=3e-6, rtol=0)


@pytest.mark.parametrize(
    "settings", [{}, {"label_smoothing_over": "wrong"}, {"optimizer": "adamw", "weight_decay": 0.1}], ids=str
)
@pytest.mark.parametrize(
    "augment", [AugmentConfig(), AugmentConfig(flip=0.5, crop=0.5, warp=0.5, drop_frames=0.5)], ids=["", "augmented"]
)
def test_ten_steps_are_pytorchs(settings: dict[str, Any], augment: AugmentConfig) -> None:
    """Without dropout, ten steps through either path give the same losses, the same clips and the same augmentation."""
    clips = make_set([3, 9, 14, 22, 31, 8, 5, 12, 40, 2] * 2, masked=0.1)
    config = TrainConfig(epochs=2, batch_size=4, lr=1e-3, label_smoothing=0.1, clip_norm=1.0, ema=0.9, **settings)
    steps: dict[str, list[float]] = {}
    for kernel in ("auto", "torch"):
        training = Training(
            dataclasses.replace(SMALL, dropout=0.0),
            dataclasses.replace(config, kernel=kernel),
            augment,
            train=clips,
            validation=clips,
            num_words=WORDS,
            seed=3,
        )
        assert bool(training.choice.kernel) == (kernel == "auto")
        records = fit(training)
        steps[kernel] = [value for record in records for value in (record.train_loss, record.val_loss)]
    assert steps["auto"] == pytest.approx(steps["torch"], abs=1e-5)


@pytest.mark.parametrize("settings", COVERED, ids=str)
def test_ten_losses_are_pytorchs(settings: dict[str, Any]) -> None:
    """Without dropout, ten steps of Adam through either path give the same loss at each step, for every kind of model."""
    model = ModelConfig(**{**dataclasses.asdict(SMALL), "dropout": 0.0, **settings})
    clips = make_set([3, 9, 14, 22, 31, 8, 5, 12, 40, 2] * 2, masked=0.1)
    losses: dict[str, list[float]] = {}
    for kernel in ("auto", "torch"):
        config = TrainConfig(batch_size=2, label_smoothing=0.1, kernel=kernel)
        training = Training(model, config, train=clips, validation=None, num_words=WORDS, seed=3)
        losses[kernel] = []
        for number, (_, loss) in enumerate(training.path.epoch(training.loss)):
            training._step(number)
            losses[kernel].append(float(loss))
    assert len(losses["auto"]) == 10
    assert losses["auto"] == pytest.approx(losses["torch"], abs=1e-5)


def revealing(p: float, instructions: str, site: str) -> Side:
    """A model that passes on what one kind of dropout does: its mean over a clip of one frame is what was kept, times 1."""
    config = ModelConfig(width=64, layers=1, heads=4, ffn_width=64, dropout=p, tail_norm=False)
    side = Side(config, instructions)
    model, eye = side.model, torch.eye(64)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        layer = model.layers[0]
        layer.norm_attention.bias.fill_(1.0)  # type: ignore[union-attr, operator]
        layer.norm_feed_forward.bias.fill_(1.0)  # type: ignore[union-attr, operator]
        if site == "attention":
            layer.attention.qkv.weight[128:] = eye  # type: ignore[union-attr, index]
            layer.attention.out.weight.copy_(eye)  # type: ignore[union-attr, operator]
        if site == "feed-forward":
            layer.feed_forward.expand.weight.copy_(eye)  # type: ignore[union-attr, operator]
            layer.feed_forward.contract.weight.copy_(eye)  # type: ignore[union-attr, operator]
    return side


def revealed(side: Side, seed: int, clips: int = 32) -> np.ndarray:
    """`[clips, 64]`: the mean over each clip's only frame, read from the gradient of the head."""
    rows = []
    for n in range(clips):
        frames_NF = np.zeros((1, 260), np.float32)
        zero = np.zeros(1, np.int64)
        side.train(KernelBatch(frames_NF, zero, zero, np.array([0, 1]), zero), SmoothedLoss(0.0, WORDS), seed * 1000 + n)
        head = side.model.head
        assert head.weight.grad is not None
        assert head.bias.grad is not None
        rows.append((head.weight.grad[1] / head.bias.grad[1]).numpy().copy())
    return np.array(rows)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("instructions", instruction_sets())
def test_dropout_drops_its_share_and_scales_the_rest(p: float, instructions: str) -> None:
    """After the positions, on the attention weights, inside the feed-forward block and on the branches, by statistics."""
    scale = 65536 / (65536 - round(p * 65536))
    embedded = revealed(revealing(p, instructions, "none"), 1, 200)[:, 1::2]  # the position of frame 0: 0 and 1 in turn
    within(embedded == 0, p)
    assert embedded[embedded != 0] == pytest.approx(scale, rel=1e-5)

    attention = revealed(revealing(p, instructions, "attention"), 2, 200)[:, ::2].reshape(200, 4, 8)  # by head
    head_lives = (attention != 0).any(axis=2)
    share_of_dead_heads = p + (1 - p) * p**8  # or its eight numbers were all dropped from the branch
    within(~head_lives, share_of_dead_heads)
    assert attention[attention != 0] == pytest.approx(scale**2, rel=1e-5)

    hidden = revealed(revealing(p, instructions, "feed-forward"), 3, 200)[:, ::2]
    within(hidden != 0, (1 - p) ** 2)
    assert hidden[hidden != 0] == pytest.approx(scale**2, rel=1e-5)


def within(hits: np.ndarray, share: float) -> None:
    """The share of hits is the expected one, within five standard errors."""
    assert hits.mean() == pytest.approx(share, abs=5 * (share * (1 - share) / hits.size) ** 0.5)


@pytest.mark.parametrize("instructions", instruction_sets())
def test_dropout_masks_are_independent(instructions: str) -> None:
    """Neighbors, clips and seeds are dropped independently of each other; the same seed drops the same."""
    side = revealing(0.5, instructions, "none")
    first, again, second = (revealed(side, seed, 100)[:, 1::2] != 0 for seed in (1, 1, 2))
    assert (first == again).all()
    for one, other in (
        (first, second),
        (first[:, 1:], first[:, :-1]),
        (first[1:], first[:-1]),
        (first[:, 8:], first[:, :-8]),  # 16 numbers apart,
    ):
        within(one == other, 0.5)


@pytest.mark.parametrize("settings", [{"activation": "gelu"}, {"activation": "silu", "norm_first": False}], ids=str)
def test_gradients_with_dropout_are_the_slope_of_the_loss(settings: dict[str, Any]) -> None:
    """A seed fixes the masks; the loss then rises along each weight's gradient as the gradient says."""
    clips = make_set([4, 19, 33, 70, 1], masked=0.1)
    batch = RealFrames(clips).batch(np.arange(len(clips)))
    side = Side(dataclasses.replace(SMALL, dropout=0.3, **settings), instruction_sets()[0])
    side.train(batch, seed=9)
    for name, weight in side.model.named_parameters():
        assert weight.grad is not None
        gradient, start, step = weight.grad.clone(), weight.detach().clone(), 0.003
        if name.endswith("qkv.bias"):  # that of keys is 0 up to rounding
            gradient[SMALL.width : 2 * SMALL.width] = 0
        losses = []
        for sign in (1, -1):
            weight.data.copy_(start + sign * step * gradient / gradient.norm())
            losses.append(side.train(batch, seed=9))
        weight.data.copy_(start)
        assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(gradient.norm().item(), rel=0.02), name


@pytest.mark.skipif(len(instruction_sets()) < 2, reason="this CPU runs one instruction set only")
def test_every_instruction_set_draws_the_same_masks() -> None:
    """With dropout, losses and gradients differ by rounding only."""
    clips = make_set([4, 19, 33, 70, 1], masked=0.1)
    batch = RealFrames(clips).batch(np.arange(len(clips)))
    sides = [Side(dataclasses.replace(SMALL, dropout=0.3), instructions) for instructions in instruction_sets()]
    losses = [side.train(batch, seed=77) for side in sides]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    torch.testing.assert_close(sides[0].flat.gradients_W, sides[1].flat.gradients_W, atol=1e-6, rtol=1e-4)
    assert sides[0].train(batch, seed=78) != pytest.approx(losses[0], abs=1e-3)


def test_a_masked_frame_changes_nothing() -> None:
    """Whatever it holds, it has no influence on any number; a clip without real frames gets the bias of the head."""
    config = dataclasses.replace(SMALL, dropout=0.2)
    clips = make_set([5, 20, 9], masked=0.3)
    clips.real_N[clips.starts_C[2] : clips.starts_C[2] + 9] = False
    side = Side(config, instruction_sets()[0])
    frames = RealFrames(clips)
    before = side.train(frames.batch(np.arange(3))), side.flat.gradients_W.clone()
    clips.frames_NF[~clips.real_N] = 1e30
    after = side.train(frames.batch(np.arange(3))), side.flat.gradients_W
    assert before[0] == after[0]
    assert torch.equal(before[1], after[1])
    logits_BK = side.kernel.classify(frames.batch(np.array([2])), side.flat.values_W)
    assert torch.equal(logits_BK[0], side.model.head.bias.detach())
    side.train(frames.batch(np.array([2])))
    assert side.model.embed.weight.grad is not None
    assert side.model.embed.weight.grad.abs().max() == 0


def test_shares_that_round_to_zero_are_zero() -> None:
    """Scores that lie far apart leave no denormal numbers, which would slow every product down."""
    side = Side(dataclasses.replace(SMALL, dropout=0.0, layers=1), instruction_sets()[0])
    with torch.no_grad():
        side.model.layers[0].attention.qkv.weight[:64] *= 300  # type: ignore[union-attr, index, operator]
    clips = make_set([64])
    batch = RealFrames(clips).batch(np.arange(1))
    value, *_ = judge(side.model, clips, SmoothedLoss(0.1, WORDS))
    assert side.train(batch) == pytest.approx(value, abs=1e-5)
    tiny = torch.finfo(torch.float32).tiny
    gradients_W = side.flat.gradients_W
    assert not ((gradients_W != 0) & (gradients_W.abs() < tiny)).any()


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_a_weight_that_is_not_a_number_shows(activation: Any) -> None:
    """In the loss and in the logits, wherever it is: a training that has diverged must be noticed."""
    clips = make_set([5, 20, 9])
    batch = RealFrames(clips).batch(np.arange(3))
    for name, _ in TransformerEnISLR(SMALL, WORDS, torch.Generator()).named_parameters():
        side = Side(dataclasses.replace(SMALL, activation=activation, dropout=0.0), instruction_sets()[0])
        dict(side.model.named_parameters())[name].data.fill_(float("nan"))
        assert np.isnan(side.train(batch)), name
        assert side.kernel.classify(batch, side.flat.values_W).isnan().any(), name


def test_the_order_of_the_clips_does_not_matter() -> None:
    """Panels are made of neighboring clips; without dropout, their order changes rounding only."""
    clips = make_set([60, 1, 130, 7, 90, 33, 128, 5])
    side = Side(dataclasses.replace(SMALL, dropout=0.0), instruction_sets()[0])
    frames = RealFrames(clips)
    first = side.train(frames.batch(np.arange(8))), side.flat.gradients_W.clone()
    second = side.train(frames.batch(np.arange(8)[::-1])), side.flat.gradients_W
    assert first[0] == pytest.approx(second[0], abs=1e-6)
    torch.testing.assert_close(first[1], second[1], atol=1e-6, rtol=1e-4)


def broken(batch: KernelBatch, **changes: Any) -> KernelBatch:
    """A batch with other arrays."""
    return dataclasses.replace(batch, **changes)


def test_sizes_that_do_not_fit_are_refused() -> None:
    """Before the call, because C would read outside of its arrays."""
    side = Side(SMALL, instruction_sets()[0])
    batch = RealFrames(make_set([3, 4])).batch(np.arange(2))
    wrong = {
        "a row too far": broken(batch, row_M=batch.row_M + len(batch.frames_NF)),
        "a negative row": broken(batch, row_M=batch.row_M - 10),
        "a negative position": broken(batch, position_M=batch.position_M - 1),
        "a label too high": broken(batch, label_B=batch.label_B + WORDS),
        "too few labels": broken(batch, label_B=batch.label_B[:1]),
        "too few positions": broken(batch, position_M=batch.position_M[:-1]),
        "clips that overlap": broken(batch, first_B1=np.array([0, 9, 7])),
        "clips that end too far": broken(batch, first_B1=np.array([0, 3, 8])),
        "no clip": broken(batch, first_B1=np.array([0]), label_B=batch.label_B[:0]),
        "other numbers": broken(batch, frames_NF=batch.frames_NF.astype(np.float64)),
        "other frames": broken(batch, frames_NF=np.ascontiguousarray(batch.frames_NF[:, :259])),
        "frames in pieces": broken(batch, frames_NF=batch.frames_NF[::2]),
        "short indices": broken(batch, row_M=batch.row_M.astype(np.int32)),
    }
    for what, one in wrong.items():
        with pytest.raises(ValueError, match=r"."):
            side.train(one)
        with pytest.raises(ValueError, match=r"."):
            side.kernel.classify(one, side.flat.values_W)
        assert what
    targets_KK = soft_targets(SmoothedLoss(0.0, WORDS), WORDS)
    for values_W, gradients_W, targets in (
        (side.flat.values_W[:-16], side.flat.gradients_W, targets_KK),
        (side.flat.values_W, side.flat.gradients_W.double(), targets_KK),
        (side.flat.values_W, side.flat.gradients_W, targets_KK[1:]),
    ):
        with pytest.raises(ValueError, match=r"."):
            side.kernel.train(batch, values_W, gradients_W, targets, 0)


def test_what_the_kernel_lacks_is_named() -> None:
    """Such models train with PyTorch, and say why."""
    assert not_covered(ModelConfig()) == ""
    assert not_covered(ModelConfig(pooling="max")) == "pooling max"
    assert not_covered(ModelConfig(activation="mish")) == "activation mish"
    assert not_covered(ModelConfig(width=40, heads=2)) == "width 40, which is not a multiple of 16"
    assert not_covered(ModelConfig(ffn_width=100)) == "ffn_width 100, which is not a multiple of 16"
    assert not_covered(ModelConfig(layers=33)) == "33 layers"
    clips = make_set([4, 5])
    training = Training(
        dataclasses.replace(SMALL, activation="mish"),
        TrainConfig(epochs=1),
        train=clips,
        validation=clips,
        num_words=WORDS,
        seed=0,
    )
    assert training.choice.kernel == ""
    assert "activation mish" in training.choice.reason
    assert len(fit(training)) == 1


def test_the_kernel_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the setting without a word, by the environment with its reason."""
    clips = make_set([4, 5])

    def choice(**settings: Any) -> tuple[str, str]:
        made = Training(SMALL, TrainConfig(**settings), train=clips, validation=None, num_words=WORDS, seed=0).choice
        return made.kernel, made.reason

    assert choice()[0].startswith(f"{VERSION} ")
    assert choice(kernel="torch") == ("", "")
    monkeypatch.setenv("SEARCH_KERNEL", "off")
    kernel, reason = choice()
    assert not kernel
    assert "SEARCH_KERNEL=off" in reason
    with pytest.raises(ResourceError, match="the precision bf16 cannot be used here") as caught:
        choice(precision="bf16")
    assert "SEARCH_KERNEL=off" in caught.value.render()


def test_targets_are_read_from_the_loss() -> None:
    """Whatever loss function trains, its own targets reach the kernel."""
    for eps, over, true, other in ((0.0, "all", 1.0, 0.0), (0.1, "all", 0.92, 0.02), (0.2, "wrong", 0.8, 0.05)):
        expected = np.full((WORDS, WORDS), other) + (true - other) * np.eye(WORDS)
        np.testing.assert_allclose(soft_targets(SmoothedLoss(eps, WORDS, over), WORDS), expected, atol=1e-15)  # type: ignore[arg-type]
    assert load_library().instructions in (*instruction_sets(), "neon")


def has_amx() -> bool:
    """Whether bf16 can be tested here."""
    try:
        return load_library("bf16").instructions == "amx"
    except NoKernel:
        return False


@pytest.mark.skipif(not has_amx(), reason="this CPU has no AMX")
@pytest.mark.parametrize(
    "settings", [{}, {"width": 48, "heads": 4, "ffn_width": 80}, {"norm_first": False, "bias": False}], ids=str
)
def test_bf16_differs_by_its_rounding(settings: dict[str, Any]) -> None:
    """Factors have 8 bits: losses agree to a thousandth, gradients point the same way, and dropout drops the same."""
    config = ModelConfig(**{**dataclasses.asdict(SMALL), "dropout": 0.2, **settings})
    clips = make_set([1, 2, 7, 15, 16, 17, 33, 5, 140], masked=0.1)
    batch = RealFrames(clips).batch(np.arange(len(clips)))
    exact, rounded = Side(config, instruction_sets()[0]), Side(config, "amx")
    losses = [side.train(batch, seed=5) for side in (exact, rounded)]
    assert losses[0] == pytest.approx(losses[1], abs=3e-3)
    assert losses[0] != losses[1]
    one, other = exact.flat.gradients_W, rounded.flat.gradients_W
    assert torch.cosine_similarity(one, other, dim=0) > 0.995
    assert other.norm() == pytest.approx(one.norm().item(), rel=0.03)


@pytest.mark.skipif(not has_amx(), reason="this CPU has no AMX")
def test_bf16_trains() -> None:
    """It is recorded, repeats bit for bit, and learns."""
    clips = make_set([5, 9, 14, 22] * 8)
    config = TrainConfig(epochs=30, lr=3e-3, batch_size=8, precision="bf16")
    first, second = (Training(SMALL, config, train=clips, validation=clips, num_words=WORDS, seed=1) for _ in range(2))
    assert "amx" in first.choice.kernel
    history = fit(first)
    assert [record.train_loss for record in history] == [record.train_loss for record in fit(second)]
    assert history[-1].train_loss < 0.5 * history[0].train_loss


def test_bf16_needs_the_kernel() -> None:
    """With PyTorch the setting is refused, not ignored."""
    with pytest.raises(ValueError, match="precision bf16 needs the kernel, and kernel is torch"):
        TrainConfig(precision="bf16", kernel="torch")
