"""Trains jobs in processes of their own. One that dies takes nothing with it but the epoch in progress."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from data_utils.errors import ExplainedError, ResourceError
from search.engines import EngineEvent, JobDone, JobFailed, JobKept, JobStarted, StepDone, WorkerLost
from search.engines.worker import STOPS, Broken, Fault, Ready, Setup, Verdict, work
from search.events import DataPrepared, Listener, Notice
from search.trial import Job

_BOOTS = 4
"""Workers that may die in a row before any of them was up."""

_BOOT_S = 60.0
"""What a worker may take until it is up, before the time of its first trial begins."""

_SUSPENDED_S = 2.0
"""A wait that ends so much later than it should: this process was suspended, and probably its workers with it."""

_SPAWN = multiprocessing.get_context("spawn")


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    slot: int
    job: Job | None = None
    is_up: bool = False
    waits: bool = False
    """It has told of an epoch and waits for the answer."""

    left_s: float = math.inf
    """What is left of the time that its job may take, when its clock was last started."""

    since: float | None = None
    """When its clock was started, by the monotonic clock; None while it waits for an answer or for a job."""

    @property
    def deadline(self) -> float:
        """When its job has had all the time it may have."""
        return math.inf if self.since is None else self.since + self.left_s

    def stop_clock(self) -> None:
        """Its time does not run while it waits."""
        if self.since is not None:
            self.left_s -= time.monotonic() - self.since
            self.since = None


class WorkerFault(Exception):
    """A worker met a fault of the program. Its text is the worker's traceback."""


class ProcessEngine:
    """`slots` worker processes, started when there is a job for them, and again when they die."""

    def __init__(self, setup: Setup, *, slots: int, gpus: tuple[str, ...], trial_timeout_s: float, emit: Listener) -> None:
        """`gpus`: what CUDA_VISIBLE_DEVICES may name, given out in turn; none for the CPU.

        `trial_timeout_s`: what a trial may take, all its epochs together (infinite: as long as it likes); one that takes longer
        is ended from outside.
        """
        self.slots = slots
        self._setup = setup
        self._gpus = gpus
        self._trial_timeout_s = trial_timeout_s
        self._emit = emit
        self._workers: list[_Worker] = []
        self._events: deque[EngineEvent] = deque()
        self._ends = False
        self._failed_boots = 0
        self._looked = time.monotonic()
        """When `next_event` was last left: a suspension may fall between two calls, too."""

    def start(self, job: Job) -> None:
        """Gives the job to an idle worker, or to a new one; when the engine winds down, puts it aside at once."""
        if self._ends:
            self._events.append(JobKept(job.trial))
            return
        worker = next((w for w in self._workers if w.job is None), None) or self._hire()
        worker.job = job
        self._allow(worker, 0.0 if worker.is_up else -_BOOT_S)
        with contextlib.suppress(OSError):  # it has died: its pipe will say so
            worker.pipe.send(job)

    def next_event(self, timeout_s: float) -> EngineEvent | None:
        """Waits for the workers.

        Raises:
            ResourceError: workers die before they are up, or one could not write.
            DataError: a worker could not read the data.
            WorkerFault: a fault of the program.
        """
        self._forgive(time.monotonic() - self._looked)
        until = time.monotonic() + timeout_s
        while not self._events:
            began = time.monotonic()
            left = max(0.0, min([until, *(w.deadline for w in self._workers)]) - began)
            ready = wait([w.pipe for w in self._workers], left)
            self._forgive(time.monotonic() - began - left)
            for worker in [w for w in self._workers if w.pipe in ready]:
                self._listen(worker)
            if not ready:
                self._end_overdue()
                if time.monotonic() >= until:
                    break
        self._looked = time.monotonic()
        return self._events.popleft() if self._events else None

    def _forgive(self, late_s: float) -> None:
        """Time in which the whole search was suspended is no trial's."""
        if late_s > _SUSPENDED_S:
            now = time.monotonic()
            for worker in self._workers:
                worker.since = None if worker.since is None else min(worker.since + late_s, now)

    def go(self, trial: int) -> None:
        """Lets the job train on; when the engine winds down, puts it aside."""
        self._answer(trial, Verdict.KEEP if self._ends else Verdict.GO)

    def drop(self, trial: int) -> None:
        """Ends the job; its worker is free, or, in the middle of an epoch, is ended with it."""
        worker = self._worker_of(trial)
        if not worker.waits:
            self._dismiss(worker)
            return
        self._answer(trial, Verdict.DROP)
        worker.job = worker.since = None

    def wind_down(self) -> None:
        """Jobs that train are put aside after their epoch; those whose worker is not up yet have nothing to lose."""
        if self._ends:
            return
        self._ends = True
        for worker in [w for w in self._workers if w.job is not None and not w.is_up]:
            assert worker.job is not None
            self._events.append(JobKept(worker.job.trial))
            self._dismiss(worker)

    def close(self) -> None:
        """Ends all workers at once."""
        for worker in list(self._workers):
            self._dismiss(worker)

    def _hire(self) -> _Worker:
        slot = min(set(range(self.slots)) - {worker.slot for worker in self._workers})
        gpu = self._gpus[slot % len(self._gpus)] if self._gpus else None
        try:
            here, there = _SPAWN.Pipe()
            process = _SPAWN.Process(target=work, args=(there, replace(self._setup, gpu=gpu)), name=f"worker {slot}")
            with _stops_blocked():
                process.start()
        except OSError as error:
            raise ResourceError("a worker cannot be started", got=error.strerror, hint="try fewer --workers") from error
        there.close()
        self._workers.append(_Worker(process, here, slot))
        return self._workers[-1]

    def _listen(self, worker: _Worker) -> None:
        """Reads one message of a worker, or its end."""
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            self._lose(worker, _how_it_ended(worker.process))
            return
        match message:
            case Ready():
                worker.is_up, self._failed_boots = True, 0
                self._allow(worker, 0.0)
            case Broken(reason=reason):
                self._lose(worker, reason)
            case Fault(text=text):
                raise WorkerFault(text)
            case ExplainedError():
                raise message
            case Notice() | DataPrepared():
                self._emit(message)
            case _:
                self._pass_on(worker, message)

    def _pass_on(self, worker: _Worker, event: EngineEvent) -> None:
        match event:
            case JobStarted(seconds=seconds):
                self._allow(worker, seconds)
                event = replace(event, worker=worker.slot)
            case StepDone():
                worker.waits = True
                worker.stop_clock()
            case JobDone() | JobFailed() | JobKept():
                worker.job = worker.since = None
        self._events.append(event)

    def _allow(self, worker: _Worker, spent_s: float) -> None:
        """The clock of the trial's time starts: when a worker that is up gets it, and anew when it trains."""
        worker.since, worker.left_s = time.monotonic(), self._trial_timeout_s - spent_s

    def _end_overdue(self) -> None:
        for worker in [w for w in self._workers if w.deadline <= time.monotonic()]:
            assert worker.job is not None
            self._events.append(
                JobFailed(worker.job.trial, f"it took longer than the {self._trial_timeout_s:g} s that a trial may")
            )
            self._dismiss(worker)

    def _lose(self, worker: _Worker, reason: str) -> None:
        self._dismiss(worker)
        if not worker.is_up:
            self._failed_boots += 1
            if self._failed_boots >= _BOOTS:
                raise ResourceError(
                    "workers end before they are up",
                    got=f"{self._failed_boots} in a row; the last {reason}",
                    hint="is there enough memory? Try fewer --workers",
                )
        if worker.job is None:
            return
        if worker.is_up and not self._ends:
            self._events.append(WorkerLost(worker.job.trial, reason))
        else:
            self.start(worker.job)  # it never had the job, or there is no time for another

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.kill()
        worker.process.join()
        worker.process.close()

    def _worker_of(self, trial: int) -> _Worker:
        return next(w for w in self._workers if w.job is not None and w.job.trial == trial)

    def _answer(self, trial: int, verdict: Verdict) -> None:
        worker = self._worker_of(trial)
        assert worker.waits, "only an epoch is answered"
        worker.waits, worker.since = False, time.monotonic()
        with contextlib.suppress(OSError):  # it has died: its pipe will say so
            worker.pipe.send(verdict)


def visible_gpus(device: str, count: int) -> tuple[str, ...]:
    """What CUDA_VISIBLE_DEVICES has to be for one worker each, so that `device` is used; none for the CPU.

    `count` is how many GPUs this process sees. `cuda` means all of them, `cuda:N` the one.
    """
    if not device.startswith("cuda"):
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if "CUDA_VISIBLE_DEVICES" in os.environ else []
    seen = [name.strip() for name in named if name.strip()][:count] or [str(number) for number in range(count)]
    _, _, number = device.partition(":")
    return (seen[int(number)],) if number else tuple(seen)


def _how_it_ended(process: Any) -> str:
    process.join(5)  # the pipe closes a moment before the process is gone
    code = process.exitcode
    if code is None:
        return "its pipe broke"
    if code < 0:
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        named = -code in set(signal.Signals)  # signals for one's own use have no name
        return f"it was ended by {signal.Signals(-code).name if named else f'signal {-code}'}{hint}"
    return f"it ended with {code}"


@contextlib.contextmanager
def _stops_blocked() -> Iterator[None]:
    """A process started inside holds signals to stop back until it ignores them; this one gets its own afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
