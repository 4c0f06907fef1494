"""Fresh seeds go to those whom they may still help, decided by the trainings so far alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search import BASELINE_TRIAL
from search.definition.ranges import Range
from search.definition.settings import Setting
from search.definition.space import Dimension
from search.evaluation.confirm.allocation import BATCH, Allocation, Decision, knowledge_gradient
from search.evaluation.confirm.values import RISK, num_measuring
from search.study import belief as belief_module
from search.study.belief import Belief, believe
from search.study.confirmed import Candidate

SPACE = (Dimension("x", Setting("train", "x", float, 0.5), Range(low=0.0, high=1.0)),)


def trial_of(number: int, place: float, value: float | None) -> FrozenTrial:
    """A trial of a search over one number; failed without a value."""
    state = TrialState.FAIL if value is None else TrialState.COMPLETE
    trial = create_trial(state=state, value=value, params={"x": place}, distributions={"x": FloatDistribution(0, 1)})
    trial.number = number
    return trial


PLACES = np.linspace(0, 1, 21)
TRUTH = (PLACES - 0.4) ** 2


def searched(noise: float = 0.0) -> list[FrozenTrial]:
    """A search over a parabola with its lowest value at trial 8."""
    errors = noise * np.random.default_rng(0).normal(size=len(PLACES))
    return [trial_of(n, float(x), float(y)) for n, (x, y) in enumerate(zip(PLACES, TRUTH + errors, strict=True))]


class TestBelief:
    """What the trials say of the true values."""

    def test_without_noise(self) -> None:
        """Estimates are the values, and nearly certain."""
        found = believe(searched(), SPACE, 0)
        assert found is not None
        assert found.trials == tuple(range(21))
        assert found.mean_M == pytest.approx(TRUTH, abs=0.01)
        assert found.noise < 0.02

    def test_luck_is_smoothed_out(self) -> None:
        """A value far below its neighbors' is pulled up; fresh values count as much as the search's own."""
        trials = searched(0.02)
        trials[15].values = [TRUTH[15] - 0.2]
        lucky, repeated = believe(trials, SPACE, 0), believe(trials, SPACE, 0, fresh={15: [TRUTH[15] - 0.2] * 20})
        assert lucky is not None
        assert repeated is not None
        assert TRUTH[15] - 0.2 < repeated.mean_of(15) < lucky.mean_of(15) < TRUTH[15] + 0.05
        assert repeated.mean_of(15) < TRUTH[15] - 0.1

    def test_how_far_it_diverged(self) -> None:
        """How far a setting diverged does not matter to others; its own estimate is as bad as its mean."""
        found = []
        for value in (1e3, 1e9):
            trials = searched(0.02)
            trials[20].values = [value]
            found.append(believe(trials, SPACE, 0, fresh={19: [0.4, value]}, of=[8, 19]))
        first, second = found
        assert first is not None
        assert second is not None
        assert first.mean_of(8) == second.mean_of(8) == pytest.approx(0, abs=0.05)
        assert first.mean_of(19) == pytest.approx(1e3 / 3, rel=0.01), "of three values one"
        assert second.mean_of(19) == pytest.approx(1e9 / 3, rel=0.01)

    @pytest.mark.parametrize("values", [[0.5] * 21, [1e300] * 20 + [1.0], [0.5]], ids=["equal", "huge", "one"])
    def test_hardly_anything_known(self, values: list[float]) -> None:
        """Equal values, values that cannot be squared, and a single one give finite estimates."""
        found = believe([trial_of(n, n / 20, value) for n, value in enumerate(values)], SPACE, 0)
        assert found is not None
        assert np.isfinite(found.mean_M).all()
        assert np.isfinite(found.covariance_MM).all()

    def test_unknown(self) -> None:
        """Values that are not finite, and trials without one, are no evidence; a place is enough to be asked for."""
        trials = [trial_of(0, 0.5, None), *searched()[1:], trial_of(21, 0.1, math.inf)]
        found = believe(trials, SPACE, 0, of=[0, 21], fresh={0: []})
        assert found is not None
        assert found.mean_M == pytest.approx([0.01, 0.09], abs=0.01)
        assert believe([trials[0], trials[-1]], SPACE, 0) is None

    def test_order_does_not_matter(self) -> None:
        """The same trials in another order give the same numbers, bit by bit."""
        trials = searched(0.02)
        one, other = (believe(these, SPACE, 0, fresh={3: [0.1, 0.2]}) for these in (trials, trials[::-1]))
        assert one is not None
        assert other is not None
        assert (one.mean_M == other.mean_M).all()

    def test_long_search(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of too many trials the ones nearest to the requested settings are used."""
        whole = believe(searched(), SPACE, 0, of=[3, 8])
        monkeypatch.setattr(belief_module, "MAX_SETTINGS", 12)
        part, lowest = believe(searched(), SPACE, 0, of=[3, 8]), believe(searched(), SPACE, 0)
        assert whole is not None
        assert part is not None
        assert lowest is not None
        assert part.mean_M == pytest.approx(whole.mean_M, abs=0.02)
        assert set(lowest.trials) == set(range(2, 14)) or set(lowest.trials) == set(range(3, 15))


Trained = dict[int, dict[int, float | None]]
"""Values by trial and seed."""


def allocation(numbers: Sequence[int], *, seeds: int = 8, limit: int = 12, noise: float = 0.1) -> Allocation:
    """The rule for some trials of a search and its baseline."""
    trials = searched(noise)

    def believe_with(fresh: Mapping[int, Sequence[float]], of: Sequence[int]) -> Belief | None:
        return believe(trials, SPACE, 0, fresh=fresh, of=of)

    candidates = [Candidate(trial=n, params=trials[n].params, searched=0.5, parameters=1000) for n in (0, *numbers)]
    return Allocation(candidates=candidates, seeds=seeds, limit=limit, believe=believe_with)


def train(rule: Allocation, errors: np.random.Generator, noise: float = 0.1) -> tuple[Decision, Trained]:
    """All trainings of a confirmation, in the order of the decisions."""
    values: Trained = {}
    while missing := (decision := rule.decide(values)).missing:
        for trial, seed in missing:
            assert seed not in values.get(trial, {})
            values.setdefault(trial, {})[seed] = TRUTH[trial] + noise * errors.normal()
    return decision, values


class TestAllocation:
    """Who is trained next."""

    @pytest.mark.parametrize(("seeds", "measuring"), [(2, 2), (3, 2), (4, 2), (5, 3), (8, 4), (9, 5)])
    def test_half_of_the_seeds_measure(self, seeds: int, measuring: int) -> None:
        """And at least two, because one shows no noise."""
        assert num_measuring(seeds) == measuring

    def test_knowledge_gradient_is_the_integral(self) -> None:
        """Against numerical integration; and not 0 however little a training promises, so that an order remains."""
        rng = np.random.default_rng(0)
        normal_K = np.linspace(-9, 9, 200_001)
        weight_K = np.exp(-0.5 * normal_K**2) / np.exp(-0.5 * normal_K**2).sum()
        for _ in range(20):
            root_MM = rng.normal(size=(5, 5))
            mean_M, covariance_MM = rng.normal(size=5), root_MM @ root_MM.T / 5
            change_MM = covariance_MM / np.sqrt(np.diag(covariance_MM) + 0.3)
            lowest_MK = (mean_M[:, None, None] + change_MM[:, :, None] * normal_K).min(axis=0)
            assert knowledge_gradient(mean_M, covariance_MM, 0.3) == pytest.approx(
                mean_M.min() - lowest_MK @ weight_K, abs=1e-6
            )
        gain_M = knowledge_gradient(np.array([0.0, 0.04, 0.05, 0.4]), np.diag([0.05**2] * 4), 0.15**2)
        assert (gain_M > 0).all()
        assert gain_M[3] < min(gain_M[:3]), "the hopeless one is the last to be trained"

    def test_knowledge_gradient(self) -> None:
        """Of two equally good settings the less certain one is trained; of three, not the hopeless one, however uncertain."""
        assert np.argmax(knowledge_gradient(np.array([0.5, 0.5]), np.diag([0.01, 0.04]), 0.01)) == 1
        gain = knowledge_gradient(np.array([0.5, 0.52, 9.0]), np.diag([0.01, 0.01, 0.5]), 0.01)
        assert gain[2] == pytest.approx(0, abs=1e-9)
        assert (gain >= -1e-9).all()
        exact = math.sqrt(0.02**2 / 0.03 / (2 * math.pi))  # of the lower of a constant and a normal variable
        one = knowledge_gradient(np.array([0.5, 0.5]), np.diag([0.0, 0.02]), 0.01)
        assert one == pytest.approx([0, exact], rel=0.03, abs=1e-9)

    def test_two_phases(self) -> None:
        """At most half of a candidate's seeds and `limit` trainings choose; then the best one and the baseline are measured."""
        decision, values = train(allocation([4, 7, 9, 12, 20]), np.random.default_rng(1))
        choosing = {trial: [seed for seed in own if seed <= 4] for trial, own in values.items()}
        assert sum(map(len, choosing.values())) <= 12
        assert all(seeds == list(range(1, len(seeds) + 1)) for seeds in choosing.values())
        measured = {trial for trial, own in values.items() if set(own) >= {5, 6, 7, 8}}
        assert set(decision.measured) == measured == {0, decision.best}
        assert decision.best in (7, 9)
        assert 20 not in values, "a hopeless candidate gets no training"
        assert decision.left == 0

    def test_stops_when_the_answer_is_known(self) -> None:
        """Without doubt no training chooses; the risk is that of another candidate being better by half the noise."""
        rule = allocation([8, 16, 20], noise=0.01)
        decision = rule.decide({})
        assert sorted(decision.missing) == [(trial, seed) for trial in (0, 8) for seed in (5, 6, 7, 8)]
        end, _ = train(rule, np.random.default_rng(0), 0.01)
        assert end.risk is not None
        assert end.risk <= RISK
        assert end.margin == pytest.approx(0.005, rel=0.5)

    def test_any_order_and_any_number_of_workers(self) -> None:
        """A batch is decided by the batches before it: what is trained does not depend on who finishes first."""
        _, whole = train(allocation([4, 7, 9, 12]), np.random.default_rng(3))
        values: Trained = {}
        rule, asked = allocation([4, 7, 9, 12]), []
        while missing := rule.decide(values).missing:
            trial, seed = missing[-1]  # the last one of its batch first
            rest = set(missing[:-1])
            values.setdefault(trial, {})[seed] = whole[trial][seed]
            asked.append((trial, seed))
            assert rest <= set(rule.decide(values).missing) or not rest, "the others of the batch are still asked for"
        assert {trial: dict(sorted(own.items())) for trial, own in values.items()} == {
            trial: dict(sorted(own.items())) for trial, own in whole.items()
        }
        assert len(asked) == sum(map(len, whole.values()))

    def test_batches(self) -> None:
        """A batch has a fixed size, whatever else was trained by a run with other options."""
        rule = allocation([4, 7, 9, 12])
        first = rule.decide({}).missing
        assert len(first) == BATCH
        assert rule.decide({7: {4: 0.2}, 20: {1: 0.1}}).missing == first

    def test_a_candidate_that_fails(self) -> None:
        """It is out: it is neither trained further nor measured, and the next best is."""
        rule = allocation([7, 9, 12])
        best, values = train(rule, np.random.default_rng(1))
        assert best.best is not None
        values[best.best][5] = None
        asked: list[tuple[int, int]] = []
        while missing := (decision := rule.decide(values)).missing:
            asked += missing
            for trial, seed in missing:
                values.setdefault(trial, {})[seed] = TRUTH[trial]
        assert asked
        assert best.best not in {trial for trial, _ in asked}
        assert decision.best not in (best.best, None)

    def test_a_baseline_that_fails(self) -> None:
        """The best candidate is measured all the same."""
        rule = allocation([7, 9])
        values: Trained = {BASELINE_TRIAL: dict.fromkeys(range(1, 9))}
        while missing := (decision := rule.decide(values)).missing:
            for trial, seed in missing:
                values.setdefault(trial, {})[seed] = TRUTH[trial]
        assert decision.measured == (decision.best,)

    def test_everything_fails(self) -> None:
        """It ends, and nothing is recommended."""
        rule = allocation([7, 9])
        values: Trained = {}
        while missing := (decision := rule.decide(values)).missing:
            for trial, seed in missing:
                values.setdefault(trial, {})[seed] = None
        assert (decision.best, decision.measured, decision.risk) == (None, (), None)

    def test_a_measurement_that_changes_the_order(self) -> None:
        """No further candidate is measured: only the baseline can be recommended instead."""
        rule = allocation([6, 7, 8, 9, 10])
        values: Trained = {}
        while missing := (decision := rule.decide(values)).missing:
            for trial, seed in missing:
                values.setdefault(trial, {})[seed] = TRUTH[trial] + (2.0 if seed > 4 and trial else 0.0)
        assert len(decision.measured) == 2
        assert decision.best == BASELINE_TRIAL
        assert decision.risk is not None
        assert decision.risk > RISK

    def test_two_seeds(self) -> None:
        """Both measure: the search alone chooses."""
        assert {seed for _, seed in allocation([7, 9], seeds=2).decide({}).missing} == {1, 2}
