"""Loss functions: label smoothing, its lower bound and its measurement; and the plain loss by which models are compared."""

# B clips of a batch, K words, S slots of a stack

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

Over = Literal["all", "wrong"]
"""Which words share eps; see `TrainConfig.label_smoothing_over`."""


@dataclass(frozen=True)
class SmoothedLoss:
    """The training loss: mean cross-entropy with label smoothing. Not comparable between different eps (`smoothing_floor`)."""

    label_smoothing: float
    """eps, 0 to 1; see `TrainConfig`."""

    num_words: int
    over: Over = "all"

    def __post_init__(self) -> None:
        most = (self.num_words - 1) / self.num_words
        if self.over == "wrong" and self.label_smoothing > most:
            raise ValueError(
                f"label_smoothing {self.label_smoothing:g} over the wrong words must be at most {most:g}, (K - 1)/K for "
                f"{self.num_words} words: above, the true word would get less than each of the others"
            )

    @property
    def over_all(self) -> float:
        """The eps over all words that smooths the same."""
        if self.over == "wrong" and self.label_smoothing > 0:  # in this order of operations never above 1
            return self.label_smoothing / ((self.num_words - 1) / self.num_words)
        return self.label_smoothing

    def __call__(self, logits_BK: Float[Tensor, "B K"], labels_B: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """Mean over the clips, nats."""
        return smoothed_cross_entropy(logits_BK, labels_B, self.over_all)


class StackedLoss:
    """The training losses of several slots, on the same clips."""

    def __init__(self, losses: Sequence[SmoothedLoss], device: torch.device) -> None:
        self._losses = losses
        self._eps_S = torch.tensor([loss.over_all for loss in losses], dtype=torch.float64).to(device)

    def __call__(self, logits_SBK: Float[Tensor, "S B K"], labels_B: Int[Tensor, " B"]) -> Float[Tensor, " S"]:
        """Each slot's mean over the clips, nats."""
        log_SBK = logits_SBK.log_softmax(dim=2)
        true_S = log_SBK.gather(2, labels_B.expand(len(log_SBK), -1)[:, :, None]).mean(dim=(1, 2))
        return torch.lerp(true_S, log_SBK.mean(dim=(1, 2)), self._eps_S.to(true_S.dtype)).neg()

    def of_slot(self, slot: int) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss of one slot as a function of logits `[B, K]` and labels `[B]` on the CPU, for probing it."""
        alone = StackedLoss(self._losses[slot : slot + 1], torch.device("cpu"))
        return lambda logits_BK, labels_B: alone(logits_BK[None], labels_B)[0]


def smoothed_cross_entropy(
    logits_BK: Float[Tensor, "B K"], labels_B: Int[Tensor, " B"], label_smoothing: float
) -> Float[Tensor, ""]:
    """Mean cross-entropy with the target 1 - eps + eps/K for the true word and eps/K for each of the others.

    Source: Szegedy et al. 2016, section 7, as PyTorch computes it.
    """
    return F.cross_entropy(logits_BK, labels_B, label_smoothing=label_smoothing)


def soft_targets(loss: Callable[[Tensor, Tensor], Tensor], num_words: int) -> Float[np.ndarray, "K K"]:
    """The probabilities that a loss function wants for a clip of each word, one row a word: read from its derivatives.

    The derivatives of a mean cross-entropy are softmax(logits) minus the target, over the number of clips. `loss` takes logits
    `[K, K]` in float64 and labels `[K]`.
    """
    logits_KK = torch.zeros(num_words, num_words, dtype=torch.float64, requires_grad=True)
    (slope_KK,) = torch.autograd.grad(loss(logits_KK, torch.arange(num_words)), logits_KK)
    targets_KK: np.ndarray = (1 / num_words - num_words * slope_KK).numpy()
    return targets_KK


def plain_cross_entropy(logits_BK: Float[Tensor, "B K"], labels_B: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Negative log-likelihood of each clip's true word, nats. Never smoothed; validation uses this loss."""
    return F.cross_entropy(logits_BK, labels_B, reduction="none")


def smoothing_floor(label_smoothing: float, num_words: int, over: Over = "all") -> float:
    """The smallest possible value of `SmoothedLoss`, nats: the entropy of its target.

    0 / 0.500 / 1.177 / 1.677 for eps 0 / 0.1 / 0.3 / 0.5 over all of ten words. A training loss below the floor of its recorded
    eps proves that the training used a different eps.
    """
    other = label_smoothing / (num_words if over == "all" else max(num_words - 1, 1))
    true = 1 - (num_words - 1) * other
    return sum(-p * math.log(p) for p in [true, *[other] * (num_words - 1)] if p > 0)


def measure_smoothing(loss: Callable[[Tensor, Tensor], Tensor], num_words: int, over: Over = "all") -> float:
    """Measures the eps that a loss function actually uses by calling it on known logits.

    With NLL_k the negative log-likelihood of word k and y the true word, the loss smoothed over all words is
    NLL_y + eps * (mean of NLL_k - NLL_y). `loss` takes logits `[1, K]` in float64 and labels `[1]`. Rounded to 12 decimal
    places, its accuracy.

    Raises:
        ValueError: there are fewer than two words.
    """
    if num_words < 2:
        raise ValueError(f"label smoothing cannot be measured with {num_words} words, expected two or more")
    logits_1K = torch.linspace(2.0, -2.0, num_words, dtype=torch.float64)[None]
    nll_K = -logits_1K[0].log_softmax(dim=0)
    # the most likely word is the true one, so that the mean NLL lies 2 nats above its NLL
    value = loss(logits_1K, torch.tensor([0])).item()
    eps = (value - nll_K[0].item()) / (nll_K.mean() - nll_K[0]).item()
    return round(eps if over == "all" else eps * (num_words - 1) / num_words, 12)
