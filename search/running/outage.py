"""The study's storage during a run: written in batches, retried while its server cannot be reached."""

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
"""Default seconds that a search continues without its database."""

GATHER_S = 0.1
"""How long reports of busy workers may gather before they are written, and free slots before they are filled."""

T = TypeVar("T")


class Outage:
    """Calls the database, and keeps track of how long it has been unreachable."""

    def __init__(self, url: str, emit: Listener, *, patience_s: float = PATIENCE_S) -> None:
        self._url = url
        self._emit = emit
        self._patience_s = patience_s
        self._since: float | None = None
        self._next = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self.verdict: ResourceError | None = None
        """Set when the database has been unreachable for longer than `patience_s`: the run must stop."""

    @property
    def is_on(self) -> bool:
        """Whether the last call could not reach the database."""
        return self._since is not None

    def attempt(self, call: Callable[[], T], otherwise: T) -> T:
        """Returns what `call` returns, or `otherwise` while the database cannot be reached.

        Raises: what `call` raises for any other reason.
        """
        if self._since is not None and time.monotonic() < self._next:
            return otherwise
        try:
            result = call()
        except Exception as error:
            if not is_unreachable(error):
                raise
            self._note_failure(error)
            return otherwise
        self._note_success()
        return result

    def _note_failure(self, error: Exception) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since, self._pause_s = now, _FIRST_PAUSE_S
            cause = as_resource_error(self._url, error)
            self._emit(
                Notice(f"the study database cannot be reached ({cause.got}): training continues, results are written later")
            )
        if now - self._since >= self._patience_s:
            self.verdict = as_resource_error(self._url, error)
        self._next = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S, max(self._since + self._patience_s - now, _FIRST_PAUSE_S))

    def _note_success(self) -> None:
        if self._since is not None:
            away_s = time.monotonic() - self._since
            self._emit(Notice(f"the study database is back after {away_s:.0f} s; waiting results are written now"))
            self._since = None


class StudyAccess:
    """One run's access to its study. A server that is away for a while raises no error here."""

    def __init__(self, ledger: Ledger, outage: Outage, *, on_lost: Callable[[], None]) -> None:
        """`on_lost` is called when other runs have reclaimed this run's trials."""
        self.ledger, self.outage = ledger, outage
        self._on_lost = on_lost
        self._is_disowned = False
        """Other runs have reclaimed this run's trials, and it has no new lease yet."""

    @property
    def has_to_write(self) -> bool:
        """Whether something waits to be written, and can be."""
        return self.ledger.waiting_s > 0 and not self.outage.is_on

    def attempt(self, call: Callable[[], T], otherwise: T) -> T:
        """Returns what `call` returns, or `otherwise` if the storage cannot be used now."""
        try:
            return self.outage.attempt(partial(self._with_lease, call), otherwise)
        except TurnLost:
            return otherwise
        except LeaseLost:
            self._lose()
            return otherwise

    def look(self) -> None:
        """Reads what other runs have done, unless that was read a moment ago."""
        if not self.outage.is_on:
            self.attempt(self.ledger.look, None)

    def write(self, *, at_once: bool) -> None:
        """Writes what has gathered, `at_once` or after `GATHER_S`."""
        waiting_s = self.ledger.waiting_s
        if waiting_s and (at_once or waiting_s >= GATHER_S):
            self.attempt(self.ledger.flush, None)

    def write_rest(self, emit: Listener) -> None:
        """Writes everything at the end of the run.

        Raises:
            ResourceError: the storage cannot be reached; nothing is written.
        """
        try:
            self.ledger.flush()
        except LeaseLost:
            self._lose()
            with contextlib.suppress(Exception):  # what this run recorded is not the study's
                self.ledger.forget()
        except Exception as error:
            if not is_unreachable(error):
                raise
            numbers = ", ".join(map(str, self.ledger.unwritten))
            emit(Notice(f"the latest results are not written (of trials {numbers}); their checkpoints are kept"))
            raise self.outage.verdict or error from error

    def _with_lease(self, call: Callable[[], T]) -> T:
        if self._is_disowned:
            self.ledger.forget()
            self.ledger.lease.rejoin()
            self._is_disowned = False
        return call()

    def _lose(self) -> None:
        self._is_disowned = True
        self._on_lost()
