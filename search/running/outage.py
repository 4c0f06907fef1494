"""The study's storage during a run: written now and then, and waited for while its server is away."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from search.errors import ResourceError
from search.events import Listener, Notice
from search.running.ledger import Ledger
from search.storage.errors import as_resource_error, is_unreachable
from search.storage.leases.lease import LeaseLost, TurnLost

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
PATIENCE_S = 600.0
"""How long a search goes on without its database, unless it was asked for another time."""

T = TypeVar("T")


class Outage:
    """Does what needs the database, and knows since when that cannot be done."""

    def __init__(self, url: str, emit: Listener, *, patience_s: float = PATIENCE_S) -> None:
        self._url = url
        self._emit = emit
        self._patience_s = patience_s
        self._since: float | None = None
        self._next = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self.verdict: ResourceError | None = None
        """The database is lost for good: it was away for longer than anybody wanted to wait."""

    @property
    def is_on(self) -> bool:
        """Whether the database could not be reached when last tried."""
        return self._since is not None

    def attempt(self, do: Callable[[], T], otherwise: T) -> T:
        """Does it; the other answer while the database cannot be reached.

        Raises: what `do` raises, unless the database is away.
        """
        if self._since is not None and time.monotonic() < self._next:
            return otherwise
        try:
            done = do()
        except Exception as error:
            if not is_unreachable(error):
                raise
            self._note(error)
            return otherwise
        self._end()
        return done

    def _note(self, error: Exception) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since, self._pause_s = now, _FIRST_PAUSE_S
            cause = as_resource_error(self._url, error)
            self._emit(Notice(f"the study database cannot be reached ({cause.got}): training goes on, and results wait for it"))
        if now - self._since >= self._patience_s:
            self.verdict = as_resource_error(self._url, error)
        self._next = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S, max(self._since + self._patience_s - now, _FIRST_PAUSE_S))

    def _end(self) -> None:
        if self._since is not None:
            away_s = time.monotonic() - self._since
            self._emit(Notice(f"the study database is back after {away_s:.0f} s; what waited is written now"))
            self._since = None


GATHER_S = 0.1
"""How long reports of busy workers may gather before they are written, and free slots before they are filled."""


class Access:
    """What one run does with its study's storage. Nothing here fails because a server is away for a while."""

    def __init__(self, ledger: Ledger, outage: Outage, on_lost: Callable[[], None]) -> None:
        """`on_lost` is called when others have taken this run's trials."""
        self.ledger, self.outage = ledger, outage
        self._on_lost = on_lost
        self._is_disowned = False
        """Others have this run's trials; it has no new name yet."""

    @property
    def has_to_write(self) -> bool:
        """Whether something waits to be written, and can be."""
        return self.ledger.waiting_s > 0 and not self.outage.is_on

    def attempt(self, do: Callable[[], T], otherwise: T) -> T:
        """Does something that needs the storage; the other answer while it cannot be done."""
        try:
            return self.outage.attempt(partial(self._with_a_name, do), otherwise)
        except TurnLost:
            return otherwise
        except LeaseLost:
            self._lose()
            return otherwise

    def look(self) -> None:
        """Reads what others have done, unless that is known from a moment ago."""
        if not self.outage.is_on:
            self.attempt(self.ledger.look, None)

    def write(self, *, at_once: bool) -> None:
        """Writes what has gathered, `at_once` or when it is time."""
        waiting_s = self.ledger.waiting_s
        if waiting_s and (at_once or waiting_s >= GATHER_S):
            self.attempt(self.ledger.flush, None)

    def write_rest(self, emit: Listener) -> None:
        """At the end.

        Raises:
            ResourceError: the storage cannot be reached. What waits is not written.
        """
        try:
            self.ledger.flush()
        except LeaseLost:
            self._lose()
            with contextlib.suppress(Exception):  # what this run thought to have found is not the study's
                self.ledger.forget()
        except Exception as error:
            if not is_unreachable(error):
                raise
            numbers = ", ".join(map(str, self.ledger.unwritten))
            emit(Notice(f"what was found since is not written (of trials {numbers}); their checkpoints are kept"))
            raise self.outage.verdict or error from error

    def _with_a_name(self, do: Callable[[], T]) -> T:
        if self._is_disowned:
            self.ledger.forget()
            self.ledger.lease.rejoin()
            self._is_disowned = False
        return do()

    def _lose(self) -> None:
        self._is_disowned = True
        self._on_lost()
