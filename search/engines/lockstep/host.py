"""The process of the engine `lockstep` that trains several jobs at once, round by round.

It receives a round, trains an epoch of every job in it, and sends the list of their events. Between two rounds it waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection

from model.device_errors import failure_text, is_out_of_memory
from model.lockstep import run_epochs, stack_key
from model.training import Diverged, Training
from search.engines.devices import free_memory
from search.engines.engine import EngineEvent, JobStarted, WorkerLost
from search.engines.job_run import Decision, JobRun, Setup
from search.engines.lockstep.shared_clips import shared
from search.engines.worker import on_own_gpu, serve
from search.events import Listener, Notice
from search.trial.checkpoint import SharedPace
from search.trial.clips import TrialClips
from search.trial.files import CHECKPOINT
from search.trial.job import Job


@dataclass(frozen=True, kw_only=True)
class Round:
    """What a host does before it answers: it drops jobs, advances others and starts new ones."""

    dropped: tuple[int, ...]
    advanced: tuple[int, ...]
    decision: Decision
    """For all advanced jobs: `CONTINUE` or `INTERRUPT`."""

    started: tuple[Job, ...]
    trains: bool
    """Whether they train an epoch. If not, jobs only report steps of their checkpoints."""


@dataclass(frozen=True)
class RoundAccepted:
    """The host has received its round. If it dies from now on, a job may be to blame."""


@dataclass(frozen=True)
class RoundDone:
    """All jobs of the round have trained their epoch, or have ended."""

    events: tuple[EngineEvent, ...]


def work(pipe: Connection, setup: Setup, *, width: int) -> None:
    """Trains rounds until the pipe closes. `width`: the most trainings in one stack."""
    serve(pipe, setup, partial(_train_rounds, width=width))


def _train_rounds(pipe: Connection, trial_clips: TrialClips, *, width: int) -> None:
    host = Host(trial_clips, width, pipe.send)
    while True:
        work = pipe.recv()
        pipe.send(RoundAccepted())
        pipe.send(RoundDone(tuple(host.run(work))))


class Host:
    """Jobs that train at once in this process."""

    def __init__(self, trial_clips: TrialClips, width: int, emit: Listener) -> None:
        """`width`: the most trainings in one stack."""
        self._trial_clips = shared(trial_clips)
        self._width = width
        self._emit = emit
        self._pace = SharedPace()
        self._jobs: dict[int, JobRun] = {}
        self._streams: dict[int, Iterator[EngineEvent]] = {}
        """Where the next event of a job comes from, if it needs no decision before."""

    def run(self, work: Round) -> list[EngineEvent]:
        """Does what a round says. The events of its jobs, job by job.

        Raises:
            ExplainedError: the process cannot continue.
            Exception: its device failed (`model.device_errors`), or a bug.
        """
        for trial in work.dropped:
            self._forget(trial)
        events: dict[int, list[EngineEvent]] = {trial: [] for trial in work.advanced}
        with self._pace.together():
            for trial in work.advanced:
                if trial not in self._streams or work.decision is Decision.INTERRUPT:
                    self._streams[trial] = self._jobs[trial].apply(work.decision)
        for job in sorted(work.started, key=lambda job: not (job.folder / CHECKPOINT).exists()):  # they bring their clock
            events[job.trial] = self._start(on_own_gpu(job))
        if work.trains:
            self._train(events)
        for trial, found in events.items():
            has_ended = bool(found) and not isinstance(found[-1], JobStarted)
            if not has_ended and (work.trains or not self._jobs[trial].due):
                found += self._next(trial, self._streams.pop(trial))
        for trial in [trial for trial, run in self._jobs.items() if run.has_ended]:
            self._forget(trial)
        return [event for found in events.values() for event in found]

    def _start(self, job: Job) -> list[EngineEvent]:
        if job.first_order is None:
            job = replace(job, first_order=self._common_clock())
        self._jobs[job.trial] = run = JobRun(job, self._trial_clips, self._pace)
        self._streams[job.trial] = stream = run.start()
        return self._next(job.trial, stream)

    def _forget(self, trial: int) -> None:
        self._jobs.pop(trial, None)
        self._streams.pop(trial, None)

    def _common_clock(self) -> int:
        """Which of the study's shared epochs most trainings here train next: one that begins with it joins their stack."""
        clocks = [training.clock for run in self._jobs.values() for training in run.next_to_train]
        [(clock, _)] = Counter(clock for clock in clocks if clock is not None).most_common(1) or [(0, 0)]
        return clock

    def _next(self, trial: int, stream: Iterator[EngineEvent]) -> list[EngineEvent]:
        """The next event of a job."""
        try:
            return [next(stream)]
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = failure_text(error)
        return self._out_of_memory(trial, reason)

    def _train(self, events: Mapping[int, list[EngineEvent]]) -> None:
        """Trains what is due, those that can share a stack together. Adds the events of jobs that end by it."""
        groups: dict[Hashable, list[tuple[int, Training]]] = {}
        for trial in events:
            for training in self._jobs[trial].due if trial in self._jobs else ():
                groups.setdefault(stack_key(training), []).append((trial, training))
        for group in groups.values():
            while group:
                stack = group[: self._width]
                ended = self._train_stack(stack)
                if ended is not None:
                    del group[: len(stack)]
                    for event in ended:
                        events[event.trial].append(event)

    def _train_stack(self, stack: Sequence[tuple[int, Training]]) -> list[EngineEvent] | None:
        """Trains an epoch of one stack; the ends of jobs. None if memory ran out: then stacks are narrower from now on."""
        try:
            results = run_epochs([training for _, training in stack], self._width)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = failure_text(error)
        else:
            diverged = [(trial, one) for (trial, _), one in zip(stack, results, strict=True) if isinstance(one, Diverged)]
            return [self._jobs[trial].failed(error) for trial, error in dict(diverged).items() if self._is_alive(trial)]
        free_memory()
        if self._width == 1:
            trial = stack[0][0]
            return self._out_of_memory(trial, reason) if self._is_alive(trial) else []
        before, self._width = self._width, -(-self._width // 2)
        self._emit(Notice(f"stacks of {before} trainings do not fit into memory; from now on {self._width} ({reason})"))
        return None

    def _is_alive(self, trial: int) -> bool:
        return trial in self._jobs and not self._jobs[trial].has_ended

    def _out_of_memory(self, trial: int, reason: str) -> list[EngineEvent]:
        """Drops a job that has no room even alone."""
        self._forget(trial)
        free_memory()
        return [WorkerLost(trial, reason, device_failed=True)]
