"""What reaches a GPU, and when: counted on a pretended one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pretended_gpu import Failure, pretended_gpu

from data_utils.ahead import made_ahead
from data_utils.augment import AugmentConfig
from data_utils.batches import WIDE, batch_of
from data_utils.errors import ResourceError
from data_utils.normalize import PreprocessConfig
from data_utils.prepared import ClipSet, clip_set
from model.config import ModelConfig, TrainConfig
from model.device_clips import DeviceClips
from model.gpu_memory import available_memory, share_memory
from model.layers import Dropout
from model.precision import tf32_is_on
from model.training import Training
from model.transformer import TransformerEnISLR, logits_of
from search.definition.settings import Configs
from search.trial.trial_run import with_path

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
WORDS = 4


def make_set(count: int, seed: int = 0) -> ClipSet:
    """Clips of 2 to 40 frames, some of which are empty."""
    rng = np.random.default_rng(seed)
    clips = [rng.standard_normal((int(rng.integers(2, 40)), 260)).astype(np.float32) for _ in range(count)]
    for clip in clips:
        clip[3::5] = 0
    return clip_set(clips, rng.integers(0, WORDS, count), mask="detected")


TRAIN, HELD = make_set(12, 1), make_set(6, 2)


def make_training(
    model: dict[str, Any] | None = None, augment: AugmentConfig = AugmentConfig(), device: str = "cuda", **config: Any
) -> Training:
    """A small training."""
    return Training(
        ModelConfig(**{"width": 8, "ffn_width": 8, "layers": 1, **(model or {})}),
        TrainConfig(**{"epochs": 3, "batch_size": 6, "lr": 1e-3, **config}),
        augment,
        train=TRAIN,
        validation=HELD,
        num_words=WORDS,
        seed=5,
        device=device,
    )


@pytest.mark.parametrize(
    ("pooling", "augment"),
    [("none", AugmentConfig()), ("average", AugmentConfig()), ("max", AugmentConfig(flip=0.5, crop=0.5))],
    ids=["plain", "pooled", "augmented"],
)
def test_a_step_copies_once_and_waits_for_nothing(pooling: str, augment: AugmentConfig) -> None:
    """A step has one copy to the GPU and one draw of dropout masks; logits wait for the copy of the result alone."""
    with pretended_gpu() as gpu:
        training = make_training({"pooling": pooling}, augment)
        with gpu.counting() as counts:
            steps = sum(1 for _ in training.path.epoch(training.loss))
        assert not counts.waits, counts.waits
        assert counts.to_device == steps == counts.launches["random_"]
        assert counts.to_host == 0
        assert counts.launches.total() < 150 * steps
        assert training.validation is not None
        with gpu.counting() as counts:
            training.path.logits(training.model, training.validation)
        assert counts.waits.total() == 1, counts.waits


def test_the_device_gets_what_the_host_has() -> None:
    """Frames, layout and labels of a batch are the same by one copy as without a copy, also for frames on the host."""
    batch = batch_of(TRAIN, np.arange(8), frames_multiple=2)
    ours = DeviceClips(TRAIN, CPU).take_labeled(batch, "max")
    with pretended_gpu(memory=TRAIN.frames_NF.nbytes):
        on_host = DeviceClips(TRAIN, CUDA).take_labeled(batch, "max")
    with pretended_gpu():
        for theirs in (DeviceClips(TRAIN, CUDA).take_labeled(batch, "max"), on_host):
            assert torch.equal(ours[0], theirs[0].cpu())
            assert torch.equal(ours[2], theirs[2].cpu())
            one, other = ours[1], theirs[1]
            while one is not None and other is not None:
                assert one.blocks == other.blocks
                for name in ("position_M", "real_M", "count_B1"):
                    assert torch.equal(getattr(one, name), getattr(other, name).cpu()), name
                biases = zip(one.key_bias, other.key_bias, strict=True)
                assert all(a is b is None or torch.equal(a, b.cpu()) for a, b in biases)  # type: ignore[arg-type, union-attr]
                one, other = one.pooled, other.pooled
            assert one is other is None


@pytest.mark.parametrize("pooling", ["none", "max"])
def test_dropout_masks_of_a_pass(pooling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU one draw has as many elements as the pass needs; on the CPU a chunk, on which recorded numbers depend."""
    drawn, used = [], []
    draw, mask = Dropout._draw, Dropout.mask
    monkeypatch.setattr(Dropout, "_draw", lambda self, count, like: (drawn.append(count), draw(self, count, like))[1])
    monkeypatch.setattr(Dropout, "mask", lambda self, x: (used.append(x.numel()), mask(self, x))[1])
    model = TransformerEnISLR(ModelConfig(width=8, ffn_width=12, pooling=pooling), WORDS, torch.Generator())  # type: ignore[arg-type]
    batch = batch_of(TRAIN, np.arange(6), model.frames_multiple)
    model(*DeviceClips(TRAIN, CPU).take(batch, pooling), torch.Generator())
    assert drawn == [1 << 18]
    drawn.clear()
    used.clear()
    with pretended_gpu():
        model.to(CUDA)(*DeviceClips(TRAIN, CUDA).take(batch, pooling), torch.Generator("cuda"))
    assert drawn == [sum(used)]


def test_attention_is_freed_during_the_backward_pass() -> None:
    """When a layer's backward pass is done, what its attention had saved is free."""
    clips = clip_set([np.ones((400, 260), np.float32)])
    with pretended_gpu() as gpu:
        model = TransformerEnISLR(ModelConfig(width=8, heads=2, ffn_width=8, layers=3), WORDS, torch.Generator()).to(CUDA)
        memory: list[int] = []
        for layer in model.layers:
            layer.register_full_backward_hook(lambda *_: memory.append(gpu.allocated))
        logits_BK = model(*DeviceClips(clips, CUDA).take(batch_of(clips, np.arange(1))), torch.Generator("cuda"))
        logits_BK.sum().backward()
    scores = 2 * 400 * 400 * 4
    assert memory[0] - memory[1] > 1.9 * scores, memory
    assert memory[1] - memory[2] > 1.9 * scores, memory


def test_batches_made_ahead_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings have the same numbers with and without the thread, and leave their generators in the same state."""
    augment = AugmentConfig(flip=0.5, noise=0.5, crop=0.5)
    with pretended_gpu():
        ahead = make_training(augment=augment)
        ahead.run_epoch()
        monkeypatch.setattr("model.paths.made_ahead", lambda batches: batches)
        plain = make_training(augment=augment)
        plain.run_epoch()
    assert ahead.history[0].train_loss == plain.history[0].train_loss
    assert ahead.generators.augment.bit_generator.state == plain.generators.augment.bit_generator.state


def test_the_thread_that_makes_batches_ends() -> None:
    """When all items are used, when making one fails, and when the consumer stops early or fails."""
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(6):
            made.append(number)
            yield number
        raise KeyError("after the last")

    before = threading.active_count()
    ahead = made_ahead(items())
    assert [next(ahead) for _ in range(6)] == list(range(6))
    with pytest.raises(KeyError, match="after the last"):
        next(ahead)
    assert threading.active_count() == before

    made.clear()
    stopped = made_ahead(items(), ahead=2)
    assert next(stopped) == 0
    stopped.close()
    assert threading.active_count() == before
    assert len(made) <= 3

    def failing(logits_BK: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError

    with pretended_gpu(), pytest.raises(ZeroDivisionError):
        next(make_training(augment=AugmentConfig(flip=0.5)).path.epoch(failing))
    assert threading.active_count() == before


def test_wide_blocks_change_rounding_only() -> None:
    """Batches for a GPU have fewer blocks, and clips have the same logits in them."""
    model = TransformerEnISLR(ModelConfig(width=8, ffn_width=8), WORDS, torch.Generator().manual_seed(1))
    ours = logits_of(model, DeviceClips(TRAIN, CPU))
    with pretended_gpu():
        on_gpu = DeviceClips(TRAIN, CUDA)
        theirs = logits_of(model.to(CUDA), on_gpu)
    assert on_gpu.rule is WIDE
    every = np.arange(len(TRAIN))
    assert len(batch_of(TRAIN, every).blocks) >= 2 * len(batch_of(TRAIN, every, rule=WIDE).blocks)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_frames_are_held_once() -> None:
    """Clip sets that were selected from one set share its frames on each device; they are freed with the last."""
    size = TRAIN.frames_NF.nbytes
    with pretended_gpu(gpus=2) as gpu:
        first, second = DeviceClips(TRAIN, CUDA), DeviceClips(TRAIN.select(np.arange(3)), torch.device("cuda:0"))
        assert first.frames_NF is second.frames_NF
        assert gpu.allocated == pytest.approx(size, abs=512)
        other = DeviceClips(TRAIN, torch.device("cuda:1"))
        assert str(other.frames_NF.device) == "cuda:1"
        del first, second, other
        assert gpu.allocated == 0


@pytest.mark.parametrize(
    ("machine", "processes", "fits"),
    [
        ({"memory": 2}, 1, True),
        ({"memory": 1.9}, 1, False),
        ({"memory": 100, "free": 1.9}, 1, False),
        ({"memory": 100}, 20, True),
        ({"memory": 100}, 60, False),
        (
            {"memory": 100, "failures": [Failure("CUDA out of memory. Tried", "OutOfMemoryError", "allocation", 10_000)]},
            1,
            False,
        ),
        ({"memory": 100, "failures": [Failure("CUDA error: out of memory", "AcceleratorError", "copy")]}, 1, False),
    ],
    ids=["just fits", "no room to train", "others leave no room", "a share", "a small share", "in pieces", "as CUDA says it"],
)
def test_frames_stay_on_the_host_without_room(
    machine: dict[str, Any], processes: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames may take half of what this process can allocate. On the host they cost no memory there and change no number."""
    monkeypatch.setattr("model.gpu_memory._LIMITS", {})
    monkeypatch.setattr("model.gpu_memory._CONTEXT", 0)
    size = TRAIN.frames_NF.nbytes
    sizes = {name: -(-int(value * size) // 512) * 512 for name, value in machine.items() if name != "failures"}
    with pretended_gpu(**sizes, failures=machine.get("failures", ())) as gpu:
        share_memory("cuda", processes)
        clips = DeviceClips(TRAIN, CUDA)
        assert clips.stays_on_host is not fits
        assert gpu.allocated == (pytest.approx(size, abs=512) if fits else 0)
        if processes > 1:
            assert available_memory(CUDA) == pytest.approx(100 * size / processes - gpu.allocated, abs=1024)


def test_precision_is_that_of_each_training() -> None:
    """TF32 is off although it was on before, and on for the training that asks for it, also where epochs take turns."""
    torch.backends.cuda.matmul.allow_tf32 = True
    with pretended_gpu():
        plain, rounded = make_training(), make_training(precision="tf32")
        assert tf32_is_on()
        for training, expected in ((plain, False), (rounded, True), (plain, False)):
            next(training.path.epoch(training.loss))
            assert tf32_is_on() == torch.backends.cudnn.allow_tf32 == expected
        for training, expected in ((rounded, True), (plain, False)):
            assert training.validation is not None
            training.path.logits(training.model, training.validation)
            assert tf32_is_on() == expected


def test_tf32_needs_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a CPU nor an older GPU trains in float32 instead. A recorded TF32 training keeps it without the kernel."""
    with pytest.raises(ResourceError, match="the device is cpu"):
        make_training(device="cpu", precision="tf32")
    with pretended_gpu(name="Old GPU"):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
        with pytest.raises(ResourceError, match="Old GPU does not have it"):
            make_training(precision="tf32")
    configs = Configs(
        model=ModelConfig(), train=TrainConfig(precision="tf32"), preprocess=PreprocessConfig(), augment=AugmentConfig()
    )
    assert with_path(configs, {"device": "cuda"}).train == TrainConfig(precision="tf32", kernel="torch")
