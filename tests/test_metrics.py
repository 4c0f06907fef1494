"""Temperature scaling and calibration errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model import metrics
from model.loss import plain_cross_entropy
from model.metrics import ECE_BINS, TEMPERATURES, best_temperature, calibration_error_equal_mass, measure

COLDEST, HOTTEST = TEMPERATURES


def random_logits(
    seed: int, *, clips: int = 40, words: int = 6, scale: float = 1.0, signal: float = 1.5
) -> tuple[Tensor, Tensor]:
    """Random logits that carry some information about random labels."""
    rng = torch.Generator().manual_seed(seed)
    labels_C = torch.randint(0, words, (clips,), generator=rng)
    logits_CK = torch.randn(clips, words, generator=rng, dtype=torch.float64)
    logits_CK[torch.arange(clips), labels_C] += signal
    return logits_CK * scale, labels_C


def loss_at(temperature: float, logits_CK: Tensor, labels_C: Tensor) -> float:
    """Mean plain cross-entropy of the scaled logits."""
    return plain_cross_entropy(logits_CK / temperature, labels_C).mean().item()


@given(
    seed=st.integers(0, 10_000),
    clips=st.integers(1, 50),
    words=st.integers(2, 12),
    scale=st.floats(-2.5, 2.5).map(lambda power: 10**power),
    signal=st.floats(0, 4),
)
def test_no_other_temperature_is_better(seed: int, clips: int, words: int, scale: float, signal: float) -> None:
    """No temperature on a fine grid over the whole range gives a lower loss."""
    logits_CK, labels_C = random_logits(seed, clips=clips, words=words, scale=scale, signal=signal)
    found = best_temperature(logits_CK, labels_C)
    assert COLDEST <= found <= HOTTEST
    grid = torch.logspace(math.log10(COLDEST), math.log10(HOTTEST), 200, dtype=torch.float64).clamp(COLDEST, HOTTEST)
    lowest = min(loss_at(t, logits_CK, labels_C) for t in grid.tolist())
    found_loss = loss_at(found, logits_CK, labels_C)
    assert found_loss <= lowest + 1e-12 * max(1.0, lowest)


def test_a_temperature_computed_by_hand() -> None:
    """Two words, logits 1 and -1, right three times of four: the best confidence is 3/4, so 2/T = ln 3."""
    logits_CK, labels_C = torch.tensor([[1.0, -1.0]]).repeat(4, 1), torch.tensor([0, 0, 0, 1])
    assert best_temperature(logits_CK, labels_C) == pytest.approx(2 / math.log(3), abs=1e-9)


def test_larger_logits_have_a_larger_temperature() -> None:
    """Logits scaled by ten get ten times the temperature and the same loss; added constants do not matter."""
    logits_CK, labels_C = random_logits(1)
    one, ten = (best_temperature(scale * logits_CK + 7, labels_C) for scale in (1.0, 10.0))
    assert ten == pytest.approx(10 * one, rel=1e-9)
    assert loss_at(ten, 10 * logits_CK, labels_C) == pytest.approx(loss_at(one, logits_CK, labels_C), abs=1e-12)


def test_the_limits() -> None:
    """All right gives the lowest temperature, all wrong the highest; with equal logits it has no effect and is 1."""
    logits_CK, labels_C = torch.eye(5), torch.arange(5)
    assert best_temperature(logits_CK, labels_C) == COLDEST
    assert best_temperature(logits_CK, labels_C.roll(1)) == HOTTEST
    assert best_temperature(torch.full((5, 5), 3.0), labels_C) == 1.0
    assert best_temperature(torch.full((5, 5), math.nan), labels_C) > 0, "it terminates; the loss itself is NaN"


def test_the_temperature_takes_few_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    """A temperature takes at most twenty passes over the logits, however far from 1 it is."""
    real, calls = metrics._slope, 0

    def counting(logits_CK: Tensor, b: float) -> tuple[float, float]:
        nonlocal calls
        calls += 1
        return real(logits_CK, b)

    monkeypatch.setattr(metrics, "_slope", counting)
    for seed in range(20):
        for scale in (0.01, 0.1, 1.0, 10.0, 100.0):
            calls = 0
            best_temperature(*random_logits(seed, scale=scale))
            assert 0 < calls <= 20


def test_measure_gives_temperature_and_scaled_loss() -> None:
    """`loss_ts` is the plain loss at the best temperature, and never above the unscaled loss."""
    for scale in (0.1, 1.0, 10.0):
        logits_CK, labels_C = random_logits(3, scale=scale)
        found = measure(logits_CK, labels_C)
        assert found.temperature == best_temperature(logits_CK, labels_C)
        assert found.loss_ts == pytest.approx(loss_at(found.temperature, logits_CK, labels_C), abs=1e-12)
        assert found.loss_ts < found.loss


def equal_mass_by_hand(confidence: list[float], correct: list[bool], bins: int) -> float:
    """The calibration error over bins of equal mass, computed clip by clip and bin by bin."""
    hits = {level: [c for other, c in zip(confidence, correct, strict=True) if other == level] for level in confidence}
    clips = sorted((level, sum(hits[level]) / len(hits[level])) for level in confidence)
    parts = np.array_split(np.arange(len(clips)), min(bins, len(clips)))
    gaps = [abs(np.mean([clips[n][1] for n in part]) - np.mean([clips[n][0] for n in part])) for part in parts]
    return float(sum(len(part) * gap for part, gap in zip(parts, gaps, strict=True)) / len(clips))


def test_equal_mass_computed_by_hand() -> None:
    """Five clips in two bins: three and two. Their confidences mean 0.5 and 0.85, and 2/3 and 1/2 of them are right."""
    confidence_C = torch.tensor([0.9, 0.4, 0.5, 0.8, 0.6])
    correct_C = torch.tensor([False, True, True, True, False])
    found = calibration_error_equal_mass(confidence_C, correct_C, bins=2)
    assert found == pytest.approx((3 * (2 / 3 - 0.5) + 2 * (0.85 - 0.5)) / 5, abs=1e-7)


def test_equal_mass_shows_errors_that_equal_widths_hide() -> None:
    """Thirty clips of similar confidence share one bin of width 1/15, in which two opposite errors cancel out."""
    sure = torch.linspace(0.94, 0.99, 30, dtype=torch.float64)
    right = torch.arange(30) < 29  # the most confident clip is wrong, which offsets the underconfidence of the others
    assert metrics.calibration_error(sure, right) < 0.01
    assert calibration_error_equal_mass(sure, right) > 0.05


@given(
    levels=st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=60),
    bins=st.integers(1, 20),
    seed=st.integers(0, 100),
)
def test_equal_mass_equals_a_slow_reference(levels: list[tuple[int, bool]], bins: int, seed: int) -> None:
    """Both agree with many ties, in any order, and with fewer clips than bins."""
    confidence, correct = [level / 12 for level, _ in levels], [right for _, right in levels]
    order = np.random.default_rng(seed).permutation(len(levels))
    confidence_C, correct_C = torch.tensor(confidence, dtype=torch.float64), torch.tensor(correct)
    found = calibration_error_equal_mass(confidence_C, correct_C, bins)
    assert found == pytest.approx(equal_mass_by_hand(confidence, correct, bins), abs=1e-12)
    assert calibration_error_equal_mass(confidence_C[order], correct_C[order], bins) == pytest.approx(found, abs=1e-12)


def test_measure_gives_both_calibration_errors() -> None:
    """Both are computed from the confidence in the most likely word."""
    logits_CK, labels_C = random_logits(5, clips=200)
    found = measure(logits_CK, labels_C)
    confidence_C, words_C = logits_CK.softmax(dim=1).max(dim=1)
    expected = equal_mass_by_hand(confidence_C.tolist(), (words_C == labels_C).tolist(), ECE_BINS)
    assert found.ece_mass == pytest.approx(expected, abs=1e-12)
    assert found.ece == metrics.calibration_error(confidence_C, words_C == labels_C)


def test_nan_logits_are_measured_without_an_error() -> None:
    """NaN logits give NaN metrics, so that the training can report in which epoch it diverged."""
    found = measure(torch.full((4, 3), math.nan), torch.tensor([0, 1, 2, 0]))
    assert math.isnan(found.loss)
    assert math.isnan(found.ece)
    assert math.isnan(found.ece_mass)
