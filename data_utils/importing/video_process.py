"""Landmarks of videos, found by the program `video_worker.py` in a process of MediaPipe's own environment."""

# T frames, J landmarks (543), C coordinates (3)

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.clips import MAX_FRAMES, checked_landmarks
from data_utils.errors import DataError, ResourceError
from data_utils.landmarks import NUM_COORDINATES, NUM_LANDMARKS
from data_utils.processes import without_ctrl_c

_WORKER = Path(__file__).with_name("video_worker.py")
_ATTEMPTS = 2
"""A process that dies at a video may have been killed for another reason: the video is tried once more."""

_ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
"""For glibc: MediaPipe starts new threads for each video, whose memory would otherwise grow from 0.3 to 0.8 GB."""


class Stopped(Exception):
    """Another thread has stopped the reading of videos."""


class VideoReader:
    """Reads the landmarks of videos, one after another. Its process starts with the first of them."""

    def __init__(self, python: Path) -> None:
        """`python`: the interpreter of MediaPipe's environment."""
        self._python = python
        self._process: _Process | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def read(self, path: Path, *, mirrored: bool = False) -> np.ndarray:
        """The landmarks of one video, float32 `[3, T, 543]`, NaN = not detected. A mirrored picture is mirrored back first.

        Raises:
            DataError: the file cannot be read as a video, nobody is seen in it, or MediaPipe crashes.
            ResourceError: MediaPipe does not start.
            Stopped: another thread has called `stop`.
        """
        if not path.is_file():  # opening a pipe would block forever
            raise DataError("this is not a file" if path.exists() else "there is no such file", file=path)
        how = ""
        for _ in range(_ATTEMPTS):
            process = self._started()
            try:
                return checked_landmarks(process.landmarks(path, mirrored).transpose(2, 0, 1), file=path)
            except _Died as died:
                how = str(died)
                self.close()
        raise DataError("MediaPipe crashed at the video", file=path, got=how, hint="if memory was short, try --workers 1")

    def stop(self) -> None:
        """Makes `read`, which another thread is in, raise `Stopped`."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            if self._process is not None:
                self._process.close()
            self._process = None

    def _started(self) -> _Process:
        with self._lock:
            if self._stopped:
                raise Stopped
            if self._process is None:
                self._process = _Process(self._python)
            return self._process


def check_starts(python: Path) -> None:
    """Starts the program once.

    Raises:
        ResourceError: it does not start.
    """
    _Process(python).close()


def starts(python: Path) -> bool:
    """Whether the program starts."""
    try:
        check_starts(python)
    except ResourceError:
        return False
    return True


class _Died(Exception):
    """The process has ended: how."""


class _Process:
    """A process that runs the program."""

    def __init__(self, python: Path) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (`close` closes it)
        try:
            with without_ctrl_c():
                self._process = subprocess.Popen(
                    [str(python), "-I", str(_WORKER)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._log,
                    env={**os.environ, **_ONE_ARENA},
                )
        except OSError as error:
            self._log.close()
            raise _does_not_start(python, str(error)) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        try:
            self._answer()
        except _Died as died:
            got = self._last_line() or str(died)
            self.close()
            raise _does_not_start(python, got) from None

    def landmarks(self, path: Path, mirrored: bool) -> np.ndarray:
        """The landmarks of one video, float32 `[T, 543, 3]`."""
        request = json.dumps({"video": str(path.resolve()), "mirrored": mirrored, "max_frames": MAX_FRAMES})
        with contextlib.suppress(BrokenPipeError):  # the missing answer tells
            self._requests.write(request.encode() + b"\n")
            self._requests.flush()
        answer = self._answer()
        if "error" in answer:
            raise DataError(**answer["error"], file=path)
        shape = (answer["frames"], NUM_LANDMARKS, NUM_COORDINATES)
        size = math.prod(shape) * np.dtype(np.float32).itemsize
        content = self._answers.read(size)
        if len(content) < size:
            raise _Died(self._how())
        return np.frombuffer(content, np.float32).reshape(shape)

    def kill(self) -> None:
        """Ends the process, which may be busy."""
        self._process.kill()

    def close(self) -> None:
        """Ends the process and closes its files."""
        self._process.kill()
        self._process.wait()
        for stream in (self._requests, self._answers, self._log):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line.endswith(b"\n"):
            raise _Died(self._how())
        return json.loads(line)

    def _how(self) -> str:
        code = self._process.wait()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}: {self._last_line()}"

    def _last_line(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _does_not_start(python: Path, got: str) -> ResourceError:
    hint = "`islr-data setup-video` installs it again"
    return ResourceError("MediaPipe does not start", where=str(python), got=got, hint=hint)
