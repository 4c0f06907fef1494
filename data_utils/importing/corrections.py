"""Corrections of landmarks that an importer applies: hands that are swapped, pictures that are mirrored."""

# C coordinates (3), T frames, J landmarks (543)

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from data_utils.errors import DataError
from data_utils.folder import MIRRORED_SUFFIX
from data_utils.landmarks import LEFT_HAND_START, NUM_LANDMARKS, POSE_START, RIGHT_HAND_START
from data_utils.wording import join_names, split_names, suggest

ALL = "all"
"""Stands for every signer."""


@dataclass(frozen=True)
class Corrections:
    """What is corrected, by signer."""

    swap_hands: tuple[str, ...] = ()
    """Signers whose left hand was saved as the right one and vice versa; `("all",)` for all."""

    mirrored: tuple[str, ...] = ()
    """Signers whose x runs from right to left: it is replaced by 1 - x. `("all",)` for all."""

    def apply(self, signer: str, feature_CTJ: np.ndarray) -> np.ndarray:
        """A clip of a signer, or of the mirrored copies of a signer's clips, corrected."""
        signer = signer.removesuffix(MIRRORED_SUFFIX)
        if _includes(self.swap_hands, signer):
            feature_CTJ = feature_CTJ[:, :, _SWAPPED]
        if self.is_mirrored(signer):
            feature_CTJ = np.concatenate([1 - feature_CTJ[:1], feature_CTJ[1:]])
        return feature_CTJ

    def is_mirrored(self, signer: str) -> bool:
        """Whether a signer's x runs from right to left."""
        return _includes(self.mirrored, signer)

    def options(self) -> Mapping[str, list[str]]:
        """What identifies them in the record of an import: nothing if there are none."""
        chosen = {"swap_hands": self.swap_hands, "mirrored": self.mirrored}
        return {name: sorted(signers) for name, signers in chosen.items() if signers}

    def check(self, signers: Collection[str]) -> None:
        """Checks that there are such signers.

        Raises:
            DataError: there is no such signer.
        """
        signers = {signer.removesuffix(MIRRORED_SUFFIX) for signer in signers}
        for option, chosen in (("--swap-hands", self.swap_hands), ("--mirrored", self.mirrored)):
            for signer in chosen:
                if signer not in signers and signer != ALL:
                    known = sorted(signers)
                    expected = join_names([ALL, *known[:20]]) + (", ..." if len(known) > 20 else "")
                    raise DataError(f"{option}: there is no signer `{signer}`", expected=expected, hint=suggest(signer, known))


NO_CORRECTIONS = Corrections()


def parse_signers(text: str | None) -> tuple[str, ...]:
    """The signers that a user typed, separated by commas; a name with a comma stands in double quotes."""
    return tuple(split_names(unicodedata.normalize("NFC", text or "")))


def _includes(chosen: Iterable[str], signer: str) -> bool:
    return any(one in (signer, ALL) for one in chosen)


def _swapped() -> np.ndarray:
    order = np.arange(NUM_LANDMARKS)
    left, right = slice(LEFT_HAND_START, POSE_START), slice(RIGHT_HAND_START, NUM_LANDMARKS)
    order[left], order[right] = np.arange(NUM_LANDMARKS)[right], np.arange(NUM_LANDMARKS)[left]
    return order


_SWAPPED = _swapped()
"""Where each landmark is found when the hands are swapped."""
