"""A study's answer: the setting to use, its numbers, reasons for doubt, and the next commands."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from data_utils.wording import counted
from search import BASELINE_TRIAL
from search.evaluation.analysis.grid import GridComparison
from search.evaluation.confirm.text import rival_text
from search.reporting.cells import Cell, Number, Table, number_cell, points, share_of, signed
from search.reporting.facts import Facts
from search.reporting.figures.figure import name_of
from search.study.confirmed import Confirmation, num_values
from search.study.opening_record import other_studies
from search.study.openings import Opening, SettingScore
from search.study.recommendation import WIDENED_FOR_CHOICE
from search.study.trials import num_finished, trial_result
from search.wording import format_number, format_params, format_value, study_args

_MANY_FAILURES = 0.2
"""The share of failed trials from which on there is a warning."""


@dataclass(frozen=True)
class Answer:
    """A study's answer."""

    question: str
    headline: str
    because: str
    numbers: Table | None
    settings: Mapping[str, Any]
    """The parameters to use; empty while there is no answer, and where no setting of a grid is better than the baseline."""

    warnings: tuple[str, ...]
    commands: tuple[tuple[str, str], ...]
    """What each command does, and the command."""


def answer_of(facts: Facts) -> Answer:
    """The answer so far."""
    chosen = facts.chosen
    headline, because = _verdict(facts)
    return Answer(
        question=facts.about or f"Which settings suit the study {facts.name} best?",
        headline=headline,
        because=because,
        numbers=None if chosen is None else _numbers(facts, chosen),
        settings={} if chosen is None or _is_undecided(facts) else chosen.params,
        warnings=tuple(_warnings(facts)),
        commands=tuple(_commands(facts)),
    )


def _verdict(facts: Facts) -> tuple[str, str]:
    """Headline and reason."""
    chosen, confirmed = facts.chosen, facts.confirmed
    if chosen is None:
        return "There is no answer yet.", _why_none(facts)
    name = name_of(chosen.number)
    if confirmed is not None and confirmed.found.recommended == chosen.number:
        found = confirmed.found
        if chosen.number == BASELINE_TRIAL:
            return "Use the baseline.", sentence(f"{found.why}{rival_text(found, '. The best other setting, ')}")
        return f"Use {name}: {found.verdict}.", sentence(found.why)
    if facts.analysis.grid is not None:
        return _grid_verdict(facts.analysis.grid)
    if chosen.number == BASELINE_TRIAL:
        return "Nothing has beaten the baseline so far.", _why_best(facts)
    return f"{name.capitalize()} is the best so far, but not confirmed.", _why_best(facts)


def _is_undecided(facts: Facts) -> bool:
    return facts.confirmed is None and facts.analysis.grid is not None and not facts.analysis.grid.readings[0].better()


def _grid_verdict(grid: GridComparison) -> tuple[str, str]:
    """Headline and reason for a grid with repeats, which answers its question without a confirmation."""
    better = grid.readings[0].better()
    why = " ".join(sentence(text) for text in (grid.verdict, grid.others) if text)
    if not better:
        return "No setting is shown to be better than the baseline.", why
    return f"Use {format_params(better[0].params)}: better than the baseline.", why


def _why_best(facts: Facts) -> str:
    """Why an unconfirmed trial is the best so far."""
    believed = facts.believed
    if believed is None:
        return "It has the lowest value of the search. The best of many trials is partly luck."
    why = f"By a Gaussian process over {believed.complete:,} complete trials, it has the lowest mean over seeds."
    if believed.trial == believed.best:
        return f"{why} It also has the lowest value."
    other = f"{why} {name_of(believed.best).capitalize()} has the lowest value, {format_value(believed.best_value)}"
    chance = "" if believed.better is None else f"; it is truly worse with a probability of {believed.better:.0%}"
    return f"{other}, but that is partly luck{chance}."


def sentence(text: str) -> str:
    """A clause as a sentence, with a capital letter and a period."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _why_none(facts: Facts) -> str:
    if not facts.trials:
        return "No trial has started."
    counts = [
        f"{count:,} {word}"
        for state, word in ((TrialState.PRUNED, "pruned"), (TrialState.FAIL, "failed"), (TrialState.RUNNING, "running"))
        if (count := len(facts.trials_in_state(state)))
    ]
    return f"Of {counted(len(facts.trials), 'trial')}, none has trained to its end: {', '.join(counts) or 'none has started'}."


def _numbers(facts: Facts, chosen: FrozenTrial) -> Table:
    """The chosen setting beside the baseline: in the search, with fresh seeds, on the sealed test signers."""
    baseline = facts.baseline
    base = None if baseline is None or baseline.number == chosen.number else baseline
    rows = [
        _searched(f"{facts.objective} in the search", lambda trial: value_cell(facts, trial), signed, chosen, base),
        *_grid_rows(facts, chosen, base),
        _searched("accuracy in the search", lambda trial: accuracy_cell(facts, trial), points, chosen, base),
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
    if facts.believed is not None:
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
    if facts.believed is not None:
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
    signers = counted(len(opening.signers), "sealed test signer")
    ends = "" if other is None or opening.gain is None else _interval(both, "gain_low", "gain_high", points)
    gain = _number(both, "gain", points) if ends else ""
    mine_right, other_right = (
        "" if one is None else _number(one, "top1", sealed_share(opening, one.fields)) for one in (mine, other)
    )
    yield (f"accuracy on {signers}", mine_right, other_right, gain)
    if ends:
        yield ("95% interval of the change, over seeds and clips", "", "", ends)
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


def _warnings(facts: Facts) -> Iterator[str]:
    """Reasons to doubt the answer or to look closer."""
    finished = num_finished(facts.trials)
    if finished < facts.target:
        yield f"The search is not finished: {finished:,} of {facts.target:,} trials so far."
    chosen = facts.chosen
    if chosen is not None and facts.confirmed is None and chosen.number != BASELINE_TRIAL and facts.analysis.grid is None:
        estimated = " and the model's mean is an estimate" if facts.believed is not None else ""
        yield f"The best setting has not been trained with fresh seeds: its value is partly luck{estimated}."
    if facts.confirmed is not None and (since := finished - facts.confirmed.trials) > 0:
        was = "was" if since == 1 else "were"
        yield f"{counted(since, 'trial')} finished after the confirmation and {was} not considered in it."
    for advice in facts.analysis.edges:
        value = format_number(advice.value)
        yield (
            f"{advice.name} {value} is at the {advice.edge} end of its range; better settings may lie beyond it "
            f"(`--set '{advice.text}' --allow-wider`)."
        )
    yield from (sentence(found.text) for found in facts.analysis.readings.values() if found.disagree)
    failed = facts.analysis.infeasible
    if failed.share >= _MANY_FAILURES:
        yield f"{failed.failed:,} of {failed.finished:,} trials failed ({failed.share:.0%})."
    yield from (sentence(place) for place in failed.places)
    yield from _test_warnings(facts)


def _test_warnings(facts: Facts) -> Iterator[str]:
    """Reasons to doubt the results on the sealed test signers."""
    if facts.all_openings:
        if others := other_studies(facts.all_openings, facts.study):
            yield f"The same test signers were also opened for {', '.join(others)}."
        last = facts.all_openings[-1].opening.time
        if _continued_after(facts, last):
            yield f"The search continued after the test signers were opened ({last[:10]}): they are no independent test now."
    if facts.last_opening is not None and facts.chosen is not None:
        opening = facts.last_opening[1]
        low, high = opening.gain_low, opening.gain_high
        if opening.trial != facts.chosen.number:
            yield f"The test signers were opened for {name_of(opening.trial)}, not for the setting recommended now."
        elif opening.trial != BASELINE_TRIAL and low is not None and high is not None and low <= 0:
            interval = f"95% interval {points(low)} to {points(high)}"
            if high < 0:
                yield f"On the test signers the accuracy is lower than the baseline's ({interval})."
            else:
                yield f"On the test signers the gain in accuracy may be zero ({interval})."
    if (times := len(facts.all_openings)) > 1:
        yield f"The test signers were opened {times} times; with each opening they are worth less as a test."


def _continued_after(facts: Facts, opened: str) -> bool:
    """Whether a trial or a confirmation ended after the sealed test signers were opened."""
    moment = datetime.datetime.fromisoformat(opened).timestamp()
    ends = [trial.datetime_complete.timestamp() for trial in facts.trials if trial.datetime_complete is not None]
    if facts.confirmed is not None:
        ends.append(datetime.datetime.fromisoformat(facts.confirmed.time).timestamp())
    return max(ends, default=0.0) > moment


def _commands(facts: Facts) -> Iterator[tuple[str, str]]:
    search = "islr-search"
    study = study_args(facts.name, facts.storage)
    study_and_runs = study_args(facts.name, facts.storage, str(facts.runs))
    if num_finished(facts.trials) < facts.target:
        yield "continue the search", f"{search} run {study_and_runs}"
    if facts.chosen is None:
        yield "list the trials", f"{search} trials {study}"
        return
    if facts.confirmed is None:
        yield "train the best settings again with fresh seeds", f"{search} confirm {study_and_runs}"
    elif not facts.all_openings and facts.data.split.test:
        yield "evaluate on the sealed test signers, once", f"{search} test {study_and_runs}"
    yield "write the configuration", f"{search} export {study} --output best.yaml"
    yield "train it again", f"{search} retrain best.yaml"
