"""`search predict`: the predictions of a model for clips in files. Needs neither a study nor Optuna."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.errors import DataError
from data_utils.inputs import Input, read_inputs
from model.bundle import Bundle, Guess
from search.events import SCHEMA

_BATCH_FRAMES = 16_384
"""Frames per batch: 17 MB, and enough to keep a processor busy."""


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for one clip."""

    file: Path
    clip: str
    frames: int | None
    """None if the clip cannot be read."""

    guesses: tuple[Guess, ...]
    """The most likely first; empty if there is a problem."""

    problem: str = ""
    """Why there is no prediction, in one line; else empty."""


_Prepared = tuple[Path, str, np.ndarray | DataError]  # file, clip, and the model's input


def predictions(
    bundle: Bundle,
    paths: Sequence[Path],
    top: int,
    *,
    order: tuple[str, ...] | None = None,
    notify: Callable[[str], None] = lambda text: None,
) -> Iterator[Prediction]:
    """Predictions for all clips of some files, in their order. Memory holds one batch of clips.

    Args:
        bundle: the model.
        paths: files, and folders of frames.
        top: number of words per clip.
        order: the order of the parts in NumPy arrays; by default the one that fits the body.
        notify: receives a line about how clips were read, once.
    """
    batch: list[_Prepared] = []
    frames = 0
    told: set[str] = set()
    for clip in read_inputs(paths, order):
        if clip.note and clip.note not in told:
            told.add(clip.note)
            notify(f"{clip.file}: {clip.note}")
        prepared = _prepare(bundle, clip)
        batch.append((clip.file, clip.clip, prepared))
        frames += 0 if isinstance(prepared, DataError) else len(prepared)
        if frames >= _BATCH_FRAMES:
            yield from _predict(bundle, batch, top)
            batch, frames = [], 0
    yield from _predict(bundle, batch, top)


def _prepare(bundle: Bundle, clip: Input) -> np.ndarray | DataError:
    if isinstance(clip.landmarks, DataError):
        return clip.landmarks
    try:
        return bundle.prepare(clip.landmarks, where=clip.file)
    except DataError as error:
        return error


def _predict(bundle: Bundle, batch: Sequence[_Prepared], top: int) -> Iterator[Prediction]:
    guesses = iter(bundle.predict_prepared([clip for _, _, clip in batch if not isinstance(clip, DataError)], top))
    for file, name, clip in batch:
        if isinstance(clip, DataError):
            found, wanted = (f" ({clip.got})" if clip.got else ""), (f"; expected: {clip.expected}" if clip.expected else "")
            problem = " ".join(f"{clip.what}{found}{wanted}".split())
            yield Prediction(file, name, None, (), problem)
        else:
            yield Prediction(file, name, len(clip), tuple(next(guesses)))


def csv_header(count: int) -> list[str]:
    """The column names for `count` guesses per clip."""
    guesses = [name for n in range(1, count + 1) for name in (f"word_{n}", f"probability_{n}")]
    return ["file", "clip", "frames", *guesses, "problem"]


def csv_row(clip: Prediction, count: int) -> list[str]:
    """One clip as cells under `csv_header`; probabilities with 6 decimals."""
    cells = [cell for guess in clip.guesses for cell in (guess.word, f"{guess.probability:.6f}")]
    empty = [""] * (2 * count - len(cells))
    return [str(clip.file), clip.clip, "" if clip.frames is None else str(clip.frames), *cells, *empty, clip.problem]


def json_row(clip: Prediction) -> str:
    """One clip as a line of JSON."""
    fields: dict[str, Any] = {"schema": SCHEMA, "file": str(clip.file), "clip": clip.clip, "frames": clip.frames}
    if clip.problem:
        fields["problem"] = clip.problem
    else:
        fields["words"] = [{"word": guess.word, "probability": guess.probability} for guess in clip.guesses]
    return json.dumps(fields, ensure_ascii=False) + "\n"
