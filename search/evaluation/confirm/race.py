"""The trainings of a confirmation as trials: what has been trained, and what its next round wants. Imports nothing heavy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from search import BASELINE_TRIAL

ALPHA = 0.005
"""The chance with which one look at one candidate, named beforehand, drops it though it is as good as the leader. The leader is
picked by its luck, so that of five equal candidates with five seeds one or more are dropped in 12 of 100 races (simulated)."""

_EXACT = 1e-9
"""Values that differ by less than this share of themselves are equal."""

Values = Mapping[int, Mapping[int, float | None]]
"""By trial and seed number (from 1) what a training gave, a finite number; None for one that failed."""


def dropped(trials: Sequence[int], values: Values, rounds: int) -> dict[int, int]:
    """Which candidates leave the race in the first `rounds` rounds, and after which.

    A round trains every candidate in the race with one more seed. Whoever fails is out. From the second round on a clear loser
    is out: one whose mean lies further above the leader's than the residual noise explains, by a one-sided t-test at `ALPHA`
    in a randomised block design with seeds as blocks. The race is run again from the values, up to the first round that
    somebody has not trained: equal values give the same race, in whatever order they came. The baseline takes no part.

    Source: racing, Maron and Moore 1994, "Hoeffding races", with blocks as in Birattari et al. 2002, "A racing algorithm for
    configuring metaheuristics"; the test is that of Montgomery, "Design and analysis of experiments", chapter 4.
    """
    race = [trial for trial in trials if trial != BASELINE_TRIAL]
    out: dict[int, int] = {}
    for round_ in range(1, rounds + 1):
        if any(round_ not in values.get(trial, {}) for trial in race):
            break
        failed = {trial for trial in race if values[trial][round_] is None}
        race = [trial for trial in race if trial not in failed]
        block = {trial: [_number(values[trial][seed]) for seed in range(1, round_ + 1)] for trial in race}
        lost = _losers(block, round_)
        race = [trial for trial in race if trial not in lost]
        out |= dict.fromkeys([trial for trial in trials if trial in failed | lost], round_)
    return out


def _losers(block: Mapping[int, Sequence[float]], seeds: int) -> set[int]:
    """The clear losers of complete blocks: a value per trial and seed."""
    freedom = (len(block) - 1) * (seeds - 1)
    if freedom < 1:
        return set()
    means = {trial: statistics.fmean(row) for trial, row in block.items()}
    seed_means = [statistics.fmean(column) for column in zip(*block.values(), strict=True)]
    middle = statistics.fmean(means.values())
    residuals = [y - means[trial] - seed_means[j] + middle for trial, row in block.items() for j, y in enumerate(row)]
    variance = math.fsum(residual**2 for residual in residuals) / freedom
    if variance <= (_EXACT * middle) ** 2:  # nothing is known of the noise
        return set()
    allowed = _t_quantile(1 - ALPHA, freedom) * math.sqrt(variance * 2 / seeds)
    lowest = min(means.values())
    return {trial for trial, mean in means.items() if mean - lowest > allowed}


def _t_quantile(probability: float, freedom: int) -> float:
    from scipy.special import stdtrit  # it loads in a fifth of the time of scipy.stats

    return float(stdtrit(freedom, probability))


def _number(value: float | None) -> float:
    assert value is not None, "who failed was taken out before"
    return value


def wanted(candidates: Sequence[int], values: Values, seeds: int) -> list[tuple[int, int]]:
    """What the first round that is not full lacks, as (candidate, seed); nothing when all rounds are full."""
    for seed in range(1, seeds + 1):
        out = dropped(candidates, values, seed - 1)
        racing = [BASELINE_TRIAL, *(candidate for candidate in candidates if candidate not in out)]
        lacking = [(candidate, seed) for candidate in racing if seed not in values.get(candidate, {})]
        if lacking:
            return lacking
    return []
