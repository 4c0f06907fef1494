"""Trains jobs in processes of their own. One that dies takes nothing with it but the epoch in progress."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import deque
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from data_utils.errors import ExplainedError, ResourceError
from search.engines.engine import EngineEvent, JobDone, JobFailed, JobInterrupted, JobStarted, StepDone, WorkerLost
from search.engines.job_run import Broken, Fault, Setup, Verdict, WorkerError, stop_signals_blocked
from search.engines.limits import Boots, Clock, forgive, too_long
from search.engines.worker import Ready, work
from search.events import DataPrepared, Listener, Notice
from search.trial.job import Job

_BOOT_S = 60.0
"""What a worker may take until it is up, before the time of its first trial begins."""

_SPAWN = multiprocessing.get_context("spawn")


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    slot: int
    clock: Clock
    """Of its job."""

    job: Job | None = None
    is_up: bool = False
    waits: bool = False
    """It has told of an epoch and waits for the answer."""


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
        self._boots = Boots()
        self._looked = time.monotonic()
        """When `next_event` was last left: a suspension may fall between two calls, too."""

    def start(self, job: Job) -> None:
        """Gives the job to an idle worker, or to a new one; when the engine winds down, puts it aside at once."""
        if self._ends:
            self._events.append(JobInterrupted(job.trial))
            return
        worker = next((w for w in self._workers if w.job is None), None) or self._hire()
        worker.job = job
        worker.clock.start(0.0 if worker.is_up else -_BOOT_S)
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
            left = max(0.0, min([until, *(w.clock.deadline for w in self._workers)]) - began)
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
        forgive((worker.clock for worker in self._workers), late_s)

    def advance(self, trial: int) -> None:
        """Lets the job train on; when the engine winds down, puts it aside."""
        self._answer(trial, Verdict.KEEP if self._ends else Verdict.GO)

    def cancel(self, trial: int) -> None:
        """Ends the job, whatever it has told; its worker is free, or, in the middle of an epoch, is ended with it."""
        self._events = deque(event for event in self._events if event.trial != trial)
        worker = next((w for w in self._workers if w.job is not None and w.job.trial == trial), None)
        if worker is None:
            return  # it has ended, and nobody was told yet
        if not worker.waits:
            self._dismiss(worker)
            return
        self._answer(trial, Verdict.DROP)
        worker.job = None
        worker.clock.stop()

    def interrupt_jobs(self) -> None:
        """Jobs that train are put aside after their epoch; those whose worker is not up yet have nothing to lose."""
        if self._ends:
            return
        self._ends = True
        for worker in [w for w in self._workers if w.job is not None and not w.is_up]:
            assert worker.job is not None
            self._events.append(JobInterrupted(worker.job.trial))
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
            with stop_signals_blocked():
                process.start()
        except OSError as error:
            raise ResourceError("a worker cannot be started", got=error.strerror, hint="try fewer --workers") from error
        there.close()
        self._workers.append(_Worker(process, here, slot, Clock(self._trial_timeout_s)))
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
                worker.is_up = True
                self._boots.worked()
                worker.clock.start()
            case Broken(reason=reason):
                self._lose(worker, reason)
            case Fault(text=text):
                raise WorkerError(text)
            case ExplainedError():
                raise message
            case Notice() | DataPrepared():
                self._emit(message)
            case _:
                self._pass_on(worker, message)

    def _pass_on(self, worker: _Worker, event: EngineEvent) -> None:
        match event:
            case JobStarted(seconds=seconds):
                worker.clock.start(seconds)
                event = replace(event, worker=worker.slot)
            case StepDone():
                worker.waits = True
                worker.clock.pause()
            case JobDone() | JobFailed() | JobInterrupted():
                worker.job = None
                worker.clock.stop()
        self._events.append(event)

    def _end_overdue(self) -> None:
        for worker in [w for w in self._workers if w.clock.deadline <= time.monotonic()]:
            assert worker.job is not None
            self._events.append(JobFailed(worker.job.trial, too_long(self._trial_timeout_s)))
            self._dismiss(worker)

    def _lose(self, worker: _Worker, reason: str) -> None:
        self._dismiss(worker)
        if not worker.is_up:
            self._boots.failed(reason)
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
        worker.waits = False
        worker.clock.go_on()
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
        return f"it was killed by {signal.Signals(-code).name if named else f'signal {-code}'}{hint}"
    return f"it exited with code {code}"
