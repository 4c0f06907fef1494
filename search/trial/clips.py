"""The training and validation clips of a study, prepared in files that runs and workers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_utils.catalog import CatalogEntry
from data_utils.normalize import PreprocessConfig
from data_utils.prepared import ClipSet, DataSet, open_data
from data_utils.splits import Split
from data_utils.store import load_prepared
from search.events import DataPrepared, Listener, Notice


@dataclass(frozen=True)
class Fold:
    """The clips of one training."""

    train: ClipSet
    trained_on: tuple[str, ...]
    """Whose clips they are."""

    validation: ClipSet
    signers: tuple[str, ...]
    """Who validates."""

    signer_C: np.ndarray
    """int64 `[C]`: whose each validation clip is, as an index into `signers`."""


@dataclass(frozen=True)
class TrialClips:
    """The clips that trials train and validate on, in files under `store`. `turns` never reads the test part."""

    data: DataSet
    split: Split
    store: Path
    emit: Listener
    carried: ClipSet | None = None
    """The clips of `entries`, prepared, where neither the data set nor the store can be read."""

    def with_folds(self, folds: tuple[tuple[str, ...], ...]) -> TrialClips:
        """The same data with other folds; none given: the study's own."""
        return replace(self, split=replace(self.split, folds=folds)) if folds else self

    @property
    def entries(self) -> list[CatalogEntry]:
        """The files that `turns` reads, in their order.

        Raises:
            DataError: signers have no clip.
        """
        folds = self.split.train_validation_pairs()
        wanted = {entry.file.path for train, _ in folds for entry in self.data.entries_of(train, mirrored=True)}
        wanted |= {entry.file.path for _, held_out in folds for entry in self.data.entries_of(held_out, mirrored=False)}
        return [entry for entry in self.data.entries if entry.file.path in wanted]

    def clips(self, config: PreprocessConfig) -> ClipSet:
        """The clips of `entries`, with this pre-processing.

        Raises: as `turns`.
        """
        return self._prepared(self.entries, config) if self.carried is None else self.carried

    def folds(self, config: PreprocessConfig) -> tuple[Fold, ...]:
        """The clips of each training, with this pre-processing: one, or one a fold. All share their frames.

        Raises:
            DataError: a clip is not what it should be, or signers have no clip.
            ResourceError: the store cannot be written.
        """
        entries, clips = self.entries, self.clips(config)
        entry_C = np.repeat(np.arange(len(entries)), [len(entry.names) for entry in entries])
        found = []
        for train, held_out in self.split.train_validation_pairs():
            trains = np.array([entry.file.signer in train for entry in entries])
            place = [
                held_out.index(entry.file.signer) if entry.file.signer in held_out and not entry.file.mirrored else -1
                for entry in entries
            ]
            signer_C = np.array(place)[entry_C]
            validates_C = signer_C >= 0
            found.append(Fold(clips.select(trains[entry_C]), train, clips.select(validates_C), held_out, signer_C[validates_C]))
        return tuple(found)

    def together(self, config: PreprocessConfig) -> ClipSet:
        """The clips of all training signers, mirrored copies included, for a training that nobody validates.

        Raises: as `turns`.
        """
        return self._prepared(self.data.entries_of(self.split.train, mirrored=True), config)

    def _prepared(self, entries: Sequence[CatalogEntry], config: PreprocessConfig) -> ClipSet:
        return load_prepared(
            entries,
            config,
            self.store,
            report=lambda text: self.emit(Notice(text)),
            progress=lambda done, total: self.emit(DataPrepared(done, total)),
        )


def count_clips(folds: Sequence[Fold]) -> dict[str, int]:
    """Clips of the training and validation parts; with folds, all that validate in turn count as training."""
    if len(folds) > 1:
        return {"train": sum(len(fold.validation) for fold in folds), "validation": 0}
    return {"train": len(folds[0].train), "validation": len(folds[0].validation)}


def data_store(runs: Path) -> Path:
    """Where prepared data and the index of data sets are kept: everything in it can be made again."""
    return runs / "prepared"


def open_indexed(folder: Path, runs: Path) -> DataSet:
    """The data set in a folder; its index is kept under `runs`.

    Raises:
        DataError: it is not what it should be.
    """
    return open_data(folder, data_store(runs) / "index")
