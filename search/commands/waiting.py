"""Says what a command is doing when it has been silent for a while. On a terminal the line is replaced by what comes next."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time

_PATIENCE_S = 1.5
"""After two seconds without a word, people wonder whether a program hangs."""

_ERASE = "\r\x1b[2K"


class _Waiting:
    """The step that a command is at. Lines may be printed by any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._spoke_at = time.monotonic()
        self._said = ""
        """The step that was printed last, if nothing else was printed since."""

        self._is_shown = False
        """Whether it is on a terminal, where it can be erased."""

    def begin(self, text: str, *, at_once: bool) -> None:
        """Prints the text after a while without a word, unless the step ends before."""
        with self._lock:
            if text == self._said:
                return
            self.end()
            delay_s = 0.0 if at_once else max(0.0, self._spoke_at + _PATIENCE_S - time.monotonic())
            self._timer = threading.Timer(delay_s, self._say, (text,))
            self._timer.daemon = True
            if at_once:
                self._say(text)
            else:
                self._timer.start()

    def end(self) -> None:
        """Ends the step, and takes back what is on the terminal."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._is_shown:
                self._is_shown = False
                _write(_ERASE)

    def speak(self) -> None:
        """Ends the step, because something else is printed now."""
        with self._lock:
            self.end()
            self._said, self._spoke_at = "", time.monotonic()

    def _say(self, text: str) -> None:
        with self._lock:
            if self._timer is None:
                return  # the step has just ended
            self._said, self._spoke_at = text, time.monotonic()
            self._is_shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
            _write(f"{text} ..." if self._is_shown else f"{text} ...\n")


def _write(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # stderr is closed
        sys.stderr.write(text)
        sys.stderr.flush()


_waiting = _Waiting()


def doing(text: str) -> None:
    """A step begins that may take seconds. It lasts until the next one begins, something is printed, or `done`."""
    _waiting.begin(text, at_once=False)


def starting() -> None:
    """A command begins."""
    _waiting.speak()
    _waiting.begin("loading", at_once=False)


def loading() -> None:
    """Imports PyTorch and Optuna, which takes seconds where they have not been yet, and says so at once."""
    if "torch" not in sys.modules:
        _waiting.begin("loading PyTorch", at_once=True)
        import torch  # noqa: F401

        _waiting.begin("loading Optuna", at_once=True)
        import optuna  # noqa: F401


def printing() -> None:
    """Must be called before anything is printed."""
    _waiting.speak()


def done() -> None:
    """The step has ended."""
    _waiting.end()
