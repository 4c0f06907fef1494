"""Trains one job at a time in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from data_utils.errors import ResourceError
from search.engines.engine import EngineEvent, JobInterrupted
from search.engines.job_run import JobRun, Verdict
from search.trial.clips import TrialClips
from search.trial.job import Job


class InlineEngine:
    """An engine with one slot and no other process."""

    slots = 1

    def __init__(self, trial_clips: TrialClips) -> None:
        self._trial_clips = trial_clips
        self._job: Job | None = None
        self._run: JobRun | None = None
        self._events: Iterator[EngineEvent] = iter(())
        self._ends = False

    def start(self, job: Job) -> None:
        """Takes a job; the training is set up by the next `next_event`."""
        assert self._job is None, "the inline engine trains one job at a time"
        self._job, self._run = job, None

    def next_event(self, timeout_s: float) -> EngineEvent | None:
        """Trains one epoch."""
        if self._job is None:
            time.sleep(timeout_s)
            return None
        try:
            return self._step(self._job)
        except torch.AcceleratorError as error:  # CUDA answers nothing more in this process
            raise ResourceError(
                f"the GPU failed in trial {self._job.trial}",
                got=str(error).splitlines()[0],
                hint="the same command goes on with this trial; with `--engine processes` a worker would do so by itself",
            ) from error

    def _step(self, job: Job) -> EngineEvent:
        if self._run is None:
            if self._ends:
                self.close()
                return JobInterrupted(job.trial)
            self._run = JobRun(job, self._trial_clips)
            self._events = self._run.begin()
        elif self._ends and not self._run.is_over:
            self._events = self._run.answer(Verdict.KEEP)
        event = next(self._events)
        if self._run.ended:
            self.close()
        return event

    def advance(self, trial: int) -> None:
        """Keeps the epoch, if it is time for a checkpoint. The job trains when it is asked for its next event."""
        if self._run is not None:
            self._events = self._run.answer(Verdict.GO)

    def cancel(self, trial: int) -> None:
        """Forgets the job."""
        self.close()

    def interrupt_jobs(self) -> None:
        """The next event is that the job was put aside."""
        self._ends = True

    def close(self) -> None:
        """Forgets the job, if any."""
        self._job = self._run = None
        self._events = iter(())
