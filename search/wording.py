"""Numbers, names and columns as people read them. Pure text."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from search import BASELINE_TRIAL, DEFAULT_RUNS, DEFAULT_STORAGE, HIDDEN
from search.errors import DefinitionError


def seconds_of(text: str) -> float:
    """`90m`, `1h30m`, `45s` or plain seconds.

    Raises:
        DefinitionError: it is none of them.
    """
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not found or not any(found.groups()):
        raise DefinitionError("this is not a time", got=text[:80], expected="90m, 1h30m, 45s")
    hours, minutes, seconds = (float(group or 0) for group in found.groups())
    return hours * 3600 + minutes * 60 + seconds


_NO_START = "、。，．・：；？！）］｝」』】〕〉》ーぁぃぅぇぉっゃゅょァィゥェォッャュョ々"
_NO_END = "（［｛「『【〔〈《"
"""What a line of Japanese text does not begin with, and what it does not end with."""


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
    if text.isascii():
        return len(text)
    return sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cropped(text: str, room: int) -> str:
    """A text of at most `room` columns; two dots stand for what is left out."""
    return text if width(text) <= room else _start(text, max(room - 2, 0)) + ".."[:room]


def _start(text: str, room: int) -> str:
    """As many characters as fit."""
    taken = 0
    for i, char in enumerate(text):
        taken += _char_width(char)
        if taken > room:
            return text[:i]
    return text


def columns(rows: Sequence[Sequence[str]], right: Iterable[int] = (), gap: str = "  ") -> list[str]:
    """Rows of text as aligned lines; the columns in `right` stand to the right."""
    widths = [max(width(row[i]) for row in rows) for i in range(len(rows[0]))]
    flush_right = set(right)

    def cell(i: int, text: str) -> str:
        space = " " * (widths[i] - width(text))
        return space + text if i in flush_right else text + space

    return [gap.join(cell(i, text) for i, text in enumerate(row)).rstrip() for row in rows]


def wrapped(label: str, text: str, width: int | None = 80) -> list[str]:
    """A labelled sentence, on as many lines as it needs; None: on one."""
    return filled(f"{label:8} ", text, " " * 9, width) if text.strip() else []


def folded(line: str, room: int | None) -> list[str]:
    """A line as it is, or, if it is too wide, as several; what is labelled hangs."""
    if room is None or width(line) <= room:
        return [line]
    label = re.match(r"[a-z0-9 ]{8} +(?=\S)|\s*", line)
    first = label.group() if label else ""
    hang = 9 if len(first) >= 9 else len(first) + 2
    return filled(first, line[len(first) :], " " * hang, room)


def filled(first: str, text: str, rest: str, room: int | None) -> list[str]:
    """A text broken at `room` columns; its lines begin with `first` and then `rest`.

    It breaks at spaces and between wide characters; what is longer than a line is cut.
    """
    if room is None:
        return [first + re.sub(r"\s*\n\s*", " ", text.strip())]
    lines, line, is_fresh = [], first, True
    for gap, piece in _pieces(text.strip()):
        if not is_fresh and width(line + gap + piece) > room:
            lines.append(line)
            line, is_fresh = rest, True
        line += "" if is_fresh else gap
        while piece and width(line + piece) > room:
            start = _start(piece, max(room - width(line), 2))
            lines.append(line + start)
            line, piece = rest, piece[len(start) :]
        line, is_fresh = line + piece, False
    return [*lines, line]


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """What stays together, each with the space before it."""
    for gap, word in re.findall(r"(\s*)(\S+)", text):
        start = 0
        for i in range(1, len(word)):
            if _may_break(word[i - 1], word[i]):
                yield "" if start else gap.expandtabs(1).replace("\n", " "), word[start:i]
                start = i
        yield "" if start else gap.expandtabs(1).replace("\n", " "), word[start:]


def _may_break(before: str, after: str) -> bool:
    is_wide = _char_width(before) == 2 or _char_width(after) == 2
    return is_wide and _char_width(after) > 0 and after not in _NO_START and before not in _NO_END


def counted(count: int, word: str) -> str:
    """1 trial, 2 trials."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


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
    words += [] if storage == DEFAULT_STORAGE else ["--storage", storage_word(storage)]
    words += [] if runs == DEFAULT_RUNS else ["--runs", shlex.quote(runs)]
    return " ".join(words)


def storage_word(shown: str) -> str:
    """A storage for a shell. Where it hides a password, the variable that should hold the whole URL stands instead."""
    return '"$SEARCH_STORAGE"' if HIDDEN in shown else shlex.quote(shown)


def trial_name(number: int) -> str:
    """What a trial is called in a sentence."""
    return "the baseline" if number == BASELINE_TRIAL else f"trial {number}"


def or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
