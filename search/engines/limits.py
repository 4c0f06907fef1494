"""Limits shared by all engines with workers: how long a trial may take, and how often workers may fail to start."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from data_utils.errors import ResourceError

MAX_STARTUP_FAILURES = 4
"""Consecutive workers that may die before any of them has done anything."""


class Clock:
    """Measures a trial's training time over all its epochs. It runs only while a worker has the trial and is training."""

    def __init__(self, limit_s: float) -> None:
        """`limit_s`: time allowed for a trial; infinite for no limit."""
        self.limit_s = limit_s
        self._left_s = math.inf
        """Time left when the clock was last started."""

        self._since: float | None = None
        """Monotonic time of the last start; None while the clock is stopped."""

    @property
    def deadline(self) -> float:
        """Monotonic time at which the trial's time runs out; infinite while the clock is stopped."""
        return math.inf if self._since is None else self._since + self._left_s

    @property
    def is_used_up(self) -> bool:
        """Whether the trial has no time left."""
        return (self._left_s if self._since is None else self.deadline - time.monotonic()) <= 0

    def start(self, spent_s: float = 0.0) -> None:
        """Starts for a trial that has already used `spent_s`."""
        self._since, self._left_s = time.monotonic(), self.limit_s - spent_s

    def spend(self, seconds: float) -> None:
        """Counts time that the trial has used elsewhere."""
        self._left_s -= seconds

    def pause(self) -> None:
        """Stops while the trial waits for a decision, or when it has ended."""
        if self._since is not None:
            self._left_s -= time.monotonic() - self._since
            self._since = None

    def resume(self) -> None:
        """Continues after `pause`."""
        self._since = time.monotonic()

    def extend(self, late_s: float) -> None:
        """Gives back time during which nothing could run."""
        if self._since is not None:
            self._since = min(self._since + late_s, time.monotonic())


@dataclass
class StartupFailures:
    """Counts workers that die before doing anything. A few are an accident; more in a row point to the machine."""

    what: str = "workers end before they start training"
    hint: str = "is there enough memory? Try fewer --workers; `islr-search doctor` checks the machine"
    where: str | None = None
    in_a_row: int = 0

    def reset(self) -> None:
        """A worker has started training."""
        self.in_a_row = 0

    def add(self, reason: str) -> None:
        """A worker has died.

        Raises:
            ResourceError: too many died in a row.
        """
        self.in_a_row += 1
        if self.in_a_row >= MAX_STARTUP_FAILURES:
            got = f"{self.in_a_row} in a row; the last: {reason}"
            raise ResourceError(self.what, where=self.where, got=got, hint=self.hint)


def startup_failures(gpus: Sequence[str]) -> dict[str | None, StartupFailures]:
    """A count for each GPU, and one for workers without: a GPU that fails is found although workers start on the others."""
    counts: dict[str | None, StartupFailures] = {None: StartupFailures()}
    return counts | {gpu: StartupFailures(where=f"GPU {gpu}") for gpu in gpus}
