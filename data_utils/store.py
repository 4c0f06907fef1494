"""Prepared clips in files: made once for a data set and a pre-processing, mapped into memory, shared by every worker.

    STORE/<key>/frames.npy   float32 [N, 260], mapped copy-on-write: all processes share the same pages
                real.npy     bool [N]
                about.json   what it was made from, sizes, times and checksums

The key is a digest of the signers' files, the pre-processing and this layout: other inputs, another folder. A folder appears
whole or not at all; one that was damaged since is made again. Processes that want the same at once wait for the first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from data_utils.catalog import CatalogEntry
from data_utils.errors import ResourceError
from data_utils.files import PART_SUFFIX
from data_utils.landmarks import NUM_FEATURES
from data_utils.normalize import PreprocessConfig
from data_utils.prepared import ClipSet, count_rows, fill_frames, join_entries, rows_of
from data_utils.processes import end_with_parent

_LAYOUT = 1  # a new number whenever preprocessing or the files' layout change
_PARALLEL_FROM = 200_000  # frames; below, starting processes costs more than they save

Report = Callable[[str], None]
"""Takes a line of text for people."""

Progress = Callable[[int, int], None]
"""Takes how many clips are done, of how many."""


def load_prepared(
    entries: Sequence[CatalogEntry], config: PreprocessConfig, store: Path, *, report: Report, progress: Progress | None = None
) -> ClipSet:
    """The clips of some files, from `store`, where they are made if they are not there.

    Raises:
        DataError: a clip is not what it should be.
        ResourceError: the store cannot be written.
    """
    key = _key(entries, config)
    folder = store / key
    try:
        store.mkdir(parents=True, exist_ok=True)
        with _alone(store / f".{key}.lock", report):
            fault = _fault(folder)
            if fault:
                report(f"the prepared data in {folder} {fault}: making it again")
                shutil.rmtree(folder)
            if not folder.exists():
                _make(entries, config, folder, progress or (lambda done, total: None))
            return _load(entries, folder)
    except OSError as error:
        raise ResourceError(
            "the prepared data cannot be written or read",
            where=str(store),
            got=error.strerror,
            hint="is the disk full or read-only?",
        ) from error


def _key(entries: Sequence[CatalogEntry], config: PreprocessConfig) -> str:
    parts = [str(_LAYOUT), json.dumps(dataclasses.asdict(config), sort_keys=True)]
    parts += [f"{entry.file.path.name} {entry.sha256}" for entry in entries]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


@contextlib.contextmanager
def _alone(path: Path, report: Report) -> Iterator[None]:
    """Holds a lock that goes with the process."""
    lock = filelock.FileLock(path)
    try:
        held = lock.acquire(timeout=0)
    except filelock.Timeout:
        report("another process is preparing the same data: waiting for it")
        held = lock.acquire()
    with held:
        yield


def _fault(folder: Path) -> str:
    """What is wrong with a prepared folder; empty if nothing, or if it is not there."""
    if not folder.exists():
        return ""
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        for name, stamp in about["files"].items():
            status = (folder / name).stat()
            if status.st_size != stamp["bytes"]:
                return f"is cut short ({name})"
            if status.st_mtime_ns != stamp["mtime_ns"] and _checksum(folder / name) != stamp["crc32"]:
                return f"is damaged ({name})"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "is damaged (about.json)"
    return ""


def _make(entries: Sequence[CatalogEntry], config: PreprocessConfig, folder: Path, progress: Progress) -> None:
    for left in folder.parent.glob(f".{folder.name}.*{PART_SUFFIX}"):
        shutil.rmtree(left)  # of a process that was killed: the lock is ours
    aside = folder.with_name(f".{folder.name}.{os.getpid()}{PART_SUFFIX}")
    aside.mkdir()
    try:
        rows = count_rows(entries)
        np.lib.format.open_memmap(aside / "frames.npy", mode="w+", dtype=np.float32, shape=(rows, NUM_FEATURES)).flush()
        real_N = np.zeros(rows, bool)
        done, total = 0, sum(len(entry.names) for entry in entries)
        for (entry, place), real in zip(rows_of(entries), _filled(entries, config, aside / "frames.npy"), strict=True):
            real_N[place] = real
            done += len(entry.names)
            progress(done, total)
        np.save(aside / "real.npy", real_N)
        about = {"layout": _LAYOUT, "preprocess": dataclasses.asdict(config), "clips": total, "rows": rows}
        about["signers"] = [entry.file.path.name for entry in entries]
        about["files"] = {name: _stamp(aside / name) for name in ("frames.npy", "real.npy")}
        (aside / "about.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _filled(entries: Sequence[CatalogEntry], config: PreprocessConfig, frames: Path) -> Iterator[np.ndarray]:
    """Fills the frames of each file, in processes where there are many; which frames are real, file by file."""
    tasks = [(entry, place, config, frames) for entry, place in rows_of(entries)]
    workers = min(os.cpu_count() or 1, len(tasks))
    if workers == 1 or count_rows(entries) < _PARALLEL_FROM:
        yield from map(_fill_one, tasks)
        return
    pool: Executor
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        try:
            yield from pool.map(_fill_one, tasks)
        finally:
            pool.shutdown(cancel_futures=True)


def _fill_one(task: tuple[CatalogEntry, slice, PreprocessConfig, Path]) -> np.ndarray:
    entry, place, config, path = task
    frames_NF = np.lib.format.open_memmap(path, mode="r+")
    real = fill_frames(frames_NF[place], entry, config)
    frames_NF.flush()
    return real


def _stamp(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    status = path.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "crc32": _checksum(path)}


def _checksum(path: Path) -> int:
    crc = 0
    with path.open("rb") as stream:
        while piece := stream.read(1 << 22):
            crc = zlib.crc32(piece, crc)
    return crc


def _load(entries: Sequence[CatalogEntry], folder: Path) -> ClipSet:
    # Copy-on-write: PyTorch takes writable memory only, and a write would stay in the process that made it.
    frames_NF = np.load(folder / "frames.npy", mmap_mode="c")
    return join_entries(entries, frames_NF, np.load(folder / "real.npy"))
