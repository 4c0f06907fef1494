"""What every worker does, in any engine: open the data, train a job epoch by epoch, and report errors."""

from __future__ import annotations

import contextlib
import enum
import signal
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from data_utils.errors import DataError, ExplainedError
from data_utils.prepared import fingerprint
from data_utils.splits import Split
from model.device_errors import failure_text, is_device_failure
from model.training import Training
from search.engines.engine import EngineEvent, JobDone, JobFailed, JobInterrupted, JobStarted, StepDone
from search.events import Listener
from search.trial.checkpoint import Pace
from search.trial.clips import TrialClips, data_store, open_indexed
from search.trial.job import Job
from search.trial.trial_run import TrialRun, failure_reason

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that ask a run to stop. A terminal, a service manager or `timeout` sends them to all processes of the run."""


class Decision(enum.Enum):
    """The coordinator's decision after a step."""

    CONTINUE = enum.auto()
    CANCEL = enum.auto()
    INTERRUPT = enum.auto()
    """Stop the job with a checkpoint."""


@dataclass(frozen=True)
class Setup:
    """What a worker needs before its first job. It is small: the worker reads the data set itself."""

    folder: Path
    """The data set's."""

    runs: Path
    split: Split
    fingerprint: str
    """Of the data set that the study was checked against."""

    gpu: str | None
    """The only GPU that this worker may see, as in CUDA_VISIBLE_DEVICES; None leaves the variable as it is."""

    workers_per_gpu: int = 1
    """How many workers, this one included, share its GPU."""


@dataclass(frozen=True)
class WorkerBroken:
    """Memory ran out or the device failed. The worker ends; another one can resume the job."""

    reason: str


@dataclass(frozen=True)
class JobAccepted:
    """The worker has received its job. If it dies from now on, the job may be to blame."""


class WorkerError(Exception):
    """A worker met a bug of the program. The text is the worker's traceback."""


def error_message(error: Exception) -> WorkerBroken | WorkerError | ExplainedError:
    """The message that reports an error other than the trial's own. Call it while the error is being handled."""
    if is_device_failure(error):
        return WorkerBroken(failure_text(error))
    return error if isinstance(error, ExplainedError) else WorkerError(traceback.format_exc())


def open_trial_clips(setup: Setup, emit: Listener) -> TrialClips:
    """The clips that a worker trains on, read from the search's folders.

    Raises:
        DataError: the data set is missing, or differs from the one that the study was checked against.
    """
    data = open_indexed(setup.folder, setup.runs, kind=setup.split.kind)
    if fingerprint(data) != setup.fingerprint:
        raise DataError("the data set has changed while a search was using it", file=setup.folder)
    return TrialClips(data, setup.split, data_store(setup.runs), emit)


class JobRun:
    """One job in a worker. Its events come from iterators: a step is trained when its event is requested."""

    def __init__(self, job: Job, trial_clips: TrialClips, pace: Pace | None = None) -> None:
        """`pace`: see `TrialRun`."""
        self._job, self._trial_clips, self._pace = job, trial_clips, pace
        self._run: TrialRun | None = None
        self.has_ended = False
        """Whether it is done, failed, interrupted or canceled."""

    @property
    def due(self) -> list[Training]:
        """See `TrialRun.due`. Once they have trained an epoch, the job's next event comes without training."""
        return [] if self._run is None or self.has_ended else self._run.due

    @property
    def next_to_train(self) -> list[Training]:
        """See `TrialRun.next_to_train`."""
        return [] if self._run is None or self.has_ended else self._run.next_to_train

    def start(self) -> Iterator[EngineEvent]:
        """Sets the job up and trains its first step.

        Raises:
            ExplainedError: the worker cannot continue.
            Exception: its device failed (`model.device_errors`), or a bug.
        """
        return self._guarded(self._started())

    def apply(self, decision: Decision) -> Iterator[EngineEvent]:
        """Carries out the decision on a step. A checkpoint is written before this returns.

        Raises: same as `start`, when its events are asked for.
        """
        run = self._run
        assert run is not None, "a decision follows a step"
        try:
            match decision:
                case Decision.CONTINUE:
                    run.save()
                case Decision.CANCEL:
                    self.has_ended = True
                    return iter(())
                case Decision.INTERRUPT if run.is_complete:
                    pass  # only the outcome is missing
                case Decision.INTERRUPT:
                    run.save(at_once=True)
                    self.has_ended = True
                    return iter([JobInterrupted(self._job.trial)])
                case _:
                    assert_never(decision)
        except Exception as error:
            return self._guarded(_raising(error))
        return self._guarded(self._next_step(run))

    def _started(self) -> Iterator[EngineEvent]:
        self._run = run = TrialRun(self._job, self._trial_clips, self._pace)
        done, most, notes = run.steps_done, run.max_steps, (run.resume_note, run.path_note)
        yield JobStarted(
            self._job.trial, run.made_with, done, most, run.seconds, run.label_smoothing, *notes, first_order=run.first_order
        )
        yield from self._next_step(run)

    def _next_step(self, run: TrialRun) -> Iterator[EngineEvent]:
        step = run.next_step()
        yield JobDone(self._job.trial, run.outcome()) if step is None else StepDone(self._job.trial, step, run.stack)

    def _guarded(self, events: Iterator[EngineEvent]) -> Iterator[EngineEvent]:
        """The events; an error of the trial's own becomes `JobFailed`."""
        try:
            for event in events:
                self.has_ended = isinstance(event, JobDone)
                yield event
        except Exception as error:
            yield self.failed(error)

    def failed(self, error: Exception) -> JobFailed:
        """Ends the job with an error of its own.

        Raises:
            Exception: the error, if it is another one.
        """
        reason = failure_reason(error)
        if not reason:
            raise error
        self.has_ended = True
        return JobFailed(self._job.trial, reason)


def _raising(error: Exception) -> Iterator[EngineEvent]:
    raise error
    yield  # makes it an iterator


@contextlib.contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Blocks stop signals. A process started inside inherits the block until it ignores them; this one gets them afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
