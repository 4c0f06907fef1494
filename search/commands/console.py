"""Printing: results to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from search.events import SCHEMA

_TERMINAL_WIDTH = 80
"""Columns of a terminal that does not report its width."""


def print_result(*lines: str | Mapping[str, Any]) -> None:
    """Prints what the command was run for to stdout: lines of text, or objects as JSON, one per line."""
    for line in lines:
        if isinstance(line, Mapping):
            line = json.dumps({"schema": SCHEMA, **line}, ensure_ascii=False, allow_nan=False, default=str)
        print(line, flush=True)


def print_note(text: str) -> None:
    """Prints anything else to stderr. A closed stderr does not end a search."""
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)


def line_width(stream: TextIO) -> int | None:
    """Columns of a line: those that COLUMNS names, else those of the terminal; None, without limit, for a pipe."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    if not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or _TERMINAL_WIDTH
    except OSError:
        return _TERMINAL_WIDTH
