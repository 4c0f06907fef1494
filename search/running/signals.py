"""Ctrl-C and SIGTERM: the first stops the run after the current epoch, the second at once. A request does the first."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Protocol

from search.errors import ExitCode
from search.wording import parse_duration


class StopRequest(Protocol):
    """Something that can request the run to stop after the current epoch."""

    @property
    def reason(self) -> str:
        """Why the run should stop; empty while it should not."""
        ...

    def request(self, reason: str) -> None:
        """Requests it, for a reason that is shown."""
        ...


_STOPPING = "stopping after this epoch; press Ctrl-C again to stop at once"
_SHOW_CURSOR = b"\x1b[?25h\n"


class StopSignals:
    """A stop request made by signals, or by a time limit, while it is entered.

    Outside the main thread, where Python does not deliver signals, only the time limit counts.
    """

    def __init__(self, timeout_s: float | None = None, announce: Callable[[str], None] | None = None) -> None:
        """`announce` shows that the first signal was received; by default a line on stderr does."""
        self._announce = announce
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._signal = 0
        self._requested = ""
        self._before: dict[int, object] = {}

    @property
    def reason(self) -> str:
        """Why the run should stop; empty while it should not."""
        if self._signal:
            return signal.Signals(self._signal).name
        if self._requested:
            return self._requested
        return "timeout" if self._deadline is not None and time.monotonic() >= self._deadline else ""

    @property
    def exit_code(self) -> ExitCode:
        """Exit code of the process: 130 after Ctrl-C or a request, 143 after SIGTERM, else 0."""
        unstopped = ExitCode.INTERRUPTED if self._requested else ExitCode.DONE
        return {0: unstopped, signal.SIGINT: ExitCode.INTERRUPTED}.get(self._signal, ExitCode.TERMINATED)

    def request(self, reason: str) -> None:
        """Does what the first Ctrl-C does."""
        self._requested = reason
        self._say(f"{reason}: {_STOPPING.replace(' again', '')}")

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ():
            self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def _received(self, number: int, _frame: FrameType | None) -> None:
        if self._signal or self._requested:
            if os.isatty(2):
                _write(_SHOW_CURSOR)  # the live view hides it
            os._exit(128 + number)  # safe: the database and every file are valid at any moment
        self._signal = number
        self._say(_STOPPING)

    def _say(self, text: str) -> None:
        if self._announce is None:
            _write(f"\n{text}\n".encode())
        else:  # in a thread: this one may be drawing the screen
            threading.Thread(target=self._announce, args=(text,)).start()


def stop_signals(given: StopSignals | None, timeout: str | float | None = None) -> AbstractContextManager[StopSignals]:
    """Those that were given, else new ones with a time limit such as `90m`, or in seconds."""
    if given is not None:
        return contextlib.nullcontext(given)
    return StopSignals(None if timeout is None else parse_duration(str(timeout)))


def _write(text: bytes) -> None:
    """Writes to stderr, which may be closed or full."""
    with contextlib.suppress(OSError):
        os.write(2, text)
