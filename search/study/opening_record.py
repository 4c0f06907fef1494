"""The record of all openings of sealed test signers. It outlives the studies that they were opened for.

It is kept twice: in the database, as attributes of a study of its own for each data set, and in a file under `--runs`, one JSON
object per line. Signers that were opened for a study that is deleted are still known to be opened.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.study._frozen import FrozenStudy

from search.errors import DefinitionError, os_errors
from search.study.confirmed import from_plain
from search.study.openings import RECORD_NAME, Opening, fingerprint_of, openings
from search.study.presence import all_studies
from search.study.study import study_data
from search.study.study_id import study_id

RECORD = "record of openings"
"""The attribute that marks a record in the database; its value is the data set's fingerprint."""

_FILE = "openings.jsonl"


@dataclass(frozen=True, kw_only=True)
class RecordedOpening:
    """An opening, and the study that it was made for."""

    study: str
    """Its name at that time."""

    study_id: str
    """Empty if an earlier version made the study."""

    fingerprint: str
    """Of the data set."""

    opening: Opening

    @property
    def key(self) -> tuple[str, int, int]:
        """Tells openings apart: one can be recorded in several places, and twice if its scores came later."""
        return self.opening.time, self.opening.count, self.opening.trial


def record_openings(
    study: optuna.Study, storage: optuna.storages.BaseStorage, runs: Path | None, ones: Sequence[RecordedOpening]
) -> None:
    """Adds openings of a study's signers to the record in the database and, unless `runs` is None, to the file there.

    Raises:
        ResourceError: the file cannot be written.
    """
    if not ones:
        return
    record = _make_record(storage, study_data(study).fingerprint)
    for one in ones:  # an attribute for each: two runs never write over each other
        storage.set_study_user_attr(record, " ".join(map(str, one.key)), _as_json(one))
    if runs is not None:
        _append(runs, ones)


def add_missing(study: optuna.Study, storage: optuna.storages.BaseStorage, runs: Path) -> None:
    """Adds a study's own openings to the record where it lacks them: an earlier version kept none, and runs folders differ.

    Raises: same as `record_openings` and `openings_of_signers`.
    """
    own = _own_openings(study)
    if not own:
        return
    in_storage = {one.key for one in _records(all_studies(storage))}
    if missing := [one for one in own if one.key not in in_storage]:
        record_openings(study, storage, None, missing)
    in_file = {one.key for one in _all_in_file(runs)}
    if missing := [one for one in own if one.key not in in_file]:
        _append(runs, missing)


def _append(runs: Path, ones: Sequence[RecordedOpening]) -> None:
    path, lines = runs / _FILE, "".join(f"{_as_json(one)}\n" for one in ones)
    with os_errors("the record of openings cannot be written", where=path, hint="is the disk full or read-only?"):
        runs.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        try:
            with path.open("ab") as stream:
                stream.write((b"" if content.endswith(b"\n") or not content else b"\n") + lines.encode())
                stream.flush()
                os.fsync(stream.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(path, len(content))  # no half line stays
            raise


def _as_json(one: RecordedOpening) -> str:
    return json.dumps(dataclasses.asdict(one))


def recorded(study: optuna.Study, opening: Opening) -> RecordedOpening:
    """An opening for a study, in the form of the record."""
    own, fingerprint = study_id(study) or "", study_data(study).fingerprint
    return RecordedOpening(study=study.study_name, study_id=own, fingerprint=fingerprint, opening=opening)


def _own_openings(study: optuna.Study) -> list[RecordedOpening]:
    """The openings that are stored with a study itself."""
    return [recorded(study, opening) for opening in openings(study)]


def openings_of_signers(study: optuna.Study, storage: optuna.storages.BaseStorage, runs: Path | None) -> list[RecordedOpening]:
    """Every opening of any of a study's sealed signers, oldest first.

    All studies on the same data count, also deleted ones, because a study under another name has the same signers. Of a split
    by clip every opening of clips of the same signers counts: another seed seals others of them, which the choice has seen.

    Raises:
        DefinitionError: the file under `runs` is damaged.
    """
    mine, studies = study_data(study), all_studies(storage)
    found: dict[tuple[str, int, int], RecordedOpening] = {}
    for one in (*_records(studies), *_with_studies(studies, mine.fingerprint), *_all_in_file(runs)):
        if one.fingerprint == mine.fingerprint and set(one.opening.signers) & set(mine.split.test):
            known = found.get(one.key)
            if known is None or (one.opening.scores and not known.opening.scores):
                found[one.key] = one
    return sorted(found.values(), key=lambda one: one.key)


def other_studies(ones: Sequence[RecordedOpening], study: optuna.Study) -> list[str]:
    """The studies other than this one that openings were made for, as text."""
    own = {one.key for one in _own_openings(study)}
    names = sorted({one.study for one in ones if one.key not in own})
    return ["an earlier study of this name" if name == study.study_name else f"`{name}`" for name in names]


def describe_openings(study: optuna.Study, storage: optuna.storages.BaseStorage, runs: Path | None) -> str:
    """A clause that says that the sealed signers were opened, and how often; empty if they were not."""
    earlier = openings_of_signers(study, storage, runs)
    if not earlier:
        return ""
    times = "once" if len(earlier) == 1 else f"{len(earlier)} times"
    others = other_studies(earlier, study)
    also_for = f" (also for {', '.join(others)})" if others else ""
    sealed = f"the sealed {study_data(study).split.kind} of `{study.study_name}`"
    if study_data(study).split.clips is not None:
        sealed += ", or others of the same signers,"
    return f"{sealed} were opened {times}{also_for}, last on {earlier[-1].opening.time[:10]}"


def _make_record(storage: optuna.storages.BaseStorage, fingerprint: str) -> int:
    name = f"{RECORD_NAME}{fingerprint[:12]}"
    record = optuna.create_study(storage=storage, study_name=name, direction="minimize", load_if_exists=True)
    if RECORD not in record.user_attrs:
        record.set_user_attr(RECORD, fingerprint)
    return record._study_id


def _records(studies: Sequence[FrozenStudy]) -> Iterator[RecordedOpening]:
    """The openings in the records of a database."""
    for one in studies:
        if RECORD in one.user_attrs:
            for key, value in one.user_attrs.items():
                if key != RECORD:
                    yield _read(value, f"attribute `{key}` of the study `{one.study_name}`")


def _with_studies(studies: Sequence[FrozenStudy], fingerprint: str) -> Iterator[RecordedOpening]:
    """The openings that are stored with the studies on a data set."""
    for one in studies:
        if fingerprint_of(one) == fingerprint:
            for opening in openings(one):
                yield RecordedOpening(study=one.study_name, study_id="", fingerprint=fingerprint, opening=opening)


def _all_in_file(runs: Path | None) -> Iterator[RecordedOpening]:
    path = None if runs is None else runs / _FILE
    if path is None or not path.exists():
        return
    with os_errors("the record of openings cannot be read", where=path, hint="make it readable"):
        lines = path.read_bytes().decode("utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        if line:
            yield _read(line, f"{path}:{number}")


def _read(text: Any, where: str) -> RecordedOpening:
    try:
        return from_plain(RecordedOpening, json.loads(text))
    except (ValueError, TypeError) as error:  # pydantic's too
        raise DefinitionError(
            "the record of openings is damaged",
            where=where,
            got=repr(text)[:80],
            expected="one opening of test signers as JSON, as `islr-search test` writes it",
            hint="restore it from a backup, or delete it: then nobody knows that these signers were opened",
        ) from error
