"""Metrics on held-out clips: loss, accuracy, calibration. They do not depend on how the model was trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.loss import plain_cross_entropy

ECE_BINS = 15
"""Confidence bins, of equal width or equal mass. Source: Guo et al. 2017, "On calibration of modern neural networks"."""

TEMPERATURES = (0.05, 20.0)
"""Limits of the fitted temperature. Without them it would go to 0 if every clip is right, and to infinity if the logits carry
no information; this far from 1, more does not change the loss noticeably."""

_MAX_ITERATIONS = 30  # about ten are enough
_TOLERANCE = 1e-6  # relative step size at which Newton's method stops; the remaining error is of the order of its square


@dataclass(frozen=True)
class Metrics:
    """Metrics of a set of clips; all clips have the same weight."""

    loss: float
    """Mean plain cross-entropy, nats."""

    loss_ts: float
    """The same after dividing the logits by `temperature`, nats. Never above `loss`."""

    temperature: float
    """The temperature that minimizes the loss on these clips; see `best_temperature`."""

    top1: float
    """Fraction of clips whose most likely word is right, 0..1."""

    top5: float
    """Fraction of clips whose word is among the five most likely, 0..1; always 1 with five words or fewer."""

    ece: float
    """Expected calibration error, 0..1: mean gap between confidence and accuracy, over bins of equal width."""

    ece_mass: float
    """The same over bins of equally many clips, 0..1; more informative when nearly all confidences are similar."""


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
    """The divisor of the logits, within `TEMPERATURES`, that minimizes the mean plain cross-entropy.

    The loss is convex in b = 1 / temperature, so its slope has one zero. It is found by Newton's method with a bracket, which
    is bisected (geometrically) when a step would leave it. 1 if all words have the same logit.

    Source: Guo et al. 2017, section 4.2.
    """
    # with logits relative to the true word's, the loss of a clip is logsumexp(b * logits)
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
    for _ in range(_MAX_ITERATIONS):
        slope, curvature = _slope(logits_CK, b)
        low, high = (b, high) if slope < 0 else (low, b)
        step = slope / curvature if curvature > 0 else math.inf
        if abs(step) <= _TOLERANCE * b:
            return 1 / min(max(b - step, low), high)
        b = b - step if low < b - step < high else math.sqrt(low * high)
    return 1 / b


def _slope(logits_CK: Tensor, b: float) -> tuple[float, float]:
    """First and second derivative by b of the mean of logsumexp(b * logits): mean and variance of the logits under softmax."""
    prob_CK = (b * logits_CK).softmax(dim=1)
    mean_C1 = (prob_CK * logits_CK).sum(dim=1, keepdim=True)
    variance_C = (prob_CK * (logits_CK - mean_C1).square()).sum(dim=1)
    return mean_C1.mean().item(), variance_C.mean().item()


def calibration_error(confidence_C: Float[Tensor, " C"], correct_C: Tensor) -> float:
    """Mean over the bins of |accuracy - mean confidence|, weighted by the bins' numbers of clips."""
    gap = _sums(_bins(confidence_C), correct_C.double() - confidence_C.double())
    return gap.abs().sum().item() / len(confidence_C)


def _bins(confidence_C: Float[Tensor, " C"]) -> Int[Tensor, " C"]:
    """The number of the bin, of `ECE_BINS` of equal width, for each clip."""
    return (confidence_C.nan_to_num() * ECE_BINS).long().clamp(max=ECE_BINS - 1)  # NaN needs some bin to reach the result


def _sums(bins_C: Int[Tensor, " C"], number_C: Tensor) -> Float[Tensor, " B"]:
    """Sums a number over the clips of each bin."""
    return torch.zeros(ECE_BINS, dtype=torch.float64).index_add_(0, bins_C, number_C.double())


@dataclass(frozen=True)
class ConfidenceBin:
    """Clips whose most likely words have similar probabilities: one point of a reliability diagram."""

    low: float
    """Lower edge of the bin, 0..1; every bin is 1 / `ECE_BINS` wide."""

    clips: int
    confidence: float
    """Mean confidence, 0..1."""

    accuracy: float
    """Fraction of the clips whose most likely word is right, 0..1."""


def reliability(logits_CK: Float[Tensor, "C K"], labels_C: Int[Tensor, " C"]) -> list[ConfidenceBin]:
    """The non-empty bins in order. The mean of their gaps, weighted by their clips, is the `ece` of `measure`.

    Source: Guo et al. 2017, figure 1.
    """
    confidence_C, word_C = logits_CK.double().softmax(dim=1).max(dim=1)
    bins_C = _bins(confidence_C)
    clips_B = torch.bincount(bins_C, minlength=ECE_BINS)
    confidence_B, correct_B = _sums(bins_C, confidence_C), _sums(bins_C, word_C == labels_C)
    return [
        ConfidenceBin(n / ECE_BINS, clips, (confidence_B[n] / clips).item(), (correct_B[n] / clips).item())
        for n, clips in enumerate(clips_B.tolist())
        if clips
    ]


def confusion(logits_CK: Float[Tensor, "C K"], labels_C: Int[Tensor, " C"]) -> Int[Tensor, "K K"]:
    """Numbers of clips by true word (row) and most likely word (column)."""
    words = logits_CK.shape[1]
    return torch.bincount(labels_C * words + logits_CK.argmax(dim=1), minlength=words * words).view(words, words)


def calibration_error_equal_mass(confidence_C: Float[Tensor, " C"], correct_C: Tensor, bins: int = ECE_BINS) -> float:
    """Same as `calibration_error`, over bins of equally many clips.

    The clips are sorted by confidence and split in order; the first bins get one clip more where the split is uneven. Clips of
    equal confidence all count with their common accuracy, so that the result does not depend on how ties are split.

    Source: adaptive calibration error, Nixon et al. 2019, "Measuring calibration in deep learning", here for the most likely
    word only.
    """
    # U different confidences, in ascending order
    levels_U, level_C, clips_U = torch.unique(confidence_C.double(), return_inverse=True, return_counts=True)
    accuracy_U = torch.zeros_like(levels_U).index_add_(0, level_C, correct_C.double()) / clips_U
    gap_C = (accuracy_U - levels_U).repeat_interleave(clips_U)
    return sum(gaps.sum().abs().item() for gaps in gap_C.tensor_split(bins)) / len(gap_C)
