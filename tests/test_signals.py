"""The first signal is announced at once; the reason to stop is a signal or the time limit."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from search.commands.screens import LiveScreen
from search.running.signals import StopSignals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_is_announced(number: int, code: int) -> None:
    """The first signal is announced on the screen, from another thread; afterwards the previous handlers are restored."""
    announced: list[tuple[str, bool]] = []
    before = signal.getsignal(number)
    with StopSignals(
        announce=lambda text: announced.append((text, threading.current_thread() is threading.main_thread()))
    ) as stop:
        assert (stop.reason, stop.exit_code) == ("", 0)
        os.kill(os.getpid(), number)
        assert (stop.reason, stop.exit_code) == (signal.Signals(number).name, code)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    assert announced == [("stopping after this epoch; press Ctrl-C again to stop at once", False)]
    assert signal.getsignal(number) == before


def test_first_signal_without_a_screen(capfd: pytest.CaptureFixture[str]) -> None:
    """Without a screen the announcement is a line on stderr."""
    with StopSignals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert capfd.readouterr().err == "\nstopping after this epoch; press Ctrl-C again to stop at once\n"


def test_time_limit() -> None:
    """A time limit is a reason to stop, with exit code 0."""
    with StopSignals(0.0) as stop:
        assert (stop.reason, stop.exit_code) == ("timeout", 0)


def test_announcement_on_the_live_screen(capsys: pytest.CaptureFixture[str]) -> None:
    """The live screen prints announcements above its bars."""
    show = LiveScreen()
    show.announce("stopping")
    show.close()
    assert "stopping\n" in capsys.readouterr().err
