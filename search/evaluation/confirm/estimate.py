"""The true values of a few settings, estimated from every trial of a search and the fresh trainings together.

A Gaussian process, which learns how far a setting's neighbours speak for it: the search's other trials stand in for the seeds
that nobody could afford. Source: Rasmussen and Williams 2006, "Gaussian processes for machine learning", chapters 2 and 5.
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

from search.evaluation.confirm.candidates import embedding
from search.evaluation.confirm.race import Values

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from search.definition.space import Dimension


FEWEST_TRIALS = 10
"""With fewer values the length scales of three dimensions are guesswork, and the trainings' own means serve as well."""

MOST_TRIALS = 400
"""A fit takes time with the cube of the number of settings, 2 s here; beyond, those nearest to the wanted ones are kept."""

SMOOTHNESS = 2.5
"""Of the Matern kernel: twice differentiable, the usual choice for hyperparameters (Snoek et al. 2012, "Practical Bayesian
optimization of machine learning algorithms")."""

LENGTH_SCALE, LENGTH_SCALES = 0.7, (0.1, 10.0)
"""Where the fit begins and may go, in widths of the unit cube: a tenth is finer than 50 trials can see, ten means no effect."""

AMPLITUDES = (1e-2, 1e2)
"""The signal's variance in units of the values' variance."""

JITTER = 1e-8
"""Added to every noise variance, in the same units, so that the matrix can be inverted where trainings repeat exactly."""

PRIOR = 4
"""Degrees of freedom that the usual noise is worth beside a setting's own: as many as five seeds have."""

FENCE = 1.5
"""Interquartile ranges above the upper quartile where values are cut off: a setting that diverged tells nothing about the good
ones by how far it went. Source: Tukey 1977, "Exploratory data analysis"."""


@dataclass(frozen=True)
class Estimates:
    """What is known of some settings' true values: a joint normal distribution."""

    trials: tuple[int, ...]
    """Whose, by number in the search."""

    mean_M: Float[np.ndarray, " M"]
    covariance_MM: Float[np.ndarray, "M M"]

    def mean_of(self, trial: int) -> float:
        """The estimated value of one."""
        return float(self.mean_M[self.trials.index(trial)])

    def probability_better(self, a: int, b: int) -> float:
        """The probability that trial `a` has the lower true value."""
        i, j = self.trials.index(a), self.trials.index(b)
        variance = self.covariance_MM[i, i] + self.covariance_MM[j, j] - 2 * self.covariance_MM[i, j]
        spread = math.sqrt(max(float(variance), 1e-300))  # rounding may leave a hair below 0
        return statistics.NormalDist().cdf((self.mean_of(b) - self.mean_of(a)) / spread)


def estimate_search(
    trials: Sequence[FrozenTrial], space: Sequence[Dimension], primary: int, values: Values
) -> Estimates | None:
    """The true values of the settings that were trained again; None where too little is known for it.

    A setting that was trained again stands with the mean of its value in the search and its fresh ones; the noise of its
    trainings is what its fresh seeds show, drawn towards what is usual. One that lies above the fence of all values has no
    estimate: its own mean says enough.

    Args:
        trials: the complete ones, and the baseline in whatever state, so that its place is known.
        space: the dimensions of the search.
        primary: index of the objective that decides where there are several.
        values: what the trainings with fresh seeds gave.
    """
    place = {trial.number: embedding(trial.params, space) for trial in trials}
    searched = {trial.number: trial.values[primary] for trial in trials if trial.state.name == "COMPLETE"}
    known = {number: [value] for number, value in searched.items() if math.isfinite(value)}
    noise = usual_noise(values)
    if noise is None or len(known) < FEWEST_TRIALS:
        return None
    wanted = []
    for number, by_seed in sorted(values.items()):
        fresh = [value for value in by_seed.values() if value is not None]
        if fresh:
            known.setdefault(number, []).extend(fresh)
            wanted.append(number)
    order = sorted(known)
    if not set(order) <= set(place):
        return None
    mean_N = np.array([statistics.fmean(known[number]) for number in order])
    count_N = np.array([len(known[number]) for number in order])
    noise_N = np.array([own_noise(values.get(number, {}), noise) for number in order])
    place_ND = np.stack([place[number] for number in order])
    fence = upper_fence(mean_N)
    wanted = [number for number in wanted if mean_N[order.index(number)] <= fence]
    if not wanted:
        return None
    try:
        mean_M, covariance_MM = estimate(place_ND, mean_N, count_N, noise_N, [order.index(number) for number in wanted])
    except (np.linalg.LinAlgError, ValueError):  # values so large, or so alike, that no process can be fitted
        return None
    return Estimates(tuple(wanted), mean_M, covariance_MM)


def estimate(
    place_ND: Float[np.ndarray, "N D"],
    value_N: Float[np.ndarray, " N"],
    count_N: Int[np.ndarray, " N"],
    noise: float | Float[np.ndarray, " N"],
    wanted: Sequence[int],
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, "M M"]]:
    """Mean and covariance of the true values at the settings `wanted`, by their place among the N.

    Values above Tukey's upper fence are cut to it; the wanted ones never are.

    Args:
        place_ND: in the unit cube.
        value_N: the mean of a setting's trainings.
        count_N: how many trainings that is the mean of.
        noise: variance of one training around its setting's true value, for all or for each.

    Raises:
        LinAlgError, ValueError: no process can be fitted.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    wanted_MD = place_ND[list(wanted)]
    value_N = np.minimum(value_N, max(upper_fence(value_N), value_N[list(wanted)].max()))
    middle, scale = float(np.median(value_N)), float(value_N.std()) or 1.0
    near_N = _nearest(place_ND, wanted_MD)
    kernel = ConstantKernel(1.0, AMPLITUDES) * Matern([LENGTH_SCALE] * place_ND.shape[1], LENGTH_SCALES, nu=SMOOTHNESS)
    process = GaussianProcessRegressor(kernel, alpha=np.asarray(noise / count_N)[near_N] / scale**2 + JITTER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length scale at its bound is an answer: no effect
        process.fit(place_ND[near_N], (value_N[near_N] - middle) / scale)
    mean_M, covariance_MM = process.predict(wanted_MD, return_cov=True)
    return middle + scale * mean_M, scale**2 * covariance_MM


def upper_fence(value_N: Float[np.ndarray, " N"]) -> float:
    """Tukey's: what lies above is cut to it."""
    lower, upper = np.quantile(value_N, [0.25, 0.75])
    return float(upper + FENCE * (upper - lower))


def usual_noise(values: Values) -> float | None:
    """Variance between the seeds of a setting: the median over the settings with two values; None if there are none.

    A setting that diverges with some seeds says nothing of the others' noise. The baseline counts like any other.
    """
    variances = [statistics.variance(group) for by_seed in values.values() if len(group := _numbers(by_seed)) > 1]
    return statistics.median(variances) if variances else None


def own_noise(by_seed: Mapping[int, float | None], usual: float) -> float:
    """Variance between the seeds of one setting: its own, and the usual one as if `PRIOR` more degrees of freedom had shown it.

    Source: the posterior mean of a variance under a scaled inverse chi-square prior, but for its correction of small samples;
    Gelman et al., "Bayesian data analysis", section 2.6.
    """
    group = _numbers(by_seed)
    if len(group) < 2:
        return usual
    freedom = len(group) - 1
    return (PRIOR * usual + freedom * statistics.variance(group)) / (PRIOR + freedom)


def _numbers(by_seed: Mapping[int, float | None]) -> list[float]:
    return [value for value in by_seed.values() if value is not None]


def _nearest(place_ND: Float[np.ndarray, "N D"], wanted_MD: Float[np.ndarray, "M D"]) -> Int[np.ndarray, " K"]:
    """Which settings to fit to, in their order. By place, not by value: the lowest values would be the lucky ones."""
    distance_N = np.linalg.norm(place_ND[:, None] - wanted_MD[None], axis=-1).min(axis=1)
    return np.sort(np.argsort(distance_N, kind="stable")[:MOST_TRIALS])
