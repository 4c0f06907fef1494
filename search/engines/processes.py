"""Trains jobs in worker processes. A worker that dies costs no more than the epoch in progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait

from search.engines.child import Child
from search.engines.engine import WorkerLost
from search.engines.job_run import Decision, JobAccepted, Setup
from search.engines.limits import Clock, startup_failures
from search.engines.pool import STARTUP_S, PoolWorker, WorkerPool
from search.engines.worker import Ready, work
from search.events import Listener
from search.trial.job import Job


@dataclass(kw_only=True)
class _Worker(PoolWorker):
    child: Child


class ProcessEngine(WorkerPool[_Worker]):
    """`slots` worker processes, started when there is a job for them and replaced when they die."""

    slots: int = 0
    """How many jobs can run at once."""

    def __init__(self, setup: Setup, *, slots: int, gpus: tuple[str, ...], trial_timeout_s: float, emit: Listener) -> None:
        """`gpus`: values for the workers' CUDA_VISIBLE_DEVICES, assigned in turn; none for the CPU."""
        super().__init__(trial_timeout_s, emit)
        self.slots = slots
        self._setup = setup
        self._gpus = gpus
        self._startup_failures = startup_failures(gpus)

    def _accept(self, job: Job) -> None:
        worker = next((worker for worker in self._workers if worker.job is None), None) or self._start_worker()
        worker.job = job
        worker.clock.start(0.0 if worker.is_ready else -STARTUP_S)
        worker.child.send(job)

    def _start_worker(self) -> _Worker:
        slot = self._free_slot()
        setup, shares_device = self._setup, self.slots > 1
        if count := len(self._gpus):
            number = slot % count
            setup = replace(setup, gpu=self._gpus[number], workers_per_gpu=len(range(number, self.slots, count)))
            shares_device = setup.workers_per_gpu > 1
        child = Child(work, setup, name=f"worker {slot}")
        clock = Clock(self._trial_timeout_s)
        worker = _Worker(child=child, gpu=setup.gpu, shares_device=shares_device, slot=slot, clock=clock)
        self._workers.append(worker)
        return worker

    def _wait(self, timeout_s: float) -> Sequence[_Worker]:
        ready = wait([worker.child.pipe for worker in self._workers], timeout_s)
        return [worker for worker in self._workers if worker.child.pipe in ready]

    def _listen(self, worker: _Worker) -> None:
        try:
            message = worker.child.pipe.recv()
        except (EOFError, OSError):
            self._lose(worker, worker.child.how_it_ended())
            return
        if isinstance(message, Ready):
            worker.is_ready = True
            worker.clock.start()
        else:
            self._handle(worker, message)
            if isinstance(message, JobAccepted):
                self._startup_failures[worker.gpu].reset()

    def _send(self, worker: _Worker, decision: Decision) -> None:
        worker.child.send(decision)

    def _lose(self, worker: _Worker, reason: str, *, device_failed: bool = False) -> None:
        self._dismiss(worker)
        if device_failed:  # idle workers hold memory of the device, or their part of a broken one
            for idle in [other for other in self._workers if other.job is None]:
                self._dismiss(idle)
        if worker.job is None:
            return
        if not worker.has_accepted:
            self._startup_failures[worker.gpu].add(reason)
        if worker.has_accepted and not self._is_interrupting:
            lost = WorkerLost(worker.job.trial, reason, device_failed=device_failed, gpu=worker.gpu)
            self._events.append(replace(lost, shares_device=worker.shares_device))
        else:
            self.start(worker.job)  # the worker never had the job, or the job is to be interrupted anyway

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.child.end()
