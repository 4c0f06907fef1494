"""The record of an import: what was asked for, and what is finished.

    DIR/.import.json    {"schema": 1, "kind": ..., "words": [...], "clips": {"number": ..., "sha256": ...},
                         "signers": {"<signer>": {"clips": ..., "bytes": ..., "skipped": [...]}, ...}}

It is hidden, for a plain `.json` would be taken for a dictionary of words, and holds no times: an import that was killed and
started again ends in the same bytes as one in peace.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.errors import DataError
from data_utils.files import PART_SUFFIX, write_atomically

RECORD_NAME = ".import.json"
LOCK_NAME = ".import.lock"
_NO_MATTER = (LOCK_NAME, ".DS_Store")
_SCHEMA = 1


@dataclass(frozen=True)
class Source:
    """One clip that is to be imported."""

    name: str
    """What it will be called in its signer's file."""

    label: int
    file: str
    """Its file or folder within the source."""


@dataclass(frozen=True)
class Request:
    """What is to be imported."""

    kind: str
    source: Path
    words: tuple[str, ...]
    """In the order of their class numbers."""

    clips_of: Mapping[str, Sequence[Source]]
    """By signer."""

    read: Callable[[Path], np.ndarray]
    """Reads one clip, float32 `[3, T, 543]`; raises DataError where it is broken. A function of a module: processes call it."""


@dataclass(frozen=True, order=True)
class Broken:
    """A clip that cannot be read, and why."""

    signer: str
    clip: str
    file: str
    """Within the source."""

    why: str


@dataclass(frozen=True)
class Finished:
    """What the record says of a signer who is finished."""

    clips: int
    bytes: int
    """Size of the file; 0 where no clip could be read and there is none."""

    skipped: list[Broken]


def asked_for(request: Request) -> dict[str, Any]:
    """What an import is known by. The clips are in no order, so that their list may be in any."""
    rows = sorted((signer, clip.name, clip.label, clip.file) for signer, clips in request.clips_of.items() for clip in clips)
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    clips = {"number": len(rows), "sha256": digest}
    return {"kind": request.kind, "words": list(request.words), "clips": clips}


def write_record(asked: Mapping[str, Any], folder: Path, done: Mapping[str, Finished]) -> None:
    """Writes the record, whole or not at all. `asked` is what the import is known by."""
    record = {"schema": _SCHEMA, **asked, "signers": {signer: asdict(done[signer]) for signer in sorted(done)}}
    write_atomically(folder / RECORD_NAME, json.dumps(record, ensure_ascii=False, indent=1) + "\n")


def read_record(asked: Mapping[str, Any], folder: Path) -> dict[str, Finished]:
    """The signers that are finished, by the record, and still there; none for a new folder.

    Raises:
        DataError: the folder holds other things, another import, or a record that cannot be read.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError("the target is a file, not a folder", file=folder, hint="name a new folder")
    path = folder / RECORD_NAME
    if not path.exists():
        others = sorted(p.name for p in folder.glob("*") if p.name not in _NO_MATTER and not p.match(f".*{PART_SUFFIX}"))
        if others:
            raise DataError(
                "the target is not empty, and no import began it",
                file=folder,
                got=", ".join(others[:5]) + (", ..." if len(others) > 5 else ""),
                hint="name a new folder, or empty this one yourself",
            )
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema"] != _SCHEMA:
            raise ValueError(f"it is of schema {record['schema']}, not {_SCHEMA}")
        differ = [what for what in asked if record[what] != asked[what]]
        done = {
            signer: Finished(int(entry["clips"]), int(entry["bytes"]), [Broken(**one) for one in entry["skipped"]])
            for signer, entry in record["signers"].items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            "the record of the import cannot be read", file=path, got=str(error), hint="name a new folder"
        ) from error
    if differ:
        raise DataError(
            "the folder holds another import",
            file=folder,
            got=f"another {' and '.join(differ)}",
            expected="what was asked for when it began",
            hint="name a new folder, or give the first command again",
        )
    return {signer: entry for signer, entry in done.items() if size(signer_file(folder, signer)) == entry.bytes}


def signer_file(folder: Path, signer: str) -> Path:
    """Where a signer's file lies."""
    return folder / f"{signer}.hdf5"


def size(path: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0
