"""What a study answers, first of all: the setting to use, what it gives, what speaks against believing it, what to do next."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from data_utils.wording import counted
from search import BASELINE_TRIAL
from search.reporting.cells import Cell, Change, Number, Table, known
from search.reporting.facts import Facts
from search.reporting.figures.trust import name_of
from search.study.openings import Opening, SettingScore
from search.study.trials import num_finished, trial_result
from search.wording import format_number, study_args

_MANY_FAILURES = 0.2
"""From this share of failed trials on it is worth a warning."""


@dataclass(frozen=True)
class Answer:
    """One study's answer."""

    question: str
    headline: str
    because: str
    numbers: Table | None
    settings: Mapping[str, Any]
    """What to use, by name; empty while there is no answer."""

    warnings: tuple[str, ...]
    commands: tuple[tuple[str, str], ...]
    """What each is for, and the command."""


def answer_of(facts: Facts) -> Answer:
    """The answer as far as it is known."""
    chosen = facts.chosen
    headline, because = _verdict(facts)
    return Answer(
        question=facts.about or f"Which settings suit the study {facts.name} best?",
        headline=headline,
        because=because,
        numbers=None if chosen is None else _numbers(facts, chosen),
        settings={} if chosen is None else chosen.params,
        warnings=tuple(_warnings(facts)),
        commands=tuple(_commands(facts)),
    )


def _verdict(facts: Facts) -> tuple[str, str]:
    chosen, confirmed = facts.chosen, facts.confirmed
    if chosen is None:
        return "There is no answer yet.", _why_none(facts)
    name = name_of(chosen.number)
    if confirmed is not None and confirmed.found.recommended == chosen.number:
        found = confirmed.found
        if chosen.number == BASELINE_TRIAL:
            return "Use the baseline.", sentence(found.why)
        return f"Use {name}: {found.verdict}.", sentence(found.why)
    if chosen.number == BASELINE_TRIAL:
        return "Nothing has beaten the baseline so far.", "It has the lowest value of the search."
    return (
        f"{name.capitalize()} is the best so far, not confirmed.",
        "It has the lowest value of the search; the best of many trials is partly luck.",
    )


def sentence(text: str) -> str:
    """A clause with a capital and a full stop."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _why_none(facts: Facts) -> str:
    if not facts.trials:
        return "No trial has begun."
    counts = [
        f"{count:,} {word}"
        for state, word in ((TrialState.PRUNED, "pruned"), (TrialState.FAIL, "failed"), (TrialState.RUNNING, "not over"))
        if (count := len(facts.of_state(state)))
    ]
    return f"Of {counted(len(facts.trials), 'trial')} none has trained to its end: {', '.join(counts) or 'none has begun'}."


def _numbers(facts: Facts, chosen: FrozenTrial) -> Table:
    """The chosen setting beside the baseline: in the search, with fresh seeds, on the sealed signers."""
    baseline = facts.baseline
    beside = None if baseline is None or baseline.number == chosen.number else baseline
    rows: list[tuple[Cell, ...]] = [_searched(facts, chosen, beside), _accuracy(chosen, beside)]
    rows += _fresh_rows(facts, chosen, beside)
    if facts.opening is not None:
        rows += _sealed_rows(*facts.opening, chosen, beside)
    head = ("", name_of(chosen.number), *(["baseline", "change"] if beside is not None else []))
    picked = 1 if facts.confirmed is None else facts.confirmed.found.picked_from
    note = f"The interval of {name_of(chosen.number)} is wider, as the pick of {picked}." if picked > 1 else ""
    return Table(head, tuple(row[: len(head)] for row in rows), note)


def trial_number(trial: FrozenTrial, column: str, value: float) -> Number:
    """A number of a trial as `trials` has it."""
    return Number(f"trials.{trial.number}.{column}", value)


def value_column(facts: Facts) -> str:
    """What `trials` calls the primary objective."""
    objective = facts.objectives[facts.primary]
    return "value" if facts.primary == 0 else f"{objective.metric}_{objective.reduce}"


def _searched(facts: Facts, chosen: FrozenTrial, beside: FrozenTrial | None) -> tuple[Cell, ...]:
    column = value_column(facts)
    mine = facts.value(chosen)
    assert mine is not None, "a complete trial has a value"
    cells: list[Cell] = [f"{facts.objective} in the search", trial_number(chosen, column, mine)]
    other = None if beside is None else facts.value(beside)
    if beside is not None and other is not None:
        cells += [trial_number(beside, column, other), f"{mine - other:+.4f}"]
    return (*cells, "", "")


def _accuracy(chosen: FrozenTrial, beside: FrozenTrial | None) -> tuple[Cell, ...]:
    mine = trial_result(chosen)["val_top1"]
    cells: list[Cell] = ["accuracy in the search", trial_number(chosen, "val_top1", mine)]
    if beside is not None and (other := trial_result(beside).get("val_top1")) is not None:
        cells += [trial_number(beside, "val_top1", other), f"{mine - other:+.4f}"]
    return (*cells, "", "")


def _fresh_rows(facts: Facts, chosen: FrozenTrial, beside: FrozenTrial | None) -> Iterator[tuple[Cell, ...]]:
    if facts.confirmed is None:
        return
    found = facts.confirmed.found
    by_trial = {row.trial: (n, row) for n, row in enumerate(found.rows)}
    if chosen.number not in by_trial:
        return
    n, mine = by_trial[chosen.number]
    if mine.mean is None:
        return
    base = "confirm.found"
    seeds = f"{len(mine.values) - mine.values.count(None)} fresh seeds"
    cells: list[Cell] = [f"{facts.confirmed.objective}, mean of {seeds}", Number(f"{base}.rows.{n}.mean", mine.mean)]
    ends: list[Cell] = ["95 % interval", _interval(base, "low", found.low, "high", found.high)]
    if beside is not None and beside.number in by_trial:
        m, other = by_trial[beside.number]
        cells.append(known(f"{base}.rows.{m}.mean", other.mean))
        cells.append(known(f"{base}.rows.{n}.change", mine.change, Change))
        place = f"{base}.rows.{m}"
        ends.append(_interval(place, "low", other.low, "high", other.high))
        ends.append(_interval(base, "change_low", found.change_low, "change_high", found.change_high, Change))
    yield (*cells, "", "")
    yield (*ends, "", "")


def _interval(
    base: str, low_name: str, low: float | None, high_name: str, high: float | None, kind: type[Number] = Number
) -> Cell:
    if low is None or high is None:
        return ""
    return (kind(f"{base}.{low_name}", low), "to", kind(f"{base}.{high_name}", high))


def _sealed_rows(n: int, opening: Opening, chosen: FrozenTrial, beside: FrozenTrial | None) -> Iterator[tuple[Cell, ...]]:
    scores: dict[int, tuple[int, SettingScore]] = {score.trial: (m, score) for m, score in enumerate(opening.scores)}
    if chosen.number not in scores:
        return
    signers = f"{len(opening.signers)} sealed {'signer' if len(opening.signers) == 1 else 'signers'}"
    m, mine = scores[chosen.number]
    cells: list[Cell] = [f"accuracy on {signers}", Number(f"openings.{n}.scores.{m}.top1", mine.top1)]
    losses: list[Cell] = [f"loss on {signers}", Number(f"openings.{n}.scores.{m}.loss", mine.loss)]
    gains: list[Cell] = []
    if beside is not None and beside.number in scores:
        k, other = scores[beside.number]
        cells.append(Number(f"openings.{n}.scores.{k}.top1", other.top1))
        losses.append(Number(f"openings.{n}.scores.{k}.loss", other.loss))
        if opening.gain is not None and opening.gain_low is not None and opening.gain_high is not None:
            cells.append(Change(f"openings.{n}.gain", opening.gain))
            ends = _interval(f"openings.{n}", "gain_low", opening.gain_low, "gain_high", opening.gain_high, Change)
            gains = ["95 % interval of the change", "", "", ends]
    yield (*cells, "", "")
    if gains:
        yield tuple(gains)
    yield (*losses, "", "")


def _warnings(facts: Facts) -> Iterator[str]:
    """What speaks against believing the answer, or calls for a look."""
    finished = num_finished(facts.trials)
    if finished < facts.target:
        yield f"The search is not at its end: {finished:,} of {facts.target:,} trials are finished."
    chosen = facts.chosen
    if chosen is not None and facts.confirmed is None and chosen.number != BASELINE_TRIAL:
        yield "The best was not trained with fresh seeds: its number is partly luck."
    if facts.confirmed is not None and (since := finished - facts.confirmed.trials) > 0:
        many = "1 trial was" if since == 1 else f"{since:,} trials were"
        yield f"{many} finished since the confirmation, and had no part in it."
    for advice in facts.analysis.edges:
        value = format_number(advice.value)
        yield (
            f"{advice.name} {value} lies at the {advice.edge} end of its range: better settings may lie beyond "
            f"(`--set '{advice.text}' --allow-wider`)."
        )
    yield from (sentence(found.text) for found in facts.analysis.readings.values() if found.disagree)
    failed = facts.analysis.infeasible
    if failed.share >= _MANY_FAILURES:
        yield f"{failed.failed:,} of {failed.finished:,} trials failed ({failed.share:.0%})."
    yield from (sentence(place) for place in failed.places)
    yield from _sealed_doubt(facts)
    if len(facts.looks) > 1:
        yield f"The sealed signers were opened {len(facts.looks)} times: each look makes them worth less as a test."


def _sealed_doubt(facts: Facts) -> Iterator[str]:
    """What weakens what the sealed signers have said."""
    if facts.looks:
        others = sorted({name for name, _ in facts.looks if name != facts.name})
        if others:
            yield f"The sealed signers were opened for {', '.join(f'`{name}`' for name in others)} too."
        last = facts.looks[-1][1].time
        if _went_on(facts, last):
            yield f"The search went on after the sealed signers were opened ({last[:10]}): they are no fair test any more."
    if facts.opening is None or facts.chosen is None:
        return
    opening, low, high = facts.opening[1], facts.opening[1].gain_low, facts.opening[1].gain_high
    if opening.trial != facts.chosen.number:
        yield f"The sealed signers were opened for {name_of(opening.trial)}, not for what is recommended now."
    elif opening.trial != BASELINE_TRIAL and low is not None and high is not None and low <= 0:
        interval = f"95 % {low:+.4f} to {high:+.4f}"
        if high < 0:
            yield f"On the sealed signers the accuracy is worse than the baseline's ({interval})."
        else:
            yield f"On the sealed signers the gain in accuracy may be none: its interval ({interval}) holds zero."


def _went_on(facts: Facts, opened: str) -> bool:
    """Whether a trial or a confirmation ended after the sealed signers were opened."""
    moment = datetime.datetime.fromisoformat(opened).timestamp()
    ends = [trial.datetime_complete.timestamp() for trial in facts.trials if trial.datetime_complete is not None]
    if facts.confirmed is not None:
        ends.append(datetime.datetime.fromisoformat(facts.confirmed.time).timestamp())
    return max(ends, default=0.0) > moment


def _commands(facts: Facts) -> Iterator[tuple[str, str]]:
    search = "python -m search"
    whole = study_args(facts.name, facts.storage, str(facts.runs))
    short = study_args(facts.name, facts.storage)
    if num_finished(facts.trials) < facts.target:
        yield "go on with the search", f"{search} run {whole}"
    if facts.chosen is None:
        yield "see why", f"{search} trials {short}"
        return
    if facts.confirmed is None:
        yield "train the best again with fresh seeds", f"{search} confirm {whole}"
    elif not facts.looks and facts.data.split.test:
        yield "ask the sealed signers, once", f"{search} test {whole}"
    yield "write the configuration", f"{search} export {short} --output best.yaml"
    yield "train it again", f"{search} retrain best.yaml"
