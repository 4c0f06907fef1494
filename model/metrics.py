"""What is measured on held-out clips: loss, accuracy, calibration. Nothing here knows how a model was trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.loss import plain_cross_entropy

ECE_BINS = 15
"""Equal-width bins of confidence. Source: Guo et al. 2017, "On calibration of modern neural networks"."""


@dataclass(frozen=True)
class Metrics:
    """Measured over a set of clips, each clip with the same weight."""

    loss: float
    """Mean plain cross-entropy, nats."""

    top1: float
    """Share of clips whose most likely word is right, 0..1."""

    top5: float
    """Share of clips whose word is among the five most likely, 0..1; always 1 with five words or fewer."""

    ece: float
    """Expected calibration error, 0..1: mean gap between confidence and accuracy."""


def measure(logits_CK: Float[Tensor, "C K"], labels_C: Int[Tensor, " C"]) -> Metrics:
    """Metrics from logits, computed in float64."""
    logits_CK = logits_CK.double()
    best_CN = logits_CK.topk(min(5, logits_CK.shape[1]), dim=1).indices
    hit_CN = best_CN == labels_C[:, None]
    return Metrics(
        loss=plain_cross_entropy(logits_CK, labels_C).mean().item(),
        top1=hit_CN[:, 0].double().mean().item(),
        top5=hit_CN.any(dim=1).double().mean().item(),
        ece=calibration_error(logits_CK.softmax(dim=1).amax(dim=1), hit_CN[:, 0]),
    )


def calibration_error(confidence_C: Float[Tensor, " C"], correct_C: Tensor) -> float:
    """Mean over bins of |accuracy - mean confidence|, each bin weighed by its clips."""
    bins_C = (confidence_C * ECE_BINS).long().clamp(max=ECE_BINS - 1)
    gap = torch.zeros(ECE_BINS, dtype=torch.float64)
    gap.index_add_(0, bins_C, correct_C.double() - confidence_C.double())
    return gap.abs().sum().item() / len(confidence_C)
