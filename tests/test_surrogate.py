"""The Gaussian process agrees with scikit-learn's, and the expected improvement with its integral."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.optimize import approx_fprime
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from search.surrogate import gaussian_process
from search.surrogate.acquisition import ExpectedImprovement, log_expected_improvement
from search.surrogate.gaussian_process import GaussianProcess

COUNT = 100


def bowl(points_ND: np.ndarray) -> np.ndarray:
    """Lowest at 0.4; the last dimension has no effect."""
    return ((points_ND[:, :-1] - 0.4) ** 2).sum(axis=1)


@pytest.fixture
def noisy() -> tuple[np.ndarray, np.ndarray]:
    """Points with values whose noise has a standard deviation of 0.05."""
    rng = np.random.default_rng(0)
    points_ND = rng.random((COUNT, 3))
    return points_ND, bowl(points_ND) + 0.05 * rng.normal(size=COUNT)


def test_the_posterior_is_scikit_learns(noisy: tuple[np.ndarray, np.ndarray]) -> None:
    """Mean, standard deviation and covariance, with the same hyperparameters and extra noise."""
    points_ND, values_N = noisy
    extra_N = np.where(np.arange(COUNT) < 10, 0.02, 0.0)
    ours = GaussianProcess(points_ND, values_N, extra_noise_N=extra_N)
    fitted = ours.hyperparameters
    kernel = ConstantKernel(fitted.amplitude) * Matern(fitted.length_scales_D, nu=2.5)
    theirs = GaussianProcessRegressor(kernel, alpha=fitted.noise + extra_N, optimizer=None)
    theirs.fit(points_ND, values_N - values_N.mean())
    at_MD = np.random.default_rng(1).random((20, 3))
    mean_M, covariance_MM = theirs.predict(at_MD, return_cov=True)
    assert np.allclose(ours.joint(at_MD)[0], mean_M + values_N.mean(), atol=1e-6)
    assert np.allclose(ours.joint(at_MD)[1], covariance_MM, atol=1e-6)
    assert np.allclose(ours.at(at_MD)[1], np.sqrt(np.diag(covariance_MM)), atol=1e-5)


def test_the_fit_finds_noise_and_effects(noisy: tuple[np.ndarray, np.ndarray]) -> None:
    """The noise has the right size, and the dimension without effect has the longest length scale."""
    points_ND, values_N = noisy
    fitted = GaussianProcess(points_ND, values_N).hyperparameters
    assert 0.03 < math.sqrt(fitted.noise) < 0.08
    assert fitted.length_scales_D.argmax() == 2


def test_the_gradient_is_right(noisy: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """The fit's gradient equals finite differences, away from the optimum."""
    original, checked = gaussian_process.minimize, []

    def check(loss, start_P, **options):  # type: ignore[no-untyped-def]
        away_P = start_P + 0.3
        checked.append(np.abs(loss(away_P)[1] - approx_fprime(away_P, lambda theta: loss(theta)[0], 1e-6)).max())
        return original(loss, start_P, **options)

    monkeypatch.setattr(gaussian_process, "minimize", check)
    points_ND, values_N = noisy
    GaussianProcess(points_ND, values_N, extra_noise_N=np.linspace(0.0, 0.02, COUNT))
    assert checked
    assert checked[0] < 1e-3


def test_known_noise_stays(noisy: tuple[np.ndarray, np.ndarray]) -> None:
    """A noise that is given is not fitted."""
    assert GaussianProcess(*noisy, noise=0.04).hyperparameters.noise == pytest.approx(0.04)


def test_assumed_values_leave_less_doubt(noisy: tuple[np.ndarray, np.ndarray]) -> None:
    """They leave the mean there as it was, and lower the standard deviation."""
    process, at_MD = GaussianProcess(*noisy), np.array([[1.0, 0.0, 1.0]])
    assumed = process.assuming(at_MD)
    assert assumed.at(at_MD)[0] == pytest.approx(process.at(at_MD)[0], abs=1e-6)
    assert assumed.at(at_MD)[1] < 0.9 * process.at(at_MD)[1]


@pytest.mark.parametrize("values", [[1.0] * 12, [1.0, 1.0 + 1e-13] * 6, [0.0, 1e9] * 6])
def test_strange_values(values: list[float]) -> None:
    """Equal, nearly equal and very different values give finite numbers."""
    points_ND = np.random.default_rng(0).random((12, 2))
    mean_M, sd_M = GaussianProcess(points_ND, np.array(values)).at(points_ND)
    assert np.isfinite(mean_M).all()
    assert np.isfinite(sd_M).all()


def test_repeated_points() -> None:
    """The same point many times is no reason to fail, and its mean is that of its values."""
    points_ND = np.repeat(np.random.default_rng(0).random((4, 2)), 5, axis=0)
    values_N = np.repeat([1.0, 2.0, 3.0, 4.0], 5) + 0.1 * np.random.default_rng(1).normal(size=20)
    mean_M, _ = GaussianProcess(points_ND, values_N).at(points_ND[::5])
    assert np.allclose(mean_M, values_N.reshape(4, 5).mean(axis=1), atol=0.15)


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 1.0), (1.5, 0.5), (-2.0, 0.3), (0.8, 1.0)])
def test_expected_improvement_is_the_integral(mean: float, sd: float) -> None:
    """Against numerical integration, above and below the best value."""
    density = stats.norm(mean, sd).pdf
    integral, _ = integrate.quad(lambda y: (0.5 - y) * density(y), mean - 12 * sd, 0.5)
    assert log_expected_improvement(np.array([mean]), np.array([sd]), 0.5)[0] == pytest.approx(math.log(integral), abs=1e-6)


def test_expected_improvement_far_away() -> None:
    """It stays finite and monotonous where the improvement itself would round to 0."""
    found = log_expected_improvement(np.linspace(0, 300, 3001), np.ones(3001), 0.0)
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()


def test_the_best_is_a_mean_and_not_luck(noisy: tuple[np.ndarray, np.ndarray]) -> None:
    """A lucky value does not raise the bar: what is expected elsewhere hardly changes."""
    points_ND, values_N = noisy
    lucky_N = values_N.copy()
    lucky_N[values_N.argmax()] -= values_N.max() - values_N.min() + 0.1
    at_MD = np.random.default_rng(2).random((200, 3))
    best = at_MD[ExpectedImprovement(GaussianProcess(points_ND, lucky_N))(at_MD).argmax()]
    assert bowl(best[None])[0] < np.median(bowl(at_MD))
