"""Splits by signer: no signer in two parts, every word in training, determined by the seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_utils.errors import DataError
from data_utils.folder import signer_files
from data_utils.hdf5 import Clip, write_signer
from data_utils.landmarks import NUM_LANDMARKS
from data_utils.normalize import PreprocessConfig
from data_utils.prepared import open_data, prepare
from data_utils.splits import Split, split_signers
from data_utils.words import write_words

ALL = frozenset(range(3))
FIVE = dict.fromkeys(("a", "b", "c", "d", "e"), ALL)


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        ({"validation": ["a"], "test": ["b"]}, Split(("c", "d", "e"), ("a",), ("b",))),
        ({"validation": ["a"], "test": "none"}, Split(("b", "c", "d", "e"), ("a",), ())),
        ({"train": ["e", "c"], "validation": ["a"], "test": ["b"]}, Split(("c", "e"), ("a",), ("b",))),
        ({"train": ["a"], "validation": "rest", "test": "none"}, Split(("a",), ("b", "c", "d", "e"), ())),
        ({"train": ["a", "b"], "validation": ["c"], "test": "rest"}, Split(("a", "b"), ("c",), ("d", "e"))),
    ],
)
def test_explicit_parts(requested: dict[str, list[str] | str], expected: Split) -> None:
    """Named parts are used as given, `rest` is everyone else, and each part is sorted."""
    assert split_signers(FIVE, **requested) == expected


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        ({"validation": ["a"], "test": ["a"]}, "signer `a` is in the validation part and in the test part"),
        ({"train": ["a", "b"], "validation": ["b"], "test": "none"}, "in the train part and in the validation part"),
        ({"validation": ["a", "a"], "test": "none"}, "signer `a` is twice in the validation part"),
        ({"validation": ["z"]}, "there is no signer `z`"),
        ({"validation": "none", "test": "none"}, "the validation part has no signer"),
        ({"train": "none", "validation": ["a"], "test": "none"}, "the training part has no signer"),
        ({"validation": list("abcde"), "test": "none"}, "the training part has no signer"),
        ({"validation": "rest"}, "only one part can be `rest`"),
        ({"train": "auto"}, "training signers cannot be `auto`"),
        ({"validation": list("abcd"), "test": "auto"}, "too few signers"),
        ({"train": list("abcde")}, "too few signers"),
    ],
)
def test_impossible_parts_are_errors(requested: dict[str, list[str] | str], message: str) -> None:
    """Overlaps, unknown signers and empty parts are errors that say so."""
    with pytest.raises(DataError, match=message):
        split_signers(FIVE, **requested)


def test_a_misspelled_signer_gets_a_suggestion() -> None:
    """The error for an unknown signer suggests the closest name."""
    with pytest.raises(DataError) as caught:
        split_signers({"16069": ALL, "25571": ALL, "29302": ALL}, validation=["16096"])
    assert caught.value.hint == "did you mean `16069`?"


def test_names_are_compared_as_a_whole() -> None:
    """Signers 16, 160 and 1606 are three different people."""
    signers = dict.fromkeys(("16", "160", "1606", "61606"), ALL)
    for held in signers:
        split = split_signers(signers, validation=[held], test="none")
        assert split.validation == (held,)
        assert set(split.train) == set(signers) - {held}


def test_a_word_of_held_out_signers_only_is_an_error() -> None:
    """The error for a word that no training signer has names the word."""
    with pytest.raises(DataError, match="held out but never trained on") as caught:
        split_signers({"a": frozenset({0, 1}), "b": frozenset({0}), "c": frozenset({0})}, validation=["a"], test="none")
    assert caught.value.got == "class 1"


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_signers_have_no_test_part(count: int) -> None:
    """Two signers give a training part, a validation part and a note; one signer is an error."""
    signers = dict(list(FIVE.items())[:count])
    if count == 1:
        with pytest.raises(DataError):
            split_signers(signers)
        return
    split = split_signers(signers)
    assert (len(split.train), len(split.validation), split.test) == (1, 1, ())
    assert split.note == "2 signers in total: no test part"


def test_auto_takes_a_fifth() -> None:
    """Of 21 signers, four are for validation and four for the test part."""
    split = split_signers({str(number): ALL for number in range(21)})
    assert (len(split.train), len(split.validation), len(split.test)) == (13, 4, 4)
    assert split.note == ""


def test_auto_prefers_signers_with_many_words() -> None:
    """A signer with a single word is not drawn for validation while there are others."""
    signers = {**dict.fromkeys("abcd", ALL), "poor": frozenset({0})}
    for seed in range(20):
        assert "poor" not in (*split_signers(signers, seed=seed).validation, *split_signers(signers, seed=seed).test)


def test_auto_leaves_rare_words_in_training() -> None:
    """The only signer of a word is never held out, whatever the seed."""
    signers = {**FIVE, "rare": frozenset({0, 1, 2, 7})}
    for seed in range(20):
        assert "rare" in split_signers(signers, seed=seed).train


signer_sets = st.dictionaries(
    st.text("0123456789_ab", min_size=1, max_size=5), st.frozensets(st.integers(0, 5), min_size=1), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(words_of=signer_sets, seed=st.integers(0, 2**32), test=st.sampled_from(["auto", "none"]))
def test_laws_of_an_automatic_split(words_of: dict[str, frozenset[int]], seed: int, test: str) -> None:
    """Every signer is in exactly one part, every word stays in training, and seed and signers determine the split."""
    try:
        split = split_signers(words_of, test=test, seed=seed)
    except DataError:
        return  # too few signers, or too few who share their words
    everyone = [*split.train, *split.validation, *split.test]
    assert sorted(everyone) == sorted(words_of)
    assert split.train
    assert split.validation
    assert frozenset().union(*(words_of[signer] for signer in split.train)) == frozenset().union(*words_of.values())
    backwards = dict(reversed(words_of.items()))
    assert split_signers(backwards, test=test, seed=seed) == split


def test_another_seed_gives_another_split() -> None:
    """Ten seeds give more than one split."""
    assert len({split_signers(FIVE, seed=seed) for seed in range(10)}) > 1


@pytest.fixture
def mirrored_set(tmp_path: Path) -> Path:
    """Signers 16 and 160 with two clips each, and mirrored copies recognizable by their number of frames."""
    write_words(tmp_path, ["hello"])
    for stem, frames in (("16", 2), ("16_swap", 20), ("160", 3), ("160_swap", 30)):
        feature = np.random.default_rng(frames).uniform(0.1, 0.9, (3, frames, NUM_LANDMARKS)).astype(np.float32)
        write_signer(tmp_path / f"{stem}.hdf5", [Clip("1", feature, 0), Clip("2", feature, 0)])
    return tmp_path


def test_mirrored_copies_belong_to_their_signer(mirrored_set: Path) -> None:
    """A `_swap` file belongs to its signer, is not a signer itself, and adds clips only if requested."""
    data = open_data(mirrored_set)
    assert list(data.labels_of) == ["16", "160"]
    assert [(file.signer, file.mirrored) for file in signer_files(mirrored_set)] == [
        ("16", False),
        ("160", False),
        ("160", True),
        ("16", True),
    ]
    for signer, own, copies in (("16", 2, 20), ("160", 3, 30)):
        training = prepare(data, [signer], PreprocessConfig(), mirrored=True)
        validation = prepare(data, [signer], PreprocessConfig(), mirrored=False)
        assert sorted(training.lengths_C.tolist()) == [own, own, copies, copies]
        assert validation.lengths_C.tolist() == [own, own]


def test_no_signers_is_an_error(mirrored_set: Path) -> None:
    """Requesting the clips of no signer is an error."""
    with pytest.raises(DataError, match="no clip"):
        prepare(open_data(mirrored_set), [], PreprocessConfig(), mirrored=True)


def test_a_part_that_lacks_words_is_named() -> None:
    """Without folds too, a note says that validation or test part cannot evaluate some words."""
    words_of = {"a": ALL, "b": ALL, "c": frozenset({0}), "d": frozenset({0, 1})}
    assert split_signers(words_of, validation=["c"], test=["d"]).note == (
        "the validation part lacks 2 words, of which its signers have no clip; "
        "the test part lacks 1 word, of which its signers have no clip"
    )
    assert split_signers(words_of, validation=["b"], test="none").note == ""
