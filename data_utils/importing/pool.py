"""Importing signers in processes, each signer's file whole or not at all."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
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
from data_utils.importing.record import Broken, Finished, Request, Source, signer_file, size
from data_utils.processes import end_with_parent

_LOOK_EVERY_S = 0.2
_FULL_BYTES = 4 << 20  # a disk with less room is full: a clip of the longest kind takes more

Progress = Callable[[int, int, int], None]
"""Takes how many clips are done, of how many, and how many were done when the work began, several times a second. What it
raises stops the work."""


def import_signers(
    request: Request,
    folder: Path,
    todo: Sequence[str],
    workers: int,
    skip_broken: bool,
    finish: Callable[[str, Finished | list[Broken]], None],
    progress: Progress,
) -> None:
    """Imports some signers in processes, most clips first, and calls `finish` with what became of each."""
    total = sum(len(clips) for clips in request.clips_of.values())
    before = total - sum(len(request.clips_of[signer]) for signer in todo)
    processes = get_context("spawn")
    board = processes.RawArray("q", len(todo) + 1)  # clips done of each signer, each written by one process; then the stop
    pool = ProcessPoolExecutor(min(workers, len(todo)), mp_context=processes, initializer=_begin, initargs=(board,))
    try:
        # Processes inherit what is blocked: Ctrl-C, which a terminal sends to all of them, is for this one to act upon.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            waiting = {
                pool.submit(
                    _import_signer,
                    _Task(place, signer, request.clips_of[signer], request.read, request.source, folder, skip_broken),
                )
                for place, signer in enumerate(sorted(todo, key=lambda signer: (-len(request.clips_of[signer]), signer)))
            }
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        while waiting:
            ended, waiting = wait(waiting, timeout=_LOOK_EVERY_S, return_when=FIRST_COMPLETED)
            for future in ended:
                finish(*future.result())
            progress(before + sum(board[:-1]), total, before)
    except BrokenProcessPool:
        progress(before + sum(board[:-1]), total, before)  # raises if all processes were told to stop at once
        full = shutil.disk_usage(folder).free < _FULL_BYTES  # HDF5 may fall when it cannot write
        hint = "the disk is full: make room, and the same command goes on" if full else "is memory short? try --workers 1"
        raise ResourceError("a process of the import was killed", where=str(folder), hint=hint) from None
    finally:
        board[-1] = 1
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Task:
    """One signer's part of the work."""

    place: int
    """On the board."""

    signer: str
    clips: Sequence[Source]
    read: Callable[[Path], np.ndarray]
    source: Path
    folder: Path
    skip_broken: bool


class _Stopped(Exception):
    """The import was told to stop, or this signer cannot be written: what was begun is dropped."""


_board: Any = None
"""In a process of the pool."""


def _begin(board: Any) -> None:
    global _board
    _board = board
    end_with_parent()


def _import_signer(task: _Task) -> tuple[str, Finished | list[Broken]]:
    """Writes one signer's file, if no clip is broken or broken ones may be skipped."""
    broken: list[Broken] = []
    path = signer_file(task.folder, task.signer)
    sound = _sound_clips(task, broken)
    try:
        first = next(sound, None)
        if first is None:
            path.unlink(missing_ok=True)  # not in the record: of another try
        else:
            write_signer(path, itertools.chain([first], sound))
            with path.open("rb") as stream:
                os.fsync(stream.fileno())  # before the record says that it is there
    except _Stopped:
        return task.signer, broken
    except (OSError, RuntimeError) as error:  # h5py raises either when a disk is full
        raise ResourceError(
            "a signer's file cannot be written",
            where=str(path),
            got=str(error),
            hint="look at the disk's free space and at the folder's permissions; then the same command goes on",
        ) from error
    return task.signer, Finished(len(task.clips) - len(broken), size(path), broken)


def _sound_clips(task: _Task, broken: list[Broken]) -> Iterator[Clip]:
    """The clips that can be read, in the order of their names; the others are added to `broken`."""
    for clip in sorted(task.clips, key=lambda clip: clip.name):
        if _board[-1]:
            raise _Stopped
        try:
            feature_CTJ = _read(task, clip)
        except DataError as fault:
            why = fault.what if fault.got is None else f"{fault.what}: {' '.join(fault.got.split())}"
            broken.append(Broken(task.signer, clip.name, clip.file, why))
        else:
            if task.skip_broken or not broken:
                yield Clip(clip.name, feature_CTJ, clip.label)
        _board[task.place] += 1
    if broken and not task.skip_broken:
        raise _Stopped


def _read(task: _Task, clip: Source) -> np.ndarray:
    path = task.source / clip.file
    try:
        return task.read(path)
    except OSError as error:
        raise DataError("the file cannot be opened", file=path, got=error.strerror, hint="may you read it?") from error
