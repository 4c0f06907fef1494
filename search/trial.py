"""What one trial is, and what a worker does with it: configurations -> data -> training, put aside and taken up again."""

from __future__ import annotations

import json
import math
import platform
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_utils.files import ASIDE
from data_utils.normalize import PreprocessConfig
from data_utils.prepared import ClipSet, DataSet, fingerprint, open_data
from data_utils.splits import Split
from data_utils.store import prepared
from model.checkpoint import BadCheckpoint, load_checkpoint, save_checkpoint
from model.record import EpochRecord
from model.training import Diverged, Training
from search import __version__
from search.errors import os_errors
from search.events import DataPrepared, Listener, Notice
from search.settings import Configs

THREADS = 1
"""CPU threads a worker computes with. One: results do not depend on how many workers share the machine, and two workers of one
thread do more trials an hour than one of two."""

CHECKPOINT = "checkpoint"
"""A file of this name in a trial's folder, from its first epoch until it ends."""

_SAVING_SHARE = 0.01
"""Writing checkpoints takes about this share of the time: after each epoch where epochs are long, every few where they are
short."""

_SECOND_SAVE_S = 1.0
"""How long after the first checkpoint the next one may come: the first says little of what one costs."""


@dataclass(frozen=True)
class Job:
    """Everything a worker needs to know of a trial."""

    trial: int
    configs: Configs
    seed: int
    """Decides starting weights, order of the clips and dropout."""

    device: str
    folder: Path
    """Where the trial's checkpoint lies."""

    again: bool = False
    """It was begun before, and goes on from its checkpoint if there is one."""

    def once_more(self) -> Job:
        """The same, to go on from its checkpoint."""
        return replace(self, again=True)


def trial_seed(study_seed: int, trial: int) -> int:
    """The seed of a trial, from the study's seed and the trial's number."""
    return int(np.random.SeedSequence([study_seed, 0, trial]).generate_state(1)[0])


def sampler_seed(study_seed: int, trial: int) -> int:
    """The sampler's seed when it is asked for a trial. With one seed for all it would repeat itself at each resume."""
    return int(np.random.SeedSequence([study_seed, 1, trial]).generate_state(1)[0])


@dataclass(frozen=True)
class Parts:
    """The training and validation clips of a data set, prepared in files under `store`. The test part is never read here."""

    data: DataSet
    split: Split
    store: Path
    emit: Listener

    def clips(self, config: PreprocessConfig) -> tuple[ClipSet, ClipSet]:
        """Both parts, with this pre-processing. They share their frames.

        Raises:
            DataError: a clip is not what it should be.
            ResourceError: the store cannot be written.
        """
        train = self.data.chosen(self.split.train, mirrored=True)
        validation = self.data.chosen(self.split.validation, mirrored=False)
        both = prepared(
            [*train, *validation],
            config,
            self.store,
            report=lambda text: self.emit(Notice(text)),
            progress=lambda done, total: self.emit(DataPrepared(done, total)),
        )
        is_train = np.arange(len(both)) < sum(len(entry.names) for entry in train)
        return both.select(is_train), both.select(~is_train)


def data_store(runs: Path) -> Path:
    """Where prepared data and the index of data sets are kept: everything in it can be made again."""
    return runs / "prepared"


def open_indexed(folder: Path, runs: Path) -> DataSet:
    """The data set in a folder; its index is kept under `runs`.

    Raises:
        DataError: it is not what it should be.
    """
    return open_data(folder, data_store(runs) / "index")


def start_training(configs: Configs, seed: int, device: str, parts: Parts) -> Training:
    """A training ready for its first epoch.

    Raises:
        DataError: the data set is damaged.
        ValueError: the settings do not fit together or do not fit the data.
    """
    torch.set_num_threads(THREADS)
    train, validation = parts.clips(configs.preprocess)
    return Training(
        configs.model,
        configs.train,
        train=train,
        validation=validation,
        num_words=len(parts.data.words),
        seed=seed,
        device=device,
    )


class TrialRun:
    """A trial in training, step by step. Put aside at any moment, it goes on from its last checkpoint with the same numbers."""

    def __init__(self, job: Job, parts: Parts) -> None:
        """A fresh training, or the one that was begun before.

        Raises:
            DataError: the data set is damaged.
            ResourceError: the prepared data or the checkpoint cannot be read.
            ValueError: the settings do not fit together or do not fit the data.
        """
        self._job = job
        self.made_with = made_with(job.device)
        self._about = _about(job, parts, self.made_with)
        self.path = job.folder / CHECKPOINT
        self.training = self._fresh(parts)
        self.remark = ""
        """How a trial that was begun before goes on, for people; empty for a fresh one."""

        if job.again:
            self.remark = self._take_up(parts)
        self._told = 0
        self._saved = len(self.training.history)
        self._save_from = 0.0  # the first epoch is saved at once
        self._cost_s = math.inf
        """What a checkpoint takes when nothing disturbs it; known once a second one was written."""

    @property
    def done(self) -> list[EpochRecord]:
        """The epochs so far, those before the last cut too."""
        return self.training.history

    @property
    def is_over(self) -> bool:
        """Whether all epochs have run and were told."""
        return self.training.finished and self._told == len(self.done)

    def next_epoch(self) -> EpochRecord | None:
        """An epoch that was trained before the last cut and not told since, else one more; None when all have run.

        Raises:
            Diverged: a loss is not finite.
        """
        if self._told < len(self.done):
            record = self.done[self._told]
        elif self.training.finished:
            return None
        else:
            record = self.training.run_epoch()
        self._told += 1
        return record

    def save(self, *, at_once: bool = False) -> None:
        """Writes a checkpoint if there is something new to keep, and, unless it is wanted `at_once`, if it is time for one.

        Raises:
            ResourceError: it cannot be written.
        """
        began = time.perf_counter()
        if self._saved == len(self.done) or self.is_over or not (at_once or began >= self._save_from):
            return
        what = f"the checkpoint of trial {self._job.trial} cannot be written"
        hint = "is the disk full or read-only? The same command goes on with this trial"
        with os_errors(what, where=self.path, hint=hint):
            save_checkpoint(self.training, self.path, self._about)
        first, self._saved = self._save_from == 0.0, len(self.done)
        ended = time.perf_counter()
        if first:
            self._save_from = ended + _SECOND_SAVE_S
            return
        self._cost_s = min(ended - began, self._cost_s)
        self._save_from = ended + self._cost_s / _SAVING_SHARE

    def _fresh(self, parts: Parts) -> Training:
        return start_training(self._job.configs, self._job.seed, self._job.device, parts)

    def _take_up(self, parts: Parts) -> str:
        if not self.path.exists():
            return "it starts over: no epoch was kept"
        what = f"the checkpoint of trial {self._job.trial} cannot be read"
        try:
            with os_errors(what, where=self.path, hint="delete it, and the trial starts over"):
                load_checkpoint(self.training, self.path, self._about)
        except BadCheckpoint as error:
            self.training = self._fresh(parts)
            return f"it starts over: its checkpoint cannot be used, {error}"
        return f"it goes on after epoch {len(self.training.history)}"


def remove_checkpoint(folder: Path) -> None:
    """Deletes the checkpoint of a trial that has ended, and what killed processes left half written.

    Raises:
        OSError: it cannot be deleted.
    """
    for path in (folder / CHECKPOINT, *folder.glob(f".*{ASIDE}")):
        path.unlink(missing_ok=True)


def own_fault(error: Exception) -> str:
    """Why a trial failed, if the error is its own; empty if something else is wrong."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return f"out of memory: {error}".splitlines()[0]
    return str(error) if isinstance(error, Diverged | ValueError) else ""


def _about(job: Job, parts: Parts, machine: dict[str, Any]) -> str:
    """What decides a trial's numbers. A checkpoint that was made with anything else is of no use."""
    about = {
        "seed": job.seed,
        "settings": job.configs.as_dict(),
        "data": fingerprint(parts.data),
        **parts.split.parts(),
        "made_with": {name: value for name, value in machine.items() if name != "optuna"},  # it has no part in training
    }
    return json.dumps(about, sort_keys=True)


def resolve_device(wish: str) -> str:
    """`auto` becomes CUDA where there is one, else the CPU.

    Raises:
        ValueError: the device does not exist.
    """
    if wish == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wish)
    except RuntimeError as error:
        raise ValueError("expected auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError("expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"there {'is 1 GPU' if torch.cuda.device_count() == 1 else f'are {torch.cuda.device_count()} GPUs'} for CUDA here"
        )
    return wish


def made_with(device: str) -> dict[str, Any]:
    """Versions and machine: what decides whether a number comes back bit for bit."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or platform.machine()
    packages = {package: version(package) for package in ("torch", "numpy", "optuna", "h5py")}
    return {
        "islr-search": __version__,
        **packages,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device,
        "processor": name,
        "threads": THREADS,
    }
