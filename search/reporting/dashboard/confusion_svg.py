"""A trial's confusion matrix as an SVG image."""

from __future__ import annotations

import html
from collections.abc import Sequence

from data_utils.wording import width
from search.reporting.figures.answers import confusion_matrix
from search.reporting.figures.style import BLUE
from search.trial.outcome import AnswerCount

_CELL_PX = 22
_LETTER_PX = 7
_AXIS_PX = 30
"""Room for the names of the axes."""

_TITLE_PX = 48
_MIN_WIDTH_PX = 260
_MAX_NUMBERED = 20
"""Matrices of at most this many words show the count in every cell."""

_MAX_LABEL = 16


def confusion_svg(answers: Sequence[AnswerCount], words: Sequence[str], title: str) -> str:
    """Signed words (rows) against answers (columns), all trainings together; of many words those confused most often."""
    matrix = confusion_matrix(answers, words)
    count = len(matrix.words)
    labels = [word if len(word) <= _MAX_LABEL else word[: _MAX_LABEL - 1] + "…" for word in matrix.words]
    left = _AXIS_PX + _LETTER_PX * max(map(width, labels))
    side = _CELL_PX * count
    right, bottom = max(left + side + 20, _MIN_WIDTH_PX), _TITLE_PX + side + left
    subtitle = "" if count == len(words) else f"the {count} of {len(words)} words that are confused most often"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{right}" height="{bottom}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(10, 18, title, 'font-size="13" font-weight="bold"'),
        _text(10, 34, subtitle),
        _text(14, _TITLE_PX + side / 2, "signed", f'text-anchor="middle" transform="rotate(-90 14 {_TITLE_PX + side / 2})"'),
        _text(left + side / 2, bottom - 8, "answered", 'text-anchor="middle"'),
        f'<rect x="{left}" y="{_TITLE_PX}" width="{side}" height="{side}" fill="none" stroke="#c0c0c0"/>',
    ]
    for n, label in enumerate(labels):
        middle = _CELL_PX * n + 15
        x, y = left + middle, _TITLE_PX + side + 6
        parts.append(_text(left - 6, _TITLE_PX + middle, label, 'text-anchor="end"'))
        parts.append(_text(x, y, label, f'text-anchor="end" transform="rotate(-90 {x} {y})"'))
        for m, (cell, share) in enumerate(zip(matrix.counts[n], matrix.shares[n], strict=True)):
            if cell:
                x, y = left + _CELL_PX * m, _TITLE_PX + _CELL_PX * n
                square = f'x="{x}" y="{y}" width="{_CELL_PX}" height="{_CELL_PX}"'
                parts.append(f'<rect {square} fill="{BLUE}" fill-opacity="{share:.2f}"/>')
                if count <= _MAX_NUMBERED:
                    color = "white" if share > 0.6 else "black"
                    parts.append(_text(x + 11, y + 15, str(cell), f'text-anchor="middle" fill="{color}"'))
    return "\n".join([*parts, "</svg>\n"])


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    """A text element; control characters, which XML forbids, are replaced."""
    printable = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return f'<text x="{x}" y="{y}" {attributes}>{html.escape(printable)}</text>'
