"""What trainings with fresh seeds say: who is still in the race, who is better than whom, and which setting is recommended.

Pure functions of plain values; lower values are better. Every setting trains with the same seeds, numbered from 1, so that two
settings are compared seed by seed: what a seed does to both falls out of the difference.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from search import BASELINE_TRIAL
from search.evaluation.analysis.noise import pooled_sd
from search.evaluation.confirm.race import _EXACT, Values, _number, _t_quantile, dropped
from search.study.confirmed import Candidate, Confirmation, Row

if TYPE_CHECKING:
    from search.evaluation.confirm.estimate import Estimates


TIE = 0.35
"""A setting that is better than the leader with this probability cannot be told apart from it. At 0.5 the two are level."""

SEEDS_TIE = 0.2
"""The same by its own seeds, paired: less than a standard error behind. Both must hold, and nobody leads who is further behind
another than that. Source: the one-standard-error rule of Breiman et al. 1984, "Classification and regression trees"."""

PROBABLY = 0.8
"""From this probability on a setting is called probably better."""

COVERAGE = 0.95
"""How often an interval holds the true mean."""


def probability_better(a: Sequence[float], b: Sequence[float]) -> float:
    """The probability that `a` has the lower true mean, from two or more pairs of values.

    It is the posterior of the mean difference under the usual flat prior (Gelman et al., "Bayesian data analysis", 3.2), a
    Student t, and 1 minus the p of a one-sided paired t-test. Where every pair differs by the same there is no spread to go by:
    then it is Laplace's rule of succession, (n + 1) / (n + 2) for n pairs in favour, and 0.5 for n ties.

    Raises:
        ValueError: unequal lengths.
    """
    from scipy.special import stdtr

    differences = [x - y for x, y in zip(a, b, strict=True)]
    mean, error = statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences))
    if error > _EXACT * abs(mean):
        return float(stdtr(len(differences) - 1, -mean / error))
    count = len(differences)
    return 0.5 if mean == 0 else ((count + 1) if mean < 0 else 1) / (count + 2)


def weigh(candidates: Sequence[Candidate], values: Values, seeds: int, estimates: Estimates | None) -> Confirmation:
    """What the values say of the candidates, the baseline among them, and which is recommended.

    Only who trained with every seed can be recommended, and who is not a standard error behind another by their own seeds. Of
    these the lowest estimate leads; of those that cannot be told apart from the leader the one with the fewest parameters is
    recommended, and of equals the nearest to the baseline.

    Args:
        candidates: the settings, with the baseline.
        values: what their trainings gave. May be incomplete.
        seeds: with how many each trains that stays in the race.
        estimates: from the whole search; without them means and paired t-tests decide.
    """
    out = dropped([candidate.trial for candidate in candidates], values, seeds - 1)
    base = _by_seed(values.get(BASELINE_TRIAL, {}), seeds)
    rows = [_row(one, values.get(one.trial, {}), base, out.get(one.trial), estimates) for one in candidates]
    rows.sort(key=lambda row: (row.trial == BASELINE_TRIAL, row.mean is None, row.mean or 0.0, row.trial))
    complete = [row for row in rows if None not in row.values]
    ranked = sorted((row for row in complete if not _is_beaten(row, complete)), key=_level)  # of equals the baseline is last
    tied = [row for row in ranked if row is ranked[0] or _may_be_better(row, ranked[0], estimates)]
    choice = _simplest(tied) if tied else None
    picked_from = _picked_from(choice, complete) if choice else 0
    low, high, change_low, change_high = _chosen_intervals(choice, base, picked_from) if choice else (None,) * 4
    groups = [[value for value in by_seed.values() if value is not None] for by_seed in values.values()]
    by = "mean" if estimates is None else "estimate"
    return Confirmation(
        rows=tuple(rows),
        better_than=tuple(tuple(None if a is b else _better(a.values, b.values) for b in rows) for a in rows),
        recommended=choice.trial if choice else None,
        leader=ranked[0].trial if ranked else None,
        tied=tuple(row.trial for row in tied),
        picked_from=picked_from,
        low=low,
        high=high,
        change_low=change_low,
        change_high=change_high,
        why=_why(choice, tied, by, overruled=ranked[0] is not min(complete, key=_level))
        if choice
        else "no setting has a value for every seed",
        verdict=_verdict(choice, change_high, failed=None in base),
        noise=pooled_sd(groups),
        seeds=seeds,
        trainings=sum(len(values.get(candidate.trial, {})) for candidate in candidates),
        saved=sum(row.values.count(None) for row in rows if row.dropped_after is not None and not row.failed),
    )


def _row(
    candidate: Candidate,
    own: Mapping[int, float | None],
    base: Sequence[float | None],
    dropped_after: int | None,
    estimates: Estimates | None,
) -> Row:
    values = _by_seed(own, len(base))
    mean, sd, low, high = _interval([value for value in values if value is not None])
    change, _, change_low, change_high = _interval([a - b for a, b in _pairs(values, base)])
    is_baseline = candidate.trial == BASELINE_TRIAL  # it has no interval around itself
    return Row(
        trial=candidate.trial,
        params=dict(candidate.params),
        searched=candidate.searched,
        parameters=candidate.parameters,
        distance=candidate.distance,
        values=values,
        failed=tuple(seed for seed, value in sorted(own.items()) if value is None),
        reason=candidate.reason if None in own.values() else "",
        dropped_after=dropped_after if None in values else None,
        mean=mean,
        sd=sd,
        low=low,
        high=high,
        estimate=estimates.mean_of(candidate.trial) if estimates is not None and candidate.trial in estimates.trials else None,
        change=change,
        change_low=None if is_baseline else change_low,
        change_high=None if is_baseline else change_high,
        better=None if is_baseline else _better(values, base),
        optimism=None if mean is None or candidate.searched is None else mean - candidate.searched,
    )


def _by_seed(own: Mapping[int, float | None], seeds: int) -> tuple[float | None, ...]:
    return tuple(own.get(seed) for seed in range(1, seeds + 1))


def _pairs(a: Sequence[float | None], b: Sequence[float | None]) -> list[tuple[float, float]]:
    """The values of the seeds that both have."""
    return [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]


def _better(a: Sequence[float | None], b: Sequence[float | None]) -> float | None:
    """`probability_better` over the seeds that both have; None with fewer than two."""
    pairs = _pairs(a, b)
    return probability_better([x for x, _ in pairs], [y for _, y in pairs]) if len(pairs) > 1 else None


def _picked_from(choice: Row, complete: Sequence[Row]) -> int:
    """How many settings, itself among them, its seeds alone cannot tell it from."""
    better = [_better(row.values, choice.values) for row in complete if row is not choice]
    return 1 + sum(probability is None or probability >= 1 - COVERAGE for probability in better)


def _chosen_intervals(
    choice: Row, base: Sequence[float | None], picked_from: int
) -> tuple[float | None, float | None, float | None, float | None]:
    """Both ends of the intervals of the recommended one's mean and of its difference to the baseline."""
    coverage = 1 - (1 - COVERAGE) / picked_from
    low, high = _interval([_number(value) for value in choice.values], coverage)[2:]
    changes = [a - b for a, b in _pairs(choice.values, base)]
    change_low, change_high = (None, None) if choice.trial == BASELINE_TRIAL else _interval(changes, coverage)[2:]
    return low, high, change_low, change_high


def _interval(
    values: Sequence[float], coverage: float = COVERAGE
) -> tuple[float | None, float | None, float | None, float | None]:
    """Mean, standard deviation, and both ends of the mean's interval (Student 1908); None for what cannot be known."""
    if len(values) < 2:
        return (values[0] if values else None), None, None, None
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    if sd <= _EXACT * abs(mean):  # a few equal values do not mean that there is no noise
        return mean, sd, None, None
    half = _t_quantile((1 + coverage) / 2, len(values) - 1) * sd / math.sqrt(len(values))
    return mean, sd, mean - half, mean + half


def _level(row: Row) -> float:
    """What settings are compared by."""
    return _number(row.mean if row.estimate is None else row.estimate)


def _may_be_better(row: Row, leader: Row, estimates: Estimates | None) -> bool:
    """Whether neither the seeds nor the estimates tell it from the leader; with a single seed nothing does."""
    by_seeds = _better(row.values, leader.values)
    if estimates is None or not {row.trial, leader.trial} <= set(estimates.trials):
        return by_seeds is None or by_seeds >= TIE
    return estimates.probability_better(row.trial, leader.trial) >= TIE and (by_seeds is None or by_seeds >= SEEDS_TIE)


def _is_beaten(row: Row, complete: Sequence[Row]) -> bool:
    """Whether by their own seeds another is a standard error ahead. The one with the lowest mean never is beaten."""
    better = [_better(row.values, other.values) for other in complete if other is not row]
    return any(probability is not None and probability < SEEDS_TIE for probability in better)


def _simplest(tied: Sequence[Row]) -> Row:
    """The one with the fewest parameters; of equals the nearest to the baseline, then the lowest."""
    return min(_fewest(tied), key=lambda row: row.distance)  # min keeps the first of equals, and the lowest comes first


def _fewest(tied: Sequence[Row]) -> list[Row]:
    """Those with the fewest parameters; all, if somebody's are unknown."""
    counts = [row.parameters for row in tied if row.parameters is not None]
    return [row for row in tied if len(counts) < len(tied) or row.parameters == min(counts)]


def _why(choice: Row, tied: Sequence[Row], by: str, *, overruled: bool) -> str:
    named = _named([choice])
    if len(tied) == 1:
        rest = " of those that are not behind another by their own seeds" if overruled else ""
        return f"{named} has the lowest {by}{rest}"
    fewest = _fewest(tied)
    beginning = f"{_named(tied)} cannot be told apart"
    if len(fewest) == 1:
        return f"{beginning}; of these {named} has the fewest parameters ({choice.parameters:,})"
    rest = "stays" if choice.trial == BASELINE_TRIAL else "is nearest to the baseline"
    if len(fewest) == len(tied):
        return f"{beginning}; of these {named} {rest}" if choice.trial != BASELINE_TRIAL else f"{beginning}, so {named} {rest}"
    return f"{beginning}; of these {_named(fewest)} have the fewest parameters ({choice.parameters:,}), and {named} {rest}"


def _named(rows: Sequence[Row]) -> str:
    """`trials 12, 8 and the baseline`."""
    numbers = [str(row.trial) for row in rows if row.trial != BASELINE_TRIAL]
    names = [f"trial{'s' if len(numbers) > 1 else ''} {numbers[0]}", *numbers[1:]] if numbers else []
    if len(numbers) < len(rows):
        names.append("the baseline")
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _verdict(choice: Row | None, change_high: float | None, *, failed: bool) -> str:
    if choice is None:
        return "nothing can be compared with the baseline"
    if choice.trial == BASELINE_TRIAL:
        return "the baseline is recommended"
    if failed and choice.better is None:
        return "the baseline failed, so nothing can be compared with it"
    if change_high is not None and change_high < 0:
        return "better than the baseline"
    if choice.better is not None and choice.better >= PROBABLY:
        return "probably better than the baseline"
    return "no gain over the baseline is shown"
