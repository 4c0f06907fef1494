"""The worker of the engine `ray`: an actor that trains one job after the other, on any machine with room for it.

Its methods return streams of messages. It does not use Ray itself: what it receives are plain values.
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

import psutil
import torch

from data_utils.errors import ResourceError
from data_utils.files import write_atomically
from data_utils.prepared import ClipSet, DataSet
from search.engines.devices import warm_up
from search.engines.engine import EngineEvent
from search.engines.job_run import STOP_SIGNALS, Decision, JobAccepted, JobRun, Setup, error_message, open_trial_clips
from search.engines.pool import WorkerMessage
from search.errors import os_errors
from search.events import DataPrepared, Event, Notice
from search.trial.clips import TrialClips, data_store
from search.trial.job import Job

_STALE_S = 7 * 86400.0
"""A folder of another container's worker that has not changed for this long was left by a worker that was killed."""


@dataclass(frozen=True)
class ActorReady:
    """The worker has started up."""

    name: str
    """Its process and machine, as text."""

    sees_files: bool
    """Whether it can read and write the search's folder; otherwise the files of its jobs are transferred."""

    sees_data: bool
    """Whether it can read the data set; otherwise prepared clips are transferred."""


@dataclass(frozen=True)
class ChangedFile:
    """A file of the job's folder that is new or has changed."""

    name: str
    content: bytes


Message = ActorReady | ChangedFile | WorkerMessage


class Actor:
    """Trains jobs until the run that requested it ends."""

    def __init__(self, setup: Setup, token: str, device: str) -> None:
        """`token`: path and content of a file in the search's folder; if empty, the actor treats the folder as not shared."""
        for number in STOP_SIGNALS:  # they may reach all processes of a machine; the coordinator decides how to stop
            signal.signal(number, signal.SIG_IGN)
        self._setup, self._token, self._device = setup, token, device
        self._trial_clips: TrialClips | None = None
        self._scratch: Path | None = None
        """Folder for a job's files if they are transferred."""

        self._stamps: dict[str, tuple[int, int]] = {}
        """Files of the job that are already transferred, by name."""

        self._notices: list[Notice] = []
        self._run: JobRun | None = None

    def start_up(self) -> Iterator[Message]:
        """Checks device and folders, and warms PyTorch up."""
        yield from self._guarded(self._start_up())

    def start_job(
        self, job: Job, files: Mapping[str, bytes] | None, data: DataSet | None, clips: ClipSet | None
    ) -> Iterator[Message]:
        """Drops the current job, if any, starts this one and trains its first step.

        `files`: content of the job's folder if the actor cannot see it. `data`, `clips`: index and prepared clips, likewise.
        """
        yield JobAccepted()
        yield from self._guarded(self._start_job(job, files, data, clips))

    def apply(self, decision: Decision) -> Iterator[Message]:
        """Carries out the coordinator's decision on a step."""
        yield from self._guarded(self._apply(decision))

    def _guarded(self, messages: Iterator[Message]) -> Iterator[Message]:
        try:
            yield from messages
        except Exception as error:
            yield error_message(error)

    def _start_up(self) -> Iterator[Message]:
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # transferred clips are only read
        name = f"process {os.getpid()} on {socket.gethostname()}"
        if self._device.startswith("cuda") and not torch.cuda.is_available():
            hint = "install PyTorch with CUDA on all machines, or search with `--device cpu`"
            raise ResourceError("a worker's PyTorch finds no GPU", where=name, hint=hint)
        warm_up(self._device)
        sees_files = self._sees_files()
        if not sees_files:  # folders of the same name on this machine do not belong to the search
            self._scratch = _create_scratch_folder()
            self._setup = replace(self._setup, folder=self._scratch / "data", runs=self._scratch / "runs")
        elif self._setup.folder.is_dir():
            self._trial_clips = open_trial_clips(self._setup, self._collect_notice)
        yield from self._collected_notices()
        yield ActorReady(name, sees_files, self._trial_clips is not None)

    def _sees_files(self) -> bool:
        if not self._token:
            return False
        token = self._setup.runs / self._token
        probe = token.with_name(f"{token.name}-{uuid.uuid4().hex}")
        try:
            if token.read_text(encoding="utf-8") != self._token:
                return False
            probe.write_text(self._token, encoding="utf-8")  # the folder may be mounted read-only
            probe.unlink()
        except OSError:
            return False
        return True

    def _start_job(
        self, job: Job, files: Mapping[str, bytes] | None, data: DataSet | None, clips: ClipSet | None
    ) -> Iterator[Message]:
        self._run = None
        if self._scratch is not None:
            job = replace(job, folder=self._scratch / "trial")
            self._write_files(job.folder, files or {})
        trial_clips = self._trial_clips
        if data is not None:
            store = data_store(self._setup.runs)
            trial_clips = TrialClips(data, self._setup.split, store, self._collect_notice, transferred=clips)
        assert trial_clips is not None, "a worker that cannot see the data is given the clips"
        self._run = JobRun(job, trial_clips)
        yield from self._with_files(self._run.start())

    def _apply(self, decision: Decision) -> Iterator[Message]:
        assert self._run is not None, "a decision follows a step"
        yield from self._with_files(self._run.apply(decision))

    def _with_files(self, events: Iterator[EngineEvent]) -> Iterator[Message]:
        """The events, each after the files that belong to it. A new checkpoint is sent before the next epoch is trained."""
        yield from self._changed_files()
        for event in events:
            yield from self._changed_files()
            yield from self._collected_notices()
            yield event

    def _collected_notices(self) -> Iterator[Notice]:
        while self._notices:  # one by one: Ray sends values into generators, which `yield from` a list does not support
            yield self._notices.pop(0)

    def _collect_notice(self, event: Event) -> None:
        """Keeps a notice for the next message. Progress of data preparation is dropped: it would arrive too late."""
        if isinstance(event, Notice):
            self._notices.append(event)
        else:
            assert isinstance(event, DataPrepared), "preparing clips emits nothing else"

    def _write_files(self, folder: Path, files: Mapping[str, bytes]) -> None:
        with os_errors("the files of a trial cannot be written", where=folder, hint="is the disk of that machine full?"):
            shutil.rmtree(folder, ignore_errors=True)
            for name, content in files.items():
                write_atomically(folder / name, content)
        self._stamps = {path.name: _stamp(path) for path in folder.glob("*")}

    def _changed_files(self) -> Iterator[ChangedFile]:
        if self._scratch is None:
            return
        for path in sorted((self._scratch / "trial").glob("[!.]*")):
            if self._stamps.get(path.name) != (stamp := _stamp(path)):
                self._stamps[path.name] = stamp
                yield ChangedFile(path.name, path.read_bytes())


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def scratch_root() -> Path:
    """The folder on a machine that holds the workers' scratch folders."""
    return Path(tempfile.gettempdir()) / f"islr-search-{os.getuid()}"


def scratch_name(pid: int | str) -> str:
    """Name of a worker's scratch folder, unique even if containers with colliding process ids share the root."""
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        namespace = 0
    return f"{socket.gethostname()}-{namespace}-{pid}"


def _create_scratch_folder() -> Path:
    """Creates this process's scratch folder, and deletes those of workers that were killed."""
    root = scratch_root()
    hint = "is the disk of that machine full or read-only? Set TMPDIR to use another folder"
    with os_errors("a worker's folder cannot be created", where=root, hint=hint):
        root.mkdir(mode=0o700, exist_ok=True)
        own = root / scratch_name(os.getpid())
        for folder in root.iterdir():
            if folder != own and _is_orphaned(folder):
                shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir()
    return own


def _is_orphaned(folder: Path) -> bool:
    """Whether the worker of a folder is dead. If its process cannot be seen from here, the age of the files decides."""
    pid = folder.name.rpartition("-")[2]
    if pid.isdecimal() and folder.name == scratch_name(pid):
        return not psutil.pid_exists(int(pid))
    try:
        return time.time() - max(path.stat().st_mtime for path in [folder, *folder.rglob("*")]) > _STALE_S
    except OSError:  # files are being changed
        return False
