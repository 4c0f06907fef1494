"""Trainings in one stack: the numbers of each are those that it has alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from pretended_gpu import pretended_gpu

from data_utils.augment import AugmentConfig
from data_utils.prepared import ClipSet, clip_set
from model import lockstep
from model.config import MAY_DIFFER_IN_A_STACK, ModelConfig, TrainConfig
from model.flat import Places
from model.lockstep import run_epochs, stack_key
from model.loss import SmoothedLoss, StackedLoss, measure_smoothing
from model.record import EpochRecord
from model.stack import StackedModel
from model.training import Diverged, SharedOrder, Training

WORDS = 4


def make_set(count: int, seed: int) -> ClipSet:
    """Clips of which some frames are empty, and some are long."""
    rng = np.random.default_rng(seed)
    clips = []
    for _ in range(count):
        clip = rng.standard_normal((int(rng.integers(2, 40)), 260)).astype(np.float32)
        clip[rng.random(len(clip)) < 0.2] = 0
        clip[:2] = 1
        clips.append(clip)
    return clip_set(clips, rng.integers(0, WORDS, count), mask="detected")


TRAIN, VALIDATION = make_set(40, 1), make_set(15, 2)
TRAIN_OF_3 = dataclasses.replace(TRAIN, labels_C=TRAIN.labels_C % 3)


def make(
    seed: int,
    *,
    model: dict[str, Any] | None = None,
    augment: AugmentConfig = AugmentConfig(),
    validation: ClipSet | None = VALIDATION,
    first: int | None = 0,
    device: str = "cpu",
    words: int = WORDS,
    **config: Any,
) -> Training:
    """A training by PyTorch, with a shared order unless `first` is None."""
    return Training(
        ModelConfig(**{"width": 16, "ffn_width": 32, "layers": 2, "dropout": 0.2, **(model or {})}),
        TrainConfig(**{"epochs": 20, "batch_size": 8, "lr": 2e-3, "patience": 0, "kernel": "torch", **config}),
        augment,
        train=TRAIN if words == WORDS else TRAIN_OF_3,
        validation=validation,
        num_words=words,
        seed=seed,
        device=device,
        order=None if first is None else SharedOrder(5, first),
    )


def slots(count: int = 4, **settings: Any) -> list[Training]:
    """Trainings of one network whose other settings differ."""
    model = settings.pop("model", {})
    made = []
    for number in range(count):
        own = {"lr": 1e-3 * (number + 1), "label_smoothing": 0.1 * number, **settings}
        made.append(make(number, model={"dropout": 0.15 * number, **model}, **own))
    return made


def records(results: Sequence[EpochRecord | Diverged]) -> list[EpochRecord]:
    """The records of trainings that did not diverge."""
    assert all(isinstance(result, EpochRecord) for result in results)
    return [dataclasses.replace(result, seconds=0.0) for result in results if isinstance(result, EpochRecord)]


def assert_as_alone(together: Sequence[Training], alone: Sequence[Training], tolerance: float) -> None:
    """The histories and the weights agree."""
    for one, other in zip(together, alone, strict=True):
        for ours, theirs in zip(one.history, other.history, strict=True):
            assert math.isclose(ours.train_loss, theirs.train_loss, abs_tol=tolerance)
            assert math.isclose(ours.val_loss, theirs.val_loss, abs_tol=tolerance)
        for (name, a), b in zip(one.averaged.named_parameters(), other.averaged.parameters(), strict=True):
            if not name.endswith("qkv.bias"):  # the keys' bias has no effect: its gradient is rounding, which Adam scales up
                assert torch.allclose(a, b, atol=20 * tolerance), name


CASES: dict[str, dict[str, Any]] = {
    "article": {},
    "post-norm, other activation": {"model": {"norm_first": False, "activation": "gelu", "heads": 4}},
    "no biases, adamw, decay": {"model": {"bias": False}, "optimizer": "adamw", "weight_decay": 0.1},
    "decay, clipping, average, schedule": {
        "weight_decay": 0.01, "clip_norm": 0.3, "ema": 0.9, "schedule": "cosine", "warmup_epochs": 1
    },
    "average pooling": {"model": {"pooling": "average"}},
    "max pooling, wrong words": {"model": {"pooling": "max", "tail_norm": False}, "label_smoothing_over": "wrong"},
    "augmented": {"augment": AugmentConfig(flip=0.5, noise=0.5, crop=0.3)},
    "no dropout": {"model": {"dropout": 0.0}},
}  # fmt: skip


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_a_slot_has_the_numbers_that_it_has_alone(settings: dict[str, Any]) -> None:
    """After two epochs of five steps, with dropout, all losses agree within 1e-5 (the bar of the engine)."""
    together, alone = slots(**settings), slots(**settings)
    assert len({stack_key(training) for training in together}) == 1
    for _ in range(2):
        run_epochs(together, 4)
        for training in alone:
            training.run_epoch()
    assert_as_alone(together, alone, 1e-5)
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one.generators.dropout.get_state(), other.generators.dropout.get_state()) or not (
            other.model.config.dropout
        )


def test_slots_join_and_leave_between_epochs() -> None:
    """A training that begins later joins at the epoch that the others have come to; others end; all numbers are their own."""
    first = slots(3)
    run_epochs(first, 8)
    late = make(9, first=1, label_smoothing=0.3)
    assert {stack_key(training) for training in [*first, late]} == {stack_key(late)}
    together = [first[0], late, first[2]]
    run_epochs(together, 8)
    run_epochs(together, 8)
    alone = [slots(3)[0], make(9, first=1, label_smoothing=0.3), slots(3)[2]]
    for training, epochs in zip(alone, (3, 2, 3), strict=True):
        for _ in range(epochs):
            training.run_epoch()
    assert_as_alone(together, alone, 1e-5)
    assert stack_key(make(9, first=0)) != stack_key(late)


def test_trainings_of_one_seed_share_a_stack_without_a_shared_order() -> None:
    """As in a confirmation: the candidates of one seed draw the same order and augmentation, and go on as each would alone."""
    augment = AugmentConfig(flip=0.5)
    pairs = [[make(3, first=None, lr=lr, augment=augment) for lr in (1e-3, 3e-3)] for _ in range(2)]
    other = make(4, first=None, augment=augment)
    assert stack_key(pairs[0][0]) == stack_key(pairs[0][1]) != stack_key(other)
    run_epochs([*pairs[0], other], 4)
    for training in pairs[0]:  # the second epoch alone: every generator is where it would have been
        training.run_epoch()
    for training in pairs[1]:
        training.run_epoch()
        training.run_epoch()
    assert_as_alone(pairs[0], pairs[1], 1e-5)


def test_the_same_width_gives_the_same_numbers_bit_for_bit() -> None:
    """Twice the same stack: the same records. On the CPU also in stacks of two, and each in a stack of its own."""
    results = [records(run_epochs(slots(), width)) for width in (4, 4, 2, 1)]
    assert all(result == results[0] for result in results)


def test_a_slot_is_validated_with_the_same_batches_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The width decides how many frames are validated at once, not how many trainings there are."""
    monkeypatch.setattr(lockstep, "_VALIDATION_ROWS", 256)
    monkeypatch.setattr(lockstep, "LEAST_ROWS", 8)
    sizes = []
    real = lockstep.ordered_batches

    def spy(clips: ClipSet, rows: int, *rest: Any) -> Any:
        sizes.append(rows)
        return real(clips, rows, *rest)

    monkeypatch.setattr(lockstep, "ordered_batches", spy)
    together = records(run_epochs(slots(), 4))
    assert records(run_epochs(slots()[:1], 4)) == together[:1]
    assert sizes == [64, 64]


def test_on_a_gpu_a_stack_always_has_its_full_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the number of slots decides how sums are divided: copies fill it up, and change no number."""
    sizes = []
    real = StackedModel.__init__

    def spy(self: StackedModel, like: Any, places: Any, weights_SW: torch.Tensor) -> None:
        sizes.append(len(weights_SW))
        real(self, like, places, weights_SW)

    monkeypatch.setattr(StackedModel, "__init__", spy)
    with pretended_gpu():
        full, part = (records(run_epochs(slots(count, device="cuda", ema=0.9), 3)) for count in (3, 2))
    assert set(sizes) == {3}
    assert part == full[:2]


def test_a_training_that_diverges_changes_no_other() -> None:
    """One slot's weights become NaN; every other number is the same, bit for bit."""
    sane, spoiled = slots(), slots()
    with torch.no_grad():
        next(spoiled[1].model.parameters()).fill_(math.nan)
    expected, results = records(run_epochs(sane, 4)), run_epochs(spoiled, 4)
    assert isinstance(results[1], Diverged)
    assert not spoiled[1].history
    assert records([*results[:1], *results[2:]]) == [*expected[:1], *expected[2:]]
    for number in (0, 2, 3):
        pairs = zip(sane[number].model.parameters(), spoiled[number].model.parameters(), strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.parametrize("first", [0, None])
def test_an_epoch_that_fails_leaves_the_trainings_as_they_were(first: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory in the middle of an epoch: the narrower attempt gives the numbers that it would have given at once."""
    trainings, others = ([make(3, first=first, lr=lr) for lr in (1e-3, 2e-3)] for _ in range(2))
    for group in (trainings, others):
        run_epochs(group, 2)
    steps = copies = 0
    real, real_copy = lockstep.StackedAdam.step, lockstep.copied

    def failing(self: Any, number: int, gradients: torch.Tensor) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        real(self, number, gradients)

    def failing_copy(state: Any) -> Any:
        nonlocal copies
        copies += 1
        if copies == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real_copy(state)

    for name, value in (("StackedAdam.step", failing), ("copied", failing_copy)):
        with monkeypatch.context() as patch:
            patch.setattr(f"model.lockstep.{name}", value)
            with pytest.raises(torch.OutOfMemoryError):
                run_epochs(trainings, 2)
    assert (steps, copies) == (3, 2)
    assert records(run_epochs(trainings, 1)) == records(run_epochs(others, 1))


def test_a_checkpoint_of_a_slot_is_an_ordinary_one() -> None:
    """After an epoch in a stack, state and set_state continue alone with the same numbers, where the shared order is."""
    together = slots(2)
    run_epochs(together, 2)
    resumed = make(1, model={"dropout": 0.15}, lr=2e-3, label_smoothing=0.1, first=7)
    resumed.set_state(*together[1].state())
    assert resumed.clock == together[1].clock == 1
    assert resumed.run_epoch().val_loss == together[1].run_epoch().val_loss
    with pytest.raises(ValueError, match="another order"):
        make(1, first=None).set_state(*together[1].state())


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 4}, {"optimizer": "adamw"}, {"model": {"width": 8}}, {"augment": AugmentConfig(flip=0.1)}, {"first": 3},
     {"validation": None}],
    ids=str,
)  # fmt: skip
def test_different_trainings_do_not_share_a_stack(change: dict[str, Any]) -> None:
    """What decides the batches or the shape is part of the key; they are trained all the same, one after the other."""
    trainings = [make(0), make(0, **change)]
    assert stack_key(trainings[0]) != stack_key(trainings[1])
    results = records(run_epochs(trainings, 4))
    assert results[:1] == records(run_epochs([make(0)], 1))


def test_a_slot_that_is_not_clipped_is_not_touched_by_one_that_is() -> None:
    """Not even where its gradient is so large that its norm is infinite."""
    gradients = torch.full((2, 32), 1e20)

    def weights(clip_norm: float) -> torch.Tensor:
        matrices = [torch.zeros(2, 32) for _ in range(3)]
        configs = [TrainConfig(clip_norm=0.0), TrainConfig(clip_norm=clip_norm)]
        names = ("weights_SW", "averages_SW", "squares_SW")
        places = Places({"w": 0}, {"w": torch.Size([4, 8])}, 32, 32)
        adam = lockstep.StackedAdam(configs, [0, 0], 1, places, moving_SW=None, **dict(zip(names, matrices, strict=True)))
        adam.step(0, gradients.clone())
        return matrices[0][0]

    assert torch.equal(weights(1.0), weights(0.0))


def test_any_label_smoothing_can_be_searched() -> None:
    """Measured in a stack and alone, this eps lies on both sides of a rounding boundary of 12 decimal places."""
    eps = 0.5599043011314999
    loss = SmoothedLoss(eps, 3)
    assert measure_smoothing(loss, 3) != measure_smoothing(StackedLoss([loss], torch.device("cpu")).of_slot(0), 3)
    trainings = [make(seed, words=3, validation=None, label_smoothing=eps) for seed in range(2)]
    run_epochs(trainings, 2)
    assert [len(training.history) for training in trainings] == [1, 1]


def test_without_validation_the_last_weights_are_kept() -> None:
    """As alone: the metrics are NaN."""
    trainings = [make(number, validation=None) for number in range(2)]
    run_epochs(trainings, 2)
    assert all(math.isnan(training.history[0].val_loss) for training in trainings)
    assert all(training.kept_state for training in trainings)


def test_a_training_knows_the_width_of_its_stacks() -> None:
    """The width with which its numbers come back: lost when it changes, or when it also trains alone. Checkpoints keep it."""
    together = slots(2)
    run_epochs(together, 8)
    assert [training.stack for training in together] == [8, 8]
    resumed = make(1, model={"dropout": 0.15}, lr=2e-3, label_smoothing=0.1)
    resumed.set_state(*together[1].state())
    assert resumed.stack == 8
    run_epochs(together[:1], 4)
    resumed.run_epoch()
    alone = make(3)
    alone.run_epoch()
    assert (together[0].stack, resumed.stack, alone.stack) == (0, 0, None)


OTHER_VALUES = {
    "norm_first": False, "tail_norm": False, "bias": False, "activation": "gelu", "pooling": "max", "init": "reference",
    "label_smoothing_over": "wrong", "optimizer": "adamw", "schedule": "cosine", "precision": "tf32", "kernel": "auto",
    "dropout": 0.4, "label_smoothing": 0.3, "ema": 0.5,
}  # fmt: skip


@pytest.mark.parametrize(("group", "config"), [("model", ModelConfig), ("train", TrainConfig)])
def test_the_settings_that_may_differ_in_a_stack_are_those_that_the_key_ignores(group: str, config: Any) -> None:
    """Each setting in turn has another value: with an equal key if it is named, with another one if it is not."""
    usual = make(0, kernel="torch", warmup_epochs=1)
    for field in dataclasses.fields(config):
        settings = usual.model.config if group == "model" else usual.config
        now = getattr(settings, field.name)
        value = OTHER_VALUES.get(field.name, type(now)(2 * now or 2))
        changed = make(0, warmup_epochs=1)
        if group == "model":
            changed.model.config = dataclasses.replace(settings, **{field.name: value})
        else:
            changed.config = dataclasses.replace(settings, **{field.name: value})
        assert (stack_key(changed) == stack_key(usual)) == (f"{group}.{field.name}" in MAY_DIFFER_IN_A_STACK), field.name
