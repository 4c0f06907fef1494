"""The attempts at a trial: which worker trained it, and when."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

ATTEMPTS = "stints"
"""The trial attribute that holds its attempts."""


@dataclass(frozen=True)
class Attempt:
    """A worker's time on a trial."""

    run: str
    """The run that the worker belongs to."""

    worker: int
    """Its index among the run's workers, from 0."""

    begin: float
    """Seconds since 1970."""

    end: float | None = None
    """Seconds since 1970. None while the attempt lasts, if it ended together with the trial, or if the run was killed."""


def start_attempt(attempts: Sequence[Attempt], run: str, worker: int) -> list[Attempt]:
    """The attempts and a new one that starts now."""
    return [*attempts, Attempt(run, worker, round(time.time(), 3))]


def end_attempt(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts with the last one, if any, ended now."""
    return [*attempts[:-1], *(replace(attempt, end=round(time.time(), 3)) for attempt in attempts[-1:])]


def stored_attempts(attempts: Sequence[Attempt]) -> list[tuple[Any, ...]]:
    """The attempts as the attribute's value."""
    return [dataclasses.astuple(attempt) for attempt in attempts]


def read_attempts(stored: Any) -> list[Attempt]:
    """The attempts from the attribute's value; empty for a trial of an earlier version."""
    return [Attempt(*fields) for fields in stored or ()]
