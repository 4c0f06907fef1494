"""Warnings about a data set: not errors, but worth checking before the results of a search are trusted.

Each clip is read once and reduced to its facts. Each kind of warning appears once, however many clips it concerns.
"""

from __future__ import annotations

import itertools
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from data_utils.checking.body_warnings import Mend
from data_utils.checking.clip_warnings import clip_warnings
from data_utils.checking.data_warning import DataWarning
from data_utils.checking.facts import ClipFacts
from data_utils.checking.repeats import repeated_clips
from data_utils.checking.size import size_warnings
from data_utils.wording import counted, some

_MIN_CLIPS = 5  # of a signer, before a part that is never detected is worth a warning
_HANDS = {"left_hand", "right_hand"}


def find_warnings(clips: Sequence[ClipFacts], words: Sequence[str], mend: Mend) -> list[DataWarning]:
    """Every warning about the clips of a data set, those that can invalidate a comparison first."""
    own = [(clip.signer, clip.label, clip.session) for clip in clips if not clip.mirrored]
    found = [*repeated_clips(clips, words), *clip_warnings(clips, mend), *_of_signers(clips, words)]
    return [*found, *size_warnings(own, words), *_one_handed(_lost_parts(clips))]


def corrected_copy(folder: Path) -> Mend:
    """The command that copies a data set into a folder that does not exist and corrects it."""
    new = next(
        name for name in itertools.chain(["NEW"], (f"NEW{number}" for number in itertools.count(2))) if not Path(name).exists()
    )
    return lambda options: f"`islr-data import-hdf5 {shlex.quote(str(folder))} {new} {options}".rstrip() + "`"


def _of_signers(clips: Sequence[ClipFacts], words: Sequence[str]) -> Iterator[DataWarning]:
    """Body parts that are never detected for a signer, and words that a signer lacks."""
    own = _by_signer(clips)
    yield from _never_detected(_lost_parts(clips))
    lacking: dict[str, list[str]] = {}
    for signer, mine in own.items():
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


def _by_signer(clips: Sequence[ClipFacts]) -> dict[str, list[ClipFacts]]:
    """The clips of each signer, without mirrored copies."""
    own: dict[str, list[ClipFacts]] = defaultdict(list)
    for clip in clips:
        if not clip.mirrored:
            own[clip.signer].append(clip)
    return dict(sorted(own.items()))


def _lost_parts(clips: Sequence[ClipFacts]) -> dict[str, set[str]]:
    """The parts that are never detected, by signer with enough clips, as `9001 (12 clips)`."""
    return {
        f"{signer} ({counted(len(mine), 'clip')})": {
            part for part in mine[0].missing if all(clip.missing[part] == clip.frames for clip in mine)
        }
        for signer, mine in _by_signer(clips).items()
        if len(mine) >= _MIN_CLIPS
    }


def _never_detected(lost: Mapping[str, set[str]]) -> Iterator[DataWarning]:
    for what, parts, hint in (
        ("neither hand", _HANDS, "are the hands cut off, or were they removed when the landmarks were exported?"),
        ("the face", {"face"}, "was it removed when the landmarks were exported?"),
        ("the pose", {"pose"}, "was it removed when the landmarks were exported?"),
    ):
        if never := [signer for signer, mine in lost.items() if parts <= mine]:
            yield DataWarning(
                f"{what} of {counted(len(never), 'signer')} is {'ever' if parts == _HANDS else 'never'} detected",
                where=some(never),
                hint=hint,
            )


def _one_handed(lost: Mapping[str, set[str]]) -> Iterator[DataWarning]:
    """A note that signers use one hand only, which is last: most data sets have some."""
    without = {hand: [signer for signer, parts in lost.items() if parts & _HANDS == {hand}] for hand in sorted(_HANDS)}
    if never := sum(map(len, without.values())):
        yield DataWarning(
            f"only one hand of {counted(never, 'signer')} is ever detected",
            where="; ".join(f"no {hand.replace('_', ' ')}: {some(signers)}" for hand, signers in without.items() if signers),
            hint="a note: it is as it should be if they sign with the other alone; `augment.flip` mirrors clips in training",
        )
