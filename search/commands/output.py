"""Text to stdout or a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from search.errors import DefinitionError


def require_writable(output: Path | None) -> None:
    """Looks whether `write_out` can write here, before long work begins."""
    if output is None:
        return
    try:
        kept = next(parent for parent in output.absolute().parents if parent.exists())
        got = "it is a folder" if output.is_dir() else "" if kept.is_dir() else f"{kept} is no folder"
        if not got and not os.access(kept, os.W_OK | os.X_OK):
            got = f"{kept} may not be written in"
    except OSError as error:
        got = error.strerror or str(error)
    if got:
        hint = "name another with --output"
        raise DefinitionError("the output file cannot be written", where=str(output), got=got, hint=hint)


def write_out(text: str, output: Path | None) -> None:
    """Text for a person or a program to stdout or into a file, as UTF-8. Bytes of a file's name that are none are escaped."""
    if output is None:
        sys.stdout.write(text)
        return
    from data_utils.files import write_atomically

    try:
        write_atomically(output, text.encode("utf-8", errors="backslashreplace"))
    except OSError as error:
        raise DefinitionError(
            "the output file cannot be written", where=str(output), got=error.strerror, hint="name another with --output"
        ) from error
