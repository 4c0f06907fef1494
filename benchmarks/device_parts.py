"""Parts of `device.py`: what it prints, small trainings, and what of them must be the same on every device."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from sides import WORDS

from data_utils.augment import AugmentConfig
from data_utils.batches import WIDE
from data_utils.prepared import ClipSet, clip_set
from model import transformer
from model.config import ModelConfig, TrainConfig
from model.device_clips import DeviceClips
from model.layers import Dropout
from model.training import Training


@dataclass
class Check:
    """One run of this script: its options, and what it found."""

    device: str
    quick: bool
    seconds: float
    began: float = field(default_factory=time.monotonic)
    rows: list[dict[str, Any]] = field(default_factory=list)
    section: str = ""

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def has_gpu(self) -> bool:
        """Whether it runs on a GPU; says so if not."""
        if not (on_gpu := self.device.startswith("cuda")):
            self.say("skip", "needs a GPU")
        return on_gpu

    def say(self, verdict: str, text: str, **numbers: Any) -> None:
        """Prints a line, and keeps it with its numbers."""
        self.rows.append({"section": self.section, "verdict": verdict, "text": text, "at_s": round(self.passed, 1), **numbers})
        print(f"{self.passed:6.1f} s  {verdict:4}  {self.section:12} {text}", flush=True)

    def require(self, holds: bool, text: str, **numbers: Any) -> None:
        self.say("ok" if holds else "FAIL", text, **numbers)


def gappy(count: int, seed: int, mask: str = "detected", longest: int = 150) -> ClipSet:
    """Small clips of which some frames are empty, and some longer than 128 frames."""
    rng = np.random.default_rng(seed)
    clips = []
    for number in range(count):
        clip = rng.standard_normal((longest if number % 8 == 0 else int(rng.integers(2, 40)), 260)).astype(np.float32)
        clip[rng.random(len(clip)) < 0.2] = 0
        clip[:2] = 1
        clips.append(clip)
    return clip_set(clips, rng.integers(0, WORDS, count), mask=mask)


def make(device: str, train: ClipSet, held: ClipSet | None, model: dict[str, Any] | None = None, **more: Any) -> Training:
    """A training by PyTorch."""
    augment, order, seed = more.pop("augment", AugmentConfig()), more.pop("order", None), more.pop("seed", 0)
    config = TrainConfig(**{"epochs": 9, "batch_size": 16, "lr": 1e-3, "patience": 0, "kernel": "torch", **more})
    data = {"train": train, "validation": held, "num_words": WORDS}
    network = ModelConfig(**{"width": 32, "ffn_width": 64, **(model or {})})
    return Training(network, config, augment, **data, seed=seed, device=device, order=order)


def curve(training: Training) -> list[tuple[float, ...]]:
    """The numbers of each epoch, without the time that it took."""
    return [dataclasses.astuple(dataclasses.replace(record, seconds=0.0)) for record in training.history]


def weights_of(training: Training) -> torch.Tensor:
    return torch.cat([weight.detach().flatten().cpu() for weight in training.model.parameters()])


def run(training: Training, epochs: int) -> Training:
    for _ in range(epochs):
        training.run_epoch()
    return training


def same(one: Training, other: Training) -> bool:
    """Whether two trainings have the same numbers, bit for bit."""
    return curve(one) == curve(other) and torch.equal(weights_of(one), weights_of(other))


@contextlib.contextmanager
def batches_of_the_gpu() -> Iterator[None]:
    """On every device the same blocks, and the same dropout masks, which are drawn on the CPU."""
    before = DeviceClips.rule, transformer.drawn_at_once, Dropout._draw
    DeviceClips.rule = WIDE
    transformer.drawn_at_once = lambda *_: Dropout.CHUNK
    Dropout._draw = lambda self, count, like: before[2](self, count, torch.empty(0)).to(like.device)
    try:
        yield
    finally:
        DeviceClips.rule, transformer.drawn_at_once, Dropout._draw = before
