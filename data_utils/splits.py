"""Splits by signer: training, validation and test part, or folds. No signer is in two parts.

Signers are compared by their whole names. The test part is sealed: only `search test` may read its clips. `Split` also holds
splits by clip, which `clip_split.py` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from data_utils.errors import DataError
from data_utils.wording import SAME_PEOPLE, counted, suggest

SignerSelection = Sequence[str] | Literal["rest", "none", "auto"]
"""Names of signers, `rest` (those in no other part), `none`, or `auto`."""

Folds = int | Literal["each"] | None
"""Number of folds, one fold per signer (`each`), or None for a single validation part."""

WordsOf = Mapping[str, frozenset[int]]
"""Per signer, the class numbers that they have clips of."""

Group = tuple[str, ...]
"""Some signers."""

MIN_SIGNERS = 3
"""For training, validation and a test part by signer."""

_AUTO_SHARE = 5  # `auto` takes one signer in five
_NUM_DRAWS = 200
BY_CLIPS = f"`--set data.split=clips` holds out clips instead of signers ({SAME_PEOPLE})"
"""A hint. Who can type it must also know `clip_split.why_indivisible`."""


@dataclass(frozen=True)
class ClipSplit:
    """How clips are divided instead of signers: the arguments of `clip_split.divide`, and what came of it."""

    signers: Group
    """Whose clips are divided."""

    test: bool
    """Whether some are sealed for the test."""

    folds: int
    """Number of groups that validate in turn; 0: one part validates."""

    seed: int
    fold_seed: int
    """Of the folds alone: a confirmation draws others, with the same test part."""

    digest: str = ""
    """Of all clips with their parts: proves that they are divided as they were. Empty: not compared."""

    sealed: str = ""
    """Of the clips of the test part; empty if there is none."""

    num_train: int = 0
    """Clips of the training part; with folds, of all folds. Mirrored copies do not count."""

    num_validation: int = 0
    num_test: int = 0
    num_sessions: int = 0
    """Recording sessions by which they are divided; 0: each clip by itself."""

    def text(self) -> str:
        """How many clips are in each part, as a clause."""
        parts = f"{self.num_train:,} train, {self.num_validation:,} validate"
        if self.folds:
            parts = f"{self.num_train:,} in {self.folds} folds, each used once for validation"
        by = f"by {counted(self.num_sessions, 'recording session')}" if self.num_sessions else "one by one"
        sealed = f"{self.num_test:,} are sealed" if self.test else "none is sealed"
        return f"clips of {counted(len(self.signers), 'signer')} are divided {by}: {parts}, {sealed}"


@dataclass(frozen=True)
class Split:
    """The signers of each part, sorted by name. In a split by clip the same signers are in several parts."""

    train: Group
    validation: Group
    test: Group

    note: str = ""
    """A remark for the user about how the split was made; empty if there is none."""

    folds: tuple[Group, ...] = ()
    """With folds: the groups of training signers that are validated on in turn. There is no validation part then."""

    clips: ClipSplit | None = None
    """How the clips are divided; None: the split is by signer."""

    @property
    def kind(self) -> str:
        """What is held out: `signers` or `clips`."""
        return "signers" if self.clips is None else "clips"

    def train_validation_pairs(self) -> tuple[tuple[Group, Group], ...]:
        """Training and validation signers of each model that a trial trains: one pair, or one per fold."""
        if not self.folds:
            return ((self.train, self.validation),)
        if self.clips is not None:
            return tuple((self.train, fold) for fold in self.folds)
        return tuple((tuple(signer for signer in self.train if signer not in fold), fold) for fold in self.folds)

    def parts(self) -> dict[str, Group]:
        """The three parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def split_signers(
    words_of: WordsOf,
    *,
    train: SignerSelection = "rest",
    validation: SignerSelection = "auto",
    test: SignerSelection = "auto",
    folds: Folds = None,
    seed: int = 0,
) -> Split:
    """Assigns each signer to the training, validation or test part.

    `auto` takes about a fifth of the signers (at least one) for validation and another fifth for the test part. Of 200 seeded
    draws, those in which training lacks a word are discarded; of the others, the first one whose held-out parts contain the
    most words is used. With fewer than three signers there is no test part, and `note` says so, as it names what a part lacks.

    With `folds` there is no validation part: the training signers are dealt into groups of nearly equal size. The draw is
    chosen in the same way; every word must be in the training clips of every fold.

    Raises:
        DataError: one signer, an unknown one, a signer in two parts, an empty training or validation part, a word that training
            lacks, or more folds than signers.
    """
    if folds is not None:
        validation = "none"
    requested: dict[str, SignerSelection] = {"train": train, "validation": validation, "test": test}
    if train == "auto":
        raise DataError("training signers cannot be `auto`", expected="a list of signers, or `rest`")
    assigned = _named_parts(requested, words_of)
    if len(words_of) < 2:
        raise DataError(
            "one signer is not enough: a search trains on some signers and validates on others",
            got=f"1 signer: {', '.join(words_of)}",
            expected="2 signers or more, 3 with a test part",
            hint=f"record another signer; or {BY_CLIPS}",
        )
    note = ""
    if test == "auto" and len(words_of) < MIN_SIGNERS:
        assigned["test"] = ()
        note = f"{counted(len(words_of), 'signer')} in total: no test part"
    if auto := [part for part in ("validation", "test") if requested[part] == "auto" and part not in assigned]:
        assigned |= _draw_parts(words_of, auto, assigned, seed)
    rest = [part for part in requested if requested[part] == "rest"]
    if len(rest) > 1:
        raise DataError("only one part can be `rest`", got=", ".join(rest), hint=f"`--set data.{rest[-1]}=auto`")
    if rest:
        assigned[rest[0]] = _unassigned(words_of, assigned)
    parts = {part: tuple(sorted(signers)) for part, signers in assigned.items()}
    split = Split(parts["train"], parts["validation"], parts["test"], note)
    if folds is not None:
        split = _with_folds(split, len(split.train) if folds == "each" else folds, words_of, seed)
    _check(split, words_of, requested)
    remarks = _lacking_words(split, words_of)
    return replace(split, note="; ".join(text for text in (split.note, *remarks) if text))


def unknown_signer(signer: str, part: str, known: Iterable[str]) -> DataError:
    """The error for a signer who is not in the data set."""
    names = sorted(known)
    return DataError(
        f"there is no signer `{signer}` for the {part} part",
        expected=f"one of {', '.join(names)}",
        hint=suggest(signer, names) or "a signer's name is the name of their file without .hdf5",
    )


def _named_parts(requested: Mapping[str, SignerSelection], words_of: WordsOf) -> dict[str, Group]:
    """The parts whose signers are given by name, and those that are `none`."""
    named: dict[str, Group] = {}
    part_of: dict[str, str] = {}
    for part, selection in requested.items():
        if selection == "none":
            named[part] = ()
        if isinstance(selection, str):
            continue
        for signer in selection:
            if signer not in words_of:
                raise unknown_signer(signer, part, words_of)
            if signer in part_of:
                where = "twice in" if part_of[signer] == part else f"in the {part_of[signer]} part and in"
                fewer = ", ".join(dict.fromkeys(one for one in selection if part_of.get(one, part) == part))
                raise DataError(
                    f"signer `{signer}` is {where} the {part} part",
                    expected="each signer in one part: validation on a signer seen in training is too optimistic",
                    hint=f"`--set data.{part}={f'[{fewer}]' if fewer else 'auto'}`",
                )
            part_of[signer] = part
        named[part] = tuple(selection)
    return named


def _unassigned(words_of: WordsOf, assigned: Mapping[str, Group]) -> Group:
    taken = {signer for group in assigned.values() for signer in group}
    return tuple(signer for signer in words_of if signer not in taken)


def _draw_parts(words_of: WordsOf, auto: Sequence[str], assigned: Mapping[str, Group], seed: int) -> dict[str, Group]:
    """Draws signers for the parts that are `auto`."""
    named_train = assigned.get("train")
    free = sorted(_unassigned(words_of, assigned))
    reserved = 0 if named_train else 1  # at least one signer must be left to train on
    if len(free) < len(auto) + reserved:
        raise DataError(
            f"too few signers for {' and '.join(auto)} by `auto`",
            got=f"{len(free)} of {len(words_of)} without a part",
            expected=f"{len(auto) + reserved} or more",
            hint=_more_free(auto, assigned),
        )
    size = min(max(1, round(len(words_of) / _AUTO_SHARE)), (len(free) - reserved) // len(auto))

    def deal(order: Group) -> tuple[list[Group], list[Group]]:
        held_out = [order[i * size : (i + 1) * size] for i in range(len(auto))]
        return held_out, [named_train or order[len(auto) * size :]]

    rng = np.random.default_rng(np.random.SeedSequence([seed, len(words_of)]))
    drawn = _best_draw(free, _words(words_of, words_of), words_of, rng, deal)
    if drawn is None:
        raise DataError(
            f"no draw of {' and '.join(auto)} signers leaves every word in training",
            got="some words have clips of few signers",
            hint="`--set data.test=none` leaves more signers for training" if "test" in auto else BY_CLIPS,
        )
    return dict(zip(auto, drawn, strict=True))


def _more_free(auto: Sequence[str], assigned: Mapping[str, Group]) -> str:
    """What leaves more signers to `auto`."""
    if "test" in auto or assigned.get("test"):
        return "`--set data.test=none`"
    named = next((part for part in ("train", "validation") if assigned.get(part)), None)
    return BY_CLIPS if named is None else f"`--set data.{named}={'rest' if named == 'train' else 'auto'}`"


def _with_folds(split: Split, count: int, words_of: WordsOf, seed: int) -> Split:
    """The split with its training signers dealt into folds."""
    signers = split.train
    if not 2 <= count <= len(signers):
        raise DataError(
            f"{count} folds cannot be made of {counted(len(signers), 'signer')}",
            expected=f"2 to {len(signers)} folds" if len(signers) >= 2 else "at least two signers outside the test part",
            hint=f"`--set data.folds={len(signers)}`" if len(signers) >= 2 else "`--set data.test=none --set data.train=rest`",
        )

    def deal(order: Group) -> tuple[list[Group], list[Group]]:
        folds = sorted(tuple(sorted(order[i::count])) for i in range(count))
        return folds, [train for train, _ in replace(split, folds=tuple(folds)).train_validation_pairs()]

    everything = _words(signers, words_of)
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(signers), count]))
    folds = _best_draw(signers, everything, words_of, rng, deal)
    if folds is None:
        rare = [str(word) for word in sorted(everything) if sum(word in words_of[signer] for signer in signers) < 2]
        raise DataError(
            f"no draw of {count} folds leaves every word in the training of each",
            got=f"class {', '.join(rare)} has clips of one signer only" if rare else "some words have few signers",
            hint="`--set data.folds=none` validates on one part instead",
        )
    return replace(split, folds=tuple(folds))


def _best_draw(
    signers: Sequence[str],
    everything: frozenset[int],
    words_of: WordsOf,
    rng: np.random.Generator,
    deal: Callable[[Group], tuple[list[Group], list[Group]]],
) -> list[Group] | None:
    """Shuffles the signers 200 times; of the draws that keep every word in training, the one that holds out the most words.

    `deal` makes held-out groups and the training signers of each model from shuffled signers. Counted are first the words of
    the poorest group, then those of all groups. None if no draw keeps every word in training.
    """
    best, best_score = None, (-1, -1)
    for _ in range(_NUM_DRAWS):
        held_out, training = deal(tuple(signers[i] for i in rng.permutation(len(signers))))
        if any(_words(group, words_of) != everything for group in training):
            continue
        counts = [len(_words(group, words_of)) for group in held_out]
        if (score := (min(counts), sum(counts))) > best_score:
            best, best_score = held_out, score
    return best


def _check(split: Split, words_of: WordsOf, requested: Mapping[str, SignerSelection]) -> None:
    held_out = [part for part in ("validation", "test") if requested[part] not in ("auto", "none")]
    for part, signers in (("training", split.train), ("validation", split.folds or split.validation)):
        if not signers:
            again = "train=rest" if requested["train"] == "none" else f"{(*held_out, 'validation')[0]}=auto"
            raise DataError(
                f"the {part} part has no signer",
                got=f"{counted(len(words_of), 'signer')} in total",
                expected="at least one signer to train on and another to validate on",
                hint=f"`--set data.{again}`" if part == "training" else "`--set data.validation=auto`",
            )
    lacking = _words(split.validation + split.test, words_of) - _words(split.train, words_of)
    if lacking:
        again = f"`--set data.{held_out[0]}=auto`" if held_out else "`--set data.train=rest`"
        raise DataError(
            "a word is held out but never trained on",
            got=f"class {', '.join(str(word) for word in sorted(lacking))}",
            hint=f"move a signer who signs it to the training part; {again} draws others",
        )


def _lacking_words(split: Split, words_of: WordsOf) -> Iterator[str]:
    """Which parts cannot evaluate some words."""
    everything = _words(split.train + split.validation, words_of)
    if lacking := [str(number) for number, fold in enumerate(split.folds, 1) if _words(fold, words_of) != everything]:
        yield f"fold {', '.join(lacking)} validates without some words: its signers have no clip of them"
    for part in ("validation", "test"):
        signers = split.parts()[part]
        if signers and (count := len(everything - _words(signers, words_of))):
            yield f"the {part} part lacks {counted(count, 'word')}, of which its signers have no clip"


def _words(signers: Iterable[str], words_of: WordsOf) -> frozenset[int]:
    return frozenset().union(*(words_of[signer] for signer in signers))
