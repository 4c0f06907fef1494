"""Label smoothing: the two definitions of eps, the lower bound of the loss, and the measured eps."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.loss import Over, SmoothedLoss, measure_smoothing, smoothing_floor

EPS = [0.0, 0.05, 0.1, 0.3, 0.5]


def target(eps: float, words: int, label: int, over: Over) -> Tensor:
    """The smoothed target distribution of a clip of word `label`."""
    if over == "all":
        target_K = torch.full((words,), eps / words, dtype=torch.float64)
        target_K[label] += 1 - eps
    else:
        target_K = torch.full((words,), eps / (words - 1), dtype=torch.float64)
        target_K[label] = 1 - eps
    return target_K


@pytest.mark.parametrize("over", ["all", "wrong"])
@pytest.mark.parametrize("eps", EPS)
def test_the_loss_is_the_cross_entropy_with_its_target(eps: float, over: Over) -> None:
    """The loss equals the cross-entropy with the smoothed target for random logits and labels."""
    rng = torch.Generator().manual_seed(0)
    logits_BK = torch.randn(20, 7, generator=rng, dtype=torch.float64) * 3
    labels_B = torch.randint(0, 7, (20,), generator=rng)
    rows = zip(logits_BK, labels_B.tolist(), strict=True)
    by_hand = [-(target(eps, 7, label, over) * row.log_softmax(dim=0)).sum().item() for row, label in rows]
    assert SmoothedLoss(eps, 7, over)(logits_BK, labels_B).item() == pytest.approx(sum(by_hand) / 20, abs=1e-12)


@pytest.mark.parametrize("words", [2, 3, 10, 250])
def test_the_two_definitions_convert(words: int) -> None:
    """`wrong` at eps is `all` at eps K/(K - 1); the largest eps over the wrong words is 1 over all."""
    logits_BK = torch.randn(5, words, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels_B = torch.arange(5) % words
    for eps in (0.1, 0.3, (words - 1) / words):
        wrong = SmoothedLoss(eps, words, "wrong")(logits_BK, labels_B).item()
        everywhere = F.cross_entropy(logits_BK, labels_B, label_smoothing=min(eps * words / (words - 1), 1.0)).item()
        assert wrong == pytest.approx(everywhere, abs=1e-12)
        assert smoothing_floor(eps, words, "wrong") == pytest.approx(
            smoothing_floor(min(eps * words / (words - 1), 1.0), words), abs=1e-12
        )


def test_too_high_an_eps_over_the_wrong_words_is_refused() -> None:
    """Over the wrong words eps is at most (K - 1)/K; over all words there is no such limit."""
    SmoothedLoss(0.75, 4, "wrong")
    with pytest.raises(ValueError, match=r"label_smoothing 0\.76 .* at most 0\.75"):
        SmoothedLoss(0.76, 4, "wrong")
    SmoothedLoss(1.0, 4)


@pytest.mark.parametrize("over", ["all", "wrong"])
@pytest.mark.parametrize("eps", [0.0, 0.1, 0.3, 0.5, 0.75])
def test_the_floor_is_the_lowest_loss(eps: float, over: Over) -> None:
    """Logits equal to the log of the target reach the floor; logits optimized for the loss approach it and never go below."""
    label, loss = torch.tensor([2]), SmoothedLoss(eps, 4, over)
    floor = smoothing_floor(eps, 4, over)
    attained = loss(target(eps, 4, 2, over).clamp(min=1e-300).log()[None], label).item()
    assert attained == pytest.approx(floor, abs=1e-9)
    logits_1K = torch.randn(1, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_(True)
    for _ in range(200):
        (gradient,) = torch.autograd.grad(loss(logits_1K, label), logits_1K)
        logits_1K = (logits_1K - 2 * gradient).detach().requires_grad_(True)
    lowest = loss(logits_1K, label).item()
    assert floor - 1e-12 <= lowest <= floor + 0.01


@pytest.mark.parametrize("over", ["all", "wrong"])
@given(fraction=st.floats(0, 1), words=st.integers(2, 300))
def test_the_eps_of_a_loss_is_measured(fraction: float, words: int, over: Over) -> None:
    """Any eps is measured for any number of words, by both definitions."""
    eps = fraction if over == "all" else fraction * (words - 1) / words
    assert measure_smoothing(SmoothedLoss(eps, words, over), words, over) == pytest.approx(eps, abs=1e-9)


def test_an_eps_that_differs_from_the_setting_is_detected() -> None:
    """A loss that always uses 0.1 is measured as 0.1; a loss without smoothing as exactly 0."""

    def always_a_tenth(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=0.1)

    assert measure_smoothing(always_a_tenth, 10) == pytest.approx(0.1, abs=1e-9)
    assert measure_smoothing(always_a_tenth, 10, "wrong") == pytest.approx(0.09, abs=1e-9)
    assert measure_smoothing(F.cross_entropy, 10) == 0


def test_one_word_cannot_be_smoothed() -> None:
    """With one word there is nothing to measure, and the floor is 0."""
    with pytest.raises(ValueError, match="two or more"):
        measure_smoothing(F.cross_entropy, 1)
    assert smoothing_floor(0.3, 1) == pytest.approx(0.0, abs=1e-12)
    assert math.isfinite(SmoothedLoss(0.3, 1)(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64)).item())
