"""What people see: one listener for terminals, one for pipes and logs, one for programs. The only place that prints."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from data_utils.errors import ExplainedError
from search import DEFAULT_RUNS, DEFAULT_STORAGE
from search.commands.bars import Bars, Clock
from search.commands.run_text import TrialTable, footer, header, trial_taken_up, worker_died
from search.evaluation.confirm.text import confirm_footer
from search.events import (
    SCHEMA,
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
    as_json,
)
from search.wording import wrap_line

_QUIET_S = 60  # plain output says at most one thing a minute between finished trials
_PAGE = 80
"""Columns of a terminal that does not say how many it has."""


def say(text: str = "") -> None:
    """The thing asked for: stdout."""
    print(text, flush=True)


def talk(text: str) -> None:
    """Everything else: stderr. A search does not end because nobody listens."""
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)


def say_json(value: Mapping[str, Any]) -> None:
    """One JSON object on one line of stdout."""
    say(json.dumps({"schema": SCHEMA, **value}, ensure_ascii=False, allow_nan=False, default=str))


def show_error(error: ExplainedError) -> None:
    """An error in its form on stderr."""
    talk(error.render())


def room(stream: TextIO) -> int | None:
    """Columns that a line may take: as COLUMNS says, else those of the terminal; None: any number."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told) > 0:
        return int(told)
    if not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or _PAGE
    except OSError:
        return _PAGE


def screen(*, as_json: bool, progress: bool) -> Listener:
    """The listener that suits where the output goes."""
    if as_json:
        return json_lines
    wants_live = progress and sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
    return LiveScreen() if wants_live else PlainScreen()


def json_lines(event: Event) -> None:
    """Each event as one JSON object on stdout."""
    say_json(as_json(event))


class PlainScreen:
    """One line a finished trial, and in between at most one a minute."""

    def __init__(self) -> None:
        self._spoke = time.monotonic()
        self._table = TrialTable({})
        self._storage, self._runs = DEFAULT_STORAGE, DEFAULT_RUNS

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._table = TrialTable(event.space, event.objectives, room(sys.stderr))
                self._storage, self._runs = event.storage, event.runs
                self._lines([*header(event, room(sys.stderr)), self._table.head()])
            case Notice():
                self._sentence(event.text)
            case DataPrepared() if time.monotonic() - self._spoke > _QUIET_S:
                self._sentence(f"preparing the data: {event.done:,} of {event.total:,} clips")
            case TrialStarted() if event.remark:
                self._sentence(trial_taken_up(event))
            case WorkerDied():
                self._sentence(worker_died(event))
            case EpochFinished() if time.monotonic() - self._spoke > _QUIET_S:
                record = event.record
                self._sentence(
                    f"trial {event.trial}: epoch {record.epoch}, val_loss {record.val_loss:.4f}, top1 {record.val_top1:.4f}"
                )
            case TrialFinished():
                self._lines(self._table.rows(event))
            case RunFinished():
                for line in footer(event, self._storage, self._runs, room(sys.stdout)):
                    say(line)
            case ConfirmFinished():
                for line in confirm_footer(event, self._storage, self._runs):
                    say(line)

    def _sentence(self, text: str) -> None:
        self._lines(wrap_line(text, room(sys.stderr)))

    def _lines(self, lines: Sequence[str]) -> None:
        for line in lines:
            talk(line)
        self._spoke = time.monotonic()


class LiveScreen:
    """Finished trials scroll by; below them a bar for the whole and one for each trial in training."""

    def __init__(self, console: Console | None = None, clock: Clock = time.monotonic, *, draws_itself: bool = True) -> None:
        """`draws_itself`: four times a second; else whenever something is printed."""
        self._console = console or Console(stderr=True, highlight=False)
        self._table = TrialTable({})
        self._started: RunStarted | None = None
        self._bars = Bars(clock)
        self._live = Live(
            get_renderable=lambda: self._bars,
            console=self._console,
            transient=True,
            auto_refresh=draws_itself,
            refresh_per_second=4,
        )

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._started = event
                self._table = TrialTable(event.space, event.objectives, self._console.width)
                self._print([*header(event, self._console.width), self._table.head()])
                self._bars.begin(event)
                self._live.start()
            case Notice():
                self.announce(event.text)
            case DataPrepared():
                self._bars.prepare(event)
                self._live.start()
            case TrialStarted():
                if event.remark:
                    self.announce(trial_taken_up(event))
                self._bars.start(event)
            case EpochFinished():
                self._bars.epoch(event)
            case WorkerDied():
                self.announce(worker_died(event))
            case TrialFinished():
                self._bars.finish(event)
                self._keep_to_width()
                row, *reason = self._table.rows(event)
                self._print([row], style="bold green" if event.is_best else None)
                self._print(reason)
            case RunFinished() | ConfirmFinished():
                self.close()
                self._say_end(event)

    def announce(self, text: str) -> None:
        """Says something at once, above the bars."""
        self._print(wrap_line(text, self._console.width))

    def close(self) -> None:
        """Gives the terminal back."""
        self._live.stop()

    def draw(self) -> None:
        """Draws the bars anew, now."""
        self._live.refresh()

    def _keep_to_width(self) -> None:
        """Another head where the terminal has become wider or narrower."""
        if self._started is None or self._table.room == self._console.width:
            return
        before, self._table = self._table, TrialTable(self._started.space, self._started.objectives, self._console.width)
        if before.head() != self._table.head():
            self._print([self._table.head()])

    def _say_end(self, event: RunFinished | ConfirmFinished) -> None:
        storage = self._started.storage if self._started else DEFAULT_STORAGE
        runs = self._started.runs if self._started else DEFAULT_RUNS
        lines = (
            footer(event, storage, runs, room(sys.stdout))
            if isinstance(event, RunFinished)
            else confirm_footer(event, storage, runs)
        )
        for line in lines:
            say(line)

    def _print(self, lines: Sequence[str], style: str | None = None) -> None:
        if lines:
            self._console.print(_as_they_are(lines, style or ""))


def _as_they_are(lines: Sequence[str], style: str = "") -> Text:
    """Lines that nothing breaks; what does not fit is cut off."""
    return Text("\n".join(lines), style, no_wrap=True, overflow="crop")


class LiveText:
    """Lines that replace the lines before them; on a pipe, lines that follow each other."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._replaces = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> LiveText:
        if self._replaces:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, lines: Sequence[str]) -> None:
        """Shows these lines now."""
        if self._replaces:
            fitting = [part for line in lines for part in wrap_line(line, self._console.width)]
            self._live.update(_as_they_are(fitting), refresh=True)
        else:
            say("\n".join(lines))
