"""Warnings about a data set: not errors, but worth checking before the results of a search are trusted.

Each clip is read once and reduced to its facts. Each kind of warning appears once, however many clips it concerns.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_utils.checking.body_warnings import Mend
from data_utils.checking.clip_warnings import clip_warnings
from data_utils.checking.data_warning import DataWarning
from data_utils.checking.facts import ClipFacts
from data_utils.checking.repeats import repeated_clips
from data_utils.checking.size import size_warnings
from data_utils.wording import counted, some

_MIN_CLIPS = 5  # of a signer, before a part that is never detected is worth a warning


def find_warnings(clips: Sequence[ClipFacts], words: Sequence[str], mend: Mend) -> list[DataWarning]:
    """Every warning about the clips of a data set, those that can invalidate a comparison first."""
    labels_of: dict[str, list[int]] = defaultdict(list)
    for clip in clips:
        if not clip.mirrored:
            labels_of[clip.signer].append(clip.label)
    found = [*repeated_clips(clips, words), *clip_warnings(clips, mend), *_of_signers(clips, words)]
    return [*found, *size_warnings(labels_of, words)]


def corrected_copy(folder: Path) -> Mend:
    """The command that copies a data set and corrects it."""
    return lambda options: f"`islr-data import-hdf5 {shlex.quote(str(folder))} NEW {options}".rstrip() + "`"


def _of_signers(clips: Sequence[ClipFacts], words: Sequence[str]) -> Iterator[DataWarning]:
    """Body parts that are never detected for a signer, and words that a signer lacks."""
    own: dict[str, list[ClipFacts]] = defaultdict(list)
    for clip in clips:
        if not clip.mirrored:
            own[clip.signer].append(clip)
    yield from _never_detected(own)
    lacking: dict[str, list[str]] = {}
    for signer, mine in sorted(own.items()):
        present = {clip.label for clip in mine}
        if names := [word for number, word in enumerate(words) if number not in present]:
            lacking[signer] = names
    if lacking:
        yield DataWarning(
            "signers lack words",
            where=some(list(lacking)),
            got="; ".join(f"{signer} lacks {some(names)}" for signer, names in list(lacking.items())[:3]),
            hint="if a part of the split has only these signers, it cannot evaluate these words",
        )


def _never_detected(own: dict[str, list[ClipFacts]]) -> Iterator[DataWarning]:
    lost = {
        signer: {part for part in mine[0].missing if all(clip.missing[part] == clip.frames for clip in mine)}
        for signer, mine in sorted(own.items())
        if len(mine) >= _MIN_CLIPS
    }
    hands = {"left_hand", "right_hand"}
    for what, hint, never in (
        (
            "neither hand of {} is ever detected",
            "are the hands cut off, or were they removed when the landmarks were exported?",
            [signer for signer, parts in lost.items() if hands <= parts],
        ),
        *(
            (
                f"the {part.replace('_', ' ')} of {{}} is never detected",
                "do they sign with the other hand? `augment.flip` mirrors clips in training"
                if part in hands
                else "was it removed when the landmarks were exported?",
                [signer for signer, parts in lost.items() if part in parts and not (part in hands and hands <= parts)],
            )
            for part in ("face", "left_hand", "pose", "right_hand")
        ),
    ):
        if never:
            where = some([f"{signer} ({counted(len(own[signer]), 'clip')})" for signer in never])
            yield DataWarning(what.format(counted(len(never), "signer")), where=where, hint=hint)
