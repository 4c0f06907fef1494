"""A database server that cannot be reached for a while: the search goes on, and tries again now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from search.errors import ResourceError
from search.events import Listener, Notice
from search.storage.errors import is_away, unusable

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
            if not is_away(error):
                raise
            self._note(error)
            return otherwise
        self._end()
        return done

    def _note(self, error: Exception) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since, self._pause_s = now, _FIRST_PAUSE_S
            cause = unusable(self._url, error)
            self._emit(Notice(f"the study database cannot be reached ({cause.got}): training goes on, and results wait for it"))
        if now - self._since >= self._patience_s:
            self.verdict = unusable(self._url, error)
        self._next = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S, max(self._since + self._patience_s - now, _FIRST_PAUSE_S))

    def _end(self) -> None:
        if self._since is not None:
            away_s = time.monotonic() - self._since
            self._emit(Notice(f"the study database is back after {away_s:.0f} s; what waited is written now"))
            self._since = None
