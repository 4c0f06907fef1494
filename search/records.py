"""A trial's files: the settings that were used and the curve, readable with `cat`."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from pathlib import Path

from model.record import EpochRecord
from search.errors import DefinitionError

COLUMNS = [field.name for field in dataclasses.fields(EpochRecord)]


def trial_folder(runs: Path, study: str, trial: int) -> Path:
    """`RUNS/STUDY/trials/0007`."""
    return runs / study / "trials" / f"{trial:04d}"


def require_place(runs: Path, study: str, database: Path) -> None:
    """Refuses a study whose folder would lie where a file is, or where the database's files will be.

    Raises:
        DefinitionError: see above.
    """
    folder = runs / study
    files = [f"{database}{ending}" for ending in ("", "-wal", "-shm", "-journal")]
    is_database = os.path.realpath(folder).casefold() in {os.path.realpath(file).casefold() for file in files}
    if is_database or (folder.exists() and not folder.is_dir()):
        raise DefinitionError(
            "the study's folder would lie where a file is",
            where=str(folder),
            hint="give the study another name with `--as NAME`",
        )


def curve_text(history: Sequence[EpochRecord]) -> str:
    """The epochs as CSV with a header; numbers in full precision."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([repr(value) for value in dataclasses.astuple(record)] for record in history)
    return stream.getvalue()


def read_curve(path: Path) -> list[EpochRecord]:
    """The epochs of a `curve.csv`; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return [
            EpochRecord(epoch=int(row["epoch"]), **{name: float(row[name]) for name in COLUMNS if name != "epoch"})
            for row in csv.DictReader(stream)
        ]
