"""Who trained a trial when: one stint for each time that a worker began with it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

ATTEMPTS = "stints"
"""The attribute of a trial that holds them."""


@dataclass(frozen=True)
class Attempt:
    """A worker's time on a trial."""

    run: str
    """The run that the worker belongs to."""

    worker: int
    """Its place among the run's workers, from 0."""

    begin: float
    """Seconds since 1970."""

    end: float | None = None
    """The same; None while it lasts, when it ended with the trial, and when the run was killed."""


def begun(attempts: Sequence[Attempt], run: str, worker: int) -> list[Attempt]:
    """One more, from now on."""
    return [*attempts, Attempt(run, worker, round(time.time(), 3))]


def ended(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The last one ends now, if there is one."""
    return [*attempts[:-1], *(replace(attempt, end=round(time.time(), 3)) for attempt in attempts[-1:])]


def as_stored(attempts: Sequence[Attempt]) -> list[tuple[Any, ...]]:
    """For the attribute."""
    return [dataclasses.astuple(attempt) for attempt in attempts]


def attempts_of(stored: Any) -> list[Attempt]:
    """What the attribute holds; none for a trial of an earlier version."""
    return [Attempt(*one) for one in stored or ()]
