"""What engines with workers share: waiting for them, and with one job each their events, timeouts, cancellation and so on."""

from __future__ import annotations

import abc
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from data_utils.errors import ExplainedError
from search.engines.engine import EngineEvent, JobDone, JobFailed, JobInterrupted, JobStarted, StepDone
from search.engines.job_run import Decision, JobAccepted, WorkerBroken, WorkerError
from search.engines.limits import Clock
from search.events import DataPrepared, Listener, Notice
from search.trial.job import Job

_SUSPENDED_S = 2.0
"""If a wait ends this much later than it should, this process was suspended, and probably its workers too."""

STARTUP_S = 60.0
"""Time allowed for a worker process to start up before the time of its first trial counts."""

WorkerMessage = JobAccepted | WorkerBroken | WorkerError | ExplainedError | Notice | DataPrepared | EngineEvent


@dataclass(kw_only=True)
class Worker:
    """A worker as its engine sees it."""

    slot: int
    clock: Clock
    """Training time of its job, or the time that it has to receive one."""

    gpu: str | None = None
    """The only GPU that it sees, as in CUDA_VISIBLE_DEVICES; None if its engine did not choose one."""

    shares_device: bool = False
    """Whether other jobs may train on its device."""

    is_ready: bool = False
    """Whether it has started up."""

    @property
    def deadline(self) -> float:
        """Monotonic time at which its engine ends it."""
        return self.clock.deadline

    def extend(self, late_s: float) -> None:
        """Gives back time during which nothing could run."""
        self.clock.extend(late_s)


@dataclass(kw_only=True)
class PoolWorker(Worker):
    """A worker that trains one job at a time."""

    job: Job | None = None
    has_accepted: bool = False
    """Whether it has received its job. A worker that dies before did not die of the job."""

    awaits_decision: bool = False
    """Whether it has reported a step and waits for the decision."""


V = TypeVar("V", bound=Worker)
W = TypeVar("W", bound=PoolWorker)


class Workers(abc.ABC, Generic[V]):
    """An engine whose jobs train in workers."""

    def __init__(self, trial_timeout_s: float, emit: Listener) -> None:
        """`trial_timeout_s`: time allowed for a trial, all its epochs together; infinite for no limit."""
        self._trial_timeout_s = trial_timeout_s
        self._emit = emit
        self._workers: list[V] = []
        self._events: deque[EngineEvent] = deque()
        self._is_interrupting = False
        self._returned_at = time.monotonic()
        """When `next_event` last returned: the process may also be suspended between two calls."""

    @property
    @abc.abstractmethod
    def slots(self) -> int:
        """How many jobs can run at once."""

    @abc.abstractmethod
    def _accept(self, job: Job) -> None:
        """Gives a job to a worker, now or later."""

    @abc.abstractmethod
    def _wait(self, timeout_s: float) -> Sequence[V]:
        """Waits for messages; the workers that have one."""

    @abc.abstractmethod
    def _listen(self, worker: V) -> None:
        """Handles one message of a worker, or its death."""

    @abc.abstractmethod
    def _dismiss(self, worker: V) -> None:
        """Ends a worker at once."""

    @abc.abstractmethod
    def _lose(self, worker: V, reason: str, *, device_failed: bool = False) -> None:
        """Handles the end of a worker: its death, or that its device failed."""

    @abc.abstractmethod
    def _time_out(self, worker: V) -> None:
        """Ends a worker whose deadline has passed."""

    def _maintain(self) -> None:
        """Called after each wait."""

    def start(self, job: Job) -> None:
        """Starts a job when a worker is free; when jobs are being interrupted, interrupts it at once."""
        if self._is_interrupting:
            self._events.append(JobInterrupted(job.trial))
        else:
            self._accept(job)

    def next_event(self, timeout_s: float) -> EngineEvent | None:
        """Waits for the workers. Returns early when a worker has started up, so that it can be given a job.

        Raises:
            ResourceError: workers die before they start training, one could not write, or a cluster is lost.
            DataError: a worker could not read the data.
            WorkerError: a bug of the program.
        """
        self._discount_suspension(time.monotonic() - self._returned_at)
        until, slots = time.monotonic() + timeout_s, self.slots
        while not self._events and self.slots <= slots:
            began = time.monotonic()
            left = max(0.0, min([until, *(worker.deadline for worker in self._workers)]) - began)
            ready = self._wait(left)
            self._discount_suspension(time.monotonic() - began - left)
            for worker in ready:
                if worker in self._workers:  # another one's end may have ended it too
                    self._listen(worker)
            self._maintain()
            self._end_overdue(ready)
            if not ready and time.monotonic() >= until:
                break
        self._returned_at = time.monotonic()
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        """Ends all workers at once."""
        for worker in list(self._workers):
            self._dismiss(worker)

    def _handle_common(self, worker: V, message: WorkerMessage) -> bool:
        """Handles a message that does not concern a single job. Returns whether it was one."""
        match message:
            case WorkerBroken(reason=reason):
                self._lose(worker, reason, device_failed=True)
            case WorkerError() | ExplainedError():
                raise message
            case Notice() | DataPrepared():
                self._emit(message)
            case _:
                return False
        return True

    def _end_overdue(self, ready: Sequence[V]) -> None:
        """Ends workers whose time is used up, except `ready` ones: they may have more messages."""
        overdue = [worker for worker in self._workers if worker.deadline <= time.monotonic()]
        for worker in [worker for worker in overdue if not any(worker is other for other in ready)]:
            self._time_out(worker)

    def _overdue(self, trial: int) -> JobFailed:
        """What is reported of a job that has used up its time."""
        return JobFailed(trial, f"it took longer than the {self._trial_timeout_s:g} s allowed for a trial")

    def _forget_events(self, trial: int) -> None:
        self._events = deque(event for event in self._events if event.trial != trial)

    def _free_slot(self) -> int:
        return min(set(range(len(self._workers) + 1)) - {worker.slot for worker in self._workers})

    def _discount_suspension(self, late_s: float) -> None:
        """Does not count time in which the whole search was suspended. `late_s`: delay of a wait beyond its timeout."""
        if late_s > _SUSPENDED_S:
            for worker in self._workers:
                worker.extend(late_s)


class WorkerPool(Workers[W]):
    """An engine whose workers train one job each."""

    takes_jobs = True

    @abc.abstractmethod
    def _send(self, worker: W, decision: Decision) -> None: ...

    def advance(self, trial: int) -> None:
        """Lets a job train its next step; when jobs are being interrupted, interrupts it."""
        worker = self._worker_of(trial)
        assert worker is not None, "only a running job can advance"
        assert worker.awaits_decision, "a decision follows a step"
        worker.awaits_decision = False
        worker.clock.resume()
        self._send(worker, Decision.INTERRUPT if self._is_interrupting else Decision.CONTINUE)

    def cancel(self, trial: int) -> None:
        """Ends a job and forgets its events. A worker in the middle of an epoch ends with it."""
        self._forget_events(trial)
        worker = self._worker_of(trial)
        if worker is None:
            return  # the job has ended, and its last event was just forgotten
        if worker.awaits_decision:
            self._send(worker, Decision.CANCEL)
            self._free(worker)
        else:
            self._dismiss(worker)

    def interrupt_jobs(self) -> None:
        """Interrupts jobs after their current epoch. Workers that have not started up are ended: they have nothing to lose."""
        self._is_interrupting = True
        for worker in [worker for worker in self._workers if not worker.is_ready]:
            if worker.job is not None:
                self._events.append(JobInterrupted(worker.job.trial))
            self._dismiss(worker)

    def _handle(self, worker: W, message: WorkerMessage) -> None:
        if self._handle_common(worker, message):
            return
        match message:
            case JobAccepted():
                assert worker.job is not None, "only a job can be accepted"
                worker.has_accepted = True
            case JobStarted(seconds=seconds):
                worker.clock.start(seconds)
                self._events.append(replace(message, worker=worker.slot, gpu=worker.gpu))
            case StepDone():
                worker.awaits_decision = True
                worker.clock.pause()
                self._events.append(message)
            case JobDone() | JobFailed() | JobInterrupted():
                self._free(worker)
                self._events.append(message)

    def _free(self, worker: W) -> None:
        """The worker has no job any more."""
        worker.job = None
        worker.has_accepted = worker.awaits_decision = False
        worker.clock.pause()

    def _time_out(self, worker: W) -> None:
        assert worker.job is not None
        if worker.has_accepted:
            self._events.append(self._overdue(worker.job.trial))
            self._dismiss(worker)
        else:
            self._lose(worker, "it did not respond to its job in the time allowed for a trial")

    def _worker_of(self, trial: int) -> W | None:
        return next((worker for worker in self._workers if worker.job is not None and worker.job.trial == trial), None)
