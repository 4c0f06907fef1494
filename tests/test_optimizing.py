"""Optimizer, learning rate schedule, gradient clipping and averaged weights, compared with computations by hand."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from test_training import MODEL, TRAIN, VALIDATION, losses, make_training
from torch import Tensor, nn

from data_utils.batches import shuffled_batches
from model.config import TrainConfig
from model.metrics import measure
from model.optimizing import ema_decay, learning_rate, update_average
from model.training import Training, fit

STEPS = 4
"""Steps per epoch of `make_training`: 60 clips, 16 at a time."""


def after_each_step(training: Training, action: Callable[[float], object]) -> None:
    """Calls `action` with the learning rate after each step of the optimizer."""
    step = training.optimizer.step

    def step_and_act(lr: float) -> None:
        step(lr)
        action(lr)

    training.optimizer.step = step_and_act  # type: ignore[method-assign]


def test_learning_rates_by_hand() -> None:
    """Two epochs of warm-up and four of cosine, five steps per epoch."""
    config = TrainConfig(lr=1.0, epochs=6, warmup_epochs=2, schedule="cosine")
    rates = [learning_rate(config, step, 5) for step in range(30)]
    assert rates[:10] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert rates[10] == 1.0
    assert rates[15] == pytest.approx((1 + math.sqrt(0.5)) / 2)  # a quarter of the way: the cosine of 45 degrees
    assert rates[20] == pytest.approx(0.5)
    assert rates[25] == pytest.approx((1 - math.sqrt(0.5)) / 2)
    assert 0 < rates[29] < 0.01
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [1.0] * 12),
        ({"warmup_epochs": 1}, [0.25, 0.5, 0.75, *[1.0] * 9]),
        ({"schedule": "cosine"}, [(1 + math.cos(math.pi * step / 12)) / 2 for step in range(12)]),
        ({"schedule": "cosine", "warmup_epochs": 2}, [*[(step + 1) / 8 for step in range(8)], 1, 0.853553, 0.5, 0.146447]),
    ],
    ids=str,
)
def test_a_training_follows_the_schedule(settings: dict[str, object], expected: list[float]) -> None:
    """The optimizer's learning rate at each step of three epochs of four steps, as a multiple of `lr`."""
    training, rates = make_training(**settings), []
    after_each_step(training, rates.append)
    fit(training)
    assert rates == pytest.approx([3e-3 * factor for factor in expected], rel=1e-5)


def test_warm_up_must_be_shorter_than_the_training() -> None:
    """A warm-up as long as the training is refused."""
    TrainConfig(epochs=5, warmup_epochs=4)
    with pytest.raises(ValueError, match="warmup_epochs 5 must be fewer than epochs 5"):
        TrainConfig(epochs=5, warmup_epochs=5)


def by_hand(training: Training, decay: float, kind: str) -> nn.Module:
    """The weights after one epoch with PyTorch's plain Adam and the weight decay computed explicitly."""
    model = copy.deepcopy(training.model)
    rng = copy.deepcopy(training.generators.order)
    weights = list(model.parameters())
    optimizer = torch.optim.Adam(weights, lr=training.config.lr)
    for batch in shuffled_batches(TRAIN, 16, rng):
        labels_B = torch.from_numpy(TRAIN.labels_C[batch.clips_B])
        loss = nn.functional.cross_entropy(model(*training.train.take(batch)), labels_B)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for weight in weights:
                assert weight.grad is not None
                if weight.ndim >= 2 and kind == "adam":
                    weight.grad += decay * weight
                if weight.ndim >= 2 and kind == "adamw":
                    weight *= 1 - training.config.lr * decay
        optimizer.step()
    return model


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_weight_decay_by_hand(kind: str, decay: float) -> None:
    """Adam adds the decay to the gradient, AdamW subtracts it from the weight; biases and norms do not decay."""
    still = dataclasses.replace(MODEL, dropout=0.0)
    training = make_training(model=still, optimizer=kind, weight_decay=decay, lr=1e-2, epochs=1)
    with torch.no_grad():  # otherwise a decay of biases of 0 and norms of 1 would hardly show
        for weight in training.model.parameters():
            if weight.ndim < 2:
                weight.add_(0.5)
    expected = by_hand(training, decay, kind)
    fit(training)
    for (name, ours), theirs in zip(training.model.named_parameters(), expected.parameters(), strict=True):
        # the gradient of a key's bias is 0 up to rounding, so the direction of its step is arbitrary
        where = torch.ones_like(ours, dtype=torch.bool)
        if name.endswith("qkv.bias"):
            where[16:32] = False
        torch.testing.assert_close(ours[where], theirs[where], atol=2e-4, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


def test_weight_decay_has_an_effect() -> None:
    """Both kinds of decay differ from each other and from none; without decay Adam and AdamW are the same."""
    runs = [losses(make_training(optimizer=kind, weight_decay=decay)) for kind in ("adam", "adamw") for decay in (0.0, 0.5)]
    assert runs[0] == runs[2]
    assert runs[0] != runs[1] != runs[3] != runs[0]


def gradient_norm(training: Training) -> float:
    """L2 norm of the gradient over all weights."""
    gradients = [weight.grad for weight in training.model.parameters() if weight.grad is not None]
    return torch.stack([gradient.norm() for gradient in gradients]).norm().item()


def test_gradient_clipping() -> None:
    """The gradient norm of each step is at most the limit; a limit that is never reached changes nothing."""
    free, clipped, wide = (make_training(clip_norm=norm) for norm in (0.0, 0.05, 1e6))
    norms: dict[str, list[float]] = {"free": [], "clipped": []}
    after_each_step(free, lambda _: norms["free"].append(gradient_norm(free)))
    after_each_step(clipped, lambda _: norms["clipped"].append(gradient_norm(clipped)))
    curves = [losses(training) for training in (free, clipped, wide)]
    assert min(norms["free"]) > 0.05
    assert norms["clipped"] == pytest.approx([0.05] * 12, rel=1e-3)
    assert curves[0] == curves[2] != curves[1]


def test_averaged_weights_by_hand() -> None:
    """Averaged weights follow the formula at every step, are validated and kept, and do not change the training."""
    training = make_training(ema=0.9, epochs=5)
    names = [name for name, _ in training.model.named_parameters()]
    expected: dict[str, Tensor] = {name: p.detach().double().clone() for name, p in training.model.named_parameters()}
    step = 0

    def follow(_: float) -> None:
        nonlocal step
        decay = min(0.9, (1 + step) / (10 + step))
        for name, weight in training.model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * weight.detach().double()
        step += 1

    after_each_step(training, follow)
    history = fit(training)
    assert step == 5 * STEPS
    averaged = training.averaged.state_dict()
    for name in names:
        torch.testing.assert_close(averaged[name].double(), expected[name], atol=1e-5, rtol=0)
    labels = torch.from_numpy(VALIDATION.labels_C)
    assert measure(training.path.logits(training.averaged, training.validation), labels).loss == history[-1].val_loss
    assert training.kept_epoch is history[-1]
    assert all(torch.equal(training.kept_state[name], averaged[name]) for name in names)
    plain = make_training(epochs=5)
    assert [record.train_loss for record in fit(plain)] == [record.train_loss for record in history]
    assert plain.history[-1].val_loss != history[-1].val_loss
    assert plain.averaged is plain.model


def test_the_decay_of_the_average_rises() -> None:
    """The decay is 1/10 at the first step and rises to the setting."""
    assert [ema_decay(0.5, step) for step in (0, 1, 2, 8, 100)] == pytest.approx([0.1, 2 / 11, 3 / 12, 0.5, 0.5])
    one, other = nn.Linear(2, 1), nn.Linear(2, 1)
    before = one.weight.detach().clone()
    update_average(list(one.parameters()), list(other.parameters()), 0.75)
    torch.testing.assert_close(one.weight, 0.75 * before + 0.25 * other.weight)
