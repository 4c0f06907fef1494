"""The sides of `training.py`: training loops in separate processes, so that CPU time and memory can be told apart.

A side trains one or several variants of the article's configuration, on demand.
"""

from __future__ import annotations

import multiprocessing as mp
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from article_loop import ArticleTraining

from data_utils.prepared import ClipSet, clip_set
from model.config import ModelConfig, TrainConfig
from model.training import Training

WORDS = 10
HELD_OUT = 200


@dataclass(frozen=True)
class Variant:
    """What is trained: the article's configuration with these changes."""

    clips: int
    batch_size: int = 32
    width: int = 64

    @property
    def model_config(self) -> ModelConfig:
        """The model; the width of its feed-forward blocks follows its width."""
        return ModelConfig(width=self.width, ffn_width=4 * self.width)

    def sets(self) -> tuple[ClipSet, ClipSet]:
        """Clips that train, and as many to validate, at most 200."""
        return realistic_clips(self.clips, 0), realistic_clips(min(self.clips, HELD_OUT), 1)

    def products_gflop(self) -> float:
        """GFLOP of the matrix products of a training epoch, without padding and without validation.

        Three products each: forward, and backward for weights and inputs; two for the embedding, whose input needs no
        gradient.
        """
        config, lengths_C = self.model_config, self.sets()[0].lengths_C
        d = config.width
        layer = 4 * d * d + 2 * d * config.ffn_width
        per_frame = 2 * 260 * d + 3 * config.layers * layer
        cells = 3 * config.layers * 2 * d * int((lengths_C**2).sum())
        return 2 * (per_frame * int(lengths_C.sum()) + cells) / 1e9


def realistic_clips(count: int, seed: int) -> ClipSet:
    """Random frames in clips of realistic lengths."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(np.round(np.exp(rng.normal(np.log(23), 1.0, count))), 2, 404).astype(int)
    clips = [rng.standard_normal((length, 260)).astype(np.float32) for length in lengths]
    return clip_set(clips, rng.integers(0, WORDS, count))


@dataclass(frozen=True)
class Loop:
    """A training loop and its threads."""

    name: str
    threads: int | None = 1
    """None: PyTorch's default."""

    def start(self, variant: Variant) -> Callable[[], object]:
        """Makes a training. Returns what trains one epoch of it."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        train, held_out = variant.sets()
        if self.name == "article":
            torch.manual_seed(0)
            return ArticleTraining(train, held_out, WORDS, workers=0 if self.threads == 1 else 2).run_epoch
        config = TrainConfig(
            epochs=1_000_000, patience=0, batch_size=variant.batch_size, kernel="torch" if self.name == "torch" else "auto"
        )
        training = Training(variant.model_config, config, train=train, validation=held_out, num_words=WORDS, seed=0)
        if self.name == "kernel" and training.choice.library is None:
            raise RuntimeError(training.choice.reason)
        return training.run_epoch


class Side:
    """A training loop in a separate process."""

    def __init__(self, loop: Loop) -> None:
        self._pipe, there = mp.Pipe()
        self._process = mp.get_context("spawn").Process(target=_serve, args=(loop, there))
        self._process.start()
        there.close()

    def begin(self, variant: Variant, epochs: int) -> None:
        """Lets the process train some epochs."""
        self._pipe.send((variant, epochs))

    def finish(self) -> dict[str, float]:
        """Waits until it has. Returns CPU and wall seconds per epoch, and the peak memory of the process."""
        try:
            return self._pipe.recv()
        except EOFError:
            sys.exit("a side has died; its error is above")

    def run(self, variant: Variant, epochs: int = 1) -> dict[str, float]:
        """Trains some epochs and measures them."""
        self.begin(variant, epochs)
        return self.finish()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the process once its epochs are done."""
        self._pipe.close()
        self._process.join()


def epochs_per_hour(sides: Sequence[Side], variant: Variant, epochs: int) -> float:
    """The throughput of all these sides at once."""
    start = time.perf_counter()
    for side in sides:
        side.begin(variant, epochs)
    for side in sides:
        side.finish()
    return 3600 * epochs * len(sides) / (time.perf_counter() - start)


def _serve(loop: Loop, pipe: Connection) -> None:
    """The process of a side: trains until the pipe closes."""
    started: dict[Variant, Any] = {}
    while True:
        try:
            variant, epochs = pipe.recv()
        except EOFError:
            return
        if variant not in started:
            started[variant] = loop.start(variant)
        cpu, wall = _cpu_seconds(), time.perf_counter()
        for _ in range(epochs):
            started[variant]()
        measured = {"cpu": (_cpu_seconds() - cpu) / epochs, "wall": (time.perf_counter() - wall) / epochs}
        loaders = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss if loop.threads is None else 0
        pipe.send({**measured, "peak_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + loaders) / 1024})


def _cpu_seconds() -> float:
    """CPU time of this process and of its ended children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
