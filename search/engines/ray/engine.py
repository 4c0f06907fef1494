"""Trains jobs in actors of a Ray cluster. A machine that is lost takes with it what was trained since the last checkpoint."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, replace
from typing import Any

import ray

from data_utils.errors import ExplainedError, ResourceError
from search.definition.definition import Resources
from search.engines.engine import EngineEvent, JobDone, JobFailed, JobInterrupted, JobStarted, StepDone, WorkerLost
from search.engines.job_run import Broken, Fault, Setup, Verdict, WorkerError
from search.engines.limits import BOOTS, Boots, Clock, forgive, too_long
from search.engines.ray.actor import Actor, JobAccepted, KeptFile, Message, Up
from search.engines.ray.cluster import Cluster, Machine, _how_it_ended, _in_short, elsewhere, ray_errors
from search.engines.ray.files import RENEWED_S, Travels, files_of, keep_file, renew_token, written_token
from search.engines.ray.headcount import Headcount
from search.events import Notice
from search.trial.clips import TrialClips
from search.trial.job import Job


@dataclass
class _Worker:
    actor: Any
    slot: int
    stream: Any
    """Where its next message comes from; None while it has nothing to tell."""

    clock: Clock
    """Of its job."""

    up: Up | None = None
    machine: Machine | None = None
    """Where it is; None until it is up."""

    job: Job | None = None
    has_taken: bool = False
    """It has the job in its hands."""

    waits: bool = False
    """It has told of an epoch and waits for the answer."""


class RayEngine:
    """Actors, asked for all at once. Those that the cluster has room for train; others come up when machines join."""

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
        """`shares_files`: workers that see the folder of the search use it; else everything travels over the network.

        Raises:
            ResourceError: the folder of the search cannot be written.
        """
        self._cluster, self._trial_clips, self._emit = cluster, trial_clips, trial_clips.emit
        self._setup = replace(setup, folder=setup.folder.absolute(), runs=setup.runs.absolute())
        self._wanted = workers
        self._asks = cpus, gpus = resources.cpus, resources.gpus if device.startswith("cuda") else 0.0
        self._trial_timeout_s = trial_timeout_s
        self._token = written_token(self._setup.runs) if shares_files else ""
        self._kind: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0)(Actor)
        self._arguments = (self._setup, self._token, device)
        self._workers: list[_Worker] = []
        self._queue: deque[Job] = deque()
        """Jobs whose worker was lost, for the next one that is free."""

        self._events: deque[EngineEvent] = deque()
        self._ends = False
        self._boots: defaultdict[Machine | None, Boots] = defaultdict(
            lambda: Boots(
                "workers end before they have begun to train",
                "has each machine the same Python, packages and islr-search as this one, and enough memory for its workers?",
            )
        )
        """By machine; None: nobody knows which."""

        self._proven: set[Machine] = set()
        """Machines on which a worker was up."""

        self._refused: Counter[int] = Counter()
        """How often workers could not take a trial in their hands."""

        self._said: set[str] = set()
        """Notices that are told once."""

        self._travels = Travels(trial_clips)
        self._renewed = time.monotonic()
        """When the token was."""

        self._looked = time.monotonic()
        """When `next_event` was last left: a suspension may fall between two calls, too."""

        self._headcount = Headcount(cluster, workers, cpus, gpus)
        with ray_errors():
            self._hire()

    @property
    def slots(self) -> int:
        """How many workers are up."""
        return sum(worker.up is not None for worker in self._workers)

    def start(self, job: Job) -> None:
        """Gives the job to an idle worker, or to the next one that is; when the engine winds down, puts it aside at once."""
        if self._ends:
            self._events.append(JobInterrupted(job.trial))
            return
        self._queue.append(replace(job, folder=job.folder.absolute()))
        with ray_errors():
            self._hand_out()

    def next_event(self, timeout_s: float) -> EngineEvent | None:
        """Waits for the workers.

        Raises:
            ResourceError: the cluster is lost, workers die before they are up, or one could not write.
            DataError: a worker could not read the data.
            WorkerFault: a fault of the program.
        """
        self._forgive(time.monotonic() - self._looked)
        until, slots = time.monotonic() + timeout_s, self.slots
        with ray_errors():
            while not self._events and self.slots <= slots:  # one that has come up is to get a job at once
                began = time.monotonic()
                left = max(0.0, min([until, *(worker.clock.deadline for worker in self._workers)]) - began)
                ready = self._ready(left)
                self._forgive(time.monotonic() - began - left)
                for worker in ready:
                    self._listen(worker)
                self._cluster.check()
                self._renew()
                self._hire()
                self._hand_out()
                if not self._ends and (text := self._headcount.news(self.slots)):
                    self._emit(Notice(text))
                self._end_overdue()
                if not ready and time.monotonic() >= until:
                    break
        self._looked = time.monotonic()
        return self._events.popleft() if self._events else None

    def advance(self, trial: int) -> None:
        """Lets the job train on; when the engine winds down, puts it aside."""
        worker = self._worker_of(trial)
        assert worker is not None, "only a job in training goes on"
        assert worker.waits, "only an epoch is answered"
        worker.waits = False
        worker.clock.go_on()
        worker.stream = worker.actor.answer.remote(Verdict.KEEP if self._ends else Verdict.GO)

    def cancel(self, trial: int) -> None:
        """Ends the job, whatever it has told; its worker is free, or, in the middle of an epoch, is ended with it."""
        self._events = deque(event for event in self._events if event.trial != trial)
        self._queue = deque(job for job in self._queue if job.trial != trial)
        del self._refused[trial]
        worker = self._worker_of(trial)
        if worker is None:
            return  # it has ended, and nobody was told yet
        if worker.waits:
            self._free(worker)  # its actor forgets the job when it gets the next one
        else:
            self._dismiss(worker)

    def interrupt_jobs(self) -> None:
        """Jobs that train are put aside after their epoch; those without a worker at once."""
        if self._ends:
            return
        self._ends = True
        self._events.extend(JobInterrupted(job.trial) for job in self._queue)
        self._queue.clear()
        for worker in [worker for worker in self._workers if worker.up is None]:
            self._dismiss(worker)

    def close(self) -> None:
        """Ends all workers at once, and the connection."""
        self._ends = True
        with contextlib.suppress(ray.exceptions.RayError):
            for worker in list(self._workers):
                self._dismiss(worker)
        self._cluster.close()
        if self._token:
            (self._setup.runs / self._token).unlink(missing_ok=True)

    def _hire(self) -> None:
        """Asks for as many workers as were wished for. They come up when there is room."""
        while len(self._workers) < self._wanted and not self._ends and self._cluster.answers:
            if not self.slots and not self._cluster.room(*self._asks):  # better one that has worked before than none
                self._cluster.shunned -= self._proven
            kind = self._kind.options(**elsewhere(self._cluster.shunned))
            slot = min(set(range(self._wanted)) - {worker.slot for worker in self._workers})
            actor = kind.remote(*self._arguments)
            self._workers.append(_Worker(actor, slot, actor.boot.remote(), Clock(self._trial_timeout_s)))

    def _hand_out(self) -> None:
        for worker in self._workers:
            if self._queue and worker.up is not None and worker.job is None and self._cluster.answers:
                self._give(worker, worker.up, self._queue.popleft())

    def _give(self, worker: _Worker, up: Up, job: Job) -> None:
        worker.job, worker.has_taken = job, False
        files = None if up.sees_files else files_of(job)
        data, clips = (None, None) if up.sees_data else self._travels.clips(job)
        worker.clock.start()
        worker.stream = worker.actor.begin.remote(job, files, data, clips)

    def _ready(self, timeout_s: float) -> list[_Worker]:
        """The workers that have something to tell, when there is one."""
        talking = {worker.stream: worker for worker in self._workers if worker.stream is not None}
        if not talking:
            time.sleep(timeout_s)
            return []
        first, rest = ray.wait(list(talking), num_returns=1, timeout=timeout_s)
        if first and rest:  # those at the end of the list have their turn too
            more, _ = ray.wait(rest, num_returns=len(rest), timeout=0)
            first = [*first, *more]
        return [talking[stream] for stream in first]

    def _listen(self, worker: _Worker) -> None:
        """Reads one message of a worker, or its end."""
        if worker.stream is None:
            return
        try:
            message: Message = ray.get(next(worker.stream))
        except StopIteration:
            worker.stream = None
            return
        except ray.exceptions.RayError as error:
            self._lose(worker, *_how_it_ended(error, worker.up))
            return
        match message:
            case Up():
                worker.up, worker.stream = message, None
                worker.machine = self._cluster.machine_of(worker.actor)
                if worker.machine is not None:
                    self._proven.add(worker.machine)
                self._headcount.changed()
            case JobAccepted():
                assert worker.job is not None, "a job is what it takes"
                worker.has_taken = True
                del self._refused[worker.job.trial]
                self._boots[worker.machine].worked()
            case KeptFile():
                assert worker.job is not None, "files are a job's"
                keep_file(worker.job, message)
            case Broken(reason=reason):
                self._lose(worker, reason)
            case Fault() | ExplainedError():
                fault = WorkerError(message.text) if isinstance(message, Fault) else message
                if worker.up is not None:
                    raise fault
                self._dismiss(worker)
                self._do_without(self._cluster.machine_of(worker.actor), fault)
            case Notice():
                self._emit(message)
            case _:
                self._pass_on(worker, message)

    def _pass_on(self, worker: _Worker, event: EngineEvent) -> None:
        match event:
            case JobStarted(seconds=seconds):
                worker.clock.start(seconds)
                event = replace(event, worker=worker.slot)
            case StepDone():
                worker.waits, worker.stream = True, None
                worker.clock.pause()
            case JobDone() | JobFailed() | JobInterrupted():
                self._free(worker)
        self._events.append(event)

    def _end_overdue(self) -> None:
        for worker in [worker for worker in self._workers if worker.clock.deadline <= time.monotonic()]:
            assert worker.job is not None
            self._events.append(JobFailed(worker.job.trial, too_long(self._trial_timeout_s)))
            self._dismiss(worker)

    def _lose(self, worker: _Worker, reason: str, machine_lost: bool = False) -> None:
        self._dismiss(worker)
        self._cluster.check(at_once=True)
        job, is_blameless = worker.job, not worker.has_taken and not machine_lost
        if is_blameless and not self._ends:
            self._count(worker, reason)
        if job is None:
            return
        if is_blameless:
            self._refused[job.trial] += 1
        if (worker.has_taken or self._refused[job.trial] >= BOOTS) and not self._ends:
            del self._refused[job.trial]
            self._events.append(WorkerLost(job.trial, reason, machine_lost))
        else:
            self.start(job)  # it never had the job, or there is no time for another

    def _count(self, worker: _Worker, reason: str) -> None:
        """A worker ended that has not begun to train: an accident, or its machine is not fit for it."""
        machine = worker.machine or self._cluster.machine_of(worker.actor)
        if worker.job is not None:
            if not self._refused[worker.job.trial]:
                self._emit(Notice(f"trial {worker.job.trial} could not be given to a worker, and goes to another: {reason}"))
            self._travels = Travels(self._trial_clips)  # what had been put into the object store may be lost
        try:
            self._boots[machine].failed(reason)
        except ResourceError as error:
            self._do_without(machine, error)

    def _do_without(self, machine: Machine | None, error: Exception) -> None:
        """No worker can be had on a machine: the search goes on without it.

        Raises:
            Exception: the error, if there is nothing else to go on with.
        """
        is_news = machine not in self._cluster.shunned
        if machine is not None:
            self._cluster.shunned.add(machine)
        rest = self.slots or (machine is not None and self._cluster.room(*self._asks))
        hopes = bool(self._proven) and machine is not None and machine not in self._proven  # others may come back
        if not rest and not hopes:
            raise error
        if machine is None or not elsewhere({machine}):
            self._wanted = max(1, self._wanted - 1)
        where = "a machine" if machine is None else f"machine {machine.name}"
        if is_news:
            self._say(f"the search does without {where}: {_in_short(error)}")

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._emit(Notice(text))

    def _renew(self) -> None:
        if self._token and time.monotonic() - self._renewed > RENEWED_S:
            self._renewed = time.monotonic()
            renew_token(self._setup.runs, self._token)

    def _free(self, worker: _Worker) -> None:
        worker.job = worker.stream = None
        worker.waits = False
        worker.clock.stop()

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._headcount.changed()
        if self._cluster.answers:
            ray.kill(worker.actor, no_restart=True)

    def _worker_of(self, trial: int) -> _Worker | None:
        return next((worker for worker in self._workers if worker.job is not None and worker.job.trial == trial), None)

    def _forgive(self, late_s: float) -> None:
        forgive((worker.clock for worker in self._workers), late_s)
