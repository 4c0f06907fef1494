"""Who trained a trial when: one stint for each time that a worker began with it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

STINTS = "stints"
"""The attribute of a trial that holds them."""


@dataclass(frozen=True)
class Stint:
    """A worker's time on a trial."""

    run: str
    """The run that the worker belongs to."""

    worker: int
    """Its place among the run's workers, from 0."""

    begin: float
    """Seconds since 1970."""

    end: float | None = None
    """The same; None while it lasts, when it ended with the trial, and when the run was killed."""


def begun(stints: Sequence[Stint], run: str, worker: int) -> list[Stint]:
    """One more, from now on."""
    return [*stints, Stint(run, worker, round(time.time(), 3))]


def ended(stints: Sequence[Stint]) -> list[Stint]:
    """The last one ends now, if there is one."""
    return [*stints[:-1], *(replace(stint, end=round(time.time(), 3)) for stint in stints[-1:])]


def as_stored(stints: Sequence[Stint]) -> list[tuple[Any, ...]]:
    """For the attribute."""
    return [dataclasses.astuple(stint) for stint in stints]


def stints_of(stored: Any) -> list[Stint]:
    """What the attribute holds; none for a trial of an earlier version."""
    return [Stint(*one) for one in stored or ()]
