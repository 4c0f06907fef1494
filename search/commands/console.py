"""Printing: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from data_utils.streams import losing_is_no_error, lost_output
from search.commands.waiting import printing
from search.events import SCHEMA
from search.wording import Strong

_TERMINAL_WIDTH = 80
"""Columns of a terminal that does not report its width."""


def print_result(*lines: str | Mapping[str, Any]) -> None:
    """Prints what the command was run for to stdout: lines of text, or objects as JSON, one per line."""
    is_utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower() in ("utf-8", "utf8")
    for line in lines:
        if isinstance(line, Mapping):
            line = json.dumps({"schema": SCHEMA, **line}, ensure_ascii=not is_utf8, allow_nan=False, default=str)
        printing()
        print(_bold(line) if isinstance(line, Strong) else line, flush=True)


def is_styled(stream: TextIO) -> bool:
    """Whether a stream is a terminal that shows bold text, and the user has not refused it (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _bold(line: str) -> str:
    return f"\x1b[1m{line}\x1b[0m" if line.strip() and is_styled(sys.stdout) else line


def print_summary(*lines: str) -> None:
    """Prints a summary of what the database holds. If stdout cannot take it, the command has succeeded all the same."""
    with losing_is_no_error():
        print_result(*lines)
        if (lost := lost_output()) is not None:
            print_note(f"the summary was not printed: stdout cannot be written ({lost.got})")


def print_note(text: str) -> None:
    """Prints anything else to stderr."""
    printing()
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
