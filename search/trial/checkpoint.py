"""A trial's checkpoint: saves its trainings, so that an interrupted trial resumes with the same numbers."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_utils.files import PART_SUFFIX
from data_utils.prepared import fingerprint
from model.checkpoint import BadCheckpoint, load_checkpoint, read_about, save_checkpoint
from model.training import Training
from search.errors import os_errors
from search.trial.clips import TrialClips
from search.trial.files import CHECKPOINT, DISK_HINT
from search.trial.job import Job
from search.trial.machine import KERNEL, as_in_version_0_1, deciding

_TIME_SHARE = 0.01
"""Share of the time that writing checkpoints may take. Long epochs are saved one by one, short ones several at a time."""

_SECOND_SAVE_S = 1.0
"""Pause after the first checkpoint, whose duration is not yet typical."""


class Pace:
    """When the checkpoints of a trial are due."""

    def __init__(self) -> None:
        self._next_save = 0.0  # the first epoch is saved at once
        self._duration_s = math.inf
        """Shortest time that a checkpoint has taken; known after the second save."""

    @property
    def is_due(self) -> bool:
        """Whether enough time has passed since the last save."""
        return time.perf_counter() >= self._next_save

    def took(self, seconds: float, count: int = 1) -> None:
        """Notes that checkpoints were written, each of them in `seconds`, and decides when the next are due."""
        if self._next_save == 0.0:
            self._next_save = time.perf_counter() + _SECOND_SAVE_S
            return
        self._duration_s = min(seconds, self._duration_s)
        self._next_save = time.perf_counter() + count * self._duration_s / _TIME_SHARE


class SharedPace(Pace):
    """The pace of trials that train in turns in one process: all of them are saved, or none."""

    def __init__(self) -> None:
        super().__init__()
        self._is_due = False
        self._durations_s: list[float] = []

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Within it, checkpoints are due for all trials or for none."""
        self._is_due, self._durations_s = super().is_due, []
        yield
        if self._durations_s:
            super().took(min(self._durations_s), len(self._durations_s))
        self._is_due = False

    @property
    def is_due(self) -> bool:
        return self._is_due

    def took(self, seconds: float, count: int = 1) -> None:
        self._durations_s += [seconds] * count


class Checkpoint:
    """The checkpoint of a trial in training."""

    def __init__(self, job: Job, trial_clips: TrialClips, machine: dict[str, Any], pace: Pace) -> None:
        """`machine`: versions, machine and path of the trainings; see `made_with`."""
        self._path = job.folder / CHECKPOINT
        self._trial = job.trial
        self._key = _matching_key(job, trial_clips, machine)
        self._earlier_key = _matching_key(job, trial_clips, as_in_version_0_1(machine))
        self._pace = pace

    @property
    def exists(self) -> bool:
        """Whether there is one from an earlier run or a worker that died."""
        return self._path.exists()

    def is_made_by_torch(self) -> bool:
        """Whether PyTorch computed the gradients of the saved trainings, not the kernel.

        Raises:
            BadCheckpoint: it is damaged.
            ResourceError: it cannot be read.
        """
        with self._reading():
            text = read_about(self._path)
        try:
            return KERNEL not in json.loads(text)["made_with"]
        except (LookupError, TypeError, ValueError) as error:
            raise BadCheckpoint("it does not say what it belongs to") from error

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next save."""
        return self._pace.is_due

    def save(self, trainings: Sequence[Training]) -> None:
        """Writes the trainings.

        Raises:
            ResourceError: it cannot be written.
        """
        began = time.perf_counter()
        with os_errors(f"the checkpoint of trial {self._trial} cannot be written", where=self._path, hint=DISK_HINT):
            save_checkpoint(trainings, self._path, self._key)
        self._pace.took(time.perf_counter() - began)

    def restore(self, trainings: Sequence[Training]) -> None:
        """Brings fresh trainings to the state that was saved.

        Raises:
            BadCheckpoint: it is damaged or belongs to other trainings. The trainings must then be created again.
            ResourceError: it cannot be read.
        """
        with self._reading():
            load_checkpoint(trainings, self._path, self._key, self._earlier_key)

    def _reading(self) -> contextlib.AbstractContextManager[None]:
        what = f"the checkpoint of trial {self._trial} cannot be read"
        return os_errors(what, where=self._path, hint="delete it to start the trial over")


def remove_checkpoint(folder: Path) -> None:
    """Deletes the checkpoint of a finished trial, and temporary files of killed processes.

    Raises:
        OSError: it cannot be deleted.
    """
    for path in (folder / CHECKPOINT, *folder.glob(f".*{PART_SUFFIX}")):
        path.unlink(missing_ok=True)


def _matching_key(job: Job, trial_clips: TrialClips, machine: dict[str, Any]) -> str:
    """Everything that determines a trial's numbers. A checkpoint with another key is not used."""
    settings = job.configs.as_dict()
    for name in ("kernel", "precision"):  # `made_with` says which path they led to
        del settings["train"][name]
    about = {
        "seed": job.seed,
        "settings": settings,
        "data": fingerprint(trial_clips.data),
        **trial_clips.split.parts(),
        "folds": trial_clips.split.folds,
        **({} if trial_clips.split.clips is None else {"clips": dataclasses.asdict(trial_clips.split.clips)}),
        "plan": dataclasses.asdict(job.plan),
        "made_with": deciding(machine),
    }
    return json.dumps(about, sort_keys=True)
