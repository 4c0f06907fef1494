"""Optimizer, learning rate schedule, gradient clipping and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from model.config import TrainConfig
from model.flat import FlatWeights


@dataclass
class _Updated:
    """A tensor that is updated as one, and its optimizer state, which exists from its first gradient on."""

    tensor: Tensor
    decay: float
    state: dict[str, Tensor] = field(default_factory=dict)

    def begin(self) -> None:
        """Makes the state of a tensor that was never updated."""
        self.state = {
            "step": torch.zeros((), device=self.tensor.device),
            "exp_avg": torch.zeros_like(self.tensor),
            "exp_avg_sq": torch.zeros_like(self.tensor),
        }


@dataclass(frozen=True)
class _Weight:
    """A weight's place within the tensor that is updated: the whole of it, or a part of a buffer."""

    within: _Updated
    start: int
    shape: torch.Size

    def state(self) -> dict[str, Tensor]:
        """Views of this weight's part of the state."""
        end = self.start + self.shape.numel()
        return {
            name: value if name == "step" else value.view(-1)[self.start : end].view(self.shape)
            for name, value in self.within.state.items()
        }


class Adam:
    """Adam or AdamW, with the numbers of `torch.optim` with `fused=True` bit for bit. Weight decay acts on matrices only.

    Calls PyTorch's operators itself, because `torch.optim.Adam(...)` imports PyTorch's compiler: more than a second and 70 MB
    for each worker. Weights in a buffer are updated by one operation for all matrices and one for all vectors.
    """

    BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
    """The defaults of PyTorch and of Kingma and Ba 2015."""

    def __init__(self, model: nn.Module, config: TrainConfig, flat: FlatWeights | None = None) -> None:
        """`flat`: the buffer of the model's weights, if they are in one."""
        self._operator = {"adam": torch._fused_adam_, "adamw": torch._fused_adamw_}[config.optimizer]
        self._flat = flat
        named = list(model.named_parameters())
        if config.weight_decay > 0:
            named.sort(key=lambda item: item[1].ndim < 2)
        if flat is None:
            self._updated = [_Updated(weight, config.weight_decay if weight.ndim >= 2 else 0.0) for _, weight in named]
            places = [_Weight(updated, 0, updated.tensor.shape) for updated in self._updated]
        else:
            matrices, vectors = flat.parts
            self._updated = [_Updated(matrices, config.weight_decay), _Updated(vectors, 0.0)]
            places = [
                _Weight(self._updated[0], flat.offsets[name], weight.shape)
                if weight.ndim >= 2
                else _Weight(self._updated[1], flat.offsets[name] - len(matrices), weight.shape)
                for name, weight in named
            ]
        self._names = [name for name, _ in named]
        self._weights = places
        """By their numbers in `state`: in the model's order, with weight decay first all matrices."""

    def zero_grad(self) -> None:
        """Removes the gradients; those in a buffer become 0."""
        for updated in self._updated:
            if self._flat is None:
                updated.tensor.grad = None
            elif updated.tensor.grad is not None:
                updated.tensor.grad.zero_()

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Updates every weight that has a gradient."""
        for decay in {updated.decay for updated in self._updated}:
            ready = [updated for updated in self._updated if updated.decay == decay and updated.tensor.grad is not None]
            for updated in ready:
                if not updated.state:
                    updated.begin()
            if ready:
                self._step(ready, decay, lr)

    def _step(self, ready: Sequence[_Updated], decay: float, lr: float) -> None:
        steps, averages, squares = ([updated.state[name] for updated in ready] for name in ("step", "exp_avg", "exp_avg_sq"))
        torch._foreach_add_(steps, 1)
        self._operator(
            [updated.tensor for updated in ready],
            [updated.tensor.grad for updated in ready if updated.tensor.grad is not None],
            averages,
            squares,
            [],
            steps,
            lr=lr,
            beta1=self.BETA1,
            beta2=self.BETA2,
            weight_decay=decay,
            eps=self.EPS,
            amsgrad=False,
            maximize=False,
        )

    def begin(self) -> dict[str, dict[str, Tensor]]:
        """Makes the state of weights that were never updated. Returns that of all: views, by the weight's name."""
        for updated in self._updated:
            if not updated.state:
                updated.begin()
        return {name: weight.state() for name, weight in zip(self._names, self._weights, strict=True)}

    def state(self) -> dict[int, dict[str, Tensor]]:
        """`step`, `exp_avg` and `exp_avg_sq` of each weight that was updated, by the weight's number: views, not copies."""
        return {number: weight.state() for number, weight in enumerate(self._weights) if weight.within.state}

    def set_state(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Restores what `state` returned.

        Raises:
            KeyError, ValueError: the state is of another model.
        """
        for updated in self._updated:
            updated.state = {}
        for number, values in state.items():
            if not 0 <= number < len(self._weights):
                raise ValueError(f"there is no weight {number} for the optimizer's state")
            weight = self._weights[number]
            begun = bool(weight.within.state)
            if not begun:
                weight.within.begin()
            for name, ours in weight.state().items():
                if values[name].shape != ours.shape:
                    raise ValueError(f"the optimizer's {name} {number} has another shape")
                if name == "step" and begun and values[name].item() != ours.item():
                    raise ValueError("the optimizer's steps differ between weights of one buffer")
                ours.copy_(values[name])


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The learning rate at a step, counted from 0 over the whole training.

    The last warm-up step reaches `lr`. The cosine starts there and would reach 0 one step after the last.
    """
    warmup, all_steps = config.warmup_epochs * steps_per_epoch, config.epochs * steps_per_epoch
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "cosine":
        return config.lr * (1 + math.cos(math.pi * (step - warmup) / (all_steps - warmup))) / 2
    return config.lr


def ema_decay(ema: float, step: int) -> float:
    """The decay of the moving average at a step, counted from 0.

    Lower near the start, so that the starting weights are forgotten quickly. Source: TensorFlow's ExponentialMovingAverage
    with `num_updates`.
    """
    return min(ema, (1 + step) / (10 + step))


def clip_gradients(weights: list[Tensor], limit: float) -> None:
    """Scales the gradients of all weights, or of the parts of a buffer, so that their L2 norm together is at most the limit."""
    torch.nn.utils.clip_grad_norm_(weights, limit)


@torch.no_grad()
def update_average(averaged: list[Tensor], weights: list[Tensor], decay: float) -> None:
    """Updates the moving average: decay times the averaged weights, or parts of a buffer, plus 1 - decay times the model's."""
    torch._foreach_lerp_(averaged, weights, 1 - decay)
