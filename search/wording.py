"""Numbers, names and columns as people read them. Pure text."""

from __future__ import annotations

import shlex
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from search import DEFAULT_RUNS, DEFAULT_STORAGE


def number(value: Any) -> str:
    """A parameter as people read it: 4 digits, small ones as 8.1e-04, counts with commas."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1e}" if 0 < abs(value) < 0.01 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """7s, 2m08s, 3h05m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def width(text: str) -> int:
    """Columns that a text takes in a terminal; East Asian wide characters take two."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def columns(rows: Sequence[Sequence[str]], right: Iterable[int] = (), gap: str = "  ") -> list[str]:
    """Rows of text as aligned lines; the columns in `right` stand to the right."""
    widths = [max(width(row[i]) for row in rows) for i in range(len(rows[0]))]
    flush_right = set(right)

    def cell(i: int, text: str) -> str:
        space = " " * (widths[i] - width(text))
        return space + text if i in flush_right else text + space

    return [gap.join(cell(i, text) for i, text in enumerate(row)).rstrip() for row in rows]


def wrapped(label: str, text: str, width: int = 80) -> list[str]:
    """A labelled sentence, on as many lines as it needs."""
    return textwrap.wrap(text, width, initial_indent=f"{label:8} ", subsequent_indent=" " * 9, break_on_hyphens=False)


def value_text(value: float) -> str:
    """An objective's value: 4 digits, counts with commas."""
    return f"{value:,.0f}" if float(value).is_integer() and value >= 100 else f"{value:.4f}"


def values_text(values: Mapping[str, float]) -> str:
    """Objectives by name."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in values.items())


def params_text(params: Mapping[str, Any]) -> str:
    """Parameters by name."""
    return ", ".join(f"{name} {number(value)}" for name, value in params.items())


def study_words(study: str, storage: str, runs: str = DEFAULT_RUNS) -> str:
    """A study as a command names it, with the places that it would not find by itself."""
    words = [study]
    words += [] if storage == DEFAULT_STORAGE else ["--storage", shlex.quote(storage)]
    words += [] if runs == DEFAULT_RUNS else ["--runs", shlex.quote(runs)]
    return " ".join(words)


def or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
