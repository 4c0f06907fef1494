"""The true values of a few settings, estimated from all trials of a search and the fresh trainings together.

A Gaussian process learns how far nearby settings predict a setting's value, so that the other trials of the search make up for
the seeds that would be too expensive.

Source: Rasmussen and Williams 2006, "Gaussian processes for machine learning", chapters 2 and 5.
"""

# N settings with a value, D dimensions of the unit cube, M settings that were trained again

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from search.definition.cube import embedding
from search.evaluation.confirm.race import Values, known_values

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from search.definition.space import Dimension


MIN_TRIALS = 10
"""With fewer values the length scales of three dimensions are guesswork, and the trainings' own means are as good."""

MAX_TRIALS = 400
"""The time of a fit grows with the cube of the number of settings, 2 s here. Of more settings the nearest ones are used."""

SMOOTHNESS = 2.5
"""Of the Matern kernel: twice differentiable, the usual choice for hyperparameters (Snoek et al. 2012, "Practical Bayesian
optimization of machine learning algorithms")."""

LENGTH_SCALE, LENGTH_SCALES = 0.7, (0.1, 10.0)
"""Start and bounds of the fit, in widths of the unit cube: 50 trials cannot resolve a tenth, and ten means no effect."""

AMPLITUDES = (1e-2, 1e2)
"""Bounds of the signal's variance, in units of the values' variance."""

JITTER = 1e-8
"""Added to every noise variance, in the same units, so that the matrix can be inverted where trainings repeat exactly."""

PRIOR_FREEDOM = 4
"""Degrees of freedom of the typical noise when it is combined with a setting's own: as many as five seeds have."""

FENCE_FACTOR = 1.5
"""Interquartile ranges above the upper quartile at which values are clipped: how far a diverged setting went off says nothing
about the good ones. Source: Tukey 1977, "Exploratory data analysis"."""


@dataclass(frozen=True)
class Estimates:
    """The joint normal distribution of some settings' true values."""

    trials: tuple[int, ...]
    """The settings, by number in the search."""

    mean_M: Float[np.ndarray, " M"]
    covariance_MM: Float[np.ndarray, "M M"]

    def mean_of(self, trial: int) -> float:
        """The estimated value of one setting."""
        return float(self.mean_M[self.trials.index(trial)])

    def probability_better(self, a: int, b: int) -> float:
        """The probability that trial `a` has the lower true value."""
        i, j = self.trials.index(a), self.trials.index(b)
        variance = self.covariance_MM[i, i] + self.covariance_MM[j, j] - 2 * self.covariance_MM[i, j]
        sd = math.sqrt(max(float(variance), 1e-300))  # rounding may leave it slightly below 0
        return statistics.NormalDist().cdf((self.mean_of(b) - self.mean_of(a)) / sd)


def estimate_true_values(
    trials: Sequence[FrozenTrial], space: Sequence[Dimension], primary: int, values: Values
) -> Estimates | None:
    """The true values of the settings that were trained again; None if too little is known.

    The value of such a setting is the mean of its value in the search and its fresh ones. The noise of its trainings is what
    its fresh seeds show, shrunk towards the typical noise. A setting above Tukey's fence of all values has no estimate: its own
    mean is enough.

    Args:
        trials: the complete ones, and the baseline in any state, so that its position is known.
        space: the dimensions of the search.
        primary: index of the objective that decides where there are several.
        values: the values of the trainings with fresh seeds.
    """
    position = {trial.number: embedding(trial.params, space) for trial in trials}
    searched = {trial.number: trial.values[primary] for trial in trials if trial.state.name == "COMPLETE"}
    known = {number: [value] for number, value in searched.items() if math.isfinite(value)}
    noise = typical_noise(values)
    if noise is None or len(known) < MIN_TRIALS:
        return None
    repeated = []
    for number, by_seed in sorted(values.items()):
        if fresh := known_values(by_seed):
            known.setdefault(number, []).extend(fresh)
            repeated.append(number)
    order = sorted(known)
    if not set(order) <= set(position):
        return None
    mean_N = np.array([statistics.fmean(known[number]) for number in order])
    count_N = np.array([len(known[number]) for number in order])
    noise_N = np.array([shrunken_noise(values.get(number, {}), noise) for number in order])
    position_ND = np.stack([position[number] for number in order])
    fence = tukey_upper_fence(mean_N)
    repeated = [number for number in repeated if mean_N[order.index(number)] <= fence]
    if not repeated:
        return None
    try:
        mean_M, covariance_MM = gp_posterior(position_ND, mean_N, count_N, noise_N, [order.index(n) for n in repeated])
    except (np.linalg.LinAlgError, ValueError):  # values so large, or so similar, that no process can be fitted
        return None
    return Estimates(tuple(repeated), mean_M, covariance_MM)


def gp_posterior(
    position_ND: Float[np.ndarray, "N D"],
    value_N: Float[np.ndarray, " N"],
    count_N: Int[np.ndarray, " N"],
    noise: float | Float[np.ndarray, " N"],
    at: Sequence[int],
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, "M M"]]:
    """Posterior mean and covariance of the true values of the settings with indices `at`.

    Values above Tukey's upper fence are clipped to it, except those of the settings `at`.

    Args:
        position_ND: in the unit cube.
        value_N: the mean of a setting's trainings.
        count_N: the number of those trainings.
        noise: variance of one training around its setting's true value, for all or for each.

    Raises:
        LinAlgError, ValueError: no process can be fitted.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    at_MD = position_ND[list(at)]
    value_N = np.minimum(value_N, max(tukey_upper_fence(value_N), value_N[list(at)].max()))
    middle, scale = float(np.median(value_N)), float(value_N.std()) or 1.0
    near_K = _nearest(position_ND, at_MD)
    kernel = ConstantKernel(1.0, AMPLITUDES) * Matern([LENGTH_SCALE] * position_ND.shape[1], LENGTH_SCALES, nu=SMOOTHNESS)
    process = GaussianProcessRegressor(kernel, alpha=np.asarray(noise / count_N)[near_K] / scale**2 + JITTER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale at its bound is a valid result: no effect
        process.fit(position_ND[near_K], (value_N[near_K] - middle) / scale)
    mean_M, covariance_MM = process.predict(at_MD, return_cov=True)
    return middle + scale * mean_M, scale**2 * covariance_MM


def tukey_upper_fence(value_N: Float[np.ndarray, " N"]) -> float:
    """The value above which values are outliers: `FENCE_FACTOR` interquartile ranges above the upper quartile."""
    lower, upper = np.quantile(value_N, [0.25, 0.75])
    return float(upper + FENCE_FACTOR * (upper - lower))


def typical_noise(values: Values) -> float | None:
    """Variance between the seeds of a setting: the median over the settings with two values; None if there are none.

    The median, because a setting that diverges with some seeds says nothing about the noise of the others.
    """
    variances = [statistics.variance(group) for by_seed in values.values() if len(group := known_values(by_seed)) > 1]
    return statistics.median(variances) if variances else None


def shrunken_noise(by_seed: Mapping[int, float | None], typical: float) -> float:
    """Variance between the seeds of one setting: its own, shrunk towards the typical one with `PRIOR_FREEDOM`.

    Source: the posterior mean of a variance under a scaled inverse chi-square prior, without its correction for small samples;
    Gelman et al., "Bayesian data analysis", section 2.6.
    """
    group = known_values(by_seed)
    if len(group) < 2:
        return typical
    freedom = len(group) - 1
    return (PRIOR_FREEDOM * typical + freedom * statistics.variance(group)) / (PRIOR_FREEDOM + freedom)


def _nearest(position_ND: Float[np.ndarray, "N D"], at_MD: Float[np.ndarray, "M D"]) -> Int[np.ndarray, " K"]:
    """Indices of the settings to fit to, in order. By position, not by value: the lowest values would be the lucky ones."""
    distance_N = np.linalg.norm(position_ND[:, None] - at_MD[None], axis=-1).min(axis=1)
    return np.sort(np.argsort(distance_N, kind="stable")[:MAX_TRIALS])
