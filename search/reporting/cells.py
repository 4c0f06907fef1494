"""What stands in the tables of a report: text, and numbers that say where they come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from search.wording import format_duration, format_number, format_value


@dataclass(frozen=True)
class Number:
    """A number with the place that it comes from."""

    of: str
    """A path into what `trials --format jsonl` (`trials.3.value`), `status --json` (`confirm`: its `confirmed`, `openings`) or
    `analyze --json` (`analyze`) give."""

    value: float

    @property
    def text(self) -> str:
        """As people read it."""
        return format_value(self.value)


class Change(Number):
    """A difference, which shows its sign."""

    @property
    def text(self) -> str:
        """As people read it."""
        return f"{self.value:+.4f}"


class ParameterNumber(Number):
    """A parameter, which is read with other digits than a value."""

    @property
    def text(self) -> str:
        """As people read it."""
        return format_number(self.value)


class Share(Number):
    """A share of one, with two digits."""

    @property
    def text(self) -> str:
        """As people read it."""
        return f"{self.value:.2f}"


class Count(Number):
    """A whole number, or the nearest."""

    @property
    def text(self) -> str:
        """As people read it."""
        return f"{self.value:,.0f}"


class Seconds(Number):
    """A time."""

    @property
    def text(self) -> str:
        """As people read it."""
        return format_duration(self.value)


Cell = str | Number | tuple["str | Number", ...]
"""What stands in a table: text, a number, or a row of both."""


@dataclass(frozen=True)
class Table:
    """Rows under a head; the first column is text, the others stand to the right."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


def known(of: str, value: float | None, kind: type[Number] = Number) -> Cell:
    """A number; nothing for one that is not known, and no number for one that is not finite."""
    if value is None:
        return ""
    return kind(of, value) if math.isfinite(value) else format_value(value)


def texts_of(cells: Sequence[Cell]) -> list[str]:
    """The cells of a row as plain text."""
    return [
        cell if isinstance(cell, str) else cell.text if isinstance(cell, Number) else " ".join(texts_of(list(cell)))
        for cell in cells
    ]
