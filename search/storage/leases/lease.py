"""Who works on a study: its runs, what each of them owns, and whether an owner still lives.

Each trial that a run takes carries that run's `Owner`. A trial whose owner is dead may be taken up by any run; a living owner's
never is. Runs of one study take turns when they take a trial, so that no trial is taken twice and the target is not overshot.

    locks.py   for a file (SQLite, a journal): locks beside it, which the kernel lets go of however a run ends
    rows.py    for a server: rows in the database, renewed by each run, judged by the database's own clock
    choice.py  which of them a storage needs
"""

from __future__ import annotations

import abc
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
from typing import Any, Protocol, Self

import psutil

from search.errors import ResourceError

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROCESSES = Path("/proc/self/ns/pid")
_CLOCK_STEP_S = 5
"""The start time of a process is told by the wall clock, which may be set while it runs; process numbers take longer than this
to come round again."""

_TURN_PATIENCE_S = 60


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
    """Which start of which machine, or of which container, the process belongs to."""


def owner_of(stored: Any) -> Owner | None:
    """The owner that a trial carries; None if it carries none that can be read."""
    try:
        return Owner(**stored)
    except TypeError:
        return None


def new_owner() -> Owner:
    """A name for a run of this process."""
    now = datetime.datetime.now(datetime.UTC)
    process = psutil.Process()
    return Owner(
        run=f"{now:%Y%m%dT%H%M%SZ}-{os.getpid()}-{secrets.token_hex(2)}",
        host=socket.gethostname(),
        pid=process.pid,
        started=process.create_time(),
        boot=boot_id(),
    )


def process_is_alive(owner: Owner) -> bool | None:
    """Whether the owner's process is there, by the process table.

    None if that cannot be said: it is, or was, of another machine or container, or the process of this number began at another
    time, which may also mean that the wall clock was set.
    """
    if owner.boot != boot_id():
        return None
    try:
        process = psutil.Process(owner.pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        return True if abs(process.create_time() - owner.started) < _CLOCK_STEP_S else None
    except psutil.Error:
        return False


def boot_id() -> str:
    """Which start of this machine it is, and within which process table."""
    try:
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()} {_PROCESSES.readlink()}"
    except OSError:  # not Linux
        return re.sub(r"\W", "", socket.gethostname()) + f"-{psutil.boot_time():.0f}"


class Observer(Protocol):
    """Somebody who looks at the runs of a study."""

    def is_alive(self, owner: Owner) -> bool:
        """Whether a run lives."""
        ...

    def num_runs(self) -> int:
        """How many runs work on the study now."""
        ...


class LeaseLost(Exception):
    """This run has been silent for so long that others have taken its trials."""


class TurnLost(Exception):
    """The turn ended while the run still worked in it: the database was away, or the run was suspended."""


class Lease(abc.ABC):
    """This run's place among the runs of a study. While entered, what it takes is its own."""

    def __init__(self, study: str, observer: Observer, where: str) -> None:
        """`where` names the place in errors."""
        self.owner = new_owner()
        self.study = study
        self.observer = observer
        self._where = where
        self.needs_fence = False
        """Whether others may take what this run has while it lives."""

        self.turn_connection: Any = None
        """In a turn, what is to be written with it; None where any connection will do."""

    @abc.abstractmethod
    def __enter__(self) -> Self: ...

    @abc.abstractmethod
    def __exit__(self, *_: object) -> None: ...

    @abc.abstractmethod
    def turn(self, patience_s: float = 0) -> contextlib.AbstractContextManager[bool]:
        """Whether it is this run's turn to take trials. If so, no other run takes any inside the block.

        Raises:
            TurnLost: at its end, if somebody else may have had it meanwhile.
        """

    @contextlib.contextmanager
    def wait_for_turn(self) -> Iterator[None]:
        """This run's turn, for which it waits.

        Raises:
            ResourceError: another run has held the turn for a minute, or the turn was lost.
        """
        try:
            with self.turn(_TURN_PATIENCE_S) as is_mine:
                if not is_mine:
                    raise ResourceError(
                        f"another run holds the study `{self.study}` and does not let go",
                        where=self._where,
                        hint="was it suspended (Ctrl-Z)? Let it go on, or end it",
                    )
                yield
        except TurnLost as error:
            raise ResourceError(
                "the study database went away for a moment", where=self._where, hint="the same command goes on"
            ) from error

    def owns(self, owner: Owner | None) -> bool:
        """Whether it is this run."""
        return owner == self.owner

    def is_alive(self, owner: Owner | None) -> bool:
        """Whether a trial's owner lives. A trial without one was left by a run that died as it took it."""
        return owner is not None and self.observer.is_alive(owner)

    def reclaim_from(self, owner: Owner | None) -> bool:
        """Sees to it that a dead owner stays dead: whether it is. Before a trial of its is taken.

        What is this run's by name, and was lost with a turn, is nobody's.
        """
        return self.owns(owner) or not self.is_alive(owner)

    def fence(self, connection: Any) -> None:  # noqa: B027 (locks of a living process are not lost)
        """Within a transaction: nobody declares this run dead before it ends.

        Raises:
            LeaseLost: somebody has.
        """

    def rejoin(self) -> None:
        """After `LeaseLost`: another name, under which nothing is owned yet."""
        raise NotImplementedError

    def stored(self) -> dict[str, Any]:
        """The owner as a trial carries it."""
        return dataclasses.asdict(self.owner)
