"""Clips that several trials of one process train on, opened once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from weakref import WeakValueDictionary

import numpy as np

from data_utils.catalog import CatalogEntry
from data_utils.normalize import PreprocessConfig
from data_utils.prepared import ClipSet
from data_utils.splits import Split
from search.trial.clips import Fold, TrialClips


@dataclass(frozen=True)
class SharedClips(TrialClips):
    """The same clips as those of `TrialClips`. As long as a trial uses a set of clips, others get the identical one.

    So their trainings can share a stack, and a GPU holds the frames once.
    """

    _folds: WeakValueDictionary[tuple[Split, PreprocessConfig, int], Fold] = field(
        default_factory=WeakValueDictionary, compare=False
    )
    _frames: WeakValueDictionary[tuple[tuple[CatalogEntry, ...], PreprocessConfig], np.ndarray] = field(
        default_factory=WeakValueDictionary, compare=False
    )

    def folds(self, config: PreprocessConfig) -> tuple[Fold, ...]:
        keys = [(self.split, config, number) for number in range(len(self.split.train_validation_pairs()))]
        found = [fold for key in keys if (fold := self._folds.get(key)) is not None]
        if len(found) < len(keys):
            found = list(super().folds(config))
            self._folds.update(zip(keys, found, strict=True))
        return tuple(found)

    def _prepared(self, entries: Sequence[CatalogEntry], config: PreprocessConfig) -> ClipSet:
        clips = super()._prepared(entries, config)
        return replace(clips, frames_NF=self._frames.setdefault((tuple(entries), config), clips.frames_NF))


def shared(trial_clips: TrialClips) -> SharedClips:
    """Clips for several trials of this process."""
    known = trial_clips
    return SharedClips(known.data, known.split, known.store, known.emit, known.transferred)
