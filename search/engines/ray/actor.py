"""A worker of the engine `ray`: an actor that trains one job after the other, on whatever machine has room for it.

Each of its methods answers with a stream of messages. It knows nothing of Ray: what comes is given to it as values.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch

from data_utils.errors import ExplainedError, ResourceError
from data_utils.files import write_atomically
from data_utils.landmarks import NUM_FEATURES
from data_utils.prepared import ClipSet, DataSet, clip_set
from model.config import ModelConfig, TrainConfig
from model.training import Training
from search.engines.engine import EngineEvent
from search.engines.job_run import STOP_SIGNALS, Broken, Fault, JobRun, Setup, Verdict, open_trial_clips, trouble
from search.errors import os_errors
from search.events import DataPrepared, Event, Notice
from search.trial.clips import TrialClips, data_store
from search.trial.job import Job
from search.trial.machine import THREADS

_QUIET_S = 7 * 86400.0
"""A folder of another container's worker in which nothing has happened for so long was left by one that was killed."""


@dataclass(frozen=True)
class Up:
    """The worker is up."""

    name: str
    """Where it is, for people."""

    sees_files: bool
    """Whether it can read and write in the folder of the search; else the files of its jobs travel."""

    sees_data: bool
    """Whether it reads the data set; else prepared clips travel."""


@dataclass(frozen=True)
class JobAccepted:
    """The worker has the job. If it dies from now on, the job may be to blame."""


@dataclass(frozen=True)
class KeptFile:
    """A file of the job's folder, new or changed."""

    name: str
    content: bytes


Message = Up | JobAccepted | KeptFile | Broken | Fault | EngineEvent | Notice | ExplainedError


class Actor:
    """Trains jobs. It lives as long as the run that asked for it."""

    def __init__(self, setup: Setup, token: str, device: str) -> None:
        """`token`: a file of this name lies in the folder of the search, and holds its name; empty: behave as if it did not."""
        for number in STOP_SIGNALS:  # they may reach all processes of a machine: the coordinator decides what they mean
            signal.signal(number, signal.SIG_IGN)
        self._setup, self._token, self._device = setup, token, device
        self._trial_clips: TrialClips | None = None
        self._scratch: Path | None = None
        """Where the files of a job lie that have to travel."""

        self._stamps: dict[str, tuple[int, int]] = {}
        """Those of its files that need not travel any more."""

        self._notices: list[Notice] = []
        self._run: JobRun | None = None

    def boot(self) -> Iterator[Message]:
        """Looks around, and does once what PyTorch does at its first training."""
        yield from self._told(self._booted())

    def begin(
        self, job: Job, files: Mapping[str, bytes] | None, data: DataSet | None, clips: ClipSet | None
    ) -> Iterator[Message]:
        """Takes a job, in place of any other, and trains its first epoch.

        `files`: what its folder holds, where it cannot be seen. `data`, `clips`: index and prepared clips, likewise.
        """
        yield JobAccepted()
        yield from self._told(self._begun(job, files, data, clips))

    def answer(self, verdict: Verdict) -> Iterator[Message]:
        """Goes on with the job as the coordinator says."""
        yield from self._told(self._answered(verdict))

    def _told(self, messages: Iterator[Message]) -> Iterator[Message]:
        try:
            yield from messages
        except Exception as error:
            yield trouble(error)

    def _booted(self) -> Iterator[Message]:
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # carried clips: nothing writes into them
        torch.set_num_threads(THREADS)
        name = f"process {os.getpid()} on {socket.gethostname()}"
        if self._device.startswith("cuda") and not torch.cuda.is_available():
            hint = "install PyTorch with CUDA on all machines, or search with `--device cpu`"
            raise ResourceError("a worker's PyTorch sees no GPU", where=name, hint=hint)
        _warm_up(self._device)
        sees_files = self._sees_files()
        if not sees_files:  # folders that happen to have the same name here are none of the search's
            self._scratch = _scratch()
            self._setup = replace(self._setup, folder=self._scratch / "data", runs=self._scratch / "runs")
        elif self._setup.folder.is_dir():
            self._trial_clips = open_trial_clips(self._setup, self._note)
        yield from self._noted()
        yield Up(name, sees_files, self._trial_clips is not None)

    def _sees_files(self) -> bool:
        if not self._token:
            return False
        token = self._setup.runs / self._token
        trial = token.with_name(f"{token.name}-{uuid.uuid4().hex}")
        try:
            if token.read_text(encoding="utf-8") != self._token:
                return False
            trial.write_text(self._token, encoding="utf-8")  # the folder may be there to be read only
            trial.unlink()
        except OSError:
            return False
        return True

    def _begun(
        self, job: Job, files: Mapping[str, bytes] | None, data: DataSet | None, clips: ClipSet | None
    ) -> Iterator[Message]:
        self._run = None
        if self._scratch is not None:
            job = replace(job, folder=self._scratch / "trial")
            self._lay_out(job.folder, files or {})
        trial_clips = self._trial_clips
        if data is not None:
            trial_clips = TrialClips(data, self._setup.split, data_store(self._setup.runs), self._note, carried=clips)
        assert trial_clips is not None, "a worker that does not see the data is given them"
        self._run = JobRun(job, trial_clips)
        yield from self._followed(self._run.begin())

    def _answered(self, verdict: Verdict) -> Iterator[Message]:
        assert self._run is not None, "a job is begun first"
        yield from self._followed(self._run.answer(verdict))

    def _followed(self, events: Iterator[EngineEvent]) -> Iterator[Message]:
        """The events, each behind the files that it stands for. What is kept already does not wait for the next epoch."""
        yield from self._new_files()
        for event in events:
            yield from self._new_files()
            yield from self._noted()
            yield event

    def _noted(self) -> Iterator[Notice]:
        while self._notices:  # one by one: Ray sends into generators, and a list would not take that
            yield self._notices.pop(0)

    def _note(self, event: Event) -> None:
        """Notices go with the next message; how far a preparation is would come too late."""
        if isinstance(event, Notice):
            self._notices.append(event)
        else:
            assert isinstance(event, DataPrepared), "nothing else happens while clips are prepared"

    def _lay_out(self, folder: Path, files: Mapping[str, bytes]) -> None:
        with os_errors("the files of a trial cannot be written", where=folder, hint="is the disk of that machine full?"):
            shutil.rmtree(folder, ignore_errors=True)
            for name, content in files.items():
                write_atomically(folder / name, content)
        self._stamps = {path.name: _stamp(path) for path in folder.glob("*")}

    def _new_files(self) -> Iterator[KeptFile]:
        if self._scratch is None:
            return
        for path in sorted((self._scratch / "trial").glob("[!.]*")):
            if self._stamps.get(path.name) != (stamp := _stamp(path)):
                self._stamps[path.name] = stamp
                yield KeptFile(path.name, path.read_bytes())


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _scratch() -> Path:
    """A folder of this process on this machine. Those that killed processes left are deleted."""
    place = scratch_place()
    hint = "is the disk of that machine full or read-only? TMPDIR names another place"
    with os_errors("a worker's folder cannot be made", where=place, hint=hint):
        place.mkdir(mode=0o700, exist_ok=True)
        own = place / scratch_name(os.getpid())
        for left in place.iterdir():
            if left != own and _is_left(left):
                shutil.rmtree(left, ignore_errors=True)
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir()
    return own


def scratch_place() -> Path:
    """Where the folders of workers lie."""
    return Path(tempfile.gettempdir()) / f"islr-search-{os.getuid()}"


def scratch_name(pid: int | str) -> str:
    """Of a worker's folder. Containers may share the place, and have the same process numbers for other processes."""
    try:
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        space = 0
    return f"{socket.gethostname()}-{space}-{pid}"


def _is_left(folder: Path) -> bool:
    """Whether a killed worker has left a folder. That of one that cannot be seen from here may be quiet for days first."""
    pid = folder.name.rpartition("-")[2]
    if pid.isdecimal() and folder.name == scratch_name(pid):
        return not psutil.pid_exists(int(pid))
    try:
        return time.time() - max(path.stat().st_mtime for path in [folder, *folder.rglob("*")]) > _QUIET_S
    except OSError:  # it is being worked in
        return False


def _warm_up(device: str) -> None:
    """What only the first training of a process costs: kernels, the optimiser's imports, CUDA's context."""
    clips = clip_set([np.ones((4, NUM_FEATURES), np.float32)] * 2, [0, 1])
    small = ModelConfig(width=4, heads=1, layers=1, ffn_width=4)
    Training(small, TrainConfig(epochs=1), train=clips, validation=clips, num_words=2, seed=0, device=device).run_epoch()
