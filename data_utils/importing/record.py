"""What an import is to do, and the record of what it has finished.

    DIR/.import.json    {"schema": 1, "kind": ..., "words": [...], "clips": {"number": ..., "sha256": ...},
                         "options": {...}, "signers": {"<signer>": {"clips": ..., "bytes": ..., "skipped": [...]}, ...}}

The file is hidden, because any other `.json` would be read as the dictionary of words. It contains no times: an import that was
killed and continued ends with the same bytes as an uninterrupted one. `options` is missing where there are none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from data_utils.errors import DataError
from data_utils.files import PART_SUFFIX, write_atomically
from data_utils.importing.corrections import NO_CORRECTIONS, Corrections

RECORD_NAME = ".import.json"
LOCK_NAME = ".import.lock"
_IGNORED = (LOCK_NAME, ".DS_Store")
_SCHEMA = 1

Notify = Callable[[str], None]
"""Receives a line for the user."""

ReadClip = Callable[[Path], np.ndarray]
"""Reads one clip as float32 `[3, T, 543]`; raises DataError if it is broken. Processes call it: a module-level function, or a
`functools.partial` of one."""


class ListedClip(NamedTuple):
    """One clip as the source lists it."""

    signer: str
    name: str
    """Its name in the signer's file."""

    word: str
    file: str
    """Its file or folder within the source."""

    session: str = ""
    """The recording session, if the source tells it."""


@dataclass(frozen=True)
class SourceClip:
    """One clip to import."""

    name: str
    """Its name in the signer's file."""

    label: int
    file: str
    """Its file or folder within the source."""

    session: str = ""
    """The recording session, if the source tells it."""


@runtime_checkable
class Extraction(Protocol):
    """The slow first part of an import, whose results `ReadClip` reads."""

    def run(self, clips: Iterable[SourceClip], workers: int, progress: Callable[[int, int], None]) -> None:
        """Prepares the clips that are not prepared yet. `progress` receives how many are, and how many were at the start."""

    def clean(self, needed: Iterable[SourceClip]) -> None:
        """Removes what was prepared, but for some clips."""


@dataclass(frozen=True)
class ImportPlan:
    """What is to be imported."""

    kind: str
    source: Path
    words: tuple[str, ...]
    """In the order of their class numbers."""

    clips_of: Mapping[str, Sequence[SourceClip]]
    """Clips by signer."""

    read: ReadClip
    exists: Callable[[Path], bool] = Path.exists
    """Whether the file of a clip is there."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """What else decides about the result, such as an unusual order of the parts. JSON."""

    reads: Mapping[str, ReadClip] = field(default_factory=dict)
    """How the clips of single signers are read, where it is not by `read`."""

    corrections: Corrections = NO_CORRECTIONS
    """Applied to each clip after it was read."""

    extraction: Extraction | None = None

    def reader(self, signer: str) -> ReadClip:
        """How the clips of a signer are read."""
        return self.reads.get(signer, self.read)


def make_plan(
    kind: str,
    source: Path,
    words: tuple[str, ...],
    clips: Iterable[ListedClip],
    read: ReadClip,
    exists: Callable[[Path], bool] = Path.exists,
    options: Mapping[str, Any] | None = None,
    reads: Mapping[str, ReadClip] | None = None,
) -> ImportPlan:
    """A plan for those of the clips whose word is among `words`."""
    labels = {word: label for label, word in enumerate(words)}
    clips_of: dict[str, list[SourceClip]] = {}
    for clip in clips:
        if clip.word in labels:
            clips_of.setdefault(clip.signer, []).append(SourceClip(clip.name, labels[clip.word], clip.file, clip.session))
    return ImportPlan(kind, source, words, clips_of, read, exists, options or {}, reads or {})


@dataclass(frozen=True, order=True)
class BrokenClip:
    """A clip that cannot be read, and why."""

    signer: str
    clip: str
    file: str
    """Within the source."""

    why: str

    expected: str = ""
    """What would have been accepted, if the error says so."""

    hint: str = ""
    """How to mend it, if the error says so."""


@dataclass(frozen=True)
class FinishedSigner:
    """The record's entry for a finished signer."""

    clips: int
    bytes: int
    """Size of the file; 0 if there is none because no clip could be read."""

    skipped: list[BrokenClip]


def identity_of(plan: ImportPlan) -> dict[str, Any]:
    """What identifies an import in its record. It does not depend on the order in which the clips are listed."""
    rows = sorted(
        (signer, clip.name, clip.label, clip.file, *([clip.session] if clip.session else []))
        for signer, clips in plan.clips_of.items()
        for clip in clips
    )
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    identity = {"kind": plan.kind, "words": list(plan.words), "clips": {"number": len(rows), "sha256": digest}}
    options = {**plan.options, **plan.corrections.options()}
    return {**identity, "options": options} if options else identity


def write_record(identity: Mapping[str, Any], folder: Path, finished: Mapping[str, FinishedSigner]) -> None:
    """Writes the record atomically."""
    signers = {signer: asdict(finished[signer]) for signer in sorted(finished)}
    record = {"schema": _SCHEMA, **identity, "signers": signers}
    write_atomically(folder / RECORD_NAME, json.dumps(record, ensure_ascii=False, indent=1) + "\n")


def read_record(identity: Mapping[str, Any], folder: Path) -> dict[str, FinishedSigner]:
    """The signers that are finished according to the record and whose files still exist; empty for a new folder.

    Raises:
        DataError: the folder contains other files, another import, or a record that cannot be read.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError("the target is a file, not a folder", file=folder, hint="name a new folder")
    path = folder / RECORD_NAME
    if not path.exists():
        others = sorted(p.name for p in folder.glob("*") if p.name not in _IGNORED and not p.match(f".*{PART_SUFFIX}"))
        if others:
            raise DataError(
                "the target is not empty and contains no import",
                file=folder,
                got=", ".join(others[:5]) + (", ..." if len(others) > 5 else ""),
                hint="name a new folder, or empty this one yourself",
            )
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema"] != _SCHEMA:
            raise ValueError(f"its schema is {record['schema']}, not {_SCHEMA}")
        different = [key for key in ("kind", "words", "clips") if record[key] != identity[key]]
        if record.get("options", {}) != identity.get("options", {}):
            different.append("options")
        finished = {
            signer: FinishedSigner(int(entry["clips"]), int(entry["bytes"]), [BrokenClip(**one) for one in entry["skipped"]])
            for signer, entry in record["signers"].items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            "the record of the import cannot be read", file=path, got=str(error), hint="name a new folder"
        ) from error
    if different:
        raise DataError(
            "the folder contains another import",
            file=folder,
            got=f"other {' and '.join(different)}",
            expected="the same source and options as when the import was started",
            hint="name a new folder, or run the first command again",
        )
    return {signer: entry for signer, entry in finished.items() if file_size(signer_path(folder, signer)) == entry.bytes}


def signer_path(folder: Path, signer: str) -> Path:
    """Path of a signer's file."""
    return folder / f"{signer}.hdf5"


def file_size(path: Path) -> int:
    """Size of a file in bytes, 0 if it does not exist."""
    return path.stat().st_size if path.exists() else 0
