"""A trial's confusion matrix as a small picture."""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from search.reporting.figures.answers import shown_words, word_counts
from search.trial.outcome import AnswerCount

_NUMBERED = 20
"""Up to so many words every cell tells its count."""

_LONGEST_LABEL = 16
_FONTS = ("DejaVu Sans", "Noto Sans CJK JP", "IPAexGothic", "Hiragino Sans", "Yu Gothic", "MS Gothic")
"""The first that has a letter draws it; the first comes with Matplotlib."""


def confusion_png(answers: Sequence[AnswerCount], words: Sequence[str], title: str) -> bytes:
    """True words against answers, all trainings together. Of many words those that are mistaken most often."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in answers:
        counts[row.word, row.answer] += row.clips
    some = shown_words(words, counts)
    table = [[counts[word, answer] for answer in some] for word in some]
    signed = word_counts(counts)
    shares = [[count / (signed[word] or 1) for count in line] for word, line in zip(some, table, strict=True)]
    side = 2.2 + 0.2 * max(len(some), 8)
    figure = Figure(figsize=(side, side), dpi=80, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(len(some))
    names = [_label(word, words) for word in some]
    small = 8 if len(some) <= _NUMBERED else 6.5
    axes.set_xticks(places, names, rotation=90)
    axes.set_yticks(places, names)
    left_out = "" if len(some) == len(words) else f"\nthe {len(some)} of {len(words)} words mistaken most often"
    texts = [axes.set_title(f"{title}{left_out}", fontsize=9), axes.set_xlabel("answered"), axes.set_ylabel("signed")]
    texts += [*axes.get_xticklabels(), *axes.get_yticklabels()]
    if len(some) <= _NUMBERED:
        for y, line in enumerate(table):
            for x, count in enumerate(line):
                color = "white" if shares[y][x] > 0.6 else "black"
                texts += [axes.text(x, y, str(count or ""), ha="center", va="center", fontsize=small, color=color)]
    for text in axes.get_xticklabels() + axes.get_yticklabels():
        text.set_fontsize(small)
    _plain(texts)
    return _png(figure)


def _label(word: str, words: Sequence[str]) -> str:
    """A word, or its place in the list where no font has its letters."""
    short = word if len(word) <= _LONGEST_LABEL else word[: _LONGEST_LABEL - 1] + "…"
    return short if all(ord(char) in _letters() for char in short) else f"word {words.index(word)}"


def _plain(texts: Iterable[Text]) -> None:
    """Dollar signs are no formulas, and every letter finds its font."""
    for text in texts:
        text.set_parse_math(False)
        text.set_fontfamily(list(_installed()))


@cache
def _installed() -> tuple[str, ...]:
    """Those of the fonts that this machine has."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    there = {entry.name for entry in font_manager.fontManager.ttflist}
    return tuple(name for name in _FONTS if name in there)


@cache
def _letters() -> frozenset[int]:
    """What the installed fonts can draw."""
    found: set[int] = set()
    for name in _installed():
        found |= font_manager.get_font(font_manager.findfont(name)).get_charmap().keys()
    return frozenset(found)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png")
    return stream.getvalue()
