"""What is odd about a data set that can be read: not wrong by itself, but worth a look before a search is believed.

Every clip is seen once and remembered by a digest and a few numbers. Of each kind one warning is made, however many clips it is
of.
"""

# C coordinates (x, y, z), T frames, J landmarks (543)

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data_utils.errors import ExplainedError
from data_utils.folder import SignerFile
from data_utils.hdf5 import Clip
from data_utils.landmarks import FILE_PARTS, POSE_START
from data_utils.wording import counted

_NAMED = 3  # clips that a warning names
_FEW_CLIPS = 5  # of a word: one each for training, validation and test leave next to nothing
_KNOWN_CLIPS = 5  # of a signer, before it is odd that a hand is never seen

_LONGEST = 450
"""Frames. The longest of 1,192 clips of the Kaggle release has 404; 450 are 15 seconds at 30 frames a second."""

_OUTSIDE = (-1.0, 2.0)
"""Of x and y of hands and face, in pictures: a whole picture beside it. MediaPipe places hips and legs that it does not see far
below, so the pose is left out."""

_PIXELS = 10.0
"""A median |x| or |y| above it, or a |z| of hands or face: fractions of a picture are of the order of 1, pixels of 100."""

_NOSE, _SHOULDERS = POSE_START, (POSE_START + 11, POSE_START + 12)


class Oddity(ExplainedError):
    """A warning: what is odd, where, and what may be done."""

    label = "warning"


_KINDS: dict[str, tuple[str, str]] = {
    "pixels": (
        "coordinates look like pixels",
        "divide x by the picture's width and y by its height: landmarks are fractions of the picture",
    ),
    "depth": ("z is far larger than x and y", "was z left in pixels? The model reads x and y only, but other tools may not"),
    "outside": (
        "hands or face lie far outside of the picture",
        "look at these clips: `info DIR --overview FILE.html` draws some",
    ),
    "upside_down": ("the nose lies below the shoulders", "y grows downwards here: was it turned, or the camera?"),
    "zeros": ("parts lie at exactly 0", "what was not detected is NaN in these files, not 0"),
    "partly": (
        "single points of a part are missing",
        "MediaPipe loses whole parts only: was something removed? `preprocess.missing: aware` leaves such points out",
    ),
    "still": ("all frames are the same", "was a picture recorded instead of a sign?"),
    "one_frame": ("clips of a single frame", "a sign moves: was the clip cut?"),
    "long": (f"clips of more than {_LONGEST} frames", "does each hold one sign only?"),
}


@dataclass(frozen=True)
class Seen:
    """What is kept of one clip."""

    signer: str
    mirrored: bool
    name: str
    label: int
    frames: int
    missing: dict[str, int]
    """Frames in which each part was not detected."""

    digest: bytes
    """Of its landmarks as float32: equal for equal clips."""

    odd: tuple[str, ...]
    """Kinds of oddity, as in `_KINDS`."""


def look_at(file: SignerFile, clip: Clip) -> Seen:
    """Looks at one clip."""
    feature_CTJ = np.ascontiguousarray(clip.feature_CTJ)
    lost_TJ = np.isnan(feature_CTJ[0])
    return Seen(
        signer=file.signer,
        mirrored=file.mirrored,
        name=clip.name,
        label=clip.label,
        frames=feature_CTJ.shape[1],
        missing={part: int(lost_TJ[:, where].all(axis=1).sum()) for part, where in FILE_PARTS.items()},
        digest=_digest(feature_CTJ),
        odd=tuple(_oddities_of(feature_CTJ, lost_TJ)),
    )


def _digest(feature_CTJ: np.ndarray) -> bytes:
    """Equal for equal numbers: there are many kinds of NaN, and two of 0."""
    lost_CTJ = np.isnan(feature_CTJ)
    content = np.where(lost_CTJ, np.float32(0), feature_CTJ) + np.float32(0)
    return hashlib.sha256(content.tobytes() + np.packbits(lost_CTJ).tobytes()).digest()[:16]


def _oddities_of(feature_CTJ: np.ndarray, lost_TJ: np.ndarray) -> Iterator[str]:
    frames = feature_CTJ.shape[1]
    filled_CTJ = np.nan_to_num(feature_CTJ)
    shown = filled_CTJ[:2][:, ~lost_TJ]
    if len(shown[0]) and float(np.median(np.abs(shown), axis=1).max()) > _PIXELS:
        yield "pixels"
    else:
        near_CTJ = np.concatenate([filled_CTJ[:, :, where] for part, where in FILE_PARTS.items() if part != "pose"], axis=2)
        if near_CTJ[:2].min() < _OUTSIDE[0] or near_CTJ[:2].max() > _OUTSIDE[1]:
            yield "outside"
        if float(np.abs(near_CTJ[2]).max()) > _PIXELS:
            yield "depth"
    shoulders_T = feature_CTJ[1, :, _SHOULDERS].mean(axis=0)
    below_T = feature_CTJ[1, :, _NOSE] - shoulders_T
    known_T = below_T[~np.isnan(below_T)]
    if len(known_T) and float(np.median(known_T)) > 0:
        yield "upside_down"
    if any(((filled_CTJ[:2, :, where] == 0) & ~lost_TJ[:, where]).all(axis=(0, 2)).any() for where in FILE_PARTS.values()):
        yield "zeros"
    if any((lost_TJ[:, where].any(axis=1) & ~lost_TJ[:, where].all(axis=1)).any() for where in FILE_PARTS.values()):
        yield "partly"
    if frames == 1:
        yield "one_frame"
    elif np.array_equal(filled_CTJ, np.broadcast_to(filled_CTJ[:, :1], filled_CTJ.shape)):
        yield "still"
    if frames > _LONGEST:
        yield "long"


def oddities(clips: Sequence[Seen], words: Sequence[str]) -> list[Oddity]:
    """Every warning about a data set, those that may spoil a comparison first."""
    return [*_repeated(clips, words), *_of_kinds(clips), *_of_signers(clips, words), *_of_words(clips, words)]


def _repeated(clips: Sequence[Seen], words: Sequence[str]) -> Iterator[Oddity]:
    """Clips that are there more than once."""
    same: dict[bytes, list[Seen]] = defaultdict(list)
    for clip in clips:
        same[clip.digest].append(clip)
    groups = [group for group in same.values() if len(group) > 1]
    leaks = [group for group in groups if len({clip.signer for clip in group}) > 1]
    if leaks:
        signers = sorted({clip.signer for group in leaks for clip in group})
        yield Oddity(
            f"the same clips under {len(signers)} signers: what is learned from one is known of the other",
            where=", ".join(signers[:10]) + (f" and {len(signers) - 10:,} more" if len(signers) > 10 else ""),
            got=f"{counted(len(leaks), 'clip')}: {_some([_places(group) for group in leaks])}",
            hint="keep them under one signer, or put these signers into the same part of the split",
        )
    repeated = [group for group in groups if len({clip.signer for clip in group}) < len(group)]
    if repeated:
        yield Oddity(
            "the same clips more than once",
            where=_some(sorted({clip.signer for group in repeated for clip in group})),
            got=f"{counted(len(repeated), 'clip')}: {_some([_places(group) for group in repeated])}",
            hint="they count more than others: remove one",
        )
    unlike = [group for group in groups if len({clip.label for clip in group}) > 1]
    if unlike:
        texts = [f"{_places(group)}: {', '.join(sorted({words[clip.label] for clip in group}))}" for group in unlike]
        yield Oddity(
            "the same clip with different words",
            where=_some(sorted({_file(clip) for group in unlike for clip in group})),
            got=f"{counted(len(unlike), 'clip')}: {_some(texts)}",
            hint="one of the words is wrong",
        )


def _places(group: Sequence[Seen]) -> str:
    return " = ".join(f"{_file(clip)}: /{clip.name}" for clip in group[:_NAMED])


def _of_kinds(clips: Sequence[Seen]) -> Iterator[Oddity]:
    """What single clips show, together for all clips of a kind."""
    for kind, (what, hint) in _KINDS.items():
        found = [clip for clip in clips if kind in clip.odd]
        if found:
            files = list(dict.fromkeys(_file(clip) for clip in found))
            names = _some([f"{_file(clip)}: /{clip.name}" for clip in found])
            yield Oddity(what, where=_some(files), got=f"{len(found):,} of {len(clips):,} clips: {names}", hint=hint)


def _of_signers(clips: Sequence[Seen], words: Sequence[str]) -> Iterator[Oddity]:
    """Parts that a signer never shows, and words that they lack."""
    own: dict[str, list[Seen]] = defaultdict(list)
    for clip in clips:
        if not clip.mirrored:
            own[clip.signer].append(clip)
    for part in FILE_PARTS:
        never = [
            f"{signer} ({counted(len(mine), 'clip')})"
            for signer, mine in sorted(own.items())
            if len(mine) >= _KNOWN_CLIPS and all(clip.missing[part] == clip.frames for clip in mine)
        ]
        if never:
            yield Oddity(
                f"the {part.replace('_', ' ')} of {counted(len(never), 'signer')} is never seen",
                where=_some(never),
                hint="do they sign with the other hand? `augment.flip` shows every clip from both sides"
                if part.endswith("hand")
                else "was it left out when the landmarks were made?",
            )
    lacking: dict[str, list[str]] = {}
    for signer, mine in sorted(own.items()):
        there = {clip.label for clip in mine}
        lacking[signer] = [word for number, word in enumerate(words) if number not in there]
    short = {signer: names for signer, names in lacking.items() if names}
    if short:
        yield Oddity(
            "signers lack words",
            where=_some(list(short)),
            got="; ".join(f"{signer} lacks {_some(names)}" for signer, names in list(short.items())[:_NAMED]),
            hint="a part of the split that has these signers only says nothing about these words",
        )


def _of_words(clips: Sequence[Seen], words: Sequence[str]) -> Iterator[Oddity]:
    """Words that no split can test."""
    count = Counter(clip.label for clip in clips if not clip.mirrored)
    signers: dict[int, set[str]] = defaultdict(set)
    for clip in clips:
        signers[clip.label].add(clip.signer)
    few = [f"{word} ({count[number]})" for number, word in enumerate(words) if count[number] < _FEW_CLIPS]
    if few:
        hint = "leave them out, or record more"
        yield Oddity(f"words with fewer than {_FEW_CLIPS} clips", where="the dictionary", got=_some(few), hint=hint)
    alone = [word for number, word in enumerate(words) if len(signers[number]) == 1]
    if alone:
        hint = "no split by signer can both train and test them"
        yield Oddity("words of one signer only", where="the dictionary", got=_some(alone), hint=hint)


def _file(clip: Seen) -> str:
    return f"{clip.signer}{'_swap' if clip.mirrored else ''}.hdf5"


def _some(texts: Sequence[str]) -> str:
    rest = len(texts) - _NAMED
    return ", ".join(texts[:_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")
