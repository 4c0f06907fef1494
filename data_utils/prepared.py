"""Data sets ready for the model: all clips are preprocessed once, and their frames concatenated."""

# N rows: row 0 is an empty frame (padding points at it), then the frames of all clips; F features of a frame (260); C clips

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_utils.catalog import CatalogEntry, Progress, read_catalog
from data_utils.errors import DataError
from data_utils.folder import missing_originals, signer_files
from data_utils.landmarks import NUM_FEATURES
from data_utils.normalize import PreprocessConfig, detected, preprocess
from data_utils.words import read_words

if TYPE_CHECKING:
    from data_utils.hdf5 import Clip


@dataclass(frozen=True)
class ClipSet:
    """Preprocessed clips."""

    frames_NF: np.ndarray
    """float32 `[N, 260]`; row 0 is all zeros."""

    real_N: np.ndarray
    """bool `[N]`: frames that the model attends to; False for row 0."""

    lengths_C: np.ndarray
    """int64 `[C]`: frames of each clip. Clip c occupies rows `starts_C[c]` to `starts_C[c] + lengths_C[c]`."""

    labels_C: np.ndarray
    """int64 `[C]`: class numbers."""

    starts_C: np.ndarray
    """int64 `[C]`: row of each clip's first frame."""

    def __len__(self) -> int:
        return len(self.lengths_C)

    def select(self, selected_C: np.ndarray) -> ClipSet:
        """Some of the clips, by index or mask. The frames are shared, not copied."""
        return replace(
            self, lengths_C=self.lengths_C[selected_C], labels_C=self.labels_C[selected_C], starts_C=self.starts_C[selected_C]
        )


def clip_set(
    clips: Sequence[np.ndarray], labels: Sequence[int] | np.ndarray | None = None, *, mask: str = "lengths"
) -> ClipSet:
    """Concatenates preprocessed clips, float32 `[T, 260]` each.

    Without `labels` every label is 0. `mask` as in `PreprocessConfig.mask`.

    Raises:
        ValueError: a clip is not `[T, 260]` with at least one frame.
    """
    for number, clip in enumerate(clips):
        if clip.ndim != 2 or clip.shape[0] == 0 or clip.shape[1] != NUM_FEATURES:
            raise ValueError(f"clip {number} has shape {list(clip.shape)}, expected [1 or more frames, {NUM_FEATURES}]")
    frames_NF = np.concatenate([np.zeros((1, NUM_FEATURES), np.float32), *clips]).astype(np.float32, copy=False)
    real_N = detected(frames_NF) if mask == "detected" else np.arange(len(frames_NF)) > 0
    return _clip_set(frames_NF, real_N, [len(clip) for clip in clips], np.zeros(len(clips)) if labels is None else labels)


def join_entries(entries: Sequence[CatalogEntry], frames_NF: np.ndarray, real_N: np.ndarray) -> ClipSet:
    """The clip set of some files whose frames are concatenated."""
    lengths = [length for entry in entries for length in entry.lengths]
    return _clip_set(frames_NF, real_N, lengths, [label for entry in entries for label in entry.labels])


def _clip_set(frames_NF: np.ndarray, real_N: np.ndarray, lengths: Sequence[int], labels: Sequence[int] | np.ndarray) -> ClipSet:
    lengths_C = np.array(lengths, dtype=np.int64)
    return ClipSet(frames_NF, real_N, lengths_C, np.asarray(labels, dtype=np.int64), 1 + np.cumsum(lengths_C) - lengths_C)


@dataclass(frozen=True)
class DataSet:
    """The words and the catalog of a data folder, without landmarks."""

    folder: Path
    words: tuple[str, ...]
    entries: tuple[CatalogEntry, ...]

    @property
    def labels_of(self) -> dict[str, tuple[int, ...]]:
        """Class numbers of each signer's own (not mirrored) clips."""
        return {entry.file.signer: entry.labels for entry in self.entries if not entry.file.mirrored}

    @property
    def words_of(self) -> dict[str, frozenset[int]]:
        """Class numbers that each signer has clips of."""
        return {signer: frozenset(labels) for signer, labels in self.labels_of.items()}

    def entries_of(self, signers: Sequence[str], *, mirrored: bool) -> tuple[CatalogEntry, ...]:
        """The catalog entries of some signers; with `mirrored`, also those of their `_swap` files.

        Raises:
            DataError: the signers have no clip.
        """
        found = tuple(e for e in self.entries if e.file.signer in signers and (mirrored or not e.file.mirrored))
        if not found:
            raise DataError("these signers have no clip", file=self.folder, got=", ".join(signers))
        return found


def open_data(
    folder: Path, cache: Path | None = None, progress: Progress | None = None, *, with_digests: bool = False
) -> DataSet:
    """Reads the dictionary and the catalog of a data set, not its landmarks. `cache` is a folder for the catalog.

    `progress` receives the number of files that are read, and their total. `with_digests`: for a split by clip, a digest of
    each clip's landmarks, which are read for it.

    Raises:
        DataError: the folder, a file or a label is invalid.
    """
    files = signer_files(folder)
    words = read_words(folder)
    for fault in missing_originals(files):
        raise fault
    return DataSet(folder, words, read_catalog(files, len(words), cache, progress, with_digests=with_digests))


def fingerprint(data: DataSet) -> str:
    """SHA-256 over the words and over name and content of every signer's file. The folder's name does not matter."""
    total = hashlib.sha256("\0".join(data.words).encode())
    for entry in data.entries:
        total.update(f"\0{entry.file.path.name}\0{entry.sha256}".encode())
    return total.hexdigest()


def prepare(data: DataSet, signers: Sequence[str], config: PreprocessConfig, *, mirrored: bool) -> ClipSet:
    """Preprocesses the clips of some signers in memory. No other signer's landmarks are read.

    With `mirrored`, the `_swap` files of these signers are included (for training); without, only their own clips.
    `data_utils.store.load_prepared` returns the same from a file that runs and workers share.

    Raises:
        DataError: a clip is invalid, or the signers have none.
    """
    return prepare_entries(data.entries_of(signers, mirrored=mirrored), config)


def prepare_entries(entries: Sequence[CatalogEntry], config: PreprocessConfig) -> ClipSet:
    """Preprocesses the clips of some files in memory, and reads no others.

    Raises:
        DataError: a clip is invalid.
    """
    frames_NF = np.zeros((count_rows(entries), NUM_FEATURES), np.float32)
    real_N = np.zeros(len(frames_NF), bool)
    for entry, rows in row_ranges(entries):
        real_N[rows] = fill_frames(frames_NF[rows], entry, config)
    return join_entries(entries, frames_NF, real_N)


def count_rows(entries: Sequence[CatalogEntry]) -> int:
    """Number of rows for the frames of some files, including the empty frame."""
    return 1 + sum(sum(entry.lengths) for entry in entries)


def row_ranges(entries: Sequence[CatalogEntry]) -> Iterator[tuple[CatalogEntry, slice]]:
    """Each file with the range of rows of its frames."""
    start = 1
    for entry in entries:
        stop = start + sum(entry.lengths)
        yield entry, slice(start, stop)
        start = stop


def fill_frames(
    frames_NF: np.ndarray,
    entry: CatalogEntry,
    config: PreprocessConfig,
    on_clip: Callable[[Clip], None] = lambda clip: None,
) -> np.ndarray:
    """Writes the preprocessed frames of a file into `frames_NF`. Returns which frames the model attends to, bool `[N]`.

    `on_clip` receives every clip as it was read.

    Raises:
        DataError: a clip is invalid, or the file has changed since the catalog was read.
    """
    from data_utils.hdf5 import read_clips  # here: workers, which find prepared clips, need no HDF5

    start, names = 0, frozenset(entry.names) if entry.selected else None
    clips = read_clips(entry.file, max(entry.labels) + 1, names)
    for clip, name, length in zip(clips, entry.names, entry.lengths, strict=False):
        clip_TF = preprocess(clip.feature_CTJ, config)
        if clip.name != name or len(clip_TF) != length:
            raise DataError("the file changed while it was read", file=entry.file.path, hint="run the command again")
        frames_NF[start : start + length] = clip_TF
        on_clip(clip)
        start += length
    return detected(frames_NF) if config.mask == "detected" else np.ones(len(frames_NF), bool)
