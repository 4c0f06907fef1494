"""Bundles: they predict like the model, are self-contained, and are refused if anything was changed."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from launch import ROOT, environment
from safetensors.torch import load, save

from data_utils.errors import DataError, ResourceError
from data_utils.hdf5 import read_unlabeled
from data_utils.normalize import PreprocessConfig, preprocess
from model import load_bundle
from model.bundle import CARD, CONFIG, LABELS, METRICS, SUMS, WEIGHTS, BundleError, require_new, write_bundle
from model.checkpoint import metadata_of
from model.config import ModelConfig
from model.transformer import TransformerEnISLR, logits

WORDS = ("listen", "聞く", "shhh")
SMALL = ModelConfig(width=16, ffn_width=24, layers=2)


def write(
    folder: Path,
    config: ModelConfig = SMALL,
    pre: PreprocessConfig = PreprocessConfig(),
    temperature: float = 1.7,
    words: tuple[str, ...] = WORDS,
    seed: int = 0,
) -> TransformerEnISLR:
    """A bundle of an untrained model."""
    model = TransformerEnISLR(config, len(words), torch.Generator().manual_seed(seed))
    write_bundle(
        folder,
        model=model,
        preprocess=pre,
        temperature=temperature,
        words=words,
        metrics={"schema": 2, "seed": seed},
        config=f"seed: {seed}\n",
        card="# A card\n",
    )
    return model


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle."""
    write(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture(scope="module")
def clips(tiny: Path) -> list[np.ndarray]:
    """Clips of realistic size and several lengths."""
    found = [clip for _, clip in read_unlabeled(tiny / "9001.hdf5")]
    assert all(isinstance(clip, np.ndarray) for clip in found)
    return [clip for clip in found if isinstance(clip, np.ndarray)][:8]


@pytest.mark.parametrize("pooling", ["none", "average", "max"])
@pytest.mark.parametrize(
    "pre", [PreprocessConfig(), PreprocessConfig(align="unique", scale="framewise", mask="detected")], ids=str
)
def test_predictions_are_those_of_the_model(
    pooling: Any, pre: PreprocessConfig, tmp_path: Path, clips: list[np.ndarray]
) -> None:
    """Probabilities are the softmax of the logits divided by the temperature, independent of the other clips."""
    model = write(tmp_path / "b", ModelConfig(width=16, ffn_width=24, pooling=pooling), pre)
    bundle = load_bundle(tmp_path / "b")
    raw = logits(model, [preprocess(clip, pre) for clip in clips], mask=pre.mask).astype(np.float64) / 1.7
    expected = np.exp(raw - raw.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    found = bundle.probabilities(clips)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(np.concatenate([bundle.probabilities([clip]) for clip in clips]), found, atol=1e-6)
    for guesses, row in zip(bundle.predict(clips, top=2), found, strict=True):
        assert [guess.probability for guess in guesses] == sorted(row.tolist(), reverse=True)[:2]
        assert guesses[0].word == WORDS[int(row.argmax())]
    assert [len(guesses) for guesses in bundle.predict(clips[:1], top=9)] == [3]
    assert bundle.predict([]) == []


def test_invalid_clips_are_refused(bundle: Path, tmp_path: Path, clips: list[np.ndarray]) -> None:
    """The error names the number of the clip."""
    loaded = load_bundle(bundle)
    for wrong in (
        clips[0][:2],
        clips[0].transpose(2, 0, 1),
        clips[0][:, :0],
        np.full_like(clips[0], np.nan),
        clips[0] * 1e6,
        np.zeros(clips[0].shape, np.int64),
    ):
        with pytest.raises(DataError) as caught:
            loaded.predict([clips[0], wrong])
        assert "clip 1" in str(caught.value)
    with pytest.raises(ValueError, match="top is 0"):
        loaded.predict(clips, top=0)
    write(tmp_path / "half precision", ModelConfig(width=16, pooling="average"))
    with pytest.raises(DataError, match="too short for this model"):
        load_bundle(tmp_path / "half precision").predict([clips[0][:, :1]])


@pytest.mark.parametrize("name", [WEIGHTS, LABELS, METRICS, CONFIG, SUMS])
def test_any_change_is_refused(name: str, bundle: Path) -> None:
    """A flipped bit, added bytes, a file truncated anywhere, and a missing or empty file are refused."""
    path = bundle / name
    whole = path.read_bytes()
    places = sorted({*range(0, len(whole), max(1, len(whole) // 40)), len(whole) - 1})
    damaged = [whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :] for n in places]
    damaged += [whole[:n] for n in places]
    damaged += [whole + b"\0", whole + b"\n", whole + whole]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(BundleError):
            load_bundle(bundle)
    path.unlink()
    with pytest.raises(BundleError):
        load_bundle(bundle)
    path.write_bytes(whole)
    assert load_bundle(bundle).words == WORDS


def test_files_of_two_models_are_refused(bundle: Path, tmp_path: Path) -> None:
    """Files of two models are refused even if each file is intact."""
    write(tmp_path / "other", seed=1, words=("a", "b", "c"))
    for name in (WEIGHTS, LABELS, METRICS, CONFIG):
        whole = (bundle / name).read_bytes()
        shutil.copy(tmp_path / "other" / name, bundle / name)
        with pytest.raises(BundleError, match="truncated or changed"):
            load_bundle(bundle)
        (bundle / name).write_bytes(whole)


def test_the_card_may_be_changed(bundle: Path) -> None:
    """The card may be edited or deleted."""
    (bundle / CARD).write_text("My notes.", encoding="utf-8")
    load_bundle(bundle)
    (bundle / CARD).unlink()
    load_bundle(bundle)


def update_digests(folder: Path) -> None:
    """Updates the digests, as an attacker would."""
    names = [name for name in (WEIGHTS, LABELS, METRICS, CONFIG) if (folder / name).exists()]
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(sums), encoding="ascii")


def weights(change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    """Changes the metadata and the tensors of the file of weights."""

    def act(folder: Path) -> None:
        image = (folder / WEIGHTS).read_bytes()
        about, tensors = json.loads(metadata_of(image)["islr_search"]), load(image)
        change(about, tensors)
        (folder / WEIGHTS).write_bytes(save(tensors, {"islr_search": json.dumps(about)}))

    return act


FORGERIES: dict[str, Callable[[Path], object]] = {
    "a wide network": weights(lambda about, _: about["model"].update(width=10**9)),
    "a deep network": weights(lambda about, _: about["model"].update(layers=10**9)),
    "a network with a wide feed-forward block": weights(lambda about, _: about["model"].update(ffn_width=10**9)),
    "a deep network with first and last layers": weights(
        lambda about, tensors: (
            about["model"].update(layers=10**6),
            tensors.update({"layers.999999.feed_forward.expand.weight": torch.zeros(24, 16)}),
        )
    ),
    "no layer": weights(lambda about, _: about["model"].update(layers=0)),
    "heads that do not divide": weights(lambda about, _: about["model"].update(heads=3)),
    "another norm": weights(lambda about, _: about["model"].update(norm_first=False)),
    "an unknown setting": weights(lambda about, _: about["model"].update(extra=1)),
    "an unknown activation": weights(lambda about, _: about["model"].update(activation="system")),
    "settings as a list": weights(lambda about, _: about.update(model=[])),
    "no settings": weights(lambda about, _: about.pop("preprocess")),
    "no temperature": weights(lambda about, _: about.update(temperature=float("nan"))),
    "temperature 0": weights(lambda about, _: about.update(temperature=0)),
    "a huge temperature": weights(lambda about, _: about.update(temperature=10**400)),
    "another format": weights(lambda about, _: about.update(format="islr-search bundle 9")),
    "NaN among the weights": weights(lambda _, tensors: tensors["head.weight"].fill_(torch.nan)),
    "a missing weight": weights(lambda _, tensors: tensors.pop("head.bias")),
    "an extra weight": weights(lambda _, tensors: tensors.update(extra=torch.zeros(1))),
    "half precision": weights(lambda _, tensors: tensors.update({"head.weight": tensors["head.weight"].half()})),
    "another shape": weights(lambda _, tensors: tensors.update({"head.weight": tensors["head.weight"][:2]})),
    "no metadata": lambda folder: (folder / WEIGHTS).write_bytes(save({"a": torch.zeros(1)})),
    "an empty file": lambda folder: (folder / WEIGHTS).write_bytes(b""),
    "a header of a huge length": lambda folder: (folder / WEIGHTS).write_bytes(b"\xff" * 64),
    "deeply nested metrics": lambda folder: (folder / METRICS).write_text("[" * 100_000, encoding="utf-8"),
    "metrics as a list": lambda folder: (folder / METRICS).write_text("[]", encoding="utf-8"),
    "an extra word": lambda folder: (folder / LABELS).write_text('{"a": 0, "b": 1, "c": 2, "d": 3}', encoding="utf-8"),
    "a class number twice": lambda folder: (folder / LABELS).write_text('{"a": 0, "b": 1, "c": 1}', encoding="utf-8"),
    "words that are numbers": lambda folder: (folder / LABELS).write_text("[0, 1, 2]", encoding="utf-8"),
}


def test_every_layer_is_checked_before_the_network_is_built(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing layer is reported before the network takes memory."""
    FORGERIES["a deep network with first and last layers"](bundle)
    update_digests(bundle)
    monkeypatch.setattr("model.bundle.TransformerEnISLR", lambda *_: pytest.fail("the network was built"))
    with pytest.raises(BundleError) as caught:
        load_bundle(bundle)
    assert caught.value.got == "layers.2.feed_forward.expand.weight is None, expected (24, 16)"


@pytest.mark.parametrize("what", FORGERIES)
def test_forged_files_with_matching_digests_are_refused(what: str, bundle: Path) -> None:
    """Forged files are refused without taking the memory that they claim."""
    FORGERIES[what](bundle)
    update_digests(bundle)
    with pytest.raises(BundleError):
        load_bundle(bundle)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "README.md", ""])
def test_the_digests_name_only_files_of_the_bundle(name: str, bundle: Path) -> None:
    """The list of digests cannot make the loader read another file."""
    (bundle.parent / "outside").write_bytes(b"")
    with (bundle / SUMS).open("a", encoding="ascii") as stream:
        stream.write(f"{hashlib.sha256(b'').hexdigest()}  {name}\n")
    with pytest.raises(BundleError, match="names an unexpected file"):
        load_bundle(bundle)


def test_loading_runs_no_code(bundle: Path, tmp_path: Path) -> None:
    """Neither a pickle instead of the weights nor YAML that calls a function is executed."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    for content in (pickle.dumps(Trap()), b"PK\x03\x04" + pickle.dumps(Trap())):
        (bundle / WEIGHTS).write_bytes(content)
        update_digests(bundle)
        with pytest.raises(BundleError):
            load_bundle(bundle)
    write(tmp_path / "other")
    trap = f'study: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ["{tmp_path / "ran"}"]]\n'
    (tmp_path / "other" / CONFIG).write_text(trap, encoding="utf-8")
    update_digests(tmp_path / "other")
    load_bundle(tmp_path / "other")
    command = [sys.executable, "-m", "search", "retrain", str(tmp_path / "other" / CONFIG)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "error: this is not valid YAML" in done.stderr.splitlines()
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Trap()))
    assert (tmp_path / "ran").exists(), "the trap works when it is unpickled"


ALONE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(name)
ABSENT = {"optuna", "optuna_dashboard", "sqlalchemy", "plotly", "matplotlib", "typer", "rich", "yaml", "search"}
sys.meta_path.insert(0, Absent())
import numpy as np
from model import load_bundle
clip = np.load(sys.argv[2])
for guess in load_bundle(sys.argv[1]).predict([clip])[0]:
    print(guess.word, repr(guess.probability))
"""


def test_a_bundle_is_self_contained(bundle: Path, tmp_path: Path, clips: list[np.ndarray]) -> None:
    """In a new process, in another folder, without Optuna and the search, predictions are the same."""
    expected = [f"{guess.word} {guess.probability!r}" for guess in load_bundle(bundle).predict(clips[:1])[0]]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(bundle, elsewhere / "moved")
    np.save(elsewhere / "clip.npy", clips[0])
    done = subprocess.run(
        [sys.executable, "-c", ALONE, "moved", "clip.npy"],
        cwd=elsewhere,
        env=environment({"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert (done.stdout.splitlines(), done.stderr) == (expected, "")


def test_nothing_is_overwritten(bundle: Path, tmp_path: Path) -> None:
    """A non-empty folder and a file are kept; an empty folder is used."""
    before = (bundle / WEIGHTS).read_bytes()
    with pytest.raises(BundleError, match="already exists"):
        write(bundle, seed=5)
    assert (bundle / WEIGHTS).read_bytes() == before
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(BundleError, match="already exists"):
        write(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    load_bundle(tmp_path / "empty")


def test_an_unusable_path_is_refused_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link, even to an empty folder or to nothing, a mount point, a path below a file and a too long name are refused."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "loose").symlink_to("nowhere")
    for name in ("link", "loose"):
        with pytest.raises(BundleError, match="is a symbolic link"):
            require_new(tmp_path / name)
    for name in ("file/model", "new/" + "m" * 250):
        with pytest.raises(ResourceError, match="cannot be written"):
            require_new(tmp_path / name)
    monkeypatch.setattr("os.path.ismount", lambda path: path == tmp_path / "empty")
    with pytest.raises(BundleError, match="is a mount point"):
        require_new(tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "link", "loose"]


def test_a_folder_that_cannot_be_renamed_is_refused_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the operating system becomes a ResourceError, and nothing is changed."""

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("pathlib.Path.rename", busy)
    with pytest.raises(ResourceError) as caught:
        require_new(tmp_path / "empty")
    assert caught.value.got == "Device or resource busy"
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_the_check_leaves_no_trace(tmp_path: Path) -> None:
    """Neither new parent folders remain, nor is an empty folder replaced by another."""
    (tmp_path / "empty").mkdir(mode=0o700)
    before = (tmp_path / "empty").stat()
    require_new(tmp_path / "empty")
    require_new(tmp_path / "new" / "deep" / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    after = (tmp_path / "empty").stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while writing leaves neither a folder nor temporary files."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("model.bundle.words_text", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "folder" / "bundle")
    assert list((tmp_path / "folder").iterdir()) == []


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    """The files do not depend on time or chance."""
    for name in ("a", "b"):
        write(tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("name", ["nowhere", "file", "folder"])
def test_what_is_not_a_bundle_is_refused(name: str, tmp_path: Path) -> None:
    """The error says which command writes a bundle."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BundleError) as caught:
        load_bundle(tmp_path / name)
    assert "export --model" in str(caught.value)
