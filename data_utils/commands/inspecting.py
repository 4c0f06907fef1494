"""Looks at a data set right after it was imported, and warns of what is silently wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from data_utils.commands.options import print_json
from data_utils.commands.progress import Stopped, clips_read, progress_shown

if TYPE_CHECKING:
    from data_utils.checking.data_warning import DataWarning
    from data_utils.importing.corrections import Corrections


def inspect_import(folder: Path, corrections: Corrections, workers: int) -> list[DataWarning]:
    """The warnings about a data set that was just imported with some corrections.

    Raises:
        Stopped: Ctrl-C or SIGTERM arrived; the data set is complete.
    """
    from data_utils.checking.folder import folder_warnings
    from data_utils.checking.problems import read_data
    from data_utils.checking.warnings import corrected_copy, find_warnings
    from data_utils.words import read_words

    def mend(options: str) -> str:
        if not options:
            return corrected_copy(folder)(options)
        given = [name for name in corrections.options() if f"--{name.replace('_', '-')}" in options]
        if given:
            names = " and ".join(f"--{name.replace('_', '-')}" for name in given)
            return f"this import was told {names}; import again into a new folder without, or for other signers"
        return f"import again into a new folder with `{options}`"

    try:
        with progress_shown(keep=False) as show:
            reading = read_data(folder, workers=workers, progress=clips_read(show))
    except Stopped as stopped:
        text = f"stopped: the import is complete, but not checked; `islr-data check {folder}` does that"
        raise Stopped(stopped.exit_code - 128, text) from None
    if reading.faults:  # of files that were there before
        return []
    words = read_words(folder)
    return [*folder_warnings(folder, words), *find_warnings(reading.clips, words, mend)]


def print_warnings(warnings: list[DataWarning], *, as_json: bool) -> None:
    """Prints warnings on stderr, or as JSON lines."""
    for warning in warnings:
        if as_json:
            print_json(kind="warning", **warning.record())
        else:
            print(warning.render(), end="\n\n", file=sys.stderr)
