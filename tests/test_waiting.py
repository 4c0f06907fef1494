"""A command that is silent for a while says what it does, and ends with its last line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli
from launch import environment
from test_console import RECORD, STARTED

from search.commands import waiting
from search.commands.console import print_note
from search.commands.screens import PlainScreen
from search.events import EpochFinished, TrialStarted, Working


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, patient: None) -> None:
    """Steps are said at once."""
    monkeypatch.setattr(waiting, "_PATIENCE_S", 0.0)


def silence() -> None:
    """Waits until what is to be said is said."""
    timer = waiting._waiting._timer
    assert timer is not None
    timer.join(10)


def test_a_silent_step_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A step that lasts is said on a line of its own; not again until something else was printed."""
    waiting.doing("drawing")
    silence()
    waiting.doing("drawing")
    print_note("here it is")
    waiting.doing("drawing")
    silence()
    waiting.done()
    assert capsys.readouterr().err == "drawing ...\nhere it is\ndrawing ...\n"


def test_a_quick_step_is_not_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over soon, or followed by output, needs no words."""
    monkeypatch.setattr(waiting, "_PATIENCE_S", 3600.0)
    waiting.doing("drawing")
    waiting.done()
    waiting.doing("writing")
    print_note("here it is")
    assert waiting._waiting._timer is None
    assert capsys.readouterr().err == "here it is\n"


def test_on_a_terminal_the_step_gives_way(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes next takes the step's line; a terminal that cannot erase keeps it."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    waiting.doing("drawing")
    silence()
    print_note("here it is")
    assert capsys.readouterr().err == "drawing ...\r\x1b[2Khere it is\n"
    monkeypatch.setenv("TERM", "dumb")
    waiting.doing("drawing")
    silence()
    print_note("here it is")
    assert capsys.readouterr().err == "drawing ...\nhere it is\n"


def test_steps_of_a_run_on_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is said; then how far it is, after two seconds, and ever more rarely, so that a long run prints little."""
    now = [0.0]
    monkeypatch.setattr("search.commands.screens.time.monotonic", lambda: now[0])
    waiting.printing()
    show = PlainScreen()
    for seconds in (0, 3, 4):
        now[0] = seconds
        show(Working("making the demo set", seconds, 10))
        if not seconds:
            silence()
    show(Working("starting 2 workers"))
    silence()
    show(STARTED)
    capsys.readouterr()
    show(TrialStarted(0, {}, 50))
    silence()
    shown = [capsys.readouterr().err]
    for seconds in range(5, 300):
        now[0] = float(seconds)
        show(EpochFinished(0, RECORD, 3))
        shown += [str(seconds)] if capsys.readouterr().err else []
    assert shown[0] == "training ...\n"
    assert [int(second) for second in shown[1:]] == [9, 18, 35, 68, 129, 190, 251]


def test_every_command_says_that_it_loads(place: Path, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """Before a command has said anything itself, it loads; nothing is said after its end."""
    done = cli("list")
    assert done.err in ("", "loading ...\n")
    assert waiting._waiting._timer is None


def test_the_process_ends_with_the_last_line(tmp_path: Path) -> None:
    """What was loaded is not taken apart one by one, which takes a second; exit handlers run, and the exit code stays."""
    code = """
import atexit, os, search.cli
class Loaded:
    def __del__(self):
        os.write(2, b"taken apart")
loaded = Loaded()
def execute(arguments):
    atexit.register(os.write, 2, b"handled")
    print("the last line")
    return 2
search.cli.execute = execute
search.cli.main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert (done.stdout, done.stderr) == ("the last line\n", "handled")
