"""Leases on a study in a file: one lock per run, next to the file.

In `.studies.db.locks/STUDY/` every run holds its own file lock for as long as it is alive; the kernel releases it however the
run ends. A second lock there, held for moments, is the turn.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import filelock

from search.storage.leases.lease import Lease, Owner, process_is_alive
from search.storage.sqlite import folder_errors, locks_root

_TURN = "turn.lock"
_own_runs: set[str] = set()
"""Runs of this process that have not ended."""


def locks_folder(database: Path, study: str) -> Path:
    """The folder with the locks of a study's runs, next to its database."""
    return locks_root(database) / study


class FileObserver:
    """Observes the runs on a study by their locks."""

    def __init__(self, database: Path, study: str) -> None:
        self.folder = locks_folder(database, study)

    def is_alive(self, owner: Owner) -> bool:
        """Whether a run is alive, even if it is suspended or slow.

        Its lock decides. If the lock's file is gone (the run has ended, or it was deleted), the process table decides.
        A file is used from one machine at a time, so owners from another boot or machine are dead.
        """
        lock = self.folder / f"{owner.run}.lock"
        if lock.exists():
            return _is_held(lock)
        return bool(process_is_alive(owner)) and (owner.pid != os.getpid() or owner.run in _own_runs)

    def runs(self) -> list[str]:
        """Names of the runs that work on the study now."""
        return sorted(lock.stem for lock in self.folder.glob("*.lock") if lock.name != _TURN and _is_held(lock))

    def num_runs(self) -> int:
        """Number of runs that work on the study now."""
        return len(self.runs())


class FileLease(Lease):
    """A run's lease on a study in a file."""

    def __init__(self, database: Path, study: str) -> None:
        self.folder = locks_folder(database, study)
        super().__init__(study, FileObserver(database, study), str(self.folder))
        self._database = database
        self._turn = filelock.FileLock(self.folder / _TURN)
        self._own = filelock.FileLock(self.folder / f"{self.owner.run}.lock")

    def __enter__(self) -> Self:
        with folder_errors(self._database):
            self.folder.mkdir(parents=True, exist_ok=True)
        with folder_errors(self._database), self.wait_for_turn():
            self._delete_released_locks()
            self._own.acquire()
        _own_runs.add(self.owner.run)
        return self

    def __exit__(self, *_: object) -> None:
        _own_runs.discard(self.owner.run)
        Path(self._own.lock_file).unlink(missing_ok=True)
        self._own.release()
        with contextlib.suppress(OSError):  # it holds the turn's lock, unless the study was forgotten
            self.folder.rmdir()

    def forget_study(self) -> None:
        """Deletes the turn's lock; the folder goes with the lease. A run that waits for the turn waits for a new lock."""
        Path(self._turn.lock_file).unlink(missing_ok=True)

    @contextlib.contextmanager
    def turn(self, timeout_s: float = 0) -> Iterator[bool]:
        """Same as `Lease.turn`. It cannot be lost."""
        with folder_errors(self._database):
            try:
                self._turn.acquire(timeout=timeout_s)
                is_mine = True
            except filelock.Timeout:
                is_mine = False
        if not is_mine:
            yield False
            return
        try:
            yield True
        finally:
            self._turn.release()

    def _delete_released_locks(self) -> None:
        """Deletes the lock files of dead runs."""
        for lock in self.folder.glob("*.lock"):
            if lock.name != _TURN and not _is_held(lock):
                lock.unlink(missing_ok=True)


def _is_held(lock: Path) -> bool:
    """Whether any run holds a lock. True if unknown, so that no trial is trained by two runs."""
    try:
        with lock.open("rb") as stream:  # for reading: the lock may be another user's, and two may ask at once
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno != errno.ENOSYS:
            return True
    try:  # the file system has no such locks
        with filelock.FileLock(lock, timeout=0):
            return False
    except OSError:  # includes filelock.Timeout
        return True
