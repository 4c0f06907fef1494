"""Numbers, times, names and wrapped lines as people read them, as pure text. See also `data_utils.wording`."""

from __future__ import annotations

import datetime
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from data_utils.wording import width
from search import BASELINE_TRIAL, DEFAULT_RUNS, DEFAULT_STORAGE, HIDDEN
from search.errors import DefinitionError

_LONGEST_S = 100 * 366 * 24 * 3600.0


def parse_duration(text: str, where: str | None = None, *, positive: bool = False) -> float:
    """Seconds of a duration such as `90m`, `1h30m`, `45s` or `45`. `positive`: 0 is refused.

    Raises:
        DefinitionError: it has another form.
    """
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not found or not any(found.groups()):
        raise DefinitionError("this is not a duration", where=where, got=text[:80], expected="90m, 1h30m, 45s")
    hours, minutes, seconds = (float(group or 0) for group in found.groups())
    duration = hours * 3600 + minutes * 60 + seconds
    if duration > _LONGEST_S or (positive and duration == 0):
        expected = f"{'more than 0 seconds, and ' if positive else ''}at most 100 years"
        raise DefinitionError("this duration cannot be used", where=where, got=text[:80], expected=expected)
    return duration


def utc_now() -> str:
    """The time as it is stored: UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def format_number(value: Any) -> str:
    """A parameter: 4 digits, small values such as `8.1e-04`, whole numbers with commas; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1e}" if 0 < abs(value) < 0.01 else f"{value:.4g}"


def format_value(value: float) -> str:
    """An objective's value: 4 decimals, or a whole number with commas from 100 on."""
    return f"{value:,.0f}" if float(value).is_integer() and value >= 100 else f"{value:.4f}"


def format_values(values: Mapping[str, float]) -> str:
    """Values of objectives: `val_loss 0.8067, latency_ms 1.2000`."""
    return ", ".join(f"{name} {format_value(value)}" for name, value in values.items())


def format_params(params: Mapping[str, Any]) -> str:
    """Parameters: `lr 3.1e-03, dropout 0.434`."""
    return ", ".join(f"{name} {format_number(value)}" for name, value in params.items())


def or_dash(value: float | None) -> str:
    """A number with 4 decimals, or `-` for None."""
    return "-" if value is None else f"{value:.4f}"


def trial_name(number: int) -> str:
    """`the baseline` or `trial 8`."""
    return "the baseline" if number == BASELINE_TRIAL else f"trial {number}"


def study_args(study: str, storage: str, runs: str = DEFAULT_RUNS) -> str:
    """A study as arguments of a command: its name, and `--storage` and `--runs` where they are not the defaults."""
    args = [study]
    args += [] if storage == DEFAULT_STORAGE else ["--storage", storage_arg(storage)]
    args += [] if runs == DEFAULT_RUNS else ["--runs", shlex.quote(runs)]
    return " ".join(args)


def storage_arg(shown: str) -> str:
    """A storage URL quoted for a shell, or the environment variable that holds it if its password is hidden."""
    return '"$SEARCH_STORAGE"' if HIDDEN in shown else shlex.quote(shown)


class Strong(str):
    """A line that a terminal shows in bold: it belongs to the answer."""

    __slots__ = ()


def strong(lines: Iterable[str]) -> list[str]:
    """Lines that a terminal shows in bold."""
    return [Strong(line) for line in lines]


def prose_and_code(text: str) -> list[str]:
    """A sentence in parts, prose and code in turn: code stands between backticks. An odd backtick is a user's: all is prose."""
    parts = text.split("`")
    return parts if len(parts) % 2 else [text]


def truncate(text: str, room: int) -> str:
    """A text of at most `room` columns; `..` replaces what is left out."""
    return text if width(text) <= room else _start(text, max(room - 2, 0)) + ".."[:room]


def labeled(label: str, text: str, room: int | None = 80) -> list[str]:
    """A text after its label, wrapped at `room` columns (None: one line). No lines for an empty text."""
    return wrap(f"{label:8} ", text, " " * 9, room) if text.strip() else []


def wrap_line(line: str, room: int | None) -> list[str]:
    """A line wrapped at `room` columns; continuation lines are indented, under the text of a labeled line."""
    if room is None or width(line) <= room:
        return [line]
    label = re.match(r"[a-z0-9 ]{8} +(?=\S)|\s*", line)
    first = label.group() if label else ""
    indent = 9 if len(first) >= 9 else len(first) + 2
    return wrap(first, line[len(first) :], " " * indent, room)


def wrap(first: str, text: str, rest: str, room: int | None) -> list[str]:
    """A text wrapped at `room` columns; the first line starts with `first`, the others with `rest`.

    Breaks at spaces and between wide characters, as Japanese does; a word that is longer than a line is cut.
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


_NO_START = "、。，．・：；？！）］｝」』】〕〉》ーぁぃぅぇぉっゃゅょァィゥェォッャュョ々"
"""Characters that may not start a line of Japanese text."""

_NO_END = "（［｛「『【〔〈《"
"""Characters that may not end one."""


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """The unbreakable pieces of a text, each with the space before it."""
    for gap, word in re.findall(r"(\s*)(\S+)", text):
        breaks = [i for i in range(1, len(word)) if _may_break(word[i - 1], word[i])]
        for start, end in zip([0, *breaks], [*breaks, len(word)], strict=True):
            yield "" if start else gap.expandtabs(1).replace("\n", " "), word[start:end]


def _may_break(before: str, after: str) -> bool:
    is_wide = width(before) == 2 or width(after) == 2
    return is_wide and width(after) > 0 and after not in _NO_START and before not in _NO_END


def _start(text: str, room: int) -> str:
    """The longest start of a text that fits into `room` columns."""
    used = 0
    for i, char in enumerate(text):
        used += width(char)
        if used > room:
            return text[:i]
    return text
