"""Warnings about clips that occur more than once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

from data_utils.checking.copies import find_copies
from data_utils.checking.data_warning import MAX_SIGNERS, DataWarning
from data_utils.checking.facts import ClipFacts, ClipTrace
from data_utils.splits import MIN_SIGNERS
from data_utils.wording import counted, some

_APART = "remove the copies, or put these signers into the same part of a split by signer"


def repeated_clips(clips: Sequence[ClipFacts], words: Sequence[str]) -> Iterator[DataWarning]:
    """Warnings about clips that occur more than once, exactly or changed."""
    same: dict[bytes, list[ClipFacts]] = defaultdict(list)
    for clip in clips:
        same[clip.digest].append(clip)
    groups = [group for group in same.values() if len(group) > 1]

    def got(groups: Sequence[Sequence[ClipFacts]], remark: Callable[[Sequence[ClipFacts]], str] = lambda _: "") -> str:
        places = [" = ".join(clip.place for clip in group[:3]) + remark(group) for group in groups]
        return f"{counted(len(groups), 'clip')}: {some(places)}"

    if leaks := [group for group in groups if len({clip.signer for clip in group}) > 1]:
        signers = sorted({clip.signer for group in leaks for clip in group})
        yield DataWarning(
            f"the same clips under {len(signers)} signers: training on one leaks into the evaluation of the other",
            where=some(signers, MAX_SIGNERS),
            got=got(leaks),
            hint=_APART,
        )
    if repeated := [group for group in groups if len({clip.signer for clip in group}) < len(group)]:
        yield DataWarning(
            "the same clips more than once",
            where=some(sorted({clip.signer for group in repeated for clip in group})),
            got=got(repeated),
            hint="they have more weight than others: remove the copies",
        )
    if unlike := [group for group in groups if len({clip.label for clip in group}) > 1]:
        yield DataWarning(
            "the same clip with different words",
            where=some(sorted({clip.file for group in unlike for clip in group})),
            got=got(unlike, lambda group: f": {', '.join(sorted({words[clip.label] for clip in group}))}"),
            hint="one of the words is wrong",
        )
    yield from _changed_copies(clips)
    yield from _copies_under_own_name(clips)


def _changed_copies(clips: Sequence[ClipFacts]) -> Iterator[DataWarning]:
    """A warning about recordings that other signers have too, but changed."""
    found = find_copies([clip.signature for clip in clips], [clip.signer for clip in clips])
    pairs = [
        (one, other, change.replace("exact", "same x and y"))
        for one, other, change in found
        if clips[one].digest != clips[other].digest
    ]
    if not pairs:
        return
    numbers = {number for one, other, _ in pairs for number in (one, other)}
    signers = sorted({clips[number].signer for number in numbers})
    changes = Counter(change for _, _, changes in pairs for change in changes.split(", "))
    kinds = ", ".join(change for change, _ in changes.most_common())
    places = [f"{clips[one].place} = {clips[other].place} ({change})" for one, other, change in pairs]
    yield DataWarning(
        f"changed copies of clips under {len(signers)} signers: training on one leaks into the evaluation of the other",
        where=some(signers, MAX_SIGNERS),
        got=f"{len(numbers):,} of {len(clips):,} clips ({kinds}): {some(places)}",
        hint=f"{_APART}; training changes clips itself (`augment`)",
    )


def _copies_of_one_signer(clips: Sequence[ClipTrace]) -> list[tuple[ClipTrace, ClipTrace, str]]:
    """Pairs of a signer's own clips that show one recording, changed, and what was changed."""
    own = [clip for clip in clips if not clip.mirrored]
    pairs = find_copies([clip.signature for clip in own])
    return [(own[i], own[j], change) for i, j, change in pairs if own[i].signer == own[j].signer and change != "exact"]


def _copies_under_own_name(clips: Sequence[ClipFacts]) -> Iterator[DataWarning]:
    """A warning about recordings that a signer has twice, changed, if a split by clip is likely."""
    if len({clip.signer for clip in clips}) >= MIN_SIGNERS or not (pairs := _copies_of_one_signer(clips)):
        return
    places = [f"{one.place} = {other.place} ({change})" for one, other, change in pairs]
    yield DataWarning(
        "changed copies of clips under the same signer: a split by clip may train on one and validate on its copy",
        where=some(sorted({one.signer for one, _, _ in pairs}), MAX_SIGNERS),
        got=f"{_number_of(pairs):,} of {len(clips):,} clips: {some(places)}",
        hint="remove the copies: training changes clips itself (`augment`)",
    )


def _number_of(pairs: Sequence[tuple[ClipTrace, ClipTrace, str]]) -> int:
    return len({clip.place for one, other, _ in pairs for clip in (one, other)})


def copies_in_short(clips: Sequence[ClipTrace]) -> list[str]:
    """One line about recordings that several signers have, exactly or changed; none if there are none."""
    pairs = find_copies([clip.signature for clip in clips], [clip.signer for clip in clips])
    if not pairs:
        return []
    one, other, change = pairs[0]
    numbers = {number for pair in pairs for number in pair[:2]}
    signers = sorted({clips[number].signer for number in numbers})
    return [
        f"the same recordings under {len(signers)} signers: {some(signers, MAX_SIGNERS)} ({len(numbers):,} of {len(clips):,} "
        f"clips, such as {clips[one].place} = {clips[other].place}, {change}), so that training on one leaks into the "
        "evaluation of the other"
    ]


def changed_copies_in_short(clips: Sequence[ClipTrace]) -> list[str]:
    """For a split by clip: one line about recordings that occur again, changed; none if there are none.

    Copies that are equal in x and y are not meant: such a split keeps them together.
    """
    across = find_copies([clip.signature for clip in clips], [clip.signer for clip in clips])
    pairs = [(clips[i], clips[j], change) for i, j, change in across if change != "exact"] + _copies_of_one_signer(clips)
    if not pairs:
        return []
    one, other, change = pairs[0]
    return [
        f"{_number_of(pairs):,} of {len(clips):,} clips occur more than once, changed (such as {one.place} = {other.place}, "
        f"{change}): a split by clip may train on one and validate on its copy, so that it looks better than it is. Remove "
        "the copies"
    ]
