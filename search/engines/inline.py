"""Trains one job at a time in this process."""

from __future__ import annotations

import time

import torch

from data_utils.errors import ResourceError
from search.engines import EngineEvent, JobDone, JobFailed, JobKept, JobStarted, StepDone
from search.parts import Parts
from search.trial import Job, TrialRun, own_fault


class InlineEngine:
    """An engine with one slot and no other process."""

    slots = 1

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._job: Job | None = None
        self._run: TrialRun | None = None
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
        trial = self._job.trial
        try:
            return self._step(self._job)
        except torch.AcceleratorError as error:  # CUDA answers nothing more in this process
            raise ResourceError(
                f"the GPU failed in trial {trial}",
                got=str(error).splitlines()[0],
                hint="the same command goes on with this trial; with `--engine processes` a worker would do so by itself",
            ) from error
        except Exception as error:
            reason = own_fault(error)
            if not reason:
                raise
            self.close()
            return JobFailed(trial, reason)

    def _step(self, job: Job) -> EngineEvent:
        if self._ends and not (self._run is not None and self._run.is_over):
            if self._run is not None:
                self._run.save(at_once=True)
            self.close()
            return JobKept(job.trial)
        if self._run is None:
            self._run = run = TrialRun(job, self._parts)
            return JobStarted(job.trial, run.made_with, run.done, run.most, run.seconds, run.label_smoothing, run.remark)
        step = self._run.next_step()
        if step is None:
            outcome = self._run.outcome()
            self.close()
            return JobDone(job.trial, outcome)
        return StepDone(job.trial, step)

    def go(self, trial: int) -> None:
        """Keeps the epoch, if it is time for a checkpoint. The job trains when it is asked for its next event."""
        if self._run is not None:
            self._run.save()

    def drop(self, trial: int) -> None:
        """Forgets the job."""
        self.close()

    def wind_down(self) -> None:
        """The next event is that the job was put aside."""
        self._ends = True

    def close(self) -> None:
        """Forgets the job, if any."""
        self._job = self._run = None
