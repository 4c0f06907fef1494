"""What follows from a few trainings with fresh seeds: comparisons and the recommendation; and who is trained."""

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

from search.definition.cube import embedding
from search.definition.ranges import Choices, Range
from search.definition.settings import Setting
from search.definition.space import Condition, Dimension
from search.evaluation.confirm.allocation import Decision
from search.evaluation.confirm.candidates import NEAR, are_distinct, best_distinct
from search.evaluation.confirm.choice import TIE, choose
from search.evaluation.confirm.evidence import compare_candidates, probability_below_zero
from search.evaluation.confirm.signers import signer_spread
from search.evaluation.confirm.values import Values, has_failed, known_values
from search.study.belief import Belief, believe
from search.study.confirmed import Candidate, CandidateResult, Confirmation, from_plain
from search.trial.outcome import SignerScore

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


SEEDS = 10
"""The first five choose, the others measure."""


def by_seed(*values: float | None) -> dict[int, float | None]:
    """The values of the seeds that measure."""
    return dict(enumerate(values, 6))


def candidate(trial: int, *, searched: float | None = 0.5, parameters: int | None = 1000) -> Candidate:
    """A candidate."""
    return Candidate(trial=trial, params={"dropout": 0.1, "optimizer": "adam"}, searched=searched, parameters=parameters)


def decided(candidates: Sequence[Candidate], values: Values, belief: Belief | None = None, risk: float = 0.02) -> Decision:
    """The decision when everything is measured that has a value for every seed that measures.

    Without a belief the means are believed, with a standard deviation of 0.01 each.
    """
    alive = {trial: known_values(own) for trial, own in values.items() if not has_failed(own) and known_values(own)}
    if belief is None and alive:
        mean_M = np.array([np.mean(alive[trial]) for trial in sorted(alive)])
        belief = Belief(tuple(sorted(alive)), mean_M, 1e-4 * np.eye(len(alive)), 0.02)
    measured = tuple(trial for trial in alive if all(alive_seed in values[trial] for alive_seed in range(6, SEEDS + 1)))
    best = None
    if belief is not None and measured:
        best = choose([one for one in candidates if one.trial in measured], belief).best
    return Decision((), 0, measured, belief, best, risk, None if belief is None else 0.5 * belief.noise)


def weighed(values: Values, belief: Belief | None = None, candidates: Sequence[Candidate] | None = None) -> Confirmation:
    """What values say where all candidates are equally large."""
    given = [candidate(trial) for trial in values] if candidates is None else candidates
    return compare_candidates(given, values, SEEDS, decided(given, values, belief))


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


class TestNumbers:
    """Against SciPy."""

    a, b, base = [0.512, 0.438, 0.547, 0.455, 0.431], [0.561, 0.492, 0.55, 0.601, 0.53], [0.7, 0.523, 0.6, 0.66, 0.55]
    values: Values = {0: by_seed(*base), 4: {1: 0.2, **by_seed(*a)}, 6: by_seed(*b), 9: {1: 0.3, 2: 0.5}}
    found = weighed(values)

    def test_probability(self) -> None:
        """It is 1 minus the p of the one-sided t-test."""
        differences = [x - y for x, y in zip(self.a, self.b, strict=True)]
        assert probability_below_zero(differences) == pytest.approx(
            1 - stats.ttest_rel(self.a, self.b, alternative="less").pvalue
        )

    @pytest.mark.parametrize(("difference", "probability"), [(-1.0, 0.75), (0.0, 0.5), (0.5, 0.25)])
    def test_without_spread(self, difference: float, probability: float) -> None:
        """Two equal differences are two in favor: 3/4 by Laplace's rule."""
        assert probability_below_zero([difference] * 2) == probability

    def test_interval_of_the_mean(self) -> None:
        """Student's, from the setting's own spread, and from the seeds that had no part in the choice."""
        row = row_of(self.found, 4)
        assert (row.low, row.high) == pytest.approx(stats.t.interval(0.95, 4, np.mean(self.a), stats.sem(self.a)))
        assert (row.mean, row.sd) == pytest.approx((np.mean(self.a), np.std(self.a, ddof=1)))
        assert (row.measured, row.values[0]) == (True, 0.2)
        assert row.optimism == pytest.approx(np.mean(self.a) - 0.5)

    def test_not_measured(self) -> None:
        """A setting that was only compared has the mean of those seeds; it comes after the measured ones."""
        row = row_of(self.found, 9)
        assert (row.measured, row.mean, row.change) == (False, 0.4, None)
        assert [row.trial for row in self.found.rows] == [4, 6, 9, 0]

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
        """Entry (i, j) is the probability that row i is better than row j by the estimates; None on the diagonal."""
        belief = Belief((0, 4, 6, 9), np.array([0.6, 0.48, 0.5, 0.5]), 0.01 * np.eye(4), 0.1)
        found = weighed(self.values, belief)
        assert found.better_than[0][1] == belief.probability_better(4, 6) > 0.5
        assert found.better_than[3][0] == belief.probability_better(0, 4) < 0.5
        assert [found.better_than[n][n] for n in range(4)] == [None] * 4

    def test_noise(self) -> None:
        """The variance within settings is pooled by degrees of freedom; a single value adds nothing."""
        values = {0: by_seed(1.0, 3.0), 1: by_seed(1.0, 2.0, 3.0, None), 2: by_seed(5.0)}
        assert weighed(values).noise == pytest.approx(math.sqrt((1 * 2.0 + 2 * 1.0) / 3))
        assert weighed({0: by_seed(5.0)}).noise is None


class TestRecommendation:
    """The recommended setting, and the reason for it."""

    noise = (0.0, 0.02, -0.02, 0.01, -0.01)

    def values(self, **means: float) -> dict[int, dict[int, float | None]]:
        """Five values around each trial's mean, each trial's in another order, so that differences have noise."""
        orders = list(itertools.permutations(self.noise))
        return {
            int(name[1:]): by_seed(*(mean + error for error in orders[17 * (n + 1)]))
            for n, (name, mean) in enumerate(means.items())
        }

    def test_clear(self) -> None:
        """The lowest is recommended if it is not tied."""
        found = weighed(self.values(t0=0.6, t8=0.5, t12=0.4))
        assert (found.recommended, found.leader, found.tied) == (12, 12, (12,))
        assert (found.why, found.verdict) == ("trial 12 has the lowest estimate", "better than the baseline")
        assert (found.risk, found.margin) == (0.02, 0.01)

    @pytest.mark.parametrize(
        ("sizes", "recommended", "why"),
        [
            ({}, 12, f"{TIED}; trial 12 has the lowest estimate"),
            ({5: 900}, 5, f"{TIED}; trial 5 is recommended because it has the fewest parameters (900)"),
            ({12: 900, 5: 900}, 12, f"{TIED}; trial 12 has the lowest estimate"),
            (
                {5: 12_345, 8: 12_345, 12: 20_000},
                8,
                f"{TIED}; of these, trials 8 and 5 have the fewest parameters (12,345), and trial 8 the lowest estimate",
            ),
            ({5: None, 8: 10}, 12, f"{TIED}; trial 12 has the lowest estimate"),
        ],
    )
    def test_ties(self, sizes: dict[int, int | None], recommended: int, why: str) -> None:
        """Ties go to the fewest parameters, if all are known and they differ; then to the lowest estimate."""
        values = self.values(t0=0.9, t5=0.5004, t8=0.5002, t12=0.5)
        found = weighed(values, candidates=[candidate(n, parameters=sizes.get(n, 1000)) for n in values])
        assert (found.tied, found.leader) == ((12, 8, 5), 12)
        assert (found.recommended, found.why) == (recommended, why)
        assert found.verdict == "better than the baseline"

    def test_tie_with_the_baseline(self) -> None:
        """The lower estimate wins: the baseline is not kept against a lower one. The verdict claims no gain."""
        found = weighed(self.values(t0=0.5004, t8=0.5))
        assert (found.recommended, found.leader, found.tied) == (8, 8, (8, 0))
        assert found.why == "trial 8 and the baseline are statistically tied; trial 8 has the lower estimate"
        assert found.verdict == "no gain over the baseline is shown"

    def test_the_baseline_is_best(self) -> None:
        """The best other setting is named, whose row has its difference to the baseline."""
        values = {**self.values(t0=0.3, t12=0.4), 8: {1: 0.38, 2: 0.4}}
        found = weighed(values)
        assert (found.recommended, found.verdict) == (0, "the baseline is recommended")
        assert found.why == "the baseline has the lowest estimate"
        assert (found.change_low, found.change_high, found.rival) == (None, None, 12)
        assert (row_of(found, 12).change_low or 0) > 0

    @pytest.mark.parametrize(
        ("estimate", "why"),
        [
            (0.4998, "trials 8 and 12 are statistically tied; trial 12 had the lowest estimate before it was measured"),
            (
                0.4,
                "trial 12 had the lowest estimate before it was measured; trial 8, which was not measured, has a lower one now",
            ),
        ],
    )
    def test_the_measurement_changes_the_order(self, estimate: float, why: str) -> None:
        """What was measured is recommended, and it is said that another setting has the lower estimate by now."""
        values = {**self.values(t0=0.9, t12=0.5), 8: {1: estimate}}
        found = weighed(values)
        assert (found.recommended, found.leader, found.why) == (12, 8, why)

    def test_simpler_than_the_baseline(self) -> None:
        """Fewer parameters count more than a slightly lower estimate. The verdict claims no gain."""
        values = self.values(t0=0.5, t8=0.5002)
        found = weighed(values, candidates=[candidate(0), candidate(8, parameters=10)])
        tied, because = found.why.split("; ")
        assert tied == "trial 8 and the baseline are statistically tied"
        assert because == "trial 8 is recommended because it has the fewest parameters (10)"
        assert (found.recommended, found.verdict) == (8, "no gain over the baseline is shown")

    def test_all_equal(self) -> None:
        """Equal values are tied, and the baseline is kept."""
        found = weighed({n: by_seed(*[0.5] * 5) for n in (0, 3, 4)})
        assert (found.recommended, found.tied, found.noise) == (0, (0, 3, 4), 0.0)
        assert {better for line in found.better_than for better in line} == {None, 0.5}

    @pytest.mark.parametrize(
        ("differences", "verdict"),
        [
            ((-0.2, -0.21, -0.19, -0.2, -0.21), "better than the baseline"),
            ((-0.2, -0.01, -0.05, 0.0, 0.01), "probably better than the baseline"),
            ((-0.2, 0.15, -0.02, 0.1, -0.1), "no gain over the baseline is shown"),
        ],
    )
    def test_verdict(self, differences: tuple[float, ...], verdict: str) -> None:
        """The verdict says how certain it is that the recommended setting is better than the baseline."""
        base = (0.5, 0.6, 0.55, 0.5, 0.6)
        found = weighed({0: by_seed(*base), 7: by_seed(*(x + y for x, y in zip(base, differences, strict=True)))})
        assert (found.recommended, found.verdict) == (7, verdict)

    def test_baseline_failed(self) -> None:
        """A baseline without values cannot be recommended, nor compared with."""
        found = weighed({0: by_seed(*[None] * 5), 4: by_seed(0.5, 0.6, 0.5, 0.5, 0.5)})
        assert (found.recommended, found.verdict) == (4, "the baseline failed, so nothing can be compared with it")
        assert (found.rows[-1].failed, found.rows[-1].mean) == ((6, 7, 8, 9, 10), None)
        assert row_of(found, 4).change is None

    def test_baseline_failed_once(self) -> None:
        """It cannot be recommended, and comparisons use the seeds of both."""
        found = weighed({0: by_seed(0.1, None, 0.1, 0.1, 0.1), 4: by_seed(0.5, 0.6, 0.5, 0.5, 0.5)})
        assert (found.recommended, found.why) == (4, "trial 4 has the lowest estimate")
        assert row_of(found, 4).change == pytest.approx(0.4)
        assert found.verdict == "no gain over the baseline is shown"

    def test_a_candidate_failed(self) -> None:
        """It is out, however low its other values are."""
        found = weighed({**self.values(t0=0.6, t5=0.5), 4: by_seed(0.1, None)})
        row = row_of(found, 4)
        assert (found.recommended, row.failed, row.measured, row.mean) == (5, (7,), False, 0.1)
        assert (found.trainings, found.saved) == (12, 18)

    def test_all_failed(self) -> None:
        """Nothing is recommended."""
        found = weighed({0: by_seed(None, None), 4: by_seed(None), 5: by_seed(None)})
        assert (found.recommended, found.leader, found.tied, found.picked_from) == (None, None, (), 0)
        assert found.why == "no setting has a value for every seed that measures"
        assert found.verdict == "nothing can be compared with the baseline"

    def test_only_the_baseline_is_left(self) -> None:
        """It is recommended."""
        found = weighed({**self.values(t0=0.6), 4: by_seed(None)})
        assert (found.recommended, found.verdict, found.rival) == (0, "the baseline is recommended", None)

    def test_the_interval_of_the_recommended_one(self) -> None:
        """It is that of its row: its seeds had no part in the choice, so that nothing is to be corrected."""
        found = weighed(self.values(t0=0.9, t8=0.5))
        row = row_of(found, 8)
        assert (found.low, found.high, found.change_low, found.change_high) == (
            *(row.low, row.high, row.change_low, row.change_high),
        )
        assert (found.picked_from, found.low is None) == (1, False)

    def test_no_better_than_its_estimate(self) -> None:
        """Correlated estimates are separated by a smaller difference than independent ones."""
        alone, together = 0.01 * np.eye(2), 0.01 * np.array([[1, 0.99], [0.99, 1]])
        mean = np.array([0.5, 0.54])
        p = [Belief((3, 4), mean, covariance, 0.1).probability_better(4, 3) for covariance in (alone, together)]
        assert p == pytest.approx([stats.norm.cdf(-0.04 / math.sqrt(variance)) for variance in (0.02, 0.0002)])
        assert p[1] < TIE < p[0]

    @pytest.mark.parametrize("failing", [False, True])
    def test_round_trip(self, failing: bool) -> None:
        """JSON keeps a confirmation to the last bit, and those of earlier versions can be read."""
        found = weighed({**self.values(t0=0.6, t8=1 / 3, t12=0.45), 3: by_seed(0.9, None if failing else 0.92)})
        stored = json.loads(json.dumps(dataclasses.asdict(found), allow_nan=False))
        assert from_plain(Confirmation, stored) == found
        for name in ("choosing", "risk", "margin", "rival"):
            del stored[name]
        for row in stored["rows"]:
            row["distance"] = 0.5
            del row["measured"]
        assert from_plain(Confirmation, stored).recommended == found.recommended


class TestSigners:
    """How far the result depends on the validation signers."""

    def scores(self, *by_seed: Mapping[str, float], clips: Mapping[str, int] | None = None) -> list[list[SignerScore]]:
        """The scores of a setting by seed, from its loss on each signer."""
        return [
            [SignerScore(0, name, (clips or {}).get(name, 10), loss, 0.25) for name, loss in one.items()] for one in by_seed
        ]

    def test_by_hand(self) -> None:
        """Means 1 and 3 of two signers: standard error 1; the seeds explain a variance of 0.02 / 2 of the 2 between them."""
        scores = self.scores({"a": 0.9, "b": 2.9}, {"a": 1.1, "b": 3.1})
        base = self.scores({"a": 1.5, "b": 3.6}, {"a": 1.5, "b": 3.6})
        found = signer_spread("val_loss", scores, base, 0.14)
        assert found is not None
        assert (found.signers, found.between_seeds) == (2, 0.14)
        assert found.between_signers == pytest.approx(math.sqrt(2 - 0.01))
        assert found.error == pytest.approx(1.0)
        assert found.change_error == pytest.approx(0.05)

    def test_weights(self) -> None:
        """Signers count by their clips: without a difference between the others, one with few clips moves the value little."""
        scores = self.scores({"a": 1.0, "b": 2.0}, clips={"a": 30, "b": 10})
        found = signer_spread("val_loss", scores, None, None)
        assert found is not None
        assert found.error == pytest.approx(math.sqrt(2 * ((0.75 * 0.25) ** 2 + (0.25 * 0.75) ** 2)))
        assert found.change_error is None

    @pytest.mark.parametrize(("metric", "losses"), [("val_loss", {"a": 1.0}), ("val_loss_ts", {"a": 1.0, "b": 2.0})])
    def test_unknown(self, metric: str, losses: dict[str, float]) -> None:
        """With one signer, or by a metric that is not known for each signer, it is not known."""
        found = signer_spread(metric, self.scores(losses), None, 0.1)
        assert found is not None
        assert (found.signers, found.between_signers, found.error) == (len(losses), None, None)
        assert signer_spread(metric, [[]], None, 0.1) is None, "the files are gone"


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
        """Those believed to be lowest first; of similar ones only the lowest; never the baseline or a setting similar to it."""
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
        belief = Belief((0, 1, 2, 3, 4, 5), np.array([0.1, 0.2, 0.5, 0.4, 0.6, 0.45]), np.eye(6), 0.1)
        assert [trial.number for trial in best_distinct(trials, baseline, SPACE, belief, 5)] == [3, 5, 4]
        assert [trial.number for trial in best_distinct(trials[::-1], baseline, SPACE, belief, 2)] == [3, 5]
        assert best_distinct(trials[:2], baseline, SPACE, belief, 5) == []

    def test_luck_is_no_reason(self) -> None:
        """A lucky value far below its neighbors' comes after a setting whose neighbors are as good as itself."""
        truth = [(x - 0.4) ** 2 for x in np.linspace(0, 1, 21)]
        values = [value + 0.01 * (-1) ** n for n, value in enumerate(truth)]
        values[18] = min(values) - 0.05
        trials = [trial_of(n, value, {**MIDDLE, "dropout": n / 40}) for n, value in enumerate(values)]
        belief = believe(trials, SPACE, 0)
        assert belief is not None
        assert best_distinct(trials, trials[0], SPACE, belief, 1)[0].number in (6, 7, 8, 9, 10)

    def test_failed_baseline(self) -> None:
        """Settings similar to a failed baseline are left out although it has no value."""
        baseline = create_trial(
            state=TrialState.FAIL,
            params=MIDDLE,
            distributions={n: d.distribution() for n, d in zip(MIDDLE, SPACE, strict=False)},
        )
        baseline.number = 0
        trials = [trial_of(1, 0.2, {**MIDDLE, "dropout": 0.26}), trial_of(2, 0.3, {**MIDDLE, "layers": 4})]
        belief = believe(trials, SPACE, 0)
        assert belief is not None
        assert [trial.number for trial in best_distinct(trials, baseline, SPACE, belief, 5)] == [2]


def test_import_is_light() -> None:
    """A confirmation can be read without importing SciPy, Optuna or NumPy."""
    code = "import search.evaluation.confirm.evidence, sys; print({'scipy', 'optuna', 'numpy'} & set(sys.modules))"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "set()"
