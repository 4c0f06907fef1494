"""The prepared data set: every clip selected, filled and normalised once, frames laid end to end."""

# N rows: row 0 is an empty frame (what padding points at), then the frames of all clips; F features of a frame (260); C clips

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_utils.errors import DataError
from data_utils.hdf5 import SignerFile, orphans, read_clips, read_labels, read_words, signer_files
from data_utils.landmarks import NUM_FEATURES
from data_utils.normalize import PreprocessConfig, detected, preprocess


@dataclass(frozen=True)
class ClipSet:
    """Clips ready for the model."""

    frames_NF: np.ndarray
    """float32 `[N, 260]`; row 0 is all zeros."""

    real_N: np.ndarray
    """bool `[N]`: frames that the model attends to; False for row 0."""

    lengths_C: np.ndarray
    """int64 `[C]`: frames of each clip. Clip c lies in rows `starts_C[c]` to `starts_C[c] + lengths_C[c]`."""

    labels_C: np.ndarray
    """int64 `[C]`: class numbers."""

    starts_C: np.ndarray
    """int64 `[C]`: row of each clip's first frame."""

    def __len__(self) -> int:
        return len(self.lengths_C)


def clip_set(clips: Sequence[np.ndarray], labels: Sequence[int] | None = None, *, mask: str = "lengths") -> ClipSet:
    """Lays preprocessed clips, float32 `[T, 260]` each, end to end.

    Without labels every label is 0. `mask` as in `PreprocessConfig.mask`.

    Raises:
        ValueError: a clip is not `[T, 260]` with one frame or more.
    """
    for number, clip in enumerate(clips):
        if clip.ndim != 2 or clip.shape[0] == 0 or clip.shape[1] != NUM_FEATURES:
            raise ValueError(
                f"clip {number} has shape {list(clip.shape)}, expected [frames, {NUM_FEATURES}] and a frame or more"
            )
    lengths = np.array([len(clip) for clip in clips], dtype=np.int64)
    frames = np.concatenate([np.zeros((1, NUM_FEATURES), np.float32), *clips]).astype(np.float32, copy=False)
    real = detected(frames) if mask == "detected" else np.arange(len(frames)) > 0
    return ClipSet(
        frames_NF=frames,
        real_N=real,
        lengths_C=lengths,
        labels_C=np.zeros(len(clips), np.int64) if labels is None else np.asarray(labels, dtype=np.int64),
        starts_C=1 + np.cumsum(lengths) - lengths,
    )


@dataclass(frozen=True)
class DataSet:
    """What a folder holds, known from its dictionary and labels alone."""

    folder: Path
    words: tuple[str, ...]
    files: tuple[SignerFile, ...]
    labels_of: dict[str, tuple[int, ...]]
    """Class numbers of each signer's own (not mirrored) clips."""

    @property
    def words_of(self) -> dict[str, frozenset[int]]:
        """Class numbers that each signer has clips of."""
        return {signer: frozenset(labels) for signer, labels in self.labels_of.items()}


def open_data(folder: Path) -> DataSet:
    """Reads a data set's dictionary and labels, no landmarks.

    Raises:
        DataError: the folder, a file or a label is not what it should be.
    """
    files = signer_files(folder)
    words = read_words(folder)
    labels_of = {file.signer: tuple(read_labels(file, len(words)).values()) for file in files if not file.mirrored}
    for fault in orphans(files):
        raise fault
    return DataSet(folder, words, tuple(files), labels_of)


def prepare(data: DataSet, signers: Sequence[str], config: PreprocessConfig, *, mirrored: bool) -> ClipSet:
    """The clips of some signers, ready for the model. No other signer's landmarks are read.

    With `mirrored`, the `_swap` files of these signers are included (training data); without, only their own clips.

    Raises:
        DataError: a clip is not what it should be, or the signers have none.
    """
    frames, labels = [], []
    for file in data.files:
        if file.signer not in signers or (file.mirrored and not mirrored):
            continue
        for clip in read_clips(file, len(data.words)):
            frames.append(preprocess(clip.feature_CTJ, config))
            labels.append(clip.label)
    if not frames:
        raise DataError("these signers have no clip", file=data.folder, got=", ".join(signers))
    return clip_set(frames, labels, mask=config.mask)


def fingerprint(data: DataSet) -> str:
    """SHA-256 over the dictionary and every signer's file, names and bytes. Files count, whatever the folder is called."""
    total = hashlib.sha256("\0".join(data.words).encode())
    for file in data.files:
        with file.path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"\0{file.path.name}\0{content}".encode())
    return total.hexdigest()
