"""Trains jobs in processes of their own. One that dies takes nothing with it but the epoch in progress."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from data_utils.errors import ExplainedError, ResourceError
from search.engines import EngineEvent, EpochDone, JobDone, JobFailed, JobKept, JobStarted, WorkerLost
from search.engines.worker import Broken, Fault, Ready, Setup, Verdict, work
from search.events import DataPrepared, Listener, Notice
from search.trial import Job

_BOOTS = 4
"""Workers that may die in a row before any of them was up."""

_BOOT_S = 60.0
"""What a worker may take until it is up, before the time of its first trial begins."""

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

    deadline: float | None = None
    """When its job has had all the time it may have, by the monotonic clock."""


class WorkerFault(RuntimeError):
    """A worker met a fault of the program. Its text is the worker's traceback."""


class ProcessEngine:
    """`slots` worker processes, started when there is a job for them, and again when they die."""

    def __init__(
        self, setup: Setup, *, slots: int, gpus: tuple[str, ...], trial_timeout_s: float | None, emit: Listener
    ) -> None:
        """`gpus`: what CUDA_VISIBLE_DEVICES may name, given out in turn; none for the CPU.

        `trial_timeout_s`: what a trial may take, all its epochs together; one that takes longer is ended from outside.
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

    def start(self, job: Job) -> None:
        """Gives the job to an idle worker, or to a new one."""
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
        until = time.monotonic() + timeout_s
        while not self._events:
            self._end_overdue()
            if self._events:
                break
            left = min([until, *(w.deadline for w in self._workers if w.deadline is not None)]) - time.monotonic()
            ready = wait([w.pipe for w in self._workers], max(0.0, left))
            for worker in [w for w in self._workers if w.pipe in ready]:
                self._listen(worker)
            if not ready and time.monotonic() >= until:
                return None
        return self._events.popleft()

    def go(self, trial: int) -> None:
        """Lets the job train on; when the engine winds down, puts it aside."""
        self._answer(trial, Verdict.KEEP if self._ends else Verdict.GO)

    def drop(self, trial: int) -> None:
        """Ends the job; its worker is free."""
        self._answer(trial, Verdict.DROP)
        worker = self._worker_of(trial)
        worker.job = worker.deadline = None

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
        here, there = _SPAWN.Pipe()
        gpu = self._gpus[slot % len(self._gpus)] if self._gpus else None
        setup = Setup(self._setup.folder, self._setup.runs, self._setup.split, self._setup.fingerprint, gpu)
        process = _SPAWN.Process(target=work, args=(there, setup), name=f"worker {slot}")
        with _ctrl_c_blocked():
            process.start()
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
            case EpochDone():
                worker.waits = True
            case JobDone() | JobFailed() | JobKept():
                worker.job = worker.deadline = None
        self._events.append(event)

    def _allow(self, worker: _Worker, spent_s: float) -> None:
        """The clock of the trial's time starts: when a worker that is up gets it, and anew when it trains."""
        if self._trial_timeout_s is not None:
            worker.deadline = time.monotonic() + self._trial_timeout_s - spent_s

    def _end_overdue(self) -> None:
        for worker in [w for w in self._workers if w.deadline is not None and w.deadline <= time.monotonic()]:
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
        if self._ends:
            self._events.append(JobKept(worker.job.trial))  # with its last checkpoint
        elif worker.is_up:
            self._events.append(WorkerLost(worker.job.trial, reason))
        else:
            self.start(worker.job)  # it never had the job

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
        worker.waits = False
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
        return f"it was ended by {signal.Signals(-code).name}{hint}"
    return f"it ended with {code}"


@contextlib.contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """A process started inside holds Ctrl-C back until it is ready to ignore it; this one gets its own afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
