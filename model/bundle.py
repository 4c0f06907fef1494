"""A trained model as a self-contained folder: using it takes no study, no data set and no Optuna.

    FOLDER/model.safetensors   weights; the metadata hold the network's settings, the preprocessing and the temperature
           labels.json         {"word": class number, ...}
           metrics.json        what was measured of this model and of its configuration
           config.yaml         how it was trained, as input for `islr-search retrain`
           model.onnx          the same model including its preprocessing (optional)
           SHA256SUMS          a digest of each file above (`sha256sum -c SHA256SUMS`)
           README.md           a model card, without a digest because its owner may edit it

A folder is written completely or not at all, and a folder with a truncated or changed file is refused. Reading one cannot run
code: it holds numbers, JSON and text. The digests do not authenticate the author: whoever changes a file can update its digest.
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
WEIGHTS = "model.safetensors"
LABELS = "labels.json"
METRICS = "metrics.json"
CONFIG = "config.yaml"
ONNX = "model.onnx"
CARD = "README.md"
SUMS = "SHA256SUMS"
_REQUIRED = (WEIGHTS, LABELS, METRICS, CONFIG)
_METADATA_KEY = "islr_search"  # the only key of the weights' metadata: the order of several would vary

T = TypeVar("T")


class BundleError(DataError):
    """A folder is not a usable model."""


@dataclass(frozen=True)
class Guess:
    """A word that a clip may show, with its probability."""

    word: str
    probability: float
    """0..1, calibrated with the model's temperature."""


@dataclass(frozen=True)
class Bundle:
    """A loaded model with everything that predictions need."""

    model: TransformerEnISLR
    preprocess: PreprocessConfig
    temperature: float
    """Divides the logits before the softmax."""

    words: tuple[str, ...]
    """By class number."""

    metrics: Mapping[str, Any]
    """The content of `metrics.json`."""

    def predict(self, clips: Sequence[np.ndarray], top: int = 3) -> list[list[Guess]]:
        """The `top` most likely words of each clip, most likely first; all words if there are fewer.

        Shapes: clips of any length, float `[3, T, 543]` each, as in the files: x and y as fractions of the image, NaN = not
        detected.

        Raises:
            DataError: a clip is invalid; says which.
            ValueError: `top` is less than 1.
        """
        return self.predict_prepared(self._prepare_all(clips), top)

    def probabilities(self, clips: Sequence[np.ndarray]) -> Float[np.ndarray, "N K"]:
        """The probability of every word for each clip; rows sum to 1. The row of a clip does not depend on the other clips.

        Shapes and errors: same as `predict`.
        """
        return self._probabilities(self._prepare_all(clips))

    def prepare(self, clip: np.ndarray, *, where: Path | str | None = None) -> Float[np.ndarray, "T 260"]:
        """The model's input for one clip, `[3, T, 543]`. `where` names the clip's origin in errors.

        Raises:
            DataError: the clip is invalid or too short for this model.
        """
        frames_TF = preprocess(checked_landmarks(clip, file=where), self.preprocess)
        real_T = detected(frames_TF) if self.preprocess.mask == "detected" else np.ones(len(frames_TF), bool)
        if self.model.config.pooling == "average" and not (real_T[: len(real_T) // 2 * 2].reshape(-1, 2).all(axis=1)).any():
            what = "the clip is too short for this model, which averages pairs of frames"
            raise DataError(what, file=where, expected="two consecutive frames in which something was detected")
        return frames_TF

    def predict_prepared(self, prepared: Sequence[np.ndarray], top: int) -> list[list[Guess]]:
        """Same as `predict`, for the results of `prepare`."""
        if top < 1:
            raise ValueError(f"top is {top}, expected 1 or more")
        probabilities_NK = self._probabilities(prepared)
        best_NK = np.argsort(-probabilities_NK, axis=1, kind="stable")[:, :top]
        rows = zip(probabilities_NK, best_NK, strict=True)
        return [[Guess(self.words[k], float(row_K[k])) for k in best_K] for row_K, best_K in rows]

    def _prepare_all(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self.prepare(clip, where=f"clip {number}") for number, clip in enumerate(clips)]

    def _probabilities(self, prepared: Sequence[np.ndarray]) -> Float[np.ndarray, "N K"]:
        logits_NK = torch.from_numpy(logits(self.model, prepared, mask=self.preprocess.mask)).double()
        probabilities_NK: np.ndarray = (logits_NK / self.temperature).softmax(dim=1).float().numpy()
        return probabilities_NK


def require_new(folder: Path) -> None:
    """Checks before long work that a bundle can be written here. Leaves no trace.

    Raises:
        BundleError: the folder holds something, or cannot be replaced by a new one.
        ResourceError: nothing can be written here, for example because the disk is read-only.
    """
    place = folder.absolute()
    try:
        if place.is_symlink():
            hint = "name the folder that it points to, or a new one"
            raise BundleError("the path is a symbolic link, which a folder cannot replace", file=folder, hint=hint)
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise BundleError("the path already exists", file=folder, hint="name a new folder, or remove this one")
        if os.path.ismount(place):
            hint = f"name a folder in it, such as {folder / 'model'}"
            raise BundleError("the path is a mount point, which a folder cannot replace", file=folder, hint=hint)
        _try_to_write(place)
    except OSError as error:
        hint = "is the disk full or read-only? Name another folder"
        raise ResourceError("the model cannot be written", where=str(folder), got=error.strerror, hint=hint) from error


def _try_to_write(place: Path) -> None:
    """Makes and renames folders as `write_bundle` does, then undoes it."""
    temporary = _temporary(place)
    shutil.rmtree(temporary, ignore_errors=True)
    missing = [parent for parent in place.parents if not parent.exists()]
    try:
        if place.exists():  # an empty folder, which will be replaced
            place.rename(temporary)
            temporary.rename(place)
        else:
            temporary.mkdir(parents=True)
            temporary.rmdir()
    finally:
        for parent in missing:
            with contextlib.suppress(OSError):  # it was not made, or another process has put something there
                parent.rmdir()


def _temporary(place: Path) -> Path:
    """The folder in which a bundle is written before it is renamed."""
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
    """Writes a model, completely or not at all. `config` and `card` are the texts of `config.yaml` and `README.md`.

    Raises:
        BundleError, ResourceError: same as `require_new`.
        DataError: the packages that `onnx` needs are not installed.
        OSError: a file cannot be written.
    """
    require_new(folder)
    metadata = {
        "format": FORMAT,
        "model": dataclasses.asdict(model.config),
        "preprocess": dataclasses.asdict(preprocess),
        "temperature": temperature,
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(folder.absolute())
    shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process with the same pid
    try:
        write_atomically(temporary / WEIGHTS, save(weights, {_METADATA_KEY: json.dumps(metadata)}))
        write_atomically(temporary / LABELS, words_text(words))
        write_atomically(temporary / METRICS, json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        write_atomically(temporary / CONFIG, config)
        if onnx:
            from model.onnx import write_onnx

            write_onnx(model, preprocess, temperature, words, temporary / ONNX)
        sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(temporary.iterdir())]
        write_atomically(temporary / SUMS, "".join(sums))
        write_atomically(temporary / CARD, card)
        temporary.rename(folder.absolute())  # replaces an empty folder
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_bundle(folder: Path | str, device: torch.device | str = "cpu") -> Bundle:
    """Loads a model from its folder and checks every file against its digest.

    Raises:
        BundleError: the folder is not a bundle, or a file was truncated, swapped or changed since it was written.
    """
    folder = Path(folder)
    files = _verified_files(folder)
    try:
        words = parse_words(folder / LABELS)
    except DataError as error:
        raise BundleError(error.what, file=error.file, got=error.got, expected=error.expected) from error
    metadata, tensors = _weights(folder / WEIGHTS, files[WEIGHTS])
    try:
        config = _checked(ModelConfig, metadata["model"])
        preprocess = _checked(PreprocessConfig, metadata["preprocess"])
        temperature = float(metadata["temperature"])
        metrics = json.loads(files[METRICS])
        if not (isinstance(metrics, dict) and TEMPERATURES[0] <= temperature <= TEMPERATURES[1]):
            raise ValueError(f"temperature {temperature}")
        _require_shapes(config, len(words), tensors)
        model = TransformerEnISLR(config, len(words), torch.Generator())
        model.load_state_dict(tensors)
    except (ValidationError, LookupError, TypeError, ValueError, OverflowError, RuntimeError, RecursionError) as error:
        what, got = "the files of the model do not match each other", str(error).splitlines()[0]
        raise BundleError(what, file=folder / WEIGHTS, got=got) from error
    return Bundle(model.to(device).requires_grad_(False), preprocess, temperature, words, metrics)


def _verified_files(folder: Path) -> dict[str, bytes]:
    """The content of every file that has a digest, checked against it."""
    if not (folder / SUMS).is_file():
        what = f"this folder is not a model: it has no {SUMS}" if folder.is_dir() else "there is no such model"
        hint = "`islr-search export --model DIR` writes one"
        raise BundleError(what, file=folder, expected=f"a folder with {', '.join(_REQUIRED)} and {SUMS}", hint=hint)
    files = {}
    try:
        *lines, end = (folder / SUMS).read_bytes().decode("ascii").split("\n")
        if end:
            raise BundleError("the list of digests is truncated", file=folder / SUMS)
        for line in lines:
            digest, _, name = line.partition("  ")
            if name not in (*_REQUIRED, ONNX) or name in files:
                raise BundleError("the list of digests names an unexpected file", file=folder / SUMS, got=name[:80])
            files[name] = (folder / name).read_bytes()
            if hashlib.sha256(files[name]).hexdigest() != digest:
                what = "the file was truncated or changed since the model was written"
                raise BundleError(what, file=folder / name, hint="copy the whole folder again")
    except UnicodeDecodeError as error:
        raise BundleError("the list of digests is not ASCII text", file=folder / SUMS) from error
    except OSError as error:
        raise BundleError("a file of the model cannot be read", file=error.filename, got=error.strerror) from error
    for name in _REQUIRED:
        if name not in files:
            raise BundleError("a digest is missing", file=folder / SUMS, expected=name)
    return files


def _weights(path: Path, image: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The metadata of the file of weights, and the weights."""
    try:
        # Cloned, because tensors in the file are not aligned, and a kernel may then round differently.
        tensors = {name: value.clone() for name, value in load(image).items()}
        metadata = json.loads(metadata_of(image)[_METADATA_KEY])
        written_as = metadata["format"]
    except (SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise BundleError("this file does not hold a model's weights", file=path, got=str(error).splitlines()[0]) from error
    if written_as != FORMAT:
        raise BundleError("the model was written by another version", file=path, got=str(written_as)[:80], expected=FORMAT)
    if not all(value.dtype == torch.float32 and bool(value.isfinite().all()) for value in tensors.values()):
        raise BundleError("the weights are not all finite float32 numbers", file=path)
    return metadata, tensors


def _checked(kind: type[T], values: Any) -> T:
    """A configuration from plain values. Missing fields (of an older version) get their defaults; unknown ones are refused."""
    unknown = set(values) - {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # T is a dataclass
    if unknown:
        raise ValueError(f"unknown settings {', '.join(sorted(unknown))}")
    return TypeAdapter(kind).validate_python(values)


def _require_shapes(config: ModelConfig, num_words: int, tensors: Mapping[str, Tensor]) -> None:
    """Refuses a `config` that does not match the weights, before a network of its size takes memory."""
    layer = (config.ffn_width, config.width)
    expected = itertools.chain(  # lazy: stops at the first missing layer
        [("embed.weight", (config.width, NUM_FEATURES)), ("head.weight", (num_words, config.width))],
        ((f"layers.{number}.feed_forward.expand.weight", layer) for number in range(config.layers)),
    )
    for name, shape in expected:
        got = tuple(tensors[name].shape) if name in tensors else None
        if got != shape:
            raise ValueError(f"{name} is {got}, expected {shape}")
