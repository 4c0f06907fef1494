"""Runs on a study in a file: a lock for each, beside the file.

In `.studies.db.locks/STUDY/` every run holds a file lock of its own for as long as it lives; the kernel lets go of it however
the run ends. A second lock there, held for moments, is the turn.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import filelock

from search.storage.leases.lease import Lease, Owner, process_is_alive
from search.storage.sqlite import folder_errors, locks_root

_TURN = "turn.lock"
_working_here: set[str] = set()
"""Runs of this very process that have not ended."""


def locks_folder(database: Path, study: str) -> Path:
    """Where the locks of a study lie: beside its database, wherever the runs write their files."""
    return locks_root(database) / study


class FileObserver:
    """Looks at the locks of a study."""

    def __init__(self, database: Path, study: str) -> None:
        self.folder = locks_folder(database, study)

    def is_alive(self, owner: Owner) -> bool:
        """Whether the run still lives, be it suspended, slow or silent.

        Its lock decides. Where the lock's file is gone (the run has ended, or somebody deleted it) the process table does; a
        file serves one machine at a time, so that an owner from another start, or another machine, is dead.
        """
        lock = self.folder / f"{owner.run}.lock"
        if lock.exists():
            return _is_held(lock)
        lives = bool(process_is_alive(owner))
        return lives and (owner.pid != os.getpid() or owner.run in _working_here)

    def num_runs(self) -> int:
        """How many runs work on the study now."""
        return sum(_is_held(lock) for lock in self.folder.glob("*.lock") if lock.name != _TURN)


class FileLease(Lease):
    """A run on a study in a file."""

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
            self._sweep()
            self._own.acquire()
        _working_here.add(self.owner.run)
        return self

    def __exit__(self, *_: object) -> None:
        _working_here.discard(self.owner.run)
        Path(self._own.lock_file).unlink(missing_ok=True)
        self._own.release()

    @contextlib.contextmanager
    def turn(self, patience_s: float = 0) -> Iterator[bool]:
        """As `Lease.turn`; it is never lost."""
        with folder_errors(self._database):
            try:
                self._turn.acquire(timeout=patience_s)
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

    def _sweep(self) -> None:
        """Deletes the locks of runs that are dead."""
        for lock in self.folder.glob("*.lock"):
            if lock.name != _TURN and not _is_held(lock):
                lock.unlink(missing_ok=True)


def _is_held(lock: Path) -> bool:
    """Whether somebody holds a lock; also if that cannot be found out: a trial too few is taken rather than one too many."""
    if not lock.exists():
        return False
    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except FileNotFoundError:
        return False
    except OSError:  # filelock.Timeout among them
        return True
