"""Warnings about what a data set is too small for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from data_utils.checking.data_warning import DataWarning
from data_utils.clip_split import possible, why_indivisible
from data_utils.errors import DataError
from data_utils.splits import MIN_SIGNERS, split_signers
from data_utils.wording import counted, some

_FEW_CLIPS = 5  # of a word: next to nothing is left if validation and test each take one
_PARTS = 3  # training, validation and test part
_ONE_SIGNER = "one signer: no search can tell how well new signers are recognized"


def size_warnings(clips: Sequence[tuple[str, int, str]], words: Sequence[str]) -> Iterator[DataWarning]:
    """What `islr-search run` cannot do with a data set, or only in part, and words that no split can evaluate.

    Args:
        clips: signer, class number and session of each clip, without mirrored copies.
    """
    labels_of: dict[str, list[int]] = defaultdict(list)
    for signer, label, _ in clips:
        labels_of[signer].append(label)
    yield from _of_split(labels_of, why_indivisible(clips))
    total = Counter(label for labels in labels_of.values() for label in labels)
    if few := [f"{word} ({total[number]})" for number, word in enumerate(words) if total[number] < _FEW_CLIPS]:
        enough = ""
        if len(labels_of) < MIN_SIGNERS and any(total[number] < _PARTS for number in range(len(words))):
            enough = f": a split by clip takes {_PARTS} of each, one for training, one for validation and one for the test part"
        what, hint = f"words with fewer than {_FEW_CLIPS} clips", f"remove them, or record more{enough}"
        yield DataWarning(what, where="the dictionary", got=some(few), hint=hint)
    single = [word for number, word in enumerate(words) if sum(number in labels for labels in labels_of.values()) == 1]
    if single and len(labels_of) > 1:
        hint = "no split by signer can both train and test them"
        yield DataWarning("words of one signer only", where="the dictionary", got=some(single), hint=hint)


def _of_split(labels_of: Mapping[str, Sequence[int]], indivisible: str) -> Iterator[DataWarning]:
    """Why the usual split by signer is impossible, or has no test part. `indivisible`: why one by clip is impossible too."""
    extent = f"{counted(sum(map(len, labels_of.values())), 'clip')} of {counted(len(labels_of), 'signer')}"
    try:
        split = split_signers({signer: frozenset(labels) for signer, labels in labels_of.items()})
    except DataError as error:
        what = _ONE_SIGNER if len(labels_of) == 1 else f"no search can hold out signers: {error.what}"
        hint = str(possible(error, indivisible).hint).replace("`--set data.", "`islr-search run --set data.")
        yield DataWarning(what, where=some(sorted(labels_of)), got=extent, hint=hint)
        return
    if not split.test:
        what, hint = "two signers: one validates, and none is left for a test part", "record a third, whom no choice has seen"
        yield DataWarning(what, where=some(sorted(labels_of)), got=extent, hint=hint)
