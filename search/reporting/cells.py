"""Tables of the report: cells are text, or numbers with their source."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from search.wording import format_value

signed: Callable[[float], str] = "{:+.4f}".format
percent: Callable[[float], str] = "{:.0%}".format
whole: Callable[[float], str] = "{:,.0f}".format

_MAX_NARROW = 6
"""Columns of a table that has room beside a figure."""

_LOOKS_NUMERIC = re.compile(r"[-+]?[\d,.]+(e[-+]\d+)?(%| pp)?|[\d,]+/[\d,]+ \(\d+%\)|\d+[hms][\dhms]*")


def points(value: float) -> str:
    """A difference of two shares in percentage points: `+14.8 pp`."""
    return f"{100 * value:+.1f} pp"


def share_of(count: int | None) -> Callable[[float], str]:
    """Formats a share of a number of things: `21/27 (78%)`; only its percentage if it is not a share of so many."""

    def text(value: float) -> str:
        whole_part = value * (count or 0)
        if not count or abs(whole_part - round(whole_part)) > 1e-6 * count:
            return percent(value)
        return f"{round(whole_part):,}/{count:,} ({value:.0%})"

    return text


@dataclass(frozen=True)
class Number:
    """A number with its source."""

    path: str
    """A path into the output of `trials --format jsonl` (`trials.3.value`), of `status --json` (`confirm`: its field
    `confirmed`; `openings`) or of `analyze --json` (`analyze`)."""

    value: float
    format: Callable[[float], str] = format_value

    @property
    def text(self) -> str:
        """The number as it is shown."""
        return self.format(self.value)


Cell = str | Number | tuple["str | Number", ...]
"""A table's cell: text, a number, or several of them."""


@dataclass(frozen=True)
class Table:
    """A table with a header. The first column names the rows."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    has_long_cells: bool = False

    @property
    def is_broad(self) -> bool:
        """Whether it needs the whole width of a page."""
        return self.has_long_cells or len(self.header) > _MAX_NARROW

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers, and are aligned to the right."""
        return tuple(
            all(_is_numeric(row[n]) for row in self.rows if n < len(row)) and any(row[n] for row in self.rows if n < len(row))
            for n in range(len(self.header))
        )


def _is_numeric(cell: Cell) -> bool:
    return not isinstance(cell, str) or not cell or _LOOKS_NUMERIC.fullmatch(cell) is not None


def number_cell(path: str, value: float | None, format: Callable[[float], str] = format_value) -> Cell:
    """A number; an empty cell for None, and text for a value that is not finite."""
    if value is None:
        return ""
    return Number(path, value, format) if math.isfinite(value) else format_value(value)


def number_cells(path: str, source: Any, names: Sequence[str], format: Callable[[float], str] = format_value) -> list[Cell]:
    """A cell for each of the named fields of `source`, which is at a path."""
    return [number_cell(f"{path}.{name}", getattr(source, name), format) for name in names]


def cell_texts(cells: Sequence[Cell]) -> list[str]:
    """The cells of a row as plain text."""
    return [
        cell if isinstance(cell, str) else cell.text if isinstance(cell, Number) else " ".join(cell_texts(cell))
        for cell in cells
    ]
