"""The summary of a data set as text, as printed by `info`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from data_utils.checking.summary import Summary
from data_utils.landmarks import FILE_PARTS
from data_utils.wording import align, counted, width

_MAX_WIDTH = 80  # columns of the table of signers and words; a wider one is left out
_BAR_WIDTH = 40  # columns of the longest bar


def describe(summary: Summary) -> Iterator[str]:
    """Counts, lengths, missing parts and the fingerprint, without the warnings."""
    clips = sum(word["clips"] for word in summary["words"])
    yield f"{counted(clips, 'clip')}, {counted(len(summary['words']), 'word')}, {counted(len(summary['signers']), 'signer')}"
    yield ""
    yield from _words(summary)
    yield from _signers(summary)
    rows = [
        (name.replace("_", " "), f"{n:,.1f}" if isinstance(n, float) else f"{n:,}") for name, n in summary["frames"].items()
    ]
    yield from _table(("frames per clip", ""), rows)
    yield from _bars(summary)
    yield f"fingerprint  {summary['fingerprint']}"


def _words(summary: Summary) -> Iterator[str]:
    """Clips and signers of each word; also clips by signer and word, if that table fits."""
    words = [(word["word"], f"{word['clips']:,}", f"{word['signers']:,}") for word in summary["words"]]
    yield from _table(("word", "clips", "signers"), words)
    heads = ("signer", *(word["word"] for word in summary["words"]), "all")
    rows = [
        (signer["signer"], *(f"{n:,}" if n else "-" for n in counts), f"{signer['clips']:,}")
        for signer, counts in zip(summary["signers"], summary["table"], strict=True)
    ]
    rows.append(("all", *(f"{word['clips']:,}" for word in summary["words"]), f"{sum(w['clips'] for w in summary['words']):,}"))
    lines = _table(heads, rows)
    if max(map(width, lines)) <= _MAX_WIDTH:
        yield from lines


def _signers(summary: Summary) -> Iterator[str]:
    parts = [part.removesuffix("_hand") for part in FILE_PARTS]
    rows = [
        (
            one["signer"],
            *(f"{one[name]:,}" for name in ("clips", "mirrored", "words")),
            f"{one['median_frames']:g}",
            *(f"{one['missing'][part]:.4f}" for part in FILE_PARTS),
        )
        for one in summary["signers"]
    ]
    rows.append(
        ("all", *_totals(summary), f"{summary['frames']['median']:g}", *(f"{n:.4f}" for n in summary["missing"].values()))
    )
    yield "Frames: median per clip. Parts: share of frames in which they are missing."
    yield from _table(("signer", "clips", "mirrored", "words", "frames", *parts), rows)


def _totals(summary: Summary) -> list[str]:
    clips, mirrored = (sum(one[name] for one in summary["signers"]) for name in ("clips", "mirrored"))
    return [f"{clips:,}", f"{mirrored:,}", f"{len(summary['words']):,}"]


def _bars(summary: Summary) -> Iterator[str]:
    most = max(bar["clips"] for bar in summary["histogram"])
    rows = [
        (f"{bar['first']:,}" + (f"-{bar['last']:,}" if bar["last"] > bar["first"] else ""), f"{bar['clips']:,}")
        for bar in summary["histogram"]
    ]
    lines = _table(("frames", "clips"), rows)[:-1]
    yield lines[0]
    for line, bar in zip(lines[1:], summary["histogram"], strict=True):
        yield f"{line}  {'#' * -(-bar['clips'] * _BAR_WIDTH // most)}".rstrip()
    yield ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned lines, the first column to the left and the others to the right, and an empty line."""
    return [*align([head, *rows], right=range(1, len(head))), ""]
