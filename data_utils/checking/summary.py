"""The summary of a data set: words, signers, lengths, missing parts and warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from data_utils.checking.data_warning import WarningRecord
from data_utils.checking.examples import Examples
from data_utils.checking.facts import ClipFacts
from data_utils.checking.folder import folder_warnings
from data_utils.checking.reading import Progress, no_progress, read_files
from data_utils.checking.warnings import corrected_copy, find_warnings
from data_utils.landmarks import FILE_PARTS
from data_utils.prepared import DataSet, fingerprint, open_data

_MAX_BARS = 20  # of the histogram


class WordCount(TypedDict):
    """A word and its numbers of clips and signers."""

    word: str
    clips: int
    signers: int


class SignerCount(TypedDict):
    """A signer's number of clips, of mirrored copies, and statistics of the clips without copies."""

    signer: str
    clips: int
    mirrored: int
    words: int
    median_frames: float
    missing: dict[str, float]
    """Share of frames in which a part was not detected, 0 to 1."""


class Bar(TypedDict):
    """A bar of the histogram of clip lengths in frames, both bounds included."""

    first: int
    last: int
    clips: int


class Summary(TypedDict):
    """Counts and shares of a whole data set. Frames and missing parts exclude mirrored copies."""

    words: list[WordCount]
    """By class number."""

    signers: list[SignerCount]

    table: list[list[int]]
    """Number of clips by signer (row) and word (column)."""

    frames: dict[str, int | float]
    """Clip lengths: smallest, quartiles, mean, largest, and the total."""

    histogram: list[Bar]

    missing: dict[str, float]
    """Share of frames in which a part was not detected, 0 to 1."""

    warnings: list[WarningRecord]

    fingerprint: str


def summarize(folder: Path, *, workers: int = 1, progress: Progress = no_progress, examples: Examples | None = None) -> Summary:
    """Reads a whole data set. `examples` receives an example of each word.

    Raises:
        DataError: the data set has a problem.
    """
    data = open_data(folder)
    files = [entry.file for entry in data.entries]
    reading = read_files(files, len(data.words), workers=workers, progress=progress, examples=examples)
    for fault in reading.faults:
        raise fault
    return _summary(data, reading.clips)


def _summary(data: DataSet, clips: Sequence[ClipFacts]) -> Summary:
    own = [clip for clip in clips if not clip.mirrored]
    by_signer = {signer: [clip for clip in own if clip.signer == signer] for signer in data.labels_of}
    mirrored = Counter(clip.signer for clip in clips if clip.mirrored)
    table = {signer: Counter(clip.label for clip in mine) for signer, mine in by_signer.items()}
    lengths = np.array([clip.frames for clip in own])
    low, first, middle, third, high = np.percentile(lengths, [0, 25, 50, 75, 100])
    return Summary(
        words=[
            WordCount(
                word=word,
                clips=sum(counts[number] for counts in table.values()),
                signers=sum(counts[number] > 0 for counts in table.values()),
            )
            for number, word in enumerate(data.words)
        ],
        signers=[
            SignerCount(
                signer=signer,
                clips=len(mine),
                mirrored=mirrored[signer],
                words=len(table[signer]),
                median_frames=float(np.median([clip.frames for clip in mine])),
                missing=_missing(mine),
            )
            for signer, mine in by_signer.items()
        ],
        table=[[counts[number] for number in range(len(data.words))] for counts in table.values()],
        frames={
            "smallest": int(low),
            "first_quartile": float(first),
            "median": float(middle),
            "third_quartile": float(third),
            "largest": int(high),
            "mean": float(lengths.mean()),
            "total": int(lengths.sum()),
        },
        histogram=_histogram(lengths),
        missing=_missing(own),
        warnings=[
            warning.record()
            for warning in (
                *folder_warnings(data.folder, data.words),
                *find_warnings(clips, data.words, corrected_copy(data.folder)),
            )
        ],
        fingerprint=fingerprint(data),
    )


def _missing(clips: Sequence[ClipFacts]) -> dict[str, float]:
    frames = sum(clip.frames for clip in clips)
    return {part: sum(clip.missing[part] for clip in clips) / frames for part in FILE_PARTS}


def _histogram(lengths: np.ndarray) -> list[Bar]:
    """Bars of equal width, a whole number of frames."""
    low, high = int(lengths.min()), int(lengths.max())
    width = -(-(high - low + 1) // _MAX_BARS)
    counts = np.bincount((lengths - low) // width)
    return [
        Bar(first=low + n * width, last=min(low + (n + 1) * width - 1, high), clips=int(count))
        for n, count in enumerate(counts)
    ]
