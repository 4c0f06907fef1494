"""Where trials run. An engine trains jobs and tells of each epoch; the coordinator answers go or stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from model.record import EpochRecord
from search.trial import Job


@dataclass(frozen=True)
class EpochDone:
    """A job has one more epoch. It goes on only after `go` (or ends by `drop`)."""

    trial: int
    record: EpochRecord


@dataclass(frozen=True)
class JobDone:
    """A job has trained all its epochs."""

    trial: int


@dataclass(frozen=True)
class JobFailed:
    """A job cannot go on; the reason is the trial's own."""

    trial: int
    reason: str


EngineEvent = EpochDone | JobDone | JobFailed


class Engine(Protocol):
    """What the coordinator needs of a place that trains."""

    @property
    def slots(self) -> int:
        """How many jobs can run at once."""
        ...

    def start(self, job: Job) -> None:
        """Takes a job. At most `slots` at a time."""
        ...

    def next_event(self) -> EngineEvent:
        """Waits for the next thing to happen to any job."""
        ...

    def go(self, trial: int) -> None:
        """Lets a job that told of an epoch train on."""
        ...

    def drop(self, trial: int) -> None:
        """Ends a job that told of an epoch."""
        ...

    def close(self) -> None:
        """Ends all jobs."""
        ...
