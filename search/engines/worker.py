"""The other end of the engine `processes`: a process that trains one job after the other.

It is told of jobs and answers with what happens to them, over one pipe. When the pipe or its parent is gone, so is it.
"""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import assert_never

import torch

from data_utils.errors import DataError, ExplainedError
from data_utils.prepared import fingerprint
from data_utils.processes import end_with_parent
from data_utils.splits import Split
from search.engines import EngineEvent, JobDone, JobFailed, JobKept, JobStarted, StepDone
from search.events import DataPrepared, Notice
from search.parts import Parts, data_store, open_indexed
from search.trial import Job, TrialRun, own_fault


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
class Ready:
    """The worker is up."""


@dataclass(frozen=True)
class Broken:
    """The worker cannot go on; the job can, in another."""

    reason: str


@dataclass(frozen=True)
class Fault:
    """The program has a fault; the text is a traceback."""

    text: str


STOPS = (signal.SIGINT, signal.SIGTERM)
"""Signals that ask a run to stop. A terminal, a service manager or `timeout` sends them to all its processes."""

_CUT_OFF = (EOFError, BrokenPipeError, ConnectionResetError)

Message = Ready | Broken | Fault | EngineEvent | Notice | DataPrepared | ExplainedError


def work(pipe: Connection, setup: Setup) -> None:
    """Runs jobs until the pipe closes."""
    for number in STOPS:  # they reach the whole group: the coordinator decides what they mean
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    end_with_parent()
    if setup.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = setup.gpu  # CUDA has not started yet
    with contextlib.suppress(*_CUT_OFF):  # nobody is interested any more
        try:
            pipe.send(Ready())
            parts = _open(setup, pipe)
            while True:
                job = pipe.recv()
                _train(replace(job, device="cuda") if setup.gpu is not None else job, parts, pipe)
        except torch.AcceleratorError as error:  # CUDA answers nothing more in this process
            pipe.send(Broken(f"the GPU failed: {error}".splitlines()[0]))
        except ExplainedError as error:
            pipe.send(error)
        except _CUT_OFF:
            raise
        except Exception:
            pipe.send(Fault(traceback.format_exc()))


def _open(setup: Setup, pipe: Connection) -> Parts:
    data = open_indexed(setup.folder, setup.runs)
    if fingerprint(data) != setup.fingerprint:
        raise DataError("the data set has changed while a search was working on it", file=setup.folder)
    return Parts(data, setup.split, data_store(setup.runs), pipe.send)


def _train(job: Job, parts: Parts, pipe: Connection) -> None:
    try:
        run = TrialRun(job, parts)
        pipe.send(JobStarted(job.trial, run.made_with, run.done, run.most, run.seconds, run.label_smoothing, run.remark))
        while (step := run.next_step()) is not None:
            pipe.send(StepDone(job.trial, step))
            verdict: Verdict = pipe.recv()
            match verdict:
                case Verdict.GO:
                    run.save()
                case Verdict.DROP:
                    return
                case Verdict.KEEP if run.is_over:
                    pass
                case Verdict.KEEP:
                    run.save(at_once=True)
                    pipe.send(JobKept(job.trial))
                    return
                case _:
                    assert_never(verdict)
        pipe.send(JobDone(job.trial, run.outcome()))
    except Exception as error:
        reason = own_fault(error)
        if not reason:
            raise
        pipe.send(JobFailed(job.trial, reason))
