"""Tables of the report: cells are text, or numbers with their source."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from search.wording import format_value

signed: Callable[[float], str] = "{:+.4f}".format
share: Callable[[float], str] = "{:.2f}".format
whole: Callable[[float], str] = "{:,.0f}".format


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
    """A table with a header; the first column is aligned to the left, the others to the right."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


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
