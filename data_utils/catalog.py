"""The catalog of a data set: clip names, labels, lengths, sessions and a digest of each signer's file, without landmarks.

Reading it takes a while for 94,000 clips, so the entries are cached in a folder. A cached entry is valid while the file's size,
modification time and inode stay the same. Digests of the clips take much longer, so that only a split by clip asks for them;
they are cached in entries of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.errors import DataError
from data_utils.files import write_atomically
from data_utils.folder import SignerFile, check_plain_file

_FORMAT = 2
_COLUMNS = ("names", "labels", "lengths", "sessions", "digests")
"""The fields of an entry with a value for each clip."""

Progress = Callable[[int, int], None]
"""Receives how much is done, and of how much."""


@dataclass(frozen=True)
class CatalogEntry:
    """One signer's file. Clips are sorted by name."""

    file: SignerFile
    sha256: str
    names: tuple[str, ...]
    labels: tuple[int, ...]
    lengths: tuple[int, ...]
    """Frames of each clip."""

    sessions: tuple[str, ...] = ()
    """The recording session of each clip; empty text where it is not known."""

    digests: tuple[str, ...] = ()
    """Of each clip's landmarks; see `ClipIndex`. Empty text if they were not asked for, or the clips are mirrored copies."""

    selected: str = ""
    """A digest of the clips' names if they are not all of the file's; else empty."""

    def select(self, selected_C: np.ndarray) -> CatalogEntry:
        """The entry with some of its clips, by a mask with at least one of them."""
        if selected_C.all():
            return self

        def some(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(value for value, is_selected in zip(values, selected_C, strict=True) if is_selected)

        columns: dict[str, Any] = {name: some(getattr(self, name)) for name in _COLUMNS}
        return replace(self, **columns, selected=hashlib.sha256("\0".join(columns["names"]).encode()).hexdigest())


def read_catalog(
    files: Sequence[SignerFile],
    num_words: int,
    cache: Path | None,
    progress: Progress | None = None,
    *,
    with_digests: bool = False,
) -> tuple[CatalogEntry, ...]:
    """An entry for each file, from the folder `cache` where that is still valid.

    `progress` receives the number of files that are read, and their total. `with_digests`: of the landmarks of each clip.

    Raises:
        DataError: a file or, for its digest, a clip cannot be read, or a label is outside the dictionary.
    """
    entries: list[CatalogEntry] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # hashing releases the interpreter lock
        for entry in pool.map(lambda file: _entry(file, cache, with_digests and not file.mirrored), files):
            entries.append(entry)
            if progress is not None:
                progress(len(entries), len(files))
    for entry in entries:
        for name, label in zip(entry.names, entry.labels, strict=True):
            if not 0 <= label < num_words:
                from data_utils.hdf5 import label_outside

                raise label_outside(entry.file.path, name, label, num_words)
    return tuple(entries)


def _entry(file: SignerFile, cache: Path | None, with_digests: bool) -> CatalogEntry:
    check_plain_file(file.path)
    try:
        stamp = _stamp(file.path)  # taken first: a change while the file is read makes the entry invalid
        cached = None if cache is None else _cache_path(file, cache, with_digests)
        if cached is not None and (known := _load(cached, file, stamp)) is not None:
            return known
        with file.path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        hint = "check its permissions"
        raise DataError("the file cannot be opened", file=file.path, got=error.strerror, hint=hint) from error
    from data_utils.hdf5 import read_index  # here: workers, which find every entry cached, need no HDF5

    columns: list[Any] = list(zip(*read_index(file, with_digests=with_digests), strict=True))
    entry = CatalogEntry(file, digest, *columns)
    if cached is not None:
        _save(cached, entry, stamp)
    return entry


def _cache_path(file: SignerFile, cache: Path, with_digests: bool) -> Path:
    name = hashlib.sha256(str(file.path.resolve()).encode()).hexdigest()[:24]
    return cache / f"{name}{'.digests' if with_digests else ''}.json"


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [_FORMAT, status.st_size, status.st_mtime_ns, status.st_ino]


def _load(cached: Path, file: SignerFile, stamp: list[int]) -> CatalogEntry | None:
    try:
        stored = json.loads(cached.read_text(encoding="utf-8"))
        if stored["stamp"] != stamp:
            return None
        columns: dict[str, Any] = {name: tuple(stored[name]) for name in _COLUMNS}
        return CatalogEntry(file, stored["sha256"], **columns)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # missing or damaged: the file is read again


def _save(cached: Path, entry: CatalogEntry, stamp: list[int]) -> None:
    stored = {"stamp": stamp, "file": str(entry.file.path), "sha256": entry.sha256}
    stored |= {name: getattr(entry, name) for name in _COLUMNS}
    with contextlib.suppress(OSError):  # a full or read-only disk: the next run reads the file again
        write_atomically(cached, json.dumps(stored, ensure_ascii=False))
