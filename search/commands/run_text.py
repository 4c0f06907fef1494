"""A run as lines of text: what it is about to do, each trial that is over, how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from data_utils.wording import width
from search import DEFAULT_RUNS, DEFAULT_STORAGE
from search.events import RunFinished, RunStarted, TrialFinished, TrialStarted, WorkerDied
from search.reporting.summaries import baseline_lines, best_lines
from search.wording import format_duration, format_number, format_value, labeled, study_args, truncate, wrap_line


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
        values = [format_value(event.values[name]) if name in event.values else "-" for name in self._objectives]
        top1 = "-" if event.val_top1 is None else f"{event.val_top1:.4f}"
        star = "*" if event.is_best else ""
        duration = format_duration(event.seconds)
        fixed = self._fixed(star, str(event.trial), event.state, values, top1, str(event.epochs), duration)
        params = [_right(format_number(event.params.get(name, "-")), wide) for name, wide in self._params.items()]
        return [self._line([*fixed, *params]), *labeled("", event.reason, self.room)]

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
        return line if self.room is None else truncate(line, self.room)


_NARROW = 70
"""From fewer columns on there is no room for the epochs, and less for each parameter."""


def _column_width(name: str, text: str, room: int | None) -> int:
    """Wide enough for the name and every choice, within reason where room is scarce."""
    choices = text.split(" when ")[0].split(" | ")
    needed = max(7, width(name), *(map(width, choices) if len(choices) > 1 else ()))
    return needed if room is None else min(needed, 12 if room < _NARROW else 20)


def _right(text: str, wide: int) -> str:
    shown = truncate(text, wide)
    return " " * (wide - width(shown)) + shown


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
    return [line for label, text in labelled for line in labeled(label, text, room)]


def trial_taken_up(event: TrialStarted) -> str:
    """How an interrupted trial resumes."""
    return f"trial {event.trial} was interrupted: {event.remark}"


def worker_died(event: WorkerDied) -> str:
    """A worker is gone, and what is done about it."""
    return (
        f"the worker of trial {event.trial} died: {event.reason}; another goes on with it ({event.deaths} of {event.allowed})"
    )


def footer(event: RunFinished, storage: str = DEFAULT_STORAGE, runs: str = DEFAULT_RUNS, room: int | None = None) -> list[str]:
    """How it ended, and what to do next, in at most `room` columns. Commands stay whole, so that they can be copied."""
    study = study_args(event.study, storage)
    counts = ", ".join(f"{event.counts[state]} {state}" for state in ("complete", "pruned", "failed"))
    told = f"{event.finished:,} of {event.target:,} trials finished ({counts}), {format_duration(event.seconds)} this time"
    lines = ["", *wrap_line(told, room)]
    if event.ended_by and event.finished != event.target:
        lines += wrap_line(f"the search has ended: {event.ended_by}; `--more N` goes on", room)
    none = ["best     none: no trial has trained to its end"]
    lines += best_lines(event.best, event.front, room) if event.best else none
    lines += baseline_lines(event.best, event.baseline, room)
    if event.stopped_by:
        return lines
    for edge in event.edges:
        lines += labeled("edge", f"{edge}: better ones may lie beyond (`--allow-wider`)", room)
    lines += _luck_lines(event, room)
    if event.best:
        lines.append(f"next     python -m search confirm {study_args(event.study, storage, runs)}")
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
        lines = labeled("noise", f"{told}; {chance}", room)
    luck = "The best of many trials is partly luck: confirm it with fresh seeds before you believe the gain."
    return lines + labeled("luck", luck, room)


def _amount(value: float) -> str:
    return f"{value:.4f}" if abs(value) >= 0.001 else f"{value:.1e}"
