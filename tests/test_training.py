"""The training loop: what it reports, what it depends on, and how it ends."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from data_utils.prepared import ClipSet, clip_set
from model.config import ModelConfig, TrainConfig
from model.loss import smoothed_cross_entropy, smoothing_floor
from model.metrics import calibration_error, measure
from model.training import Diverged, Training, fit
from model.transformer import logits_of

WORDS = 4
MODEL = ModelConfig(width=16, ffn_width=32, layers=1)


def make_set(count: int, seed: int, noise: float = 1.0) -> ClipSet:
    """Clips whose word shows in their mean."""
    rng = np.random.default_rng(seed)
    signs = np.random.default_rng(99).standard_normal((WORDS, 260))
    labels = rng.integers(0, WORDS, count)
    clips = [
        (0.3 * signs[label] + noise * rng.standard_normal((rng.integers(2, 30), 260))).astype(np.float32) for label in labels
    ]
    return clip_set(clips, labels)


TRAIN, VALIDATION = make_set(60, 1), make_set(30, 2)


def make_training(seed: int = 0, *, model: ModelConfig = MODEL, **settings: float) -> Training:
    """A short training."""
    config = TrainConfig(**{"epochs": 3, "batch_size": 16, "lr": 3e-3, **settings})  # type: ignore[arg-type]
    return Training(model, config, train=TRAIN, validation=VALIDATION, num_words=WORDS, seed=seed)


def losses(training: Training) -> list[tuple[float, float]]:
    """Training and validation loss of each epoch."""
    return [(record.train_loss, record.val_loss) for record in fit(training)]


def test_it_learns() -> None:
    """On signs that can be told apart, validation accuracy rises far above chance."""
    training = make_training(epochs=10)
    fit(training)
    assert training.best.val_top1 > 0.8 > 3 / WORDS


def test_same_seed_same_numbers_bit_for_bit() -> None:
    """Two trainings with one seed agree in every bit; another seed gives other numbers."""
    assert losses(make_training(5)) == losses(make_training(5))
    assert losses(make_training(5)) != losses(make_training(6))


def test_the_global_generator_has_no_say() -> None:
    """Numbers do not depend on torch's or numpy's global state, nor change it."""
    torch.manual_seed(1)
    first = losses(make_training())
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert losses(make_training()) == first
    assert torch.equal(state, torch.random.get_rng_state())


def test_validation_is_never_smoothed() -> None:
    """With frozen weights every reported validation number is the same whatever eps the training uses.

    A step size too small to move a float32 weight freezes them; the training loss shows that eps acts.
    """
    records = [fit(make_training(lr=1e-30, epochs=1, label_smoothing=eps))[0] for eps in (0.0, 0.1, 0.3, 0.5)]
    for name in ("val_loss", "val_top1", "val_top5", "val_ece"):
        assert len({getattr(record, name) for record in records}) == 1, name
    assert len({record.train_loss for record in records}) == 4


def test_val_loss_is_the_plain_mean_over_clips() -> None:
    """Each clip weighs the same, however the validation was batched."""
    training = make_training(epochs=1)
    record = fit(training)[0]
    result = logits_of(training.model, training.validation).double()
    labels = torch.from_numpy(VALIDATION.labels_C)
    by_hand = -result.log_softmax(dim=1)[torch.arange(len(labels)), labels].mean().item()
    assert record.val_loss == pytest.approx(by_hand, abs=1e-12)


def test_train_loss_is_weighted_by_clips() -> None:
    """A short last batch does not count for more: with frozen weights and no dropout the loss does not depend on batch size."""
    still = dataclasses.replace(MODEL, dropout=0.0)
    values = [fit(make_training(model=still, lr=1e-30, epochs=1, batch_size=size))[0].train_loss for size in (7, 16, 60)]
    assert max(values) - min(values) < 1e-5


def test_every_epoch_is_recorded_and_the_callback_can_stop() -> None:
    """Records are numbered from 1; answering False ends the training after that epoch."""
    training = make_training(epochs=9)
    history = fit(training, lambda record: record.epoch < 4)
    assert [record.epoch for record in history] == [1, 2, 3, 4]
    assert all(record.seconds > 0 for record in history)
    assert not training.finished


def test_best_state_is_the_best_epochs() -> None:
    """The kept weights give the best epoch's val_loss again."""
    training = make_training(epochs=6, lr=3e-2)
    fit(training)
    training.model.load_state_dict(training.best_state)
    again = measure(logits_of(training.model, training.validation), torch.from_numpy(VALIDATION.labels_C))
    assert again.loss == training.best.val_loss
    assert training.best.val_loss == min(record.val_loss for record in training.history)


def test_a_loss_that_is_not_finite_ends_the_training_with_a_reason() -> None:
    """A step size that blows the weights up is told by epoch and kind of loss."""
    with pytest.raises(Diverged, match=r"loss became (nan|inf) in epoch \d"):
        fit(make_training(lr=1e30))


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.3, 0.5, 1.0])
def test_the_floor_is_reached_by_the_target_itself(eps: float) -> None:
    """Logits that are the log of the smoothed target give exactly the floor, and no random logits go below it."""
    target = torch.full((WORDS,), eps / WORDS, dtype=torch.float64)
    target[2] += 1 - eps
    label = torch.tensor([2])
    floor = smoothing_floor(eps, WORDS)
    attained = smoothed_cross_entropy(target.clamp(min=1e-300).log()[None], label, eps).item()
    assert attained == pytest.approx(floor, abs=1e-9)
    others = torch.randn(500, WORDS, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4
    values = [smoothed_cross_entropy(row[None], label, eps).item() for row in others]
    assert min(values) >= floor - 1e-12


def test_floors_of_ten_words() -> None:
    """The floors at eps 0, 0.1, 0.3 and 0.5 for ten words, in nats."""
    assert [round(smoothing_floor(eps, 10), 3) for eps in (0.0, 0.1, 0.3, 0.5)] == [0.0, 0.5, 1.177, 1.677]


def test_metrics_of_known_logits() -> None:
    """Loss, top-1, top-5 and calibration of a table worked out by hand."""
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1]]))
    labels = torch.tensor([0, 0, 2, 1])
    metrics = measure(logits, labels)
    assert metrics.loss == pytest.approx(-np.log([0.7, 0.3, 0.8, 0.3]).mean(), abs=1e-6)
    assert metrics.top1 == 0.5
    assert metrics.top5 == 1.0
    # each confidence has a bin of its own: |1 - .7|, |0 - .4|, |1 - .8|, |0 - .6|
    assert metrics.ece == pytest.approx((0.3 + 0.4 + 0.2 + 0.6) / 4, abs=1e-6)


def test_perfect_confidence_is_perfectly_calibrated() -> None:
    """Certain and right: error 0. Certain and wrong: error 1."""
    ones = torch.ones(5, dtype=torch.float64)
    assert calibration_error(ones, torch.ones(5, dtype=torch.bool)) == 0.0
    assert calibration_error(ones, torch.zeros(5, dtype=torch.bool)) == 1.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_it_trains_on_cuda_as_on_the_cpu() -> None:
    """Without dropout the first epochs on CUDA agree with the CPU's to float32 accuracy."""
    still = dataclasses.replace(MODEL, dropout=0.0)
    config = TrainConfig(epochs=2, batch_size=16, lr=1e-3)
    runs = [
        fit(Training(still, config, train=TRAIN, validation=VALIDATION, num_words=WORDS, seed=0, device=device))
        for device in ("cpu", "cuda")
    ]
    for cpu, cuda in zip(*runs, strict=True):
        assert math.isclose(cpu.val_loss, cuda.val_loss, abs_tol=1e-3)


# val_loss after each of ten epochs of a fixed tiny run. A refactor changes no number; a change needs a reason in the commit.
GOLDEN_LOSSES = [1.287871, 1.126507, 0.990046, 0.855169, 0.732593, 0.625057, 0.534357, 0.454993, 0.390742, 0.337623]


def test_golden_losses_of_a_tiny_run() -> None:
    """Ten epochs of a fixed tiny run give the recorded losses."""
    history = fit(make_training(seed=2024, epochs=10, lr=1e-3, label_smoothing=0.1))
    assert [record.val_loss for record in history] == pytest.approx(GOLDEN_LOSSES, abs=2e-4)
