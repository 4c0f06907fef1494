"""What people see: one listener for terminals, one for pipes and logs, one for programs. The only place with rich and print."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from data_utils.errors import ExplainedError
from model.record import EpochRecord
from search import DEFAULT_RUNS, DEFAULT_STORAGE
from search.confirm.text import confirm_footer
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
    TrialSummary,
    WorkerDied,
    as_json,
)
from search.wording import columns, duration, number, params_text, study_words, value_text, values_text, width

if TYPE_CHECKING:
    from search.results.retrain import Retrained

_QUIET_S = 60  # plain output says at most one thing a minute between finished trials


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
        self._table = TrialTable(())
        self._storage, self._runs = DEFAULT_STORAGE, DEFAULT_RUNS

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._table = TrialTable(list(event.space), event.objectives)
                self._storage, self._runs = event.storage, event.runs
                for line in [*header(event), self._table.head()]:
                    self._line(line)
            case Notice():
                self._line(event.text)
            case DataPrepared() if time.monotonic() - self._spoke > _QUIET_S:
                self._line(f"preparing the data: {event.done:,} of {event.total:,} clips")
            case TrialStarted() if event.remark:
                self._line(trial_taken_up(event))
            case WorkerDied():
                self._line(worker_died(event))
            case EpochFinished() if time.monotonic() - self._spoke > _QUIET_S:
                record = event.record
                self._line(
                    f"trial {event.trial}: epoch {record.epoch}, val_loss {record.val_loss:.4f}, top1 {record.val_top1:.4f}"
                )
            case TrialFinished():
                self._line(self._table.row(event))
            case RunFinished():
                for line in footer(event, self._storage, self._runs):
                    say(line)
            case ConfirmFinished():
                for line in confirm_footer(event, self._storage, self._runs):
                    say(line)

    def _line(self, text: str) -> None:
        talk(text)
        self._spoke = time.monotonic()


class LiveScreen:
    """Finished trials scroll by; below them a bar for the whole and one for each trial in training."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._table = TrialTable(())
        self._storage, self._runs = DEFAULT_STORAGE, DEFAULT_RUNS
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
            refresh_per_second=4,
        )
        self._all = self._progress.add_task("trials", total=None, note="", visible=False)
        self._preparing = self._progress.add_task("preparing", total=None, note="clips", visible=False)
        self._bars: dict[int, TaskID] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._table = TrialTable(list(event.space), event.objectives)
                self._storage, self._runs = event.storage, event.runs
                for line in [*header(event), self._table.head()]:
                    self._print(line)
                self._progress.update(self._all, total=event.target, completed=event.finished, visible=True)
                self._progress.start()
            case Notice():
                self._print(event.text)
            case DataPrepared():
                self._progress.start()
                self._progress.update(
                    self._preparing, completed=event.done, total=event.total, visible=event.done < event.total
                )
            case TrialStarted():
                if event.remark:
                    self._print(trial_taken_up(event))
                self._progress.update(self._preparing, visible=False)
                self._hide(event.trial)  # the bar of a worker that died
                self._bars[event.trial] = self._progress.add_task(
                    f"trial {event.trial}", total=event.epochs, completed=event.done, note=""
                )
            case EpochFinished(record=record):
                note = f"val_loss {record.val_loss:.4f}  top1 {record.val_top1:.4f}"
                self._progress.update(self._bars[event.trial], completed=event.step, note=note)
            case WorkerDied():
                self._print(worker_died(event))
            case TrialFinished():
                self._hide(event.trial)
                self._print(self._table.row(event), style="bold green" if event.is_best else None)
                self._progress.update(self._all, completed=event.finished, total=event.target)
            case RunFinished():
                self.close()
                for line in footer(event, self._storage, self._runs):
                    say(line)
            case ConfirmFinished():
                self.close()
                for line in confirm_footer(event, self._storage, self._runs):
                    say(line)

    def announce(self, text: str) -> None:
        """Says something at once, above the bars."""
        self._print(text)

    def _hide(self, trial: int) -> None:
        if trial in self._bars:
            self._progress.remove_task(self._bars.pop(trial))

    def close(self) -> None:
        """Gives the terminal back."""
        self._progress.stop()

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False)


class TrialTable:
    """Finished trials as lines of fixed columns, 80 wide for a few short names."""

    def __init__(self, names: Sequence[str], objectives: Sequence[str] = ("val_loss",)) -> None:
        self._names = list(names)
        self._objectives = list(objectives)

    def head(self) -> str:
        """The column names."""
        return self._join("", "trial", "state", self._objectives, "top1", "epochs", "time", self._names)

    def row(self, event: TrialFinished) -> str:
        """One trial; a star marks a new best, a failure tells its reason."""
        values = [value_text(event.values[name]) if name in event.values else "-" for name in self._objectives]
        top1 = "-" if event.val_top1 is None else f"{event.val_top1:.4f}"
        params = [number(event.params.get(name, "-")) for name in self._names]
        star = "*" if event.is_best else ""
        line = self._join(star, str(event.trial), event.state, values, top1, str(event.epochs), duration(event.seconds), params)
        return f"{line}  {event.reason}" if event.reason else line

    def _join(
        self,
        star: str,
        trial: str,
        state: str,
        values: Sequence[str],
        top1: str,
        epochs: str,
        spent: str,
        params: Sequence[str],
    ) -> str:
        shown = [f"{text:>{max(len(name), 8)}}" for name, text in zip(self._objectives, values, strict=True)]
        cells = [f"{star:1}{trial:>5}", f"{state:8}", *shown, f"{top1:>6}", f"{epochs:>6}", f"{spent:>6}"]
        cells += [" " * (max(width(name), 7) - width(text)) + text for name, text in zip(self._names, params, strict=True)]
        return " ".join(cells)


class LiveText:
    """Lines that replace the lines before them; on a pipe, lines that follow each other."""

    def __init__(self) -> None:
        console = Console(highlight=False)
        self._is_terminal = console.is_terminal
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> LiveText:
        if self._is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, lines: Sequence[str]) -> None:
        """Shows these lines now."""
        if self._is_terminal:
            self._live.update(Text("\n".join(lines)), refresh=True)
        else:
            say("\n".join(lines))


def header(event: RunStarted) -> list[str]:
    """What is about to happen."""
    train, validation, test = (len(event.parts[part]) for part in ("train", "validation", "test"))
    workers = f", {event.workers} workers" if event.workers > 1 else ""
    sealed = f"{test} sealed for the test" if test else "none for a test"
    signers = (
        f"{train} train ({event.clips['train']:,} clips), {validation} validate ({event.clips['validation']:,} clips), {sealed}"
    )
    if event.folds:
        signers = f"{train} in {event.folds} folds that validate in turn ({event.clips['train']:,} clips), {sealed}"
    each = [f"each trial trains {event.trainings} models; its value is their mean"] if event.trainings > 1 else []
    return [
        f"study    {event.study}" + (f": {event.about}" if event.about else ""),
        f"data     {event.data}: {event.words:,} words",
        f"signers  {signers}",
        *(f"trials   {text}" for text in each),
        f"device   {event.device}{workers}, storage {event.storage}",
        f"target   {event.target:,} finished trials, {event.finished:,} so far",
    ]


def trial_taken_up(event: TrialStarted) -> str:
    """How a trial that was cut off goes on."""
    return f"trial {event.trial} was cut off: {event.remark}"


def worker_died(event: WorkerDied) -> str:
    """A worker is gone, and what is done about it."""
    return (
        f"the worker of trial {event.trial} died: {event.reason}; another goes on with it ({event.deaths} of {event.allowed})"
    )


def footer(event: RunFinished, storage: str = DEFAULT_STORAGE, runs: str = DEFAULT_RUNS) -> list[str]:
    """How it ended, and what to do next."""
    study = study_words(event.study, storage)
    counts = ", ".join(f"{event.counts[state]} {state}" for state in ("complete", "pruned", "failed"))
    lines = ["", f"{event.finished:,} of {event.target:,} trials finished ({counts}), {duration(event.seconds)} this time"]
    if event.ended_by and event.finished != event.target:
        lines.append(f"the search has ended: {event.ended_by}; `--more N` goes on")
    lines += best_lines(event.best, event.front) if event.best else ["best     none: no trial has trained to its end"]
    lines += baseline_lines(event.best, event.baseline)
    if event.stopped_by:
        return lines
    lines += [f"edge     {edge}: better ones may lie beyond (`--allow-wider`)" for edge in event.edges]
    if event.best and event.baseline and event.best.trial != event.baseline.trial:
        lines.append("The best of many trials is partly luck: confirm it with fresh seeds before you believe the gain.")
    if event.best:
        lines.append(f"next     python -m search confirm {study_words(event.study, storage, runs)}")
        lines.append(f"         python -m search export {study} --output best.yaml")
        lines.append(f"         python -m search dashboard {study}")
    return lines


def best_lines(best: TrialSummary, front: Sequence[TrialSummary] = ()) -> list[str]:
    """The best trial; with several objectives all that no other trial beats in everything."""
    if not front:
        return summary_lines("best", best)
    lines = [f"front    {len(front)} {'trial' if len(front) == 1 else 'trials'} that no other beats in everything"]
    names = list(best.values)
    rows = [
        [str(t.trial), *(value_text(t.values[n]) for n in names), f"{t.val_top1:.4f}", params_text(t.params)] for t in front
    ]
    table = columns([["trial", *names, "top1", ""], *rows], right=range(len(names) + 2))
    return lines + [f"         {line}" for line in table]


def baseline_lines(best: TrialSummary | None, baseline: TrialSummary | None) -> list[str]:
    """The baseline beside the best."""
    if baseline is None:
        return ["baseline none: it has not trained to its end"]
    if best is not None and best.trial == baseline.trial and len(baseline.values) < 2:
        return ["         this is the baseline: nothing has beaten it"]
    return summary_lines("baseline", baseline)


def summary_lines(label: str, trial: TrialSummary) -> list[str]:
    """A trial in two lines."""
    values = values_text(trial.values or {"val_loss": trial.value})
    return [
        f"{label:8} trial {trial.trial}: {values}, top1 {trial.val_top1:.4f} at epoch {trial.epoch}",
        f"         {params_text(trial.params)}",
    ]


def epoch_line(record: EpochRecord, epochs: int) -> str:
    """One epoch of a training that is watched alone."""
    return (
        f"epoch {record.epoch:>3}/{epochs}  train_loss {record.train_loss:.4f}  val_loss {record.val_loss:.4f}  "
        f"top1 {record.val_top1:.4f}  {record.seconds:.1f}s"
    )


def retrained_lines(result: Retrained) -> list[str]:
    """Whether the recorded number came back, and if not, why that may be."""
    lines = [
        f"recorded {result.name} {result.recorded!r}",
        f"now      {result.name} {result.value!r}, top1 {result.measured['val_top1']:.4f} at epoch {result.measured['epoch']}",
    ]
    if result.invalid:
        return [*lines, result.invalid]
    if result.came_back:
        return [*lines, f"the recorded {result.name} came back, bit for bit"]
    gap = result.value - result.recorded
    if result.should_come_back:
        return [*lines, f"it did NOT come back: {gap:+.3e}, although nothing that was recorded has changed"]
    return [*lines, f"it differs by {gap:+.3e}; not as in the record:", *(f"  {line}" for line in result.differences)]
