"""What a data set holds, in numbers: words, signers, lengths, missing parts, and what is odd about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from data_utils.checking.oddities import Seen, look_at, oddities
from data_utils.hdf5 import Clip, read_clips
from data_utils.landmarks import FILE_PARTS
from data_utils.prepared import DataSet, fingerprint, open_data

_MOST_BARS = 20  # of the histogram


class WordCount(TypedDict):
    """A word, its number of clips, and of signers who made them."""

    word: str
    clips: int
    signers: int


class SignerCount(TypedDict):
    """A signer, their own clips, mirrored copies of them, and what their own clips show."""

    signer: str
    clips: int
    mirrored: int
    words: int
    median_frames: float
    missing: dict[str, float]
    """Share of frames in which a part was not detected, 0 to 1."""


class Bar(TypedDict):
    """Clips of some lengths, both bounds included."""

    first: int
    last: int
    clips: int


class Warned(TypedDict):
    """A warning as plain values."""

    what: str
    where: str | None
    got: str | None
    hint: str | None


class Summary(TypedDict):
    """Counts and shares over a whole data set. Frames and missing parts are those of the signers' own clips, not of copies."""

    words: list[WordCount]
    """By class number."""

    signers: list[SignerCount]

    table: list[list[int]]
    """Clips by signer (row) and word (column)."""

    frames: dict[str, int | float]
    """Clip lengths: smallest, quartiles, mean, largest, and the total."""

    histogram: list[Bar]

    missing: dict[str, float]
    """Share of frames in which a part was not detected, 0 to 1."""

    warnings: list[Warned]

    fingerprint: str


def summarize(
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    each: Callable[[Seen, Clip], None] = lambda seen, clip: None,
) -> Summary:
    """Reads a whole data set. `progress` is told how many clips have been read, of how many; what it raises stops the work.

    `each` is shown every clip.

    Raises:
        DataError: the data set is not sound.
    """
    data = open_data(folder)
    total = sum(len(entry.names) for entry in data.entries)
    clips: list[Seen] = []
    for entry in data.entries:
        for clip in read_clips(entry.file, len(data.words)):
            clips.append(look_at(entry.file, clip))
            each(clips[-1], clip)
            progress(len(clips), total)
    return _summary(data, clips)


def warned(clips: Sequence[Seen], words: Sequence[str]) -> list[Warned]:
    """The warnings about some clips as plain values."""
    return [Warned(what=one.what, where=one.where, got=one.got, hint=one.hint) for one in oddities(clips, words)]


def _summary(data: DataSet, clips: Sequence[Seen]) -> Summary:
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
        warnings=warned(clips, data.words),
        fingerprint=fingerprint(data),
    )


def _missing(clips: Sequence[Seen]) -> dict[str, float]:
    frames = sum(clip.frames for clip in clips)
    return {part: sum(clip.missing[part] for clip in clips) / frames for part in FILE_PARTS}


def _histogram(lengths: np.ndarray) -> list[Bar]:
    """Bars of equal width, a whole number of frames, without empty ones after the last."""
    low, high = int(lengths.min()), int(lengths.max())
    width = -(-(high - low + 1) // _MOST_BARS)
    counts = np.bincount((lengths - low) // width)
    return [
        Bar(first=low + n * width, last=min(low + (n + 1) * width - 1, high), clips=int(count))
        for n, count in enumerate(counts)
    ]
