"""Leases: which runs work on a study, what each of them owns, and whether an owner is still alive.

Each trial that a run takes carries that run's `Owner`. Any run may reclaim a trial whose owner is dead, but no trial whose
owner is alive. The runs of a study take turns to take trials, so that no trial is taken twice and no more trials are trained
than the target.

    files.py   for a file (SQLite, a journal): locks next to it, which the kernel releases however a run ends
    rows.py    for a server: rows in the database, renewed by each run and judged by the database's clock
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
_PID_NAMESPACE = Path("/proc/self/ns/pid")
_CLOCK_STEP_S = 5
"""Tolerance for a process's start time, which shifts when the wall clock is adjusted. Process ids are not reused that soon."""

_TURN_TIMEOUT_S = 60


@dataclass(frozen=True)
class Owner:
    """A run, as recorded in the trials that it takes."""

    run: str
    """The run's name, also that of its lock and its log."""

    host: str
    pid: int
    started: float
    """When the process started, seconds since 1970."""

    boot: str
    """Identifies the boot of the machine or container that the process belongs to."""


def owner_of(stored: Any) -> Owner | None:
    """The owner recorded in a trial; None if there is none or it cannot be read."""
    try:
        return Owner(**stored)
    except TypeError:
        return None


def new_owner() -> Owner:
    """A new run of this process."""
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
    """Whether the owner's process is alive, by the process table.

    None if unknown: it belongs to another machine, container or boot, or the process with its id started at another time, which
    may also mean that the wall clock was adjusted.
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
    """Identifies this boot of this machine, and the process namespace."""
    try:
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()} {_PID_NAMESPACE.readlink()}"
    except OSError:  # not Linux
        return re.sub(r"\W", "", socket.gethostname()) + f"-{psutil.boot_time():.0f}"


class Observer(Protocol):
    """Observes the runs on a study."""

    def is_alive(self, owner: Owner) -> bool:
        """Whether a run is alive."""
        ...

    def runs(self) -> list[str]:
        """Names of the runs that work on the study now."""
        ...

    def num_runs(self) -> int:
        """Number of runs that work on the study now."""
        ...


class LeaseLost(Exception):
    """This run had no contact for so long that others have reclaimed its trials."""


class TurnLost(Exception):
    """The turn ended while the run was still using it: the database was unreachable, or the run was suspended."""


class Lease(abc.ABC):
    """This run's lease on a study. While it is entered, the run owns the trials that it takes."""

    def __init__(self, study: str, observer: Observer, where: str) -> None:
        """`where` names the place in errors."""
        self.owner = new_owner()
        self.names = {self.owner.run}
        """The names that this run has had: it gets another one when it was taken for dead."""

        self.study = study
        self.observer = observer
        self._where = where
        self.needs_fence = False
        """Whether others may reclaim this run's trials while it is alive."""

        self.turn_connection: Any = None
        """During a turn, the connection to write with; None if any will do."""

    @abc.abstractmethod
    def __enter__(self) -> Self: ...

    @abc.abstractmethod
    def __exit__(self, *_: object) -> None: ...

    @abc.abstractmethod
    def turn(self, timeout_s: float = 0) -> contextlib.AbstractContextManager[bool]:
        """Whether this run has the turn to take trials. If so, no other run takes any inside the block.

        Raises:
            TurnLost: at its end, if another run may have had the turn meanwhile.
        """

    @contextlib.contextmanager
    def wait_for_turn(self) -> Iterator[None]:
        """Waits until this run has the turn, and holds it inside the block.

        Raises:
            ResourceError: another run has held the turn for a minute, or the turn was lost.
        """
        try:
            with self.turn(_TURN_TIMEOUT_S) as is_mine:
                if not is_mine:
                    raise ResourceError(
                        f"another run keeps the study `{self.study}` locked",
                        where=self._where,
                        hint="is it suspended (Ctrl-Z)? Continue or stop it",
                    )
                yield
        except TurnLost as error:
            raise ResourceError(
                "the study database was unreachable for a moment", where=self._where, hint="run the same command again"
            ) from error

    def owns(self, owner: Owner | None) -> bool:
        """Whether the owner is this run."""
        return owner == self.owner

    def is_alive(self, owner: Owner | None) -> bool:
        """Whether a trial's owner is alive. A trial without one comes from a run that died while taking it."""
        return owner is not None and self.observer.is_alive(owner)

    def reclaim_from(self, owner: Owner | None) -> bool:
        """Whether this run may reclaim the owner's trials: the owner is dead, and cannot come back.

        Includes trials that carry this run's own name, but were lost with a turn.
        """
        return self.owns(owner) or not self.is_alive(owner)

    def fence(self, connection: Any) -> None:  # noqa: B027 (file locks of a living process cannot be lost)
        """Within a transaction, prevents others from declaring this run dead before the transaction ends.

        Raises:
            LeaseLost: another run already has.
        """

    def rejoin(self) -> None:
        """After `LeaseLost`: continues under a new name, which owns nothing yet."""
        raise NotImplementedError

    def forget_study(self) -> None:  # noqa: B027 (rows of runs go with their runs)
        """Removes what is kept of the study for its next run. Only in the study's turn, and if no other run works on it."""

    def stored(self) -> dict[str, Any]:
        """The owner, as recorded in trials."""
        return dataclasses.asdict(self.owner)
