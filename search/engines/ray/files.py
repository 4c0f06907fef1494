"""What travels to workers that do not see the folders of the search, and back from them."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from data_utils.files import write_atomically
from data_utils.normalize import PreprocessConfig
from search.engines.ray.actor import KeptFile
from search.errors import os_errors
from search.trial.checkpoint import CHECKPOINT
from search.trial.clips import TrialClips, data_store
from search.trial.job import Job

_STALE_S = 7 * 86400.0
"""A run's token that is older was left by one that was killed."""

RENEWED_S = 3600.0
"""How often a run renews its own."""


class Travels:
    """Index and prepared clips in the cluster's object store: put there once, held once a machine, mapped by its workers."""

    def __init__(self, trial_clips: TrialClips) -> None:
        self._trial_clips = trial_clips
        self._data: Any = None
        self._clips: dict[tuple[PreprocessConfig, tuple[Path, ...]], Any] = {}

    def clips(self, job: Job) -> tuple[Any, Any]:
        """References to the index of the data set and to the clips that the job trains on, prepared if they are not yet.

        Raises:
            DataError: a clip is not what it should be, or the data are gone.
            ResourceError: the store of prepared clips cannot be written.
            ray.exceptions.RayError: the object store takes no more.
        """
        trial_clips = self._trial_clips.with_folds(job.folds)
        key = job.configs.preprocess, tuple(entry.file.path for entry in trial_clips.entries)
        if key not in self._clips:
            clips = trial_clips.clips(job.configs.preprocess)
            # Not as a map of a file: plain arrays travel without being copied on the way.
            self._clips[key] = ray.put(replace(clips, frames_NF=np.asarray(clips.frames_NF)))
        self._data = self._data or ray.put(self._trial_clips.data)
        return self._data, self._clips[key]


def keep_file(job: Job, file: KeptFile) -> None:
    """Writes a file of a worker into its job's folder.

    Raises:
        ResourceError: it cannot be written.
    """
    path = job.folder / Path(file.name).name
    hint = "is the disk full or read-only? The same command goes on with this trial"
    with os_errors(f"a file of trial {job.trial} cannot be written", where=path, hint=hint):
        write_atomically(path, file.content)


def files_of(job: Job) -> dict[str, bytes]:
    """What a worker needs of the job's folder that does not see it: the checkpoint, if there is one."""
    path = job.folder / CHECKPOINT
    if not job.is_resumed or not path.exists():
        return {}
    with os_errors(f"the checkpoint of trial {job.trial} cannot be read", where=path, hint="is the disk damaged?"):
        return {CHECKPOINT: path.read_bytes()}


def written_token(runs: Path) -> str:
    """Writes a file that only a machine with the same folder can read; its path in that folder, and all that it holds."""
    store = data_store(runs)
    token = f"{store.name}/.seen-{uuid.uuid4().hex}"
    with os_errors("the folder of the search cannot be written", where=store, hint="name another with --runs"):
        write_atomically(runs / token, token)
        for left in store.glob(".seen-*"):
            with contextlib.suppress(FileNotFoundError):  # another run has just done so
                if time.time() - left.stat().st_mtime > _STALE_S:
                    left.unlink()
    return token


def renew_token(runs: Path, token: str) -> None:
    """Keeps a run's token from looking as if a killed run had left it, and brings it back if it was taken for such a one."""
    with contextlib.suppress(OSError):  # workers that are up do not need it, and the next time comes soon
        if (runs / token).exists():
            os.utime(runs / token)
        else:
            write_atomically(runs / token, token)
