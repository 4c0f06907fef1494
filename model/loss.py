"""Label smoothing, its floor, and the plain loss that models are compared by."""

from __future__ import annotations

import math

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def smoothed_cross_entropy(
    logits_BK: Float[Tensor, "B K"], labels_B: Int[Tensor, " B"], label_smoothing: float
) -> Float[Tensor, ""]:
    """The training loss: mean cross-entropy against a target of 1 - eps + eps/K for the true word and eps/K for each other.

    Not comparable between different eps: see `smoothing_floor`. Source: Szegedy et al. 2016, section 7, as PyTorch computes it.
    """
    return F.cross_entropy(logits_BK, labels_B, label_smoothing=label_smoothing)


def plain_cross_entropy(logits_BK: Float[Tensor, "B K"], labels_B: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Negative log-likelihood of the true word for each clip, in nats. Never smoothed: this is what validation reports."""
    return F.cross_entropy(logits_BK, labels_B, reduction="none")


def smoothing_floor(label_smoothing: float, num_words: int) -> float:
    """The smallest value that `smoothed_cross_entropy` can take, in nats: the entropy of its target.

    0 / 0.500 / 1.177 / 1.677 for eps 0 / 0.1 / 0.3 / 0.5 and ten words. A loss below the floor of the eps that a run is said
    to use proves that it used another.
    """
    other = label_smoothing / num_words
    true = 1 - label_smoothing + other
    return -sum(p * math.log(p) for p in [true, *[other] * (num_words - 1)] if p > 0)
