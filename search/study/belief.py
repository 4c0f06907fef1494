"""What the trials of a search, and fresh trainings of some of them, say of the true values of its settings.

The best of many noisy values is partly luck. A Gaussian process learns from all trials how far nearby settings predict a
setting's value and how much of a value is noise, so that other trials make up for the seeds that would be too expensive.
"""

# N settings with a value, D dimensions of the unit cube, M settings whose true value is estimated, T trainings, K noises

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from search.definition.cube import embedding
from search.definition.observed import upper_fence

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from search.definition.space import Dimension


MAX_SETTINGS = 150
"""The time of a fit grows with the cube of the number of values. Of more settings the nearest are used."""

NOISE_SHARES = np.array([0.003, 0.01, 0.03, 0.08, 0.18, 0.35, 0.6, 0.9])
"""Of the variance of the values: how much of it may be noise, where that is averaged over."""

NOISE_SHARE, NOISE_SPREAD = 0.2, 1.5
"""The prior of the noise's share: median, and spread of its logarithm. Wide, because few trials do not tell how noisy they are.
On surrogates of real learning curves (two sets, 30 searches each), 50 to 97% of the 95% intervals of 10 to 15 trials held the
truth by the most probable noise, and 87 to 100% on average over it; of 50 trials 97%. The regret of the pick is the same."""


@dataclass(frozen=True)
class Belief:
    """The joint normal distribution of some settings' true values."""

    trials: tuple[int, ...]
    """The settings, by number in the search."""

    mean_M: Float[np.ndarray, " M"]
    covariance_MM: Float[np.ndarray, "M M"]

    noise: float
    """Standard deviation of one training's value around its setting's true value."""

    is_fitted: bool = True
    """Whether a process could be fitted. Otherwise all settings count as equally good."""

    def mean_of(self, trial: int) -> float:
        """The estimated value of one setting."""
        return float(self.mean_M[self.trials.index(trial)])

    def probability_better(self, a: int, b: int) -> float:
        """The probability that trial `a` has the lower true value."""
        i, j = self.trials.index(a), self.trials.index(b)
        variance = self.covariance_MM[i, i] + self.covariance_MM[j, j] - 2 * self.covariance_MM[i, j]
        sd = math.sqrt(max(float(variance), 1e-300))  # rounding may leave it slightly below 0
        return statistics.NormalDist().cdf((self.mean_of(b) - self.mean_of(a)) / sd)


def believe(
    trials: Sequence[FrozenTrial],
    space: Sequence[Dimension],
    primary: int,
    *,
    fresh: Mapping[int, Sequence[float]] | None = None,
    of: Sequence[int] | None = None,
    averaged: bool = False,
) -> Belief | None:
    """The true values of settings, given all values that are known; None if none is.

    Values above a fence are clipped to it: how far a setting went off says nothing about the others. To its own estimate
    the mean of what was clipped is added, since a setting that breaks down now and then is as bad as its mean.

    Args:
        trials: the complete ones, and others whose true value is asked for, so that their position is known.
        space: the dimensions of the search.
        primary: index of the objective that decides where there are several.
        fresh: values of trainings with fresh seeds, by trial.
        of: the trials whose true values are estimated; all that have a value if None.
        averaged: over all that the noise may be, instead of its most probable value. It takes eight times as long, and the
            intervals of few trials are honest.
    """
    position = {trial.number: embedding(trial.params, space) for trial in sorted(trials, key=lambda trial: trial.number)}
    known = {t.number: [t.values[primary]] for t in trials if t.state.name == "COMPLETE" and math.isfinite(t.values[primary])}
    if not known:
        return None
    fence = upper_fence(np.array([value for (value,) in known.values()]))
    for number, values in (fresh or {}).items():
        if values:
            known.setdefault(number, []).extend(values)
    used = _nearest(known, position, of)
    asked = sorted(used if of is None else of)
    where_T = [number for number in used for _ in known[number]]
    value_T = np.minimum([value for number in used for value in known[number]], fence)
    points_TD, asked_MD = (np.stack([position[number] for number in numbers]) for numbers in (where_T, asked))
    fitted = _posterior(points_TD, value_T, asked_MD, averaged)
    if fitted is None:
        count, middle = len(asked), float(np.median(value_T))
        return Belief(tuple(asked), np.full(count, middle), np.eye(count), 1.0, is_fitted=False)
    mean_M, covariance_MM, noise = fitted
    clipped_M = [statistics.fmean(max(0.0, value - fence) for value in known.get(number, [fence])) for number in asked]
    return Belief(tuple(asked), mean_M + clipped_M, covariance_MM, noise)


def _posterior(
    points_TD: Float[np.ndarray, "T D"], value_T: Float[np.ndarray, " T"], asked_MD: Float[np.ndarray, "M D"], averaged: bool
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, "M M"], float] | None:
    """Mean and covariance of the true values, and the noise's standard deviation.

    None where no process can be fitted, because values are too large to be squared.
    """
    from search.surrogate.gaussian_process import GaussianProcess  # SciPy loads for a quarter of a second

    try:
        with np.errstate(all="ignore"):
            noises = [share * float(np.var(value_T)) for share in NOISE_SHARES] if averaged else [None]
            processes_K = [GaussianProcess(points_TD, value_T, noise=noise) for noise in noises]
            weight_K = _weights([one.log_density for one in processes_K]) if averaged else np.ones(1)
            means, covariances = zip(*(one.joint(asked_MD) for one in processes_K), strict=True)
            mean_KM, mean_M = np.stack(means), np.tensordot(weight_K, means, 1)
            between_MM = np.einsum("k,km,kn->mn", weight_K, mean_KM - mean_M, mean_KM - mean_M)
            covariance_MM = np.tensordot(weight_K, covariances, 1) + between_MM
            noise = math.sqrt(weight_K @ [one.hyperparameters.noise for one in processes_K])
            if np.isfinite(mean_M).all() and np.isfinite(covariance_MM).all():
                return mean_M, covariance_MM, noise
    except (np.linalg.LinAlgError, ValueError):
        pass
    return None


def _weights(log_density_K: Sequence[float]) -> Float[np.ndarray, " K"]:
    """The probability of each of `NOISE_SHARES`."""
    away_K = (np.log(NOISE_SHARES) - math.log(NOISE_SHARE)) / NOISE_SPREAD
    log_weight_K = np.array(log_density_K) - 0.5 * away_K**2
    weight_K = np.exp(log_weight_K - log_weight_K.max())
    return np.asarray(weight_K / weight_K.sum())


def _nearest(
    known: Mapping[int, Sequence[float]], position: Mapping[int, Float[np.ndarray, " D"]], of: Sequence[int] | None
) -> list[int]:
    """The settings to fit to, in order: all, or those nearest to the ones that are asked for (or else to the lowest).

    By position, not by value: the lowest values would be the lucky ones.
    """
    order = sorted(known)
    if len(order) <= MAX_SETTINGS:
        return order
    centers = sorted(order, key=lambda number: statistics.fmean(known[number]))[: MAX_SETTINGS // 10] if of is None else of
    points_ND, centers_CD = (np.stack([position[number] for number in numbers]) for numbers in (order, centers))
    distance_N = np.linalg.norm(points_ND[:, None] - centers_CD[None], axis=-1).min(axis=1)
    return [order[index] for index in np.sort(np.argsort(distance_N, kind="stable")[:MAX_SETTINGS])]
