"""Clips that occur again under another signer's name, unchanged or changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_utils.checking.copies import find_copies, signature
from data_utils.checking.facts import ClipFacts, inspect_clip
from data_utils.checking.repeats import changed_copies_in_short, copies_in_short, repeated_clips
from data_utils.folder import SignerFile
from data_utils.hdf5 import Clip
from data_utils.landmarks import FILE_PARTS
from data_utils.synthetic.signing import draw_sign, draw_signer, perform
from data_utils.synthetic.skeleton import landmarks

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]
LEFT, RIGHT, POSE = (FILE_PARTS[part] for part in ("left_hand", "right_hand", "pose"))
_BODY_PAIRS = [(1, 4), (2, 5), (3, 6), (7, 8), (9, 10), *((n, n + 1) for n in range(11, 33, 2))]


def _clip(signer: int, number: int, frames: int = 24) -> np.ndarray:
    """A clip of one of few signs. The right hand is lost in some frames, the left hand in all."""
    rng = np.random.default_rng([signer, number])
    person, sign = draw_signer(np.random.default_rng(signer)), draw_sign(np.random.default_rng(1000 + number % 3))
    points_TJC = landmarks(person.body, perform(sign, person, frames, rng))
    points_TJC = points_TJC * [0.3, 0.4, 0.3] + [0.5, 0.5, 0] + rng.normal(0, 0.0005, points_TJC.shape)
    points_TJC[:, LEFT] = np.nan
    points_TJC[3:5, RIGHT] = np.nan
    return points_TJC.transpose(2, 0, 1).astype(np.float32)


def _mirrored(clip: np.ndarray, rename: bool = True) -> np.ndarray:
    flipped = clip.copy()
    flipped[0] = 1 - flipped[0]
    renamed = flipped.copy()
    if rename:
        renamed[:, :, LEFT], renamed[:, :, RIGHT] = flipped[:, :, RIGHT], flipped[:, :, LEFT]
        for one, other in _BODY_PAIRS:
            renamed[:, :, POSE.start + one] = flipped[:, :, POSE.start + other]
            renamed[:, :, POSE.start + other] = flipped[:, :, POSE.start + one]
    return renamed


def _noised(clip: np.ndarray, rng: np.random.Generator, size: float = 0.003) -> np.ndarray:
    return (clip + rng.normal(0, size, clip.shape)).astype(np.float32)


def _padded(clip: np.ndarray) -> np.ndarray:
    return np.concatenate([clip, np.repeat(clip[:, -1:], 6, axis=1)], axis=1)


CHANGES: dict[str, tuple[str, Change]] = {
    "nothing": ("exact", lambda clip, _: clip.copy()),
    "mirrored": ("mirrored", lambda clip, _: _mirrored(clip)),
    "mirrored without renaming": ("mirrored", lambda clip, _: _mirrored(clip, rename=False)),
    "noise": ("noised", _noised),
    "start cut": ("trimmed", lambda clip, _: clip[:, 8:]),
    "end cut": ("trimmed", lambda clip, _: clip[:, :-8]),
    "moved and scaled": ("moved or scaled", lambda clip, _: clip * np.float32([[[0.8]], [[0.9]], [[1]]]) + np.float32(0.1)),
    "every second frame": ("every second frame", lambda clip, _: clip[:, ::2]),
    "float16": ("rounded", lambda clip, _: clip.astype(np.float16).astype(np.float32)),
    "last frame repeated": ("padded", lambda clip, _: _padded(clip)),
    "0 instead of NaN": ("exact", lambda clip, _: np.nan_to_num(clip)),
    "0 and mirrored": ("mirrored", lambda clip, _: _mirrored(np.nan_to_num(clip))),
    "reversed": ("reversed", lambda clip, _: clip[:, ::-1].copy()),
    "much": ("mirrored, trimmed, noised", lambda clip, rng: _noised(_mirrored(clip)[:, 3:-3], rng)),
}


@pytest.fixture(scope="module")
def originals() -> list[tuple[str, np.ndarray]]:
    """Signer and clip: 12 clips of 3 signs by each of 3 signers."""
    return [(f"signer{signer}", _clip(signer, number)) for signer in range(3) for number in range(12)]


@pytest.mark.parametrize("name", CHANGES)
def test_changed_copy_is_found(name: str, originals: list[tuple[str, np.ndarray]]) -> None:
    what, change = CHANGES[name]
    rng = np.random.default_rng(0)
    copied = range(0, len(originals), 4)
    clips = [*originals, *(("other", change(originals[number][1], rng)) for number in copied)]
    pairs = find_copies([signature(clip) for _, clip in clips], [signer for signer, _ in clips])
    assert [pair[:2] for pair in pairs] == [(number, len(originals) + n) for n, number in enumerate(copied)]
    assert {pair[2] for pair in pairs} == {what}


def test_sound_set_has_no_copies(originals: list[tuple[str, np.ndarray]]) -> None:
    assert not find_copies([signature(clip) for _, clip in originals], [signer for signer, _ in originals])


def test_same_signer_and_groups() -> None:
    """Copies under one signer are another warning. Of a recording under many names, each name is in a pair, once or more."""
    clip, different = _clip(0, 0), _clip(1, 1)
    signatures = [signature(one) for one in (clip, clip, different, clip, _mirrored(clip), clip[:, 4:])]
    assert not find_copies(signatures[:3], ["a", "a", "b"])
    pairs = find_copies(signatures, ["a", "a", "b", "c", "d", "e"])
    assert {number for pair in pairs for number in pair[:2]} == {0, 1, 3, 4, 5}
    assert all(first < second for first, second, _ in pairs)
    assert not find_copies([], [])


def test_unusual_clips() -> None:
    """Still and short clips are found if they are copied, and do not resemble each other; empty clips resemble nothing."""
    still = [np.repeat(_clip(signer, 0)[:, :1], 12, axis=1) for signer in range(3)]
    short = [_clip(signer, 1, frames=5)[:, frame : frame + 1] for signer in range(3) for frame in range(2)]
    hands = [_clip(signer, 2) for signer in range(3)]
    for clip in hands:
        clip[:, :, : RIGHT.start] = np.nan
    clips = [*still, *short, *hands]
    signers = [f"{number}" for number in range(len(clips))]
    nothing = np.full((3, 8, 543), np.nan, np.float32)
    assert not find_copies([signature(clip) for clip in [*clips, nothing, nothing]], [*signers, "none1", "none2"])
    both = find_copies([signature(clip) for clip in clips * 2], [*signers, *(f"again {signer}" for signer in signers)])
    assert both == [(number, number + len(clips), "exact") for number in range(len(clips))]
    trimmed = [signature(clip) for clip in [*hands, hands[0][:, 4:]]]
    assert find_copies(trimmed, ["a", "b", "c", "d"]) == [(0, 3, "trimmed")]


def test_warning_names_signers_clips_and_changes(originals: list[tuple[str, np.ndarray]]) -> None:
    """One warning for all changed copies; equal clips have their own."""
    first = [clip for _, clip in originals[:4]]
    copied = [_mirrored(first[0]), first[1][:, 8:], np.nan_to_num(first[2]), first[3]]
    facts = [
        inspect_clip(SignerFile(Path(f"{signer}.hdf5"), signer, False), Clip(f"clip{number}", clip, 0))
        for signer, clips in (("anna", first), ("ben", copied))
        for number, clip in enumerate(clips)
    ]
    same, changed = (warning.record() for warning in repeated_clips(facts, ["hello"]))
    assert same["got"] == "1 clip: anna.hdf5: /clip3 = ben.hdf5: /clip3"
    assert changed["what"] == "changed copies of clips under 2 signers: training on one leaks into the evaluation of the other"
    assert changed["where"] == "anna, ben"
    assert changed["got"] == (
        "6 of 8 clips (mirrored, trimmed, same x and y): anna.hdf5: /clip0 = ben.hdf5: /clip0 (mirrored), "
        "anna.hdf5: /clip1 = ben.hdf5: /clip1 (trimmed), anna.hdf5: /clip2 = ben.hdf5: /clip2 (same x and y)"
    )
    for warning in (same, changed):
        assert "remove the copies, or put these signers into the same part of a split by signer" in str(warning["hint"])
        assert "under one signer" not in str(warning["hint"]), "there a split by clip may tear them apart"
    assert copies_in_short(facts) == [
        "the same recordings under 2 signers: anna, ben (8 of 8 clips, such as anna.hdf5: /clip0 = ben.hdf5: /clip0, "
        "mirrored), so that training on one leaks into the evaluation of the other"
    ]
    assert not copies_in_short(facts[:4])


def test_copies_under_the_same_name(originals: list[tuple[str, np.ndarray]]) -> None:
    """With one or two signers, whom a split by clip divides, changed copies are found under one name as well."""
    own = [clip for _, clip in originals[:6]]
    copied = [_noised(own[0], np.random.default_rng(0)), _mirrored(own[1]), own[2][:, 2:], np.nan_to_num(own[3])]

    def facts(clips: list[np.ndarray], names: str) -> list[ClipFacts]:
        files = [SignerFile(Path(f"{name}.hdf5"), name, False) for name in names]
        numbered = list(enumerate(clips))
        return [inspect_clip(files[n % len(files)], Clip(f"{n:02}", clip, 0)) for n, clip in numbered]

    found = list(repeated_clips(facts([*own, *copied], "a"), ["hello"]))
    assert [warning.what for warning in found] == [
        "changed copies of clips under the same signer: a split by clip may train on one and validate on its copy"
    ], "of equal x and y it keeps the copies together"
    assert (found[0].got or "").startswith("6 of 10 clips: a.hdf5: /00 = a.hdf5: /06 (noised), a.hdf5: /01 =")
    assert "remove the copies" in str(found[0].hint)
    (line,) = changed_copies_in_short(facts([*own, *copied], "ab"))
    assert line.startswith(
        "6 of 10 clips occur more than once, changed (such as a.hdf5: /00 = a.hdf5: /06, noised): a split by"
    )
    for clean in (own, [*own, own[0].copy()]):
        assert not changed_copies_in_short(facts(clean, "a"))
    assert not list(repeated_clips(facts(own, "a"), ["hello"]))


def test_takes_of_one_person_are_not_copies() -> None:
    """A person repeats a sign almost alike: what would be a copy under another name is none under the same."""
    clip = _clip(0, 0)
    moved = np.random.default_rng(0).normal(0, 0.003, (2, 1, 543)).astype(np.float32)
    alike = clip.copy()
    alike[:2] += moved
    both = [signature(clip), signature(alike)]
    assert find_copies(both, ["a", "b"])
    assert not find_copies(both)
