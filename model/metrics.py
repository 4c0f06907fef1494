"""What is measured on held-out clips: loss, accuracy, calibration. Nothing here knows how a model was trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.loss import plain_cross_entropy

ECE_BINS = 15
"""Bins of confidence, of equal width or of equal mass. Source: Guo et al. 2017, "On calibration of modern neural networks"."""

TEMPERATURES = (0.05, 20.0)
"""Between these the best temperature is looked for. Without limits it would go to 0 where every clip is right, and to infinity
where logits know nothing of the words; so far from 1, one more step changes no loss that matters."""

_MOST_PASSES = 30  # the temperature is found in about ten; this only makes sure that the search for it ends
_CLOSE = 1e-6  # a relative step this small is the last: the error left is of the order of its square


@dataclass(frozen=True)
class Metrics:
    """Measured over a set of clips, each clip with the same weight."""

    loss: float
    """Mean plain cross-entropy, nats."""

    loss_ts: float
    """The same after dividing the logits by `temperature`, nats. Never above `loss`."""

    temperature: float
    """The one temperature that suits these clips best; see `best_temperature`."""

    top1: float
    """Share of clips whose most likely word is right, 0..1."""

    top5: float
    """Share of clips whose word is among the five most likely, 0..1; always 1 with five words or fewer."""

    ece: float
    """Expected calibration error, 0..1: mean gap between confidence and accuracy, over bins of equal width."""

    ece_mass: float
    """The same over bins of equally many clips, 0..1. It sees what equal widths hide where nearly all confidences are alike."""


def measure(logits_CK: Float[Tensor, "C K"], labels_C: Int[Tensor, " C"]) -> Metrics:
    """Metrics from logits, computed in float64."""
    logits_CK = logits_CK.double()
    best_CN = logits_CK.topk(min(5, logits_CK.shape[1]), dim=1).indices
    hit_CN = best_CN == labels_C[:, None]
    temperature = best_temperature(logits_CK, labels_C)
    confidence_C = logits_CK.softmax(dim=1).amax(dim=1)
    return Metrics(
        loss=plain_cross_entropy(logits_CK, labels_C).mean().item(),
        loss_ts=plain_cross_entropy(logits_CK / temperature, labels_C).mean().item(),
        temperature=temperature,
        top1=hit_CN[:, 0].double().mean().item(),
        top5=hit_CN.any(dim=1).double().mean().item(),
        ece=calibration_error(confidence_C, hit_CN[:, 0]),
        ece_mass=calibration_error_equal_mass(confidence_C, hit_CN[:, 0]),
    )


def best_temperature(logits_CK: Float[Tensor, "C K"], labels_C: Int[Tensor, " C"]) -> float:
    """The number by which all logits are divided so that their mean plain cross-entropy becomes lowest, within `TEMPERATURES`.

    The loss is convex in b = 1 / temperature, so its slope has one zero: Newton's method, kept between the b known to lie below
    and above, halving that gap (in ratio) where a Newton step would leave it. 1 where every word
    has the same logit. Source:
    Guo et al. 2017, section 4.2.
    """
    # relative to the true word's logit, the loss of a clip is logsumexp(b * logits)
    logits_CK = logits_CK.double()
    logits_CK = logits_CK - logits_CK.gather(1, labels_C[:, None])
    coldest, hottest = TEMPERATURES
    low, high = 1 / hottest, 1 / coldest
    if not logits_CK.any():
        return 1.0
    if _slope(logits_CK, low)[0] >= 0:
        return hottest
    if _slope(logits_CK, high)[0] <= 0:
        return coldest
    b = 1.0
    for _ in range(_MOST_PASSES):
        slope, curvature = _slope(logits_CK, b)
        low, high = (b, high) if slope < 0 else (low, b)
        step = slope / curvature if curvature > 0 else math.inf
        if abs(step) <= _CLOSE * b:
            return 1 / min(max(b - step, low), high)
        b = b - step if low < b - step < high else math.sqrt(low * high)
    return 1 / b


def _slope(logits_CK: Tensor, b: float) -> tuple[float, float]:
    """First and second derivative by b of the mean of logsumexp(b * logits): mean and variance of the logits under softmax."""
    share_CK = (b * logits_CK).softmax(dim=1)
    mean_C1 = (share_CK * logits_CK).sum(dim=1, keepdim=True)
    variance_C = (share_CK * (logits_CK - mean_C1).square()).sum(dim=1)
    return mean_C1.mean().item(), variance_C.mean().item()


def calibration_error(confidence_C: Float[Tensor, " C"], correct_C: Tensor) -> float:
    """Mean over bins of |accuracy - mean confidence|, each bin weighed by its clips."""
    gap = _sums(_bins(confidence_C), correct_C.double() - confidence_C.double())
    return gap.abs().sum().item() / len(confidence_C)


def _bins(confidence_C: Float[Tensor, " C"]) -> Int[Tensor, " C"]:
    """Which of `ECE_BINS` bins of equal width each clip falls into."""
    return (confidence_C.nan_to_num() * ECE_BINS).long().clamp(max=ECE_BINS - 1)  # NaN needs a bin to be told in the end


def _sums(bins_C: Int[Tensor, " C"], number_C: Tensor) -> Float[Tensor, " B"]:
    """The sum of a number over the clips of each bin."""
    return torch.zeros(ECE_BINS, dtype=torch.float64).index_add_(0, bins_C, number_C.double())


@dataclass(frozen=True)
class ConfidenceBin:
    """Clips whose most likely word is given about the same probability: one mark of a reliability diagram."""

    low: float
    """Where the bin of confidence begins, 0..1; all are 1 / `ECE_BINS` wide."""

    clips: int
    confidence: float
    """Their mean, 0..1."""

    accuracy: float
    """The share of them whose most likely word is right, 0..1."""


def reliability(logits_CK: Float[Tensor, "C K"], labels_C: Int[Tensor, " C"]) -> list[ConfidenceBin]:
    """The bins that hold clips, in order. Their gaps, weighed by their clips, make the `ece` of `measure`.

    Source: Guo et al. 2017, figure 1.
    """
    share_CK = logits_CK.double().softmax(dim=1)
    confidence_C, word_C = share_CK.max(dim=1)
    bins_C = _bins(confidence_C)
    clips_B = torch.bincount(bins_C, minlength=ECE_BINS)
    confidence_B, correct_B = _sums(bins_C, confidence_C), _sums(bins_C, word_C == labels_C)
    return [
        ConfidenceBin(n / ECE_BINS, clips, (confidence_B[n] / clips).item(), (correct_B[n] / clips).item())
        for n, clips in enumerate(clips_B.tolist())
        if clips
    ]


def confusion(logits_CK: Float[Tensor, "C K"], labels_C: Int[Tensor, " C"]) -> Int[Tensor, "K K"]:
    """Clips by their true word (row) and their most likely word (column)."""
    words = logits_CK.shape[1]
    return torch.bincount(labels_C * words + logits_CK.argmax(dim=1), minlength=words * words).view(words, words)


def calibration_error_equal_mass(confidence_C: Float[Tensor, " C"], correct_C: Tensor, bins: int = ECE_BINS) -> float:
    """Mean over bins of |accuracy - mean confidence|, each bin weighed by its clips: equally many in each, to one clip.

    Clips are sorted by confidence and dealt out in order, the first bins getting one more where it does not come out even; with
    fewer clips than bins each has its own. Of clips with equal confidence each counts with the accuracy of all of them, so
    that the result does not depend on which of them falls into which bin.

    Source: adaptive calibration error, Nixon et al. 2019, "Measuring calibration in deep learning", here for the most likely
    word only.
    """
    # U different confidences, in ascending order
    levels_U, level_C, clips_U = torch.unique(confidence_C.double(), return_inverse=True, return_counts=True)
    accuracy_U = torch.zeros_like(levels_U).index_add_(0, level_C, correct_C.double()) / clips_U
    gap_C = (accuracy_U - levels_U).repeat_interleave(clips_U)
    parts = gap_C.tensor_split(bins)
    return sum(part.sum().abs().item() for part in parts) / len(gap_C)
