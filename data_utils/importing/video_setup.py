"""The environment in which landmarks are found in videos: Python with MediaPipe, in the user's cache.

MediaPipe 0.10.21 is the last version that brings the models of Holistic in its wheel. It needs NumPy 1 and protobuf 4, so it
cannot be installed beside this project. Of its requirements, only those are installed that Holistic uses: without JAX and SciPy
the environment takes 310 MB instead of 990.

    <user's cache>/islr-search/mediapipe-0.10.21/           made complete under another name, then renamed
    <user's cache>/islr-search/mediapipe-0.10.21.lock       a file lock, held while it is made or removed
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import filelock

from data_utils.errors import DataError, ResourceError
from data_utils.files import PART_SUFFIX, user_cache
from data_utils.importing.video_process import check_starts
from data_utils.processes import without_ctrl_c

VERSION = "0.10.21"
"""Of MediaPipe."""

COMMAND = "islr-data setup-video"
"""The command that makes the environment."""

_PACKAGES = (
    f"mediapipe=={VERSION}",
    "opencv-python-headless==4.11.0.86",  # the last for NumPy 1
    "numpy>=1.26,<2",
    "protobuf>=4.25.3,<5",
    *("absl-py", "attrs", "flatbuffers"),
)
_OLDEST, _NEWEST = (3, 9), (3, 12)  # versions of Python that have a wheel of MediaPipe 0.10.21
_MISLEADING = ("PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PYTHONHOME", "PYTHONPATH")
_POLL_EVERY_S = 0.1


def environment() -> Path:
    """The environment's folder, which need not exist."""
    return user_cache(f"mediapipe-{VERSION}")


def interpreter(folder: Path | None = None) -> Path:
    """The path of the environment's Python."""
    folder = environment() if folder is None else folder
    return folder / "Scripts" / "python.exe" if sys.platform == "win32" else folder / "bin" / "python"


def check_set_up() -> None:
    """Checks that the environment is there.

    Raises:
        DataError: it is not.
    """
    if not interpreter().exists():
        raise DataError(
            "landmarks are found in videos by MediaPipe, which is not set up yet",
            file=environment(),
            expected=f"MediaPipe {VERSION} in an environment of its own",
            hint=f"`{COMMAND}` installs it: 100 MB to download, 310 MB on disk",
        )


def plan_text() -> str:
    """What `set_up` installs, where and why, and how it is removed."""
    return (
        f"installing MediaPipe {VERSION} (Apache License 2.0), which finds the landmarks in videos\n"
        f"  into {environment()}\n"
        "  100 MB to download, 310 MB on disk; in an environment of its own, because it needs an older NumPy\n"
        f"  packages: {', '.join(_PACKAGES)}\n"
        f"  `{COMMAND} --remove` removes it"
    )


def suitable_python(python: str | None) -> str:
    """A Python for which there is a wheel of MediaPipe: the one that is named, else this one, else one in the path.

    Raises:
        DataError: there is none.
    """
    if python is not None:
        version = _version_of(python)
        if not _OLDEST <= version <= _NEWEST:
            raise _no_wheel(f"Python {_dotted(version)}", python)
        return python
    if _OLDEST <= sys.version_info[:2] <= _NEWEST:
        return sys.executable
    for minor in range(_NEWEST[1], _OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        with contextlib.suppress(DataError):  # a stub for a Python that is not installed
            if found is not None and _version_of(found) == (3, minor):
                return found
    raise _no_wheel(f"Python {_dotted(sys.version_info[:2])}, and no other in the path", sys.executable)


def set_up(python: str, waiting: Callable[[], None] = lambda: None) -> None:
    """Makes the environment, in place of one that is there. After an error or a kill, nothing half-made is used.

    Args:
        python: the Python that makes it, see `suitable_python`.
        waiting: called several times per second; an exception that it raises stops the installation.

    Raises:
        DataError: a package cannot be installed.
        ResourceError: another process is making the environment.
    """
    with _locked():
        folder = environment()
        made = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}{PART_SUFFIX}")
        hint = "on Debian and Ubuntu: apt install python3-venv; or name another Python with --python PATH"
        _run([python, "-I", "-m", "venv", str(made)], "the environment cannot be made", hint, waiting)
        options = ("--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check")
        hint = (
            "check the network and the package index that pip uses; where there is no wheel, name another Python with --python"
        )
        pip = [str(interpreter(made)), "-I", "-m", "pip", "install", *options, *_PACKAGES]
        _run(pip, "MediaPipe cannot be installed", hint, waiting)
        check_starts(interpreter(made))
        _remove()
        made.rename(folder)


def remove() -> bool:
    """Removes the environment. Returns whether there was one.

    Raises:
        ResourceError: another process is making it.
    """
    with _locked():
        return _remove()


def _remove() -> bool:
    folder = environment()
    if not folder.exists():
        return False
    gone = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}{PART_SUFFIX}")
    folder.rename(gone)  # at once, so that nobody finds half of it
    shutil.rmtree(gone)
    return True


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Holds the lock, and finally removes what this process or an earlier one left half-made."""
    folder = environment()
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = filelock.FileLock(folder.with_name(f"{folder.name}.lock")).acquire(timeout=0)
    except filelock.Timeout:
        raise ResourceError(
            "MediaPipe is being installed or removed", where=str(folder), hint="wait until that has ended"
        ) from None
    with held:
        try:
            yield
        finally:
            for leftover in folder.parent.glob(f"{folder.name}.*{PART_SUFFIX}"):
                shutil.rmtree(leftover, ignore_errors=True)


def _version_of(python: str) -> tuple[int, int]:
    code = "import json, sys; print(json.dumps(sys.version_info[:2]))"
    try:
        done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
        major, minor = json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        hint = f"name the program itself, such as --python /usr/bin/python{_dotted(_NEWEST)}"
        got = (getattr(error, "stderr", None) or str(error)).strip()
        raise DataError("this is not a Python that can be started", file=python, got=got, hint=hint) from error
    return major, minor


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _no_wheel(got: str, python: str) -> DataError:
    return DataError(
        f"there is no MediaPipe {VERSION} for this Python",
        file=python,
        got=got,
        expected=f"Python {_dotted(_OLDEST)} to {_dotted(_NEWEST)}, for this environment alone",
        hint=f"install one, then `{COMMAND} --python /usr/bin/python{_dotted(_NEWEST)}`",
    )


def _run(command: Sequence[str], what: str, hint: str, waiting: Callable[[], None]) -> None:
    """Runs a program; ends it if `waiting` raises.

    Raises:
        DataError: it fails.
    """
    variables = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
    with tempfile.TemporaryFile() as log:
        with without_ctrl_c():
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=variables)
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_EVERY_S)
                waiting()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode != 0:
            raise DataError(what, file=environment(), got=_last_errors(log), hint=hint)


def _last_errors(log: IO[bytes]) -> str:
    """The errors that a program wrote last; without any, its last lines."""
    log.seek(0)
    lines = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return "\n".join(([line for line in lines if line.startswith("ERROR")] or lines)[-5:])
