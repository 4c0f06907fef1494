"""A training that is put aside goes on as if it had not been; a file that is not what it was is refused."""

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


def dropping(epochs: int) -> Training:
    """A fresh training with dropout."""
    return make_training(epochs=epochs, model=replace(MODEL, dropout=0.3))


def numbers(training: Training) -> list[dict[str, float]]:
    """The record without its wall times."""
    rows = [dataclasses.asdict(record) for record in training.history]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.parametrize("epochs", [1, 3])
def test_it_goes_on_bit_for_bit(epochs: int, tmp_path: Path) -> None:
    """Curve, weights, best weights and optimiser of a resumed training are those of one in peace."""
    peace = dropping(6)
    fit(peace)
    first = dropping(6)
    for _ in range(epochs):
        first.run_epoch()
    save_checkpoint([first], tmp_path / "checkpoint", ABOUT)
    second = dropping(6)
    load_checkpoint([second], tmp_path / "checkpoint", ABOUT)
    assert second.history == first.history, "the seconds too"
    fit(second)
    assert numbers(second) == numbers(peace)
    ours, theirs = second.state()[0], peace.state()[0]
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


def several() -> list[Training]:
    """Fresh trainings with everything that has a state or follows the step number. The third ends before the others."""
    augment = AugmentConfig(flip=0.5, noise=1.0, noise_sd=0.1)
    last = Objective(metric="val_error", reduce="last")
    return [
        make_training(0, augment=augment, epochs=6, **EVERYTHING),
        make_training(1, augment=augment, epochs=6, objective=last, **EVERYTHING),
        make_training(2, epochs=4, batch_size=7),
    ]


def test_several_trainings_go_on_bit_for_bit(tmp_path: Path) -> None:
    """Trainings put aside together, one of them not begun, one all but done, go on as in peace, each as itself."""
    peace, first, second = several(), several(), several()
    for training in peace:
        fit(training)
    for training, epochs in zip(first, (3, 0, 4), strict=True):
        for _ in range(epochs):
            training.run_epoch()
    save_checkpoint(first, tmp_path / "checkpoint", ABOUT)
    load_checkpoint(second, tmp_path / "checkpoint", ABOUT)
    assert [len(training.history) for training in second] == [3, 0, 4]
    for training, other in zip(second, peace, strict=True):
        fit(training)
        assert numbers(training) == numbers(other)
        ours, theirs = training.state(), other.state()
        assert ours[0].keys() == theirs[0].keys()
        assert all(torch.equal(ours[0][name], theirs[0][name]) for name in ours[0])
        assert ours[1]["order_rng"] == theirs[1]["order_rng"]
        assert ours[1]["augment_rng"] == theirs[1]["augment_rng"]
        assert torch.equal(training.kept_logits(), other.kept_logits())


def test_every_generator_goes_on_where_it_was(tmp_path: Path) -> None:
    """Order, augmentation and dropout draw after a checkpoint what they would have drawn without."""
    first, second = make_training(), make_training()
    first.order_rng.random(3)
    first.augment_rng.random(5)
    first.dropout_rng.manual_seed(7)
    save_checkpoint([first], tmp_path / "checkpoint", ABOUT)
    load_checkpoint([second], tmp_path / "checkpoint", ABOUT)
    assert second.order_rng.random() == first.order_rng.random()
    assert second.augment_rng.random() == first.augment_rng.random()
    assert torch.equal(torch.rand(3, generator=second.dropout_rng), torch.rand(3, generator=first.dropout_rng))


def test_averaged_weights_are_kept_only_where_there_are_any() -> None:
    """With `ema` the state holds one more set of weights; without, none, and one that has them is refused."""
    with_average, without = make_training(ema=0.9), make_training()
    names = [name for name in with_average.state()[0] if name.startswith("averaged.")]
    assert len(names) == len(list(with_average.model.parameters()))
    assert not [name for name in without.state()[0] if name.startswith("averaged.")]
    for giver, taker in ((with_average, without), (without, with_average)):
        giver.run_epoch()
        with pytest.raises((KeyError, RuntimeError)):
            taker.set_state(*giver.state())


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_trainings_is_refused(count: int, tmp_path: Path) -> None:
    """Two trainings cannot be taken up as one or three."""
    save_checkpoint([make_training(0), make_training(1)], tmp_path / "checkpoint", ABOUT)
    with pytest.raises(BadCheckpoint, match=f"it holds 2 trainings, expected {count}"):
        load_checkpoint([make_training(seed) for seed in range(count)], tmp_path / "checkpoint", ABOUT)


def test_saving_changes_nothing(tmp_path: Path) -> None:
    """A training that is saved after each epoch gives the numbers of one that is not."""
    peace, saved = dropping(4), dropping(4)
    fit(peace)

    def save_it(_: object) -> bool:
        save_checkpoint([saved], tmp_path / "checkpoint", ABOUT)
        return True

    fit(saved, save_it)
    assert numbers(saved) == numbers(peace)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A sound checkpoint."""
    training = make_training()
    training.run_epoch()
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint"
    save_checkpoint([training], path, ABOUT)
    return path.read_bytes()


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return pytest.fail, ("the checkpoint ran code",)


def sealed(image: bytes) -> bytes:
    """An image with a head that fits it."""
    return checkpoint._MAGIC + b"%08x\n" % zlib.crc32(image) + image


def with_state(state: object) -> bytes:
    """A well-formed file whose state is something else."""
    return sealed(save({"0.model.x": torch.zeros(1)}, {"about": ABOUT, "state": json.dumps(state)}))


def with_number(name: bytes) -> bytes:
    """A well-formed file with a tensor that belongs to no training."""
    return sealed(with_state([{}])[checkpoint._HEADER :].replace(b"0.model.x", name))


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda whole: b"", "not a checkpoint"),
    "cut in half": (lambda whole: whole[: len(whole) // 2], "damaged"),
    "cut in its head": (lambda whole: whole[:30], "damaged"),
    "one bit": (lambda whole: whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:], "damaged"),
    "longer": (lambda whole: whole + b"x", "damaged"),
    "another version": (lambda whole: whole.replace(b"checkpoint 2", b"checkpoint 1", 1), "not a checkpoint"),
    "a pickle": (lambda whole: pickle.dumps(Evil()), "not a checkpoint"),
    "a pickle inside": (lambda whole: sealed(pickle.dumps(Evil())), "does not fit"),
    "no image": (lambda whole: sealed(b""), "does not fit"),
    "other weights": (lambda whole: with_state([{"order_rng": {}, "augment_rng": {}, "history": []}]), "does not fit"),
    "other state": (lambda whole: with_state([[]]), "does not fit"),
    "state of another kind": (lambda whole: with_state(3), "does not fit"),
    "no training": (lambda whole: with_state([]), "it holds 0 trainings, expected 1"),
    "a number too many": (lambda whole: with_number(b"1.model.x"), "does not fit"),
    "no number": (lambda whole: with_number(b"x.model.x"), "does not fit"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_refused(case: str, written: bytes, tmp_path: Path) -> None:
    """Cut, changed or forged: refused with a reason, and nothing is run."""
    harm, why = DAMAGE[case]
    (tmp_path / "checkpoint").write_bytes(harm(written))
    with pytest.raises(BadCheckpoint, match=why):
        load_checkpoint([make_training()], tmp_path / "checkpoint", ABOUT)


def test_another_trainings_checkpoint_is_refused(written: bytes, tmp_path: Path) -> None:
    """The text about it decides; another shape of the model does not fit either."""
    (tmp_path / "checkpoint").write_bytes(written)
    with pytest.raises(BadCheckpoint, match="belongs to another training"):
        load_checkpoint([make_training()], tmp_path / "checkpoint", "trial 4")
    with pytest.raises(BadCheckpoint, match="does not fit"):
        load_checkpoint([make_training(model=replace(MODEL, width=32))], tmp_path / "checkpoint", ABOUT)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0), value=st.integers(1, 255))
def test_any_changed_byte_is_noticed(place: int, value: int, written: bytes, tmp_path: Path) -> None:
    """No byte of the file can change unnoticed."""
    changed = bytearray(written)
    changed[place % len(changed)] ^= value
    (tmp_path / "checkpoint").write_bytes(bytes(changed))
    with pytest.raises(BadCheckpoint):
        load_checkpoint([make_training()], tmp_path / "checkpoint", ABOUT)


def test_a_failed_write_leaves_the_last_one(written: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full costs the new checkpoint, not the old one, and leaves no litter."""
    path = tmp_path / "checkpoint"
    path.write_bytes(written)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        save_checkpoint([make_training()], path, ABOUT)
    assert path.read_bytes() == written
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint"]
