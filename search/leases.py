"""Who works on a study: its runs, what each of them owns, and whether an owner still lives.

Beside the database, in `.studies.db.locks/STUDY/`, every run holds a file lock of its own for as long as it lives; the kernel
lets go of it however the run ends. Each trial that a run takes carries that run's `Owner`. A trial whose owner is dead may be
taken up by any run; a living owner's never is, however long it has been silent.

Runs of one study take turns (a second lock, held for moments) when they take a trial, so that no trial is taken twice and
the target is not overshot.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import re
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import psutil

from search.errors import ResourceError, os_errors

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CLOCK_STEP_S = 5
"""The start time of a process is told by the wall clock, which may be set while it runs; process numbers take longer than this
to come round again."""

_TURN_PATIENCE_S = 60
_TURN = "turn.lock"
_working_here: set[str] = set()
"""Runs of this very process that have not ended."""


@dataclass(frozen=True)
class Owner:
    """A run, as written into the trials that it takes."""

    run: str
    """The run's name, which its lock and its log bear too."""

    host: str
    pid: int
    started: float
    """When the process began, seconds since 1970."""

    boot: str
    """Which start of which machine the process belongs to."""


def owner_of(stored: Any) -> Owner | None:
    """The owner that a trial carries; None if it carries none that can be read."""
    try:
        return Owner(**stored)
    except TypeError:
        return None


def locks_folder(database: Path, study: str) -> Path:
    """Where the locks of a study lie: beside its database, wherever the runs write their files."""
    return _all_locks(database) / study


def _all_locks(database: Path) -> Path:
    database = database.resolve()  # whichever way it is reached
    return database.with_name(f".{database.name}.locks")


def is_alive(owner: Owner, folder: Path) -> bool:
    """Whether the run still lives, be it suspended, slow or silent.

    Its lock decides. Where the lock's file is gone (the run has ended, or somebody deleted it) the process table does; an
    SQLite database serves one machine at a time, so that an owner from another start, or another machine, is dead.
    """
    lock = folder / f"{owner.run}.lock"
    if lock.exists():
        return _is_held(lock)
    if owner.boot != _boot_id():
        return False
    if owner.pid == os.getpid() and _is_start_of(psutil.Process(), owner):
        return owner.run in _working_here
    try:
        process = psutil.Process(owner.pid)
        return _is_start_of(process, owner) and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return False


def num_runs(database: Path, study: str) -> int:
    """How many runs work on a study now."""
    return sum(_is_held(lock) for lock in locks_folder(database, study).glob("*.lock") if lock.name != _TURN)


@contextlib.contextmanager
def creating(database: Path) -> Iterator[None]:
    """Makes the database's folder; inside, no other process of this tool makes the database's tables.

    Raises:
        ResourceError: the folder cannot be written.
    """
    folder = _all_locks(database)
    with _folder_errors(database):
        folder.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(folder / ".create.lock").acquire()
    with held:
        yield


def _folder_errors(database: Path) -> contextlib.AbstractContextManager[None]:
    hint = "free some space, or name another place with --storage sqlite:///PATH"
    return os_errors("the folder of the study database cannot be written", where=database.parent, hint=hint)


class Lease:
    """This run's place among the runs of a study. While entered, what it takes is its own."""

    def __init__(self, database: Path, study: str) -> None:
        self._database = database
        self.folder = locks_folder(database, study)
        self._study = study
        now = datetime.datetime.now(datetime.UTC)
        process = psutil.Process()
        self.owner = Owner(
            run=f"{now:%Y%m%dT%H%M%SZ}-{os.getpid()}-{secrets.token_hex(2)}",
            host=socket.gethostname(),
            pid=process.pid,
            started=process.create_time(),
            boot=_boot_id(),
        )
        self._turn = filelock.FileLock(self.folder / _TURN)
        self._own = filelock.FileLock(self.folder / f"{self.owner.run}.lock")

    def __enter__(self) -> Lease:
        with _folder_errors(self._database):
            self.folder.mkdir(parents=True, exist_ok=True)
        with _folder_errors(self._database), self.patient_turn():
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
        """Whether it is this run's turn to take trials. If so, no other run takes any inside the block."""
        with _folder_errors(self._database):
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

    @contextlib.contextmanager
    def patient_turn(self) -> Iterator[None]:
        """This run's turn, for which it waits.

        Raises:
            ResourceError: another run has held the turn for a minute.
        """
        with self.turn(_TURN_PATIENCE_S) as is_mine:
            if not is_mine:
                raise ResourceError(
                    f"another run holds the study `{self._study}` and does not let go",
                    where=str(self.folder),
                    hint="was it suspended (Ctrl-Z)? Let it go on, or end it",
                )
            yield

    def owns(self, owner: Owner | None) -> bool:
        """Whether it is this run."""
        return owner == self.owner

    def is_alive(self, owner: Owner | None) -> bool:
        """Whether a trial's owner lives. A trial without one was left by a run that died as it took it."""
        return owner is not None and is_alive(owner, self.folder)

    def stored(self) -> dict[str, Any]:
        """The owner as a trial carries it."""
        return dataclasses.asdict(self.owner)

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


def _is_start_of(process: psutil.Process, owner: Owner) -> bool:
    return abs(process.create_time() - owner.started) < _CLOCK_STEP_S


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return re.sub(r"\W", "", socket.gethostname()) + f"-{psutil.boot_time():.0f}"
