"""What people see: one listener for terminals, one for pipes and logs, one for programs. The only place with rich and print."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from data_utils.errors import ExplainedError
from model.record import EpochRecord
from search import DEFAULT_STORAGE
from search.confirm.evidence import BASELINE, Confirmation, Row
from search.confirm.record import Confirmed
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
from search.sealed.record import Opening

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


def number(value: Any) -> str:
    """A parameter as people read it: 4 digits, small ones as 8.1e-04, counts with commas."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1e}" if 0 < abs(value) < 0.01 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """7s, 2m08s, 3h05m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def width(text: str) -> int:
    """Columns that a text takes in a terminal; East Asian wide characters take two."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def columns(rows: Sequence[Sequence[str]], right: Iterable[int] = (), gap: str = "  ") -> list[str]:
    """Rows of text as aligned lines; the columns in `right` stand to the right."""
    widths = [max(width(row[i]) for row in rows) for i in range(len(rows[0]))]
    flush_right = set(right)

    def cell(i: int, text: str) -> str:
        space = " " * (widths[i] - width(text))
        return space + text if i in flush_right else text + space

    return [gap.join(cell(i, text) for i, text in enumerate(row)).rstrip() for row in rows]


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
        self._table, self._storage = TrialTable(()), DEFAULT_STORAGE

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._table, self._storage = TrialTable(list(event.space), event.objectives), event.storage
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
                for line in footer(event, self._storage):
                    say(line)
            case ConfirmFinished():
                for line in confirm_footer(event, self._storage):
                    say(line)

    def _line(self, text: str) -> None:
        talk(text)
        self._spoke = time.monotonic()


class LiveScreen:
    """Finished trials scroll by; below them a bar for the whole and one for each trial in training."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._table, self._storage = TrialTable(()), DEFAULT_STORAGE
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
                self._table, self._storage = TrialTable(list(event.space), event.objectives), event.storage
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
                for line in footer(event, self._storage):
                    say(line)
            case ConfirmFinished():
                self.close()
                for line in confirm_footer(event, self._storage):
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


def footer(event: RunFinished, storage: str = DEFAULT_STORAGE) -> list[str]:
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
        lines.append(f"next     python -m search confirm {study}")
        lines.append(f"         python -m search export {study} --output best.yaml")
        lines.append(f"         python -m search dashboard {study}")
    return lines


def study_words(study: str, storage: str) -> str:
    """A study as a command names it."""
    return study if storage == DEFAULT_STORAGE else f"{study} --storage {shlex.quote(storage)}"


def confirm_footer(event: ConfirmFinished, storage: str) -> list[str]:
    """What a confirmation has found, and what to do next."""
    study, found = study_words(event.study, storage), event.confirmed.found
    saved = f", {found.saved} saved by dropping clear losers" if found.saved else ""
    lines = ["", f"{found.trainings} trainings with fresh seeds{saved}, {duration(event.seconds)} this time"]
    lines += [*confirmed_lines(event.confirmed), *pairs_lines(found)]
    if found.recommended is not None:
        lines.append(f"next     python -m search test {study}")
        lines.append(f"         python -m search export {study} --output best.yaml")
    return lines


def pairs_lines(found: Confirmation) -> list[str]:
    """How probably each setting is better than each other."""
    names = ["base" if row.trial == BASELINE else str(row.trial) for row in found.rows]
    cells = [[name, *map(_or_dash, line)] for name, line in zip(names, found.better_than, strict=True)]
    table = columns([["", *names], *cells], right=range(len(names) + 1))
    return [
        "pairs    how probably the setting of the row is better than that of the column",
        *(f"         {line}" for line in table),
    ]


def confirmed_lines(confirmed: Confirmed) -> list[str]:
    """A confirmation as a table, and what it comes to."""
    found = confirmed.found
    rows = [_confirmed_cells(row, found) for row in found.rows]
    head = ["", "trial", "searched", "mean", "95 %", "sd", "estimate", "gain", "95 %", "better"]
    lines = columns([head, *rows], right=range(1, len(head)))
    lines.append("         estimate: the mean, once the search's trials nearby are heard; gain: against the baseline")
    lines += [f"out      {text}" for text in _out_of_the_race(found)]
    best = next((row for row in found.rows if row.trial == found.recommended), None)
    if best is None:
        return [*lines, f"none is recommended: {found.why}"]
    name = "the baseline" if best.trial == BASELINE else f"trial {best.trial}"
    interval = "" if found.low is None or found.high is None else f" (95 % {found.low:.4f} to {found.high:.4f})"
    lines.append(f"use      {name}: {confirmed.objective} {_or_dash(best.mean)}{interval} over {found.seeds} seeds")
    lines.append(f"         {params_text(best.params)}")
    lines.append(f"because  {found.why}")
    lines.append(f"verdict  {found.verdict}{_gain_text(best, found)}")
    if best.optimism is not None and best.searched is not None:
        side = "better" if best.optimism > 0 else "worse"
        lines.append(f"luck     the search's own number, {best.searched:.4f}, is {abs(best.optimism):.4f} {side} than the mean")
    lines.append(f"noise    {_or_dash(found.noise)} between seeds; other signers vary more, and only `test` asks some")
    return lines


def sealed_lines(opening: Opening) -> list[str]:
    """What the sealed signers say."""
    names = {score.trial: "baseline" if score.trial == BASELINE else f"trial {score.trial}" for score in opening.scores}
    looks = "for the first time" if opening.count == 1 else f"time {opening.count}"
    lines = [
        f"sealed   {len(opening.signers)} signers, {opening.clips:,} clips, opened {opening.time[:10]}, {looks}",
        f"by       {opening.commit}",
    ]
    head = ["", "top1", "sd", "loss", "sd", "loss_ts", "ece", "ece_ts", "ece_mass", "ece_mass_ts"]
    rows = [
        [
            names[score.trial],
            *(_or_dash(value) for value in (score.top1, score.top1_sd, score.loss, score.loss_sd, score.loss_ts)),
            *(_or_dash(value) for value in (score.ece, score.ece_ts, score.ece_mass, score.ece_mass_ts)),
        ]
        for score in opening.scores
    ]
    lines += columns([head, *rows], right=range(1, len(head)))
    if opening.gain is not None and opening.gain_low is not None and opening.gain_high is not None:
        interval = f"95 % {opening.gain_low:+.4f} to {opening.gain_high:+.4f}, over seeds and clips"
        lines.append(f"gain     {opening.gain:+.4f} in accuracy ({interval})")
    if len(opening.scores) == 1:
        lines.append("gain     none: the baseline is what is recommended" if opening.trial == BASELINE else "gain     unknown")
    lines.append("note     _ts: after the temperature that suited the validation clips, T " + _temperatures(opening, names))
    by_signer = zip(*(score.signers for score in opening.scores), strict=True)
    cells = [[ones[0].signer, f"{ones[0].clips:,}", *(f"{one.top1:.4f}" for one in ones)] for ones in by_signer]
    return [*lines, *columns([["signer", "clips", *names.values()], *cells], right=range(1, len(names) + 2))]


def _temperatures(opening: Opening, names: Mapping[int, str]) -> str:
    return ", ".join(f"{score.temperature:.2f} ({names[score.trial]})" for score in opening.scores)


def _confirmed_cells(row: Row, found: Confirmation) -> list[str]:
    star = "*" if row.trial == found.recommended else ""
    cells = [_or_dash(row.searched), _or_dash(row.mean), _half(row.low, row.high), _or_dash(row.sd), _or_dash(row.estimate)]
    if row.trial == BASELINE:
        return [star, "base", *cells, "", "", ""]
    gain = "-" if row.gain is None else f"{row.gain:+.4f}"
    return [star, str(row.trial), *cells, gain, _half(row.gain_low, row.gain_high), _or_dash(row.better)]


def _half(low: float | None, high: float | None) -> str:
    """An interval by how far it reaches on either side of its middle."""
    return "-" if low is None or high is None else f"±{(high - low) / 2:.4f}"


def _out_of_the_race(found: Confirmation) -> list[str]:
    """Who failed or was dropped, in words."""
    failed = [row for row in found.rows if row.failed]
    texts = [f"trial {row.trial} failed with seed {', '.join(map(str, row.failed))}" for row in failed]
    dropped = [row for row in found.rows if row.dropped_after is not None and not row.failed]
    return texts + [f"trial {row.trial} was clearly behind after {row.dropped_after} seeds" for row in dropped]


def _gain_text(row: Row, found: Confirmation) -> str:
    if row.gain is None or found.gain_low is None or found.gain_high is None or row.better is None:
        return ""
    sure = f"{row.better:.3f}" if row.better < 0.9995 else "over 0.999"
    return f": {row.gain:+.4f} (95 % {found.gain_low:+.4f} to {found.gain_high:+.4f}), with probability {sure}"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


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


def value_text(value: float) -> str:
    """An objective's value: 4 digits, counts with commas."""
    return f"{value:,.0f}" if float(value).is_integer() and value >= 100 else f"{value:.4f}"


def values_text(values: Mapping[str, float]) -> str:
    """Objectives by name."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in values.items())


def params_text(params: Mapping[str, Any]) -> str:
    """Parameters by name."""
    return ", ".join(f"{name} {number(value)}" for name, value in params.items())


def baseline_lines(best: TrialSummary | None, baseline: TrialSummary | None) -> list[str]:
    """The baseline beside the best."""
    if baseline is None:
        return ["baseline not finished yet"]
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
