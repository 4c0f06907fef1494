"""A run as lines of text: what it will do, its finished trials, how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from data_utils.wording import counted, format_duration, width
from search import DEFAULT_RUNS, DEFAULT_STORAGE
from search.events import RunFinished, RunStarted, TrialFinished
from search.reporting.summaries import answer_lines
from search.wording import format_number, format_value, labeled, or_dash, study_args, truncate

NARROW = 70
"""Terminals with fewer columns show no epochs in the table, and shorter parameters."""


class TrialTable:
    """Finished trials as lines of aligned columns, with as many parameters as fit."""

    def __init__(
        self,
        space: Mapping[str, str],
        objectives: Sequence[str] = ("val_loss",),
        max_width: int | None = None,
        unit: str = "trial",
    ) -> None:
        """`space`: parameters and their ranges as text. `max_width`: of a line; None: without limit. `unit`: of the rows."""
        self.max_width = max_width
        self._start = f" {unit} state   "
        has_epochs = max_width is None or max_width >= NARROW
        self._results = {name: max(width(name), 8) for name in objectives}
        self._results |= {"top1": 6, **({"epochs": 6} if has_epochs else {}), "time": 6}
        self._params = self._fitting({name: _param_width(name, text, max_width) for name, text in space.items()})
        self._hidden = len(space) - len(self._params)

    def head(self) -> str:
        """The column names, and how many parameters have no column."""
        return self._line(self._start, self._results, self._params, f" +{self._hidden} more" if self._hidden else "")

    def rows(self, event: TrialFinished) -> list[str]:
        """One trial: a row, starred if it is the new best, and the reason of a failure below it."""
        results = {name: format_value(value) for name, value in event.values.items()}
        results |= {
            "top1": or_dash(event.val_top1),
            "epochs": str(event.epochs),
            "time": "-" if event.state in ("running", "waiting") else format_duration(event.seconds),
        }
        row = self._line(
            f"{'*' if event.is_best else '':1}{event.trial:>{len(self._start) - 10}} {event.state:8}",
            [results.get(name, "-") for name in self._results],
            [format_number(event.params.get(name, "-")) for name in self._params],
        )
        return [row, *labeled("", event.reason, self.max_width)]

    def _line(self, start: str, results: Iterable[str], params: Iterable[str], end: str = "") -> str:
        cells = [f"{text:>{columns}}" for text, columns in zip(results, self._results.values(), strict=True)]
        cells += [_right(text, columns) for text, columns in zip(params, self._params.values(), strict=True)]
        line = " ".join([start, *cells]) + end
        return line if self.max_width is None else truncate(line, self.max_width)

    def _fitting(self, widths: dict[str, int]) -> dict[str, int]:
        """The first parameters, as many as fit on a line."""
        if self.max_width is None:
            return widths
        used = len(self._start) + sum(columns + 1 for columns in self._results.values())
        for count in range(len(widths), 0, -1):
            more = f" +{len(widths) - count} more" if count < len(widths) else ""
            first = dict(list(widths.items())[:count])
            if used + sum(columns + 1 for columns in first.values()) + width(more) <= self.max_width:
                return first
        return {}


def _param_width(name: str, text: str, max_width: int | None) -> int:
    """Columns of a parameter: its name and every choice fit, up to a limit that depends on the terminal."""
    choices = text.split(" when ")[0].split(" | ")
    needed = max(7, width(name), *(map(width, choices) if len(choices) > 1 else ()))
    return needed if max_width is None else min(needed, 12 if max_width < NARROW else 20)


def _right(text: str, columns: int) -> str:
    shown = truncate(text, columns)
    return " " * (columns - width(shown)) + shown


def run_started_lines(event: RunStarted, max_width: int | None = None) -> list[str]:
    """What a run is about to do, in at most `max_width` columns."""
    train, validation, test = (len(event.parts[part]) for part in ("train", "validation", "test"))
    sealed = f"{event.clips.get('test', test):,} sealed for the test" if test else "no test part"
    signers = (
        f"{train} train ({event.clips['train']:,} clips), {validation} validate ({event.clips['validation']:,} clips), {sealed}"
    )
    if event.folds:
        signers = f"{train} in {event.folds} cross-validation folds ({event.clips['train']:,} clips), {sealed}"
    label = "signers"
    if event.caution:
        label, of = "clips", f"of {counted(len({*chain(*event.parts.values())}), 'signer')}"
        parts = f"{event.clips['train']:,} train, {event.clips['validation']:,} validate"
        if event.folds:
            parts = f"{event.clips['train']:,} in {event.folds} cross-validation folds"
        signers = f"{parts}, {sealed}, {of}"
    each = [f"each {event.unit} trains {event.trainings} models; its value is their mean"] if event.trainings > 1 else []
    rows = [
        ("study", event.study + (f": {event.about}" if event.about else "")),
        ("data", f"{event.data}: {event.words:,} words"),
        (label, signers),
        ("people", event.caution),
        *(("models", text) for text in each),
        ("device", f"{event.place or event.device}, storage {event.storage}"),
        ("target", f"{event.target:,} finished {event.unit}s, {event.finished:,} so far"),
    ]
    return [line for label, text in rows for line in labeled(label, text, max_width)]


def run_finished_lines(
    event: RunFinished, storage: str = DEFAULT_STORAGE, runs: str = DEFAULT_RUNS, max_width: int | None = None
) -> list[str]:
    """What was found, how the run ended and what to type next, in at most `max_width` columns.

    Commands stay on one line, to be copied.
    """
    study = study_args(event.study, storage)
    lines = ["", *answer_lines(event.best, event.baseline, event.front, event.believed, max_width)]
    lines += labeled("people", event.caution, max_width)
    lines += [] if event.stopped_by else _luck_lines(event, max_width)
    counts = ", ".join(f"{event.counts[state]} {state}" for state in ("complete", "pruned", "failed"))
    finished = f"{event.finished:,} of {event.target:,} trials finished ({counts})"
    lines += ["", *labeled("search", f"{finished}, {format_duration(event.seconds)} in this run", max_width)]
    if event.ended_by and event.finished != event.target:
        lines += labeled("ended", f"{event.ended_by}; continue with {event.continue_with}", max_width)
    if event.stopped_by:
        return lines
    for edge in event.edges:
        lines += labeled("edge", f"{edge}: better values may lie beyond it (widen it with `--allow-wider`)", max_width)
    if event.best:
        lines.append(f"next     islr-search confirm {study_args(event.study, storage, runs)}")
        lines.append(f"         islr-search export {study} --output best.yaml")
        lines.append(f"         islr-search dashboard {study}")
    return lines


def _luck_lines(event: RunFinished, max_width: int | None) -> list[str]:
    """How much of the best trial's gain may be chance."""
    best, baseline = event.best, event.baseline
    if best is None or baseline is None or best.trial == baseline.trial:
        return []
    lines = []
    if event.noise is not None and event.believed is None:
        gain = f"the best is {_amount(baseline.value - best.value)} below the baseline"
        chance = f"another seed alone changes a trial's value by about {_amount(event.noise)} (a rough estimate)"
        lines = labeled("noise", f"{gain}; {chance}", max_width)
    luck = "The best of many trials is partly luck: confirm it with fresh seeds before you believe the gain."
    return lines + labeled("luck", luck, max_width)


def _amount(value: float) -> str:
    return f"{value:.4f}" if abs(value) >= 0.001 else f"{value:.1e}"
