"""The worker process of the engine `processes`. It trains one job after the other.

It receives jobs and decisions and sends events over one pipe. It ends when the pipe closes or its parent process ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

from data_utils.processes import end_with_parent
from search.engines.devices import warm_up
from search.engines.job_run import STOP_SIGNALS, JobAccepted, JobRun, Setup, error_message, open_trial_clips
from search.trial.clips import TrialClips
from search.trial.job import Job


@dataclass(frozen=True)
class Ready:
    """The worker has started up, and its device computes."""


_PIPE_CLOSED = (EOFError, BrokenPipeError, ConnectionResetError)


def work(pipe: Connection, setup: Setup) -> None:
    """Runs jobs until the pipe closes."""
    serve(pipe, setup, _train_jobs)


def serve(pipe: Connection, setup: Setup, train: Callable[[Connection, TrialClips], None]) -> None:
    """Starts up, opens the clips and trains with `train` until the pipe closes. Sends what goes wrong."""
    for number in STOP_SIGNALS:  # they are sent to the whole process group; the coordinator decides how to stop
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    end_with_parent()
    if setup.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = setup.gpu  # CUDA has not been initialized yet
    with contextlib.suppress(*_PIPE_CLOSED):
        try:
            warm_up("cpu" if setup.gpu is None else "cuda", setup.workers_per_gpu)
            pipe.send(Ready())
            train(pipe, open_trial_clips(setup, pipe.send))
        except _PIPE_CLOSED:
            raise
        except Exception as error:
            pipe.send(error_message(error))


def on_own_gpu(job: Job) -> Job:
    """The job, on the only GPU that this process sees if its parent has chosen one."""
    return replace(job, device="cuda") if job.device.startswith("cuda") else job


def _train_jobs(pipe: Connection, trial_clips: TrialClips) -> None:
    while True:
        job = pipe.recv()
        pipe.send(JobAccepted())
        _train(on_own_gpu(job), trial_clips, pipe)


def _train(job: Job, trial_clips: TrialClips, pipe: Connection) -> None:
    run = JobRun(job, trial_clips)
    events = run.start()
    while True:
        for event in events:
            pipe.send(event)
        if run.has_ended:
            return
        events = run.apply(pipe.recv())
