"""Warnings about clips whose parts do not form a body, or whose frames do not form a movement.

A few sound clips fail such a check (MediaPipe confuses crossed hands), so a warning needs more of them than chance gives.
"""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from data_utils.checking.data_warning import MAX_SIGNERS, DataWarning
from data_utils.checking.facts import ClipFacts
from data_utils.checking.luck import beyond_luck, failing
from data_utils.checking.orders import NO_ORDER, PartOrder
from data_utils.wording import join_names, some

Mend = Callable[[str], str]
"""Makes the end of a hint from options such as `--swap-hands 1002`: what corrects the clips. Without options they are copied,
which makes parts at one place NaN."""

_SIDES: dict[frozenset[str], tuple[str, str, tuple[str, ...]]] = {  # failed checks: what, the likely cause, options
    frozenset({"hands"}): (
        "hands are at the other arm's wrist",
        "left and right hand seem to be swapped",
        ("--swap-hands",),
    ),
    frozenset({"shoulders"}): (
        "the left shoulder is on the right shoulder's side",
        "x seems to be mirrored after detection",
        ("--mirrored",),
    ),
    frozenset({"shoulders", "hands"}): (
        "the left shoulder is on the right shoulder's side, and hands are at the other arm's wrist",
        "x seems to be mirrored and the hands to be swapped, after detection",
        ("--mirrored", "--swap-hands"),
    ),
    frozenset({"eyes"}): ("the left eye is on the right eye's side", "the face alone seems to be mirrored", ()),
    frozenset({"eyes", "hands"}): (
        "the left eye is on the right eye's side, and hands are at the other arm's wrist",
        "the face seems to be mirrored and the hands to be swapped",
        (),
    ),
}
_POSE_ALONE = "left and right of the pose alone seem to be swapped, or its x to be mirrored"

_NAMED = 0.2
"""Share of a file's clips that must fit in the same order: missing parts hide the order of many."""

AGAIN = "correct it where the clips are made, and import again"
"""What to do where no option corrects the clips."""

_LISTED = "`islr-data check --json DIR` lists all of them"

_PARTIAL = 0.9
"""A signer of whose clips fewer fail is not wrong as a whole: what corrects all of them would spoil the others."""

_LOOK = f"`islr-data info DIR --overview FILE.html` draws some clips; {AGAIN}"
_OTHERS = {  # check: what, and a hint
    "hand_place": ("hands are at nobody's wrist", f"is a part in other units, or cropped, or of other frames? {_LOOK}"),
    "face_place": ("the face is far from the head", f"is a part in other units, or cropped, or of other frames? {_LOOK}"),
    "text_order": (
        "frames seem to be sorted by their names as text: 0, 1, 10, 11, 2",
        "sort them by number where the clips are made, and import again",
    ),
    "shuffled": (
        "frames are not in the order of time: steps are as long as between frames drawn at random",
        "were their files listed without sorting? Sort them by number where the clips are made, and import again",
    ),
}


def order_warnings(clips: Sequence[ClipFacts], mend: Mend) -> tuple[list[DataWarning], list[ClipFacts]]:
    """Warnings about parts in a wrong order, and the clips that have nothing to do with these."""
    clips_of = by_file(clips)
    misread = _misread(clips_of)
    if misread:  # other files that are mostly wrong, for the same reason
        most = max(misread.values(), key=len)
        known = {name for names in misread.values() for name in names}
        most += [name for name, mine in clips_of.items() if name not in known and 2 * sum(map(_misplaced, mine)) > len(mine)]
    warnings = []
    for order, names in misread.items():
        wrong = [clip for name in names for clip in clips_of[name] if _strange(clip)]
        option = f"--order {order.parts}"
        again = mend(option) if order.landmarks else f"import the source again with `{option}`"
        if len(names) < len(clips_of):  # the option applies to every file
            again = f"import their files, from a folder of their own, with `{option}`"
            if order.landmarks:
                again = f"{mend('')} reads every signer in the order that fits"
        warnings.append(
            warning_of(
                "hands and face do not fit the body: the parts are in another order",
                wrong,
                sum(len(clips_of[name]) for name in names),
                f"they fit in the order {order.parts}: {again}",
            )
        )
    named = {name for names in misread.values() for name in names}
    whole = {name for name in named if 2 * sum(map(_strange, clips_of[name])) > len(clips_of[name])}
    return warnings, [clip for clip in clips if clip.file not in (named if _strange(clip) else whole)]


def _misread(clips_of: Mapping[str, Sequence[ClipFacts]]) -> dict[PartOrder, list[str]]:
    """The files that should have been read in another order, by that order."""
    misread: dict[PartOrder, list[str]] = defaultdict(list)
    for name, mine in clips_of.items():
        misfits = sum(clip.misfit for clip in mine)
        orders = Counter(clip.order for clip in mine if clip.order is not None)
        sought = orders.total()
        del orders[NO_ORDER]
        if not orders or not (beyond_luck(misfits, len(mine)) or misfits == len(mine)):
            continue
        order, count = orders.most_common(1)[0]
        if 2 * count > sought and count * misfits >= _NAMED * sought * len(mine):
            misread[order].append(name)
    for order in sorted(misread, key=lambda order: len(misread[order])):  # hands that are rarely seen do not tell their side
        other_side = order.parts.replace("left_hand", "*").replace("right_hand", "left_hand").replace("*", "right_hand")
        if (twin := order._replace(parts=other_side)) in misread:
            misread[twin] += misread.pop(order)
    return misread


def _strange(clip: ClipFacts) -> bool:
    """Whether anything about the body of a clip is wrong."""
    return _misplaced(clip) or bool(clip.failed & {"shoulders", "eyes"})


def _misplaced(clip: ClipFacts) -> bool:
    """Whether more is wrong than a mirrored picture explains."""
    return clip.misfit or bool(clip.failed & {"hand_place", "face_place"}) or bool({"head", "hips"} & {*clip.warnings})


def body_warnings(clips: Sequence[ClipFacts], mend: Mend) -> Iterator[DataWarning]:
    """Warnings about sides, places and the order of time."""
    clips_of = by_file(clips)
    found, explained = _sides(clips_of, mend)
    yield from found
    others = {name: mine for name, mine in clips_of.items() if name not in explained}
    for check, (what, hint) in _OTHERS.items():
        for one in failing(others if check in ("hand_place", "face_place") else clips_of, check):
            yield warning_of(what, one.failed, one.judged, hint)


def by_file(clips: Sequence[ClipFacts]) -> dict[str, list[ClipFacts]]:
    """The clips by the name of their file."""
    clips_of: dict[str, list[ClipFacts]] = defaultdict(list)
    for clip in clips:
        clips_of[clip.file].append(clip)
    return clips_of


class _Kind(NamedTuple):
    """What is wrong with left and right of some files."""

    checks: frozenset[str]
    pose_alone: bool
    partial: bool
    """Whether only some of a signer's clips are."""


def _sides(clips_of: Mapping[str, Sequence[ClipFacts]], mend: Mend) -> tuple[list[DataWarning], set[str]]:
    """Warnings about left and right, one per kind, and the files in which one part alone is mirrored, away from the others."""
    warnings = []
    checks_of: dict[str, set[str]] = defaultdict(set)
    for check in ("hands", "shoulders", "eyes"):
        for found in failing(clips_of, check):
            for name in found.files:
                checks_of[name].add(check)
            if not found.files:
                what, cause, _ = _SIDES[frozenset({check})]
                hint = f"{cause} in single clips: were they recorded or detected in another way? Remove them"
                warnings.append(warning_of(what, found.failed, found.judged, hint))
    files_of: dict[_Kind, list[str]] = defaultdict(list)
    for name, checks in checks_of.items():
        files_of[_kind(checks, clips_of[name])].append(name)
    for kind, names in files_of.items():
        union = kind.checks.union(*(checks_of[name] for name in names)) if kind.pose_alone else kind.checks
        clips = [clip for name in sorted(names) for clip in clips_of[name]]
        what, cause, options = _SIDES[union]
        if kind.pose_alone:
            cause, options = _POSE_ALONE, ()
        hint = f"{cause}: {_mended(names, clips_of, kind.checks, options, mend)}"
        if kind.partial:
            hint = f"{cause}, but in some of their clips only, so do not correct whole signers: {_LISTED}; {AGAIN}"
        failed = [clip for clip in clips if union & clip.failed]
        warnings.append(warning_of(what, failed, sum(bool(union & clip.judged) for clip in clips), hint))
    alone = {name for kind, names in files_of.items() if kind.pose_alone or "eyes" in kind.checks for name in names}
    return warnings, alone


def _kind(checks: set[str], clips: Sequence[ClipFacts]) -> _Kind:
    if "shoulders" in checks and "eyes" not in checks and any("eyes" in clip.judged for clip in clips):
        return _Kind(frozenset({"shoulders"}), True, False)
    # A mirrored face is certain of a mirrored pose only; without a face, the pose tells enough.
    kind = frozenset(checks - {"eyes"} if "shoulders" in checks else checks)
    partial = False
    for check in kind:
        failed, judged = sum(check in clip.failed for clip in clips), sum(check in clip.judged for clip in clips)
        partial = partial or (failed < _PARTIAL * judged and failed < judged - 1)
    return _Kind(kind, False, partial)


def _mended(
    names: Sequence[str],
    clips_of: Mapping[str, Sequence[ClipFacts]],
    checks: frozenset[str],
    options: Sequence[str],
    mend: Mend,
) -> str:
    """What corrects the clips of some files."""
    first = {name: clips_of[name][0] for name in clips_of}
    signers = sorted({first[name].signer for name in names if not first[name].mirrored})
    if not signers:
        return "remove these files, `augment.flip` mirrors clips in training"
    if not options:
        return AGAIN
    others = {first[name].signer for name in clips_of if any(checks & clip.judged for clip in clips_of[name])} - set(signers)
    return mend(" ".join(f"{option} {shlex.quote(join_names(signers)) if others else 'all'}" for option in options))


def warning_of(what: str, wrong: Sequence[ClipFacts], judged: int, hint: str) -> DataWarning:
    """A warning about some clips. `judged`: clips of the same signers for which it can be told."""
    signers = list(
        dict.fromkeys(clip.file if clip.mirrored else clip.signer for clip in wrong)
    )  # copies are in files of their own
    places = [clip.place for clip in wrong]
    got = f"{len(wrong):,} of {judged:,} clips: {some(places)}"
    return DataWarning(what, where=some(signers, MAX_SIGNERS), got=got, hint=hint, clips=places)
