"""The interface, and what engines tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from search.trial.curves import Step
from search.trial.job import Job
from search.trial.outcome import Outcome


@dataclass(frozen=True)
class JobStarted:
    """A job is ready for its next epoch."""

    trial: int
    made_with: Mapping[str, Any]
    """Versions and machine."""

    steps_done: int
    """Steps that were trained before and are kept. They are told once more, one by one."""

    max_steps: int
    """Steps that there can be."""

    seconds: float
    """What those took."""

    label_smoothing: float
    """The eps that its loss function really uses, found by probing it."""

    resume_note: str
    """How a job that was begun before goes on; empty for a fresh one."""

    worker: int = 0
    """Which of the engine's slots trains it."""


@dataclass(frozen=True)
class StepDone:
    """A job has done one more step. It goes on only after `advance` (or ends by `cancel`)."""

    trial: int
    step: Step


@dataclass(frozen=True)
class JobDone:
    """A job has trained all its epochs."""

    trial: int
    outcome: Outcome


@dataclass(frozen=True)
class JobFailed:
    """A job cannot go on; the reason is the trial's own."""

    trial: int
    reason: str


@dataclass(frozen=True)
class JobInterrupted:
    """A job was put aside: with all that it has trained, or, if its worker is gone, as its last checkpoint has it."""

    trial: int


@dataclass(frozen=True)
class WorkerLost:
    """The worker that trained a job died. The job can be started again."""

    trial: int
    reason: str
    machine_lost: bool = False
    """Whether its machine was lost with it: then the job is not to blame."""


EngineEvent = JobStarted | StepDone | JobDone | JobFailed | JobInterrupted | WorkerLost


class Engine(Protocol):
    """What the coordinator needs of a place that trains."""

    @property
    def slots(self) -> int:
        """How many jobs can run at once."""
        ...

    def start(self, job: Job) -> None:
        """Takes a job. At most `slots` at a time."""
        ...

    def next_event(self, timeout_s: float) -> EngineEvent | None:
        """Waits for the next thing to happen to any job; None if nothing has happened for `timeout_s`.

        Raises:
            DataError: the data set is gone or damaged. That ends the search, not the trial.
            ResourceError: the disk is full, or workers cannot be started.
        """
        ...

    def advance(self, trial: int) -> None:
        """Lets a job that told of an epoch train on."""
        ...

    def cancel(self, trial: int) -> None:
        """Ends a job at any moment. Nothing more is heard of it."""
        ...

    def interrupt_jobs(self) -> None:
        """From now on each job is put aside at the end of its epoch (`JobInterrupted`) instead of training on."""
        ...

    def close(self) -> None:
        """Ends all jobs at once."""
        ...
