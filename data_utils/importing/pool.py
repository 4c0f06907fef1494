"""Imports signers in several processes. Each signer's file is written atomically."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.errors import DataError, ResourceError
from data_utils.hdf5 import Clip, write_signer
from data_utils.importing.corrections import Corrections
from data_utils.importing.record import BrokenClip, FinishedSigner, ImportPlan, SourceClip, file_size, signer_path
from data_utils.processes import end_with_parent, without_ctrl_c, without_main_module

_POLL_EVERY_S = 0.2
_FULL_BYTES = 4 << 20  # a disk with less free space counts as full: the longest clips need more

Progress = Callable[[int, int, int], None]
"""Receives the number of finished clips, their total, and how many were finished at the start, several times per second. An
exception that it raises stops the import."""


def import_signers(
    plan: ImportPlan,
    folder: Path,
    todo: Sequence[str],
    workers: int,
    skip_broken: bool,
    on_finished: Callable[[str, FinishedSigner | list[BrokenClip]], None],
    progress: Progress,
) -> None:
    """Imports some signers in processes, those with most clips first. Calls `on_finished` with the result of each."""
    total = sum(len(clips) for clips in plan.clips_of.values())
    before = total - sum(len(plan.clips_of[signer]) for signer in todo)
    context = get_context("spawn")
    counters = context.RawArray("q", len(todo) + 1)  # clips done per signer, each written by one process; last, the stop flag
    pool = ProcessPoolExecutor(min(workers, len(todo)), mp_context=context, initializer=_initialize, initargs=(counters,))
    try:
        with without_main_module(), without_ctrl_c():
            pending = {
                pool.submit(
                    _import_signer,
                    _Task(
                        index,
                        signer,
                        plan.clips_of[signer],
                        plan.reader(signer),
                        plan.corrections,
                        plan.source,
                        folder,
                        skip_broken,
                    ),
                )
                for index, signer in enumerate(sorted(todo, key=lambda signer: (-len(plan.clips_of[signer]), signer)))
            }
        while pending:
            done, pending = wait(pending, timeout=_POLL_EVERY_S, return_when=FIRST_COMPLETED)
            for future in done:
                on_finished(*future.result())
            progress(before + sum(counters[:-1]), total, before)
    except BrokenProcessPool:
        progress(before + sum(counters[:-1]), total, before)  # raises if all processes received the same signal
        full = shutil.disk_usage(folder).free < _FULL_BYTES  # HDF5 may crash when it cannot write
        hint = "free some disk space and run the same command again" if full else "memory may be short: try --workers 1"
        raise ResourceError("a process of the import was killed", where=str(folder), hint=hint) from None
    finally:
        counters[-1] = 1
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Task:
    """The import of one signer."""

    index: int
    """Of its counter."""

    signer: str
    clips: Sequence[SourceClip]
    read: Callable[[Path], np.ndarray]
    corrections: Corrections
    source: Path
    folder: Path
    skip_broken: bool


class _Cancelled(Exception):
    """The import was stopped, or a clip of this signer is broken: the unfinished file is discarded."""


_counters: Any = None
"""Shared memory, set in each process of the pool."""


def _initialize(counters: Any) -> None:
    global _counters
    _counters = counters
    end_with_parent()


def _import_signer(task: _Task) -> tuple[str, FinishedSigner | list[BrokenClip]]:
    """Writes one signer's file unless a clip is broken and broken clips may not be skipped."""
    broken: list[BrokenClip] = []
    path = signer_path(task.folder, task.signer)
    readable = _readable_clips(task, broken)
    try:
        first = next(readable, None)
        if first is None:
            path.unlink(missing_ok=True)  # of an earlier attempt: it is not in the record
        else:
            write_signer(path, itertools.chain([first], readable))
            with path.open("rb") as stream:
                os.fsync(stream.fileno())  # before the record lists it
    except _Cancelled:
        return task.signer, broken
    except (OSError, RuntimeError) as error:  # h5py raises either when a disk is full
        raise ResourceError(
            "a signer's file cannot be written",
            where=str(path),
            got=str(error),
            hint="check free disk space and the folder's permissions, then run the same command again",
        ) from error
    return task.signer, FinishedSigner(len(task.clips) - len(broken), file_size(path), broken)


def _readable_clips(task: _Task, broken: list[BrokenClip]) -> Iterator[Clip]:
    """The clips that can be read, sorted by name; the others are added to `broken`."""
    for clip in sorted(task.clips, key=lambda clip: clip.name):
        if _counters[-1]:
            raise _Cancelled
        try:
            feature_CTJ = _read(task, clip)
        except DataError as fault:
            why = fault.what if fault.got is None else f"{fault.what}: {' '.join(fault.got.split())}"
            file = _file_within(task.source / clip.file, fault.file, task.source)
            broken.append(BrokenClip(task.signer, clip.name, file, why, fault.expected or "", fault.hint or ""))
        else:
            if task.skip_broken or not broken:
                yield Clip(clip.name, feature_CTJ, clip.label, clip.session)
        _counters[task.index] += 1
    if broken and not task.skip_broken:
        raise _Cancelled


def _file_within(clip: Path, fault: Path | None, source: Path) -> str:
    """What is broken, within the source: the clip, or the frame that an error names."""
    frame = fault is not None and fault.is_relative_to(source) and not clip.is_relative_to(fault)
    return str((fault if frame and fault is not None else clip).relative_to(source))


def _read(task: _Task, clip: SourceClip) -> np.ndarray:
    path = task.source / clip.file
    try:
        return task.corrections.apply(task.signer, task.read(path))
    except OSError as error:
        raise DataError("the file cannot be opened", file=path, got=error.strerror, hint="check its permissions") from error
