"""What a report says of a grid with repeats: the settings compared with the baseline by every reading."""

from __future__ import annotations

from collections.abc import Iterator

from model.objective import all_values
from search.evaluation.analysis.grid import GridComparison, Reading, by_repeat, compare_settings
from search.reporting.cells import Cell, Number, Table, number_cell, number_cells, points, signed
from search.reporting.facts import Facts
from search.reporting.figures.figure import name_of
from search.study.trials import trial_with
from search.wording import format_params, format_value

NAMES = {"val_top1": "accuracy", "val_top5": "top-5 accuracy", "val_ece": "calibration error"}
"""Readings under another name than the stored one."""

_LATE = [f"{metric}_{when}" for when in ("last", "mean_last_5") for metric in ("val_loss", "val_loss_ts", "val_error")]
"""Readings that only the learning curves hold, by the names of `all_values`."""


def grid_texts(grid: GridComparison) -> Iterator[str]:
    """The verdict, and what the differences are."""
    yield _sentence(grid.verdict)
    if grid.others:
        yield _sentence(grid.others)
    how = "paired: all settings were trained with the same seeds, and are compared seed by seed"
    if not grid.is_paired:
        how = "not paired: each setting was trained with seeds of its own (Welch's t-test)"
    yield (
        f"The differences are {how}. Their 95% intervals are widened because {grid.comparisons} settings are compared with the "
        f"baseline (Bonferroni); they are not widened for the number of readings. They cover other seeds, not other signers."
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def grid_tables(facts: Facts, grid: GridComparison) -> Iterator[Table]:
    """The settings by the objective, then their differences by all readings."""
    yield _by_objective(grid)
    yield _by_reading(facts, grid)


def _by_objective(grid: GridComparison) -> Table:
    reading, rows = grid.readings[0], []
    for n, row in enumerate(reading.rows):
        path = f"analyze.grid.readings.0.rows.{n}"
        cells = [*number_cells(path, row, ("mean", "sd")), interval_cell(path, row.low, row.high)]
        change = [
            number_cell(f"{path}.change", row.change, signed),
            interval_cell(path, row.change_low, row.change_high, "change_"),
        ]
        name = format_params(row.params) + (" (baseline)" if row is reading.rows[0] else "")
        rows.append((name, *cells, *change))
    header = ("setting", reading.name, "sd", "95% interval", "difference", "95% interval")
    return Table(header, tuple(rows), f"Means over {grid.repeats} repeats. sd: standard deviation between repeats.")


def interval_cell(path: str, low: float | None, high: float | None, prefix: str = "") -> Cell:
    """Two ends as an interval; empty if they are unknown."""
    if low is None or high is None:
        return ""
    form = signed if prefix else format_value
    return (Number(f"{path}.{prefix}low", low, form), "to", Number(f"{path}.{prefix}high", high, form))


def _by_reading(facts: Facts, grid: GridComparison) -> Table:
    """The baseline's mean and each setting's difference with its interval, by every reading."""
    readings = [*grid.readings[1:], *_late_readings(facts, grid)]
    shown = grid.readings[0].rows
    rows = []
    for reading in readings:
        is_share = reading.name.startswith(("val_top", "val_error"))
        form = points if is_share else signed
        cells: list[Cell] = [f"{reading.rows[0].mean:.1%}" if is_share else format_value(reading.rows[0].mean or 0.0)]
        for row in reading.rows[1:]:
            ends = (
                ""
                if row.change_low is None or row.change_high is None
                else f" ({form(row.change_low)} to {form(row.change_high)})"
            )
            star = " *" if row in [*reading.better(), *reading.worse()] else ""
            cells.append(f"{form(row.change or 0.0)}{ends.replace(' pp to', ' to')}{star}")
        rows.append((NAMES.get(reading.name, reading.name), *cells))
    header = ("reading", "baseline", *(format_params(row.params) or name_of(row.trial) for row in shown[1:]))
    note = (
        "Differences to the baseline with their 95% intervals; *: the interval excludes 0. Readings without an ending are "
        "those of the kept epoch; _last: the last epoch; _mean_last_5: the mean of the last five. pp: percentage points."
    )
    return Table(header, tuple(rows), note, has_long_cells=True)


def _late_readings(facts: Facts, grid: GridComparison) -> Iterator[Reading]:
    """Readings of the last epochs, from the learning curves; none if the files are missing."""
    trials = [trial for row in grid.readings[0].rows if (trial := trial_with(facts.trials, row.trial)) is not None]
    read = {trial.number: [all_values(history) for history in facts.curves(trial)] for trial in trials}
    for name in _LATE:
        values = {number: by_repeat([one[name] for one in every], grid.repeats) for number, every in read.items()}
        if name != grid.readings[0].name and all(values.values()):
            yield compare_settings(name, values, trials, more_is_better=False)
