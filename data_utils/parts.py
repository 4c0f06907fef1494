"""Which part of a split each clip belongs to. No other file decides that."""

# C clips of a file

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_utils.catalog import CatalogEntry
from data_utils.clip_split import SEALED, TRAINS, UNUSED, digest_of, divide, has_originals
from data_utils.errors import DataError
from data_utils.splits import Split


def parts_of(split: Split, entries: Sequence[CatalogEntry]) -> tuple[np.ndarray, ...]:
    """For each file the part of each of its clips, int64 `[C]`.

    `TRAINS`, in every training; 1 and more: validates in this pair of `train_validation_pairs`, and trains in the others;
    `SEALED`, in the test part; `UNUSED`. A mirrored copy has the part of its original.

    Raises:
        DataError: a split by clip finds other parts than those that were recorded.
    """
    if split.clips is None:
        groups = split.folds or (split.validation,)
        part_of = dict.fromkeys(split.train, TRAINS) | dict.fromkeys(split.test, SEALED)
        part_of |= {signer: number for number, group in enumerate(groups, 1) for signer in group}
        return tuple(np.full(len(entry.names), part_of.get(entry.file.signer, UNUSED)) for entry in entries)
    divided = divide(entries, split.clips)
    if split.clips.digest and digest_of(divided) != split.clips.digest:
        raise DataError(
            "the clips are not divided as they were when the study was made",
            got=f"digest {digest_of(divided)[:12]}...",
            expected=f"digest {split.clips.digest[:12]}...",
            hint="another version of this program divides them in another way: continue with the version that made the study",
        )

    def part(entry: CatalogEntry, name: str) -> int:
        return divided.get((entry.file.signer, name), UNUSED)

    matched = [not entry.file.mirrored or has_originals(entry, entries) for entry in entries]
    return tuple(
        np.array([part(entry, name) if is_matched else UNUSED for name in entry.names])
        for entry, is_matched in zip(entries, matched, strict=True)
    )


def sealed_entries(split: Split, entries: Sequence[CatalogEntry]) -> list[CatalogEntry]:
    """The files of the test part, without mirrored copies and without clips of other parts."""
    return selected_entries(entries, [part_C == SEALED for part_C in parts_of(split, entries)], mirrored=False)


def selected_entries(
    entries: Sequence[CatalogEntry], selected: Sequence[np.ndarray], *, mirrored: bool = True
) -> list[CatalogEntry]:
    """The files with selected clips only (a mask per file), without those that have none."""
    pairs = zip(entries, selected, strict=True)
    return [entry.select(is_C) for entry, is_C in pairs if is_C.any() and (mirrored or not entry.file.mirrored)]
