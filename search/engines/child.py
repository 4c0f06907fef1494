"""A process that trains for this one, with a pipe between the two."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from data_utils.errors import ResourceError
from data_utils.processes import without_main_module
from search.engines.job_run import Setup, stop_signals_blocked

_SPAWN = multiprocessing.get_context("spawn")


class Child:
    """A process that was started here, and this end of its pipe."""

    def __init__(self, work: Callable[[Connection, Setup], None], setup: Setup, *, name: str) -> None:
        """Starts it. It runs `work`, with the other end of the pipe.

        Raises:
            ResourceError: it cannot be started.
        """
        try:
            self.pipe, there = _SPAWN.Pipe()
            self._process = _SPAWN.Process(target=work, args=(there, setup), name=name)
            with stop_signals_blocked(), without_main_module():
                self._process.start()
        except OSError as error:
            raise ResourceError("a worker cannot be started", got=error.strerror, hint="try fewer --workers") from error
        there.close()

    def send(self, message: Any) -> None:
        """Sends a message. If the process has died, the pipe reports that when it is read."""
        with contextlib.suppress(OSError):
            self.pipe.send(message)

    def end(self) -> None:
        """Ends the process at once."""
        self.pipe.close()
        self._process.kill()
        self._process.join()
        self._process.close()

    def how_it_ended(self) -> str:
        """Why its pipe is closed, as a clause."""
        self._process.join(5)  # the pipe closes shortly before the process ends
        code = self._process.exitcode
        if code is None:
            return "its pipe broke"
        if code < 0:
            hint = " (out of memory?)" if code == -signal.SIGKILL else ""
            has_name = -code in set(signal.Signals)  # real-time signals have none
            return f"it was killed by {signal.Signals(-code).name if has_name else f'signal {-code}'}{hint}"
        return f"it exited with code {code}"
