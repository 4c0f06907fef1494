"""The optimizer of `optimizing.py` for several slots at once, whose settings are columns."""

# S slots, W floats of a slot's weights, N steps of an epoch

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from model.config import TrainConfig
from model.flat import Places
from model.optimizing import Adam, ema_decay, learning_rate


class StackedAdam:
    """Adam or AdamW, gradient clipping and the moving average of the weights, for an epoch of each slot."""

    def __init__(
        self,
        configs: Sequence[TrainConfig],
        steps_done: Sequence[int],
        steps: int,
        places: Places,
        *,
        weights_SW: Float[Tensor, "S W"],
        averages_SW: Float[Tensor, "S W"],
        squares_SW: Float[Tensor, "S W"],
        moving_SW: Float[Tensor, "S W"] | None,
    ) -> None:
        """All matrices are updated in place.

        Args:
            configs: the slots' settings, of one optimizer.
            steps_done: the steps that each slot was trained before.
            steps: the steps of an epoch.
            moving_SW: the moving averages of the weights; None if no slot has one. Those without one get their weights.
        """
        self._weights_SW, self._averages_SW, self._squares_SW, self._moving_SW = weights_SW, averages_SW, squares_SW, moving_SW
        self._matrices = places.matrices
        self._decays = any(config.weight_decay > 0 for config in configs)
        self._is_decoupled = configs[0].optimizer == "adamw"
        self._clips = any(config.clip_norm > 0 for config in configs)
        rows = [
            [_columns(config, done + number, steps) for config, done in zip(configs, steps_done, strict=True)]
            for number in range(steps)
        ]
        table = torch.tensor(rows, dtype=torch.float64).float()
        self._table_N5S = table.transpose(1, 2).contiguous().to(weights_SW.device)

    @torch.no_grad()
    def step(self, number: int, gradients_SW: Float[Tensor, "S W"]) -> None:
        """The update of the epoch's step of this number, from 0. Changes the gradients."""
        size, correction, decay, limit, moving = self._table_N5S[number, :, :, None].unbind(0)
        if self._clips:
            norm_S1 = torch.linalg.vector_norm(gradients_SW, dim=1, keepdim=True)
            factor_S1 = (limit / (norm_S1 + 1e-6)).clamp_(max=1.0)
            gradients_SW.mul_(factor_S1.masked_fill_(limit.isinf(), 1.0))  # not clipped, also where the norm is infinite
        if self._decays:
            matrices = self._weights_SW[:, : self._matrices]
            if self._is_decoupled:
                matrices.addcmul_(matrices, decay, value=-1)
            else:
                gradients_SW[:, : self._matrices].addcmul_(matrices, decay)
        self._averages_SW.lerp_(gradients_SW, 1 - Adam.BETA1)
        self._squares_SW.mul_(Adam.BETA2).addcmul_(gradients_SW, gradients_SW, value=1 - Adam.BETA2)
        denominator_SW = self._squares_SW.sqrt().div_(correction).add_(Adam.EPS)
        self._weights_SW.sub_((self._averages_SW / denominator_SW).mul_(size))
        if self._moving_SW is not None:
            self._moving_SW.lerp_(self._weights_SW, moving.expand_as(self._weights_SW))


def _columns(config: TrainConfig, step: int, steps_per_epoch: int) -> tuple[float, float, float, float, float]:
    """For a step of a slot: Adam's step size and the root of its second correction (Kingma and Ba 2015, algorithm 1), what
    weight decay multiplies the weights by, the largest norm of a gradient, and the weight of the new weights in the average."""
    rate = learning_rate(config, step, steps_per_epoch)
    decay = config.weight_decay * (rate if config.optimizer == "adamw" else 1.0)
    limit = config.clip_norm if config.clip_norm > 0 else math.inf
    moving = 1 - ema_decay(config.ema, step) if config.ema > 0 else 1.0
    size = rate / (1 - Adam.BETA1 ** (step + 1))
    return size, math.sqrt(1 - Adam.BETA2 ** (step + 1)), decay, limit, moving
