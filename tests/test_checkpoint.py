"""A training resumed from a checkpoint equals an uninterrupted one; a damaged or mismatched file is refused."""

from __future__ import annotations

import dataclasses
import json
import pickle
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from test_training import MODEL, make_training

from data_utils.augment import AugmentConfig
from model import checkpoint
from model.checkpoint import BadCheckpoint, load_checkpoint, save_checkpoint
from model.objective import Objective
from model.training import Training, fit

ABOUT = "trial 3"


def make_dropout_training(epochs: int) -> Training:
    """A fresh training with dropout."""
    return make_training(epochs=epochs, model=replace(MODEL, dropout=0.3))


def numbers(training: Training) -> list[dict[str, float]]:
    """The history without its wall times."""
    rows = [dataclasses.asdict(record) for record in training.history]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_resumed_training_is_the_same_bit_for_bit(epochs: int, tmp_path: Path) -> None:
    """Curve, weights, kept weights and optimizer of a resumed training equal those of an uninterrupted one."""
    uninterrupted = make_dropout_training(6)
    fit(uninterrupted)
    first = make_dropout_training(6)
    for _ in range(epochs):
        first.run_epoch()
    save_checkpoint([first], tmp_path / "checkpoint", ABOUT)
    second = make_dropout_training(6)
    load_checkpoint([second], tmp_path / "checkpoint", ABOUT)
    assert second.history == first.history, "the seconds too"
    fit(second)
    assert numbers(second) == numbers(uninterrupted)
    ours, theirs = second.state()[0], uninterrupted.state()[0]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


EVERYTHING: dict[str, object] = {
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "warmup_epochs": 2,
    "schedule": "cosine",
    "clip_norm": 0.5,
    "ema": 0.9,
    "label_smoothing": 0.2,
    "label_smoothing_over": "wrong",
}


def make_several() -> list[Training]:
    """New trainings with everything that has a state or depends on the step number. The third ends before the others."""
    augment = AugmentConfig(flip=0.5, noise=1.0, noise_sd=0.1)
    last = Objective(metric="val_error", reduce="last")
    return [
        make_training(0, augment=augment, epochs=6, **EVERYTHING),
        make_training(1, augment=augment, epochs=6, objective=last, **EVERYTHING),
        make_training(2, epochs=4, batch_size=7),
    ]


def test_several_resumed_trainings_are_the_same_bit_for_bit(tmp_path: Path) -> None:
    """Trainings saved together, one of them not started and one finished, each continue as if uninterrupted."""
    uninterrupted, first, second = make_several(), make_several(), make_several()
    for training in uninterrupted:
        fit(training)
    for training, epochs in zip(first, (3, 0, 4), strict=True):
        for _ in range(epochs):
            training.run_epoch()
    save_checkpoint(first, tmp_path / "checkpoint", ABOUT)
    load_checkpoint(second, tmp_path / "checkpoint", ABOUT)
    assert [len(training.history) for training in second] == [3, 0, 4]
    for training, other in zip(second, uninterrupted, strict=True):
        fit(training)
        assert numbers(training) == numbers(other)
        ours, theirs = training.state(), other.state()
        assert ours[0].keys() == theirs[0].keys()
        assert all(torch.equal(ours[0][name], theirs[0][name]) for name in ours[0])
        assert ours[1]["order_rng"] == theirs[1]["order_rng"]
        assert ours[1]["augment_rng"] == theirs[1]["augment_rng"]
        assert torch.equal(training.kept_logits(), other.kept_logits())


def test_every_generator_resumes_where_it_was(tmp_path: Path) -> None:
    """The generators of order, augmentation and dropout draw the same numbers after a checkpoint as without."""
    first, second = make_training(), make_training()
    first.generators.order.random(3)
    first.generators.augment.random(5)
    first.generators.dropout.manual_seed(7)
    save_checkpoint([first], tmp_path / "checkpoint", ABOUT)
    load_checkpoint([second], tmp_path / "checkpoint", ABOUT)
    assert second.generators.order.random() == first.generators.order.random()
    assert second.generators.augment.random() == first.generators.augment.random()
    assert torch.equal(torch.rand(3, generator=second.generators.dropout), torch.rand(3, generator=first.generators.dropout))


def test_averaged_weights_are_saved_only_with_ema() -> None:
    """With `ema` the state holds another set of weights; states with and without them are not interchangeable."""
    with_average, without = make_training(ema=0.9), make_training()
    names = [name for name in with_average.state()[0] if name.startswith("averaged.")]
    assert len(names) == len(list(with_average.model.parameters()))
    assert not [name for name in without.state()[0] if name.startswith("averaged.")]
    for source, target in ((with_average, without), (without, with_average)):
        source.run_epoch()
        with pytest.raises((KeyError, RuntimeError)):
            target.set_state(*source.state())


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_trainings_is_refused(count: int, tmp_path: Path) -> None:
    """A checkpoint of two trainings cannot be loaded into another number of trainings."""
    save_checkpoint([make_training(0), make_training(1)], tmp_path / "checkpoint", ABOUT)
    with pytest.raises(BadCheckpoint, match=f"it holds 2 trainings, expected {count}"):
        load_checkpoint([make_training(seed) for seed in range(count)], tmp_path / "checkpoint", ABOUT)


def test_saving_changes_nothing(tmp_path: Path) -> None:
    """A training that is saved after each epoch gives the same numbers as one that is not."""
    uninterrupted, saved = make_dropout_training(4), make_dropout_training(4)
    fit(uninterrupted)

    def save(_: object) -> bool:
        save_checkpoint([saved], tmp_path / "checkpoint", ABOUT)
        return True

    fit(saved, save)
    assert numbers(saved) == numbers(uninterrupted)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A valid checkpoint."""
    training = make_training()
    training.run_epoch()
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint"
    save_checkpoint([training], path, ABOUT)
    return path.read_bytes()


class Evil:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return pytest.fail, ("the checkpoint ran code",)


def with_checksum(image: bytes) -> bytes:
    """An image with a matching header."""
    return checkpoint._MAGIC + b"%08x\n" % zlib.crc32(image) + image


def with_state(state: object) -> bytes:
    """A well-formed file with another state."""
    return with_checksum(save({"0.model.x": torch.zeros(1)}, {"about": ABOUT, "state": json.dumps(state)}))


def with_number(name: bytes) -> bytes:
    """A well-formed file with a tensor that belongs to no training."""
    return with_checksum(with_state([{}])[checkpoint._HEADER :].replace(b"0.model.x", name))


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda whole: b"", "not a checkpoint"),
    "truncated in the middle": (lambda whole: whole[: len(whole) // 2], "damaged"),
    "truncated in its header": (lambda whole: whole[:30], "damaged"),
    "one bit": (lambda whole: whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:], "damaged"),
    "longer": (lambda whole: whole + b"x", "damaged"),
    "another version": (lambda whole: whole.replace(b"checkpoint 2", b"checkpoint 1", 1), "not a checkpoint"),
    "a pickle": (lambda whole: pickle.dumps(Evil()), "not a checkpoint"),
    "a pickle inside": (lambda whole: with_checksum(pickle.dumps(Evil())), "does not fit"),
    "no image": (lambda whole: with_checksum(b""), "does not fit"),
    "other weights": (lambda whole: with_state([{"order_rng": {}, "augment_rng": {}, "history": []}]), "does not fit"),
    "other state": (lambda whole: with_state([[]]), "does not fit"),
    "state of another kind": (lambda whole: with_state(3), "does not fit"),
    "no training": (lambda whole: with_state([]), "it holds 0 trainings, expected 1"),
    "too high a number": (lambda whole: with_number(b"1.model.x"), "does not fit"),
    "no number": (lambda whole: with_number(b"x.model.x"), "does not fit"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_refused(case: str, written: bytes, tmp_path: Path) -> None:
    """A truncated, changed or forged file is refused with a reason, and no code is run."""
    damage, why = DAMAGE[case]
    (tmp_path / "checkpoint").write_bytes(damage(written))
    with pytest.raises(BadCheckpoint, match=why):
        load_checkpoint([make_training()], tmp_path / "checkpoint", ABOUT)


def test_another_trainings_checkpoint_is_refused(written: bytes, tmp_path: Path) -> None:
    """A checkpoint with another `about` or another shape of the model is refused."""
    (tmp_path / "checkpoint").write_bytes(written)
    with pytest.raises(BadCheckpoint, match="belongs to another training"):
        load_checkpoint([make_training()], tmp_path / "checkpoint", "trial 4")
    with pytest.raises(BadCheckpoint, match="does not fit"):
        load_checkpoint([make_training(model=replace(MODEL, width=32))], tmp_path / "checkpoint", ABOUT)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0), value=st.integers(1, 255))
def test_any_changed_byte_is_detected(place: int, value: int, written: bytes, tmp_path: Path) -> None:
    """A change of any byte of the file is detected."""
    changed = bytearray(written)
    changed[place % len(changed)] ^= value
    (tmp_path / "checkpoint").write_bytes(bytes(changed))
    with pytest.raises(BadCheckpoint):
        load_checkpoint([make_training()], tmp_path / "checkpoint", ABOUT)


def test_a_failed_write_keeps_the_previous_checkpoint(written: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a full disk the previous checkpoint remains, and no temporary file."""
    path = tmp_path / "checkpoint"
    path.write_bytes(written)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        save_checkpoint([make_training()], path, ABOUT)
    assert path.read_bytes() == written
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]
