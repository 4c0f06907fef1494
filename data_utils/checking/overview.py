"""The overview page of a data set: warnings, clips by signer and word, lengths, missing parts and example skeletons.

One self-contained HTML file with SVG, without scripts. The template escapes all text from the data set.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import jinja2
import markupsafe

from data_utils.checking.examples import Example
from data_utils.checking.skeleton_svg import draw_strip, guess_picture_shapes
from data_utils.checking.summary import Bar, Summary
from data_utils.landmarks import FILE_PARTS
from data_utils.wording import counted

MAX_COLUMNS = 30
"""Words in a table of signers and words; with more words, the page has a list of words instead."""

MAX_STRIPS = 60
"""Words shown as skeletons, about 12 kB each: a page of 250 words stays below 1 MB."""

_MAX_BAR_WIDTH = 40


def overview_html(summary: Summary, examples: Mapping[str, Example]) -> str:
    """The page as text. `examples` are clips by word; words may be missing."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("data_utils.checking"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"counted": counted, "prose": _prose}
    return environment.get_template("overview.html").render(
        summary=summary,
        clips=sum(word["clips"] for word in summary["words"]),
        mirrored=sum(signer["mirrored"] for signer in summary["signers"]),
        pairs=[count for row in summary["table"] for count in row],
        frames={name: f"{number:,g}" for name, number in summary["frames"].items()},
        words_table=_words_table(summary),
        signers_table=_signers_table(summary),
        missing_table=_missing_table(summary),
        histogram=markupsafe.Markup(_histogram(summary["histogram"])),
        skeletons=list(_skeletons(summary, examples)),
    )


@dataclass(frozen=True)
class _Table:
    """The first column contains the row headers; the row of totals comes first."""

    label: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: Sequence[str] | None = None


def _words_table(summary: Summary) -> _Table:
    """Clips by signer and word if that table fits, otherwise clips and signers of each word."""
    words, signers = summary["words"], summary["signers"]
    if len(words) > MAX_COLUMNS:
        counts = [(word["word"], _count(word["clips"]), _count(word["signers"])) for word in words]
        return _Table("Clips and signers of each word", ("word", "clips", "signers"), counts)
    rows = [
        (signer["signer"], *map(_count, counts), f"{signer['clips']:,}")
        for signer, counts in zip(signers, summary["table"], strict=True)
    ]
    total = ("all", *(f"{word['clips']:,}" for word in words), f"{sum(word['clips'] for word in words):,}")
    return _Table("Clips by signer and word", ("signer", *(word["word"] for word in words), "all"), rows, total)


def _signers_table(summary: Summary) -> _Table:
    rows = [
        (one["signer"], f"{one['clips']:,}", f"{one['mirrored']:,}", f"{one['words']:,}", f"{one['median_frames']:,g}")
        for one in summary["signers"]
    ]
    return _Table("Each signer", ("signer", "clips", "mirrored", "words", "median frames"), rows)


def _missing_table(summary: Summary) -> _Table:
    total, *rows = (
        (signer, *(_percent(missing[part]) for part in FILE_PARTS))
        for signer, missing in [("all", summary["missing"]), *((one["signer"], one["missing"]) for one in summary["signers"])]
    )
    heads = ("signer", *(part.replace("_", " ") for part in FILE_PARTS))
    return _Table("Missing parts by signer", heads, rows, total)


def _count(number: int) -> str:
    """A number of clips; the word `none` stands out more than 0."""
    return f"{number:,}" if number else "none"


def _percent(share: float) -> str:
    """A rounded percentage in which 0% means none and 100% means all."""
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{share:.0%}"


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
    content = "\n".join(marks)
    return f'<svg class="histogram" viewBox="0 0 360 186" role="img" aria-label="{label}">\n{content}\n</svg>'


def _round_step(most: int) -> int:
    """1, 2 or 5 times a power of ten, so that an axis up to `most` has about four steps."""
    power = 10 ** max(0, math.floor(math.log10(max(1, most) / 4)))
    return next((power * n for n in (1, 2, 5) if power * n * 4 >= most), power * 10)


def _skeletons(summary: Summary, examples: Mapping[str, Example]) -> Iterator[tuple[str, str, list[markupsafe.Markup]]]:
    """For each word a caption and the skeletons of its example; both are empty if it has none."""
    shapes = guess_picture_shapes((one.signer, one.feature_CTJ) for one in examples.values())
    for word in summary["words"][:MAX_STRIPS]:
        name = word["word"]
        if name not in examples:
            yield name, "", []
            continue
        example = examples[name]
        shape, length = shapes[example.signer], counted(example.feature_CTJ.shape[1], "frame")
        caption = f"signer {example.signer}, clip {example.clip}, {length}, picture {shape}"
        yield name, caption, [markupsafe.Markup(line) for line in draw_strip(name, example.feature_CTJ, shape)]


def _prose(text: str | None) -> markupsafe.Markup:
    """Escaped text, with `backticks` as code."""
    return markupsafe.Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(markupsafe.escape(text or ""))))
