"""Warnings about a data set: not errors, but worth checking before the results of a search are trusted.

Each clip is read once and reduced to a digest and a few numbers. Each kind of warning appears once, however many clips it
concerns.
"""

# C coordinates (x, y, z), T frames, J landmarks (543)

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from data_utils.errors import ExplainedError
from data_utils.folder import SignerFile
from data_utils.hdf5 import Clip
from data_utils.landmarks import FILE_PARTS, POSE_START
from data_utils.wording import counted

_MAX_NAMED = 3  # clips, files or words that a warning names
_FEW_CLIPS = 5  # of a word: next to nothing is left if validation and test each take one
_MIN_CLIPS = 5  # of a signer, before a hand that is never detected is worth a warning

LONGEST_SIGN = 450
"""Frames. The longest of 1,192 clips of the Kaggle release has 404; 450 are 15 seconds at 30 frames per second."""

_INSIDE = (-1.0, 2.0)
"""Plausible range of x and y of hands and face: up to one picture size outside the picture. The pose is excluded, because
MediaPipe places hips and legs that it does not see far below."""

_PIXELS = 10.0
"""A median |x| or |y|, or a |z| of hands or face, above this is in pixels: fractions of a picture are of the order of 1."""

_NOSE, _SHOULDERS = POSE_START, (POSE_START + 11, POSE_START + 12)


class WarningRecord(TypedDict):
    """A warning as plain values."""

    what: str
    where: str | None
    got: str | None
    hint: str | None


class DataWarning(ExplainedError):
    """A warning: what is unusual, where, and what can be done."""

    label = "warning"

    def record(self) -> WarningRecord:
        """The warning as plain values."""
        return WarningRecord(what=self.what, where=self.where, got=self.got, hint=self.hint)


_CLIP_WARNINGS: dict[str, tuple[str, str]] = {
    "pixels": (
        "coordinates look like pixels",
        "divide x by the picture's width and y by its height: landmarks are fractions of the picture's size",
    ),
    "depth": ("z is far larger than x and y", "is z in pixels? The model reads x and y only, but other tools may read z"),
    "outside": (
        "hands or face are far outside the picture",
        "look at these clips: `info DIR --overview FILE.html` draws some",
    ),
    "upside_down": ("the nose is below the shoulders", "y increases downwards here: is y or the camera inverted?"),
    "zeros": ("parts are at exactly 0", "landmarks that were not detected must be NaN, not 0"),
    "partly": (
        "single points of a part are missing",
        "MediaPipe loses whole parts only: were points removed? `preprocess.missing: aware` ignores such points",
    ),
    "still": ("all frames are the same", "was a still picture recorded instead of a sign?"),
    "one_frame": ("clips of a single frame", "a sign needs several frames: was the clip cut?"),
    "long": (f"clips of more than {LONGEST_SIGN} frames", "does each contain one sign only?"),
}
"""Warnings about single clips: kind -> what is unusual, and a hint."""


@dataclass(frozen=True)
class ClipFacts:
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

    warnings: tuple[str, ...]
    """Kinds of warnings, as in `_CLIP_WARNINGS`."""

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.signer}{'_swap' if self.mirrored else ''}.hdf5"

    @property
    def place(self) -> str:
        """Its file and its name in it."""
        return f"{self.file}: /{self.name}"


def inspect_clip(file: SignerFile, clip: Clip) -> ClipFacts:
    """Reduces a clip to its facts."""
    feature_CTJ = np.ascontiguousarray(clip.feature_CTJ)
    missing_TJ = np.isnan(feature_CTJ[0])
    return ClipFacts(
        signer=file.signer,
        mirrored=file.mirrored,
        name=clip.name,
        label=clip.label,
        frames=feature_CTJ.shape[1],
        missing={part: int(missing_TJ[:, where].all(axis=1).sum()) for part, where in FILE_PARTS.items()},
        digest=_digest(feature_CTJ),
        warnings=tuple(_warnings_of_clip(feature_CTJ, missing_TJ)),
    )


def _digest(feature_CTJ: np.ndarray) -> bytes:
    """Equal for equal numbers, although there are several NaNs and two zeros."""
    missing_CTJ = np.isnan(feature_CTJ)
    content = np.where(missing_CTJ, np.float32(0), feature_CTJ) + np.float32(0)
    return hashlib.sha256(content.tobytes() + np.packbits(missing_CTJ).tobytes()).digest()[:16]


def _warnings_of_clip(feature_CTJ: np.ndarray, missing_TJ: np.ndarray) -> Iterator[str]:
    frames = feature_CTJ.shape[1]
    filled_CTJ = np.nan_to_num(feature_CTJ)
    detected = filled_CTJ[:2][:, ~missing_TJ]
    if len(detected[0]) and float(np.median(np.abs(detected), axis=1).max()) > _PIXELS:
        yield "pixels"
    else:
        near_CTJ = np.concatenate([filled_CTJ[:, :, where] for part, where in FILE_PARTS.items() if part != "pose"], axis=2)
        if near_CTJ[:2].min() < _INSIDE[0] or near_CTJ[:2].max() > _INSIDE[1]:
            yield "outside"
        if float(np.abs(near_CTJ[2]).max()) > _PIXELS:
            yield "depth"
    shoulders_T = feature_CTJ[1, :, _SHOULDERS].mean(axis=0)
    below_T = feature_CTJ[1, :, _NOSE] - shoulders_T
    known_T = below_T[~np.isnan(below_T)]
    if len(known_T) and float(np.median(known_T)) > 0:
        yield "upside_down"
    parts = FILE_PARTS.values()
    if any(((filled_CTJ[:2, :, part] == 0) & ~missing_TJ[:, part]).all(axis=(0, 2)).any() for part in parts):
        yield "zeros"
    if any((missing_TJ[:, part].any(axis=1) & ~missing_TJ[:, part].all(axis=1)).any() for part in parts):
        yield "partly"
    if frames == 1:
        yield "one_frame"
    elif np.array_equal(filled_CTJ, np.broadcast_to(filled_CTJ[:, :1], filled_CTJ.shape)):
        yield "still"
    if frames > LONGEST_SIGN:
        yield "long"


def find_warnings(clips: Sequence[ClipFacts], words: Sequence[str]) -> list[DataWarning]:
    """Every warning about a data set, those that can invalidate a comparison first."""
    return [*_repeated(clips, words), *_of_clips(clips), *_of_signers(clips, words), *_of_words(clips, words)]


def _repeated(clips: Sequence[ClipFacts], words: Sequence[str]) -> Iterator[DataWarning]:
    """Clips that occur more than once."""
    same: dict[bytes, list[ClipFacts]] = defaultdict(list)
    for clip in clips:
        same[clip.digest].append(clip)
    groups = [group for group in same.values() if len(group) > 1]

    def got(groups: Sequence[Sequence[ClipFacts]], remark: Callable[[Sequence[ClipFacts]], str] = lambda _: "") -> str:
        places = [" = ".join(clip.place for clip in group[:_MAX_NAMED]) + remark(group) for group in groups]
        return f"{counted(len(groups), 'clip')}: {_some(places)}"

    if leaks := [group for group in groups if len({clip.signer for clip in group}) > 1]:
        signers = sorted({clip.signer for group in leaks for clip in group})
        yield DataWarning(
            f"the same clips under {len(signers)} signers: training on one leaks into the evaluation of the other",
            where=_some(signers, 10),
            got=got(leaks),
            hint="keep them under one signer, or put these signers into the same part of the split",
        )
    if repeated := [group for group in groups if len({clip.signer for clip in group}) < len(group)]:
        yield DataWarning(
            "the same clips more than once",
            where=_some(sorted({clip.signer for group in repeated for clip in group})),
            got=got(repeated),
            hint="they have more weight than others: remove the copies",
        )
    if unlike := [group for group in groups if len({clip.label for clip in group}) > 1]:
        yield DataWarning(
            "the same clip with different words",
            where=_some(sorted({clip.file for group in unlike for clip in group})),
            got=got(unlike, lambda group: f": {', '.join(sorted({words[clip.label] for clip in group}))}"),
            hint="one of the words is wrong",
        )


def _of_clips(clips: Sequence[ClipFacts]) -> Iterator[DataWarning]:
    """Warnings about single clips, one per kind."""
    for kind, (what, hint) in _CLIP_WARNINGS.items():
        if found := [clip for clip in clips if kind in clip.warnings]:
            files = list(dict.fromkeys(clip.file for clip in found))
            got = f"{len(found):,} of {len(clips):,} clips: {_some([clip.place for clip in found])}"
            yield DataWarning(what, where=_some(files), got=got, hint=hint)


def _of_signers(clips: Sequence[ClipFacts], words: Sequence[str]) -> Iterator[DataWarning]:
    """Body parts that are never detected for a signer, and words that a signer lacks."""
    own: dict[str, list[ClipFacts]] = defaultdict(list)
    for clip in clips:
        if not clip.mirrored:
            own[clip.signer].append(clip)
    for part in FILE_PARTS:
        never = [
            f"{signer} ({counted(len(mine), 'clip')})"
            for signer, mine in sorted(own.items())
            if len(mine) >= _MIN_CLIPS and all(clip.missing[part] == clip.frames for clip in mine)
        ]
        if never:
            yield DataWarning(
                f"the {part.replace('_', ' ')} of {counted(len(never), 'signer')} is never detected",
                where=_some(never),
                hint="do they sign with the other hand? `augment.flip` mirrors clips in training"
                if part.endswith("hand")
                else "was it removed when the landmarks were exported?",
            )
    lacking: dict[str, list[str]] = {}
    for signer, mine in sorted(own.items()):
        present = {clip.label for clip in mine}
        if names := [word for number, word in enumerate(words) if number not in present]:
            lacking[signer] = names
    if lacking:
        yield DataWarning(
            "signers lack words",
            where=_some(list(lacking)),
            got="; ".join(f"{signer} lacks {_some(names)}" for signer, names in list(lacking.items())[:_MAX_NAMED]),
            hint="if a part of the split has only these signers, it cannot evaluate these words",
        )


def _of_words(clips: Sequence[ClipFacts], words: Sequence[str]) -> Iterator[DataWarning]:
    """Words that no split can evaluate."""
    count = Counter(clip.label for clip in clips if not clip.mirrored)
    signers: dict[int, set[str]] = defaultdict(set)
    for clip in clips:
        signers[clip.label].add(clip.signer)
    few = [f"{word} ({count[number]})" for number, word in enumerate(words) if count[number] < _FEW_CLIPS]
    single = [word for number, word in enumerate(words) if len(signers[number]) == 1]
    for what, found, hint in (
        (f"words with fewer than {_FEW_CLIPS} clips", few, "remove them, or record more"),
        ("words of one signer only", single, "no split by signer can both train and test them"),
    ):
        if found:
            yield DataWarning(what, where="the dictionary", got=_some(found), hint=hint)


def _some(texts: Sequence[str], most: int = _MAX_NAMED) -> str:
    rest = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {rest:,} more" if rest > 0 else "")
