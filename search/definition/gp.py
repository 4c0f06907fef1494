"""A Gaussian process as an Optuna sampler."""

# M candidates, S dimensions of the space, D coordinates of the unit cube

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from jaxtyping import Bool, Float
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from scipy.spatial import KDTree
from scipy.stats import qmc

from search.definition.cube import Cube, embedding
from search.definition.observed import Observed, is_inside, observe
from search.definition.space import Dimension
from search.surrogate.acquisition import ExpectedImprovement
from search.surrogate.gaussian_process import GaussianProcess

MAX_TRIALS = 150
"""The time of a proposal grows with the cube of the number of values. Of more trials it uses the lower half by value, and
others evenly by number: where it is good matters most, and that it is bad elsewhere is enough."""

MIN_VALUES = 4
"""With fewer values the process knows nothing."""

CANDIDATES, NEAR_BEST = 1024, 64
"""Candidates that are spread over the space, and those around each of the points with the lowest means."""

_CENTERS, _SPREADS = 3, (0.02, 0.1)
_ROUNDS, _KEPT, _AROUND = (0.05, 0.02, 0.01), 8, 24
"""Refinement: spread of each round, candidates that are kept, and new ones around each."""

_SAME = 1e-6


class GaussianProcessSampler(optuna.samplers.GPSampler):
    """Proposes the setting with the highest expected improvement, among those that no trial has.

    It knows conditions and choices, the values that pruned trials would probably have reached, and trials that are running
    elsewhere. A proposal depends on the trials and the seeds alone. Several objectives are left to Optuna's sampler.
    """

    def __init__(self, space: Sequence[Dimension], *, startup: int, seed: int, study_seed: int) -> None:
        super().__init__(n_startup_trials=startup, seed=seed, warn_independent_sampling=False)
        self._cube = Cube(space)
        self._startup, self._study_seed = startup, study_seed
        self._generator = np.random.default_rng(seed)
        self._drawn: list[Float[np.ndarray, " D"]] = []
        """What this sampler has proposed already: a further call for the same trial wants something else."""

        self._fitted: tuple[ExpectedImprovement, list[Float[np.ndarray, " S"]]] | None = None
        """What is promising, and the positions with the lowest means: known from the first call on."""

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All dimensions."""
        if len(study.directions) > 1:
            return super().infer_relative_search_space(study, trial)
        return {dim.name: dim.distribution() for dim in self._cube.space}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A setting: a value for every dimension that applies."""
        if len(study.directions) > 1:
            return super().sample_relative(study, trial, search_space)
        others = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number]
        trials = [one for one in others if is_inside(one, self._cube.space)]
        seen = observe(trials, self._cube.space)
        if trial.number < self._startup or len(seen.numbers) < MIN_VALUES:
            position_S = self._spread(trial.number)
        else:
            self._fitted = self._fitted or self._fit(seen, trials)
            position_S = self._most_promising(*self._fitted, trials)
        self._drawn.append(self._cube.points(position_S[None])[0])
        return self._cube.settings(position_S)

    def _spread(self, number: int) -> Float[np.ndarray, " S"]:
        """The trial's point of a scrambled Sobol sequence."""
        sequence = qmc.Sobol(len(self._cube.space), seed=np.random.default_rng([self._study_seed, len(self._drawn)]))
        return self._cube.from_unit(sequence.random_base2(number.bit_length()))[number]

    def _fit(self, seen: Observed, trials: Sequence[FrozenTrial]) -> tuple[ExpectedImprovement, list[Float[np.ndarray, " S"]]]:
        seen = _at_most(seen, MAX_TRIALS)
        process = GaussianProcess(seen.points_ND, seen.values_N, extra_noise_N=seen.extra_noise_N)
        mean_N, _ = process.at(seen.points_ND)
        lowest = [seen.numbers[index] for index in np.argsort(mean_N, kind="stable")[:_CENTERS]]
        centers = [self._cube.positions(trial.params) for trial in trials if trial.number in lowest]
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        if running:
            process = process.assuming(self._points_of(running))
        return ExpectedImprovement(process), centers

    def _most_promising(
        self, promise: ExpectedImprovement, centers: Sequence[Float[np.ndarray, " S"]], trials: Sequence[FrozenTrial]
    ) -> Float[np.ndarray, " S"]:
        taken_ND = np.array([*self._points_of(trials), *self._drawn])
        rng = self._generator
        spread_MS = self._cube.from_unit(rng.random((CANDIDATES, len(self._cube.space))))
        around = [self._cube.near(center, NEAR_BEST, spread, rng) for center in centers for spread in _SPREADS]
        position_MS = np.concatenate([spread_MS, *around])
        for spread in (*_ROUNDS, None):
            point_MD = self._cube.points(position_MS)
            value_M = np.where(_is_taken(point_MD, taken_ND), -np.inf, promise(point_MD))
            best = position_MS[np.argsort(-value_M, kind="stable")[:_KEPT]]
            if spread is not None:
                position_MS = np.concatenate([best, *(self._cube.near(one, _AROUND, spread, rng) for one in best)])
        return best[0]

    def _points_of(self, trials: Sequence[FrozenTrial]) -> Float[np.ndarray, "N D"]:
        return np.array([embedding(trial.params, self._cube.space) for trial in trials])


def _at_most(seen: Observed, count: int) -> Observed:
    """The lower half of `count` trials by value, and others evenly by number."""
    if len(seen.numbers) <= count:
        return seen
    order = np.argsort(seen.values_N, kind="stable")
    rest = np.sort(order[count // 2 :])
    chosen = np.sort([*order[: count // 2], *rest[np.linspace(0, len(rest) - 1, count - count // 2).astype(int)]])
    return Observed(
        tuple(seen.numbers[index] for index in chosen),
        seen.points_ND[chosen],
        seen.values_N[chosen],
        seen.extra_noise_N[chosen],
    )


def _is_taken(point_MD: Float[np.ndarray, "M D"], taken_ND: Float[np.ndarray, "N D"]) -> Bool[np.ndarray, " M"]:
    """Whether a trial has a point already."""
    distance_M, _ = KDTree(taken_ND).query(point_MD, p=np.inf, distance_upper_bound=_SAME)
    return np.isfinite(distance_M)
