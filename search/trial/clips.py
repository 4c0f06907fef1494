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
from search.events import DataPrepared, Listener, Notice, counting


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

    def with_folds(self, folds: tuple[tuple[str, ...], ...]) -> TrialClips:
        """The same data with other folds; with the study's own if `folds` is empty."""
        return replace(self, split=replace(self.split, folds=folds)) if folds else self

    @property
    def entries(self) -> list[CatalogEntry]:
        """The files of all folds, in the order of the data set.

        Raises:
            DataError: signers have no clips.
        """
        folds = self.split.train_validation_pairs()
        wanted = {entry.file.path for train, _ in folds for entry in self.data.entries_of(train, mirrored=True)}
        wanted |= {entry.file.path for _, held_out in folds for entry in self.data.entries_of(held_out, mirrored=False)}
        return [entry for entry in self.data.entries if entry.file.path in wanted]

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
        entry_C = np.repeat(np.arange(len(entries)), [len(entry.names) for entry in entries])
        folds = []
        for train, held_out in self.split.train_validation_pairs():
            is_train = np.array([entry.file.signer in train for entry in entries])
            signer = [
                held_out.index(entry.file.signer) if entry.file.signer in held_out and not entry.file.mirrored else -1
                for entry in entries
            ]
            signer_C = np.array(signer)[entry_C]
            validates_C = signer_C >= 0
            validation = clips.select(validates_C)
            folds.append(Fold(clips.select(is_train[entry_C]), train, validation, held_out, signer_C[validates_C]))
        return tuple(folds)

    def all_training_clips(self, config: PreprocessConfig) -> ClipSet:
        """The clips of all training signers, with mirrored copies, for a training without validation.

        Raises: same as `folds`.
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
    """Clips of the training and validation parts; with several folds, all clips count as training."""
    if len(folds) > 1:
        return {"train": sum(len(fold.validation) for fold in folds), "validation": 0}
    return {"train": len(folds[0].train), "validation": len(folds[0].validation)}


def data_store(runs: Path) -> Path:
    """The folder of prepared data and indexes of data sets. Everything in it can be created again."""
    return runs / "prepared"


def open_indexed(folder: Path, runs: Path, emit: Listener | None = None) -> DataSet:
    """The data set in a folder; its index is stored under `runs`.

    Raises:
        DataError: it is invalid.
    """
    progress = None if emit is None else counting(emit, "reading the data set")
    return open_data(folder, data_store(runs) / "index", progress)
