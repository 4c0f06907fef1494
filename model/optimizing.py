"""Optimizer, learning rate schedule and the moving average of the weights."""

from __future__ import annotations

import math

import torch
from torch import nn

from model.config import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The configured optimizer. Weight decay acts on matrices only."""
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    weights = list(model.parameters())
    if config.weight_decay == 0:
        return kind(weights, lr=config.lr, weight_decay=0.0, fused=True)
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return kind(groups, lr=config.lr, fused=True)


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


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of all weights."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def ema_decay(ema: float, step: int) -> float:
    """The decay of the moving average at a step, counted from 0.

    Lower near the start, so that the starting weights are forgotten quickly. Source: TensorFlow's ExponentialMovingAverage
    with `num_updates`.
    """
    return min(ema, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Updates the moving average: decay times the averaged weights plus 1 - decay times the model's."""
    torch._foreach_lerp_(list(averaged.parameters()), list(model.parameters()), 1 - decay)
