"""Training, validation and test parts by signer, or folds. No signer is in two parts.

Signers are compared by their whole names. The test part is sealed: nothing but `search test` may read its clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from data_utils.errors import DataError
from data_utils.wording import suggest

SignerSelection = Sequence[str] | Literal["rest", "none", "auto"]
"""Signers by name, or `rest` (those in no other part), `none`, or `auto`."""

Folds = int | Literal["each"] | None
"""So many groups of signers that validate in turn, each signer by itself (`each`), or none: one validation part."""

_AUTO_SHARE = 5  # `auto` takes a fifth of the signers
_AUTO_DRAWS = 200


@dataclass(frozen=True)
class Split:
    """Which signers are in which part, each sorted by name."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    note: str = ""
    """What a person should know about how it came to be; empty if nothing."""

    folds: tuple[tuple[str, ...], ...] = ()
    """With folds: the groups of training signers that validate in turn. There is no validation part then."""

    def train_validation_pairs(self) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
        """Who trains and who validates, for each model that a trial needs: one, or one a fold."""
        if not self.folds:
            return ((self.train, self.validation),)
        return tuple((tuple(signer for signer in self.train if signer not in fold), fold) for fold in self.folds)

    def parts(self) -> dict[str, tuple[str, ...]]:
        """The three parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def split_signers(
    words_of: Mapping[str, frozenset[int]],
    *,
    train: SignerSelection = "rest",
    validation: SignerSelection = "auto",
    test: SignerSelection = "auto",
    folds: Folds = None,
    seed: int = 0,
) -> Split:
    """Decides who trains, who validates and who is sealed.

    `auto` takes about a fifth of the signers (at least one) for validation and again for the test part. Of 200 seeded
    draws in which every word stays in training, it keeps the first whose held-out parts hold the most words. With fewer
    than three signers there is no test part, and `note` says so.

    With `folds` there is no validation part: the training signers are dealt out into groups of nearly equal size, so that every
    word stays in the training of each fold; again the first of 200 seeded draws whose groups hold the most words.

    `words_of`: the class numbers that each signer has clips of.

    Raises:
        DataError: an unknown signer, a signer in two parts, an empty training or validation part, a word that training lacks,
            more folds than signers.
    """
    if folds is not None:
        validation = "none"
    wishes: dict[str, SignerSelection] = {"train": train, "validation": validation, "test": test}
    named = _named_signers(wishes, words_of)
    note = ""
    if test == "auto" and len(words_of) < 3:
        named["test"] = ()
        note = f"{_signers(len(words_of))} in all: no test part"
    auto = [part for part in ("validation", "test") if wishes[part] == "auto" and part not in named]
    if train == "auto":
        raise DataError("training signers cannot be `auto`", expected="a list of signers, or `rest`")
    if auto:
        named |= _draw(words_of, auto, named, train_named=named.get("train"), seed=seed)
    rest = [part for part in wishes if wishes[part] == "rest"]
    if len(rest) > 1:
        raise DataError("only one part can be `rest`", got=", ".join(rest))
    if rest:
        taken = {signer for part, signers in named.items() for signer in signers}
        named[rest[0]] = tuple(signer for signer in words_of if signer not in taken)
    parts = {part: tuple(sorted(named[part])) for part in wishes}
    split = Split(parts["train"], parts["validation"], parts["test"], note)
    if folds is not None:
        split = _folded(split, len(split.train) if folds == "each" else folds, words_of, seed)
    _check(split, words_of)
    return split


def _folded(split: Split, count: int, words_of: Mapping[str, frozenset[int]], seed: int) -> Split:
    """The split with its training signers dealt out into folds."""
    if not 2 <= count <= len(split.train):
        raise DataError(
            f"{count} folds cannot be made of {_signers(len(split.train))}",
            expected=f"2 to {len(split.train)} folds" if len(split.train) >= 2 else "two signers or more that are not sealed",
            hint="set `data.folds` lower, or `data.test` to `none`",
        )
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(split.train), count]))
    everything = _words(split.train, words_of)
    best: Split | None = None
    best_score = (-1, -1)
    for _ in range(_AUTO_DRAWS):
        order = [split.train[i] for i in rng.permutation(len(split.train))]
        dealt = replace(split, folds=tuple(sorted(tuple(sorted(order[i::count])) for i in range(count))))
        if any(_words(train, words_of) != everything for train, _ in dealt.train_validation_pairs()):
            continue
        held = [len(_words(fold, words_of)) for fold in dealt.folds]
        if (score := (min(held), sum(held))) > best_score:
            best, best_score = dealt, score
    if best is None:
        rare = [word for word in sorted(everything) if sum(word in words_of[signer] for signer in split.train) < 2]
        raise DataError(
            f"no draw of {count} folds leaves every word in the training of each",
            got=f"class {', '.join(map(str, rare))} has clips of one signer only" if rare else "some words have few signers",
            hint="fewer folds may do, or name a validation part instead",
        )
    lacking = [str(n) for n, fold in enumerate(best.folds, 1) if _words(fold, words_of) != everything]
    if lacking:
        note = f"fold {', '.join(lacking)} validates without some words: its signers have no clip of them"
        best = replace(best, note="; ".join(filter(None, [best.note, note])))
    return best


def _named_signers(wishes: Mapping[str, SignerSelection], words_of: Mapping[str, frozenset[int]]) -> dict[str, tuple[str, ...]]:
    named: dict[str, tuple[str, ...]] = {}
    owner: dict[str, str] = {}
    for part, wish in wishes.items():
        if wish == "none":
            named[part] = ()
        if isinstance(wish, str):
            continue
        for signer in wish:
            if signer not in words_of:
                raise DataError(
                    f"there is no signer `{signer}` for the {part} part",
                    expected=f"one of {', '.join(sorted(words_of))}",
                    hint=suggest(signer, words_of) or "a signer is named by its file's name without .hdf5",
                )
            if signer in owner:
                where = "twice in" if owner[signer] == part else f"in the {owner[signer]} part and in"
                raise DataError(
                    f"signer `{signer}` is {where} the {part} part",
                    hint="a signer seen in training makes the validation too good: keep each in one part",
                )
            owner[signer] = part
        named[part] = tuple(wish)
    return named


def _draw(
    words_of: Mapping[str, frozenset[int]],
    auto: Sequence[str],
    named: Mapping[str, tuple[str, ...]],
    *,
    train_named: tuple[str, ...] | None,
    seed: int,
) -> dict[str, tuple[str, ...]]:
    taken = {signer for signers in named.values() for signer in signers}
    free = sorted(signer for signer in words_of if signer not in taken)
    size = max(1, round(len(words_of) / _AUTO_SHARE))
    keep = 0 if train_named else 1  # someone must be left to train on
    if len(free) < len(auto) + keep:
        raise DataError(
            f"too few signers for {' and '.join(auto)} by `auto`",
            got=f"{len(free)} without a part, of {len(words_of)}",
            expected=f"{len(auto) + keep} or more",
            hint="name the signers of each part, or set `data.test` to `none`",
        )
    size = min(size, (len(free) - keep) // len(auto))
    everything = frozenset().union(*words_of.values())
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(words_of)]))
    best: dict[str, tuple[str, ...]] | None = None
    best_score = (-1, -1)
    for _ in range(_AUTO_DRAWS):
        order = [free[i] for i in rng.permutation(len(free))]
        parts = {part: tuple(order[i * size : (i + 1) * size]) for i, part in enumerate(auto)}
        training = train_named or tuple(order[len(auto) * size :])
        if _words(training, words_of) != everything:
            continue
        held = [len(_words(parts[part], words_of)) for part in auto]
        score = (min(held), sum(held))
        if score > best_score:
            best, best_score = parts, score
    if best is None:
        raise DataError(
            f"no draw of {' and '.join(auto)} signers leaves every word in training",
            hint="name the signers of each part under `data` in the study file",
        )
    return best


def _check(split: Split, words_of: Mapping[str, frozenset[int]]) -> None:
    for part, signers in (("training", split.train), ("validation", split.folds or split.validation)):
        if not signers:
            raise DataError(
                f"the {part} part has no signer",
                got=f"{_signers(len(words_of))} in all",
                hint="a search needs one signer or more to train on and another to validate on",
            )
    lacking = _words(split.validation + split.test, words_of) - _words(split.train, words_of)
    if lacking:
        raise DataError(
            "a word is held out but never trained on",
            got=f"class {', '.join(str(word) for word in sorted(lacking))}",
            hint="move a signer who signs it into training",
        )


def _words(signers: Sequence[str], words_of: Mapping[str, frozenset[int]]) -> frozenset[int]:
    return frozenset().union(*(words_of[signer] for signer in signers))


def _signers(count: int) -> str:
    return "1 signer" if count == 1 else f"{count} signers"
