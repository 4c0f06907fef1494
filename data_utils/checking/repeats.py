"""Warnings about clips that occur more than once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

from data_utils.checking.copies import find_copies
from data_utils.checking.data_warning import MAX_SIGNERS, DataWarning
from data_utils.checking.facts import ClipFacts, ClipTrace
from data_utils.wording import counted, some


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
            hint="keep them under one signer, or put these signers into the same part of the split",
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
        hint="keep them under one signer, put these signers into the same part of the split, or remove the copies: training "
        "changes clips itself (`augment`)",
    )


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
