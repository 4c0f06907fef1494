"""Label smoothing: the loss, its floor, what a loss really uses; and the plain loss that models are compared by."""

# B clips of a batch, K words

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Over = Literal["all", "wrong"]
"""Which words share eps; see `TrainConfig.label_smoothing_over`."""


@dataclass(frozen=True)
class SmoothedLoss:
    """The training loss: mean cross-entropy against a target that gives a share of the true word to others.

    Not comparable between different eps: see `smoothing_floor`.
    """

    label_smoothing: float
    """eps, 0 to 1; see `TrainConfig`."""

    num_words: int
    over: Over = "all"

    def __post_init__(self) -> None:
        most = (self.num_words - 1) / self.num_words
        if self.over == "wrong" and self.label_smoothing > most:
            raise ValueError(
                f"label_smoothing {self.label_smoothing:g} over the wrong words must be at most {most:g}, (K - 1)/K for "
                f"{self.num_words} words: beyond, the true word gets less than each other"
            )

    def __call__(self, logits_BK: Float[Tensor, "B K"], labels_B: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """Mean over the clips, nats."""
        return smoothed_cross_entropy(logits_BK, labels_B, _over_all(self.label_smoothing, self.num_words, self.over))


def smoothed_cross_entropy(
    logits_BK: Float[Tensor, "B K"], labels_B: Int[Tensor, " B"], label_smoothing: float
) -> Float[Tensor, ""]:
    """Mean cross-entropy against a target of 1 - eps + eps/K for the true word and eps/K for each other.

    Source: Szegedy et al. 2016, section 7, as PyTorch computes it.
    """
    return F.cross_entropy(logits_BK, labels_B, label_smoothing=label_smoothing)


def plain_cross_entropy(logits_BK: Float[Tensor, "B K"], labels_B: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Negative log-likelihood of the true word for each clip, in nats. Never smoothed: this is what validation reports."""
    return F.cross_entropy(logits_BK, labels_B, reduction="none")


def smoothing_floor(label_smoothing: float, num_words: int, over: Over = "all") -> float:
    """The smallest value that `SmoothedLoss` can take, in nats: the entropy of its target.

    0 / 0.500 / 1.177 / 1.677 for eps 0 / 0.1 / 0.3 / 0.5 over all of ten words. A loss below the floor of the eps that a run
    is said to use proves that it used another.
    """
    other = label_smoothing / (num_words if over == "all" else max(num_words - 1, 1))
    true = 1 - (num_words - 1) * other
    return sum(-p * math.log(p) for p in [true, *[other] * (num_words - 1)] if p > 0)


def measured_smoothing(loss: Callable[[Tensor, Tensor], Tensor], num_words: int, over: Over = "all") -> float:
    """The eps that a loss function really uses, whatever it is said to use, found by calling it on known logits.

    With NLL_k the negative log-likelihood of word k and y the true word, the loss smoothed over all words is
    NLL_y + eps * (mean of NLL_k - NLL_y). `loss` takes logits `[1, K]` in float64 and labels `[1]`. Exact to about 1e-12;
    later digits are rounded away.

    Raises:
        ValueError: there are fewer than two words, and nothing to share with.
    """
    if num_words < 2:
        raise ValueError(f"label smoothing cannot be measured with {num_words} words, expected two or more")
    logits_1K = torch.linspace(2.0, -2.0, num_words, dtype=torch.float64)[None]
    nll_K = -logits_1K[0].log_softmax(dim=0)
    # the likeliest word is the true one: the two values of the loss between which eps moves lie 2 nats apart
    found = loss(logits_1K, torch.tensor([0])).item()
    eps = (found - nll_K[0].item()) / (nll_K.mean() - nll_K[0]).item()
    return round(eps if over == "all" else eps * (num_words - 1) / num_words, 12)


def _over_all(eps: float, num_words: int, over: Over) -> float:
    """The same smoothing as a share over all words: `wrong` at eps is `all` at eps * K/(K - 1)."""
    return eps if over == "all" or eps == 0 else eps / ((num_words - 1) / num_words)  # in this order never above 1
