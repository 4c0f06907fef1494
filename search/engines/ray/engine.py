"""Trains jobs in actors of a Ray cluster. If a machine is lost, its trial repeats the epochs since its last checkpoint."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray

from data_utils.errors import ExplainedError, ResourceError
from search.definition.definition import Resources
from search.engines.engine import EngineEvent, JobInterrupted, StepDone, WorkerLost
from search.engines.job_run import Decision, JobAccepted, Setup, WorkerError
from search.engines.limits import MAX_STARTUP_FAILURES, Clock, StartupFailures
from search.engines.pool import PoolWorker, WorkerPool
from search.engines.ray.actor import Actor, ActorReady, ChangedFile, Message
from search.engines.ray.cluster import Cluster, Machine, excluding, loss_of, ray_errors, short_text
from search.engines.ray.files import RENEWAL_S, ObjectStore, job_files, renew_token, write_job_file, write_token
from search.engines.ray.worker_count import WorkerCount
from search.events import Notice
from search.trial.clips import TrialClips
from search.trial.job import Job


@dataclass(kw_only=True)
class _Worker(PoolWorker):
    actor: Any
    stream: Any
    """Generator of its messages; None while it has nothing to report."""

    details: ActorReady | None = None
    """None until it is ready."""

    machine: Machine | None = None


class RayEngine(WorkerPool[_Worker]):
    """Requests all its workers at once. Those that fit into the cluster train; others start up when machines join."""

    def __init__(
        self,
        cluster: Cluster,
        trial_clips: TrialClips,
        setup: Setup,
        *,
        workers: int,
        device: str,
        resources: Resources,
        trial_timeout_s: float = math.inf,
        shares_files: bool = True,
    ) -> None:
        """`shares_files`: workers that can see the folder of the search use it; otherwise all files are transferred.

        Raises:
            ResourceError: the folder of the search cannot be written.
        """
        super().__init__(trial_timeout_s, trial_clips.emit)
        self._cluster, self._trial_clips = cluster, trial_clips
        self._setup = replace(setup, folder=setup.folder.absolute(), runs=setup.runs.absolute())
        self._num_workers = workers
        self._amount = cpus, gpus = resources.cpus, resources.gpus if device.startswith("cuda") else 0.0
        self._token = write_token(self._setup.runs) if shares_files else ""
        self._actor_class: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0)(Actor)
        self._arguments = (self._setup, self._token, device)
        self._queue: deque[Job] = deque()
        """Jobs that wait for a free worker."""

        self._startup_failures: defaultdict[Machine | None, StartupFailures] = defaultdict(
            lambda: StartupFailures(
                "workers end before they start training",
                "does each machine have the same Python, packages and islr-search as this one, and enough memory?",
            )
        )
        """By machine; None if the machine is unknown."""

        self._proven: set[Machine] = set()
        """Machines on which a worker has become ready."""

        self._rejections: Counter[int] = Counter()
        """By trial: how many workers ended before they accepted it."""

        self._notices: set[str] = set()
        """Notices that are emitted only once."""

        self._object_store = ObjectStore(trial_clips)
        self._token_renewed = time.monotonic()
        self._worker_count = WorkerCount(cluster, workers, cpus, gpus)
        with ray_errors():
            self._request_workers()

    @property
    def slots(self) -> int:
        """How many workers are ready."""
        return sum(worker.is_ready for worker in self._workers)

    def next_event(self, timeout_s: float) -> EngineEvent | None:
        """Same as `WorkerPool.next_event`."""
        with ray_errors():
            return super().next_event(timeout_s)

    def cancel(self, trial: int) -> None:
        """Same as `WorkerPool.cancel`, for jobs without a worker too."""
        self._queue = deque(job for job in self._queue if job.trial != trial)
        del self._rejections[trial]
        super().cancel(trial)

    def interrupt_jobs(self) -> None:
        """Interrupts jobs after their current epoch, those without a worker at once."""
        self._events.extend(JobInterrupted(job.trial) for job in self._queue)
        self._queue.clear()
        super().interrupt_jobs()

    def close(self) -> None:
        """Ends all workers at once, and the connection."""
        self._is_interrupting = True
        with contextlib.suppress(ray.exceptions.RayError):
            super().close()
        self._cluster.close()
        if self._token:
            (self._setup.runs / self._token).unlink(missing_ok=True)

    def _accept(self, job: Job) -> None:
        self._queue.append(replace(job, folder=job.folder.absolute()))
        with ray_errors():
            self._assign_jobs()

    def _request_workers(self) -> None:
        """Requests the missing workers. They start up when there is room."""
        while len(self._workers) < self._num_workers and not self._is_interrupting and self._cluster.is_reachable:
            if not self.slots and not self._cluster.capacity(*self._amount):  # use proven machines again rather than none
                self._cluster.excluded -= self._proven
            actor_class = self._actor_class.options(**excluding(self._cluster.excluded))
            slot, clock = self._free_slot(), Clock(self._trial_timeout_s)
            actor = actor_class.remote(*self._arguments)
            self._workers.append(_Worker(slot=slot, clock=clock, actor=actor, stream=actor.start_up.remote()))

    def _assign_jobs(self) -> None:
        for worker in self._workers:
            if self._queue and worker.details is not None and worker.job is None and self._cluster.is_reachable:
                self._start_job(worker, worker.details, self._queue.popleft())

    def _start_job(self, worker: _Worker, details: ActorReady, job: Job) -> None:
        worker.job = job
        files = None if details.sees_files else job_files(job)
        data, clips = (None, None) if details.sees_data else self._object_store.data_and_clips(job)
        worker.clock.start()
        worker.stream = worker.actor.start_job.remote(job, files, data, clips)

    def _wait(self, timeout_s: float) -> Sequence[_Worker]:
        by_stream = {worker.stream: worker for worker in self._workers if worker.stream is not None}
        if not by_stream:
            time.sleep(timeout_s)
            return []
        ready, rest = ray.wait(list(by_stream), num_returns=1, timeout=timeout_s)
        if ready and rest:  # `ray.wait` prefers the start of the list: include all others that are ready
            more, _ = ray.wait(rest, num_returns=len(rest), timeout=0)
            ready = [*ready, *more]
        return [by_stream[stream] for stream in ready]

    def _listen(self, worker: _Worker) -> None:
        if worker.stream is None:
            return
        try:
            message: Message = ray.get(next(worker.stream))
        except StopIteration:
            worker.stream = None
            return
        except ray.exceptions.RayError as error:
            self._lose(worker, *loss_of(error, worker.details))
            return
        match message:
            case ActorReady():
                worker.is_ready, worker.details, worker.stream = True, message, None
                worker.machine = self._cluster.machine_of(worker.actor)
                if worker.machine is not None:
                    self._proven.add(worker.machine)
                self._worker_count.restart_timer()
            case JobAccepted():
                self._handle(worker, message)
                assert worker.job is not None, "only a job can be accepted"
                del self._rejections[worker.job.trial]
                self._startup_failures[worker.machine].reset()
            case ChangedFile():
                assert worker.job is not None, "files belong to a job"
                write_job_file(worker.job, message)
            case WorkerError() | ExplainedError() if not worker.is_ready:
                self._dismiss(worker)
                self._exclude(self._cluster.machine_of(worker.actor), message)
            case _:
                if isinstance(message, StepDone):
                    worker.stream = None
                self._handle(worker, message)

    def _send(self, worker: _Worker, decision: Decision) -> None:
        if decision is not Decision.CANCEL:  # an actor drops its job when it gets the next one
            worker.stream = worker.actor.apply.remote(decision)

    def _maintain(self) -> None:
        self._cluster.check()
        if self._token and time.monotonic() - self._token_renewed > RENEWAL_S:
            self._token_renewed = time.monotonic()
            renew_token(self._setup.runs, self._token)
        self._request_workers()
        self._assign_jobs()
        if not self._is_interrupting and (text := self._worker_count.notice(self.slots)):
            self._emit(Notice(text))

    def _lose(self, worker: _Worker, reason: str, machine_lost: bool = False, *, device_failed: bool = False) -> None:
        self._dismiss(worker)
        self._cluster.check(at_once=True)
        job, is_rejection = worker.job, not worker.has_accepted and not machine_lost
        if is_rejection and not self._is_interrupting:
            self._count_failure(worker, reason)
        if job is None:
            return
        if is_rejection:
            self._rejections[job.trial] += 1
        is_to_blame = worker.has_accepted or self._rejections[job.trial] >= MAX_STARTUP_FAILURES
        if is_to_blame and not self._is_interrupting:
            del self._rejections[job.trial]
            gpus = self._amount[1]
            shares = self.slots > 1 and (gpus == 0 or gpus % 1 > 0)
            self._events.append(WorkerLost(job.trial, reason, machine_lost, device_failed, shares_device=shares))
        else:
            self.start(job)  # the worker never had the job, or the job is to be interrupted anyway

    def _count_failure(self, worker: _Worker, reason: str) -> None:
        """A worker ended before it started training: by accident, or because its machine is unfit."""
        machine = worker.machine or self._cluster.machine_of(worker.actor)
        if worker.job is not None:
            if not self._rejections[worker.job.trial]:
                name = worker.job.name
                self._emit(Notice(f"{name} could not be given to a worker; another worker gets it: {reason}"))
            self._object_store = ObjectStore(self._trial_clips)  # what it held may be lost
        try:
            self._startup_failures[machine].add(reason)
        except ResourceError as error:
            self._exclude(machine, error)

    def _exclude(self, machine: Machine | None, error: Exception) -> None:
        """No worker can start on this machine: continues without it.

        Raises:
            Exception: the error, if no other machine is left.
        """
        is_news = machine not in self._cluster.excluded
        if machine is not None:
            self._cluster.excluded.add(machine)
        has_others = self.slots or (machine is not None and self._cluster.capacity(*self._amount))
        may_recover = bool(self._proven) and machine is not None and machine not in self._proven  # a proven one may come back
        if not has_others and not may_recover:
            raise error
        if machine is None or not excluding({machine}):
            self._num_workers = max(1, self._num_workers - 1)
        where = "a machine" if machine is None else f"machine {machine.name}"
        text = f"the search continues without {where}: {short_text(error)}"
        if is_news and text not in self._notices:
            self._notices.add(text)
            self._emit(Notice(text))

    def _free(self, worker: _Worker) -> None:
        super()._free(worker)
        worker.stream = None

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._worker_count.restart_timer()
        if self._cluster.is_reachable:
            ray.kill(worker.actor, no_restart=True)
