"""What a confirmation's trainings say: means, intervals, comparisons with the baseline, and reasons.

Pure functions of plain values; lower values are better. Every setting trains with the same seeds, numbered from 1, so that two
settings are compared seed by seed, and effects of a seed on both cancel out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from search import BASELINE_TRIAL
from search.evaluation.analysis.intervals import EQUAL_WITHIN, mean_interval
from search.evaluation.analysis.noise import pooled_sd
from search.evaluation.confirm.choice import choose, fewest
from search.evaluation.confirm.values import Values, has_failed, known_values, num_measuring
from search.study.confirmed import Candidate, CandidateResult, Confirmation, SearchedSetting

if TYPE_CHECKING:
    from search.evaluation.confirm.allocation import Decision
    from search.study.belief import Belief


PROBABLY = 0.8
"""From this probability on a setting is called probably better."""

_NOTHING = "no setting has a value for every seed that measures"


def probability_below_zero(differences: Sequence[float]) -> float:
    """The probability that the true mean of at least two differences is below 0.

    It is the posterior of the mean under the usual flat prior (Gelman et al., "Bayesian data analysis", 3.2), a Student t, and
    1 minus the p of a one-sided t-test. If all differences are equal, their spread is unknown, and it is Laplace's rule of
    succession instead: (n + 1) / (n + 2) for n differences below 0, and 0.5 for n of 0.
    """
    from scipy.special import stdtr

    mean, error = statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences))
    if error > EQUAL_WITHIN * abs(mean):
        return float(stdtr(len(differences) - 1, -mean / error))
    count = len(differences)
    return 0.5 if mean == 0 else ((count + 1) if mean < 0 else 1) / (count + 2)


def compare_candidates(candidates: Sequence[Candidate], values: Values, seeds: int, decision: Decision) -> Confirmation:
    """Compares the candidates, among them the baseline.

    Args:
        candidates: the settings, with the baseline.
        values: the values of their trainings; may be incomplete.
        seeds: the most seeds of one candidate.
        decision: what was measured, and which of it is recommended.
    """
    choosing, belief, best = seeds - num_measuring(seeds), decision.belief, decision.best
    base = _by_seed(values.get(BASELINE_TRIAL, {}), seeds)
    rows = [_row(one, values.get(one.trial, {}), base, choosing, decision) for one in candidates]
    rows.sort(key=lambda row: (row.trial == BASELINE_TRIAL, not row.measured, row.mean is None, row.mean or 0.0, row.trial))
    choice = next((row for row in rows if row.trial == best), None)
    tied: tuple[int, ...] = ()
    why = _NOTHING
    if belief is not None and choice is not None:
        known = {row.trial: row for row in rows if row.trial in belief.trials}
        chosen = choose(list(known.values()), belief)
        tied, why = chosen.tied, _why(choice, [known[trial] for trial in chosen.tied], known[chosen.best])
    trainings = sum(len(values.get(candidate.trial, {})) for candidate in candidates)
    return Confirmation(
        rows=tuple(rows),
        better_than=tuple(tuple(_probability(a, b, belief) for b in rows) for a in rows),
        recommended=best,
        leader=tied[0] if tied else None,
        tied=tied,
        picked_from=0 if choice is None else 1,
        low=None if choice is None else choice.low,
        high=None if choice is None else choice.high,
        change_low=None if choice is None else choice.change_low,
        change_high=None if choice is None else choice.change_high,
        rival=next((row.trial for row in rows if best == BASELINE_TRIAL and row.measured and row.trial != best), None),
        risk=decision.risk,
        margin=decision.margin,
        why=why,
        verdict=_verdict(choice, baseline_failed=has_failed(values.get(BASELINE_TRIAL, {}))),
        noise=pooled_sd([known_values(by_seed) for by_seed in values.values()]),
        seeds=seeds,
        choosing=choosing,
        trainings=trainings,
        saved=max(0, len(candidates) * seeds - trainings),
    )


def _row(
    candidate: Candidate,
    own: Mapping[int, float | None],
    base: Sequence[float | None],
    choosing: int,
    decision: Decision,
) -> CandidateResult:
    values, belief = _by_seed(own, len(base)), decision.belief
    measured = candidate.trial in decision.measured
    seeds = slice(choosing, None) if measured else slice(None)
    fresh = mean_interval([value for value in values[seeds] if value is not None])
    differences = _differences(values[seeds], base[seeds])
    is_baseline = candidate.trial == BASELINE_TRIAL  # which has no interval around itself
    change = mean_interval(differences)
    return CandidateResult(
        **{field.name: getattr(candidate, field.name) for field in fields(SearchedSetting)},
        values=values,
        measured=measured,
        failed=tuple(seed for seed, value in sorted(own.items()) if value is None),
        reason=candidate.reason if has_failed(own) else "",
        dropped_after=None,
        mean=fresh.mean,
        sd=fresh.sd,
        low=fresh.low if measured else None,  # values that had a part in the choice give no fair interval
        high=fresh.high if measured else None,
        estimate=belief.mean_of(candidate.trial) if belief is not None and candidate.trial in belief.trials else None,
        change=change.mean,
        change_low=None if is_baseline else change.low,
        change_high=None if is_baseline else change.high,
        better=None if is_baseline or len(differences) < 2 else probability_below_zero(differences),
        optimism=None if fresh.mean is None or candidate.searched is None else fresh.mean - candidate.searched,
    )


def _by_seed(own: Mapping[int, float | None], seeds: int) -> tuple[float | None, ...]:
    return tuple(own.get(seed) for seed in range(1, seeds + 1))


def _differences(a: Sequence[float | None], b: Sequence[float | None]) -> list[float]:
    """The differences for the seeds that both have."""
    return [x - y for x, y in zip(a, b, strict=True) if x is not None and y is not None]


def _probability(a: CandidateResult, b: CandidateResult, belief: Belief | None) -> float | None:
    if a is b or belief is None or not {a.trial, b.trial} <= set(belief.trials):
        return None
    return belief.probability_better(a.trial, b.trial)


def _why(choice: CandidateResult, tied: Sequence[CandidateResult], best: CandidateResult) -> str:
    """`tied` begins with the leader; `best` would be recommended now if it were measured."""
    name, smallest = _names([choice]), fewest(tied)
    tie = f"{_names(tied)} are statistically tied"
    was = "the lowest estimate before it was measured"
    if choice.trial == BASELINE_TRIAL:
        was = "the lower estimate of the two that were measured"
    if choice not in tied:
        return f"{name} had {was}; {_names([best])}, which was not measured, has a lower one now"
    if len(tied) == 1:
        return f"{name} has the lowest estimate"
    if choice is not best:
        return f"{tie}; {name} had {was}"
    if choice is tied[0]:
        return f"{tie}; {name} has the {'lower' if len(tied) == 2 else 'lowest'} estimate"
    if len(smallest) == 1:
        return f"{tie}; {name} is recommended because it has the fewest parameters ({choice.parameters:,})"
    fewest_names = f"{_names(smallest)} have the fewest parameters ({choice.parameters:,})"
    return f"{tie}; of these, {fewest_names}, and {name} the lowest estimate"


def _names(rows: Sequence[CandidateResult]) -> str:
    """`trials 12, 8 and the baseline`."""
    numbers = [str(row.trial) for row in rows if row.trial != BASELINE_TRIAL]
    names = [f"trial{'s' if len(numbers) > 1 else ''} {numbers[0]}", *numbers[1:]] if numbers else []
    if len(numbers) < len(rows):
        names.append("the baseline")
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _verdict(choice: CandidateResult | None, *, baseline_failed: bool) -> str:
    if choice is None:
        return "nothing can be compared with the baseline"
    if choice.trial == BASELINE_TRIAL:
        return "the baseline is recommended"
    if baseline_failed and choice.better is None:
        return "the baseline failed, so nothing can be compared with it"
    if choice.change_high is not None and choice.change_high < 0:
        return "better than the baseline"
    if choice.better is not None and choice.better >= PROBABLY:
        return "probably better than the baseline"
    return "no gain over the baseline is shown"
