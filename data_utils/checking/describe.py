"""A data set as lines of text: what `info` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from data_utils.checking.summary import Summary
from data_utils.landmarks import FILE_PARTS
from data_utils.wording import align, counted, width

_ROOM = 80  # columns of a table of signers and words; wider ones become lists
_BAR = 40  # columns of the longest bar


def described(summary: Summary) -> Iterator[str]:
    """The counts, the lengths, what is missing, and the fingerprint. Warnings are not among them."""
    clips = sum(word["clips"] for word in summary["words"])
    yield f"{counted(clips, 'clip')}, {counted(len(summary['words']), 'word')}, {counted(len(summary['signers']), 'signer')}"
    yield ""
    yield from _of_words(summary)
    yield from _of_signers(summary)
    rows = [
        (name.replace("_", " "), f"{n:,.1f}" if isinstance(n, float) else f"{n:,}") for name, n in summary["frames"].items()
    ]
    yield from _table(("frames of a clip", ""), rows)
    yield from _bars(summary)
    yield f"fingerprint  {summary['fingerprint']}"


def _of_words(summary: Summary) -> Iterator[str]:
    """How often each word was made, and by whom where a table of that fits."""
    words = [(word["word"], f"{word['clips']:,}", f"{word['signers']:,}") for word in summary["words"]]
    yield from _table(("word", "clips", "signers"), words)
    heads = ("signer", *(word["word"] for word in summary["words"]), "all")
    rows = [
        (signer["signer"], *(f"{n:,}" if n else "-" for n in counts), f"{signer['clips']:,}")
        for signer, counts in zip(summary["signers"], summary["table"], strict=True)
    ]
    rows.append(("all", *(f"{word['clips']:,}" for word in summary["words"]), f"{sum(w['clips'] for w in summary['words']):,}"))
    lines = _table(heads, rows)
    if max(map(width, lines)) <= _ROOM:
        yield from lines


def _of_signers(summary: Summary) -> Iterator[str]:
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
    yield "Frames: the median of a clip. Parts: share of frames where they are missing."
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
        yield f"{line}  {'#' * -(-bar['clips'] * _BAR // most)}".rstrip()
    yield ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A head and rows, the first column to the left and the others to the right, and an empty line."""
    return [*align([head, *rows], right=range(1, len(head))), ""]
