"""A line of progress on stderr, and an orderly end on Ctrl-C and SIGTERM."""

from __future__ import annotations

import contextlib
import math
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

from data_utils.wording import format_duration

_SHOW_EVERY_S = 0.1  # progress on a terminal
_LOG_AFTER_S, _LOG_EVERY_S = 2.0, 60.0  # progress in a log file: the first line, and the pause that others come to
_LEFT_AFTER_S = 5.0  # before the time left can be told


class Stopped(Exception):
    """Ctrl-C or SIGTERM arrived while a command was running."""

    def __init__(self, number: int, text: str = "stopped") -> None:
        super().__init__(text)
        self.exit_code = 128 + number


@contextlib.contextmanager
def progress_shown(*, keep: bool = True) -> Iterator[Callable[[str], None]]:
    """Gives a function that shows a line of progress on stderr, and raises `Stopped` once Ctrl-C or SIGTERM has arrived.

    A terminal shows the latest line, at the end too if `keep`: then the block leaves a result, and a signal that arrives after
    its last line comes too late. Elsewhere lines follow each other, more rarely each time, at last one per minute.

    A second signal ends the process at once. The first is only noted: an exception raised wherever a signal arrives could be
    inside a destructor, where Python swallows it.
    """
    received: list[int] = []
    terminal = sys.stderr.isatty()
    room = shutil.get_terminal_size().columns - 1
    latest, shown_at = "", -math.inf if terminal else time.monotonic()
    pause_s = _SHOW_EVERY_S if terminal else _LOG_AFTER_S

    def note(number: int, _: object) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    def write(line: str) -> None:
        print(f"\r{line[:room]:<{room}}", end="", file=sys.stderr, flush=True)

    def show(line: str) -> None:
        nonlocal latest, shown_at, pause_s
        if received:
            raise Stopped(received[0])
        latest, now = line, time.monotonic()
        if now - shown_at < pause_s:
            return
        shown_at = now
        if terminal:
            write(line)
        else:
            pause_s = min(2 * pause_s, _LOG_EVERY_S)
            print(line, file=sys.stderr, flush=True)

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield show
        if received and not keep:
            raise Stopped(received[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if terminal and latest:
            write(latest if keep else "")
            print(end="\n" if keep else "\r", file=sys.stderr, flush=True)


def clips_read(show: Callable[[str], None]) -> Callable[[int, int], None]:
    """Shows how many clips of a data set were read: `1,234 of 94,477 clips`, and after a while how long the rest takes."""
    started = time.monotonic()

    def progress(done: int, total: int) -> None:
        line, seconds = f"{done:,} of {total:,} clips read", time.monotonic() - started
        if seconds > _LEFT_AFTER_S and 0 < done < total:
            line += f", {format_duration(seconds / done * (total - done))} left"
        show(line)

    return progress
