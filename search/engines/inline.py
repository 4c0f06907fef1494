"""Trains one job at a time in this process."""

from __future__ import annotations

import torch

from model.training import Diverged, Training
from search.engines import EngineEvent, EpochDone, JobDone, JobFailed
from search.trial import Job, Parts, start_training


class InlineEngine:
    """An engine with one slot and no other process."""

    slots = 1

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._job: Job | None = None
        self._training: Training | None = None

    def start(self, job: Job) -> None:
        """Takes a job; the training is set up by the next `next_event`."""
        assert self._job is None, "the inline engine trains one job at a time"
        self._job, self._training = job, None

    def next_event(self) -> EngineEvent:
        """Trains one epoch.

        Raises:
            DataError: the data set is damaged. That ends the search, not the trial.
        """
        assert self._job is not None, "no job was started"
        job = self._job
        try:
            if self._training is None:
                self._training = start_training(job, self._parts)
            if self._training.finished:
                self.close()
                return JobDone(job.trial)
            return EpochDone(job.trial, self._training.run_epoch())
        except (Diverged, ValueError) as error:
            self.close()
            return JobFailed(job.trial, str(error))
        except (MemoryError, torch.OutOfMemoryError) as error:
            self.close()
            return JobFailed(job.trial, f"out of memory: {error}".splitlines()[0])

    def go(self, trial: int) -> None:
        """Nothing to do: the job trains when it is asked for its next event."""

    def drop(self, trial: int) -> None:
        """Forgets the job."""
        self.close()

    def close(self) -> None:
        """Forgets the job, if any."""
        self._job = self._training = None
