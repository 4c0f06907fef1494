"""The other end of the engine `processes`: a process that trains one job after the other.

It is told of jobs and answers with what happens to them, over one pipe. When the pipe or its parent is gone, so is it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

from data_utils.errors import ExplainedError
from data_utils.processes import end_with_parent
from search.engines.engine import EngineEvent
from search.engines.job_run import STOP_SIGNALS, Broken, Fault, JobRun, Setup, open_trial_clips, trouble
from search.events import DataPrepared, Notice
from search.trial.clips import TrialClips
from search.trial.job import Job


@dataclass(frozen=True)
class Ready:
    """The worker is up."""


_CUT_OFF = (EOFError, BrokenPipeError, ConnectionResetError)

Message = Ready | Broken | Fault | EngineEvent | Notice | DataPrepared | ExplainedError


def work(pipe: Connection, setup: Setup) -> None:
    """Runs jobs until the pipe closes."""
    for number in STOP_SIGNALS:  # they reach the whole group: the coordinator decides what they mean
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    end_with_parent()
    if setup.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = setup.gpu  # CUDA has not started yet
    with contextlib.suppress(*_CUT_OFF):  # nobody is interested any more
        try:
            pipe.send(Ready())
            trial_clips = open_trial_clips(setup, pipe.send)
            while True:
                job = pipe.recv()
                _train(replace(job, device="cuda") if setup.gpu is not None else job, trial_clips, pipe)
        except _CUT_OFF:
            raise
        except Exception as error:
            pipe.send(trouble(error))


def _train(job: Job, trial_clips: TrialClips, pipe: Connection) -> None:
    run = JobRun(job, trial_clips)
    events = run.begin()
    while True:
        for event in events:
            pipe.send(event)
        if run.ended:
            return
        events = run.answer(pipe.recv())
