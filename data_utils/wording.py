"""Counts and tables as people read them. Imports nothing heavy."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence


def suggest(name: str, known: Iterable[str]) -> str | None:
    """`did you mean ...?` for a misspelt name, or None."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean `{close[0]}`?" if close else None


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns under their heads: the first to the left, the others to the right; then an empty line."""
    widths = [max(width(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, *rows]:
        first, *others = row
        cells = [first + " " * (widths[0] - width(first))]
        cells += [" " * (room - width(cell)) + cell for cell, room in zip(others, widths[1:], strict=True)]
        yield "  ".join(cells).rstrip()
    yield ""


def width(text: str) -> int:
    """Columns that a text takes on a terminal: two for wide characters such as Japanese, none for combining marks."""
    shown = [mark for mark in text if unicodedata.category(mark) not in ("Mn", "Me", "Cf")]
    return sum(2 if unicodedata.east_asian_width(mark) in "WF" else 1 for mark in shown)


def counted(number: int, name: str) -> str:
    """A number and what it counts, in the plural where it is not 1."""
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}s"
