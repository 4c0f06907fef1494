"""Splits by clip: what stays together, what is held out, and what a user with few signers is told."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_utils.catalog import CatalogEntry
from data_utils.checking.size import size_warnings
from data_utils.clip_split import SEALED, UNUSED, divide, split_clips
from data_utils.errors import DataError, ExplainedError
from data_utils.folder import SignerFile
from data_utils.parts import parts_of, sealed_entries
from data_utils.splits import Split
from data_utils.wording import SAME_PEOPLE
from search.definition.assignments import apply_assignment
from search.definition.resolve import _split_options
from search.running.preparing import split_of

WORDS = ("look", "listen", "shhh")


def entry(
    signer: str,
    labels: Sequence[int],
    *,
    sessions: Sequence[str] | None = None,
    digests: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    mirrored: bool = False,
) -> CatalogEntry:
    """A file of a signer without landmarks."""
    names = names or [f"{n:04}" for n in range(len(labels))]
    return CatalogEntry(
        SignerFile(Path(f"{signer}{'_swap' * mirrored}.hdf5"), signer, mirrored),
        "digest",
        tuple(names),
        tuple(labels),
        (5,) * len(labels),
        tuple(sessions or [""] * len(labels)),
        tuple(digests or [f"{signer} {name} {mirrored}" for name in names]),
    )


def counts(split: Split, entries: Sequence[CatalogEntry]) -> dict[int, Counter[int]]:
    """The clips of each word by the number of their part."""
    found: dict[int, Counter[int]] = {}
    for one, part_C in zip(entries, parts_of(split, entries), strict=True):
        for label, part in zip(one.labels, part_C.tolist(), strict=True):
            found.setdefault(part, Counter())[label] += 1
    return found


def test_every_word_is_divided_alike() -> None:
    """A fifth of each word validates, a fifth is sealed; the same for other folds, and another for another seed."""
    entries = [entry("a", [0] * 20 + [1] * 10 + [2] * 5)]
    split = split_clips(entries, WORDS)
    assert counts(split, entries) == {0: {0: 12, 1: 6, 2: 3}, 1: {0: 4, 1: 2, 2: 1}, SEALED: {0: 4, 1: 2, 2: 1}}
    assert (split.train, split.validation, split.test) == (("a",),) * 3
    folded = split_clips(entries, WORDS, folds=4)
    assert split.clips is not None
    assert folded.clips is not None
    assert folded.clips.sealed == split.clips.sealed, "another kind of validation has the same test part"
    assert {part: sum(words.values()) for part, words in counts(folded, entries).items()} == {1: 7, 2: 7, 3: 7, 4: 7, SEALED: 7}
    other = split_clips(entries, WORDS, seed=1)
    assert other.clips is not None
    assert other.clips.sealed != split.clips.sealed
    assert split == split_clips(entries, WORDS)
    assert "one by one" in split.note


@settings(max_examples=25, deadline=None)
@given(
    labels=st.lists(st.integers(0, 5), min_size=6, max_size=60),
    sessions=st.lists(st.integers(0, 6), min_size=60, max_size=60),
    folds=st.sampled_from([0, 2, 3]),
    seed=st.integers(0, 9),
)
def test_sessions_and_copies_stay_together(labels: list[int], sessions: list[int], folds: int, seed: int) -> None:
    """Whatever the clips are: sessions and exact copies are in one part, and every word is in every training."""
    told = [f"day {n}" if n else "" for n in sessions[: len(labels)]]
    digests = [f"digest {n % 40}" for n in range(len(labels))]
    entries = [entry("a", labels, sessions=told, digests=digests)]
    try:
        split = split_clips(entries, "abcdef", folds=folds, seed=seed)
    except DataError:
        return
    (part_C,) = parts_of(split, entries)
    for texts in (told, digests):
        assert all(len({p for p, t in zip(part_C, texts, strict=True) if t == text}) == 1 for text in set(texts) - {""})
    for number in range(1, max(folds, 1) + 1):
        trained = {label for label, part in zip(labels, part_C, strict=True) if part >= 0 and part != number}
        assert trained == set(labels)
    assert divide(entries, split.clips) == divide(list(reversed(entries)), split.clips)  # type: ignore[arg-type]


def test_sessions_are_those_of_a_signer() -> None:
    """A session of one name under two signers is two; a fifth is only near where sessions are large."""
    days = [day for day in ("mon", "tue", "wed", "thu", "fri") for _ in range(6)]
    entries = [entry(signer, [0, 0, 1, 1, 2, 2] * 5, sessions=days) for signer in "ab"]
    split = split_clips(entries, WORDS)
    assert split.clips is not None
    assert (split.clips.num_sessions, split.clips.num_test, split.clips.num_validation) == (10, 12, 12)
    assert split.note == "the split divides 60 clips of 2 signers by 10 recording sessions"


def test_mirrored_copies_follow_their_originals() -> None:
    """A copy of a held-out clip does not train. Copies that cannot be told from their names are left out, which is said."""
    own, copies = entry("a", [0, 1] * 10), entry("a", [0, 1] * 10, mirrored=True)
    split = split_clips([own, copies], WORDS[:2])
    mine, theirs = parts_of(split, [own, copies])
    np.testing.assert_array_equal(mine, theirs)
    assert [len(one.names) for one in sealed_entries(split, [own, copies])] == [4], "without copies"
    for other in (
        entry("a", [0, 1] * 10, names=[f"m{n}" for n in range(20)], mirrored=True),
        replace(copies, labels=tuple(reversed(copies.labels))),
        replace(copies, lengths=(6, *copies.lengths[1:])),
    ):
        split = split_clips([own, other], WORDS[:2])
        assert set(parts_of(split, [own, other])[1].tolist()) == {UNUSED}
        assert "a_swap.hdf5 is left out" in split.note


@pytest.mark.parametrize(
    ("labels", "sessions", "options", "said"),
    [
        ([0] * 5 + [1] * 2 + [2], None, {}, "validation lacks 1 word (shhh): it takes two clips of each"),
        ([0] * 5 + [1] * 2 + [2], None, {}, "the test part lacks 2 words (listen, shhh): it takes three clips of each"),
        ([0, 0, 1, 1, 2, 2], None, {}, "no test part: it takes three clips of each word"),
        ([0, 1, 2], None, {}, "no clip can be held out for validation"),
        ([0, 1, 2] * 3, "mmmmmmmmm", {}, "one recording session"),
        ([0, 1, 2] * 3, "mmmttt   ", {}, "by 2 recording sessions, 3 clips without a session one by one"),
        ([0] * 5 + [1], None, {"folds": 2}, "words in one clip only: listen"),
        ([0, 0, 1, 1], None, {"folds": 5}, "5 folds cannot be made of 4 clips"),
        ([0] * 4 + [1] * 2, None, {"folds": 3, "test": False}, "validates without 1 word (listen)"),
        ([0, 1], None, {"train": ["b"]}, "there is no signer `b`"),
    ],
)
def test_what_is_too_small_is_said(labels: list[int], sessions: str | None, options: dict[str, Any], said: str) -> None:
    """A note names what a part lacks; an error says what is missing for any validation."""
    entries = [entry("a", labels, sessions=None if sessions is None else [one.strip() for one in sessions])]
    try:
        text = split_clips(entries, WORDS, **options).note
    except DataError as error:
        text = error.render()
    assert said in text


def test_another_division_is_refused() -> None:
    """Clips are only used with the division that is recorded."""
    entries = [entry("a", [0, 1, 2] * 5)]
    split = split_clips(entries, WORDS)
    assert split.clips is not None
    with pytest.raises(DataError, match="not divided as they were"):
        parts_of(replace(split, clips=replace(split.clips, seed=5)), entries)


VALUES = {
    "test": (None, "none", "rest", "[a]", "[a, b]"),
    "validation": (None, "none", "rest", "[b]", "[a, a]", "[a, b]"),
    "folds": (None, "3", "each"),
    "train": (None, "none", "[a]"),
}


def told_commands(error: ExplainedError) -> list[str]:
    """The assignments of the first command in a hint."""
    command = next((text for text in re.findall(r"`([^`]+)`", error.hint or "") if text.startswith("--set")), "")
    return re.findall(r"--set (\S+=(?:\[.*?\]|\S+))", command)


def tried(raw: dict[str, Any], data: SimpleNamespace) -> ExplainedError | None:
    """The error of a split, if there is one."""
    try:
        split_of(SimpleNamespace(signers=_split_options(raw.get("data", {}), "study"), seed=0), data)  # type: ignore[arg-type]
    except ExplainedError as error:
        return error
    return None


def walks(signers: str) -> Iterator[list[str]]:
    """All combinations of wishes for the held-out parts, and some for training, among which named signers exist."""
    training = itertools.product(VALUES["train"], VALUES["test"][:2], (None,), VALUES["folds"])
    for values in (*training, *itertools.product((None,), VALUES["test"], VALUES["validation"], VALUES["folds"])):
        keys = ("train", "test", "validation", "folds")
        wishes = [f"data.{key}={value}" for key, value in zip(keys, values, strict=True) if value is not None]
        if not {one for wish in wishes for one in re.findall(r"\b([abc])\b", wish.partition("=")[2])} - set(signers):
            yield wishes


@pytest.mark.parametrize(
    "words_of",
    [{"a": (0, 1, 2)}, {"a": (0, 1, 2), "b": (0, 1)}, dict.fromkeys("abc", (0, 1, 2)), {"a": (0,), "b": (1,), "c": (2,)}],
)
def test_every_hint_leads_to_a_search(words_of: Mapping[str, tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows the hints of `run` gets there in a few steps, whatever the study says of its parts."""
    monkeypatch.setattr("data_utils.splits._NUM_DRAWS", 5)  # of at most three signers
    entries = tuple(entry(signer, [label for label in labels for _ in range(5)]) for signer, labels in words_of.items())
    labels_of = {signer: frozenset(labels) for signer, labels in words_of.items()}
    data = SimpleNamespace(entries=entries, words=WORDS, words_of=labels_of, folder=Path("signs"))
    known: dict[str, ExplainedError | None] = {}
    for wishes in walks("".join(words_of)):
        raw: dict[str, Any] = {}
        for wish in wishes:
            apply_assignment(raw, wish, "study")
        steps: list[str] = []
        while True:
            if (state := repr(sorted(raw.get("data", {}).items()))) not in known:
                known[state] = tried(raw, data)
            if (error := known[state]) is None:
                break
            commands = told_commands(error)
            assert commands, f"{wishes}, {steps}: no command in the hint of\n{error.render()}"
            assert len(steps) < 8, f"{wishes}: {steps} leads nowhere\n{error.render()}"
            for command in commands:
                apply_assignment(raw, command, "study")
                steps.append(command)
        if steps and len(words_of) == 1:
            assert raw["data"]["split"] == "clips", "one signer has no other way"


def test_the_way_out_for_one_signer_says_what_it_means() -> None:
    """The hint names the split by clip, and its price."""
    data = SimpleNamespace(
        entries=(entry("a", [0, 0, 1, 1]),), words=WORDS[:2], words_of={"a": frozenset({0, 1})}, folder=Path("signs")
    )
    error = tried({}, data)
    assert error is not None
    assert "`--set data.split=clips`" in (error.hint or "")
    assert SAME_PEOPLE in (error.hint or "")


@pytest.mark.parametrize(
    ("words_of", "said"),
    [
        ({"a": [0, 1, 2] * 5}, ["one signer: no search can tell how well new signers are recognized"]),
        ({"a": [0, 1, 2] * 5, "b": [0, 1, 2] * 5}, ["two signers: one validates, and none is left for a test part"]),
        ({"a": [0] * 5, "b": [1] * 5, "c": [2] * 5}, ["no search can hold out signers", "words of one signer only"]),
        ({"a": [0, 0, 1, 2]}, ["one signer", "words with fewer than 5 clips"]),
        ({signer: [0, 1, 2] for signer in "abcde"}, []),
    ],
)
def test_check_says_what_a_set_is_too_small_for(words_of: Mapping[str, list[int]], said: list[str]) -> None:
    """One signer, two, words that only one signs or of which there are few clips; nothing of a sound set."""
    found = list(size_warnings([(signer, label, "") for signer, labels in words_of.items() for label in labels], WORDS))
    assert [text for text, warning in zip(said, found, strict=True) if not warning.what.startswith(text)] == []
    if len(words_of) == 1:
        assert "`islr-search run --set data.split=clips`" in found[0].render()
    if "fewer" in "".join(said):
        assert "a split by clip takes 3 of each" in found[1].render()


@pytest.mark.parametrize(
    ("labels", "sessions", "said"),
    [
        ([0, 1, 2], None, "record three clips or more of each word"),
        ([0, 1, 2] * 3, ["monday"] * 9, "record the words again in another session, such as on another day"),
    ],
)
def test_no_hint_leads_to_an_impossible_split(labels: list[int], sessions: list[str] | None, said: str) -> None:
    """If clips cannot be divided either, neither `check` nor `run` sends anyone to a split by clip; it tells what to record."""
    one = entry("a", labels, sessions=sessions)
    data = SimpleNamespace(entries=(one,), words=WORDS, words_of={"a": frozenset(labels)}, folder=Path("signs"))
    warning = next(size_warnings([("a", label, session) for label, session in zip(labels, one.sessions, strict=True)], WORDS))
    error = tried({}, data)
    refused = tried({"data": {"split": "clips"}}, data)
    for hint in (warning.hint, error and error.hint, refused and refused.hint):
        assert said in (hint or "")
        assert "data.split" not in (hint or "")
