"""Splits by clip, for data sets with too few signers to hold any out: the same people in training, validation and test part.

Clips that belong together stay in one part: those of one recording session of a signer, and exact copies. Apart from that,
every word is divided in the same proportions. The division is a function of the clips' names, labels, sessions and digests, of
the options and the seed, so that every run, worker and machine finds the same.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from data_utils.catalog import CatalogEntry
from data_utils.errors import DataError
from data_utils.splits import BY_CLIPS, ClipSplit, Split, unknown_signer
from data_utils.wording import counted, some

SEALED, UNUSED, TRAINS = -1, -2, 0
"""Numbers of parts: the test part, no part, always in training. Clips with number 1 and more validate in turn."""

ClipKey = tuple[str, str]
"""Signer and name of a clip."""

_RECORD = {
    "clip": "record three clips or more of each word, one for training, one for validation and one for the test part",
    "recording session": "record the words again in another session, such as on another day. Clips of one session are alike, "
    "so that a search which divides them looks better than it is. If you accept that, remove the sessions (the attribute "
    "`session` of the clips; `{session}` in --layout)",
}
"""What to do where nothing can be held out."""

_AUTO_SHARE = 5  # validation and test part each hold out one clip in five
_NUM_DRAWS = 50


@dataclass(frozen=True)
class _Unit:
    """Clips that stay in one part."""

    clips: tuple[ClipKey, ...]
    words: Mapping[int, int]
    """Number of clips by class number."""

    @property
    def size(self) -> int:
        """Number of clips."""
        return len(self.clips)


def split_clips(
    entries: Sequence[CatalogEntry],
    words: Sequence[str],
    *,
    train: Sequence[str] | Literal["rest"] = "rest",
    test: bool = True,
    folds: int = 0,
    seed: int = 0,
    fold_seed: int | None = None,
) -> Split:
    """Divides the clips of the signers in `train` (`rest`: of all) into training, validation and test part.

    About a fifth of each word's clips validate, and another fifth are sealed. With `folds`, all that are not sealed are dealt
    into as many groups, which validate in turn. The test part depends on the data, the signers and the seed alone. Every word
    has clips in every training; `note` says how the clips were divided, and which words a part lacks.

    Raises:
        DataError: an unknown signer, or too few clips or recording sessions.
    """
    own = {entry.file.signer: entry for entry in entries if not entry.file.mirrored}
    signers = tuple(sorted(own if train == "rest" else set(train)))
    if unknown := [signer for signer in signers if signer not in own]:
        raise unknown_signer(unknown[0], "train", own)
    recipe = ClipSplit(signers=signers, test=test, folds=folds, seed=seed, fold_seed=seed if fold_seed is None else fold_seed)
    units, part_of = _units(entries, signers), divide(entries, recipe)
    num_sessions = len({(signer, session) for signer in signers for session in own[signer].sessions if session})
    what = "recording session" if num_sessions else "clip"
    _check(units, part_of, words, folds, what)
    notes = [_how(own, signers, num_sessions), *_lacking(units, part_of, words, recipe, what), *_left_out(entries, signers)]

    def signers_of(*parts: int) -> tuple[str, ...]:
        return tuple(sorted({signer for (signer, _), part in part_of.items() if part in parts}))

    count, groups = Counter(part_of.values()), range(1, folds + 1)
    recipe = replace(
        recipe,
        test=count[SEALED] > 0,
        digest=digest_of(part_of),
        sealed=digest_of(part_of, SEALED) if count[SEALED] else "",
        num_train=sum(count[number] for number in (TRAINS, *groups)),
        num_validation=0 if folds else count[1],
        num_test=count[SEALED],
        num_sessions=num_sessions,
    )
    return Split(
        train=signers_of(TRAINS, *groups),
        validation=() if folds else signers_of(1),
        test=signers_of(SEALED),
        note="; ".join(notes),
        folds=tuple(signers_of(number) for number in groups),
        clips=recipe,
    )


def why_indivisible(clips: Iterable[tuple[str, int, str]]) -> str:
    """What to do before a split by clip can hold anything out; empty if it can.

    Args:
        clips: signer, class number and session (or empty text) of each clip.
    """
    words_of: dict[object, set[int]] = defaultdict(set)
    for number, (signer, label, session) in enumerate(clips):
        words_of[(signer, session) if session else number].add(label)
    units = Counter(label for words in words_of.values() for label in words)
    if any(all(units[label] > 1 for label in words) for words in words_of.values()):
        return ""
    return _RECORD["recording session" if any(isinstance(unit, tuple) for unit in words_of) else "clip"]


def possible(error: DataError, indivisible: str) -> DataError:
    """The error of a split by signer, without the hint of a split by clip if that is impossible too.

    `indivisible` is what `why_indivisible` says.
    """
    if indivisible and BY_CLIPS in (error.hint or ""):
        error.hint = f"record another signer; or {indivisible}"
    return error


def divide(entries: Sequence[CatalogEntry], recipe: ClipSplit) -> dict[ClipKey, int]:
    """The number of the part of each of the signers' own clips."""
    units = _units(entries, recipe.signers)
    free = set(range(len(units)))
    sealed = _held_out(units, free, 2, np.random.default_rng([recipe.seed, 0])) if recipe.test else set()
    free -= sealed
    if recipe.folds:
        groups = _dealt(units, sorted(free), recipe.folds, np.random.default_rng([recipe.fold_seed, recipe.folds, 2]))
    else:
        groups = [_held_out(units, free, 1, np.random.default_rng([recipe.seed, 1]))]
    part_of = {clip: TRAINS for unit in units for clip in unit.clips}
    for number, group in ((SEALED, sealed), *enumerate(groups, 1)):
        part_of |= {clip: number for n in group for clip in units[n].clips}
    return part_of


def digest_of(part_of: Mapping[ClipKey, int], only: int | None = None) -> str:
    """A digest of the clips with the numbers of their parts, or of those of one part."""
    lines = (f"{signer}\0{name}\0{part}" for (signer, name), part in sorted(part_of.items()) if only in (None, part))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def has_originals(mirrored: CatalogEntry, entries: Sequence[CatalogEntry]) -> bool:
    """Whether every clip of a file of mirrored copies has an original: the same name, word and length."""
    own = next(entry for entry in entries if entry.file.signer == mirrored.file.signer and not entry.file.mirrored)
    known = set(zip(own.names, own.labels, own.lengths, strict=True))
    return known.issuperset(zip(mirrored.names, mirrored.labels, mirrored.lengths, strict=True))


def _units(entries: Sequence[CatalogEntry], signers: Collection[str]) -> list[_Unit]:
    """The signers' own clips, grouped by what stays in one part."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    clips: list[tuple[ClipKey, int]] = []
    first: dict[object, int] = {}  # the first clip of a session, and of equal ones
    pairs: list[tuple[int, int]] = []
    for entry in entries:
        if not entry.file.mirrored and (signer := entry.file.signer) in signers:
            for name, label, session, digest in zip(entry.names, entry.labels, entry.sessions, entry.digests, strict=True):
                assert digest, "the data set was opened without digests"
                keys = [digest, (signer, session)] if session else [digest]
                pairs += [(first.setdefault(key, len(clips)), len(clips)) for key in keys]
                clips.append(((signer, name), label))
    rows, columns = zip(*pairs, strict=True)
    graph = coo_array((np.ones(len(pairs), bool), (rows, columns)), shape=(len(clips), len(clips)))
    groups: dict[int, list[tuple[ClipKey, int]]] = defaultdict(list)
    for group, clip in zip(connected_components(graph, directed=False)[1].tolist(), clips, strict=True):
        groups[group].append(clip)
    return [_Unit(tuple(clip for clip, _ in group), Counter(label for _, label in group)) for group in groups.values()]


def _by_word(units: Sequence[_Unit], numbers: Collection[int]) -> dict[int, list[int]]:
    """The units of each word by their number, the rarest words first."""
    found: dict[int, list[int]] = defaultdict(list)
    for n in sorted(numbers):
        for word in units[n].words:
            found[word].append(n)
    return dict(sorted(found.items(), key=lambda item: (len(item[1]), item[0])))


def _held_out(units: Sequence[_Unit], free: Collection[int], keep: int, rng: np.random.Generator) -> set[int]:
    """Draws units for a part that holds out a fifth of every word, at least one clip.

    At least `keep` units of every word are left. Words with fewer are not held out, nor is a unit with such a word.
    """
    of_word = _by_word(units, free)
    left = Counter({word: len(numbers) for word, numbers in of_word.items()})
    total: Counter[int] = Counter()
    for unit in units:
        total.update(unit.words)
    goal = {word: max(1, round(count / _AUTO_SHARE)) for word, count in total.items()}
    held: Counter[int] = Counter()
    chosen: set[int] = set()

    def is_allowed(n: int) -> bool:
        return n not in chosen and all(left[word] > keep for word in units[n].words)

    def gain(n: int) -> int:
        """By how many clips the part comes closer to a fifth of every word."""
        return sum(abs(goal[w] - held[w]) - abs(goal[w] - held[w] - count) for w, count in units[n].words.items())

    for word, numbers in of_word.items():
        order = [numbers[i] for i in rng.permutation(len(numbers))]
        while held[word] < goal[word]:
            fitting = (n for n in order if is_allowed(n) and gain(n) == units[n].size)
            best = next(fitting, None) or max(filter(is_allowed, order), key=gain, default=None)
            if best is None:
                break
            is_too_large = held.total() + units[best].size > 2 * sum(goal.values())
            if gain(best) <= 0 and (held[word] or is_too_large):
                break
            chosen.add(best)
            held.update(units[best].words)
            left.subtract(units[best].words.keys())
    return chosen


def _dealt(units: Sequence[_Unit], free: Collection[int], count: int, rng: np.random.Generator) -> list[set[int]]:
    """Deals units into groups with nearly equal numbers of clips of every word.

    Of 50 draws the first is taken that leaves every word in the others of each group, else the one that comes closest.
    """
    of_word = _by_word(units, free)
    best: list[set[int]] = []
    most = -1
    for _ in range(_NUM_DRAWS):
        groups: list[set[int]] = [set() for _ in range(count)]
        words_of = [Counter[int]() for _ in range(count)]
        dealt: set[int] = set()
        for word, numbers in of_word.items():
            order = [numbers[i] for i in rng.permutation(len(numbers)) if numbers[i] not in dealt]
            for n in sorted(order, key=lambda n: -units[n].size):
                ties = rng.permutation(count)
                g = min(range(count), key=lambda g: (words_of[g][word], words_of[g].total(), ties[g]))
                groups[g].add(n)
                words_of[g].update(units[n].words)
                dealt.add(n)
        score = sum(sum(words[word] > 0 for words in words_of) > 1 for word in of_word)
        if score > most:
            best, most = groups, score
        if most == sum(len(numbers) > 1 for numbers in of_word.values()):
            break
    return best


def _check(units: Sequence[_Unit], part_of: Mapping[ClipKey, int], words: Sequence[str], folds: int, what: str) -> None:
    """Refuses a division without validation, or with a training that lacks a word."""
    free = [unit for unit in units if part_of[unit.clips[0]] != SEALED]
    if folds and folds > len(free):
        raise DataError(
            f"{folds} folds cannot be made of {counted(len(free), what)}",
            expected=f"2 to {len(free)} folds" if len(free) > 1 else f"two {what}s or more outside the test part",
            hint=f"`--set data.folds={len(free) if len(free) > 1 else 'none'}`",
        )
    parts = _parts_by_word(units, part_of)
    lonely = [words[word] for word, numbers in sorted(parts.items()) if len(numbers - {SEALED}) < 2]
    if folds and lonely:
        raise DataError(
            f"with {folds} folds, the training of one of them lacks a word",
            got=f"words in one {what} only: {some(lonely)}",
            hint="`--set data.folds=none` holds out one part instead, and leaves these words in training",
        )
    if not folds and 1 not in part_of.values():
        raise DataError(
            "no clip can be held out for validation",
            got=f"every {what} has a word that no other {what} has" if len(units) > 1 else f"one {what}",
            expected=f"words with two {what}s or more",
            hint=_RECORD[what],
        )


def _parts_by_word(units: Sequence[_Unit], part_of: Mapping[ClipKey, int]) -> dict[int, set[int]]:
    found: dict[int, set[int]] = defaultdict(set)
    for unit in units:
        for word in unit.words:
            found[word].add(part_of[unit.clips[0]])
    return found


def _how(own: Mapping[str, CatalogEntry], signers: Sequence[str], num_sessions: int) -> str:
    """How the clips were divided."""
    total = sum(len(own[signer].names) for signer in signers)
    clips = f"the split divides {counted(total, 'clip')} of {counted(len(signers), 'signer')}"
    if not num_sessions:
        return f"{clips} one by one: no recording sessions are recorded in the data, and clips of one session are alike"
    unknown = sum(not session for signer in signers for session in own[signer].sessions)
    alone = f", {unknown:,} clips without a session one by one" if unknown else ""
    return f"{clips} by {counted(num_sessions, 'recording session')}{alone}"


def _lacking(
    units: Sequence[_Unit], part_of: Mapping[ClipKey, int], words: Sequence[str], recipe: ClipSplit, what: str
) -> Iterator[str]:
    """Which words a part lacks, and why."""
    parts = _parts_by_word(units, part_of)

    def without(number: int) -> str:
        names = [words[word] for word, numbers in sorted(parts.items()) if number not in numbers]
        return f"{counted(len(names), 'word')} ({some(names)})" if names else ""

    if not recipe.folds and (names := without(1)):
        yield f"validation lacks {names}: it takes two {what}s of each"
    for number in range(1, recipe.folds + 1):
        if names := without(number):
            yield f"fold {number} validates without {names}"
    if recipe.test and SEALED not in part_of.values():
        yield f"no test part: it takes three {what}s of each word"
    elif recipe.test and (names := without(SEALED)):
        yield f"the test part lacks {names}: it takes three {what}s of each"


def _left_out(entries: Sequence[CatalogEntry], signers: Collection[str]) -> Iterator[str]:
    """Files of mirrored copies whose clips cannot be told from names: a copy of a held-out clip must not train."""
    for entry in entries:
        if entry.file.mirrored and entry.file.signer in signers and not has_originals(entry, entries):
            yield f"{entry.file.path.name} is left out: not every clip in it has the name, word and length of an original"
