"""`islr-data check` and `info`: look at a data set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from data_utils.commands.options import CORES, DONE, FOUND_PROBLEMS, Folder, Json, Workers, extent, print_json
from data_utils.commands.progress import clips_read, progress_shown
from data_utils.errors import ExplainedError, escape_line
from data_utils.wording import counted


def check(folder: Folder, workers: Workers = CORES, as_json: Json = False) -> int:
    """Read a whole data set and list every problem. Exits with 0 if there is none, with 1 otherwise."""
    from data_utils.checking.folder import folder_warnings
    from data_utils.checking.problems import read_data
    from data_utils.checking.warnings import corrected_copy, find_warnings
    from data_utils.folder import signer_files
    from data_utils.words import read_words

    if not folder.is_dir():
        signer_files(folder)  # raises the error for it
    with progress_shown(keep=False) as show:
        reading = read_data(folder, workers=workers, progress=clips_read(show))
    faults, clips = reading.faults, reading.clips
    words = [] if faults else read_words(folder)
    # Half a data set would give false warnings.
    warnings = [] if faults else [*folder_warnings(folder, words), *find_warnings(clips, words, corrected_copy(folder))]
    if as_json:
        for fault in faults:
            place = {"where": fault.where, "file": None if fault.file is None else str(fault.file), "path": fault.path}
            print_json(kind="problem", what=fault.what, **place, got=fault.got, expected=fault.expected, hint=fault.hint)
        for warning in warnings:
            print_json(kind="warning", **warning.record())
        print_json(kind="summary", sound=not faults, problems=len(faults), warnings=len(warnings))
        return FOUND_PROBLEMS if faults else DONE
    for found in [*faults, *warnings]:
        print(found.render(), end="\n\n")
    if faults:
        print(f"{counted(len(faults), 'problem')} in {counted(len({str(fault.file) for fault in faults}), 'place')}")
        return FOUND_PROBLEMS
    own = [clip for clip in clips if not clip.mirrored]
    found_none = f"no errors, {counted(len(warnings), 'warning')}" if warnings else "no problems"
    print(f"{found_none}: {extent(len(own), len(words), len({clip.signer for clip in own}))}")
    return DONE


def info(
    folder: Folder,
    workers: Workers = CORES,
    as_json: Json = False,
    overview: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write an HTML page with counts, warnings and example skeletons."),
    ] = None,
) -> int:
    """Describe a data set: its words, signers, lengths, missing parts, warnings and fingerprint."""
    from data_utils.checking.data_warning import DataWarning
    from data_utils.checking.describe import describe
    from data_utils.checking.examples import Examples
    from data_utils.checking.overview import overview_html
    from data_utils.checking.summary import summarize
    from data_utils.files import write_atomically

    if overview is not None and (overview.suffix.lower() not in (".html", ".htm") or overview.is_dir()):
        raise ExplainedError("the page needs a file of its own", where=str(overview), expected="a name that ends in .html")
    examples = None if overview is None else Examples()
    with progress_shown(keep=False) as show:
        summary = summarize(folder, workers=workers, progress=clips_read(show), examples=examples)
    if overview is not None and examples is not None:
        words = tuple(word["word"] for word in summary["words"])
        write_atomically(overview, overview_html(summary, examples.by_word(words)))
        print(f"wrote {overview}", file=sys.stderr)
    if as_json:
        print_json(**summary)
        return DONE
    for line in describe(summary):
        print(escape_line(line))
    for warning in summary["warnings"]:
        print(f"\n{DataWarning(**warning).render()}")
    print(f"\n{counted(len(summary['warnings']), 'warning')}" if summary["warnings"] else "no warnings")
    return DONE
