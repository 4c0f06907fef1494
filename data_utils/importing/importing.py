"""Importing data sets of other layouts: what the importers share.

An importer plans (which clips, of whom, of which word) and reads one clip; this engine checks, shares the signers out to
processes, writes each signer's file whole or not at all, and keeps a record in the target:

    DIR/<signer>.hdf5                         the layout of `data_utils.hdf5`, clips in the order of their names
    DIR/sign_to_prediction_index_map.json     written last: a folder without it is not a data set yet
    DIR/.import.json                          the record, see `data_utils.import_record`
    DIR/.import.lock                          held by the import at work; goes with its process

The same command goes on where a killed one was, and ends in the same bytes as one in peace.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock

from data_utils.errors import DataError, ResourceError
from data_utils.files import PART_SUFFIX
from data_utils.importing.pool import Progress, import_signers
from data_utils.importing.record import LOCK_NAME, Broken, Finished, Request, Source, asked_for, read_record, write_record
from data_utils.words import DICTIONARY_NAME, words_text, write_words

BAD_MARKS = re.compile(r"[\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""In a path: control characters, what stands for bytes that are not UTF-8, and a slash of another system."""

_MOST_BYTES = 200  # of a name; a file system takes 255, and what is written aside has a longer one


@dataclass(frozen=True)
class Result:
    """What the target holds in the end."""

    words: int
    signers: int
    clips: int
    imported: int
    """Clips written this time."""

    skipped: list[Broken]
    """Left out, as was asked for."""

    broken: list[Broken]
    """Their signers are not written, and neither is the dictionary."""

    @property
    def complete(self) -> bool:
        """Whether the target is a data set now."""
        return not self.broken and self.clips > 0


def run_import(request: Request, folder: Path, *, workers: int, skip_broken: bool, progress: Progress) -> Result:
    """Imports what the folder does not hold yet.

    Broken clips: with `skip_broken` they are left out; without, their signers are, while the others are finished.

    Raises:
        DataError: files are missing (unless they may be skipped), or the folder holds other things. Nothing was started.
        ResourceError: another import is at work in the folder, a file cannot be written, or a process was killed.
    """
    if workers < 1:
        raise DataError("`workers` is out of range", got=str(workers), expected="1 or more")
    if folder.resolve().is_relative_to(request.source.resolve()):
        raise DataError("the target lies inside the source", file=folder, hint="name a folder elsewhere")
    asked = asked_for(request)
    done = read_record(asked, folder)
    if not skip_broken:
        _check_there(request, [clip for signer, clips in request.clips_of.items() if signer not in done for clip in clips])
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        # Who lacks clips is read again: what was broken may have been mended, or may not be skipped this time.
        done = {signer: entry for signer, entry in read_record(asked, folder).items() if not entry.skipped}
        before = _clips(done)
        broken: list[Broken] = []

        def finish(signer: str, outcome: Finished | list[Broken]) -> None:
            if isinstance(outcome, list):
                broken.extend(outcome)
            else:
                done[signer] = outcome
                write_record(asked, folder, done)

        todo = [signer for signer in request.clips_of if signer not in done]
        if todo:
            (folder / DICTIONARY_NAME).unlink(missing_ok=True)
            write_record(asked, folder, done)
            import_signers(request, folder, todo, workers, skip_broken, finish, progress)
        result = Result(
            words=len(request.words),
            signers=sum(entry.clips > 0 for entry in done.values()),
            clips=_clips(done),
            imported=_clips(done) - before,
            skipped=sorted(one for entry in done.values() for one in entry.skipped),
            broken=sorted(broken),
        )
        if result.complete and not _has_words(folder, request.words):
            write_words(folder, request.words)
        return result


def check_name(name: str, what: str, *, file: Path, may_end_in_swap: bool = False) -> None:
    """Refuses the name of a signer or a clip that cannot be the name of a file, or would mean something else.

    A signer of the name `x_swap` would be taken for mirrored copies of `x`; a clip's name has no such meaning.

    Raises:
        DataError: see above.
    """
    means_more = name.startswith(".") or (name.endswith("_swap") and not may_end_in_swap)
    bad = name == "" or means_more or BAD_MARKS.search(name) is not None or "/" in name
    if bad or len(name.encode()) > _MOST_BYTES:
        expected = f"up to {_MOST_BYTES} bytes of text without slashes; no dot in front, no `_swap` at the end"
        raise DataError(f"the name of {what} cannot be the name of a file", file=file, got=repr(name), expected=expected)


def progress_line(done: int, total: int, *, before: int, seconds: float) -> str:
    """How far an import is: `1,234 of 94,477 clips, 105/s, 14m48s left`. `before` clips were there when it began."""
    text = f"{done:,} of {total:,} clips"
    if done <= before or seconds <= 0:
        return text
    rate = (done - before) / seconds
    text += f", {rate:,.0f}/s" if rate >= 10 else f", {rate:.1f}/s"
    return text if done == total else f"{text}, {_duration((total - done) / rate)} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def _check_there(request: Request, clips: Sequence[Source]) -> None:
    missing = [clip.file for clip in clips if not (request.source / clip.file).exists()]
    if missing:
        more = [f"... {len(missing):,} in all"] if len(missing) > 10 else []
        raise DataError(
            f"files are missing: {len(missing):,} of {len(clips):,}",
            file=request.source,
            got="\n".join([*missing[:10], *more]),
            hint="copy or unpack them again, or leave them out with --skip-broken",
        )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the folder's lock; in the end removes what killed processes left half-written."""
    try:
        held = filelock.FileLock(folder / LOCK_NAME).acquire(timeout=0)
    except filelock.Timeout:
        raise ResourceError(
            "another import is at work in the folder", where=str(folder), hint="wait for it, or stop it"
        ) from None
    with held:
        try:
            yield
        finally:
            for left in folder.glob(f".*{PART_SUFFIX}"):
                left.unlink()


def _clips(done: Mapping[str, Finished]) -> int:
    return sum(entry.clips for entry in done.values())


def _has_words(folder: Path, words: Sequence[str]) -> bool:
    path = folder / DICTIONARY_NAME
    return path.exists() and path.read_bytes() == words_text(words).encode()
