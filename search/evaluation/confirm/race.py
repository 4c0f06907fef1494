"""The race of a confirmation's candidates: who is eliminated, and which trainings are missing. Imports nothing heavy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from search import BASELINE_TRIAL

ALPHA = 0.005
"""The probability that one test of one given candidate eliminates it although it is as good as the leader. The leader is chosen
for its luck, so that with five equal candidates and five seeds 12 of 100 races eliminate at least one (simulated)."""

EQUAL_WITHIN = 1e-9
"""Values whose relative difference is smaller count as equal."""

Values = Mapping[int, Mapping[int, float | None]]
"""By trial and seed number (from 1) the value of a training, a finite number; None for a training that failed."""


def known_values(by_seed: Mapping[int, float | None]) -> list[float]:
    """The values of the trainings that did not fail."""
    return [value for value in by_seed.values() if value is not None]


def eliminated(trials: Sequence[int], values: Values, rounds: int) -> dict[int, int]:
    """The candidates that are eliminated in the first `rounds` rounds, and the round after which each is.

    A round trains every candidate in the race with one more seed. A candidate that fails is eliminated. From the second round
    on so is a clear loser: one whose mean is further above the leader's than the residual noise explains, by a one-sided t-test
    at `ALPHA` in a randomized block design with seeds as blocks. The race is replayed from the values, up to the first
    incomplete round: equal values give the same race, in whatever order they were trained. The baseline does not take part.

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
        block = {trial: [require_value(values[trial][seed]) for seed in range(1, round_ + 1)] for trial in race}
        lost = _clear_losers(block, round_)
        race = [trial for trial in race if trial not in lost]
        out |= dict.fromkeys([trial for trial in trials if trial in failed | lost], round_)
    return out


def _clear_losers(block: Mapping[int, Sequence[float]], seeds: int) -> set[int]:
    """The clear losers among trials that all have a value for every seed."""
    freedom = (len(block) - 1) * (seeds - 1)
    if freedom < 1:
        return set()
    means = {trial: statistics.fmean(row) for trial, row in block.items()}
    seed_means = [statistics.fmean(column) for column in zip(*block.values(), strict=True)]
    overall = statistics.fmean(means.values())
    residuals = [y - means[trial] - seed_means[j] + overall for trial, row in block.items() for j, y in enumerate(row)]
    variance = math.fsum(residual**2 for residual in residuals) / freedom
    if variance <= (EQUAL_WITHIN * overall) ** 2:  # trainings repeat exactly: the noise is unknown
        return set()
    allowed = t_quantile(1 - ALPHA, freedom) * math.sqrt(variance * 2 / seeds)
    lowest = min(means.values())
    return {trial for trial, mean in means.items() if mean - lowest > allowed}


def t_quantile(probability: float, freedom: int) -> float:
    """The quantile of Student's t distribution."""
    from scipy.special import stdtrit  # loads in a fifth of the time of scipy.stats

    return float(stdtrit(freedom, probability))


def require_value(value: float | None) -> float:
    """A value that must be known at this point."""
    assert value is not None, "failed candidates were removed before"
    return value


def missing_trainings(candidates: Sequence[int], values: Values, seeds: int) -> list[tuple[int, int]]:
    """The missing trainings of the first incomplete round, as (candidate, seed); empty if all rounds are complete."""
    for seed in range(1, seeds + 1):
        out = eliminated(candidates, values, seed - 1)
        racing = [BASELINE_TRIAL, *(candidate for candidate in candidates if candidate not in out)]
        missing = [(candidate, seed) for candidate in racing if seed not in values.get(candidate, {})]
        if missing:
            return missing
    return []
