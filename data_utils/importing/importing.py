"""Imports a data set of another layout.

Each importer makes a plan (the clips of each signer and their words) and reads single clips. This module validates the plan,
distributes the signers to processes, writes each signer's file atomically, and keeps a record in the target folder:

    DIR/<signer>.hdf5                         the layout of `data_utils.hdf5`, clips sorted by name
    DIR/sign_to_prediction_index_map.json     written last: without it, a folder is not a data set yet
    DIR/.import.json                          the record, see `data_utils.importing.record`
    DIR/.import.lock                          a file lock, held while an import runs

After an import was killed, the same command continues it and ends with the same bytes as an uninterrupted one.
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
from data_utils.folder import MIRRORED_SUFFIX
from data_utils.importing.pool import Progress, import_signers
from data_utils.importing.record import (
    LOCK_NAME,
    BrokenClip,
    Extraction,
    FinishedSigner,
    ImportPlan,
    SourceClip,
    identity_of,
    read_record,
    write_record,
)
from data_utils.wording import format_duration
from data_utils.words import DICTIONARY_NAME, words_text, write_words

FORBIDDEN_CHARACTERS = re.compile(r"[\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""In a path: control characters, surrogates (bytes that are not UTF-8), and the backslash."""

_MAX_BYTES = 200  # of a name; file systems allow 255, and the name of a temporary file is longer


@dataclass(frozen=True)
class ImportResult:
    """The contents of the target folder after an import."""

    words: int
    signers: int
    clips: int
    imported: int
    """Clips written by this run."""

    skipped: list[BrokenClip]
    """Left out, as requested."""

    broken: list[BrokenClip]
    """Their signers were not written, and neither was the dictionary."""

    @property
    def complete(self) -> bool:
        """Whether the target is a data set now."""
        return not self.broken and self.clips > 0


def run_import(plan: ImportPlan, folder: Path, *, workers: int, skip_broken: bool, progress: Progress) -> ImportResult:
    """Imports the signers that the folder does not contain yet.

    With `skip_broken`, broken clips are left out. Without, signers with a broken clip are left out and the others finished.

    Raises:
        DataError: files are missing (without `skip_broken`), or the folder contains something else. Nothing was started.
        ResourceError: another import is running in the folder, a file cannot be written, or a process was killed.
    """
    if workers < 1:
        raise DataError("`workers` is out of range", got=str(workers), expected="1 or more")
    if folder.resolve().is_relative_to(plan.source.resolve()):
        raise DataError("the target is inside the source", file=folder, hint="name a folder elsewhere")
    identity = identity_of(plan)
    finished = read_record(identity, folder)
    if not skip_broken:
        _check_files(plan, [clip for signer, clips in plan.clips_of.items() if signer not in finished for clip in clips])
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder):
        # Signers with skipped clips are imported again: the files may be repaired, or may not be skipped this time.
        finished = {signer: entry for signer, entry in read_record(identity, folder).items() if not entry.skipped}
        before = _count_clips(finished)
        broken: list[BrokenClip] = []

        def on_finished(signer: str, outcome: FinishedSigner | list[BrokenClip]) -> None:
            if isinstance(outcome, list):
                broken.extend(outcome)
            else:
                finished[signer] = outcome
                write_record(identity, folder, finished)

        todo = [signer for signer in plan.clips_of if signer not in finished]
        if todo:
            (folder / DICTIONARY_NAME).unlink(missing_ok=True)
            write_record(identity, folder, finished)
            if plan.extraction is not None:
                progress = _extract(plan.extraction, plan, todo, workers, progress)
            import_signers(plan, folder, todo, workers, skip_broken, on_finished, progress)
        result = ImportResult(
            words=len(plan.words),
            signers=len({signer.removesuffix(MIRRORED_SUFFIX) for signer, entry in finished.items() if entry.clips > 0}),
            clips=_count_clips(finished),
            imported=_count_clips(finished) - before,
            skipped=sorted(clip for entry in finished.values() for clip in entry.skipped),
            broken=sorted(broken),
        )
        if result.complete and not _has_words(folder, plan.words):
            write_words(folder, plan.words)
        if plan.extraction is not None:
            unfinished = [signer for signer in plan.clips_of if signer not in finished or finished[signer].skipped]
            plan.extraction.clean(clip for signer in unfinished for clip in plan.clips_of[signer])
        return result


def _extract(extraction: Extraction, plan: ImportPlan, todo: Sequence[str], workers: int, progress: Progress) -> Progress:
    """Runs the slow first part. Returns a progress for the rest, which is fast: it shows all clips as finished."""
    clips = [clip for signer in todo for clip in plan.clips_of[signer]]
    total = sum(map(len, plan.clips_of.values()))
    others = total - len(clips)
    extraction.run(clips, workers, lambda done, before: progress(others + done, total, others + before))
    return lambda *_: progress(total, total, total)


def check_name(name: str, what: str, *, file: Path | str, may_end_in_swap: bool = False) -> None:
    """Checks that the name of a signer or clip can be used as a file name.

    A signer named `x_swap` would be read as mirrored copies of `x`. In a clip's name the ending has no meaning.

    Raises:
        DataError: it cannot.
    """
    special = name.startswith(".") or (name.endswith("_swap") and not may_end_in_swap)
    bad = name == "" or special or FORBIDDEN_CHARACTERS.search(name) is not None or "/" in name
    if bad or len(name.encode()) > _MAX_BYTES:
        expected = f"at most {_MAX_BYTES} bytes of text without slashes, no leading dot, no `_swap` at the end"
        what = f"the name of {what} cannot be used as a file name"
        raise DataError(what, file=file, got=repr(name), expected=expected, hint="choose another name")


def progress_line(done: int, total: int, *, before: int, seconds: float) -> str:
    """The progress of an import: `1,234 of 94,477 clips, 105/s, 14m48s left`. `before` clips were finished at its start."""
    text = f"{done:,} of {total:,} clips"
    if done <= before or seconds <= 0:
        return text
    rate = (done - before) / seconds
    text += f", {rate:,.0f}/s" if rate >= 10 else f", {rate:.1f}/s"
    return text if done == total else f"{text}, {format_duration((total - done) / rate)} left"


def _check_files(plan: ImportPlan, clips: Sequence[SourceClip]) -> None:
    missing = [clip.file for clip in clips if not plan.exists(plan.source / clip.file)]
    if missing:
        more = [f"... {len(missing):,} in total"] if len(missing) > 10 else []
        raise DataError(
            f"files are missing: {len(missing):,} of {len(clips):,}",
            file=plan.source,
            got="\n".join([*missing[:10], *more]),
            hint="copy or unpack them again, or skip them with --skip-broken",
        )


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, and finally removes the temporary files of killed processes."""
    try:
        held = filelock.FileLock(folder / LOCK_NAME).acquire(timeout=0)
    except filelock.Timeout:
        hint = "wait until it has finished, or stop it"
        raise ResourceError("another import is running in the folder", where=str(folder), hint=hint) from None
    with held:
        try:
            yield
        finally:
            for leftover in folder.glob(f".*{PART_SUFFIX}"):
                leftover.unlink()


def _count_clips(finished: Mapping[str, FinishedSigner]) -> int:
    return sum(entry.clips for entry in finished.values())


def _has_words(folder: Path, words: Sequence[str]) -> bool:
    path = folder / DICTIONARY_NAME
    return path.exists() and path.read_bytes() == words_text(words).encode()
