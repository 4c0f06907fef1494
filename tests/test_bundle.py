"""A model as a folder: it answers as the model did, stands alone, and is refused when anything about it is not as written."""

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
    """Real-sized clips of several lengths."""
    found = [clip for _, clip in read_unlabeled(tiny / "9001.hdf5")]
    assert all(isinstance(clip, np.ndarray) for clip in found)
    return [clip for clip in found if isinstance(clip, np.ndarray)][:8]


@pytest.mark.parametrize("pooling", ["none", "average", "max"])
@pytest.mark.parametrize(
    "pre", [PreprocessConfig(), PreprocessConfig(align="unique", scale="framewise", mask="detected")], ids=str
)
def test_answers_are_those_of_the_model(pooling: Any, pre: PreprocessConfig, tmp_path: Path, clips: list[np.ndarray]) -> None:
    """Softmax of the logits divided by the temperature, for each clip as if it were alone."""
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


def test_what_cannot_be_asked(bundle: Path, tmp_path: Path, clips: list[np.ndarray]) -> None:
    """Said by the number of the clip."""
    asked = load_bundle(bundle)
    for wrong in (
        clips[0][:2],
        clips[0].transpose(1, 2, 0),
        clips[0][:, :0],
        np.full_like(clips[0], np.nan),
        clips[0] * 1e6,
        np.zeros(clips[0].shape, np.int64),
    ):
        with pytest.raises(DataError) as caught:
            asked.predict([clips[0], wrong])
        assert "clip 1" in str(caught.value)
    with pytest.raises(ValueError, match="top is 0"):
        asked.predict(clips, top=0)
    write(tmp_path / "halves", ModelConfig(width=16, pooling="average"))
    with pytest.raises(DataError, match="too short for this model"):
        load_bundle(tmp_path / "halves").predict([clips[0][:, :1]])


@pytest.mark.parametrize("name", [WEIGHTS, LABELS, METRICS, CONFIG, SUMS])
def test_any_change_is_refused(name: str, bundle: Path) -> None:
    """A bit anywhere, a byte more, a file cut at any place, a file that is gone or empty."""
    path = bundle / name
    whole = path.read_bytes()
    places = sorted({*range(0, len(whole), max(1, len(whole) // 40)), len(whole) - 1})
    spoilt = [whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :] for n in places]
    spoilt += [whole[:n] for n in places]
    spoilt += [whole + b"\0", whole + b"\n", whole + whole]
    for content in spoilt:
        path.write_bytes(content)
        with pytest.raises(BundleError):
            load_bundle(bundle)
    path.unlink()
    with pytest.raises(BundleError):
        load_bundle(bundle)
    path.write_bytes(whole)
    assert load_bundle(bundle).words == WORDS


def test_parts_of_two_models_are_refused(bundle: Path, tmp_path: Path) -> None:
    """Also where each file is whole."""
    write(tmp_path / "other", seed=1, words=("a", "b", "c"))
    for name in (WEIGHTS, LABELS, METRICS, CONFIG):
        whole = (bundle / name).read_bytes()
        shutil.copy(tmp_path / "other" / name, bundle / name)
        with pytest.raises(BundleError, match="truncated or changed"):
            load_bundle(bundle)
        (bundle / name).write_bytes(whole)


def test_the_card_is_its_owners(bundle: Path) -> None:
    """They may write in it, or leave it out."""
    (bundle / CARD).write_text("Ask me.", encoding="utf-8")
    load_bundle(bundle)
    (bundle / CARD).unlink()
    load_bundle(bundle)


def sign_again(folder: Path) -> None:
    """What somebody does who means harm: the digests are made to fit."""
    names = [name for name in (WEIGHTS, LABELS, METRICS, CONFIG) if (folder / name).exists()]
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(sums), encoding="ascii")


def weights(change: Callable[[dict[str, Any], dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    """Changes what the file of weights says and holds."""

    def act(folder: Path) -> None:
        image = (folder / WEIGHTS).read_bytes()
        about, tensors = json.loads(metadata_of(image)["islr_search"]), load(image)
        change(about, tensors)
        (folder / WEIGHTS).write_bytes(save(tensors, {"islr_search": json.dumps(about)}))

    return act


HARM: dict[str, Callable[[Path], object]] = {
    "a wide network": weights(lambda about, _: about["model"].update(width=10**9)),
    "a deep network": weights(lambda about, _: about["model"].update(layers=10**9)),
    "a fat network": weights(lambda about, _: about["model"].update(ffn_width=10**9)),
    "a deep network with both ends": weights(
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
    "a temperature without end": weights(lambda about, _: about.update(temperature=10**400)),
    "another format": weights(lambda about, _: about.update(format="islr-search bundle 9")),
    "NaN among the weights": weights(lambda _, tensors: tensors["head.weight"].fill_(torch.nan)),
    "a weight less": weights(lambda _, tensors: tensors.pop("head.bias")),
    "a weight more": weights(lambda _, tensors: tensors.update(extra=torch.zeros(1))),
    "halves": weights(lambda _, tensors: tensors.update({"head.weight": tensors["head.weight"].half()})),
    "another shape": weights(lambda _, tensors: tensors.update({"head.weight": tensors["head.weight"][:2]})),
    "no metadata": lambda folder: (folder / WEIGHTS).write_bytes(save({"a": torch.zeros(1)})),
    "nothing": lambda folder: (folder / WEIGHTS).write_bytes(b""),
    "a header of any length": lambda folder: (folder / WEIGHTS).write_bytes(b"\xff" * 64),
    "deep metrics": lambda folder: (folder / METRICS).write_text("[" * 100_000, encoding="utf-8"),
    "metrics as a list": lambda folder: (folder / METRICS).write_text("[]", encoding="utf-8"),
    "a word more": lambda folder: (folder / LABELS).write_text('{"a": 0, "b": 1, "c": 2, "d": 3}', encoding="utf-8"),
    "a class number twice": lambda folder: (folder / LABELS).write_text('{"a": 0, "b": 1, "c": 1}', encoding="utf-8"),
    "words that are numbers": lambda folder: (folder / LABELS).write_text("[0, 1, 2]", encoding="utf-8"),
}


def test_every_layer_is_looked_for(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any is built."""
    HARM["a deep network with both ends"](bundle)
    sign_again(bundle)
    monkeypatch.setattr("model.bundle.TransformerEnISLR", lambda *_: pytest.fail("a network is built"))
    with pytest.raises(BundleError) as caught:
        load_bundle(bundle)
    assert caught.value.got == "layers.2.feed_forward.expand.weight is None, expected (24, 16)"


@pytest.mark.parametrize("what", HARM)
def test_harm_with_fitting_digests(what: str, bundle: Path) -> None:
    """Refused as not fitting together, without taking the memory that it claims."""
    HARM[what](bundle)
    sign_again(bundle)
    with pytest.raises(BundleError):
        load_bundle(bundle)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "README.md", ""])
def test_the_list_names_files_of_the_bundle_only(name: str, bundle: Path) -> None:
    """It cannot make the loader read another file."""
    (bundle.parent / "outside").write_bytes(b"")
    with (bundle / SUMS).open("a", encoding="ascii") as stream:
        stream.write(f"{hashlib.sha256(b'').hexdigest()}  {name}\n")
    with pytest.raises(BundleError, match="names an unexpected file"):
        load_bundle(bundle)


def test_nothing_in_it_runs(bundle: Path, tmp_path: Path) -> None:
    """A pickle instead of weights, and YAML that asks for a call: neither is carried out."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    for content in (pickle.dumps(Trap()), b"PK\x03\x04" + pickle.dumps(Trap())):
        (bundle / WEIGHTS).write_bytes(content)
        sign_again(bundle)
        with pytest.raises(BundleError):
            load_bundle(bundle)
    write(tmp_path / "other")
    trap = f'study: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ["{tmp_path / "ran"}"]]\n'
    (tmp_path / "other" / CONFIG).write_text(trap, encoding="utf-8")
    sign_again(tmp_path / "other")
    load_bundle(tmp_path / "other")
    command = [sys.executable, "-m", "search", "retrain", str(tmp_path / "other" / CONFIG)]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: this is not valid YAML")
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Trap()))
    assert (tmp_path / "ran").exists(), "the trap works where somebody steps into it"


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


def test_it_stands_alone(bundle: Path, tmp_path: Path, clips: list[np.ndarray]) -> None:
    """In a fresh process, elsewhere, without Optuna and the rest of the search, it says the same."""
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


def test_nothing_is_written_over(bundle: Path, tmp_path: Path) -> None:
    """A folder that holds something, and a file, are left as they are; an empty folder is taken."""
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


def test_a_place_where_none_can_be_is_known_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link, also to an empty folder or to nothing; a disk of its own; a place below a file; a name that is too long."""
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


def test_a_folder_that_cannot_give_way_is_known_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the system has something to say that nothing here knows of."""

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("pathlib.Path.rename", busy)
    with pytest.raises(ResourceError) as caught:
        require_new(tmp_path / "empty")
    assert caught.value.got == "Device or resource busy"
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_looking_leaves_no_trace(tmp_path: Path) -> None:
    """Neither folders that were made for it, nor another folder in the place of an empty one."""
    (tmp_path / "empty").mkdir(mode=0o700)
    before = (tmp_path / "empty").stat()
    require_new(tmp_path / "empty")
    require_new(tmp_path / "new" / "deep" / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    after = (tmp_path / "empty").stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


def test_half_of_one_is_never_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error on the way leaves nothing, neither at the place nor beside it."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("model.bundle.words_text", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "folder" / "bundle")
    assert list((tmp_path / "folder").iterdir()) == []


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    """Nothing of time or chance is in the files."""
    for name in ("a", "b"):
        write(tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("place", ["nowhere", "file", "folder"])
def test_no_bundle(place: str, tmp_path: Path) -> None:
    """Refused with a word on where one comes from."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BundleError) as caught:
        load_bundle(tmp_path / place)
    assert "export --model" in str(caught.value)
