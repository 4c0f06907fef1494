"""What people see: one listener for terminals, one for pipes and logs, one for programs. The only place with rich and print."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
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
from search.wording import (
    columns,
    cropped,
    duration,
    filled,
    folded,
    number,
    params_text,
    study_words,
    value_text,
    values_text,
    width,
    wrapped,
)

if TYPE_CHECKING:
    from search.results.retrain import Retrained

_QUIET_S = 60  # plain output says at most one thing a minute between finished trials
_PAGE = 80
"""Columns of a terminal that does not say how many it has."""

Clock = Callable[[], float]
"""Seconds since some moment."""


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
        self._lines(folded(text, room(sys.stderr)))

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
        self._print(folded(text, self._console.width))

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


class TrialTable:
    """Finished trials as lines of fixed columns, with as many parameters as there is room for."""

    def __init__(self, space: Mapping[str, str], objectives: Sequence[str] = ("val_loss",), room: int | None = None) -> None:
        """`space`: parameters and their ranges as text. `room`: columns of a line; None: any number."""
        self.room = room
        self._objectives = {name: max(width(name), 8) for name in objectives}
        self._has_epochs = room is None or room >= _NARROW
        self._params = self._fitting({name: _column_width(name, text, room) for name, text in space.items()})
        self._left_out = len(space) - len(self._params)

    def head(self) -> str:
        """The column names, and how many parameters have no column."""
        fixed = self._fixed("", "trial", "state", list(self._objectives), "top1", "epochs", "time")
        more = [f"+{self._left_out} more"] if self._left_out else []
        return self._line([*fixed, *(_right(name, self._params[name]) for name in self._params), *more])

    def rows(self, event: TrialFinished) -> list[str]:
        """One trial; a star marks a new best, a failure tells its reason beneath."""
        values = [value_text(event.values[name]) if name in event.values else "-" for name in self._objectives]
        top1 = "-" if event.val_top1 is None else f"{event.val_top1:.4f}"
        star = "*" if event.is_best else ""
        fixed = self._fixed(star, str(event.trial), event.state, values, top1, str(event.epochs), duration(event.seconds))
        params = [_right(number(event.params.get(name, "-")), wide) for name, wide in self._params.items()]
        return [self._line([*fixed, *params]), *wrapped("", event.reason, self.room)]

    def _fixed(self, star: str, trial: str, state: str, values: Sequence[str], top1: str, epochs: str, spent: str) -> list[str]:
        shown = [f"{text:>{wide}}" for wide, text in zip(self._objectives.values(), values, strict=True)]
        trained = [f"{epochs:>6}"] if self._has_epochs else []
        return [f"{star:1}{trial:>5}", f"{state:8}", *shown, f"{top1:>6}", *trained, f"{spent:>6}"]

    def _fitting(self, widths: dict[str, int]) -> dict[str, int]:
        """The first parameters, as many as a line has room for."""
        if self.room is None:
            return widths
        taken = width(" ".join(self._fixed("", "", "", [""] * len(self._objectives), "", "", "")))
        for count in range(len(widths), 0, -1):
            more = f" +{len(widths) - count} more" if count < len(widths) else ""
            first = dict(list(widths.items())[:count])
            if taken + sum(wide + 1 for wide in first.values()) + width(more) <= self.room:
                return first
        return {}

    def _line(self, cells: Sequence[str]) -> str:
        line = " ".join(cells)
        return line if self.room is None else cropped(line, self.room)


_NARROW = 70
"""From fewer columns on there is no room for the epochs, and less for each parameter."""


def _column_width(name: str, text: str, room: int | None) -> int:
    """Wide enough for the name and every choice, within reason where room is scarce."""
    choices = text.split(" when ")[0].split(" | ")
    needed = max(7, width(name), *(map(width, choices) if len(choices) > 1 else ()))
    return needed if room is None else min(needed, 12 if room < _NARROW else 20)


def _right(text: str, wide: int) -> str:
    shown = cropped(text, wide)
    return " " * (wide - width(shown)) + shown


class Bars:
    """What is in training, as rows that fill a terminal's width and never exceed it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._whole: _Bar | None = None
        self._preparing: _Bar | None = None
        self._trials: dict[int, _Bar] = {}
        self._heads: dict[int, float] = {}
        """The share of each trial that other runs had trained before this one."""

        self._objective = ""
        self._best: tuple[float, int] | None = None

    def begin(self, event: RunStarted) -> None:
        """The whole of which this run does the rest."""
        self._whole = _Bar("trials", event.target, event.finished, self._clock())
        self._objective = event.objectives[0]

    def prepare(self, event: DataPrepared) -> None:
        """Clips on their way to the store."""
        if self._preparing is None:
            self._preparing = _Bar("preparing", event.total, event.done, self._clock(), ("clips",))
        self._preparing.step(event.done, self._clock())
        if event.done >= event.total:
            self._preparing = None

    def start(self, event: TrialStarted) -> None:
        """A trial, perhaps once more after its worker died."""
        now = self._clock()
        self._preparing = None
        if self._whole is not None and not self._heads:
            self._whole.began = now
        self._heads.setdefault(event.trial, event.done / event.epochs)
        self._trials[event.trial] = _Bar(f"trial {event.trial}", event.epochs, event.done, now)

    def epoch(self, event: EpochFinished) -> None:
        """A step of a trial; it moves the whole a little too."""
        if bar := self._trials.get(event.trial):
            loss = f"val_loss {event.record.val_loss:.4f}"
            bar.notes = (f"{loss}  top1 {event.record.val_top1:.4f}", loss)
            bar.step(event.step, self._clock())
            self._estimate()

    def finish(self, event: TrialFinished) -> None:
        """A trial that is over."""
        self._trials.pop(event.trial, None)
        if event.state == "failed":
            self._heads[event.trial] = 0.0
        if self._whole is None:
            return
        self._whole.done, self._whole.total = event.finished, event.target
        self._note_best(event)
        self._estimate()

    def _note_best(self, event: TrialFinished) -> None:
        value = event.values.get(self._objective, event.value)
        if event.is_best and value is not None and self._whole is not None and (self._best is None or value < self._best[0]):
            self._best = value, event.trial
            best = f"best {value_text(value)}"
            self._whole.notes = (f"{best} (trial {event.trial})", best)

    def _estimate(self) -> None:
        """The time left of the whole: as many trials a second as this run has trained so far, those in training in part."""
        if self._whole is None:
            return
        running = sum(bar.share for bar in self._trials.values())
        mine = self._whole.done - self._whole.given + running - sum(self._heads.values())
        self._whole.expect(mine, self._whole.total - self._whole.done - running, self._clock())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        full, rest = "#-" if options.ascii_only else "━─"
        for label, done, left, text in self.rows(options.max_width):
            yield Text.assemble(label, (full * done, "green"), (rest * left, "dim"), text, no_wrap=True, overflow="crop")

    def rows(self, room: int) -> list[tuple[str, int, int, str]]:
        """Each row: what stands before the bar, its full and its empty part, what stands behind it."""
        bars = [bar for bar in (self._preparing, self._whole, *self._trials.values()) if bar is not None]
        if not bars:
            return []
        now, room = self._clock(), room - 1  # a full line makes some terminals begin another
        *labels, usual = _padded([*(bar.label for bar in bars), _USUAL[0][0]])
        for brief in range(3):
            *texts, widest = columns([*(bar.cells(now, brief) for bar in bars), _USUAL[brief][1:]], right=(0,))
            left = room - width(usual) - max(map(width, [*texts, widest])) - 3
            if left >= _LEAST_BAR:
                break
        else:
            left = 0
        left = min(left, _LONGEST_BAR)
        gap = "  " if left else " "
        return [
            (f"{label} ", full, left - full, cropped(gap + text, room - left - width(label) - 1))
            for label, text, bar in zip(labels, texts, bars, strict=True)
            for full in [int(left * bar.share)]
        ]


_LEAST_BAR, _LONGEST_BAR = 8, 40
_USUAL = [
    ["trial 99", "99/99", "val_loss 0.1234  top1 0.1234", "about 59m00s left"],
    ["trial 99", "99/99", "val_loss 0.1234", "about 59m00s left"],
    ["trial 99", "99/99", "val_loss 0.1234", "about 59m00s"],
]
"""Room that is kept for every row, ever briefer, so that nothing moves when a trial comes or goes."""


def _padded(texts: Sequence[str]) -> list[str]:
    widest = max(map(width, texts))
    return [text + " " * (widest - width(text)) for text in texts]


class _Bar:
    """How far something is, and when it will be done, by a clock."""

    def __init__(self, label: str, total: int, done: int, now: float, notes: Sequence[str] = ("",)) -> None:
        """`notes`: a text, and shorter ones where room is scarce."""
        self.label, self.total, self.done = label, total, done
        self.given, self.began = done, now
        self.notes = notes
        self._due: float | None = None

    @property
    def share(self) -> float:
        """How much of it is done."""
        return min(self.done / self.total, 1.0) if self.total else 1.0

    def step(self, done: int, now: float) -> None:
        """So much is done now. How fast it goes is measured from where this process took it up."""
        self.done = done
        self.expect(done - self.given, self.total - done, now)

    def expect(self, mine: float, to_go: float, now: float) -> None:
        """What is left takes as long as what was done here, in proportion."""
        self._due = now + (now - self.began) / mine * to_go if mine > 0 and to_go > 0 else None

    def cells(self, now: float, brief: int) -> list[str]:
        """Count, note and time left, the shorter the larger `brief` is."""
        note = self.notes[min(brief, len(self.notes) - 1)]
        left = "" if self._due is None else f"about {_rough(self._due - now)}{'' if brief > 1 else ' left'}"
        return [f"{self.done:,}/{self.total:,}", note, left]


def _rough(seconds: float) -> str:
    """A guess in round numbers, so that it does not change with every look."""
    unit = 5 if seconds < 60 else 10 if seconds < 600 else 60
    return duration(max(round(seconds / unit), 1) * unit)


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
            fitting = [part for line in lines for part in folded(line, self._console.width)]
            self._live.update(_as_they_are(fitting), refresh=True)
        else:
            say("\n".join(lines))


def header(event: RunStarted, room: int | None = None) -> list[str]:
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
    labelled = [
        ("study", event.study + (f": {event.about}" if event.about else "")),
        ("data", f"{event.data}: {event.words:,} words"),
        ("signers", signers),
        *(("trials", text) for text in each),
        ("device", f"{event.device}{workers}, storage {event.storage}"),
        ("target", f"{event.target:,} finished trials, {event.finished:,} so far"),
    ]
    return [line for label, text in labelled for line in wrapped(label, text, room)]


def trial_taken_up(event: TrialStarted) -> str:
    """How a trial that was cut off goes on."""
    return f"trial {event.trial} was cut off: {event.remark}"


def worker_died(event: WorkerDied) -> str:
    """A worker is gone, and what is done about it."""
    return (
        f"the worker of trial {event.trial} died: {event.reason}; another goes on with it ({event.deaths} of {event.allowed})"
    )


def footer(event: RunFinished, storage: str = DEFAULT_STORAGE, runs: str = DEFAULT_RUNS, room: int | None = None) -> list[str]:
    """How it ended, and what to do next, in at most `room` columns. Commands stay whole, so that they can be copied."""
    study = study_words(event.study, storage)
    counts = ", ".join(f"{event.counts[state]} {state}" for state in ("complete", "pruned", "failed"))
    told = f"{event.finished:,} of {event.target:,} trials finished ({counts}), {duration(event.seconds)} this time"
    lines = ["", *folded(told, room)]
    if event.ended_by and event.finished != event.target:
        lines += folded(f"the search has ended: {event.ended_by}; `--more N` goes on", room)
    none = ["best     none: no trial has trained to its end"]
    lines += best_lines(event.best, event.front, room) if event.best else none
    lines += baseline_lines(event.best, event.baseline, room)
    if event.stopped_by:
        return lines
    for edge in event.edges:
        lines += wrapped("edge", f"{edge}: better ones may lie beyond (`--allow-wider`)", room)
    lines += _luck_lines(event, room)
    if event.best:
        lines.append(f"next     python -m search confirm {study_words(event.study, storage, runs)}")
        lines.append(f"         python -m search export {study} --output best.yaml")
        lines.append(f"         python -m search dashboard {study}")
    return lines


def _luck_lines(event: RunFinished, room: int | None) -> list[str]:
    """How much of a gain may be chance."""
    best, baseline = event.best, event.baseline
    if best is None or baseline is None or best.trial == baseline.trial:
        return []
    lines = []
    if event.noise is not None:
        told = f"the best lies {_amount(baseline.value - best.value)} below the baseline"
        chance = f"other seeds alone would move a trial by about {_amount(event.noise)} (a rough estimate)"
        lines = wrapped("noise", f"{told}; {chance}", room)
    luck = "The best of many trials is partly luck: confirm it with fresh seeds before you believe the gain."
    return lines + wrapped("luck", luck, room)


def _amount(value: float) -> str:
    return f"{value:.4f}" if abs(value) >= 0.001 else f"{value:.1e}"


def best_lines(best: TrialSummary, front: Sequence[TrialSummary] = (), room: int | None = None) -> list[str]:
    """The best trial; with several objectives all that no other trial beats in everything."""
    if not front:
        return summary_lines("best", best, room)
    lines = [f"front    {len(front)} {'trial' if len(front) == 1 else 'trials'} that no other beats in everything"]
    names = list(best.values)
    rows = [[str(t.trial), *(value_text(t.values[n]) for n in names), f"{t.val_top1:.4f}"] for t in front]
    head, *table = columns([["trial", *names, "top1"], *rows], right=range(len(names) + 2))
    indent = " " * (9 + width(head) + 2)
    for row, trial in zip(table, front, strict=True):
        lines += filled(f"         {row}  ", params_text(trial.params), indent, room)
    return [lines[0], f"         {head}", *lines[1:]]


def baseline_lines(best: TrialSummary | None, baseline: TrialSummary | None, room: int | None = None) -> list[str]:
    """The baseline beside the best."""
    if baseline is None:
        return ["baseline none: it has not trained to its end"]
    if best is not None and best.trial == baseline.trial and len(baseline.values) < 2:
        return ["         this is the baseline: nothing has beaten it"]
    return summary_lines("baseline", baseline, room)


def summary_lines(label: str, trial: TrialSummary, room: int | None = None) -> list[str]:
    """A trial and its parameters."""
    values = values_text(trial.values or {"val_loss": trial.value})
    told = f"trial {trial.trial}: {values}, top1 {trial.val_top1:.4f} at epoch {trial.epoch}"
    return [*wrapped(label, told, room), *wrapped("", params_text(trial.params), room)]


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
