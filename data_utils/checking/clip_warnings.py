"""Warnings about the clips of a data set as such, whichever words and signers there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from data_utils.checking.body_warnings import AGAIN, Mend, body_warnings, by_file, order_warnings, warning_of
from data_utils.checking.data_warning import DataWarning
from data_utils.checking.facts import LONGEST_SIGN, ClipFacts
from data_utils.checking.luck import failing

_AGAIN = AGAIN[0].upper() + AGAIN[1:]
_CLIP_WARNINGS: dict[str, tuple[str, str]] = {
    "pixels": (
        "coordinates look like pixels",
        f"landmarks are fractions of the picture's size (x / width, y / height): {AGAIN}",
    ),
    "depth": ("z is far larger than x and y", "is z in pixels? The model reads x and y only, but other tools may read z"),
    "outside": (
        "hands or face are far outside the picture",
        "look at these clips: `info DIR --overview FILE.html` draws some",
    ),
    "head": ("the nose is below the shoulders", f"y increases downwards here, is y or the camera inverted? {_AGAIN}"),
    "hips": ("the hips are above the shoulders", f"y increases downwards here, is y of the pose inverted? {_AGAIN}"),
    "world_body": (
        "the body is in world coordinates: meters around the hips",
        "landmarks are fractions of the picture's size: use `pose_landmarks`, not `pose_world_landmarks`, where the clips are "
        "made, and import again",
    ),
    "world_hands": (
        "hands are in world coordinates: meters around their middle",
        "landmarks are fractions of the picture's size: use the hands' landmarks, not their world landmarks, where the clips "
        "are made, and import again",
    ),
    "zeros": ("parts are at exactly 0", "landmarks that were not detected must be NaN, not 0"),
    "constant": (
        "all points of a part are at one place",
        "were missing values filled with a number? Landmarks that were not detected must be NaN",
    ),
    "partly": (
        "single points of a part are missing",
        "MediaPipe loses whole parts only: were points removed? `preprocess.missing: aware` ignores such points",
    ),
    "still": ("all frames are the same", "was a still picture recorded instead of a sign?"),
    "one_frame": ("clips of a single frame", "a sign needs several frames: was the clip cut?"),
    "long": (f"clips of more than {LONGEST_SIGN} frames", "does each contain one sign only?"),
}
"""Warnings about single clips: kind -> what is unusual, and a hint."""

_MENDED_BY_COPYING = ("zeros", "constant")
_SERIOUS = ("pixels", "head", "hips", "world_body", "world_hands", "constant")
"""Those that spoil a training with the usual preprocessing."""


def clip_warnings(clips: Sequence[ClipFacts], mend: Mend) -> list[DataWarning]:
    """Every warning about clips as such, those about whole signers first."""
    misread, others = order_warnings(clips, mend)
    return [*misread, *body_warnings(others, mend), *_of_clips(others, mend)]


def serious_warnings(clips: Sequence[ClipFacts]) -> list[str]:
    """What spoils a training, about a sample of the clips of some signers: one line per warning."""
    misread, others = order_warnings(clips, str)
    certain = {kind: _CLIP_WARNINGS[kind] for kind in _SERIOUS}
    warnings = [*misread, *body_warnings(others, str), *_of_clips(others, str, certain)]
    return [f"{one.what}: {one.where} ({(one.got or '').split(':')[0]} of a sample)" for one in warnings]


def _of_clips(
    clips: Sequence[ClipFacts], mend: Mend, kinds: Mapping[str, tuple[str, str]] = _CLIP_WARNINGS
) -> Iterator[DataWarning]:
    """Warnings about single clips, one per kind."""
    clips_of = by_file(clips)
    for kind, (what, hint) in kinds.items():
        found = [clip for clip in clips if kind in clip.warnings]
        found += [clip for one in failing(clips_of, kind) for clip in one.failed]
        if found:
            if kind in _MENDED_BY_COPYING:
                hint = f"{hint}: {mend('')} makes them NaN"
            yield warning_of(what, found, sum(len(clips_of[name]) for name in {clip.file for clip in found}), hint)
