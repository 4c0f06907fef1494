"""Text to stdout or to a file."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TextIO

from search.commands.waiting import printing
from search.errors import DefinitionError

STDOUT = Path("-")
"""The name that stands for stdout."""


def require_writable(output: Path | None, *, replace: bool = True) -> None:
    """Checks before long work that `write_output` can write here.

    Raises:
        DefinitionError: it cannot, or, without `replace`, the file exists.
    """
    if output is None or output == STDOUT:
        return
    try:
        parent = next(parent for parent in output.absolute().parents if parent.exists())
        problem = "it is a folder" if output.is_dir() else "" if parent.is_dir() else f"{parent} is not a folder"
        if not problem and not os.access(parent, os.W_OK | os.X_OK):
            problem = f"{parent} is not writable"
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise _not_writable(output, problem)
    if output.exists() and not replace:
        raise DefinitionError(
            "the output file already exists", where=str(output), hint="name another file, or replace this one with --force"
        )


def write_output(text: str, output: Path | None) -> None:
    """Writes text as UTF-8 to a file, or to stdout (None or `STDOUT`). Undecodable bytes of file names in it are escaped.

    Raises:
        DefinitionError: the file cannot be written.
    """
    if output is None or output == STDOUT:
        utf8_stdout().write(text)
        return
    from data_utils.files import write_atomically

    try:
        write_atomically(output, text.encode("utf-8", errors="backslashreplace"))
    except OSError as error:
        raise _not_writable(output, error.strerror) from error


def utf8_stdout() -> TextIO:
    """Stdout for text that programs read, in UTF-8 whatever the locale. A terminal keeps its own encoding."""
    printing()
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    return sys.stdout


def _not_writable(output: Path, problem: str | None) -> DefinitionError:
    hint = "name another file with --output"
    return DefinitionError("the output file cannot be written", where=str(output), got=problem, hint=hint)
