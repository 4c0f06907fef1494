"""A store of preprocessed clips: computed once per data set and preprocessing, memory-mapped, shared by all workers.

    STORE/<key>/frames.npy   float32 [N, 260], mapped copy-on-write: all processes share the same pages
                real.npy     bool [N]
                about.json   inputs, sizes, modification times and checksums; warnings about the clips

The key is a digest of the signers' files, the preprocessing and the layout version. A folder is written under a temporary name
and renamed; a damaged one is computed again. If several processes need the same data, one computes it and the others wait.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import filelock
import numpy as np

from data_utils.catalog import CatalogEntry
from data_utils.errors import ResourceError
from data_utils.files import PART_SUFFIX, write_atomically
from data_utils.landmarks import NUM_FEATURES
from data_utils.normalize import PreprocessConfig
from data_utils.prepared import ClipSet, count_rows, fill_frames, join_entries, row_ranges
from data_utils.processes import map_in_processes

if TYPE_CHECKING:
    from data_utils.folder import SignerFile
    from data_utils.hdf5 import Clip

_LAYOUT = 1  # increased whenever preprocessing or the layout of the files changes
_FRAMES_PER_PROCESS = 10_000  # about a second of work; starting a process costs half a second
_INSPECTED = 16  # clips of each file: enough to tell a signer's clips from chance, too few to take time

Report = Callable[[str], None]
"""Receives a line of text for the user."""

Progress = Callable[[int, int], None]
"""Receives the number of finished clips and their total."""


@dataclass(frozen=True)
class Inspection:
    """Looks at the clips that are read anyway while they are prepared."""

    inspect: Callable[[SignerFile, Clip, bool], Any]
    """Reduces a clip to facts; a module-level function, which processes call. The last argument is true for a sample of a
    file's clips, which may take more time."""

    conclude: Callable[[Sequence[Any]], list[str]]
    """Turns the facts into warnings, which are kept with the prepared data."""


def load_prepared(
    entries: Sequence[CatalogEntry],
    config: PreprocessConfig,
    store: Path,
    *,
    report: Report,
    progress: Progress | None = None,
    inspection: Inspection | None = None,
) -> ClipSet:
    """The preprocessed clips of some files from `store`; computed first if they are missing or damaged there.

    `inspection` looks at the clips if they are computed, or if a version prepared them that did not look; `stored_warnings`
    tells what it found.

    Raises:
        DataError: a clip is invalid.
        ResourceError: the store cannot be read or written.
    """
    key = _key(entries, config)
    folder = store / key
    try:
        store.mkdir(parents=True, exist_ok=True)
        with _lock(store / f".{key}.lock", report):
            fault = _fault(folder)
            if fault:
                report(f"the prepared data in {folder} {fault}: computing it again")
                shutil.rmtree(folder)
            show = progress or (lambda done, total: None)
            if not folder.exists():
                _compute(entries, config, folder, show, inspection)
            elif inspection is not None:
                _inspect_once(entries, folder, show, inspection)
            return _load(entries, folder)
    except OSError as error:
        raise ResourceError(
            "the prepared data cannot be written or read",
            where=str(store),
            got=error.strerror,
            hint="check whether the disk is full or read-only",
        ) from error


def stored_warnings(entries: Sequence[CatalogEntry], config: PreprocessConfig, store: Path) -> list[str]:
    """What an inspection found when these clips were prepared."""
    try:
        about = json.loads((store / _key(entries, config) / "about.json").read_text(encoding="utf-8"))
        return [str(text) for text in about.get("warnings", [])]
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def _key(entries: Sequence[CatalogEntry], config: PreprocessConfig) -> str:
    parts = [str(_LAYOUT), json.dumps(dataclasses.asdict(config), sort_keys=True)]
    parts += [f"{entry.file.path.name} {entry.sha256} {entry.selected}".rstrip() for entry in entries]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


@contextlib.contextmanager
def _lock(path: Path, report: Report) -> Iterator[None]:
    """Holds a file lock, which the system releases when the process ends."""
    lock = filelock.FileLock(path)
    try:
        held = lock.acquire(timeout=0)
    except filelock.Timeout:
        report("another process is preparing the same data: waiting for it")
        held = lock.acquire()
    with held:
        yield


def _fault(folder: Path) -> str:
    """What is wrong with a prepared folder; empty if nothing is, or if it does not exist."""
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


def _compute(
    entries: Sequence[CatalogEntry], config: PreprocessConfig, folder: Path, progress: Progress, inspection: Inspection | None
) -> None:
    for leftover in folder.parent.glob(f".{folder.name}.*{PART_SUFFIX}"):
        shutil.rmtree(leftover)  # of a killed process: this one holds the lock
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}{PART_SUFFIX}")
    temporary.mkdir()
    try:
        num_rows = count_rows(entries)
        np.lib.format.open_memmap(temporary / "frames.npy", mode="w+", dtype=np.float32, shape=(num_rows, NUM_FEATURES)).flush()
        real_N = np.zeros(num_rows, bool)
        done, total = 0, sum(len(entry.names) for entry in entries)
        facts: list[Any] = []
        filled = _fill(entries, config, temporary / "frames.npy", inspection)
        for (entry, rows), (real, found) in zip(row_ranges(entries), filled, strict=True):
            real_N[rows] = real
            facts += found
            done += len(entry.names)
            progress(done, total)
        np.save(temporary / "real.npy", real_N)
        about = {"layout": _LAYOUT, "preprocess": dataclasses.asdict(config), "clips": total, "rows": num_rows}
        if inspection is not None:
            about["warnings"] = inspection.conclude(facts)
        about["signers"] = [entry.file.path.name for entry in entries]
        about["files"] = {name: _stamp(temporary / name) for name in ("frames.npy", "real.npy")}
        (temporary / "about.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _fill(
    entries: Sequence[CatalogEntry], config: PreprocessConfig, frames: Path, inspection: Inspection | None
) -> Iterator[tuple[np.ndarray, list[Any]]]:
    """Writes the frames of each file, in several processes if there are many.

    Yields which frames are real, and the facts of the clips, per file. Not in threads: HDF5 reads in one thread at a
    time, and reading takes most of the time.
    """
    inspect = None if inspection is None else inspection.inspect
    tasks = [_Task(entry, rows, config, frames, inspect) for entry, rows in row_ranges(entries)]
    workers = min(os.cpu_count() or 1, count_rows(entries) // _FRAMES_PER_PROCESS)
    return map_in_processes(_fill_one, tasks, workers)


def _inspect_once(entries: Sequence[CatalogEntry], folder: Path, progress: Progress, inspection: Inspection) -> None:
    """Inspects clips that were prepared without. The frames, which other processes may have mapped, stay as they are."""
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    if "warnings" in about:
        return
    facts: list[Any] = []
    done, total = 0, sum(len(entry.names) for entry in entries)
    inspect = partial(_inspect_one, inspection.inspect)
    workers = min(os.cpu_count() or 1, count_rows(entries) // _FRAMES_PER_PROCESS)
    for entry, found in zip(entries, map_in_processes(inspect, entries, workers), strict=True):
        facts += found
        done += len(entry.names)
        progress(done, total)
    about["warnings"] = inspection.conclude(facts)
    write_atomically(folder / "about.json", json.dumps(about, indent=1, ensure_ascii=False) + "\n")


def _inspect_one(inspect: Callable[[SignerFile, Clip, bool], Any], entry: CatalogEntry) -> list[Any]:
    from data_utils.hdf5 import read_clips  # here: workers, which find prepared clips, need no HDF5

    names, sample = frozenset(entry.names) if entry.selected else None, _sample(entry)
    clips = read_clips(entry.file, max(entry.labels) + 1, names)
    return [inspect(entry.file, clip, clip.name in sample) for clip in clips]


def _sample(entry: CatalogEntry) -> set[str]:
    """The names of some clips of a file, spread over it."""
    return {entry.names[number] for number in np.linspace(0, len(entry.names) - 1, _INSPECTED).astype(int)}


class _Task(NamedTuple):
    entry: CatalogEntry
    rows: slice
    config: PreprocessConfig
    frames: Path
    inspect: Callable[[SignerFile, Clip, bool], Any] | None


def _fill_one(task: _Task) -> tuple[np.ndarray, list[Any]]:
    facts: list[Any] = []
    sample = _sample(task.entry)

    def on_clip(clip: Clip) -> None:
        if task.inspect is not None:
            facts.append(task.inspect(task.entry.file, clip, clip.name in sample))

    frames_NF = np.lib.format.open_memmap(task.frames, mode="r+")
    real = fill_frames(frames_NF[task.rows], task.entry, task.config, on_clip)
    frames_NF.flush()
    return real, facts


def _stamp(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    status = path.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "crc32": _checksum(path)}


def _checksum(path: Path) -> int:
    crc = 0
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 22):
            crc = zlib.crc32(chunk, crc)
    return crc


def _load(entries: Sequence[CatalogEntry], folder: Path) -> ClipSet:
    return join_entries(entries, _mapped(folder / "frames.npy"), np.load(folder / "real.npy"))


def _mapped(path: Path) -> np.ndarray:
    """A file's array; one for all that use it in this process, so that a GPU holds it once."""
    status = path.stat()
    key = path.resolve(), status.st_ino, status.st_mtime_ns, status.st_size
    array = _MAPPED.get(key)
    if array is None:
        # Copy-on-write: PyTorch accepts writable memory only, and a write affects the writing process alone.
        array = _MAPPED[key] = np.load(path, mmap_mode="c")
    return array


_MAPPED: weakref.WeakValueDictionary[tuple[Path, int, int, int], np.ndarray] = weakref.WeakValueDictionary()
"""Arrays in use, by path, inode, time of change and size of their files."""
