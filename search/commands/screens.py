"""How a run is shown while it works: live on a terminal, line by line on a pipe, as JSON for programs."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from search.commands.bars import Bars, Clock
from search.commands.console import is_styled, line_width, print_note, print_result, print_summary
from search.commands.run_text import TrialTable, run_finished_lines, run_started_lines
from search.commands.waiting import doing, done
from search.evaluation.confirm.text import confirm_footer
from search.events import (
    ConfirmFinished,
    DataPrepared,
    EpochFinished,
    Event,
    Listener,
    Notice,
    RunFinished,
    RunStarted,
    TrialFinished,
    TrialStarted,
    WorkerDied,
    Working,
    as_json,
)
from search.running.signals import StopSignals
from search.wording import Strong, wrap_line

_FIRST_QUIET_S, _QUIET_S = 2.0, 60.0
"""Plain output reports progress within a trial after this many seconds without a line: more of them after each report."""


def choose_screen(*, as_json: bool, progress: bool) -> Listener:
    """The listener that suits the output: JSON lines, a live screen on a terminal, else plain lines."""
    if as_json:
        return print_json_line
    wants_live = progress and sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
    return LiveScreen() if wants_live else PlainScreen()


@contextlib.contextmanager
def stoppable_screen(
    *, as_json: bool, progress: bool, timeout_s: float | None = None
) -> Iterator[tuple[Listener, StopSignals]]:
    """A screen for a run, and the signals or time limit that stop it. The terminal is restored afterwards."""
    screen = choose_screen(as_json=as_json, progress=progress)
    live = screen if isinstance(screen, LiveScreen) else None
    try:
        with StopSignals(timeout_s, live.announce if live else None) as stop:
            yield screen, stop
    finally:
        if live:
            live.close()


def print_json_line(event: Event) -> None:
    """Prints an event as one JSON object on stdout."""
    print_result(as_json(event))


class PlainScreen:
    """One line per finished trial on stderr, and at most one a minute in between; the summary on stdout."""

    def __init__(self) -> None:
        self._printed_at = time.monotonic()
        self._started: RunStarted | None = None
        self._table = TrialTable({})
        self._quiet_s = _FIRST_QUIET_S
        self._step = ""
        """What the run does before, between or after its trials; or that it trains the first of them."""

    def __call__(self, event: Event) -> None:
        """Shows an event."""
        match event:
            case RunStarted():
                self._started = event
                self._table = TrialTable(event.space, event.objectives, self._width(), event.unit)
                self._print([*run_started_lines(event, self._width()), self._table.head()])
            case Notice():
                self.announce(event.text)
            case TrialStarted():
                if event.remark:
                    self.announce(f"{self._unit} {event.trial} was interrupted: {event.remark}")
                self._show_step("training", 0, 0)
            case WorkerDied():
                deaths = f"another worker continues ({event.deaths} of {event.allowed})"
                if event.device_failed:
                    self.announce(f"{self._unit} {event.trial} is tried once more: {event.reason}")
                else:
                    self.announce(f"the worker of {self._unit} {event.trial} died: {event.reason}; {deaths}")
            case Working():
                self._show_step(event.what, event.done, event.total)
            case DataPrepared():
                self._show_step("preparing clips", event.done, event.total)
            case EpochFinished():
                record = event.record
                numbers = f"val_loss {record.val_loss:.4f}, top1 {record.val_top1:.4f}"
                self._report(f"{self._unit} {event.trial}: epoch {record.epoch}, {numbers}")
            case TrialFinished():
                self._print_trial(event)
            case RunFinished():
                print_summary(*run_finished_lines(event, *self._places(), line_width(sys.stdout)))
            case ConfirmFinished():
                print_summary(*confirm_footer(event, *self._places(), line_width(sys.stdout) or 80))

    def announce(self, text: str) -> None:
        """Prints a sentence, wrapped at the width."""
        self._print(wrap_line(text, self._width()))

    @property
    def _unit(self) -> str:
        return "trial" if self._started is None else self._started.unit

    def _show_step(self, what: str, finished: int, total: int) -> None:
        """Shows a step before, between or after the trials."""
        if what != self._step:
            self._step = what
            doing(what)
        if finished < total:
            self._report(f"{what}: {finished:,} of {total:,}")

    def _report(self, text: str) -> None:
        """Prints how far the run is, unless something was printed a moment ago."""
        if time.monotonic() - self._printed_at > self._quiet_s:
            self._quiet_s = min(2 * self._quiet_s, _QUIET_S)
            self.announce(text)

    def _print_trial(self, event: TrialFinished) -> None:
        self._print(self._table.rows(event))

    def _places(self) -> tuple[str, str]:
        """The storage and the folder of the run."""
        assert self._started is not None, "a run starts before it ends"
        return self._started.storage, self._started.runs

    def _width(self) -> int | None:
        return line_width(sys.stderr)

    def _print(self, lines: Sequence[str]) -> None:
        for line in lines:
            print_note(line)
        self._printed_at = time.monotonic()


class LiveScreen(PlainScreen):
    """Finished trials scroll by; progress bars stay below them."""

    def __init__(self, console: Console | None = None, clock: Clock = time.monotonic, *, auto_refresh: bool = True) -> None:
        """`auto_refresh`: draw four times a second, not only when something is printed."""
        super().__init__()
        self._console = console or Console(stderr=True, highlight=False)
        self._bars = Bars(self._console, clock, auto_refresh=auto_refresh)

    def __call__(self, event: Event) -> None:
        """Shows an event, on the bars too."""
        done()
        if isinstance(event, RunFinished | ConfirmFinished):
            self.close()
        self._bars.show(event)
        super().__call__(event)
        if isinstance(event, RunStarted | DataPrepared | Working):
            self._bars.start()

    def close(self) -> None:
        """Removes the bars and restores the terminal."""
        self._bars.live.stop()

    def _print_trial(self, event: TrialFinished) -> None:
        """Prints the table's head again if another width has changed it."""
        if self._started is not None and self._table.max_width != self._width():
            space, objectives, unit = self._started.space, self._started.objectives, self._started.unit
            before, self._table = self._table, TrialTable(space, objectives, self._width(), unit)
            if before.head() != self._table.head():
                self._print([self._table.head()])
        row, *reason = self._table.rows(event)
        self._print([row], style="bold green" if event.is_best else "")
        self._print(reason)

    def _show_step(self, what: str, finished: int, total: int) -> None:
        """The bars show it."""

    def _report(self, text: str) -> None:
        """The bars show it."""

    def _width(self) -> int:
        return self._console.width

    def _print(self, lines: Sequence[str], style: str = "") -> None:
        if lines:
            self._console.print(_unwrapped(lines, style))


def _unwrapped(lines: Sequence[str], style: str = "") -> Text:
    """Lines that are cropped at the terminal's width, never wrapped."""
    text = Text(style=style, no_wrap=True, overflow="crop")
    for number, line in enumerate(lines):
        text.append("\n" * bool(number)).append(line, "bold" if isinstance(line, Strong) and is_styled(sys.stdout) else "")
    return text


@contextlib.contextmanager
def replacing_lines(console: Console | None = None, *, replace: bool = True) -> Iterator[Callable[[Sequence[str]], None]]:
    """Gives a function that shows lines in place of those before. Without `replace`, and on a pipe, they follow each other."""
    console = console or Console(highlight=False)
    if not replace or not console.is_terminal or console.is_dumb_terminal:
        yield lambda lines: print_result(*lines)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda lines: live.update(
            _unwrapped([type(line)(part) for line in lines for part in wrap_line(line, console.width)]), refresh=True
        )
