"""Trains one job at a time in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator

from data_utils.errors import ResourceError
from model.device_errors import failure_text, is_device_failure, is_out_of_memory
from search.engines.devices import free_memory
from search.engines.engine import EngineEvent, JobInterrupted, WorkerLost
from search.engines.job_run import Decision, JobRun
from search.trial.clips import TrialClips
from search.trial.job import Job


class InlineEngine:
    """An engine with one slot and no other process."""

    slots = 1
    takes_jobs = True

    def __init__(self, trial_clips: TrialClips) -> None:
        self._trial_clips = trial_clips
        self._job: Job | None = None
        self._run: JobRun | None = None
        self._events: Iterator[EngineEvent] = iter(())
        self._is_interrupting = False

    def start(self, job: Job) -> None:
        """Accepts a job. The next `next_event` sets up its training."""
        assert self._job is None, "the inline engine trains one job at a time"
        self._job, self._run = job, None

    def next_event(self, timeout_s: float) -> EngineEvent | None:
        """Trains one epoch.

        Raises:
            ResourceError: the GPU failed, and this process cannot use it any more.
        """
        if self._job is None:
            time.sleep(timeout_s)
            return None
        try:
            return self._step(self._job)
        except Exception as error:
            if not is_device_failure(error):
                raise
            event = self._lost(self._job, error)
        free_memory()
        return event

    def _step(self, job: Job) -> EngineEvent:
        if self._run is None:
            if self._is_interrupting:
                self.close()
                return JobInterrupted(job.trial)
            self._run = JobRun(job, self._trial_clips)
            self._events = self._run.start()
        elif self._is_interrupting:
            self._events = self._run.apply(Decision.INTERRUPT)
        event = next(self._events)
        if self._run.has_ended:
            self.close()
        return event

    def _lost(self, job: Job, error: Exception) -> EngineEvent:
        """Drops the job, which can start again in this process if only memory ran out."""
        self.close()
        if is_out_of_memory(error):
            return (
                JobInterrupted(job.trial)
                if self._is_interrupting
                else WorkerLost(job.trial, failure_text(error), device_failed=True)
            )
        raise ResourceError(
            f"the GPU failed in {job.name}",
            got=str(error).splitlines()[0],
            hint="the same command resumes it; with `--engine processes` a new worker does so automatically",
        ) from error

    def advance(self, trial: int) -> None:
        """Writes a checkpoint if one is due. The next `next_event` trains the job."""
        if self._run is not None:
            self._events = self._run.apply(Decision.CONTINUE)

    def cancel(self, trial: int) -> None:
        """Drops the job."""
        self.close()

    def interrupt_jobs(self) -> None:
        """The next event of the job is `JobInterrupted`, unless it has trained all its epochs."""
        self._is_interrupting = True

    def close(self) -> None:
        """Drops the job, if any."""
        self._job = self._run = None
        self._events = iter(())
