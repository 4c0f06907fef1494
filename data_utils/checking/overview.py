"""The overview page of a data set: warnings, clips by signer and word, lengths, missing parts and example skeletons.

One self-contained HTML file with SVG, without scripts. All text from the data set is escaped.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from string import Template

from data_utils.checking.examples import Example
from data_utils.checking.skeleton_svg import draw_strip, guess_picture_shapes
from data_utils.checking.summary import Bar, Summary
from data_utils.checking.warnings import WarningRecord
from data_utils.landmarks import FILE_PARTS
from data_utils.wording import counted

MAX_COLUMNS = 30
"""Words in a table of signers and words; with more words, the page has a list of words instead."""

MAX_STRIPS = 60
"""Words shown as skeletons, about 12 kB each: a page of 250 words stays below 1 MB."""

_TEMPLATE = Path(__file__).with_name("overview.html")
_NONE = "none"  # instead of 0: stands out without color
_VISIBLE_ROWS = 14  # of a table
_MAX_BAR_WIDTH = 40
_VISIBLE_WARNINGS = 12  # the others are folded


def overview_html(summary: Summary, examples: Mapping[str, Example]) -> str:
    """The page as text. `examples` are clips by word; words may be missing."""
    clips = sum(word["clips"] for word in summary["words"])
    mirrored = sum(signer["mirrored"] for signer in summary["signers"])
    words, signers = counted(len(summary["words"]), "word"), counted(len(summary["signers"]), "signer")
    title = f"{counted(clips, 'clip')} of {words} by {signers}"
    copies = f" Mirrored copies ({mirrored:,}) are not counted." if mirrored else ""
    sections = {
        "Words and signers": _words_section(summary),
        "Lengths": _lengths_section(summary),
        "Missing parts": _missing_section(summary),
        "Skeletons": _skeletons_section(summary, examples),
    }
    links = _join(f'<a href="#{_anchor(head)}">{head}</a>' for head in sections)
    body = _join(
        f'<section id="{_anchor(head)}">\n<h2>{head}</h2>\n{_join(lines)}\n</section>' for head, lines in sections.items()
    )
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=title,
        fingerprint=_escape(summary["fingerprint"]),
        frames=counted(int(summary["frames"]["total"]), "frame"),
        copies=copies,
        warnings=_join(_warnings_section(summary["warnings"])),
        links=links,
        body=body,
    )


def _warnings_section(warnings: Sequence[WarningRecord]) -> Iterator[str]:
    yield f'<section id="warnings" class="{"some" if warnings else "sound"}" aria-label="Warnings">'
    if not warnings:
        yield "<p>No warnings.</p>"
    else:
        items = [f"<li>{_warning(one)}</li>" for one in warnings]
        yield f"<h2>{counted(len(warnings), 'warning')}</h2>"
        yield from ("<ul>", *items[:_VISIBLE_WARNINGS], "</ul>")
        if rest := items[_VISIBLE_WARNINGS:]:
            yield from (f"<details><summary>{len(rest):,} more</summary>", "<ul>", *rest, "</ul>", "</details>")
    yield "</section>"


def _warning(one: WarningRecord) -> str:
    seen = ": ".join(_escape(text) for text in (one["where"], one["got"]) if text)
    return "<br>".join(text for text in (f"<b>{_escape_prose(one['what'])}</b>", seen, _escape_prose(one["hint"])) if text)


def _words_section(summary: Summary) -> Iterator[str]:
    """Clips by signer and word if that table fits, otherwise clips and signers of each word; then a table of signers."""
    words, signers, table = summary["words"], summary["signers"], summary["table"]
    empty, pairs = sum(count == 0 for row in table for count in row), len(words) * len(signers)
    yield f"<p>{_gaps(empty, pairs)}</p>"
    if len(words) <= MAX_COLUMNS:
        heads = ("signer", *(word["word"] for word in words), "all")
        total = ("all", *(f"{word['clips']:,}" for word in words), f"{sum(word['clips'] for word in words):,}")
        rows = [(one["signer"], *map(_count, row), f"{one['clips']:,}") for one, row in zip(signers, table, strict=True)]
        yield _table("Clips by signer and word", heads, rows, total)
    else:
        yield _table(
            "Clips and signers of each word",
            ("word", "clips", "signers"),
            [(word["word"], _count(word["clips"]), _count(word["signers"])) for word in words],
        )
    yield "<h3>Each signer</h3>"
    yield _table(
        "Each signer",
        ("signer", "clips", "mirrored", "words", "median frames"),
        [
            (one["signer"], f"{one['clips']:,}", f"{one['mirrored']:,}", f"{one['words']:,}", f"{one['median_frames']:,g}")
            for one in signers
        ],
    )


def _gaps(empty: int, pairs: int) -> str:
    if empty == 0:
        return "Every signer has clips of every word."
    return f"{empty:,} of {pairs:,} pairs of a signer and a word {'has' if empty == 1 else 'have'} no clip."


def _lengths_section(summary: Summary) -> Iterator[str]:
    frames = {name: f"{number:,g}" for name, number in summary["frames"].items()}
    if frames["smallest"] == frames["largest"]:
        yield f"<p>All clips have the same length in frames: {frames['median']}.</p>"
    else:
        yield (
            f"<p>The shortest clip has {frames['smallest']} frames, the longest {frames['largest']}. "
            f"Half of all clips have {frames['first_quartile']} to {frames['third_quartile']}; "
            f"the median is {frames['median']}.</p>"
        )
    yield _histogram(summary["histogram"])


def _histogram(bars: Sequence[Bar]) -> str:
    """The histogram of clip lengths in frames, as SVG."""
    left, right, top, bottom = 44, 356, 10, 150
    most = max(bar["clips"] for bar in bars)
    step = _round_step(most)
    ceiling = step * max(1, math.ceil(most / step))
    wide = min((right - left) / len(bars), _MAX_BAR_WIDTH)
    names = [f"{one['first']:,}" if one["first"] == one["last"] else f"{one['first']:,}–{one['last']:,}" for one in bars]
    every = math.ceil((6 * max(map(len, names)) + 6) / wide)  # a character is about 6 wide
    marks = []
    for count in range(0, ceiling + 1, step):
        y = bottom - (bottom - top) * count / ceiling
        marks.append(f'<path class="grid" d="M{left} {y:.1f}H{right}"/>')
        marks.append(f'<text x="{left - 5}" y="{y + 3.5:.1f}" class="end">{count:,}</text>')
    for number, (bar, name) in enumerate(zip(bars, names, strict=True)):
        x, high = left + wide * number, (bottom - top) * bar["clips"] / ceiling
        marks.append(
            f'<rect x="{x + wide * 0.06:.1f}" y="{bottom - high:.1f}" width="{wide * 0.88:.1f}" height="{high:.1f}">'
            f"<title>{name} frames: {counted(bar['clips'], 'clip')}</title></rect>"
        )
        if number % every == 0:
            marks.append(f'<text x="{x + wide / 2:.1f}" y="{bottom + 14}" class="middle">{name}</text>')
    marks.append(f'<text x="{(left + right) / 2}" y="{bottom + 31}" class="middle">frames per clip</text>')
    marks.append(f'<text transform="translate(9 {(top + bottom) / 2}) rotate(-90)" class="middle">clips</text>')
    frames = f"{bars[0]['first']:,} to {bars[-1]['last']:,} frames"
    label = f"Histogram of clip lengths, {frames}, at most {most:,} clips per bar"
    return f'<svg class="histogram" viewBox="0 0 360 186" role="img" aria-label="{label}">\n{_join(marks)}\n</svg>'


def _round_step(most: int) -> int:
    """1, 2 or 5 times a power of ten, so that an axis up to `most` has about four steps."""
    power = 10 ** max(0, math.floor(math.log10(max(1, most) / 4)))
    return next((power * n for n in (1, 2, 5) if power * n * 4 >= most), power * 10)


def _missing_section(summary: Summary) -> Iterator[str]:
    yield "<p>Share of frames in which a part was not detected.</p>"
    heads = ("signer", *(part.replace("_", " ") for part in FILE_PARTS))
    total, *rows = (
        (who, *(_percent(missing[part]) for part in FILE_PARTS))
        for who, missing in [("all", summary["missing"]), *((one["signer"], one["missing"]) for one in summary["signers"])]
    )
    yield _table("Missing parts by signer", heads, rows, total)


def _percent(share: float) -> str:
    """A rounded percentage in which 0% means none and 100% means all."""
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{share:.0%}"


def _skeletons_section(summary: Summary, examples: Mapping[str, Example]) -> Iterator[str]:
    words = summary["words"]
    shown = words[:MAX_STRIPS]
    shapes = guess_picture_shapes((one.signer, one.feature_CTJ) for one in examples.values())
    rest = f" The first {len(shown):,} of {len(words):,} words are shown." if len(shown) < len(words) else ""
    yield (
        '<p>One clip of each word, from its first frame to its last: <span class="key left">left hand</span>, '
        '<span class="key right">right hand</span> (the signer’s own), body and face. Undetected parts are not drawn.'
        f"{rest}</p>"
    )
    yield (
        '<p class="note">Landmarks are fractions of the picture’s size, and the files do not contain its aspect ratio. Each '
        "clip is drawn with the common ratio in which the signer’s face has normal proportions; it is stated with the clip.</p>"
    )
    for word in shown:
        example = examples.get(word["word"])
        name = f"<h3><bdi>{_escape(word['word'])}</bdi></h3>"
        if example is None:
            yield f'<figure>{name}<figcaption class="lacking">no example</figcaption></figure>'
            continue
        shape = shapes[example.signer]
        length = counted(example.feature_CTJ.shape[1], "frame")
        about = f"signer {_escape(example.signer)}, clip {_escape(example.clip)}, {length}, picture {shape}"
        drawn = _join(draw_strip(word["word"], example.feature_CTJ, shape))
        yield f'<figure>{name}<figcaption>{about}</figcaption>\n<div class="strip">\n{drawn}\n</div></figure>'


# --- text


def _table(label: str, heads: Sequence[str], rows: Iterable[Sequence[str]], total: Sequence[str] | None = None) -> str:
    """A table in a scrolling box. The first column contains the row headers; the row of totals comes first."""
    head = "".join(f'<th scope="col">{_escape(text)}</th>' for text in heads)
    first = [] if total is None else [f'<tr class="total">{_cells(total)}</tr>']
    lines = [*first, *(f"<tr>{_cells(row)}</tr>" for row in rows)]
    note = f'\n<p class="note scrolls">{len(lines):,} rows: the table scrolls.</p>' if len(lines) > _VISIBLE_ROWS else ""
    return (
        f'<div class="wide" role="region" aria-label="{label}" tabindex="0">\n<table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{_join(lines)}\n</tbody>\n</table>\n</div>{note}"
    )


def _cells(row: Sequence[str]) -> str:
    name, *others = row
    cells = (f'<td class="none">{_NONE}</td>' if text == _NONE else f"<td>{_escape(text)}</td>" for text in others)
    return f'<th scope="row">{_escape(name)}</th>{"".join(cells)}'


def _join(texts: Iterable[str]) -> str:
    return "\n".join(texts)


def _count(number: int) -> str:
    """A number of clips, with the word `none` instead of 0."""
    return f"{number:,}" if number else _NONE


def _anchor(head: str) -> str:
    return head.lower().replace(" ", "-")


def _escape(text: str | None) -> str:
    return html.escape(text or "")


def _escape_prose(text: str | None) -> str:
    """Escaped text, with `backticks` as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _escape(text))
