"""The training and validation clips of a study, prepared in files that runs and workers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_utils.catalog import CatalogEntry
from data_utils.clip_split import SEALED, TRAINS
from data_utils.normalize import PreprocessConfig
from data_utils.parts import parts_of, selected_entries
from data_utils.prepared import ClipSet, DataSet, open_data
from data_utils.splits import Split
from data_utils.store import Inspection, load_prepared, stored_warnings
from search.events import DataPrepared, Listener, Notice, counting

if TYPE_CHECKING:
    from data_utils.checking.facts import ClipFacts, ClipTrace
    from data_utils.folder import SignerFile
    from data_utils.hdf5 import Clip


@dataclass(frozen=True)
class Fold:
    """Training and validation clips of one training."""

    train: ClipSet
    trained_on: tuple[str, ...]
    """Signers of the training clips."""

    validation: ClipSet
    signers: tuple[str, ...]
    """Signers of the validation clips."""

    signer_C: np.ndarray
    """int64 `[C]`: signer of each validation clip, as an index into `signers`."""


@dataclass(frozen=True)
class TrialClips:
    """The clips that trials train and validate on, in files under `store`. The test part is never read."""

    data: DataSet
    split: Split
    store: Path
    emit: Listener
    transferred: ClipSet | None = None
    """The prepared clips of `entries`, on a machine where neither the data set nor the store can be read."""

    def with_split(self, split: Split | None) -> TrialClips:
        """The same data with another split; with the study's own if it is None."""
        return self if split is None else replace(self, split=split)

    @property
    def entries(self) -> list[CatalogEntry]:
        """The files of all folds with the clips that train or validate, in the order of the data set.

        Raises:
            DataError: signers have no clips, or the clips are not divided as they were.
        """
        for group in (signers for pair in self.split.train_validation_pairs() for signers in pair):
            self.data.entries_of(group, mirrored=False)
        return selected_entries(self.data.entries, self._used)

    def clips(self, config: PreprocessConfig) -> ClipSet:
        """The clips of `entries` with this preprocessing.

        Raises: same as `folds`.
        """
        return self._prepared(self.entries, config) if self.transferred is None else self.transferred

    def folds(self, config: PreprocessConfig) -> tuple[Fold, ...]:
        """The clips of each fold with this preprocessing; a single one without cross-validation. All folds share their frames.

        Raises:
            DataError: a clip is invalid, or signers have no clips.
            ResourceError: the store cannot be written.
        """
        entries, clips = self.entries, self.clips(config)
        part_C = np.concatenate([part_C[is_used_C] for part_C, is_used_C in zip(self._parts, self._used, strict=True)])
        entry_C = np.repeat(np.arange(len(entries)), [len(entry.names) for entry in entries])
        is_own_C = np.array([not entry.file.mirrored for entry in entries])[entry_C]
        folds = []
        for number, (train, held_out) in enumerate(self.split.train_validation_pairs(), 1):
            validates_C = (part_C == number) & is_own_C
            if self.split.clips is not None:  # a signer's clips may all be in this fold
                train = tuple(sorted({entries[n].file.signer for n in entry_C[part_C != number]}))
            place = {signer: n for n, signer in enumerate(held_out)}
            signer_C = np.array([place.get(entry.file.signer, -1) for entry in entries])[entry_C[validates_C]]
            trained = clips.select(part_C != number)
            folds.append(Fold(trained, train, clips.select(validates_C), held_out, signer_C))
        return tuple(folds)

    def all_clips(self, config: PreprocessConfig, *, with_test: bool) -> ClipSet:
        """The clips of all parts, with mirrored copies, for a training without validation. `with_test`: also of the test part.

        Raises: same as `folds`.
        """
        wanted = [(part_C >= TRAINS) | ((part_C == SEALED) & with_test) for part_C in self._parts]
        return self._prepared(selected_entries(self.data.entries, wanted), config)

    @cached_property
    def _parts(self) -> tuple[np.ndarray, ...]:
        """For each file of the data set the part of each of its clips."""
        return parts_of(self.split, self.data.entries)

    @cached_property
    def _used(self) -> list[np.ndarray]:
        """For each file of the data set which clips train or validate. A mirrored copy does not validate."""
        only_trains = [entry.file.mirrored and not self.split.folds for entry in self.data.entries]
        return [part_C == TRAINS if only else part_C >= TRAINS for only, part_C in zip(only_trains, self._parts, strict=True)]

    def warnings(self, config: PreprocessConfig) -> list[str]:
        """What looked wrong about the clips of `entries` when they were prepared, one line each."""
        return stored_warnings(self.entries, config, self.store)

    def _prepared(self, entries: Sequence[CatalogEntry], config: PreprocessConfig) -> ClipSet:
        return load_prepared(
            entries,
            config,
            self.store,
            report=lambda text: self.emit(Notice(text)),
            progress=lambda done, total: self.emit(DataPrepared(done, total)),
            inspection=Inspection(_inspect, _warnings if self.split.clips is None else _warnings_by_clip),
        )


def _inspect(file: SignerFile, clip: Clip, sampled: bool) -> ClipFacts | ClipTrace:
    from data_utils.checking.facts import inspect_clip, trace_clip  # here: where clips are prepared already, it is not needed

    return inspect_clip(file, clip) if sampled else trace_clip(file, clip)


def _warnings(clips: Sequence[ClipFacts | ClipTrace]) -> list[str]:
    from data_utils.checking.repeats import copies_in_short

    return [*copies_in_short(clips), *_serious(clips)]


def _warnings_by_clip(clips: Sequence[ClipFacts | ClipTrace]) -> list[str]:
    from data_utils.checking.repeats import changed_copies_in_short

    return [*changed_copies_in_short(clips), *_serious(clips)]


def _serious(clips: Sequence[ClipFacts | ClipTrace]) -> list[str]:
    from data_utils.checking.clip_warnings import serious_warnings
    from data_utils.checking.facts import ClipFacts

    return serious_warnings([clip for clip in clips if isinstance(clip, ClipFacts)])


def count_clips(folds: Sequence[Fold], split: Split) -> dict[str, int]:
    """Clips of the training and validation parts; with several folds, all clips count as training.

    In a split by clip also of the test part: how many are sealed is not told by its signers.
    """
    sealed = {} if split.clips is None else {"test": split.clips.num_test}
    if len(folds) > 1:
        return {"train": sum(len(fold.validation) for fold in folds), "validation": 0, **sealed}
    return {"train": len(folds[0].train), "validation": len(folds[0].validation), **sealed}


def data_store(runs: Path) -> Path:
    """The folder of prepared data and indexes of data sets. Everything in it can be created again."""
    return runs / "prepared"


def open_indexed(folder: Path, runs: Path, emit: Listener | None = None, *, kind: str = "signers") -> DataSet:
    """The data set in a folder, for a split of a kind (`Split.kind`); its index is stored under `runs`.

    Raises:
        DataError: it is invalid.
    """
    progress = None if emit is None else counting(emit, "reading the data set")
    return open_data(folder, data_store(runs) / "index", progress, with_digests=kind == "clips")
