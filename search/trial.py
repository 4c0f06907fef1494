"""What one trial is, and what a worker does with it: configurations -> data -> training."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_utils.normalize import PreprocessConfig
from data_utils.prepared import ClipSet, DataSet, open_data
from data_utils.splits import Split
from data_utils.store import prepared
from model.training import Training
from search import __version__
from search.events import DataPrepared, Listener, Notice
from search.settings import Configs

THREADS = 1
"""CPU threads a worker computes with. One: results do not depend on how many workers share the machine, and two workers of one
thread do more trials an hour than one of two."""


@dataclass(frozen=True)
class Job:
    """Everything a worker needs to know of a trial."""

    trial: int
    configs: Configs
    seed: int
    """Decides starting weights, order of the clips and dropout."""

    device: str


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
            DataError: a clip is not what it should be, or the store cannot be written.
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


def start_training(job: Job, parts: Parts) -> Training:
    """A trial ready for its first epoch.

    Raises:
        DataError: the data set is damaged.
        ValueError: the settings do not fit together or do not fit the data.
    """
    torch.set_num_threads(THREADS)
    train, validation = parts.clips(job.configs.preprocess)
    return Training(
        job.configs.model,
        job.configs.train,
        train=train,
        validation=validation,
        num_words=len(parts.data.words),
        seed=job.seed,
        device=job.device,
    )


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
