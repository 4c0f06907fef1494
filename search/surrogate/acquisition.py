"""Where the next value of a noisy function is worth most, if the lowest is looked for."""

# M points, N points with values, D dimensions of the unit cube

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.special import erfcx, log_ndtr

from search.surrogate.gaussian_process import GaussianProcess

_FAR = -1.0
"""Standard deviations below which the difference of density and distribution loses its digits."""


def log_expected_improvement(
    mean_M: Float[np.ndarray, " M"], sd_M: Float[np.ndarray, " M"], best: float
) -> Float[np.ndarray, " M"]:
    """The logarithm of the expected amount by which true values lie below `best`.

    Source: Ament et al. 2023, "Unexpected improvements to expected improvement for Bayesian optimization", equation 9.
    """
    z_M = (best - mean_M) / sd_M
    log_density_M = -0.5 * z_M**2 - 0.5 * math.log(2 * math.pi)
    near_M = np.maximum(z_M, _FAR)
    near_value_M = np.log(np.exp(-0.5 * near_M**2) / math.sqrt(2 * math.pi) + near_M * np.exp(log_ndtr(near_M)))
    far_M = np.minimum(z_M, _FAR)
    ratio_M = math.sqrt(math.pi / 2) * erfcx(-far_M / math.sqrt(2))  # of distribution to density
    far_value_M = log_density_M + np.log1p(np.maximum(far_M * ratio_M, -1 + 1e-15))
    return np.log(sd_M) + np.where(z_M > _FAR, near_value_M, far_value_M)


class ExpectedImprovement:
    """How much a point promises, according to a process: the higher the better.

    What counts as best so far is the lowest mean at the points with values, not the lowest value, which is partly luck.

    Source: Picheny et al. 2013, "A benchmark of kriging-based infill criteria for noisy optimization" ("plug-in" criterion).
    """

    def __init__(self, process: GaussianProcess) -> None:
        self._process = process
        self._best = float(process.at(process.points_ND)[0].min())

    def __call__(self, points_MD: Float[np.ndarray, "M D"]) -> Float[np.ndarray, " M"]:
        """The logarithm of the expected improvement at each point."""
        mean_M, sd_M = self._process.at(points_MD)
        return log_expected_improvement(mean_M, sd_M, self._best)
