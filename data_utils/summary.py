"""What a data set holds, in numbers: words, signers, lengths, missing parts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TypedDict

import numpy as np

from data_utils.hdf5 import read_clips
from data_utils.landmarks import FILE_PARTS
from data_utils.prepared import fingerprint, open_data


class WordCount(TypedDict):
    """A word and its number of clips."""

    word: str
    clips: int


class SignerCount(TypedDict):
    """A signer, their own clips, and mirrored copies of them."""

    signer: str
    clips: int
    mirrored: int


class Summary(TypedDict):
    """Counts and shares over a whole data set. Frames and missing parts are those of the signers' own clips, not of copies."""

    words: list[WordCount]
    """By class number."""

    signers: list[SignerCount]

    frames: dict[str, int | float]
    """Clip lengths: smallest, quartiles, mean, largest, and the total."""

    missing: dict[str, float]
    """Share of frames in which a part was not detected, 0 to 1."""

    fingerprint: str


def summarize(folder: Path) -> Summary:
    """Reads a whole data set.

    Raises:
        DataError: the data set is not sound.
    """
    data = open_data(folder)
    lengths: list[int] = []
    missing = dict.fromkeys(FILE_PARTS, 0)
    mirrored: Counter[str] = Counter()
    for entry in data.entries:
        if entry.file.mirrored:
            mirrored[entry.file.signer] += len(entry.names)
            continue
        for clip in read_clips(entry.file, len(data.words)):
            lengths.append(clip.feature_CTJ.shape[1])
            lost_TJ = np.isnan(clip.feature_CTJ[0])
            for part, where in FILE_PARTS.items():
                missing[part] += int(lost_TJ[:, where].all(axis=1).sum())
    labels = Counter(label for labels in data.labels_of.values() for label in labels)
    low, first, middle, third, high = np.percentile(lengths, [0, 25, 50, 75, 100])
    return Summary(
        words=[WordCount(word=word, clips=labels[number]) for number, word in enumerate(data.words)],
        signers=[
            SignerCount(signer=signer, clips=len(own), mirrored=mirrored[signer]) for signer, own in data.labels_of.items()
        ],
        frames={
            "smallest": int(low),
            "first_quartile": float(first),
            "median": float(middle),
            "third_quartile": float(third),
            "largest": int(high),
            "mean": float(np.mean(lengths)),
            "total": sum(lengths),
        },
        missing={part: count / sum(lengths) for part, count in missing.items()},
        fingerprint=fingerprint(data),
    )
