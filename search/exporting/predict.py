"""`search predict`: what a model says of clips in files. Nothing of a study is needed, and nothing of Optuna is imported."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.errors import DataError
from data_utils.inputs import Input, read_inputs
from model.bundle import Bundle, Guess
from search.events import SCHEMA

_BATCH_FRAMES = 16_384
"""Frames that are asked about together: 17 MB, and enough to keep a processor busy."""


@dataclass(frozen=True)
class Prediction:
    """What the model says of one clip."""

    file: Path
    clip: str
    frames: int | None
    """None where the clip cannot be read."""

    guesses: tuple[Guess, ...]
    """The likeliest first; none where there is a problem."""

    problem: str = ""
    """Why the model cannot be asked about this clip, in one line; empty if it was."""


_Waiting = tuple[Path, str, np.ndarray | DataError]  # file, clip, and what the model reads of it


def predictions(bundle: Bundle, paths: Sequence[Path], top: int) -> Iterator[Prediction]:
    """What a model says of every clip of some files, in their order. Memory holds one batch of them."""
    waiting: list[_Waiting] = []
    frames = 0
    for one in read_inputs(paths):
        found = _prepared(bundle, one)
        waiting.append((one.file, one.clip, found))
        frames += 0 if isinstance(found, DataError) else len(found)
        if frames >= _BATCH_FRAMES:
            yield from _asked(bundle, waiting, top)
            waiting, frames = [], 0
    yield from _asked(bundle, waiting, top)


def _prepared(bundle: Bundle, one: Input) -> np.ndarray | DataError:
    if isinstance(one.landmarks, DataError):
        return one.landmarks
    try:
        return bundle.prepare(one.landmarks, where=one.file)
    except DataError as fault:
        return fault


def _asked(bundle: Bundle, waiting: Sequence[_Waiting], top: int) -> Iterator[Prediction]:
    guesses = iter(bundle.predict_prepared([found for _, _, found in waiting if not isinstance(found, DataError)], top))
    for file, clip, found in waiting:
        if isinstance(found, DataError):
            yield Prediction(file, clip, None, (), _in_a_line(found))
        else:
            yield Prediction(file, clip, len(found), tuple(next(guesses)))


def _in_a_line(fault: DataError) -> str:
    return " ".join((fault.what + (f" ({fault.got})" if fault.got else "")).split())


def csv_header(count: int) -> str:
    """The first line: a word and its probability for each of `count` guesses."""
    guesses = [name for n in range(1, count + 1) for name in (f"word_{n}", f"probability_{n}")]
    return _csv_line(["file", "clip", "frames", *guesses, "problem"])


def csv_row(one: Prediction, count: int) -> str:
    """One clip under that header; probabilities with 6 digits."""
    cells = [cell for guess in one.guesses for cell in (guess.word, f"{guess.probability:.6f}")]
    empty = [""] * (2 * count - len(cells))
    return _csv_line([str(one.file), one.clip, "" if one.frames is None else str(one.frames), *cells, *empty, one.problem])


def json_row(one: Prediction) -> str:
    """One clip as a line of JSON."""
    fields: dict[str, Any] = {"schema": SCHEMA, "file": str(one.file), "clip": one.clip, "frames": one.frames}
    if one.problem:
        fields["problem"] = one.problem
    else:
        fields["words"] = [{"word": guess.word, "probability": guess.probability} for guess in one.guesses]
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _csv_line(cells: Sequence[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(cells)
    return stream.getvalue()
