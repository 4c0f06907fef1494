"""What every worker does, wherever it is: it opens the data, trains a job epoch by epoch, and says what went wrong."""

from __future__ import annotations

import contextlib
import enum
import signal
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import torch

from data_utils.errors import DataError, ExplainedError
from data_utils.prepared import fingerprint
from data_utils.splits import Split
from search.engines.engine import EngineEvent, JobDone, JobFailed, JobInterrupted, JobStarted, StepDone
from search.events import Listener
from search.trial.clips import TrialClips, data_store, open_indexed
from search.trial.job import Job
from search.trial.trial_run import TrialRun, own_fault

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that ask a run to stop. A terminal, a service manager or `timeout` sends them to all its processes."""


class Verdict(enum.Enum):
    """What the coordinator answers to an epoch."""

    GO = enum.auto()
    DROP = enum.auto()
    KEEP = enum.auto()
    """Put the job aside, with a checkpoint."""


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know before its first job. Small: the worker reads the data set itself."""

    folder: Path
    runs: Path
    split: Split
    fingerprint: str
    """Of the data set that the study was checked against."""

    gpu: str | None
    """The one GPU that this worker may see, as CUDA_VISIBLE_DEVICES names it; None: leave it as it is."""


@dataclass(frozen=True)
class Broken:
    """The worker cannot go on; the job can, in another."""

    reason: str


@dataclass(frozen=True)
class Fault:
    """The program has a fault; the text is a traceback."""

    text: str


class WorkerError(Exception):
    """A worker met a fault of the program. Its text is the worker's traceback."""


def trouble(error: Exception) -> Broken | Fault | ExplainedError:
    """What a worker tells of an error that is not a trial's own. To be called while it is handled."""
    if isinstance(error, torch.AcceleratorError):  # CUDA answers nothing more in this process
        return Broken(f"the GPU failed: {error}".splitlines()[0])
    return error if isinstance(error, ExplainedError) else Fault(traceback.format_exc())


def open_trial_clips(setup: Setup, emit: Listener) -> TrialClips:
    """The clips that a worker trains on, read from the folders of the search.

    Raises:
        DataError: the data set is not there, or not the one that the study was checked against.
    """
    data = open_indexed(setup.folder, setup.runs)
    if fingerprint(data) != setup.fingerprint:
        raise DataError("the data set has changed while a search was working on it", file=setup.folder)
    return TrialClips(data, setup.split, data_store(setup.runs), emit)


class JobRun:
    """One job in a worker's hands. What happens to it comes step by step; a step is trained when it is asked for."""

    def __init__(self, job: Job, trial_clips: TrialClips) -> None:
        self._job, self._trial_clips = job, trial_clips
        self._run: TrialRun | None = None
        self.ended = False
        """Whether it has done, failed, or was put aside or dropped."""

    @property
    def is_over(self) -> bool:
        """Whether all epochs have run and were told."""
        return self._run is not None and self._run.is_over

    def begin(self) -> Iterator[EngineEvent]:
        """The start, and the first epoch.

        Raises:
            ExplainedError, torch.AcceleratorError: the worker cannot go on.
        """
        return self._guarded(self._begun())

    def answer(self, verdict: Verdict) -> Iterator[EngineEvent]:
        """What follows an epoch. What is to be kept is kept before this returns.

        Raises: as `begin`.
        """
        run = self._run
        assert run is not None, "a job is begun first"
        try:
            match verdict:
                case Verdict.GO:
                    run.save()
                case Verdict.DROP:
                    self.ended = True
                    return iter(())
                case Verdict.KEEP if run.is_over:
                    pass
                case Verdict.KEEP:
                    run.save(at_once=True)
                    self.ended = True
                    return iter([JobInterrupted(self._job.trial)])
                case _:
                    assert_never(verdict)
        except Exception as error:
            return iter([self._failed(error)])
        return self._guarded(self._trained(run))

    def _begun(self) -> Iterator[EngineEvent]:
        self._run = run = TrialRun(self._job, self._trial_clips)
        yield JobStarted(
            self._job.trial, run.made_with, run.steps_done, run.max_steps, run.seconds, run.label_smoothing, run.resume_note
        )
        yield from self._trained(run)

    def _trained(self, run: TrialRun) -> Iterator[EngineEvent]:
        step = run.next_step()
        yield JobDone(self._job.trial, run.outcome()) if step is None else StepDone(self._job.trial, step)

    def _guarded(self, events: Iterator[EngineEvent]) -> Iterator[EngineEvent]:
        try:
            for event in events:
                self.ended = isinstance(event, JobDone)
                yield event
        except Exception as error:
            yield self._failed(error)

    def _failed(self, error: Exception) -> JobFailed:
        reason = own_fault(error)
        if not reason:
            raise error
        self.ended = True
        return JobFailed(self._job.trial, reason)


@contextlib.contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """A process started inside holds signals to stop back until it ignores them; this one gets its own afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
