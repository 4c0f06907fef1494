"""Files of a trial: its settings, curves and validation results, as plain text."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from data_utils.files import write_atomically
from model.record import EpochRecord
from search.definition.yaml_text import dump_yaml
from search.errors import os_errors
from search.trial.outcome import AnswerCount, Confidence, Outcome, SignerScore

COLUMNS = [field.name for field in dataclasses.fields(EpochRecord)]

CHECKPOINT = "checkpoint"
"""Name of the checkpoint in a trial's folder, from the trial's first epoch until its end; see `search/trial/checkpoint.py`."""

DISK_HINT = "is the disk full or read-only? The same command resumes this trial"

Row = TypeVar("Row", SignerScore, AnswerCount, Confidence)


def write_trial(
    folder: Path, settings: Mapping[str, Any], histories: Mapping[int, Sequence[EpochRecord]], outcome: Outcome | None
) -> None:
    """Writes a trial's settings and curves and, if it was trained to its end, its validation results.

    Raises:
        ResourceError: they cannot be written.
    """
    with os_errors("a trial's files cannot be written", where=folder, hint=DISK_HINT):
        write_atomically(folder / "config.yaml", dump_yaml(dict(settings)))
        write_atomically(folder / "curve.csv", curve_text(histories))
        if outcome is not None:
            write_atomically(folder / "signers.csv", rows_text(SignerScore, outcome.signers))
            write_atomically(folder / "answers.csv", rows_text(AnswerCount, outcome.answers))
            write_atomically(folder / "confidence.csv", rows_text(Confidence, outcome.confidences))


def curve_text(histories: Mapping[int, Sequence[EpochRecord]]) -> str:
    """The epochs of a trial's trainings as CSV with a header; numbers in full precision."""
    rows = [(number, *dataclasses.astuple(record)) for number, history in sorted(histories.items()) for record in history]
    return csv_text(["training", *COLUMNS], rows)


def rows_text(kind: type[Row], rows: Sequence[Row]) -> str:
    """Rows of one kind as CSV with a header; numbers in full precision."""
    return csv_text([field.name for field in dataclasses.fields(kind)], map(dataclasses.astuple, rows))


def csv_text(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """Rows as CSV; None is an empty cell."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def read_curves(path: Path) -> dict[int, list[EpochRecord]]:
    """The epochs of a `curve.csv` by training; empty if there is no such file. Columns missing in older files are NaN."""
    histories: dict[int, list[EpochRecord]] = {}
    for row in _read_csv(path):
        numbers = {name: float(row.get(name) or "nan") for name in COLUMNS if name != "epoch"}
        histories.setdefault(int(row.get("training") or 0), []).append(EpochRecord(epoch=int(row["epoch"]), **numbers))
    return histories


def read_rows(kind: type[Row], path: Path) -> list[Row]:
    """The rows that `rows_text` wrote; empty if there is no such file."""
    types = get_type_hints(kind)
    return [kind(**{name: of(row[name]) for name, of in types.items()}) for row in _read_csv(path)]


def _read_csv(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
