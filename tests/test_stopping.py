"""The first signal is heard and said at once; time limits and signals are told apart."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from search.commands.screens import LiveScreen
from search.running.signals import StopSignals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_announced(number: int, code: int) -> None:
    """By whoever draws the screen, and from a thread of its own; before and after, signals do what they always did."""
    said: list[tuple[str, bool]] = []
    before = signal.getsignal(number)
    with StopSignals(announce=lambda text: said.append((text, threading.current_thread() is threading.main_thread()))) as stop:
        assert (stop.reason, stop.exit_code) == ("", 0)
        os.kill(os.getpid(), number)
        assert (stop.reason, stop.exit_code) == (signal.Signals(number).name, code)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    assert said == [("stopping after this epoch; press Ctrl-C again to stop at once", False)]
    assert signal.getsignal(number) == before


def test_without_a_screen_stderr_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    """In a line of its own."""
    with StopSignals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert capfd.readouterr().err == "\nstopping after this epoch; press Ctrl-C again to stop at once\n"


def test_a_time_limit() -> None:
    """It is a reason to stop, and no error."""
    with StopSignals(0.0) as stop:
        assert (stop.reason, stop.exit_code) == ("timeout", 0)


def test_the_live_screen_says_it_above_its_bars(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is drawn below."""
    show = LiveScreen()
    show.announce("stopping")
    show.close()
    assert "stopping\n" in capsys.readouterr().err
