"""Tells clips that fail a check by chance from signers whose clips fail it for a reason."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from data_utils.checking.facts import ClipFacts

_CHANCE = 0.02
"""Share of sound clips that may fail a check; measured: below 0.01."""

_LUCK = 1e-3  # probability below which a number of failures is no chance


class Failing(NamedTuple):
    """Clips that fail a check for a reason."""

    files: list[str]
    """Names of the files whose clips fail it. Empty: scattered clips of several."""

    failed: list[ClipFacts]
    judged: int
    """Clips of the same files for which it can be told."""


def failing(clips_of: Mapping[str, Sequence[ClipFacts]], check: str) -> list[Failing]:
    """The clips that fail a check for a reason: those of whole files, then those scattered over the other files.

    A file is one of these if so many of its clips fail that it would happen to fewer than 1 in 1,000 sound files. The clips of
    all other files are judged together; if most of them fail, each file in which most do is named.
    """
    judged = {name: [clip for clip in clips if check in clip.judged] for name, clips in clips_of.items()}
    failed = {name: [clip for clip in clips if check in clip.failed] for name, clips in judged.items()}
    files = [name for name in judged if beyond_luck(len(failed[name]), len(judged[name]))]
    others = [name for name in judged if name not in files]
    number, total = sum(len(failed[name]) for name in others), sum(len(judged[name]) for name in others)
    found = []
    if beyond_luck(number, total):
        if 2 * number > total:
            files += [name for name in others if 2 * len(failed[name]) > len(judged[name])]
        else:
            named = sum(len(judged[name]) for name in others if failed[name])
            found.append(Failing([], [clip for name in others for clip in failed[name]], named))
    if files:
        found.insert(0, Failing(files, [c for name in files for c in failed[name]], sum(len(judged[name]) for name in files)))
    return found


def beyond_luck(failed: int, judged: int) -> bool:
    """Whether so many of some clips fail a check that it is no chance: the tail of a binomial distribution."""
    if failed <= _CHANCE * judged:
        return False
    logs = [
        math.lgamma(judged + 1)
        - math.lgamma(n + 1)
        - math.lgamma(judged - n + 1)
        + n * math.log(_CHANCE)
        + (judged - n) * math.log(1 - _CHANCE)
        for n in range(failed, judged + 1)
    ]
    return math.fsum(map(math.exp, logs)) < _LUCK
