"""Starts `islr-search` quickly, as a process of its own: forked from one that has imported the large packages.

Importing PyTorch, Optuna and SciPy takes longer than most searches of the tests. One server per test process imports them once,
and nothing of this project. For each command it forks a process that is, for its test, like any other: with its own arguments,
environment, working directory, streams, signals and exit code. All of them share the server's seed for hashes.

As a script it is the server.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("filelock", "h5py", "jaxtyping", "numpy", "optuna", "psutil", "psycopg", "pydantic", "torch", "typer", "yaml")
MODULES = (
    "alembic.command",
    "optuna.storages._rdb.storage",
    "rich.live",
    "rich.table",
    "safetensors.torch",
    "scipy.special",
    "scipy.stats",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
)
_NUMBER = 8
"""Bytes of a number on the pipe that reports a command's process and its exit code."""


class Preloaded(subprocess.Popen[str]):
    """A command's process. Its parent is a process of the server, which reports its exit code."""

    def __init__(self, words: Sequence[str], *, cwd: Path, env: Mapping[str, str], **streams: Any) -> None:
        super().__init__([sys.executable, "-m", "search", *words], cwd=cwd, env=env, text=True, **streams)

    def _execute_child(self, args: Any, *more: Any) -> None:
        cwd, env, pipes = more[4], more[5], more[9:15]  # pipes of stdin, stdout and stderr, each to read and to write
        self._report, report = os.pipe()
        streams = [number if mine == -1 else mine for number, mine in enumerate((pipes[0], pipes[3], pipes[5]))]
        request = {"words": args[3:], "cwd": str(cwd), "env": dict(env)}
        socket.send_fds(_server()[0], [json.dumps(request).encode()], [*streams, report])
        os.close(report)
        self.pid = self._number()
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _number(self) -> int:
        found = os.read(self._report, _NUMBER)
        assert len(found) == _NUMBER, "the server of preloaded processes has ended"
        return int.from_bytes(found, "little", signed=True)

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._wait(0)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = self._number()
            os.close(self._report)
        return self.returncode


@functools.cache
def _server() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """The server of this test process, which ends with this process."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": ""}
    server = subprocess.Popen(
        [sys.executable, __file__, str(there.fileno())],
        env=environment,
        stdin=subprocess.DEVNULL,
        pass_fds=[there.fileno()],
        start_new_session=True,
    )
    there.close()
    return here, server


def _serve(requests: socket.socket) -> None:
    """Starts a process for each request until the test process ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for `_attend`
    while True:
        message, fds, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        if not message:
            return
        if os.fork() == 0:
            requests.close()
            _attend(json.loads(message), fds)
            return
        for fd in fds:
            os.close(fd)


def _attend(request: dict[str, Any], fds: Sequence[int]) -> None:
    """Starts the process of a request and reports its id and, at its end, its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, report = fds
    process = os.fork()
    if process == 0:
        os.close(report)
        _become(request, streams)
        return
    for fd in streams:
        os.close(fd)
    for fd in range(3):
        os.dup2(os.open(os.devnull, os.O_RDWR), fd)
    os.write(report, process.to_bytes(_NUMBER, "little", signed=True))
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        os.write(report, code.to_bytes(_NUMBER, "little", signed=True))
    os._exit(0)


def _become(request: dict[str, Any], streams: Sequence[int]) -> None:
    """Makes this process the command of a request. Raises `SystemExit`."""
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    for fd in {*streams} - {0, 1, 2}:
        os.close(fd)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__ = _writers(bool(request["env"].get("PYTHONUNBUFFERED")))
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PRETENDED_GPU" in os.environ:  # read at the start of other processes, by `pretended_machine/sitecustomize.py`
        importlib.import_module("pretended_gpu").install_from_environment()
    sys.path[0] = request["cwd"]
    sys.argv = ["search", *request["words"]]
    waiting = importlib.import_module("search.commands.waiting")
    waiting._PATIENCE_S = 3600.0  # on a busy machine each command may be slow, and would say so
    runpy.run_module("search", run_name="__main__", alter_sys=True)


def _writers(unbuffered: bool) -> list[io.TextIOWrapper]:
    """Python's own standard output and standard error."""
    found = []
    for fd, errors in ((1, "strict"), (2, "backslashreplace")):
        raw: Any = open(fd, "wb", buffering=0 if unbuffered else -1, closefd=False)  # noqa: SIM115
        found.append(io.TextIOWrapper(raw, errors=errors, line_buffering=fd == 2, write_through=unbuffered))
    return found


if __name__ == "__main__":
    for package in PACKAGES + MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
