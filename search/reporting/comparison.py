"""Two studies side by side: why they may not be comparable, what differs, what each found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from data_utils.wording import SAME_PEOPLE, counted, format_duration
from search import BASELINE_TRIAL
from search.evaluation.analysis.intervals import Interval, difference_interval, mean_interval
from search.reporting.answer import answer_of, sentence
from search.reporting.cells import Cell, Table, signed
from search.reporting.facts import Facts
from search.reporting.figures.comparing import best_so_far, fresh_seeds
from search.reporting.figures.figure import Figure
from search.reporting.numbers import accuracy_cell, value_cell
from search.reporting.sections import Section
from search.study.confirmed import CandidateResult, num_values
from search.study.identity import IDENTITY
from search.study.order import ORDER_SEED
from search.study.study import STRATEGY
from search.study.trials import count_states
from search.wording import format_params, format_value, trial_name

_MISSING = "-"


@dataclass(frozen=True)
class Comparison:
    """Two studies side by side."""

    headline: str
    because: str
    warnings: tuple[str, ...]
    """Why they cannot be compared, or only with care."""

    numbers: Table
    sections: tuple[Section, ...]
    figures: tuple[Figure, ...]


def compare(one: Facts, other: Facts) -> Comparison:
    """Compares two studies."""
    obstacles = tuple(_obstacles(one, other))
    headline, because = _verdict(one, other, comparable=not obstacles)
    figures = () if obstacles else (fresh_seeds(one, other), best_so_far(one, other))
    header = ("", one.name, other.name)
    differences = tuple(_differences(one, other))
    rest = "Everything else" if differences else "Everything"
    same = f"{rest} is the same: settings, space, data, signers, seed, sampler and pruner."
    return Comparison(
        headline=headline,
        because=because,
        warnings=(*obstacles, *_cautions(one, other)),
        numbers=Table(header, tuple(row for row in _found(one, other) if set(row[1:]) != {_MISSING}), has_long_cells=True),
        sections=(
            Section("differs", "What differs?", (), () if differences else (same,), (Table(header, differences, same, True),)),
            *([Section("values", "How do their values compare?", figures)] if figures else []),
        ),
        figures=figures,
    )


def _obstacles(one: Facts, other: Facts) -> Iterator[str]:
    """Why values of the two studies do not mean the same."""
    if one.data.fingerprint != other.data.fingerprint:
        yield f"They cannot be compared: other data ({one.data.folder} and {other.data.folder})."
    elif one.held_out != other.held_out:
        by_clips, by_signer = (facts.name for facts in sorted((one, other), key=lambda facts: facts.held_out))
        yield (
            f"They cannot be compared: {by_signer} validates on signers that it does not train on, {by_clips} on clips of the "
            f"signers that it trains on ({SAME_PEOPLE})."
        )
    elif one.caution and _clips(one) != _clips(other):
        yield "They cannot be compared: they validate on other clips."
    elif _judges(one) != _judges(other):
        yield "They cannot be compared: they validate on other signers, and some signers are harder than others."
    if one.objective != other.objective:
        yield f"They cannot be compared: {one.name} minimizes {one.objective}, {other.name} {other.objective}."


def _judges(facts: Facts) -> set[frozenset[str]]:
    """The groups of signers that validate."""
    return {frozenset(validation) for _, validation in facts.data.split.train_validation_pairs()}


def _clips(facts: Facts) -> str:
    """A digest of which clips validate."""
    return "" if facts.data.split.clips is None else facts.data.split.clips.digest


def _sealed_part(facts: Facts) -> tuple[str, ...]:
    """What identifies the clips that are sealed."""
    split = facts.data.split
    return split.test if split.clips is None else (split.clips.sealed,)


def _cautions(one: Facts, other: Facts) -> Iterator[str]:
    """What makes a comparison less fair."""
    if one.caution and other.caution:
        yield sentence(SAME_PEOPLE)
    same_kind = one.data.fingerprint == other.data.fingerprint and one.held_out == other.held_out
    if same_kind and one.data.split.train != other.data.split.train:
        yield "They were trained on other signers."
    if one.held_out == other.held_out and _sealed_part(one) != _sealed_part(other):
        yield f"Their sealed test {one.held_out} are not the same."
    for facts in (one, other):
        if facts.chosen is None:
            yield f"{facts.name} has no complete trial yet."
        elif facts.confirmed is None and facts.analysis.grid is None:
            yield f"{facts.name} is not confirmed: its best value is partly luck (`islr-search confirm {facts.name}`)."
    counts = [len(facts.trials) for facts in (one, other)]
    if min(counts) and max(counts) >= 2 * min(counts):
        yield f"{counts[0]:,} and {counts[1]:,} trials: the best of more trials is more often lucky."


def _verdict(one: Facts, other: Facts, *, comparable: bool) -> tuple[str, str]:
    """Headline and reason."""
    if not comparable:
        return "These studies cannot be compared.", "Their values do not mean the same; the reasons are below."
    mine, theirs = (_recommended(facts) for facts in (one, other))
    if mine is None or theirs is None:
        return "It is not decided which study found the better setting.", "That needs a confirmation of both."
    difference, how = _difference(one, other, mine, theirs)
    if difference.mean is None or difference.low is None or difference.high is None:
        return "It is not decided which study found the better setting.", "Too few seeds measure their means."
    text = (
        f"{one.objective} of {_setting(other, theirs)} minus that of {_setting(one, mine)}: {signed(difference.mean)} "
        f"(95% interval {signed(difference.low)} to {signed(difference.high)}, {how}, "
        f"on the same validation {one.held_out}). Lower is better."
    )
    if difference.low <= 0 <= difference.high:
        return "Neither study is shown to have found the better setting.", text
    return f"{(other if difference.high < 0 else one).name} found the better setting.", text


def _recommended(facts: Facts) -> CandidateResult | None:
    """The recommended setting of a confirmation."""
    found = None if facts.confirmed is None else facts.confirmed.found
    return None if found is None else next((row for row in found.rows if row.trial == found.recommended), None)


def _setting(facts: Facts, row: CandidateResult) -> str:
    return f"{facts.name}'s {trial_name(row.trial).removeprefix('the ')}"


def _difference(one: Facts, other: Facts, mine: CandidateResult, theirs: CandidateResult) -> tuple[Interval, str]:
    """The difference of the means over the seeds that measure: seed by seed if both have the same ones."""
    values = [_measured(facts, row) for facts, row in ((one, mine), (other, theirs))]
    both = sorted(values[0].keys() & values[1].keys())
    if one.seed == other.seed and len(both) > 1:
        return mean_interval([values[1][seed] - values[0][seed] for seed in both]), f"over {counted(len(both), 'common seed')}"
    return difference_interval([*values[1].values()], [*values[0].values()]), "Welch's t-test over fresh seeds"


def _measured(facts: Facts, row: CandidateResult) -> dict[int, float]:
    """The values that measure a setting, by the number of the seed."""
    assert facts.confirmed is not None, "the row is one of its confirmation"
    first = facts.confirmed.found.choosing if row.measured else 0
    return {n: value for n, value in enumerate(row.values, 1) if n > first and value is not None}


def _differences(one: Facts, other: Facts) -> Iterator[tuple[Cell, ...]]:
    """Every line of the two definitions that differs."""
    left, right = (dict(_lines(facts)) for facts in (one, other))
    for key in [*left, *(key for key in right if key not in left)]:
        if left.get(key) != right.get(key):
            yield (key, left.get(key, _MISSING), right.get(key, _MISSING))


def _lines(facts: Facts) -> Iterator[tuple[str, str]]:
    """A study's definition, line by line. A setting has one line, whether it is searched or fixed."""
    stored: dict[str, str] = json.loads(facts.study.user_attrs[IDENTITY])
    yield "about", facts.about or _MISSING
    yield "objective", stored["objective"]
    yield "strategy", str(facts.study.user_attrs.get(STRATEGY, _MISSING))
    yield "target", counted(facts.target, "trial")
    yield "order of the clips", "shared by its trials" if ORDER_SEED in facts.study.user_attrs else "each trial's own"
    for dim in facts.space:
        yield dim.setting.key, f"searched: {dim.text()}"
    for key, text in stored.items():
        if key.startswith("fixed: "):
            yield key.removeprefix("fixed: "), text
        elif not key.startswith(("space: ", "condition: ", "objective")):
            yield key, text[:12] if key == "data: fingerprint" else text


def _found(one: Facts, other: Facts) -> Iterator[tuple[Cell, ...]]:
    """What each study found, a row for each number."""

    def row(name: str, of: Callable[[Facts], str]) -> tuple[Cell, ...]:
        return (name, *(of(facts) or _MISSING for facts in (one, other)))

    yield row("answer", lambda facts: answer_of(facts).headline)
    yield row("its settings", lambda facts: "" if facts.chosen is None else format_params(facts.chosen.params))
    yield row("limits", lambda facts: facts.caution)
    yield row("trials", _trials)
    yield row("best value of the search", _best)
    yield row("the baseline in the search", lambda facts: "" if facts.baseline is None else _searched(facts, BASELINE_TRIAL))
    yield row("believed mean over seeds", _believed)
    yield row("confirmed mean", lambda facts: "" if (found := _recommended(facts)) is None else _mean(facts, found))
    yield row("its change to the baseline", _change)
    yield row("verdict", lambda facts: "" if facts.confirmed is None else sentence(facts.confirmed.found.verdict))
    yield row("accuracy on the sealed test part", _sealed)
    yield row("spent", _spent)


def _trials(facts: Facts) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in count_states(facts.trials).items() if count)


def _best(facts: Facts) -> str:
    return "" if facts.best is None else f"{trial_name(facts.best.number)}: {_searched(facts, facts.best.number)}"


def _searched(facts: Facts, number: int) -> str:
    """Value and accuracy of a trial in the search."""
    trial = next(one for one in facts.trials if one.number == number)
    cells = [getattr(cell, "text", "") for cell in (value_cell(facts, trial), accuracy_cell(facts, trial))]
    return f"{facts.objective} {cells[0]}, accuracy {cells[1]}"


def _believed(facts: Facts) -> str:
    one = facts.believed
    return "" if one is None else f"{trial_name(one.trial)}: {_with_interval(one.mean, one.low, one.high)}"


def _mean(facts: Facts, row: CandidateResult) -> str:
    assert facts.confirmed is not None, "the row is one of its confirmation"
    found = facts.confirmed.found
    seeds = counted(num_values(row, found), "fresh seed")
    return f"{trial_name(row.trial)}: {_with_interval(row.mean, found.low, found.high)} over {seeds}"


def _change(facts: Facts) -> str:
    found = _recommended(facts)
    if facts.confirmed is None or found is None or found.trial == BASELINE_TRIAL or found.change is None:
        return ""
    return _with_interval(found.change, facts.confirmed.found.change_low, facts.confirmed.found.change_high, signed)


def _with_interval(
    value: float | None, low: float | None, high: float | None, form: Callable[[float], str] = format_value
) -> str:
    if value is None:
        return ""
    return form(value) + ("" if low is None or high is None else f" (95% {form(low)} to {form(high)})")


def _sealed(facts: Facts) -> str:
    if facts.last_opening is None:
        return ""
    return ", ".join(f"{trial_name(score.trial)} {score.top1:.0%}" for score in facts.last_opening[1].scores)


def _spent(facts: Facts) -> str:
    total, confirming = facts.analysis.ledger.total, facts.analysis.confirming
    text = f"{format_duration(total.cpu_s + total.gpu_s + total.other_s)} and {total.epochs:,.0f} epochs"
    if confirming is not None:
        more = confirming.total
        text += f"; to confirm {format_duration(more.cpu_s + more.gpu_s + more.other_s)}, {counted(more.trials, 'training')}"
    return text
