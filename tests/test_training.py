"""The training loop: what it records, what it depends on, and how it ends."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pytest
import torch

from data_utils.augment import AugmentConfig
from data_utils.batches import Batch
from data_utils.prepared import ClipSet, clip_set
from model import paths
from model.config import ModelConfig, TrainConfig
from model.loss import SmoothedLoss, smoothing_floor
from model.metrics import calibration_error, measure
from model.objective import Metric, Objective, Reduce
from model.training import Diverged, Training, fit

WORDS = 4
MODEL = ModelConfig(width=16, ffn_width=32, layers=1)


def make_set(count: int, seed: int, noise: float = 1.0) -> ClipSet:
    """Clips whose mean depends on their word."""
    rng = np.random.default_rng(seed)
    signs = np.random.default_rng(99).standard_normal((WORDS, 260))
    labels = rng.integers(0, WORDS, count)
    clips = [
        (0.3 * signs[label] + noise * rng.standard_normal((rng.integers(2, 30), 260))).astype(np.float32) for label in labels
    ]
    return clip_set(clips, labels)


TRAIN, VALIDATION = make_set(60, 1), make_set(30, 2)


def make_training(
    seed: int = 0,
    *,
    model: ModelConfig = MODEL,
    augment: AugmentConfig = AugmentConfig(),
    objective: Objective = Objective(),
    **settings: object,
) -> Training:
    """A short training."""
    config = TrainConfig(**{"epochs": 3, "batch_size": 16, "lr": 3e-3, **settings})  # type: ignore[arg-type]
    return Training(
        model,
        config,
        augment,
        train=TRAIN,
        validation=VALIDATION,
        num_words=WORDS,
        seed=seed,
        objective=objective,
    )


def losses(training: Training) -> list[tuple[float, float]]:
    """Training and validation loss of each epoch."""
    return [(record.train_loss, record.val_loss) for record in fit(training)]


def test_training_learns() -> None:
    """On distinguishable signs, validation accuracy rises far above chance."""
    training = make_training(epochs=10)
    fit(training)
    assert training.kept_epoch.val_top1 > 0.8 > 3 / WORDS


def test_same_seed_same_numbers_bit_for_bit() -> None:
    """Two trainings with one seed agree in every bit; another seed gives other numbers."""
    assert losses(make_training(5)) == losses(make_training(5))
    assert losses(make_training(5)) != losses(make_training(6))


def test_the_global_generator_is_neither_used_nor_changed() -> None:
    """Numbers do not depend on torch's or numpy's global state, nor change it."""
    torch.manual_seed(1)
    first = losses(make_training())
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert losses(make_training()) == first
    assert torch.equal(state, torch.random.get_rng_state())


def test_validation_is_never_smoothed() -> None:
    """With frozen weights every validation metric is the same whatever eps the training uses.

    A learning rate too small to change a float32 weight freezes them; the training loss shows that eps has an effect.
    """
    records = [fit(make_training(lr=1e-30, epochs=1, label_smoothing=eps))[0] for eps in (0.0, 0.1, 0.3, 0.5)]
    for name in ("val_loss", "val_top1", "val_top5", "val_ece", "val_ece_mass", "val_loss_ts", "temperature"):
        assert len({getattr(record, name) for record in records}) == 1, name
    assert len({record.train_loss for record in records}) == 4


def test_val_loss_is_the_plain_mean_over_clips() -> None:
    """All clips have the same weight, however the validation was batched."""
    training = make_training(epochs=1)
    record = fit(training)[0]
    result = training.path.logits(training.model, training.validation).double()
    labels = torch.from_numpy(VALIDATION.labels_C)
    by_hand = -result.log_softmax(dim=1)[torch.arange(len(labels)), labels].mean().item()
    assert record.val_loss == pytest.approx(by_hand, abs=1e-12)


def test_train_loss_is_weighted_by_clips() -> None:
    """With frozen weights and no dropout the loss does not depend on the batch size, despite a short last batch."""
    still = dataclasses.replace(MODEL, dropout=0.0)
    values = [fit(make_training(model=still, lr=1e-30, epochs=1, batch_size=size))[0].train_loss for size in (7, 16, 60)]
    assert max(values) - min(values) < 1e-5


def test_every_epoch_is_recorded_and_the_callback_can_stop() -> None:
    """Records are numbered from 1; returning False ends the training after that epoch."""
    training = make_training(epochs=9)
    history = fit(training, lambda record: record.epoch < 4)
    assert [record.epoch for record in history] == [1, 2, 3, 4]
    assert all(record.seconds > 0 for record in history)
    assert not training.finished


OBJECTIVES = [Objective(metric=metric, reduce=reduce) for metric in get_args(Metric) for reduce in get_args(Reduce)]


NOISY = make_set(30, 2, noise=12.0)


def make_noisy_training(objective: Objective) -> Training:
    """A short training on signs so noisy that the three metrics are best in different epochs."""
    return Training(
        MODEL,
        TrainConfig(epochs=6, batch_size=16, lr=2e-2),
        train=make_set(60, 1, noise=12.0),
        validation=NOISY,
        num_words=WORDS,
        seed=0,
        objective=objective,
    )


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda one: f"{one.metric}_{one.reduce}")
def test_the_kept_weights_are_those_of_the_kept_epoch(objective: Objective) -> None:
    """The kept weights reproduce the numbers of the kept epoch, and computing their logits does not change the training."""
    training, untouched = make_noisy_training(objective), make_noisy_training(objective)
    for _ in range(6):
        training.run_epoch()
        again = measure(training.kept_logits(), torch.from_numpy(NOISY.labels_C))
        kept = training.kept_epoch
        assert kept is objective.kept_epoch(training.history)
        assert (again.loss, again.top1, again.temperature) == (kept.val_loss, kept.val_top1, kept.temperature)
    assert losses(untouched) == [(record.train_loss, record.val_loss) for record in training.history]


def test_objectives_keep_different_epochs() -> None:
    """In the run of the test above each metric has another best epoch."""
    history = fit(make_noisy_training(Objective()))
    assert len({Objective(metric=metric).kept_epoch(history).epoch for metric in get_args(Metric)}) == 3


def test_kept_logits_of_clips_longer_than_the_position_table() -> None:
    """A position table that grew during validation does not change the result."""
    clips = clip_set([np.zeros((600, 260), np.float32), np.ones((3, 260), np.float32)], [0, 1])
    training = Training(MODEL, TrainConfig(epochs=2), train=TRAIN, validation=clips, num_words=WORDS, seed=0)
    fit(training)
    assert measure(training.kept_logits(), torch.from_numpy(clips.labels_C)).loss == training.kept_epoch.val_loss


def test_the_used_eps_is_measured() -> None:
    """The measured eps equals the setting, by both definitions; a different loss is detected."""
    for kernel in ("auto", "torch"):
        for over in ("all", "wrong"):
            for eps in (0.0, 0.1, 0.5):
                training = make_training(label_smoothing=eps, label_smoothing_over=over, kernel=kernel)
                assert training.label_smoothing_used == pytest.approx(eps, abs=1e-9)
                training.loss = SmoothedLoss(0.25, WORDS, over)
                assert training.label_smoothing_used == pytest.approx(0.25, abs=1e-9)


def test_smoothing_over_the_wrong_words_in_training() -> None:
    """It trains like the equivalent eps over all words; too high an eps is refused at the start."""
    assert losses(make_training(label_smoothing=0.3, label_smoothing_over="wrong")) == losses(
        make_training(label_smoothing=0.3 / ((WORDS - 1) / WORDS))
    )
    assert losses(make_training(label_smoothing=0.3, label_smoothing_over="wrong")) != losses(
        make_training(label_smoothing=0.3)
    )
    with pytest.raises(ValueError, match=r"at most 0\.75"):
        make_training(label_smoothing=0.8, label_smoothing_over="wrong")


def test_trainings_share_their_frames() -> None:
    """Several trainings on clips of one set hold its frames once."""
    first = make_training()
    second = make_training(1)
    assert second.train.frames_NF is first.train.frames_NF
    assert losses(second) == losses(make_training(1))


def test_patience_ends_a_training() -> None:
    """With frozen weights nothing improves after epoch 1, and the training ends `patience` epochs later; 0 disables it."""
    assert len(fit(make_training(lr=1e-30, epochs=9, patience=3))) == 4
    assert len(fit(make_training(lr=1e-30, epochs=9, patience=0))) == 9
    assert len(fit(make_training(lr=1e-30, epochs=3, patience=3))) == 3


@pytest.mark.parametrize("improved", ["val_loss", "val_loss_ts", "val_top1"])
def test_patience_considers_all_three_metrics(improved: str) -> None:
    """An improvement in any of the three metrics continues the training, whatever the objective."""
    training = make_training(epochs=9, patience=2)
    record = training.run_epoch()
    change = {improved: min(1.0, record.val_top1 + 0.1) if improved == "val_top1" else 0.0}
    training.history = [record, dataclasses.replace(record, epoch=2), dataclasses.replace(record, epoch=3)]
    assert training.finished
    training.history[-1] = dataclasses.replace(training.history[-1], **change)
    assert not training.finished


def test_augmentation_acts_in_training_only() -> None:
    """Augmented clips change the training loss reproducibly; with frozen weights the validation loss is unchanged."""
    changed = AugmentConfig(flip=0.5, noise=1.0, noise_sd=0.5)
    assert losses(make_training(augment=changed)) == losses(make_training(augment=changed)) != losses(make_training())
    plain, other = (losses(make_training(augment=one, lr=1e-30, epochs=1))[0] for one in (AugmentConfig(), changed))
    assert plain[0] != other[0]
    assert plain[1] == other[1]


def test_augmentation_has_its_own_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are made with the training's settings and two generators; drawing for augmentation does not change the order."""
    seen = []
    real = paths.augmented_batches

    def spy(clips: ClipSet, size: int, config: AugmentConfig, **others: Any) -> Iterator[Batch]:
        seen.append((config, others["frames_multiple"]))
        others["augment_rng"].random()
        return real(clips, size, config, **others)

    plain = losses(make_training(kernel="torch"))
    monkeypatch.setattr(paths, "augmented_batches", spy)
    training = make_training(kernel="torch")
    assert losses(training) == plain
    assert seen == [(AugmentConfig(), 1)] * 3
    start, end = make_training().state()[1], training.state()[1]
    assert start["augment_rng"] != start["order_rng"]
    assert start["augment_rng"] != end["augment_rng"]


def test_a_non_finite_loss_ends_the_training_with_a_reason() -> None:
    """If the loss diverges, the error says which loss and in which epoch."""
    with pytest.raises(Diverged, match=r"loss became (nan|inf) in epoch \d"):
        fit(make_training(lr=1e30))


def test_floors_of_ten_words() -> None:
    """The floors at eps 0, 0.1, 0.3 and 0.5 for ten words, in nats."""
    assert [round(smoothing_floor(eps, 10), 3) for eps in (0.0, 0.1, 0.3, 0.5)] == [0.0, 0.5, 1.177, 1.677]


def test_metrics_of_known_logits() -> None:
    """Loss, top-1, top-5 and calibration equal those computed by hand."""
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1]]))
    labels = torch.tensor([0, 0, 2, 1])
    metrics = measure(logits, labels)
    assert metrics.loss == pytest.approx(-np.log([0.7, 0.3, 0.8, 0.3]).mean(), abs=1e-6)
    assert metrics.top1 == 0.5
    assert metrics.top5 == 1.0
    # each confidence is in a separate bin: |1 - .7|, |0 - .4|, |1 - .8|, |0 - .6|
    assert metrics.ece == pytest.approx((0.3 + 0.4 + 0.2 + 0.6) / 4, abs=1e-6)


def test_perfect_confidence_is_perfectly_calibrated() -> None:
    """Full confidence has error 0 if right and 1 if wrong."""
    ones = torch.ones(5, dtype=torch.float64)
    assert calibration_error(ones, torch.ones(5, dtype=torch.bool)) == 0.0
    assert calibration_error(ones, torch.zeros(5, dtype=torch.bool)) == 1.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "cosine", "warmup_epochs": 1, "clip_norm": 0.5, "ema": 0.9},
        {"label_smoothing": 0.3, "label_smoothing_over": "wrong", "weight_decay": 0.01},
    ],
    ids=str,
)
def test_training_on_cuda_equals_training_on_the_cpu(settings: dict[str, Any]) -> None:
    """Without dropout the first epochs on CUDA agree with those on the CPU to float32 accuracy."""
    still = dataclasses.replace(MODEL, dropout=0.0)
    config = TrainConfig(epochs=2, batch_size=16, lr=1e-3, **settings)
    runs = [
        Training(still, config, train=TRAIN, validation=VALIDATION, num_words=WORDS, seed=0, device=device)
        for device in ("cpu", "cuda")
    ]
    for cpu, cuda in zip(*(fit(training) for training in runs), strict=True):
        assert math.isclose(cpu.val_loss, cuda.val_loss, abs_tol=1e-3)
        assert math.isclose(cpu.train_loss, cuda.train_loss, abs_tol=1e-3)
    again = measure(runs[1].kept_logits(), torch.from_numpy(VALIDATION.labels_C))
    assert math.isclose(again.loss, runs[1].kept_epoch.val_loss, abs_tol=1e-6)
    assert runs[1].label_smoothing_used == pytest.approx(config.label_smoothing, abs=1e-9)


# val_loss after each of ten epochs of a fixed tiny run. A refactor changes no number; a change needs a reason in the commit.
GOLDEN_LOSSES = [1.287871, 1.126507, 0.990046, 0.855169, 0.732593, 0.625057, 0.534357, 0.454993, 0.390742, 0.337623]


def test_golden_losses_of_a_tiny_run() -> None:
    """Ten epochs of a fixed tiny run give the recorded losses."""
    history = fit(make_training(seed=2024, epochs=10, lr=1e-3, label_smoothing=0.1, kernel="torch"))
    assert [record.val_loss for record in history] == pytest.approx(GOLDEN_LOSSES, abs=2e-4)
