"""The interface of engines, and the events that they report."""

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
    """Steps restored from the checkpoint. They are reported again, one by one."""

    max_steps: int
    seconds: float
    """Training time of the restored steps."""

    label_smoothing: float
    """The eps that the loss function really uses, found by probing it."""

    resume_note: str
    """How an interrupted job resumes; empty for a new one."""

    path_note: str = ""
    """Why PyTorch trains it although the settings allow the compiled kernel; empty otherwise."""

    first_order: int | None = None
    """Which of the study's shared epochs is its first; None if the study does not share them."""

    worker: int = 0
    """Its slot: the number of the worker that trains it, or with several jobs in one process its place among them."""

    gpu: str | None = None
    """The GPU that its worker has, as in CUDA_VISIBLE_DEVICES; None if the engine did not choose one."""


@dataclass(frozen=True)
class StepDone:
    """A job has finished a step. It waits for `advance`, `cancel` or the end of the engine."""

    trial: int
    step: Step
    stack: int | None = None
    """The width of the stacks that trained the job so far; 0 for several widths; None if it was trained alone."""


@dataclass(frozen=True)
class JobDone:
    """A job has trained all its epochs."""

    trial: int
    outcome: Outcome


@dataclass(frozen=True)
class JobFailed:
    """A job has failed, for a reason of its own."""

    trial: int
    reason: str


@dataclass(frozen=True)
class JobInterrupted:
    """A job was stopped midway. Its checkpoint holds all its epochs, or fewer if its worker is gone."""

    trial: int


@dataclass(frozen=True)
class WorkerLost:
    """A job lost its worker, which died or whose device failed. The job can be started again.

    What the job held of the device is given back before.
    """

    trial: int
    reason: str
    machine_lost: bool = False
    """Whether the whole machine was lost: then the job is not to blame."""

    device_failed: bool = False
    """Whether memory ran out or the GPU failed. The job is tried once more, however often workers may die."""

    gpu: str | None = None
    """See `JobStarted.gpu`."""

    shares_device: bool = False
    """Whether other jobs of the run may train on the same device."""

    with_others: bool = False
    """Whether others trained in the same process, so that this job need not be to blame. The engine tells of it."""

    @property
    def text(self) -> str:
        """The reason, and on which GPU it happened."""
        return self.reason if self.gpu is None else f"{self.reason}, on GPU {self.gpu}"


EngineEvent = JobStarted | StepDone | JobDone | JobFailed | JobInterrupted | WorkerLost


class Engine(Protocol):
    """What the coordinator needs from an engine."""

    @property
    def slots(self) -> int:
        """How many jobs can run at once."""

    @property
    def takes_jobs(self) -> bool:
        """Whether it takes jobs for free slots now. An engine that trains in rounds takes them between two rounds only."""

    def start(self, job: Job) -> None:
        """Starts a job. At most `slots` run at a time."""

    def next_event(self, timeout_s: float) -> EngineEvent | None:
        """Waits for the next event of any job; None if there is none within `timeout_s`.

        Raises:
            DataError: the data set is missing or damaged. This ends the search, not the trial.
            ResourceError: the disk is full, or workers cannot be started.
        """

    def advance(self, trial: int) -> None:
        """Lets a job that has reported a step train the next one."""

    def cancel(self, trial: int) -> None:
        """Ends a job at any moment. It reports no further events."""

    def interrupt_jobs(self) -> None:
        """From now on, each job is interrupted at the end of its epoch (`JobInterrupted`) instead of training on."""

    def close(self) -> None:
        """Ends all jobs at once."""
