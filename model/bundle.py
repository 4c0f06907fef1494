"""A trained model as a folder that stands alone: no study, no data set and no Optuna are needed to ask it.

    FOLDER/model.safetensors   weights; their metadata hold the shape of the network, the pre-processing and the temperature
           labels.json         {"word": class number, ...}
           metrics.json        what was measured, of this very model and of its configuration
           config.yaml         how it was trained: `python -m search retrain` takes it
           model.onnx          the same model with its pre-processing, if it was asked for
           SHA256SUMS          a digest of each file above (`sha256sum -c SHA256SUMS`)
           README.md           a model card. It has no digest: its owner may write in it

A folder appears whole or not at all. What was cut short or changed since is refused. Nothing in it can run code when it is
read: it holds numbers, JSON and text. A digest does not tell who made a folder: whoever changes a file can change its digest
too.
"""

# C coordinates, T frames, J landmarks of a file (543), F features of a frame (260), N clips, K words

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from data_utils.clips import checked_landmarks
from data_utils.errors import DataError, ResourceError
from data_utils.files import PART_SUFFIX, write_atomically
from data_utils.landmarks import NUM_FEATURES
from data_utils.normalize import PreprocessConfig, detected, preprocess
from data_utils.words import parse_words, words_text
from model.checkpoint import metadata_of
from model.config import ModelConfig
from model.metrics import TEMPERATURES
from model.transformer import TransformerEnISLR, logits

FORMAT = "islr-search bundle 1"
WEIGHTS, LABELS, METRICS, CONFIG, ONNX, CARD, SUMS = (
    "model.safetensors",
    "labels.json",
    "metrics.json",
    "config.yaml",
    "model.onnx",
    "README.md",
    "SHA256SUMS",
)
_NEEDED = (WEIGHTS, LABELS, METRICS, CONFIG)
_ABOUT = "islr_search"  # the one key of the weights' metadata: several would be written in any order

T = TypeVar("T")


class BundleError(DataError):
    """A folder is not a model that can be asked."""


@dataclass(frozen=True)
class Guess:
    """A word that a clip may show."""

    word: str
    probability: float
    """0..1, calibrated on the validation clips by the model's temperature."""


@dataclass(frozen=True)
class Bundle:
    """A model that can be asked."""

    model: TransformerEnISLR
    preprocess: PreprocessConfig
    temperature: float
    """Logits are divided by it before they become probabilities."""

    words: tuple[str, ...]
    """By class number."""

    metrics: Mapping[str, Any]
    """What `metrics.json` holds."""

    def predict(self, clips: Sequence[np.ndarray], top: int = 3) -> list[list[Guess]]:
        """The most likely words of each clip, the likeliest first; all words where there are fewer than `top`.

        Shapes: clips of any lengths, float `[3, T, 543]` each, as in the files: x and y as fractions of the picture, NaN = not
        detected.

        Raises:
            DataError: a clip is not what it should be; says which.
            ValueError: `top` is less than 1.
        """
        return self.likeliest([self.prepared(clip, where=f"clip {number}") for number, clip in enumerate(clips)], top)

    def probabilities(self, clips: Sequence[np.ndarray]) -> Float[np.ndarray, "N K"]:
        """The probability of every word for each clip; rows add up to 1. A clip's row does not depend on the other clips.

        Shapes and errors as in `predict`.
        """
        return self._shares([self.prepared(clip, where=f"clip {number}") for number, clip in enumerate(clips)])

    def prepared(self, clip: np.ndarray, *, where: Path | str | None = None) -> Float[np.ndarray, "T 260"]:
        """The model's input for one clip, `[3, T, 543]`. `where` says in an error where the clip comes from.

        Raises:
            DataError: the clip is not what it should be, or too short for this model.
        """
        frames_TF = preprocess(checked_landmarks(clip, file=where), self.preprocess)
        real_T = detected(frames_TF) if self.preprocess.mask == "detected" else np.ones(len(frames_TF), bool)
        if self.model.config.pooling == "average" and not (real_T[: len(real_T) // 2 * 2].reshape(-1, 2).all(axis=1)).any():
            what = "the clip is too short for this model, which looks at frames two by two"
            raise DataError(what, file=where, expected="two frames side by side in which something was detected")
        return frames_TF

    def likeliest(self, prepared: Sequence[np.ndarray], top: int) -> list[list[Guess]]:
        """As `predict`, for clips that `prepared` gave."""
        if top < 1:
            raise ValueError(f"top is {top}, expected 1 or more")
        shares_NK = self._shares(prepared)
        best_NK = np.argsort(-shares_NK, axis=1, kind="stable")[:, :top]
        return [
            [Guess(self.words[k], float(shares_K[k])) for k in best_K]
            for shares_K, best_K in zip(shares_NK, best_NK, strict=True)
        ]

    def _shares(self, prepared: Sequence[np.ndarray]) -> Float[np.ndarray, "N K"]:
        logits_NK = torch.from_numpy(logits(self.model, prepared, mask=self.preprocess.mask)).double()
        shares: np.ndarray = (logits_NK / self.temperature).softmax(dim=1).float().numpy()
        return shares


def require_new(folder: Path) -> None:
    """Tries whether a bundle can be written here, before long work begins. Leaves everything as it was.

    Raises:
        BundleError: something is there, or what is there cannot be replaced by a folder.
        ResourceError: it cannot be written, as where the disk is read-only.
    """
    place = folder.absolute()
    try:
        if place.is_symlink():
            hint = "name the folder that it leads to, or a new one"
            raise BundleError("a link is at this place, which a folder cannot replace", file=folder, hint=hint)
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            hint = "name a new folder, or remove this one"
            raise BundleError("there is something at this place already", file=folder, hint=hint)
        if os.path.ismount(place):
            hint = f"name a folder in it, such as {folder / 'model'}"
            raise BundleError("another disk begins at this place, which a folder cannot replace", file=folder, hint=hint)
        _try_to_write(place)
    except OSError as error:
        hint = "is the disk full or read-only? Name another folder"
        raise ResourceError("the model cannot be written", where=str(folder), got=error.strerror, hint=hint) from error


def _try_to_write(place: Path) -> None:
    """Does what writing a bundle does beside its files, and takes it back."""
    aside = _aside(place)
    shutil.rmtree(aside, ignore_errors=True)
    missing = [parent for parent in place.parents if not parent.exists()]
    try:
        if place.exists():  # an empty folder, which has to give way
            place.rename(aside)
            aside.rename(place)
        else:
            aside.mkdir(parents=True)
            aside.rmdir()
    finally:
        for parent in missing:
            with contextlib.suppress(OSError):  # it was never made, or somebody else has put something there
                parent.rmdir()


def _aside(place: Path) -> Path:
    """Where a bundle is put together."""
    return place.with_name(f".{place.name}.{os.getpid()}{PART_SUFFIX}")


def write_bundle(
    folder: Path,
    *,
    model: TransformerEnISLR,
    preprocess: PreprocessConfig,
    temperature: float,
    words: Sequence[str],
    metrics: Mapping[str, Any],
    config: str,
    card: str,
    onnx: bool = False,
) -> None:
    """Writes a model, whole or not at all. `config` and `card` are the texts of `config.yaml` and `README.md`.

    Raises:
        BundleError, ResourceError: as `require_new`.
        ExplainedError: the packages that `onnx` needs are not installed.
        OSError: it cannot be written.
    """
    require_new(folder)
    about = {
        "format": FORMAT,
        "model": dataclasses.asdict(model.config),
        "preprocess": dataclasses.asdict(preprocess),
        "temperature": temperature,
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(folder.absolute())
    shutil.rmtree(aside, ignore_errors=True)  # of a process of this number that was killed
    try:
        write_atomically(aside / WEIGHTS, save(weights, {_ABOUT: json.dumps(about)}))
        write_atomically(aside / LABELS, words_text(words))
        write_atomically(aside / METRICS, json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        write_atomically(aside / CONFIG, config)
        if onnx:
            from model.onnx import write_onnx

            write_onnx(model, preprocess, temperature, words, aside / ONNX)
        named = sorted(path for path in aside.iterdir())
        sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in named]
        write_atomically(aside / SUMS, "".join(sums))
        write_atomically(aside / CARD, card)
        aside.rename(folder.absolute())  # takes the place of an empty folder
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load_bundle(folder: Path | str, device: torch.device | str = "cpu") -> Bundle:
    """A model from its folder, every file held against its digest.

    Raises:
        BundleError: the folder is not a bundle, or was cut short, mixed up or changed since it was written.
    """
    folder = Path(folder)
    files = _checked_files(folder)
    words = _words(folder)
    about, tensors = _weights(folder / WEIGHTS, files[WEIGHTS])
    try:
        config = _checked(ModelConfig, about["model"])
        preprocess = _checked(PreprocessConfig, about["preprocess"])
        temperature = float(about["temperature"])
        metrics = json.loads(files[METRICS])
        if not (isinstance(metrics, dict) and TEMPERATURES[0] <= temperature <= TEMPERATURES[1]):
            raise ValueError(f"temperature {temperature}")
        _require_shapes(config, len(words), tensors)
        model = TransformerEnISLR(config, len(words), torch.Generator())
        model.load_state_dict(tensors)
    except (ValidationError, LookupError, TypeError, ValueError, OverflowError, RuntimeError, RecursionError) as error:
        raise BundleError(
            "the parts of the model do not fit together", file=folder / WEIGHTS, got=str(error).splitlines()[0]
        ) from error
    return Bundle(model.to(device).requires_grad_(False), preprocess, temperature, words, metrics)


def _checked_files(folder: Path) -> dict[str, bytes]:
    """The content of every file that has a digest."""
    if not (folder / SUMS).is_file():
        what = "this is not a model: it has no list of its files" if folder.is_dir() else "there is no such model"
        hint = "`python -m search export --model DIR` writes one"
        raise BundleError(what, file=folder, expected=f"a folder with {', '.join(_NEEDED)} and {SUMS}", hint=hint)
    files = {}
    try:
        *lines, end = (folder / SUMS).read_bytes().decode("ascii").split("\n")
        if end:
            raise BundleError("the list of its files is cut short", file=folder / SUMS)
        for line in lines:
            digest, _, name = line.partition("  ")
            if name not in (*_NEEDED, ONNX) or name in files:
                raise BundleError("the list of its files names another", file=folder / SUMS, got=name[:80])
            files[name] = (folder / name).read_bytes()
            if hashlib.sha256(files[name]).hexdigest() != digest:
                what = "the file was cut short or changed since the model was written"
                raise BundleError(what, file=folder / name, hint="copy the whole folder again")
    except UnicodeDecodeError as error:
        raise BundleError("the list of its files cannot be read", file=folder / SUMS) from error
    except OSError as error:
        raise BundleError("a file of the model cannot be read", file=error.filename, got=error.strerror) from error
    for name in _NEEDED:
        if name not in files:
            raise BundleError("a file of the model is not in its list", file=folder / SUMS, expected=name)
    return files


def _words(folder: Path) -> tuple[str, ...]:
    try:
        return parse_words(folder / LABELS)
    except DataError as error:
        raise BundleError(error.what, file=error.file, got=error.got, expected=error.expected) from error


def _weights(path: Path, image: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the weights' metadata say, and the weights."""
    try:
        # Cloned: slices of the file lie at odd addresses, where a kernel may round otherwise.
        tensors = {name: value.clone() for name, value in load(image).items()}
        about = json.loads(metadata_of(image)[_ABOUT])
        made_as = about["format"]
    except (SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise BundleError("these are not the weights of a model", file=path, got=str(error).splitlines()[0]) from error
    if made_as != FORMAT:
        raise BundleError("the model was written by another version", file=path, got=str(made_as)[:80], expected=FORMAT)
    if not all(value.dtype == torch.float32 and bool(value.isfinite().all()) for value in tensors.values()):
        raise BundleError("the weights are not all finite float32 numbers", file=path)
    return about, tensors


def _checked(kind: type[T], values: Any) -> T:
    """A configuration from plain values. Fields that there were not yet have their defaults; others are refused."""
    unknown = set(values) - {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # T is a dataclass
    if unknown:
        raise ValueError(f"unknown settings {', '.join(sorted(unknown))}")
    return TypeAdapter(kind).validate_python(values)


def _require_shapes(config: ModelConfig, num_words: int, tensors: Mapping[str, Tensor]) -> None:
    """Refuses a network that is not of the weights' size before it takes its memory: `config` may claim any."""
    layer = (config.ffn_width, config.width)
    expected = itertools.chain(
        [("embed.weight", (config.width, NUM_FEATURES)), ("head.weight", (num_words, config.width))],
        ((f"layers.{number}.feed_forward.expand.weight", layer) for number in range(config.layers)),  # up to the first missing
    )
    for name, shape in expected:
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != shape:
            raise ValueError(f"{name} is {found}, expected {shape}")
