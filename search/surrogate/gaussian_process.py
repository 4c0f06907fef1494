"""A Gaussian process over the unit cube: noisy values of a function, and what they say about its true values.

Its length scales, amplitude and noise are those that are most probable after the values and a weak prior (maximum a
posteriori). They are found from a fixed start, so that equal values give equal results, whatever was computed before.

Source: Rasmussen and Williams 2006, "Gaussian processes for machine learning", chapters 2, 4.2 and 5.4.
"""

# N points with values, M points without, D dimensions of the unit cube, P hyperparameters (D logarithms of length scales, that
# of the amplitude's variance, that of the noise's variance), in units in which the values have standard deviation 1

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.optimize import minimize

LENGTH_SCALE, LENGTH_SPREAD = 0.5, 0.7
"""The prior of the length scales: median in three dimensions, and spread of the logarithm. In D dimensions the median grows
with the square root of D, as distances do (Hvarfner et al. 2024, "Vanilla Bayesian optimization performs great in high
dimensions")."""

AMPLITUDE_SPREAD = 0.7
"""Spread of the logarithm of the amplitude's variance around 0: the values are scaled to it."""

NOISE, NOISE_SPREAD = 0.05, 1.0
"""The prior of the noise variance: median, and spread of its logarithm. Between seeds a quarter of the spread between settings
is usual; a weak prior, since it is the data that know."""

LENGTH_BOUNDS, AMPLITUDE_BOUNDS, NOISE_BOUNDS = (0.05, 20.0), (0.05, 20.0), (1e-4, 2.0)

JITTER = 1e-8
"""Added to every noise variance, so that the matrix can be inverted where values repeat exactly."""

_ROOT_5 = math.sqrt(5)
_MAX_STEPS = 40


@dataclass(frozen=True)
class Hyperparameters:
    """Of a process over values in any unit."""

    length_scales_D: Float[np.ndarray, " D"]
    """In widths of the cube: how far a value says something about others along each dimension."""

    amplitude: float
    """Variance of the true values over the cube, in squared units of the values."""

    noise: float
    """Variance of one value around the truth, in the same units."""


class GaussianProcess:
    """A process with a Matern kernel of smoothness 5/2, fitted to values.

    Args:
        points_ND: in the unit cube.
        values_N: finite.
        extra_noise_N: variances that are known to come on top of the fitted noise, in squared units of the values.
        noise: the variance of one training, where it is known; otherwise it is fitted.

    Raises:
        LinAlgError: the points and values give no process that could be computed.
    """

    def __init__(
        self,
        points_ND: Float[np.ndarray, "N D"],
        values_N: Float[np.ndarray, " N"],
        *,
        extra_noise_N: Float[np.ndarray, " N"] | None = None,
        noise: float | None = None,
    ) -> None:
        self._middle, self._scale = float(np.mean(values_N)), float(np.std(values_N)) or 1.0
        target_N = (values_N - self._middle) / self._scale
        square = self._scale**2
        extra_N = np.zeros(len(values_N)) if extra_noise_N is None else extra_noise_N / square
        known = None if noise is None else math.log(max(noise / square, NOISE_BOUNDS[0]))
        squares_DNN = (points_ND.T[:, :, None] - points_ND.T[:, None, :]) ** 2
        self._theta_P = _most_probable(squares_DNN, target_N, extra_N, known)
        self._condition(points_ND, target_N, math.exp(self._theta_P[-1]) + extra_N)

    @property
    def hyperparameters(self) -> Hyperparameters:
        """What was fitted."""
        dims = self.points_ND.shape[1]
        square = self._scale**2
        amplitude, noise = math.exp(self._theta_P[dims]) * square, math.exp(self._theta_P[dims + 1]) * square
        return Hyperparameters(np.exp(self._theta_P[:dims]), amplitude, noise)

    @property
    def log_density(self) -> float:
        """Logarithm of the density of the values together with the length scales and the amplitude, up to a constant.

        By it processes over the same values are compared that assume another noise each.
        """
        prior_P, spread_P = _prior(self.points_ND.shape[1])
        away_P = ((self._theta_P - prior_P) / spread_P)[:-1]
        likelihood = -0.5 * self._target_N @ self._alpha_N - np.log(np.diag(self._factor_NN)).sum()
        return float(likelihood - 0.5 * away_P @ away_P)

    def assuming(self, points_MD: Float[np.ndarray, "M D"]) -> GaussianProcess:
        """The process as if its means at further points were values, so that it is sure there: for trials under way.

        Source: Ginsbourger et al. 2010, "Kriging is well-suited to parallelize optimization" (kriging believer).
        """
        other = copy.copy(self)
        believed_M = (self.at(points_MD)[0] - self._middle) / self._scale
        noise_N = np.append(self._noise_N, np.zeros(len(points_MD)))
        other._condition(np.concatenate([self.points_ND, points_MD]), np.append(self._target_N, believed_M), noise_N)
        return other

    def _condition(
        self, points_ND: Float[np.ndarray, "N D"], target_N: Float[np.ndarray, " N"], noise_N: Float[np.ndarray, " N"]
    ) -> None:
        self.points_ND, self._target_N, self._noise_N = points_ND, target_N, noise_N
        kernel_NN = self._covariance(points_ND, points_ND)
        kernel_NN[np.diag_indices_from(kernel_NN)] += noise_N + JITTER
        self._factor_NN = np.linalg.cholesky(kernel_NN)
        self._alpha_N = cho_solve((self._factor_NN, True), target_N)

    def at(self, points_MD: Float[np.ndarray, "M D"]) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
        """Mean and standard deviation of the true values at points."""
        cross_MN = self._covariance(points_MD, self.points_ND)
        half_NM = solve_triangular(self._factor_NN, cross_MN.T, lower=True, check_finite=False)
        variance_M = np.maximum(math.exp(self._theta_P[-2]) - np.einsum("nm,nm->m", half_NM, half_NM), 1e-12)
        return self._middle + self._scale * (cross_MN @ self._alpha_N), self._scale * np.sqrt(variance_M)

    def joint(self, points_MD: Float[np.ndarray, "M D"]) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, "M M"]]:
        """Mean and covariance of the true values at points."""
        cross_MN = self._covariance(points_MD, self.points_ND)
        half_NM = solve_triangular(self._factor_NN, cross_MN.T, lower=True, check_finite=False)
        covariance_MM = self._covariance(points_MD, points_MD) - half_NM.T @ half_NM
        return self._middle + self._scale * (cross_MN @ self._alpha_N), self._scale**2 * covariance_MM

    def _covariance(self, a_MD: Float[np.ndarray, "M D"], b_ND: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "M N"]:
        dims = a_MD.shape[1]
        inverse_D = np.exp(-self._theta_P[:dims])
        a_MD, b_ND = a_MD * inverse_D, b_ND * inverse_D
        squares_MN = (a_MD**2).sum(1)[:, None] + (b_ND**2).sum(1)[None] - 2 * a_MD @ b_ND.T
        return math.exp(self._theta_P[dims]) * _matern(np.maximum(squares_MN, 0.0))


def _matern(squares_MN: Float[np.ndarray, "M N"]) -> Float[np.ndarray, "M N"]:
    """The kernel from squared distances in length scales; Rasmussen and Williams, equation 4.17."""
    far_MN = _ROOT_5 * np.sqrt(squares_MN)
    return (1 + far_MN + far_MN**2 / 3) * np.exp(-far_MN)


def _prior(dims: int) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """Mean and standard deviation of the hyperparameters."""
    prior_P = np.array([math.log(LENGTH_SCALE * math.sqrt(dims / 3))] * dims + [0.0, math.log(NOISE)])
    return prior_P, np.array([LENGTH_SPREAD] * dims + [AMPLITUDE_SPREAD, NOISE_SPREAD])


def _most_probable(
    squares_DNN: Float[np.ndarray, "D N N"],
    target_N: Float[np.ndarray, " N"],
    extra_N: Float[np.ndarray, " N"],
    known_noise: float | None,
) -> Float[np.ndarray, " P"]:
    """The hyperparameters with the highest posterior density."""
    dims = len(squares_DNN)
    prior_P, spread_P = _prior(dims)
    bounds = [tuple(np.log(LENGTH_BOUNDS))] * dims + [tuple(np.log(AMPLITUDE_BOUNDS)), tuple(np.log(NOISE_BOUNDS))]
    start_P = prior_P.copy()
    if known_noise is not None:
        start_P[-1], bounds[-1] = known_noise, (known_noise, known_noise)
    identity_NN = np.eye(len(target_N))

    def loss(theta_P: Float[np.ndarray, " P"]) -> tuple[float, Float[np.ndarray, " P"]]:
        scaled_DNN = squares_DNN * np.exp(-2 * theta_P[:dims])[:, None, None]
        far_NN = _ROOT_5 * np.sqrt(scaled_DNN.sum(0))
        decay_NN = math.exp(theta_P[dims]) * np.exp(-far_NN)
        kernel_NN = (1 + far_NN + far_NN**2 / 3) * decay_NN
        noise = math.exp(theta_P[-1])
        factor_NN, failed = dpotrf(kernel_NN + identity_NN * (noise + extra_N + JITTER), lower=1)
        if failed:
            return 1e10, np.zeros_like(theta_P)
        alpha_N = cho_solve((factor_NN, True), target_N, check_finite=False)
        inverse_NN, _ = dpotri(factor_NN, lower=1)
        inverse_NN = np.tril(inverse_NN) + np.tril(inverse_NN, -1).T
        slope_NN = inverse_NN - np.outer(alpha_N, alpha_N)  # of twice the loss, by the kernel's elements
        away_P = (theta_P - prior_P) / spread_P
        value = 0.5 * target_N @ alpha_N + np.log(np.diag(factor_NN)).sum() + 0.5 * away_P @ away_P
        by_length_D = np.tensordot(scaled_DNN, slope_NN * decay_NN * (1 + far_NN) * (5 / 3), 2)
        by_amplitude, by_noise = (slope_NN * kernel_NN).sum(), np.trace(slope_NN) * noise
        return value, 0.5 * np.array([*by_length_D, by_amplitude, by_noise]) + away_P / spread_P

    found = minimize(loss, start_P, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": _MAX_STEPS})
    return np.asarray(found.x)
