"""Transfers data and files to and from workers that cannot see the search's folders."""

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
from search.engines.ray.actor import ChangedFile
from search.errors import os_errors
from search.trial.clips import TrialClips, data_store
from search.trial.files import CHECKPOINT, DISK_HINT
from search.trial.job import Job

_STALE_S = 7 * 86400.0
"""An older token was left by a run that was killed."""

RENEWAL_S = 3600.0
"""How often a run renews its token."""


class ObjectStore:
    """Index and prepared clips in the cluster's object store: uploaded once, held once per machine, mapped by its workers."""

    def __init__(self, trial_clips: TrialClips) -> None:
        self._trial_clips = trial_clips
        self._data: Any = None
        self._clips: dict[tuple[PreprocessConfig, tuple[tuple[Path, str], ...]], Any] = {}

    def data_and_clips(self, job: Job) -> tuple[Any, Any]:
        """References to the index of the data set and to the clips of the job, which are prepared first if necessary.

        Raises:
            DataError: a clip is invalid, or the data set is missing.
            ResourceError: the store of prepared clips cannot be written.
            ray.exceptions.RayError: the object store is full.
        """
        trial_clips = self._trial_clips.with_split(job.split)
        key = job.configs.preprocess, tuple((entry.file.path, entry.selected) for entry in trial_clips.entries)
        if key not in self._clips:
            clips = trial_clips.clips(job.configs.preprocess)
            # A plain array instead of a memory map: Ray transfers it without a copy.
            self._clips[key] = ray.put(replace(clips, frames_NF=np.asarray(clips.frames_NF)))
        self._data = self._data or ray.put(self._trial_clips.data)
        return self._data, self._clips[key]


def write_job_file(job: Job, file: ChangedFile) -> None:
    """Writes a file from a worker to its job's folder.

    Raises:
        ResourceError: it cannot be written.
    """
    path = job.folder / Path(file.name).name
    with os_errors(f"a file of {job.name} cannot be written", where=path, hint=DISK_HINT):
        write_atomically(path, file.content)


def job_files(job: Job) -> dict[str, bytes]:
    """The files that a worker needs if it cannot see the job's folder: the checkpoint, if there is one."""
    path = job.folder / CHECKPOINT
    if not job.is_resumed or not path.exists():
        return {}
    with os_errors(f"the checkpoint of {job.name} cannot be read", where=path, hint="is the disk damaged?"):
        return {CHECKPOINT: path.read_bytes()}


def write_token(runs: Path) -> str:
    """Writes a file that only a machine with access to the same folder can read. Returns its path there, which is its content.

    Raises:
        ResourceError: the folder cannot be written.
    """
    store = data_store(runs)
    token = f"{store.name}/.seen-{uuid.uuid4().hex}"
    with os_errors("the folder of the search cannot be written", where=store, hint="choose another with --runs"):
        write_atomically(runs / token, token)
        for path in store.glob(".seen-*"):
            with contextlib.suppress(FileNotFoundError):  # another run has just deleted it
                if time.time() - path.stat().st_mtime > _STALE_S:
                    path.unlink()
    return token


def renew_token(runs: Path, token: str) -> None:
    """Keeps a run's token from becoming stale, and restores it if another run has deleted it."""
    with contextlib.suppress(OSError):  # workers that are ready do not need it, and it is tried again soon
        if (runs / token).exists():
            os.utime(runs / token)
        else:
            write_atomically(runs / token, token)
