"""A study's answer: the setting to use, its numbers, reasons for doubt, and the next commands."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from data_utils.wording import counted
from search import BASELINE_TRIAL
from search.evaluation.analysis.grid import GridComparison
from search.evaluation.confirm.text import rival_text
from search.reporting.cells import Table, points
from search.reporting.facts import Facts
from search.reporting.figures.figure import name_of
from search.reporting.numbers import numbers_table
from search.study.opening_record import other_studies
from search.study.trials import num_finished, trial_with
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
    chosen = _answered(facts)
    headline, because = _verdict(facts)
    return Answer(
        question=facts.about or f"Which settings suit the study {facts.name} best?",
        headline=headline,
        because=because,
        numbers=None if chosen is None else numbers_table(facts, chosen),
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


def _answered(facts: Facts) -> FrozenTrial | None:
    """The trial that is the answer: the one to use, or, of a grid with repeats, the one that is shown to be better."""
    better = [] if facts.confirmed is not None or facts.analysis.grid is None else facts.analysis.grid.readings[0].better()
    return trial_with(facts.trials, better[0].trial) if better else facts.chosen


def _is_undecided(facts: Facts) -> bool:
    """Whether no setting of a grid with repeats is shown to be better than the baseline."""
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


def _warnings(facts: Facts) -> Iterator[str]:
    """Reasons to doubt the answer or to look closer."""
    if facts.caution:
        yield sentence(facts.caution)
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
            yield f"The same test {facts.held_out} were also opened for {', '.join(others)}."
        last = facts.all_openings[-1].opening.time
        if _continued_after(facts, last):
            opened = f"after the test {facts.held_out} were opened ({last[:10]})"
            yield f"The search continued {opened}: they are no independent test now."
    if facts.last_opening is not None and facts.chosen is not None:
        opening = facts.last_opening[1]
        low, high = opening.gain_low, opening.gain_high
        if opening.trial != facts.chosen.number:
            yield f"The test {facts.held_out} were opened for {name_of(opening.trial)}, not for the setting recommended now."
        elif opening.trial != BASELINE_TRIAL and low is not None and high is not None and low <= 0:
            interval = f"95% interval {points(low)} to {points(high)}"
            if high < 0:
                yield f"On the test {facts.held_out} the accuracy is lower than the baseline's ({interval})."
            else:
                yield f"On the test {facts.held_out} the gain in accuracy may be zero ({interval})."
    if (times := len(facts.all_openings)) > 1:
        yield f"The test {facts.held_out} were opened {times} times; with each opening they are worth less as a test."


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
        yield f"evaluate on the sealed test {facts.held_out}, once", f"{search} test {study_and_runs}"
    answered = _answered(facts)
    other = f" --trial {answered.number}" if answered is not None and answered.number != facts.chosen.number else ""
    yield "write the configuration", f"{search} export {study}{other} --output best.yaml"
    yield "train it again", f"{search} retrain best.yaml"
