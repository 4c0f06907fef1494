"""The numbers of a study's answer: the setting to use beside the baseline, and where each number comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from data_utils.wording import counted
from search.reporting.cells import Cell, Number, Table, number_cell, points, share_of, signed
from search.reporting.facts import Facts
from search.reporting.figures.figure import name_of
from search.study.confirmed import Confirmation, num_values
from search.study.openings import Opening, SettingScore
from search.study.recommendation import WIDENED_FOR_CHOICE
from search.study.trials import trial_result
from search.wording import format_value


def numbers_table(facts: Facts, chosen: FrozenTrial) -> Table:
    """The chosen setting beside the baseline: in the search, with fresh seeds, on the sealed test signers."""
    baseline = facts.baseline
    base = None if baseline is None or baseline.number == chosen.number else baseline
    rows = [
        _searched(f"{facts.objective} in the search", lambda trial: value_cell(facts, trial), signed, chosen, base),
        *_grid_rows(facts, chosen, base),
        _searched("accuracy in the search", lambda trial: accuracy_cell(facts, trial), points, chosen, base),
        *_other_rows(facts, chosen, base),
        *_believed_rows(facts),
        *_fresh_rows(facts, chosen, base),
    ]
    if facts.last_opening is not None:
        rows += _sealed_rows(*facts.last_opening, chosen, base)
    header = ("", name_of(chosen.number), *(["baseline", "change"] if base is not None else []))
    note = " ".join(_number_notes(facts, chosen, with_change=base is not None))
    return Table(header, tuple(row[: len(header)] for row in rows), note)


def _number_notes(facts: Facts, chosen: FrozenTrial, *, with_change: bool) -> Iterator[str]:
    """What the numbers and intervals are, with every correction named."""
    if with_change:
        yield "pp: percentage points."
    if facts.analysis.grid is not None and facts.confirmed is None and with_change:
        yield f"The interval of the change is widened for {facts.analysis.grid.comparisons} comparisons (Bonferroni)."
    if facts.believed is not None and facts.analysis.grid is None:
        yield f"The interval is {WIDENED_FOR_CHOICE}."
    if facts.confirmed is not None and facts.confirmed.found.recommended == chosen.number:
        yield interval_note(facts.confirmed.found)


def interval_note(found: Confirmation) -> str:
    """A sentence on the interval of the recommended setting."""
    if found.picked_from <= 1:
        return "Intervals by Student's t over the seeds that had no part in the choice; no correction is needed."
    name, picked = name_of(found.recommended or 0), found.picked_from
    return f"The interval of {name} is widened because it was chosen from {picked} candidates (Bonferroni)."


def value_cell(facts: Facts, trial: FrozenTrial) -> Cell:
    """A trial's value of the primary objective, from the column of `trials` that holds it."""
    objective = facts.objectives[facts.primary]
    column = "value" if facts.primary == 0 else f"{objective.metric}_{objective.reduce}"
    return number_cell(f"trials.{trial.number}.{column}", facts.value(trial))


def accuracy_cell(facts: Facts, trial: FrozenTrial) -> Cell:
    """A trial's accuracy on the validation clips, as a share of its models' answers."""
    accuracy = trial_result(trial).get("val_top1")
    return number_cell(f"trials.{trial.number}.val_top1", accuracy, share_of(facts.num_answers(trial)))


def other_objectives(facts: Facts) -> list[int]:
    """The indices of the objectives besides the primary one."""
    return [n for n in range(len(facts.objectives)) if n != facts.primary]


def _other_rows(facts: Facts, chosen: FrozenTrial, base: FrozenTrial | None) -> Iterator[tuple[Cell, ...]]:
    """The values of the other objectives."""
    for n in other_objectives(facts):
        name, mine = f"{facts.objectives[n].name} in the search", chosen.values[n]
        if base is None or base not in facts.complete:
            yield (name, format_value(mine), "", "")
        else:
            change = mine - base.values[n]
            text = f"{change:+,.0f}" if change.is_integer() else signed(change)
            yield (name, format_value(mine), format_value(base.values[n]), text)


def _searched(
    label: str,
    cell_of: Callable[[FrozenTrial], Cell],
    change: Callable[[float], str],
    chosen: FrozenTrial,
    base: FrozenTrial | None,
) -> tuple[Cell, ...]:
    mine, other = cell_of(chosen), "" if base is None else cell_of(base)
    difference = mine.value - other.value if isinstance(mine, Number) and isinstance(other, Number) else None
    return (label, mine, other, "" if difference is None else change(difference))


def _grid_rows(facts: Facts, chosen: FrozenTrial, base: FrozenTrial | None) -> Iterator[tuple[Cell, ...]]:
    """The intervals of the means over the repeats and of their difference, for a grid with repeats."""
    if facts.analysis.grid is None or facts.confirmed is not None:
        return
    read = facts.analysis.grid.readings[0]
    rows = {row.trial: _Source(f"analyze.grid.readings.0.rows.{n}", row) for n, row in enumerate(read.rows)}
    mine, other = rows.get(chosen.number), _source_of(base, rows)
    change = "" if other is None else _interval(mine, "change_low", "change_high", signed)
    yield ("95% interval", _interval(mine, "low", "high"), _interval(other, "low", "high"), change)


def _believed_rows(facts: Facts) -> Iterator[tuple[Cell, ...]]:
    """What the model believes of the trial to use."""
    if facts.believed is not None and facts.analysis.grid is None:
        source = _Source("analyze.believed", facts.believed)
        yield (f"{facts.objective}, estimated mean over seeds", _number(source, "mean"), "", "")
        yield ("95% interval", _interval(source, "low", "high"), "", "")
        yield ("noise of one training (standard deviation)", _number(source, "noise"), "", "")


def _fresh_rows(facts: Facts, chosen: FrozenTrial, base: FrozenTrial | None) -> Iterator[tuple[Cell, ...]]:
    """The means with fresh seeds and their intervals."""
    if facts.confirmed is None:
        return
    found = facts.confirmed.found
    rows = {row.trial: _Source(f"confirm.found.rows.{n}", row) for n, row in enumerate(found.rows)}
    if chosen.number not in rows or rows[chosen.number].fields.mean is None:
        return
    mine, other, both = rows[chosen.number], _source_of(base, rows), _Source("confirm.found", found)
    seeds = counted(num_values(mine.fields, found), "fresh seed")
    change = "" if other is None else _number(mine, "change", signed)
    yield (f"{facts.confirmed.objective}, mean of {seeds}", _number(mine, "mean"), _number(other, "mean"), change)
    ends = "" if other is None else _interval(both, "change_low", "change_high", signed)
    yield ("95% interval", _interval(both, "low", "high"), _interval(other, "low", "high"), ends)


def _sealed_rows(n: int, opening: Opening, chosen: FrozenTrial, base: FrozenTrial | None) -> Iterator[tuple[Cell, ...]]:
    """Accuracy and loss on the sealed test signers."""
    scores = {score.trial: _Source(f"openings.{n}.scores.{m}", score) for m, score in enumerate(opening.scores)}
    if chosen.number not in scores:
        return
    mine, other, both = scores[chosen.number], _source_of(base, scores), _Source(f"openings.{n}", opening)
    signers = counted(opening.clips, "sealed clip") if opening.caution else counted(len(opening.signers), "sealed test signer")
    ends = "" if other is None or opening.gain is None else _interval(both, "gain_low", "gain_high", points)
    gain = _number(both, "gain", points) if ends else ""
    mine_right, other_right = (
        "" if one is None else _number(one, "top1", sealed_share(opening, one.fields)) for one in (mine, other)
    )
    yield (f"accuracy on {signers}", mine_right, other_right, gain)
    if ends:
        yield ("95% interval of the change, for the seeds of both", "", "", ends)
    yield (f"loss on {signers}", _number(mine, "loss"), _number(other, "loss"), "")


def sealed_share(opening: Opening, score: SettingScore) -> Callable[[float], str]:
    """Formats an accuracy on the test clips as a share of all the models' answers."""
    return share_of(opening.clips * (len(score.models) or score.seeds))


@dataclass(frozen=True)
class _Source:
    """An object whose fields are shown, and its path (see `Number.path`)."""

    path: str
    fields: Any


def _source_of(trial: FrozenTrial | None, sources: Mapping[int, _Source]) -> _Source | None:
    return None if trial is None else sources.get(trial.number)


def _number(source: _Source | None, name: str, format: Callable[[float], str] = format_value) -> Cell:
    return "" if source is None else number_cell(f"{source.path}.{name}", getattr(source.fields, name), format)


def _interval(source: _Source | None, low: str, high: str, format: Callable[[float], str] = format_value) -> Cell:
    """Two fields as an interval; an empty cell if they are None."""
    if source is None or getattr(source.fields, low) is None or getattr(source.fields, high) is None:
        return ""
    first, last = (Number(f"{source.path}.{name}", getattr(source.fields, name), format) for name in (low, high))
    return (first, "to", last)
