"""A trial's files: the settings that were used and the curve, readable with `cat`."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from data_utils.files import write_atomically
from model.record import EpochRecord
from search.definition.yaml_text import dump_yaml
from search.errors import DefinitionError, os_errors
from search.trial.outcome import AnswerCount, Confidence, SignerScore

if TYPE_CHECKING:
    from search.trial.outcome import Outcome


COLUMNS = [field.name for field in dataclasses.fields(EpochRecord)]


Row = TypeVar("Row", SignerScore, AnswerCount, Confidence)


def trial_folder(runs: Path, study: str, trial: int) -> Path:
    """`RUNS/STUDY/trials/0007`."""
    return runs / study / "trials" / f"{trial:04d}"


def require_free_folder(runs: Path, study: str, database: Path | None) -> None:
    """Refuses a study whose folder would lie where a file is, or where the database's files, if it has any, will be.

    Raises:
        DefinitionError: see above.
    """
    folder = runs / study
    files = [f"{database}{ending}" for ending in ("", "-wal", "-shm", "-journal") if database is not None]
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


def rows_text(kind: type[Row], rows: Sequence[Row]) -> str:
    """Rows of one kind as CSV with a header; numbers in full precision."""
    return _csv_text([field.name for field in dataclasses.fields(kind)], [map(str, dataclasses.astuple(row)) for row in rows])


def write_trial(
    folder: Path, settings: Mapping[str, Any], histories: Mapping[int, Sequence[EpochRecord]], outcome: Outcome | None
) -> None:
    """Writes what a trial leaves: its settings, its curves and, if it has trained to its end, what its models did.

    Raises:
        ResourceError: it cannot be written.
    """
    hint = "is the disk full or read-only? The same command goes on with this trial"
    with os_errors("a trial's files cannot be written", where=folder, hint=hint):
        write_atomically(folder / "config.yaml", dump_yaml(dict(settings)))
        write_atomically(folder / "curve.csv", curve_text(histories))
        if outcome is not None:
            write_atomically(folder / "signers.csv", rows_text(SignerScore, outcome.signers))
            write_atomically(folder / "answers.csv", rows_text(AnswerCount, outcome.answers))
            write_atomically(folder / "confidence.csv", rows_text(Confidence, outcome.confidences))


def _csv_text(header: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
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


def read_rows(kind: type[Row], path: Path) -> list[Row]:
    """What `rows_text` wrote; none if there is no such file."""
    types = get_type_hints(kind)
    return [kind(**{name: of(row[name]) for name, of in types.items()}) for row in _rows(path)]


def read_signers(path: Path) -> list[dict[str, Any]]:
    """The rows of a `signers.csv` as plain values; none if there is no such file."""
    return [dataclasses.asdict(row) for row in read_rows(SignerScore, path)]


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def files_of(runs: Path, study: str, trial: int) -> list[Path]:
    """The files that a trial left."""
    folder = trial_folder(runs, study, trial)
    return sorted(folder.iterdir()) if folder.is_dir() else []
