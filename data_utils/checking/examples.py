"""Chooses an example clip of each word while a data set is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_utils.checking.facts import LONGEST_SIGN, ClipFacts
from data_utils.hdf5 import Clip


@dataclass(frozen=True)
class Example:
    """A clip that shows a word."""

    signer: str
    clip: str
    feature_CTJ: np.ndarray
    """float32 `[3, T, 543]`, NaN = not detected."""


class Examples:
    """For each word, the clip in which a hand is detected in most frames. Ties are broken by digest, to vary the signers."""

    def __init__(self) -> None:
        self._best: dict[int, tuple[tuple[float, bytes], Example]] = {}

    def add(self, facts: ClipFacts, clip: Clip) -> None:
        """Considers a clip. Mirrored copies and very long clips are never examples."""
        if facts.mirrored or facts.frames > LONGEST_SIGN:
            return
        detected = 1 - min(facts.missing["left_hand"], facts.missing["right_hand"]) / facts.frames
        rank = round(detected, 1), facts.digest
        if facts.label not in self._best or rank > self._best[facts.label][0]:
            self._best[facts.label] = rank, Example(facts.signer, facts.name, clip.feature_CTJ)

    def merge(self, others: Examples) -> None:
        """Considers the examples of other clips."""
        for label, (rank, example) in others._best.items():
            if label not in self._best or rank > self._best[label][0]:
                self._best[label] = rank, example

    def by_word(self, words: tuple[str, ...]) -> dict[str, Example]:
        """The examples by word; words without clips are missing."""
        return {words[label]: example for label, (_, example) in sorted(self._best.items())}
