"""Counts, durations and tables as people read them. Imports nothing heavy."""

from __future__ import annotations

import csv
import difflib
import io
import unicodedata
from collections.abc import Iterable, Sequence

SAME_PEOPLE = "the same people in training and validation: this says nothing about new signers"
"""What limits every result of a split by clips. The only wording of it."""


def caution_of(split: str) -> str:
    """What limits the results of a kind of split; empty for a split by signer."""
    return SAME_PEOPLE if split == "clips" else ""


def suggest(name: str, known: Iterable[str]) -> str | None:
    """`did you mean ...?` for a misspelt name, or None."""
    close = closest(name, known)
    return None if close is None else f"did you mean `{close}`?"


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt or unfinished name may stand for, or None."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1) or [one for one in names if name and one.startswith(name)]
    return close[0] if close else None


def align(rows: Sequence[Sequence[str]], right: Iterable[int] = (), gap: str = "  ") -> list[str]:
    """Rows of cells as lines with aligned columns. `right` lists the columns that are aligned to the right."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    to_the_right = set(right)

    def padded(i: int, cell: str) -> str:
        space = " " * (widths[i] - width(cell))
        return space + cell if i in to_the_right else cell + space

    return [gap.join(padded(i, cell) for i, cell in enumerate(row)).rstrip() for row in rows]


def width(text: str) -> int:
    """Columns that a text takes on a terminal: two for wide characters such as Japanese, none for combining marks."""
    return len(text) if text.isascii() else sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def some(texts: Sequence[str], most: int = 3, separator: str = ", ") -> str:
    """The first of some texts, and how many more there are."""
    rest = len(texts) - most
    return separator.join(texts[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def join_names(names: Iterable[str]) -> str:
    """Names as a line of CSV, as `split_names` reads it: a name with a comma stands in double quotes."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


def split_names(text: str) -> list[str]:
    """The names in a line of CSV, without spaces around them, each once."""
    names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    return list(dict.fromkeys(name for name in names if name))


def counted(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`, `1,234 trials`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_duration(seconds: int | float) -> str:
    """`7s`, `2m08s`, `3h05m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"
