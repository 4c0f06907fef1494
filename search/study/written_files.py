"""Deletes what this tool has written to the folder of a study, and nothing else."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from search.study.folder import MARKER, TRIALS, trial_folders

_PART = r"\..+\.[0-9]+-[0-9a-f]{8}\.part"
"""What a killed process leaves of a file that it was writing."""

_OF_TRIAL = re.compile(rf"config\.yaml|(curve|signers|answers|confidence)\.csv|checkpoint|model(-[0-9]+)?\.safetensors|{_PART}")
_LOG = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9]+-[0-9a-f]+\.jsonl")
_OF_STUDY = re.compile(rf"report\.html|\.{re.escape(MARKER)}\.[0-9a-f]{{8}}|{_PART}")


def delete_written(folder: Path) -> list[str]:
    """Deletes the files of a study's folder, and the folder unless it holds anything else. Returns what went wrong, as text.

    The marker goes last, and stays if anything went wrong: it tells whose files these are.
    """
    problems: list[str] = []
    trials, logs = trial_folders(folder), folder / "logs"
    for place, names in (*((one, _OF_TRIAL) for one in trials), (logs, _LOG), (folder, _OF_STUDY)):
        with _noting(problems):
            if place.is_dir():
                problems += delete_each(one for one in sorted(place.iterdir()) if names.fullmatch(one.name) and one.is_file())
    if not problems:
        problems += delete_each([folder / MARKER])
    for place in (*trials, folder / TRIALS, logs, folder):
        with contextlib.suppress(OSError):  # it holds something else, or is not there
            place.rmdir()
    return problems


def delete_each(files: Iterable[Path]) -> list[str]:
    """Deletes files. Returns what went wrong, as text."""
    problems: list[str] = []
    for file in files:
        with _noting(problems):
            file.unlink(missing_ok=True)
    return problems


@contextlib.contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problems.append(f"{error.filename}: {error.strerror}")
