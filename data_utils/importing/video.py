"""Imports videos: their landmarks are found by MediaPipe, in a process per core, and kept until their signers are written.

    DIR/.videos/<digest>.npy        landmarks of a video, float32 [3, T, 543]; the digest is of path, size and time
    DIR/.videos/<digest>.json       why a video cannot be read; tried again by the next import

A video takes seconds, so an import that was stopped or killed continues with the videos that are not finished. The folder is
removed as soon as no signer needs it.
"""

# C coordinates (3), T frames, J landmarks (543)

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import queue
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_utils.errors import DataError
from data_utils.files import write_atomically
from data_utils.importing.clip_files import clips_in_files
from data_utils.importing.corrections import Corrections
from data_utils.importing.listing import without_repeats
from data_utils.importing.record import ImportPlan, Notify, SourceClip, make_plan
from data_utils.importing.scanning import COMMANDS, Kind, scan
from data_utils.importing.video_process import Stopped, VideoReader
from data_utils.importing.video_setup import check_set_up, interpreter
from data_utils.processes import without_ctrl_c

KIND = Kind("video", COMMANDS["import-video"])
"""The files that are read."""

STORE_NAME = ".videos"
_POLL_EVERY_S = 0.2


def plan_import(
    source: Path,
    folder: Path,
    *,
    signer: str | None = None,
    layout: str | None = None,
    mirrored: tuple[str, ...] = (),
    notify: Notify = lambda text: None,
) -> ImportPlan:
    """Plans the import of all videos. Words are numbered in alphabetical order; clips are named `<word>__<clip>`.

    Args:
        source: a folder.
        folder: the folder of the data set, in which landmarks are kept meanwhile.
        signer: who signs in all videos; then folders are words.
        layout: a pattern of paths, see `data_utils.importing.layout`.
        mirrored: signers whose videos show a mirrored picture, `("all",)` for all.
        notify: receives lines about what was found and left out.

    Raises:
        DataError: MediaPipe is not set up, the files have another layout, or two clips would get the same name.
    """
    found = scan(source, KIND)
    check_set_up()
    clips = without_repeats(clips_in_files(source, found, layout, signer, notify), source)
    corrections = Corrections(mirrored=mirrored)
    corrections.check({clip.signer for clip in clips})
    flipped = frozenset(clip.file for clip in clips if corrections.is_mirrored(clip.signer))
    extraction = VideoExtraction(source, folder / STORE_NAME, flipped)
    read = functools.partial(read_landmarks, extraction=extraction)
    words = tuple(sorted({clip.word for clip in clips}))
    plan = make_plan("video", source, words, clips, read, options=corrections.options())
    return dataclasses.replace(plan, extraction=extraction)


def read_landmarks(path: Path, *, extraction: VideoExtraction) -> np.ndarray:
    """The landmarks that were found in a video, float32 `[3, T, 543]`, NaN = not detected.

    Raises:
        DataError: the video could not be read, or has changed since.
    """
    kept, reason = extraction.files_of(path)
    if kept.exists():
        return np.load(kept, allow_pickle=False)
    if reason.exists():
        raise DataError(**json.loads(reason.read_text(encoding="utf-8")), file=path)
    raise DataError("the video has changed during the import", file=path, hint="run the same command again")


@dataclass(frozen=True)
class VideoExtraction:
    """Finds the landmarks of an import's videos before its signers are written, and keeps them."""

    source: Path
    store: Path
    mirrored: frozenset[str]
    """Files within the source that show a mirrored picture."""

    def run(self, clips: Iterable[SourceClip], workers: int, progress: Callable[[int, int], None]) -> None:
        """Finds the landmarks of those clips that have none yet.

        Args:
            clips: what to read.
            workers: number of processes.
            progress: receives the number of finished clips and how many were finished at the start, several times per second.
                An exception that it raises stops the processes.

        Raises:
            ResourceError: MediaPipe does not start.
            OSError: landmarks cannot be kept.
        """
        videos = [self.source / clip.file for clip in clips]
        todo: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for video in videos:
            if video.exists() and not self.files_of(video)[0].exists():
                todo.put(video)
        if todo.empty():
            return
        before = len(videos) - todo.qsize()
        readers = [VideoReader(interpreter()) for _ in range(min(workers, todo.qsize()))]
        finished: queue.SimpleQueue[Path] = queue.SimpleQueue()
        threads = ThreadPoolExecutor(len(readers))
        try:
            with without_ctrl_c():
                pending = {threads.submit(self._work, reader, todo, finished) for reader in readers}
            while pending:
                done, pending = wait(pending, timeout=_POLL_EVERY_S, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                progress(before + finished.qsize(), before)
        finally:
            for reader in readers:
                reader.stop()
            threads.shutdown()
            for reader in readers:
                reader.close()

    def clean(self, needed: Iterable[SourceClip]) -> None:
        """Removes all that is kept but the landmarks of some clips."""
        videos = [self.source / clip.file for clip in needed]
        kept = {self.files_of(video)[0] for video in videos if video.exists()}
        for path in self.store.glob("*"):
            if path not in kept:
                path.unlink()
        if not kept and self.store.exists():
            self.store.rmdir()

    def files_of(self, video: Path) -> tuple[Path, Path]:
        """The files that hold a video's landmarks, or why it cannot be read."""
        found = video.stat()
        file = video.relative_to(self.source).as_posix()
        described = [file, file in self.mirrored, found.st_size, found.st_mtime_ns]
        digest = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:24]
        return self.store / f"{digest}.npy", self.store / f"{digest}.json"

    def _work(self, reader: VideoReader, todo: queue.SimpleQueue[Path], finished: queue.SimpleQueue[Path]) -> None:
        """Reads videos until none is left."""
        with contextlib.suppress(queue.Empty, Stopped):
            while True:
                video = todo.get_nowait()
                kept, reason = self.files_of(video)
                try:
                    found = io.BytesIO()
                    mirrored = video.relative_to(self.source).as_posix() in self.mirrored
                    np.save(found, reader.read(video, mirrored=mirrored))
                    write_atomically(kept, found.getvalue())
                except DataError as error:
                    write_atomically(reason, json.dumps({"what": error.what, "got": error.got, "expected": error.expected}))
                finished.put(video)
