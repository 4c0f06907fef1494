"""A trial's files: the settings that were used and the curve, readable with `cat`."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.record import EpochRecord
from search.errors import DefinitionError

if TYPE_CHECKING:
    from search.trial import SignerScore

COLUMNS = [field.name for field in dataclasses.fields(EpochRecord)]
_SIGNERS = ("training", "signer", "clips", "val_loss", "val_top1")


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


def curve_text(histories: Mapping[int, Sequence[EpochRecord]]) -> str:
    """The epochs of a trial's trainings as CSV with a header; numbers in full precision."""
    rows = [
        [str(number), *(repr(value) for value in dataclasses.astuple(record))]
        for number, history in sorted(histories.items())
        for record in history
    ]
    return _csv_text(["training", *COLUMNS], rows)


def signers_text(scores: Sequence[SignerScore]) -> str:
    """How well each training does on each of its validation signers, as CSV with a header."""
    return _csv_text(_SIGNERS, [[str(getattr(score, name)) for name in _SIGNERS] for score in scores])


def _csv_text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def read_curves(path: Path) -> dict[int, list[EpochRecord]]:
    """The epochs of a `curve.csv` by training; none if there is no such file. NaN for what an earlier version did not write."""
    found: dict[int, list[EpochRecord]] = {}
    for row in _rows(path):
        numbers = {name: float(row.get(name) or "nan") for name in COLUMNS if name != "epoch"}
        found.setdefault(int(row.get("training") or 0), []).append(EpochRecord(epoch=int(row["epoch"]), **numbers))
    return found


def read_curve(path: Path) -> list[EpochRecord]:
    """The same for a trial that trains one model."""
    return read_curves(path).get(0, [])


def read_signers(path: Path) -> list[dict[str, Any]]:
    """The rows of a `signers.csv`; none if there is no such file."""
    kinds = {"training": int, "signer": str, "clips": int, "val_loss": float, "val_top1": float}
    return [{name: kind(row[name]) for name, kind in kinds.items()} for row in _rows(path)]


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
