"""One page that shows a data set: what is odd, who made which word, lengths, what is missing, and skeletons of each word.

It is one file of HTML and SVG, without scripts and without anything from elsewhere. Whatever comes from people is escaped.
"""

# T frames of a clip, J landmarks (543), C coordinates (x, y, z)

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data_utils.checking.skeleton_svg import picture_shapes, strip
from data_utils.checking.summary import Bar, Summary, Warned
from data_utils.landmarks import FILE_PARTS
from data_utils.wording import counted

MOST_COLUMNS = 30
"""Words that stand side by side in a table of signers and words; more become a list."""

MOST_STRIPS = 60
"""Words that are shown by skeletons, about 12 kB each: a page of 250 words stays under 1 MB."""

_NONE = "none"  # instead of 0 where it matters: it stands out without colour
_ROWS_IN_SIGHT = 14  # of a table
_WIDEST = 40  # bar of the histogram
_OPEN_WARNINGS = 12  # further ones fold away


_STYLE = """
:root {
  --paper: #ffffff; --ink: #1d2126; --quiet: #5b646e; --line: #d9dde2; --soft: #f3f5f7; --accent: #1f66b5; --warn: #8a4b00;
  --warn-soft: #fff4e2; --left: #b04a00; --right: #1f66b5; --face: #7c858f;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e6e9ec; --quiet: #a4adb6; --line: #343a41; --soft: #1d2226; --accent: #7db5f0; --warn: #f0b860;
    --warn-soft: #2c2415; --left: #f5a45d; --right: #7db5f0; --face: #8b949e;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 44rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.2rem 0 0.6rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 0.4rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 0; overflow-wrap: anywhere; }
p { margin: 0.5rem 0; }
p, li, figcaption { overflow-wrap: anywhere; }
code { font: 0.86em/1.5 ui-monospace, monospace; }
.kicker, .note, figcaption, small { color: var(--quiet); font-size: 0.9rem; }
#warnings { margin: 1rem 0; }
#warnings { border-left: 4px solid var(--accent); border-radius: 6px; padding: 0.6rem 1.1rem; background: var(--soft); }
#warnings.odd { background: var(--warn-soft); border-color: var(--warn); }
#warnings h2 { font-size: 1rem; margin: 0; color: var(--warn); }
#warnings ul { list-style: none; padding: 0; margin: 0; font-size: 0.93rem; line-height: 1.45; }
#warnings li { margin: 0.6rem 0; }
#warnings b { color: var(--warn); font-weight: 600; }
summary { cursor: pointer; color: var(--accent); }
nav { font-size: 0.9rem; margin: 1rem 0 0; }
nav a { color: var(--accent); margin-right: 0.9rem; text-decoration: none; display: inline-block; }
.wide { overflow: auto; max-height: 32rem; margin: 0.8rem 0 0.2rem; }
table { border-collapse: separate; border-spacing: 0; font-size: 0.9rem; }
th, td { padding: 0.28rem 0 0.28rem 1.1rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: bottom; }
th { font-weight: 500; max-width: 11rem; overflow-wrap: break-word; }
td { font-variant-numeric: tabular-nums; white-space: nowrap; }
thead th { color: var(--quiet); position: sticky; top: 0; background: var(--paper); z-index: 1; }
th:first-child { text-align: left; padding-left: 0; position: sticky; left: 0; background: var(--paper); }
thead th:first-child { z-index: 2; }
tr.total > * { font-weight: 600; }
td.none { color: var(--warn); }
svg { display: block; overflow: hidden; }
.histogram { width: 100%; max-width: 30rem; margin: 1rem 0; fill: var(--accent); }
.histogram text { fill: var(--quiet); font-size: 10.5px; }
.histogram .middle { text-anchor: middle; }
.histogram .end { text-anchor: end; }
.histogram .grid { stroke: var(--line); stroke-width: 1; fill: none; }
figure { margin: 0 0 1.4rem; break-inside: avoid; }
.strip { display: grid; grid-template-columns: repeat(5, 1fr); gap: 0.4rem; margin-top: 0.4rem; }
.strip svg { width: 100%; background: var(--soft); border-radius: 4px; }
.strip path { fill: none; stroke-width: 1.4; stroke-linejoin: round; stroke-linecap: round; vector-effect: non-scaling-stroke; }
.strip .oval { stroke: var(--face); stroke-width: 1; opacity: 0.7; }
.strip .face { stroke: var(--face); stroke-width: 1; }
.strip .body { stroke: var(--ink); stroke-width: 1.8; }
.strip .left { stroke: var(--left); }
.strip .right { stroke: var(--right); }
.strip small { display: block; text-align: center; font-size: 0.8rem; line-height: 1.3; }
.key { font-weight: 600; }
.key.left { color: var(--left); }
.key.right { color: var(--right); }
@media (max-width: 30rem) { .strip { grid-template-columns: repeat(3, 1fr); } }
@media print {
  body { font-size: 11pt; }
  main { max-width: none; padding: 0; }
  nav, .scrolls { display: none; }
  h2, h3 { break-after: avoid; }
  .wide { overflow: visible; max-height: none; }
  .wide table { font-size: 7.5pt; }
  th, td { padding-left: 0.5rem; }
}
"""


@dataclass(frozen=True)
class Example:
    """A clip that shows a word."""

    signer: str
    clip: str
    feature_CTJ: np.ndarray
    """float32 `[3, T, 543]`, NaN = not detected."""


def overview_html(summary: Summary, examples: Mapping[str, Example]) -> str:
    """The page as text. `examples` holds a clip for each word, as far as there is one."""
    clips = sum(word["clips"] for word in summary["words"])
    mirrored = sum(signer["mirrored"] for signer in summary["signers"])
    words, signers = counted(len(summary["words"]), "word"), counted(len(summary["signers"]), "signer")
    title = f"{counted(clips, 'clip')} of {words} by {signers}"
    copies = f" Mirrored copies of clips, {mirrored:,} in all, are not counted among them." if mirrored else ""
    sections = {
        "Words and signers": _of_words(summary),
        "Lengths": _of_lengths(summary),
        "Missing parts": _of_missing(summary),
        "Skeletons": _of_skeletons(summary, examples),
    }
    links = _lines(f'<a href="#{_name(head)}">{head}</a>' for head in sections)
    body = _lines(
        f'<section id="{_name(head)}">\n<h2>{head}</h2>\n{_lines(lines)}\n</section>' for head, lines in sections.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Data set: {title}</title>
<link rel="icon" href="data:,">
<style>
{_STYLE.strip()}
</style>
</head>
<body>
<main>
<header>
<p class="kicker">Data set <code>{_text(summary["fingerprint"])}</code></p>
<h1>{title}</h1>
<p>{counted(int(summary["frames"]["total"]), "frame")} in all.{copies}</p>
</header>
{_lines(_of_warnings(summary["warnings"]))}
<nav aria-label="Sections">
{links}
</nav>
{body}
</main>
</body>
</html>
"""


def _of_warnings(warnings: Sequence[Warned]) -> Iterator[str]:
    yield f'<section id="warnings" class="{"odd" if warnings else "sound"}" aria-label="Warnings">'
    if not warnings:
        yield "<p>Nothing odd was found.</p>"
    else:
        items = [f"<li>{_warning(one)}</li>" for one in warnings]
        yield f"<h2>{counted(len(warnings), 'warning')}</h2>"
        yield from ("<ul>", *items[:_OPEN_WARNINGS], "</ul>")
        if rest := items[_OPEN_WARNINGS:]:
            yield from (f"<details><summary>{len(rest):,} more</summary>", "<ul>", *rest, "</ul>", "</details>")
    yield "</section>"


def _warning(one: Warned) -> str:
    seen = ": ".join(_text(text) for text in (one["where"], one["got"]) if text)
    return "<br>".join(text for text in (f"<b>{_prose(one['what'])}</b>", seen, _prose(one["hint"])) if text)


def _of_words(summary: Summary) -> Iterator[str]:
    """Clips by signer and word where that fits, else each word's clips and signers."""
    words, signers, table = summary["words"], summary["signers"], summary["table"]
    empty, pairs = sum(count == 0 for row in table for count in row), len(words) * len(signers)
    yield f"<p>{_gaps(empty, pairs)}</p>"
    if len(words) <= MOST_COLUMNS:
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
        return "Every signer made every word."
    return f"{empty:,} of {pairs:,} pairs of a signer and a word {'has' if empty == 1 else 'have'} no clip."


def _of_lengths(summary: Summary) -> Iterator[str]:
    frames = {name: f"{number:,g}" for name, number in summary["frames"].items()}
    if frames["smallest"] == frames["largest"]:
        yield f"<p>The length of every clip in frames: {frames['median']}.</p>"
    else:
        yield (
            f"<p>The shortest clip has {frames['smallest']} frames, the longest {frames['largest']}. "
            f"Half of all clips have {frames['first_quartile']} to {frames['third_quartile']}; "
            f"the median is {frames['median']}.</p>"
        )
    yield _histogram(summary["histogram"])


def _histogram(bars: Sequence[Bar]) -> str:
    """Bars over the lengths of clips, in frames, with labels on both axes."""
    left, right, top, bottom = 44, 356, 10, 150
    most = max(bar["clips"] for bar in bars)
    step = _round_step(most)
    ceiling = step * max(1, math.ceil(most / step))
    wide = min((right - left) / len(bars), _WIDEST)
    names = [f"{one['first']:,}" if one["first"] == one["last"] else f"{one['first']:,}–{one['last']:,}" for one in bars]
    every = math.ceil((6 * max(map(len, names)) + 6) / wide)  # a letter takes about 6
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
    marks.append(f'<text x="{(left + right) / 2}" y="{bottom + 31}" class="middle">frames of a clip</text>')
    marks.append(f'<text transform="translate(9 {(top + bottom) / 2}) rotate(-90)" class="middle">clips</text>')
    label = (
        f"Histogram of the lengths of clips, {bars[0]['first']:,} to {bars[-1]['last']:,} frames, at most {most:,} clips a bar"
    )
    return f'<svg class="histogram" viewBox="0 0 360 186" role="img" aria-label="{label}">\n{_lines(marks)}\n</svg>'


def _round_step(most: int) -> int:
    """1, 2 or 5 times a power of ten, so that an axis up to `most` has about four steps."""
    power = 10 ** max(0, math.floor(math.log10(max(1, most) / 4)))
    return next((power * n for n in (1, 2, 5) if power * n * 4 >= most), power * 10)


def _of_missing(summary: Summary) -> Iterator[str]:
    yield "<p>Share of frames in which a part was not detected.</p>"
    heads = ("signer", *(part.replace("_", " ") for part in FILE_PARTS))
    total, *rows = (
        (who, *(_percent(missing[part]) for part in FILE_PARTS))
        for who, missing in [("all", summary["missing"]), *((one["signer"], one["missing"]) for one in summary["signers"])]
    )
    yield _table("Missing parts by signer", heads, rows, total)


def _percent(share: float) -> str:
    """A rounded share that tells none from few, and all from most."""
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{share:.0%}"


def _of_skeletons(summary: Summary, examples: Mapping[str, Example]) -> Iterator[str]:
    words = summary["words"]
    shown = words[:MOST_STRIPS]
    shapes = picture_shapes((one.signer, one.feature_CTJ) for one in examples.values())
    rest = f" The first {len(shown):,} of {len(words):,} words are shown." if len(shown) < len(words) else ""
    yield (
        '<p>One clip of each word, from its first frame to its last: <span class="key left">left hand</span>, '
        '<span class="key right">right hand</span> (the signer’s own), body and face. What was not detected is left out.'
        f"{rest}</p>"
    )
    yield (
        '<p class="note">Landmarks are fractions of a picture, and the files do not hold its shape. Here it is the usual one '
        "in which the signer’s face has ordinary proportions: it stands with each clip.</p>"
    )
    for word in shown:
        example = examples.get(word["word"])
        name = f"<h3><bdi>{_text(word['word'])}</bdi></h3>"
        if example is None:
            yield f'<figure>{name}<figcaption class="lacking">no example</figcaption></figure>'
            continue
        shape = shapes[example.signer]
        length = counted(example.feature_CTJ.shape[1], "frame")
        about = f"signer {_text(example.signer)}, clip {_text(example.clip)}, {length}, picture {shape}"
        drawn = _lines(strip(word["word"], example.feature_CTJ, shape))
        yield f'<figure>{name}<figcaption>{about}</figcaption>\n<div class="strip">\n{drawn}\n</div></figure>'


# --- text


def _table(label: str, heads: Sequence[str], rows: Iterable[Sequence[str]], total: Sequence[str] | None = None) -> str:
    """A table in a box that scrolls by itself. The first column names the rows; a row of totals stands first."""
    head = "".join(f'<th scope="col">{_text(text)}</th>' for text in heads)
    first = [] if total is None else [f'<tr class="total">{_cells(total)}</tr>']
    lines = [*first, *(f"<tr>{_cells(row)}</tr>" for row in rows)]
    note = f'\n<p class="note scrolls">{len(lines):,} rows: the table scrolls.</p>' if len(lines) > _ROWS_IN_SIGHT else ""
    return (
        f'<div class="wide" role="region" aria-label="{label}" tabindex="0">\n<table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{_lines(lines)}\n</tbody>\n</table>\n</div>{note}"
    )


def _cells(row: Sequence[str]) -> str:
    name, *others = row
    cells = (f'<td class="none">{_NONE}</td>' if text == _NONE else f"<td>{_text(text)}</td>" for text in others)
    return f'<th scope="row">{_text(name)}</th>{"".join(cells)}'


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(texts)


def _count(number: int) -> str:
    """A number of clips; none is said in a word, so that it stands out."""
    return f"{number:,}" if number else _NONE


def _name(head: str) -> str:
    return head.lower().replace(" ", "-")


def _text(text: str | None) -> str:
    return html.escape(text or "")


def _prose(text: str | None) -> str:
    """Text with what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _text(text))
