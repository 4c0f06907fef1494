"""How long a trial may take, and how often workers may fail to start: the same for every engine that has workers."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from data_utils.errors import ResourceError

_SUSPENDED_S = 2.0
"""A wait that ends so much later than it should: this process was suspended, and probably its workers with it."""

BOOTS = 4
"""Workers that may die in a row before any of them did anything."""


class Clock:
    """The time of one trial, all its epochs together. It runs only while a worker has the trial and does not wait."""

    def __init__(self, limit_s: float) -> None:
        """`limit_s`: what a trial may take; infinite: as long as it likes."""
        self.limit_s = limit_s
        self._left_s = math.inf
        """What was left when the clock was last started."""

        self._since: float | None = None
        """When it was started, by the monotonic clock; None while it stands."""

    @property
    def deadline(self) -> float:
        """When the trial has had all the time it may have, by the monotonic clock."""
        return math.inf if self._since is None else self._since + self._left_s

    def start(self, spent_s: float = 0.0) -> None:
        """Runs, for a trial that has had `spent_s` before."""
        self._since, self._left_s = time.monotonic(), self.limit_s - spent_s

    def pause(self) -> None:
        """Stands while the trial waits for an answer."""
        if self._since is not None:
            self._left_s -= time.monotonic() - self._since
            self._since = None

    def go_on(self) -> None:
        """Runs again."""
        self._since = time.monotonic()

    def stop(self) -> None:
        """There is no trial any more."""
        self._since = None

    def forgive(self, late_s: float) -> None:
        """Takes back time in which nothing could run."""
        if self._since is not None:
            self._since = min(self._since + late_s, time.monotonic())


def forgive(clocks: Iterable[Clock], late_s: float) -> None:
    """Time in which the whole search was suspended is no trial's. `late_s`: how much later than it should a wait has ended."""
    if late_s > _SUSPENDED_S:
        for clock in clocks:
            clock.forgive(late_s)


def too_long(limit_s: float) -> str:
    """Why a trial fails whose clock has run out."""
    return f"it took longer than the {limit_s:g} s that a trial may"


class Boots:
    """Workers that die before they do anything. A few are an accident; more in a row are the machine."""

    def __init__(
        self, what: str = "workers end before they are up", hint: str = "is there enough memory? Try fewer --workers"
    ) -> None:
        """`what`, `hint`: what a person is told."""
        self._what, self._hint = what, hint
        self._failed = 0

    def worked(self) -> None:
        """One did not."""
        self._failed = 0

    def failed(self, reason: str) -> None:
        """One has died.

        Raises:
            ResourceError: too many in a row.
        """
        self._failed += 1
        if self._failed >= BOOTS:
            raise ResourceError(self._what, got=f"{self._failed} in a row; the last: {reason}", hint=self._hint)
