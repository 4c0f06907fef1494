"""An example clip of each word, chosen while a data set is read."""

from __future__ import annotations

from data_utils.checking.oddities import Seen
from data_utils.checking.overview import Example
from data_utils.hdf5 import Clip

_LONGEST = 450  # frames of a clip that may be kept in memory


class Examples:
    """For each word the clip in which a hand is seen in most of its frames; of equal ones any, to show many signers."""

    def __init__(self) -> None:
        self._best: dict[int, tuple[tuple[float, bytes], Example]] = {}

    def add(self, seen: Seen, clip: Clip) -> None:
        """Looks whether a clip is a better example than the one so far. Mirrored copies are none."""
        if seen.mirrored or seen.frames > _LONGEST:
            return
        shown = 1 - min(seen.missing["left_hand"], seen.missing["right_hand"]) / seen.frames
        rank = round(shown, 1), seen.digest
        if seen.label not in self._best or rank > self._best[seen.label][0]:
            self._best[seen.label] = rank, Example(seen.signer, seen.name, clip.feature_CTJ)

    def by_word(self, words: tuple[str, ...]) -> dict[str, Example]:
        """The examples; a word without clips has none."""
        return {words[label]: example for label, (_, example) in sorted(self._best.items())}
