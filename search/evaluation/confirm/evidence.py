"""Compares settings by their trainings with fresh seeds, and recommends one.

Pure functions of plain values; lower values are better. Every setting trains with the same seeds, numbered from 1, so that two
settings are compared seed by seed, and effects of a seed on both cancel out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple

from search import BASELINE_TRIAL
from search.evaluation.analysis.noise import pooled_sd
from search.evaluation.confirm.race import EQUAL_WITHIN, Values, eliminated, known_values, require_value, t_quantile
from search.study.confirmed import Candidate, CandidateResult, Confirmation, SearchedSetting

if TYPE_CHECKING:
    from search.evaluation.confirm.estimate import Estimates


TIE = 0.35
"""A setting that is better than the leader with at least this probability is tied with it. At 0.5 both are equally good."""

SEEDS_TIE = 0.2
"""The same by its own seeds, paired: less than one standard error behind. Both must hold, and no setting that is further behind
another can lead. Source: the one-standard-error rule of Breiman et al. 1984, "Classification and regression trees"."""

PROBABLY = 0.8
"""From this probability on a setting is called probably better."""

COVERAGE = 0.95
"""Share of intervals that contain the true mean."""


def probability_better(a: Sequence[float], b: Sequence[float]) -> float:
    """The probability that `a` has the lower true mean, from at least two pairs of values.

    It is the posterior of the mean difference under the usual flat prior (Gelman et al., "Bayesian data analysis", 3.2), a
    Student t, and 1 minus the p of a one-sided paired t-test. If all pairs differ by the same amount, their spread is unknown,
    and it is Laplace's rule of succession instead: (n + 1) / (n + 2) for n pairs in favor, and 0.5 for n ties.

    Raises:
        ValueError: the lengths differ.
    """
    from scipy.special import stdtr

    differences = [x - y for x, y in zip(a, b, strict=True)]
    mean, error = statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences))
    if error > EQUAL_WITHIN * abs(mean):
        return float(stdtr(len(differences) - 1, -mean / error))
    count = len(differences)
    return 0.5 if mean == 0 else ((count + 1) if mean < 0 else 1) / (count + 2)


def compare_candidates(
    candidates: Sequence[Candidate], values: Values, seeds: int, estimates: Estimates | None
) -> Confirmation:
    """Compares the candidates, among them the baseline, and recommends one.

    Only a setting with a value for every seed can be recommended, and only if its own seeds are not one standard error behind
    another's. Of these the one with the lowest estimate leads. Of the settings tied with the leader, the one with the fewest
    parameters is recommended, and of equals the one nearest to the baseline.

    Args:
        candidates: the settings, with the baseline.
        values: the values of their trainings; may be incomplete.
        seeds: number of seeds of a candidate that is not eliminated.
        estimates: from the whole search; without them means and paired t-tests decide.
    """
    out = eliminated([candidate.trial for candidate in candidates], values, seeds - 1)
    base = _by_seed(values.get(BASELINE_TRIAL, {}), seeds)
    rows = [_row(one, values.get(one.trial, {}), base, out.get(one.trial), estimates) for one in candidates]
    rows.sort(key=lambda row: (row.trial == BASELINE_TRIAL, row.mean is None, row.mean or 0.0, row.trial))
    complete = [row for row in rows if None not in row.values]
    ranked = sorted((row for row in complete if not _is_beaten(row, complete)), key=_level)  # of equals the baseline is last
    tied = [row for row in ranked if row is ranked[0] or _may_be_better(row, ranked[0], estimates)]
    choice = _simplest(tied) if tied else None
    picked_from, interval, change, why = 0, _UNKNOWN, _UNKNOWN, "no setting has a value for every seed"
    if choice is not None:
        picked_from = _picked_from(choice, complete)
        coverage = 1 - (1 - COVERAGE) / picked_from
        interval = _interval([require_value(value) for value in choice.values], coverage)
        if choice.trial != BASELINE_TRIAL:
            change = _interval([a - b for a, b in _pairs(choice.values, base)], coverage)
        by = "mean" if estimates is None else "estimate"
        why = _why(choice, tied, by, overruled=ranked[0] is not min(complete, key=_level))
    return Confirmation(
        rows=tuple(rows),
        better_than=tuple(tuple(None if a is b else _better(a.values, b.values) for b in rows) for a in rows),
        recommended=choice.trial if choice else None,
        leader=ranked[0].trial if ranked else None,
        tied=tuple(row.trial for row in tied),
        picked_from=picked_from,
        low=interval.low,
        high=interval.high,
        change_low=change.low,
        change_high=change.high,
        why=why,
        verdict=_verdict(choice, change.high, baseline_failed=None in base),
        noise=pooled_sd([known_values(by_seed) for by_seed in values.values()]),
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
) -> CandidateResult:
    values = _by_seed(own, len(base))
    fresh = _interval([value for value in values if value is not None])
    change = _interval([a - b for a, b in _pairs(values, base)])
    is_baseline = candidate.trial == BASELINE_TRIAL  # which has no interval around itself
    return CandidateResult(
        **{field.name: getattr(candidate, field.name) for field in fields(SearchedSetting)},
        values=values,
        failed=tuple(seed for seed, value in sorted(own.items()) if value is None),
        reason=candidate.reason if None in own.values() else "",
        dropped_after=dropped_after if None in values else None,
        mean=fresh.mean,
        sd=fresh.sd,
        low=fresh.low,
        high=fresh.high,
        estimate=estimates.mean_of(candidate.trial) if estimates is not None and candidate.trial in estimates.trials else None,
        change=change.mean,
        change_low=None if is_baseline else change.low,
        change_high=None if is_baseline else change.high,
        better=None if is_baseline else _better(values, base),
        optimism=None if fresh.mean is None or candidate.searched is None else fresh.mean - candidate.searched,
    )


def _by_seed(own: Mapping[int, float | None], seeds: int) -> tuple[float | None, ...]:
    return tuple(own.get(seed) for seed in range(1, seeds + 1))


def _pairs(a: Sequence[float | None], b: Sequence[float | None]) -> list[tuple[float, float]]:
    """The values for the seeds that both have."""
    return [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]


def _better(a: Sequence[float | None], b: Sequence[float | None]) -> float | None:
    """`probability_better` over the seeds that both have; None with fewer than two."""
    pairs = _pairs(a, b)
    return probability_better([x for x, _ in pairs], [y for _, y in pairs]) if len(pairs) > 1 else None


def _picked_from(choice: CandidateResult, complete: Sequence[CandidateResult]) -> int:
    """The number of settings, itself included, that its seeds alone cannot separate from it."""
    better = [_better(row.values, choice.values) for row in complete if row is not choice]
    return 1 + sum(probability is None or probability >= 1 - COVERAGE for probability in better)


class _Interval(NamedTuple):
    """Mean, standard deviation, and both ends of the mean's interval; None for what is unknown."""

    mean: float | None
    sd: float | None = None
    low: float | None = None
    high: float | None = None


_UNKNOWN = _Interval(None)


def _interval(values: Sequence[float], coverage: float = COVERAGE) -> _Interval:
    """The interval of the true mean (Student 1908)."""
    if len(values) < 2:
        return _Interval(values[0] if values else None)
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    if sd <= EQUAL_WITHIN * abs(mean):  # a few equal values do not mean that there is no noise
        return _Interval(mean, sd)
    half = t_quantile((1 + coverage) / 2, len(values) - 1) * sd / math.sqrt(len(values))
    return _Interval(mean, sd, mean - half, mean + half)


def _level(row: CandidateResult) -> float:
    """The value that settings are ranked by."""
    return require_value(row.mean if row.estimate is None else row.estimate)


def _may_be_better(row: CandidateResult, leader: CandidateResult, estimates: Estimates | None) -> bool:
    """Whether it is tied with the leader by its seeds and by the estimates. With a single seed everything is tied."""
    by_seeds = _better(row.values, leader.values)
    if estimates is None or not {row.trial, leader.trial} <= set(estimates.trials):
        return by_seeds is None or by_seeds >= TIE
    return estimates.probability_better(row.trial, leader.trial) >= TIE and (by_seeds is None or by_seeds >= SEEDS_TIE)


def _is_beaten(row: CandidateResult, complete: Sequence[CandidateResult]) -> bool:
    """Whether another setting's seeds are one standard error ahead. Never true for the one with the lowest mean."""
    better = [_better(row.values, other.values) for other in complete if other is not row]
    return any(probability is not None and probability < SEEDS_TIE for probability in better)


def _simplest(tied: Sequence[CandidateResult]) -> CandidateResult:
    """The one with the fewest parameters; of equals the nearest to the baseline, then the lowest, which comes first."""
    return min(_fewest(tied), key=lambda row: row.distance)


def _fewest(tied: Sequence[CandidateResult]) -> list[CandidateResult]:
    """Those with the fewest parameters; all, if any number is unknown."""
    counts = [row.parameters for row in tied if row.parameters is not None]
    return [row for row in tied if len(counts) < len(tied) or row.parameters == min(counts)]


def _why(choice: CandidateResult, tied: Sequence[CandidateResult], by: str, *, overruled: bool) -> str:
    name, fewest = _names([choice]), _fewest(tied)
    if len(tied) == 1:
        rest = " of the settings whose own seeds are not clearly behind another's" if overruled else ""
        return f"{name} has the lowest {by}{rest}"
    tie = f"{_names(tied)} are statistically tied"
    if len(fewest) == 1:
        return f"{tie}; {name} is recommended because it has the fewest parameters ({choice.parameters:,})"
    if len(fewest) < len(tied):
        reason = "is kept" if choice.trial == BASELINE_TRIAL else "is nearest to the baseline"
        return f"{tie}; of these, {_names(fewest)} have the fewest parameters ({choice.parameters:,}), and {name} {reason}"
    if choice.trial == BASELINE_TRIAL:
        return f"{tie}, so the baseline is kept"
    return f"{tie}; {name} is recommended because it is nearest to the baseline"


def _names(rows: Sequence[CandidateResult]) -> str:
    """`trials 12, 8 and the baseline`."""
    numbers = [str(row.trial) for row in rows if row.trial != BASELINE_TRIAL]
    names = [f"trial{'s' if len(numbers) > 1 else ''} {numbers[0]}", *numbers[1:]] if numbers else []
    if len(numbers) < len(rows):
        names.append("the baseline")
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _verdict(choice: CandidateResult | None, change_high: float | None, *, baseline_failed: bool) -> str:
    if choice is None:
        return "nothing can be compared with the baseline"
    if choice.trial == BASELINE_TRIAL:
        return "the baseline is recommended"
    if baseline_failed and choice.better is None:
        return "the baseline failed, so nothing can be compared with it"
    if change_high is not None and change_high < 0:
        return "better than the baseline"
    if choice.better is not None and choice.better >= PROBABLY:
        return "probably better than the baseline"
    return "no gain over the baseline is shown"
