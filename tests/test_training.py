"""The training loop: what it reports, what it depends on, and how it ends."""

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
from model import training as training_module
from model.config import ModelConfig, TrainConfig
from model.loss import SmoothedLoss, smoothing_floor
from model.metrics import calibration_error, measure
from model.objective import Metric, Objective, Reduce
from model.training import Diverged, Training, fit
from model.transformer import DeviceClips, logits_of

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


def make_training(
    seed: int = 0,
    *,
    model: ModelConfig = MODEL,
    augment: AugmentConfig = AugmentConfig(),
    objective: Objective = Objective(),
    share_with: DeviceClips | None = None,
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
        share_with=share_with,
    )


def losses(training: Training) -> list[tuple[float, float]]:
    """Training and validation loss of each epoch."""
    return [(record.train_loss, record.val_loss) for record in fit(training)]


def test_it_learns() -> None:
    """On signs that can be told apart, validation accuracy rises far above chance."""
    training = make_training(epochs=10)
    fit(training)
    assert training.kept_epoch.val_top1 > 0.8 > 3 / WORDS


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
    for name in ("val_loss", "val_top1", "val_top5", "val_ece", "val_ece_mass", "val_loss_ts", "temperature"):
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


OBJECTIVES = [Objective(metric=metric, reduce=reduce) for metric in get_args(Metric) for reduce in get_args(Reduce)]


NOISY = make_set(30, 2, noise=12.0)


def make_turning(objective: Objective) -> Training:
    """A short training on signs so noisy that val_loss, accuracy and the calibrated loss are best in different epochs."""
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
def test_the_kept_weights_are_those_of_the_epoch_that_speaks(objective: Objective) -> None:
    """After every epoch the kept weights give that epoch's numbers again, and asking for their logits changes no later one."""
    training, untouched = make_turning(objective), make_turning(objective)
    for _ in range(6):
        training.run_epoch()
        again = measure(training.kept_logits(), torch.from_numpy(NOISY.labels_C))
        best = training.kept_epoch
        assert best is objective.kept_epoch(training.history)
        assert (again.loss, again.top1, again.temperature) == (best.val_loss, best.val_top1, best.temperature)
    assert losses(untouched) == [(record.train_loss, record.val_loss) for record in training.history]


def test_objectives_differ_in_what_is_kept() -> None:
    """The run of the test above does turn: each metric has its best in another epoch, and not all in the last."""
    history = fit(make_turning(Objective()))
    assert len({Objective(metric=metric).kept_epoch(history).epoch for metric in get_args(Metric)}) == 3


def test_kept_logits_of_clips_longer_than_the_table_of_positions() -> None:
    """A table that grew while validating does no harm."""
    clips = clip_set([np.zeros((600, 260), np.float32), np.ones((3, 260), np.float32)], [0, 1])
    training = Training(MODEL, TrainConfig(epochs=2), train=TRAIN, validation=clips, num_words=WORDS, seed=0)
    fit(training)
    assert measure(training.kept_logits(), torch.from_numpy(clips.labels_C)).loss == training.kept_epoch.val_loss


def test_the_eps_in_use_is_the_eps_that_was_set() -> None:
    """In both readings; and a loss that is not what the settings say is found out."""
    for over in ("all", "wrong"):
        for eps in (0.0, 0.1, 0.5):
            training = make_training(label_smoothing=eps, label_smoothing_over=over)
            assert training.label_smoothing_used == pytest.approx(eps, abs=1e-9)
            training.loss = SmoothedLoss(0.25, WORDS, over)
            assert training.label_smoothing_used == pytest.approx(0.25, abs=1e-9)


def test_smoothing_over_the_wrong_words_in_training() -> None:
    """It trains as the same share over all words does, and more of it than the words can take is refused at the start."""
    assert losses(make_training(label_smoothing=0.3, label_smoothing_over="wrong")) == losses(
        make_training(label_smoothing=0.3 / ((WORDS - 1) / WORDS))
    )
    assert losses(make_training(label_smoothing=0.3, label_smoothing_over="wrong")) != losses(
        make_training(label_smoothing=0.3)
    )
    with pytest.raises(ValueError, match=r"at most 0\.75"):
        make_training(label_smoothing=0.8, label_smoothing_over="wrong")


def test_trainings_beside_each_other_share_their_frames() -> None:
    """Several trainings on parts of one set hold its frames once."""
    first = make_training()
    second = make_training(1, share_with=first.train)
    assert second.train.frames_NF is first.train.frames_NF
    assert losses(second) == losses(make_training(1))


def test_patience_ends_a_training() -> None:
    """With frozen weights nothing gains after the first epoch: so many more, and it ends; 0 runs to the last."""
    assert len(fit(make_training(lr=1e-30, epochs=9, patience=3))) == 4
    assert len(fit(make_training(lr=1e-30, epochs=9, patience=0))) == 9
    assert len(fit(make_training(lr=1e-30, epochs=3, patience=3))) == 3


@pytest.mark.parametrize("gains", ["val_loss", "val_loss_ts", "val_top1"])
def test_patience_looks_at_all_three(gains: str) -> None:
    """A gain in any of the three metrics goes on with the training, whatever the objective."""
    training = make_training(epochs=9, patience=2)
    record = training.run_epoch()
    change = {gains: min(1.0, record.val_top1 + 0.1) if gains == "val_top1" else 0.0}
    training.history = [record, dataclasses.replace(record, epoch=2), dataclasses.replace(record, epoch=3)]
    assert training.finished
    training.history[-1] = dataclasses.replace(training.history[-1], **change)
    assert not training.finished


def test_augmentation_acts_in_training_only() -> None:
    """Changed clips give another training loss, the same each time; with frozen weights validation stays what it was."""
    changed = AugmentConfig(flip=0.5, noise=1.0, noise_sd=0.5)
    assert losses(make_training(augment=changed)) == losses(make_training(augment=changed)) != losses(make_training())
    plain, other = (losses(make_training(augment=one, lr=1e-30, epochs=1))[0] for one in (AugmentConfig(), changed))
    assert plain[0] != other[0]
    assert plain[1] == other[1]


def test_augmentation_has_a_generator_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are made with the training's settings and with two generators; what augmentation draws changes no order."""
    seen = []
    real = training_module.augmented_batches

    def spy(clips: ClipSet, size: int, config: AugmentConfig, **others: Any) -> Iterator[Batch]:
        seen.append((config, others["frames_multiple"]))
        others["augment_rng"].random()
        return real(clips, size, config, **others)

    plain = losses(make_training())
    monkeypatch.setattr(training_module, "augmented_batches", spy)
    training = make_training()
    assert losses(training) == plain
    assert seen == [(AugmentConfig(), 1)] * 3
    start, end = make_training().state()[1], training.state()[1]
    assert start["augment_rng"] != start["order_rng"]
    assert start["augment_rng"] != end["augment_rng"]


def test_a_loss_that_is_not_finite_ends_the_training_with_a_reason() -> None:
    """A step size that blows the weights up is told by epoch and kind of loss."""
    with pytest.raises(Diverged, match=r"loss became (nan|inf) in epoch \d"):
        fit(make_training(lr=1e30))


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
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "cosine", "warmup_epochs": 1, "clip_norm": 0.5, "ema": 0.9},
        {"label_smoothing": 0.3, "label_smoothing_over": "wrong", "weight_decay": 0.01},
    ],
    ids=str,
)
def test_it_trains_on_cuda_as_on_the_cpu(settings: dict[str, Any]) -> None:
    """Without dropout the first epochs on CUDA agree with the CPU's to float32 accuracy."""
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
    history = fit(make_training(seed=2024, epochs=10, lr=1e-3, label_smoothing=0.1))
    assert [record.val_loss for record in history] == pytest.approx(GOLDEN_LOSSES, abs=2e-4)
