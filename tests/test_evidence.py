"""What follows from a few trainings with fresh seeds: eliminations, comparisons, and the recommendation."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from launch import ROOT, environment
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy import stats

from search import BASELINE_TRIAL
from search.definition.cube import embedding
from search.definition.ranges import Choices, Range
from search.definition.settings import Setting
from search.definition.space import Condition, Dimension
from search.evaluation.confirm import estimate as estimate_module
from search.evaluation.confirm.candidates import NEAR, are_distinct, best_distinct
from search.evaluation.confirm.estimate import Estimates, estimate_true_values, gp_posterior
from search.evaluation.confirm.evidence import TIE, compare_candidates, probability_better
from search.evaluation.confirm.race import ALPHA, Values, eliminated
from search.study.confirmed import Candidate, CandidateResult, Confirmation, from_plain

SPACE = (
    Dimension("dropout", Setting("model", "dropout", float, 0.1), Range(low=0.0, high=0.5)),
    Dimension("lr", Setting("train", "lr", float, 1e-3), Range(low=1e-4, high=1e-2, log=True)),
    Dimension("layers", Setting("model", "layers", int, 2), Range(low=1, high=4)),
    Dimension("optimizer", Setting("train", "optimizer", str, "adam"), Choices(choices=["adam", "sgd", "lion"])),
    Dimension(
        "momentum",
        Setting("train", "momentum", float, 0.9),
        Range(low=0.0, high=1.0),
        when=(Condition("train.optimizer", ("sgd",)),),
    ),
)
MIDDLE: dict[str, Any] = {"dropout": 0.25, "lr": 1e-3, "layers": 2, "optimizer": "adam"}
TIED = "trials 12, 8 and 5 are statistically tied"
SGD: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.5}


def by_seed(*values: float | None) -> dict[int, float | None]:
    """The values of seeds 1, 2, ..."""
    return dict(enumerate(values, 1))


def candidate(trial: int, *, searched: float | None = 0.5, parameters: int | None = 1000, distance: float = 0.5) -> Candidate:
    """A candidate; the baseline lies at itself."""
    return Candidate(
        trial=trial,
        params={"dropout": 0.1, "optimizer": "adam"},
        searched=searched,
        parameters=parameters,
        distance=0.0 if trial == BASELINE_TRIAL else distance,
    )


def weighed(values: Values, seeds: int, estimates: Estimates | None = None) -> Confirmation:
    """What values say where all candidates are equally large and equally far off."""
    return compare_candidates([candidate(trial) for trial in values], values, seeds, estimates)


def row_of(found: Confirmation, trial: int) -> CandidateResult:
    """What is known of one trial."""
    return next(row for row in found.rows if row.trial == trial)


def trial_of(number: int, value: float | Sequence[float], params: Mapping[str, Any]) -> FrozenTrial:
    """A complete trial."""
    distributions = {dim.name: dim.distribution() for dim in SPACE if dim.name in params}
    values = [value] if isinstance(value, float) else list(value)
    trial = create_trial(values=values, params=dict(params), distributions=distributions)
    trial.number = number
    return trial


class TestRace:
    """Which candidates leave the race, and when."""

    def test_by_hand(self) -> None:
        """Three candidates and two seeds. The means are 1.05, 1.15 and 2.05, the seeds' 1.35 and 1.4833, the whole's 1.4167.

        Residuals are +-(-1/60, +1/30, -1/60): their squares sum to 2 * (1/3600 + 4/3600 + 1/3600) = 1/300, over 2 degrees of
        freedom 1/600. t at 0.995 and 2 degrees is 9.925, so that 9.925 * sqrt(1/600) * sqrt(2/2) = 0.405 is allowed.
        """
        values = {4: by_seed(1.0, 1.1), 7: by_seed(1.05, 1.25), 9: by_seed(2.0, 2.1)}
        assert eliminated([4, 7, 9], values, 2) == {9: 2}
        nearer = {**values, 9: by_seed(1.40, 1.50)}  # 0.400 above the leader
        farther = {**values, 9: by_seed(1.41, 1.51)}
        assert eliminated([4, 7, 9], nearer, 2) == {}
        assert eliminated([4, 7, 9], farther, 2) == {9: 2}

    @pytest.mark.parametrize("seed", range(20))
    def test_against_least_squares(self, seed: int) -> None:
        """The residual variance is that of the linear model with an effect for every trial and every seed."""
        rng = np.random.default_rng(seed)
        trials, seeds = [3, 5, 8, 11], 3
        y = 0.3 * rng.normal(size=(4, 1)) + rng.normal(size=(1, seeds)) + 0.1 * rng.normal(size=(4, seeds))
        design = np.array([[*np.eye(4)[i], *np.eye(seeds)[j][1:]] for i in range(4) for j in range(seeds)])
        _, (squares,), _, _ = np.linalg.lstsq(design, y.ravel())
        limit = stats.t.isf(ALPHA, 6) * math.sqrt(squares / 6 * 2 / seeds)
        means = y.mean(axis=1)
        lost = {trial for trial, mean in zip(trials, means, strict=True) if mean > means.min() + limit}
        values = {trial: by_seed(*map(float, line)) for trial, line in zip(trials, y, strict=True)}
        earlier = eliminated(trials, values, seeds - 1)
        if not earlier:
            assert set(eliminated(trials, values, seeds)) == lost
        assert eliminated(trials, values, seeds).items() >= earlier.items(), "an elimination is final"

    def test_clear_loser(self) -> None:
        """It is eliminated after two rounds, because one seed shows no noise."""
        values = {1: by_seed(0.50, 0.52, 0.51), 2: by_seed(0.51, 0.51, 0.50), 3: by_seed(0.9, 0.92, 0.91)}
        assert [eliminated([1, 2, 3], values, rounds) for rounds in (0, 1, 2, 3)] == [{}, {}, {3: 2}, {3: 2}]

    @pytest.mark.parametrize("seed", range(30))
    def test_the_leader_stays(self, seed: int) -> None:
        """The lowest candidate in the race is never eliminated."""
        rng = np.random.default_rng(seed)
        spread = 10.0 ** rng.integers(-4, 2)
        values = {n: by_seed(*map(float, rng.normal() + spread * rng.normal(size=5))) for n in (1, 2, 3, 4)}
        for rounds in range(1, 6):
            before, after = eliminated([1, 2, 3, 4], values, rounds - 1), eliminated([1, 2, 3, 4], values, rounds)
            mean = {n: math.fsum(list(values[n].values())[:rounds]) / rounds for n in values if n not in before}  # type: ignore[arg-type]
            assert min(mean, key=lambda n: mean[n]) not in after

    def test_without_noise(self) -> None:
        """If trainings repeat exactly, their noise is unknown, and no candidate is eliminated."""
        values = {1: by_seed(0.5, 0.5, 0.5), 2: by_seed(0.5, 0.5, 0.5), 3: by_seed(0.6, 0.6, 0.6)}
        assert eliminated([1, 2, 3], values, 3) == {}

    def test_failure(self) -> None:
        """A candidate that fails is eliminated at once, and the others are judged without it."""
        values = {
            1: by_seed(0.50, 0.52),
            2: by_seed(None),
            3: by_seed(0.51, None),
            4: by_seed(0.9, 0.92),
            5: by_seed(0.51, 0.52),
        }
        assert eliminated([1, 2, 3, 4, 5], values, 2) == {2: 1, 3: 2, 4: 2}

    def test_baseline(self) -> None:
        """It does not take part: it is neither eliminated nor the leader nor in a block."""
        values = {1: by_seed(0.50, 0.52), 2: by_seed(0.51, 0.52)}
        for baseline in (by_seed(9.0, 9.0), by_seed(0.0, 0.01), by_seed(None, None), {}):
            assert eliminated([0, 1, 2], {**values, 0: baseline}, 2) == {}

    def test_unfinished_round(self) -> None:
        """No candidate is judged before all in the race have trained."""
        values = {1: by_seed(0.50, 0.52), 2: by_seed(0.51, 0.51), 3: by_seed(0.9)}
        assert eliminated([1, 2, 3], values, 4) == {}
        assert eliminated([1, 2, 3], {}, 4) == {}
        assert eliminated([1, 2, 3], {**values, 3: {2: 0.9}}, 4) == {}, "the second round was trained before the first"

    def test_order_does_not_matter(self) -> None:
        """Trainings end in any order, and the race is the same."""
        values = {1: by_seed(0.50, 0.52, 0.51), 2: by_seed(0.51, 0.51, None), 3: by_seed(0.9, 0.92), 0: by_seed(0.6, 0.6, 0.7)}
        backwards = {trial: dict(reversed(line.items())) for trial, line in reversed(values.items())}
        assert eliminated([1, 2, 3], values, 3) == eliminated([3, 1, 2], backwards, 3) == {3: 2, 2: 3}
        order = [candidate(trial) for trial in (3, 0, 2, 1)]
        assert compare_candidates(order, backwards, 3, None) == compare_candidates(order[::-1], values, 3, None)


class TestNumbers:
    """Against SciPy."""

    a, b, base = [0.512, 0.438, 0.547, 0.455, 0.431], [0.561, 0.492, 0.55, 0.601, 0.53], [0.7, 0.523, 0.6, 0.66, 0.55]
    found = weighed({0: by_seed(*base), 4: by_seed(*a), 6: by_seed(*b)}, 5)

    def test_probability_better(self) -> None:
        """It is 1 minus the p of the one-sided paired t-test."""
        assert probability_better(self.a, self.b) == pytest.approx(
            1 - stats.ttest_rel(self.a, self.b, alternative="less").pvalue
        )
        assert probability_better(self.a, self.b) + probability_better(self.b, self.a) == pytest.approx(1)

    @pytest.mark.parametrize(("b", "better"), [([2.0, 3.0], 0.75), ([1.0, 2.0], 0.5), ([0.5, 1.5], 0.25)])
    def test_without_spread(self, b: list[float], better: float) -> None:
        """Two pairs that differ by the same amount are two in favor: 3/4 by Laplace's rule."""
        assert probability_better([1.0, 2.0], b) == better

    def test_unequal_pairs(self) -> None:
        """Unpaired values are an error of the caller."""
        with pytest.raises(ValueError, match="zip"):
            probability_better([1.0, 2.0], [1.0])

    def test_interval_of_the_mean(self) -> None:
        """Student's, from the setting's own spread."""
        row = row_of(self.found, 4)
        assert (row.low, row.high) == pytest.approx(stats.t.interval(0.95, 4, np.mean(self.a), stats.sem(self.a)))
        assert (row.mean, row.sd) == pytest.approx((np.mean(self.a), np.std(self.a, ddof=1)))
        assert row.optimism == pytest.approx(np.mean(self.a) - 0.5)

    def test_gain(self) -> None:
        """The paired difference to the baseline with the paired t-test's interval; below 0 is better."""
        row = row_of(self.found, 6)
        reference = stats.ttest_rel(self.b, self.base)
        assert row.change == pytest.approx(np.mean(self.b) - np.mean(self.base))
        assert (row.change_low, row.change_high) == pytest.approx(tuple(reference.confidence_interval(0.95)))
        assert row.better == pytest.approx(stats.ttest_rel(self.b, self.base, alternative="greater").pvalue)
        baseline = row_of(self.found, 0)
        assert (baseline.change, baseline.change_low, baseline.change_high, baseline.better) == (0, None, None, None)

    def test_matrix(self) -> None:
        """Entry (i, j) is the probability that row i is better than row j; None on the diagonal."""
        assert [row.trial for row in self.found.rows] == [4, 6, 0], "by mean, and the baseline last"
        assert self.found.better_than[0][1] == probability_better(self.a, self.b)
        assert self.found.better_than[2][1] == probability_better(self.base, self.b)
        assert [self.found.better_than[n][n] for n in range(3)] == [None] * 3

    def test_noise(self) -> None:
        """The variance within settings is pooled by degrees of freedom; a single value adds nothing."""
        values = {0: by_seed(1.0, 3.0), 1: by_seed(1.0, 2.0, 3.0, None), 2: by_seed(5.0)}
        assert weighed(values, 4).noise == pytest.approx(math.sqrt((1 * 2.0 + 2 * 1.0) / 3))
        assert weighed({0: by_seed(5.0)}, 3).noise is None


class TestRecommendation:
    """The recommended setting, and the reason for it."""

    noise = (0.0, 0.02, -0.02, 0.01, -0.01)

    def values(self, **means: float) -> dict[int, dict[int, float | None]]:
        """Five values around each trial's mean, each trial's in another order, so that differences have noise."""
        orders = itertools.permutations(self.noise)
        return {
            int(name[1:]): by_seed(*(mean + error for error in next(itertools.islice(orders, 17, None))))
            for name, mean in means.items()
        }

    def test_clear(self) -> None:
        """The lowest is recommended if it is not tied."""
        found = weighed(self.values(t0=0.6, t8=0.5, t12=0.4), 5)
        assert (found.recommended, found.leader, found.tied) == (12, 12, (12,))
        assert (found.why, found.verdict) == ("trial 12 has the lowest mean", "better than the baseline")

    def test_clear_baseline(self) -> None:
        """The baseline is recommended if it is clearly the lowest."""
        found = weighed(self.values(t0=0.3, t8=0.5, t12=0.4), 5)
        assert (found.recommended, found.why, found.verdict) == (
            0,
            "the baseline has the lowest mean",
            "the baseline is recommended",
        )

    @pytest.mark.parametrize(
        ("sizes", "distances", "recommended", "why"),
        [
            (
                {},
                {8: 0.2},
                8,
                f"{TIED}; trial 8 is recommended because it is nearest to the baseline",
            ),
            (
                {5: 900},
                {8: 0.2},
                5,
                f"{TIED}; trial 5 is recommended because it has the fewest parameters (900)",
            ),
            (
                {5: 12_345, 12: 12_345, 8: 20_000},
                {5: 0.3},
                5,
                f"{TIED}; of these, trials 12 and 5 have the fewest parameters (12,345), "
                "and trial 5 is nearest to the baseline",
            ),
            (
                {5: None, 8: 10},
                {12: 0.1},
                12,
                f"{TIED}; trial 12 is recommended because it is nearest to the baseline",
            ),
            (
                {},
                {},
                12,
                f"{TIED}; trial 12 is recommended because it is nearest to the baseline",
            ),
        ],
    )
    def test_ties(self, sizes: dict[int, int | None], distances: dict[int, float], recommended: int, why: str) -> None:
        """Ties go to the fewest parameters, if all are known; then to the nearest to the baseline; then to the lowest."""
        values = self.values(t0=0.9, t5=0.5004, t8=0.5002, t12=0.5)
        given = [candidate(n, parameters=sizes.get(n, 1000), distance=distances.get(n, 0.5)) for n in values]
        found = compare_candidates(given, values, 5, None)
        assert found.tied == (12, 8, 5)
        assert found.leader == 12
        assert (found.recommended, found.why) == (recommended, why)
        assert found.verdict == "better than the baseline"

    def test_tie_with_the_baseline(self) -> None:
        """The baseline is kept, because it is nearest to itself."""
        found = weighed(self.values(t0=0.5004, t8=0.5002, t12=0.5), 5)
        assert (found.recommended, found.leader, found.tied) == (0, 12, (12, 8, 0))
        assert found.why == "trials 12, 8 and the baseline are statistically tied, so the baseline is kept"
        assert found.verdict == "the baseline is recommended"

    def test_simpler_than_the_baseline(self) -> None:
        """Fewer parameters count more than nearness. The verdict claims no gain."""
        values = self.values(t0=0.5, t8=0.5002)
        found = compare_candidates([candidate(0), candidate(8, parameters=10)], values, 5, None)
        tied, because = found.why.split("; ")
        assert tied == "trial 8 and the baseline are statistically tied"
        assert because == "trial 8 is recommended because it has the fewest parameters (10)"
        assert (found.recommended, found.verdict) == (8, "no gain over the baseline is shown")

    def test_all_equal(self) -> None:
        """Equal values are tied, and the baseline is kept."""
        found = weighed({n: by_seed(0.5, 0.5, 0.5) for n in (0, 3, 4)}, 3)
        assert (found.recommended, found.tied, found.noise) == (0, (3, 4, 0), 0.0)
        assert {better for line in found.better_than for better in line} == {None, 0.5}

    @pytest.mark.parametrize(
        ("differences", "verdict"),
        [
            ((-0.2, -0.21, -0.19), "better than the baseline"),
            ((-0.2, -0.01, -0.05), "probably better than the baseline"),
            ((-0.2, 0.15, -0.02), "no gain over the baseline is shown"),
        ],
    )
    def test_verdict(self, differences: tuple[float, ...], verdict: str) -> None:
        """The verdict says how certain it is that the recommended setting is better than the baseline."""
        values = {0: by_seed(0.5, 0.6, 0.55), 7: by_seed(0.5 + differences[0], 0.6 + differences[1], 0.55 + differences[2])}
        found = compare_candidates([candidate(0), candidate(7, parameters=10)], values, 3, None)
        assert (found.recommended, found.verdict) == (7, verdict)

    def test_baseline_failed(self) -> None:
        """A baseline without values cannot be recommended, nor compared with."""
        found = weighed({0: by_seed(None, None, None), 4: by_seed(0.5, 0.6, 0.5), 5: by_seed(0.7, 0.8, 0.9)}, 3)
        assert (found.recommended, found.verdict) == (4, "the baseline failed, so nothing can be compared with it")
        assert (found.rows[-1].failed, found.rows[-1].mean) == ((1, 2, 3), None)
        assert row_of(found, 4).change is None

    def test_baseline_failed_once(self) -> None:
        """It cannot be recommended, and comparisons use the seeds of both."""
        found = weighed({0: by_seed(0.1, None, 0.1), 4: by_seed(0.5, 0.6, 0.5)}, 3)
        assert (found.recommended, found.why) == (4, "trial 4 has the lowest mean")
        assert row_of(found, 4).change == pytest.approx(0.4)
        assert found.verdict == "no gain over the baseline is shown"

    def test_a_candidate_failed(self) -> None:
        """It is eliminated, however low its other values are, and its missing trainings do not count as saved."""
        found = weighed({0: by_seed(0.6, 0.7, 0.6), 4: by_seed(0.1, None), 5: by_seed(0.5, 0.6, 0.5)}, 3)
        row = row_of(found, 4)
        assert (found.recommended, row.failed, row.dropped_after, row.values) == (5, (2,), 2, (0.1, None, None))
        assert (found.trainings, found.saved) == (8, 0)

    def test_all_failed(self) -> None:
        """Nothing is recommended."""
        found = weighed({0: by_seed(None, None), 4: by_seed(None), 5: by_seed(None)}, 2)
        assert (found.recommended, found.leader, found.tied) == (None, None, ())
        assert found.why == "no setting has a value for every seed"
        assert found.verdict == "nothing can be compared with the baseline"

    def test_only_the_baseline_is_left(self) -> None:
        """It is recommended."""
        found = weighed({0: by_seed(0.5, 0.6), 4: by_seed(None)}, 2)
        assert (found.recommended, found.verdict) == (0, "the baseline is recommended")

    def test_one_seed(self) -> None:
        """Everything is tied, so the baseline is kept; there are no intervals."""
        found = weighed({0: by_seed(0.5), 4: by_seed(0.4)}, 1)
        row = row_of(found, 4)
        assert (row.mean, row.change) == (0.4, pytest.approx(-0.1))
        assert (row.sd, row.low, row.change_low, row.better, found.noise) == (None,) * 5
        assert (found.recommended, found.tied) == (0, (4, 0))

    def test_one_candidate(self) -> None:
        """There is no race; it is compared with the baseline alone."""
        found = weighed(self.values(t0=0.6, t8=0.5), 5)
        assert (found.recommended, found.trainings, found.saved) == (8, 10, 0)

    def test_a_loser_is_not_trained_further(self) -> None:
        """Its missing trainings count as saved, and its row says when it was eliminated."""
        values = {**self.values(t0=0.6, t1=0.5, t2=0.51), 3: by_seed(0.9, 0.92)}
        found = weighed(values, 5)
        assert (row_of(found, 3).dropped_after, found.trainings, found.saved) == (2, 17, 3)
        assert row_of(found, 3).change_high is not None, "two seeds are enough for an interval"

    def test_last_round(self) -> None:
        """After the last round no candidate is eliminated: all have all their values."""
        found = weighed({0: by_seed(0.6, 0.6), 1: by_seed(0.50, 0.52), 2: by_seed(0.51, 0.51), 3: by_seed(0.9, 0.92)}, 2)
        assert (row_of(found, 3).dropped_after, found.saved) == (None, 0)

    def test_unfinished(self) -> None:
        """Values so far are shown, and none is recommended yet."""
        found = weighed({0: by_seed(0.5), 4: by_seed(0.4, 0.5), 5: {}}, 3)
        assert (found.recommended, [row.trial for row in found.rows]) == (None, [4, 5, 0])

    def test_estimates_decide(self) -> None:
        """The lowest estimate leads, not the lowest mean, and ties use the joint distribution of both."""
        values = self.values(t0=0.6, t8=0.455, t12=0.45)
        mean = np.array([0.6, 0.46, 0.48])
        apart = Estimates((0, 8, 12), mean, 1e-6 * np.eye(3))
        found = weighed(values, 5, apart)
        assert (found.leader, found.recommended, found.why) == (8, 8, "trial 8 has the lowest estimate")
        assert [row.estimate for row in found.rows] == [0.48, 0.46, 0.6]
        together = Estimates((0, 8, 12), mean, 0.1 * np.eye(3))
        assert weighed(values, 5, together).tied == (8, 12), "the baseline's own seeds separate it from trial 8"

    def test_estimates_do_not_overrule_seeds(self) -> None:
        """A setting that another beats clearly by their own seeds neither leads nor ties, whatever its estimate."""
        values = self.values(t0=0.6, t8=0.5, t12=0.4)
        estimates = Estimates((0, 8, 12), np.array([0.6, 0.1, 0.4]), np.eye(3))
        found = weighed(values, 5, estimates)
        assert (found.leader, found.tied, found.recommended) == (12, (12,), 12)
        assert found.why == "trial 12 has the lowest estimate of the settings whose own seeds are not clearly behind another's"

    def test_trained_by_a_smaller_race(self) -> None:
        """A candidate with every seed was not eliminated, even if a larger race would have eliminated it."""
        values = {**self.values(t0=0.6, t1=0.5, t2=0.51), 3: by_seed(0.9, 0.92, 0.91, 0.9, 0.92)}
        row = row_of(weighed(values, 5), 3)
        assert (row.dropped_after, None in row.values) == (None, False)

    @pytest.mark.parametrize(("behind", "tied"), [(0.9, (8, 12)), (1.0, (8,))])
    def test_ties_by_seeds(self, behind: float, tied: tuple[int, ...]) -> None:
        """A setting whose own seeds are one standard error behind the leader's is not tied, whatever the estimates.

        With five seeds the probability is 0.2 at 0.941 standard errors, the quantile of Student's t with 4 degrees of freedom.
        """
        noise = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
        error = noise.std(ddof=1) / math.sqrt(5)
        values = {0: by_seed(*[90.0] * 5), 8: by_seed(*[0.0] * 5), 12: by_seed(*(noise + behind * error))}
        estimates = Estimates((0, 8, 12), np.array([90.0, 0.0, 0.0]), np.eye(3))
        assert weighed(values, 5, estimates).tied == tied

    def test_the_chosen_interval(self) -> None:
        """Chosen from three that its seeds cannot separate, each gets a third of the error; rows keep their own interval."""
        values = self.values(t0=0.9, t8=0.5, t12=0.5001, t13=0.5002)
        found = weighed(values, 5)
        row = row_of(found, found.recommended or 0)
        mine = [value for value in row.values if value is not None]
        at = stats.t.interval(1 - 0.05 / 3, 4, np.mean(mine), stats.sem(mine))
        assert (found.low, found.high) == pytest.approx(at)
        assert (row.low, row.high) == pytest.approx(stats.t.interval(0.95, 4, np.mean(mine), stats.sem(mine)))
        changes = [a - (b or 0) for a, b in zip(mine, row_of(found, 0).values, strict=True)]
        assert (found.change_low, found.change_high) == pytest.approx(
            stats.t.interval(1 - 0.05 / 3, 4, np.mean(changes), stats.sem(changes))
        )
        alone = weighed(self.values(t0=0.9, t8=0.5), 5)
        assert (found.picked_from, alone.picked_from) == (3, 1)
        assert (alone.low, alone.high) == (row_of(alone, 8).low, row_of(alone, 8).high)

    def test_no_better_than_its_estimate(self) -> None:
        """Correlated estimates are separated by a smaller difference than independent ones."""
        alone, together = 0.01 * np.eye(2), 0.01 * np.array([[1, 0.99], [0.99, 1]])
        mean = np.array([0.5, 0.54])
        p = [Estimates((3, 4), mean, covariance).probability_better(4, 3) for covariance in (alone, together)]
        assert p == pytest.approx([stats.norm.cdf(-0.04 / math.sqrt(variance)) for variance in (0.02, 0.0002)])
        assert p[1] < TIE < p[0]

    @pytest.mark.parametrize("failing", [False, True])
    def test_round_trip(self, failing: bool) -> None:
        """JSON keeps a confirmation to the last bit."""
        values = {**self.values(t0=0.6, t8=1 / 3, t12=0.45), 3: by_seed(0.9, None if failing else 0.92)}
        estimates = Estimates((0, 3, 8, 12), np.array([0.6, 0.9, 1 / 3, 0.45]), 0.01 * np.eye(4))
        for found in (weighed(values, 5), weighed(values, 5, estimates)):
            stored = json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))
            assert from_plain(Confirmation, stored) == found


class TestCandidates:
    """Which trials are worth training again."""

    def test_embedding(self) -> None:
        """Numbers have their position on their scale, choices are corners 1 apart; what does not apply is in the middle."""
        corner = 1 / math.sqrt(2)
        assert embedding(MIDDLE, SPACE) == pytest.approx([0.5, 0.5, 1 / 3, corner, 0, 0, 0.5])
        assert embedding({"dropout": 0.0, "lr": 1e-2, "layers": 4, **SGD}, SPACE) == pytest.approx([0, 1, 1, 0, corner, 0, 0.5])
        other = embedding({**MIDDLE, "optimizer": "lion"}, SPACE)
        assert np.linalg.norm(embedding(MIDDLE, SPACE) - other) == pytest.approx(1)
        assert embedding({}, SPACE) == pytest.approx([0.5, 0.5, 0.5, 0, 0, 0, 0.5])

    @pytest.mark.parametrize(
        ("change", "far"),
        [
            ({}, False),
            ({"dropout": 0.27}, False),
            ({"dropout": 0.28}, True),
            ({"lr": 1.25e-3}, False),
            ({"lr": 1.3e-3}, True),  # 0.057 of the two decades
            ({"dropout": 0.27, "lr": 1.25e-3}, False),
            ({"layers": 3}, True),
            ({"optimizer": "lion"}, True),
            (SGD, True),
            ({"momentum": 0.5}, True),
        ],
    )
    def test_distinct(self, change: dict[str, Any], far: bool) -> None:
        """Settings are distinct by a number that differs by more than 5% of its range, a choice, or which dimensions apply."""
        assert are_distinct(MIDDLE, {**MIDDLE, **change}, SPACE) == are_distinct({**MIDDLE, **change}, MIDDLE, SPACE) == far
        assert NEAR == 0.05

    def test_choices_are_distinct(self) -> None:
        """Any two choices are distinct, however many there are."""
        many = Dimension("width", Setting("model", "width", int, 8), Choices(choices=list(range(100))))
        assert are_distinct({"width": 4}, {"width": 5}, [many])
        assert not are_distinct({"width": 4}, {"width": 4}, [many])

    def test_top(self) -> None:
        """The lowest first; of similar ones only the lowest; never the baseline or a setting similar to it."""
        baseline = trial_of(0, 0.1, MIDDLE)
        trials = [
            baseline,
            trial_of(1, 0.2, {**MIDDLE, "dropout": 0.26}),  # nearly the baseline
            trial_of(2, 0.5, {**MIDDLE, "layers": 3}),
            trial_of(3, 0.4, {**MIDDLE, "layers": 3, "dropout": 0.26}),
            trial_of(4, 0.5, {**MIDDLE, "layers": 4}),
            trial_of(5, 0.5, {**MIDDLE, "layers": 1}),
            trial_of(6, math.inf, {**MIDDLE, "optimizer": "lion"}),
        ]
        assert [trial.number for trial in best_distinct(trials, baseline, SPACE, 0, 5)] == [3, 4, 5]
        assert [trial.number for trial in best_distinct(trials[::-1], baseline, SPACE, 0, 2)] == [3, 4]
        assert best_distinct(trials[:2], baseline, SPACE, 0, 5) == []

    def test_failed_baseline(self) -> None:
        """Settings similar to a failed baseline are left out although it has no value."""
        baseline = create_trial(
            state=TrialState.FAIL,
            params=MIDDLE,
            distributions={n: d.distribution() for n, d in zip(MIDDLE, SPACE, strict=False)},
        )
        baseline.number = 0
        trials = [trial_of(1, 0.2, {**MIDDLE, "dropout": 0.26}), trial_of(2, 0.3, {**MIDDLE, "layers": 4})]
        assert [trial.number for trial in best_distinct(trials, baseline, SPACE, 0, 5)] == [2]

    def test_lead(self) -> None:
        """Of several objectives the named one decides."""
        trials = [trial_of(n, [n / 10, 1 - n / 10], {**MIDDLE, "layers": 5 - n}) for n in (1, 2)]
        baseline = trial_of(0, [0.5, 0.5], MIDDLE)
        assert [[t.number for t in best_distinct(trials, baseline, SPACE, primary, 1)] for primary in (0, 1)] == [[1], [2]]


class TestEstimate:
    """Estimates from nearby trials of the search."""

    place = np.linspace(0, 1, 21)[:, None]
    truth = (place[:, 0] - 0.4) ** 2
    one = np.ones(21, dtype=int)

    def test_known_exactly(self) -> None:
        """Without noise an estimate is the value, with no uncertainty."""
        mean, covariance = gp_posterior(self.place, self.truth, self.one, 0.0, [3, 8])
        assert mean == pytest.approx(self.truth[[3, 8]], abs=1e-4)
        assert np.sqrt(np.diag(covariance)) == pytest.approx([0, 0], abs=1e-4)

    def test_luck_is_smoothed_out(self) -> None:
        """A value far below its neighbours is pulled up; less so the more trainings it is the mean of."""
        lucky = self.truth.copy()
        lucky[15] -= 0.1
        few, _ = gp_posterior(self.place, lucky, self.one, 0.05**2, [15])
        often = self.one.copy()
        often[15] = 100
        many, _ = gp_posterior(self.place, lucky, often, 0.05**2, [15])
        assert lucky[15] < many[0] < few[0] < self.truth[15] + 0.05
        assert few[0] == pytest.approx(self.truth[15], abs=0.03)

    def test_how_far_it_diverged(self) -> None:
        """How far a setting diverged does not matter: values above the fence are clipped, except requested ones."""
        found = []
        for value in (1e3, 1e9):
            diverged = self.truth.copy()
            diverged[20] = value
            found.append(gp_posterior(self.place, diverged, self.one, 0.01**2, [8])[0][0])
        assert found[0] == found[1] == pytest.approx(self.truth[8], abs=0.02)
        requested = self.truth.copy()
        requested[20] = 2.0
        assert gp_posterior(self.place, requested, self.one, 1e-4, [20])[0][0] == pytest.approx(2, abs=0.05)

    def test_all_equal(self) -> None:
        """A search without any difference has an estimate too."""
        mean, _ = gp_posterior(self.place, np.full(21, 0.5), self.one, 0.0, [3, 8])
        assert mean == pytest.approx([0.5, 0.5])

    def test_long_search(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of too many trials the ones nearest to the requested settings are used."""
        whole = gp_posterior(self.place, self.truth, self.one, 0.01**2, [3, 8])[0]
        monkeypatch.setattr(estimate_module, "MAX_TRIALS", 12)
        far = self.truth.copy()
        far[17:] += 0.05
        part = gp_posterior(self.place, self.truth, self.one, 0.01**2, [3, 8])[0]
        assert part == pytest.approx(whole, abs=0.02)
        assert part == pytest.approx(gp_posterior(self.place, far, self.one, 0.01**2, [3, 8])[0], abs=0.02)

    def searched(self, count: int) -> list[FrozenTrial]:
        """A search over the dropout."""
        params = [{**MIDDLE, "dropout": float(x) / 2} for x in np.linspace(0, 1, count)]
        return [trial_of(n, (one["dropout"] - 0.2) ** 2, one) for n, one in enumerate(params)]

    def test_search(self) -> None:
        """A setting that was trained again gets an estimate from its value in the search and its fresh ones."""
        trials = self.searched(21)
        values = {0: by_seed(0.04, 0.05), 8: by_seed(0.0, 0.01, None), 9: by_seed(None)}
        found = estimate_true_values(trials, SPACE, 0, values)
        assert found is not None
        assert found.trials == (0, 8)
        place = np.stack([embedding(trial.params, SPACE) for trial in trials])
        value = np.array([trial.value for trial in trials])
        value[0], value[8] = (value[0] + 0.09) / 3, (value[8] + 0.01) / 3
        count = np.ones(21, dtype=int)
        count[[0, 8]] = 3
        mean, covariance = gp_posterior(place, value, count, 0.01**2 / 2, [0, 8])
        assert found.mean_M == pytest.approx(mean)
        assert found.covariance_MM == pytest.approx(covariance)
        again = estimate_true_values(trials[::-1], SPACE, 0, dict(reversed(values.items())))
        assert again is not None
        assert (again.mean_M == found.mean_M).all()

    def test_baseline_without_a_value(self) -> None:
        """Its position and its fresh values are enough; a value that is not finite is left out."""
        trials = self.searched(21)
        trials[0].state, trials[0].values = TrialState.FAIL, None
        values = {0: by_seed(0.04, 0.05), 8: by_seed(0.0, 0.01)}
        without = estimate_true_values([*trials[:5], *trials[6:]], SPACE, 0, values)
        trials[5].values = [math.inf]
        found = estimate_true_values(trials, SPACE, 0, values)
        assert found is not None
        assert without is not None
        assert found.mean_of(0) == pytest.approx(0.045, abs=0.01)
        assert (found.mean_M == without.mean_M).all()

    @pytest.mark.parametrize(
        ("trials", "values"),
        [(9, {0: by_seed(0.1, 0.2)}), (21, {0: by_seed(0.1)}), (21, {}), (21, {0: by_seed(0.1, 0.2), 99: by_seed(0.1)})],
        ids=["few trials", "no noise known", "nothing", "unknown place"],
    )
    def test_too_little_is_known(self, trials: int, values: Values) -> None:
        """Without enough data there is no estimate."""
        assert estimate_true_values(self.searched(trials), SPACE, 0, values) is None


def test_import_is_light() -> None:
    """A confirmation can be read without importing SciPy, scikit-learn, Optuna or NumPy."""
    code = "import search.evaluation.confirm.evidence, sys; print({'scipy', 'sklearn', 'optuna', 'numpy'} & set(sys.modules))"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "set()"
