"""Training on a GPU: a real one where there is one, and a pretended one everywhere."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from launch import run_cli, stored_trials
from pretended_gpu import pretended_environment, pretended_gpu

from data_utils.augment import AugmentConfig
from data_utils.batches import WIDE
from data_utils.prepared import ClipSet, clip_set
from model.checkpoint import load_checkpoint, save_checkpoint
from model.config import ModelConfig, TrainConfig
from model.layers import Dropout
from model.lockstep import run_epochs
from model.record import EpochRecord
from model.training import SharedOrder, Training
from search.definition.trial_attributes import attribute

WORDS = 4


def make_set(count: int, seed: int) -> ClipSet:
    """Clips of which some frames are empty, and one in eight is long."""
    rng = np.random.default_rng(seed)
    clips = []
    for number in range(count):
        clip = rng.standard_normal((100 if number % 8 == 0 else int(rng.integers(2, 40)), 260)).astype(np.float32)
        clip[rng.random(len(clip)) < 0.2] = 0
        clip[:2] = 1
        clips.append(clip)
    return clip_set(clips, rng.integers(0, WORDS, count), mask="detected")


TRAIN, VALIDATION = make_set(14, 1), make_set(6, 2)
EVERYTHING = {"optimizer": "adamw", "weight_decay": 0.1, "clip_norm": 0.5, "ema": 0.9, "schedule": "cosine"}


@pytest.fixture(params=["pretended", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request: pytest.FixtureRequest) -> Iterator[str]:
    """A GPU, and which of the two it is."""
    if request.param == "pretended":
        with pretended_gpu():
            yield request.param
    elif torch.cuda.is_available():
        yield request.param
    else:
        pytest.skip("there is no CUDA device here")


def make(
    device: str,
    augment: AugmentConfig = AugmentConfig(),
    *,
    model: dict[str, Any] | None = None,
    order: SharedOrder | None = None,
    **config: Any,
) -> Training:
    """A small training by PyTorch, with dropout."""
    return Training(
        ModelConfig(**{"width": 16, "ffn_width": 32, "layers": 1, "heads": 2, "dropout": 0.2, **(model or {})}),
        TrainConfig(**{"epochs": 4, "batch_size": 8, "lr": 2e-3, "patience": 0, "kernel": "torch", **config}),
        augment,
        train=TRAIN,
        validation=VALIDATION,
        num_words=WORDS,
        seed=0,
        device=device,
        order=order,
    )


def history(training: Training) -> list[tuple[float, ...]]:
    """The numbers of each epoch, without the time that it took."""
    return [dataclasses.astuple(dataclasses.replace(record, seconds=0.0)) for record in training.history]


def weights(training: Training) -> torch.Tensor:
    """All weights, on the CPU."""
    return torch.cat([weight.detach().flatten().cpu() for weight in training.model.parameters()])


@pytest.fixture
def same_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings have the same batches and dropout masks on every device: blocks as on a GPU, masks drawn on the CPU."""
    draw = Dropout._draw
    monkeypatch.setattr("model.device_clips.DeviceClips.rule", WIDE)
    monkeypatch.setattr("model.transformer.drawn_at_once", lambda *_: Dropout.CHUNK)
    monkeypatch.setattr(Dropout, "_draw", lambda self, count, like: draw(self, count, torch.empty(0)).to(like.device))


@pytest.mark.usefixtures("same_masks")
@pytest.mark.parametrize(
    "settings", [{}, {"model": {"pooling": "average", "activation": "gelu"}, **EVERYTHING}], ids=["default", "all"]
)
def test_the_default_path_equals_the_cpu(gpu: str, settings: dict[str, Any]) -> None:
    """With dropout and hand-written attention: bit for bit on the pretended GPU, within rounding on a real one."""
    both = [make(device, **settings) for device in ("cpu", "cuda")]
    for training in both:
        object.__setattr__(training.generators, "dropout", torch.Generator().manual_seed(3))
        training.run_epoch()
        training.run_epoch()
    cpu, there = both
    assert {str(weight.device) for weight in there.model.parameters()} == {"cuda:0"}
    if gpu == "pretended":
        assert history(cpu) == history(there)
        assert torch.equal(weights(cpu), weights(there))
        assert torch.equal(cpu.kept_logits(), there.kept_logits())
    for one, other in zip(cpu.history, there.history, strict=True):
        assert math.isclose(one.train_loss, other.train_loss, abs_tol=1e-3)
        assert math.isclose(one.val_loss, other.val_loss, abs_tol=1e-3)
    assert torch.allclose(weights(cpu), weights(there), atol=1e-3)


def test_a_training_resumes_on_the_gpu(gpu: str, tmp_path: Path) -> None:
    """From a checkpoint, with the generators of the GPU, bit for bit."""
    whole, first, second = (make("cuda", AugmentConfig(flip=0.5, noise=0.5), **EVERYTHING) for _ in range(3))
    for _ in range(2):
        whole.run_epoch()
    first.run_epoch()
    save_checkpoint([first], tmp_path / "checkpoint", "one")
    load_checkpoint([second], tmp_path / "checkpoint", "one")
    second.run_epoch()
    assert history(second) == history(whole)
    assert torch.equal(weights(second), weights(whole))


AUGMENT = AugmentConfig(flip=0.5, crop=0.2, noise=0.5)


@pytest.mark.parametrize(
    ("model", "augment", "frames_on"),
    [
        ({}, AugmentConfig(), "cuda"),
        ({"pooling": "average"}, AugmentConfig(), "cpu"),
        ({"pooling": "max", "dropout": 0.0}, AUGMENT, "cuda"),
        ({}, AUGMENT, "cpu"),
    ],
    ids=["default", "pooling, frames on the host", "pooling, augmentation, no dropout", "augmentation, frames on the host"],
)
def test_no_step_waits_for_the_gpu(model: dict[str, Any], augment: AugmentConfig, frames_on: str) -> None:
    """Each step has one copy. An epoch waits once for its loss and once for the validation, however many steps it has."""
    with pretended_gpu() as gpu:
        gpu.free = 150_000 if frames_on == "cpu" else None  # the weights fit, the frames do not
        training = make("cuda", augment, model=model, **EVERYTHING)
        gpu.free = None
        assert training.train.frames_NF.device.type == frames_on
        with gpu.counting() as counts:
            training.run_epoch()
    steps = -(-len(TRAIN) // training.config.batch_size)
    assert counts.to_device == steps + 1
    assert sorted(why.partition(":")[0] for why in counts.waits) == ["a number is read", "blocking copy to the host"]
    assert counts.waits.total() == 2


def test_no_step_in_lockstep_waits_for_the_gpu() -> None:
    """An epoch of several trainings in one stack waits as often with many steps as with few."""
    waits = []
    with pretended_gpu() as gpu:
        for batch_size in (7, 4):
            slots = [make("cuda", order=SharedOrder(1), batch_size=batch_size, lr=1e-3 * (n + 1)) for n in range(2)]
            with gpu.counting() as counts:
                assert all(isinstance(result, EpochRecord) for result in run_epochs(slots, width=2))
            waits.append(counts.waits)
    assert waits[0] == waits[1], waits


def test_a_search_on_a_machine_with_two_gpus(tiny: Path, place: Path) -> None:
    """Both GPUs train without being asked to."""
    machine = pretended_environment(gpus=2, name="GPU {}")
    answer = run_cli("run", "tiny.yaml", "--data", str(tiny), "--trials", "2", cwd=place, env=machine)
    assert answer.code == 0, answer.err
    assert "device   2 GPUs (GPU 0, GPU 1), one trial on each, storage" in answer.err
    trials = stored_trials(place)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 2
    made = [json.loads(attribute(trial, "made_with")) for trial in trials]
    assert {(one["device"], one["processor"]) for one in made} == {("cuda", "GPU 0"), ("cuda", "GPU 1")}
