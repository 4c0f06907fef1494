"""Clips whose parts do not form one body, or whose frames do not form a movement, are found; unusual sound ones are not."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_utils.body import body_misfit, median
from data_utils.checking import reading
from data_utils.checking.clip_warnings import clip_warnings
from data_utils.checking.facts import ClipFacts, inspect_clip
from data_utils.checking.luck import beyond_luck
from data_utils.checking.orders import PartOrder
from data_utils.checking.problems import read_data
from data_utils.cli import execute
from data_utils.folder import SignerFile, signer_files
from data_utils.hdf5 import Clip, read_clips, write_signer
from data_utils.importing.corrections import parse_signers
from data_utils.landmarks import FILE_PARTS
from data_utils.synthetic.synthetic import synthesize
from data_utils.words import DICTIONARY_NAME
from search.definition.study_file import load_definition
from search.events import Notice
from search.running.preparing import ready_clips

FACE, LEFT, POSE, RIGHT = FILE_PARTS.values()
SIDES = [0, 4, 5, 6, 1, 2, 3, *(number + 1 if number % 2 else number - 1 for number in range(7, 33))]
"""The pose with left and right exchanged."""

Change = Callable[[np.ndarray], np.ndarray]
Clips = dict[SignerFile, list[Clip]]
WRIST = "hands are at the other arm's wrist"
SHOULDER = "the left shoulder is on the right shoulder's side"
ORDER = "hands and face do not fit the body: the parts are in another order"
SORTED = "frames seem to be sorted by their names as text: 0, 1, 10, 11, 2"
SHUFFLED = "frames are not in the order of time: steps are as long as between frames drawn at random"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound data set with left-handers. Read-only."""
    folder = tmp_path_factory.mktemp("body") / "data"
    synthesize(folder, clips=56, signs=3, signers=4, seed=3)
    return folder


@pytest.fixture(scope="module")
def clips(folder: Path) -> Clips:
    """Its clips."""
    return {file: list(read_clips(file, 3)) for file in signer_files(folder)}


def facts_of(clips: Clips, change: Change, signer: str = "") -> list[ClipFacts]:
    """The facts of all clips after a change of some or all of them. Those of which nothing is left are left out."""
    facts = []
    for file, mine in clips.items():
        for number, clip in enumerate(mine):
            feature_CTJ = change(clip.feature_CTJ) if signer in file.signer else clip.feature_CTJ
            if not np.isnan(feature_CTJ[0]).all():
                facts.append(inspect_clip(file, replace(clip, feature_CTJ=feature_CTJ), seek_order=number < 3))
    return facts


def swapped(f: np.ndarray) -> np.ndarray:
    """Exchanges the hands."""
    return np.concatenate([f[:, :, FACE], f[:, :, RIGHT], f[:, :, POSE], f[:, :, LEFT]], axis=2)


def x_mirrored(f: np.ndarray) -> np.ndarray:
    """Mirrors x, and leaves left and right as they are called."""
    return np.stack([1 - f[0], f[1], f[2]])


def moved(part: slice, change: Change) -> Change:
    """Changes one part."""

    def act(f: np.ndarray) -> np.ndarray:
        f = f.copy()
        f[:, :, part] = change(f[:, :, part])
        return f

    return act


def around_hips(pose: np.ndarray) -> np.ndarray:
    """The pose in meters around the hips."""
    return np.asarray((pose - pose[:, :, 23:25].mean(axis=2, keepdims=True)) * 0.8)


def around_middle(hand: np.ndarray) -> np.ndarray:
    """A hand in meters around its middle."""
    return np.asarray((hand - hand.mean(axis=2, keepdims=True)) * 0.4)


def from_wrist(hand: np.ndarray) -> np.ndarray:
    """A hand relative to its wrist."""
    return hand - hand[:, :, :1]


def by_text(first: int) -> Change:
    """Sorts frames by the text of their numbers."""
    return lambda f: f[:, sorted(range(f.shape[1]), key=lambda number: str(first + number))]


def shuffled(f: np.ndarray) -> np.ndarray:
    """Shuffles frames."""
    return f[:, np.random.default_rng(0).permutation(f.shape[1])]


def filled(*values: float) -> Change:
    """Numbers in place of missing hands."""

    def act(f: np.ndarray) -> np.ndarray:
        f = f.copy()
        for part in (LEFT, RIGHT):
            f[:, np.isnan(f[0, :, part.start]), part] = np.reshape(values, (3, 1, 1))
        return f

    return act


def points_in_order(*parts: str) -> Change:
    """The points in the order of these parts."""
    return lambda f: np.concatenate([f[:, :, FILE_PARTS[part]] for part in parts], axis=2)


def read_as_usual(*parts: str) -> Change:
    """The numbers of frames in the order of these parts, read as pose (with visibility), face, left hand, right hand."""

    def act(f: np.ndarray) -> np.ndarray:
        points = {part: np.nan_to_num(f[:, :, where].transpose(1, 2, 0)) for part, where in FILE_PARTS.items()}
        points["pose"] = np.pad(points["pose"], ((0, 0), (0, 0), (0, 1)), constant_values=0.9)
        numbers_TV = np.concatenate([points[part].reshape(len(points[part]), -1) for part in parts], axis=1)
        result, start = np.full_like(f, np.nan), 0
        for part in ("pose", "face", "left_hand", "right_hand"):
            count, width = FILE_PARTS[part].stop - FILE_PARTS[part].start, 4 if part == "pose" else 3
            values_CTP = numbers_TV[:, start : start + count * width].reshape(-1, count, width).transpose(2, 0, 1)[:3]
            result[:, :, FILE_PARTS[part]] = np.where((values_CTP == 0).all(axis=(0, 2))[:, None], np.nan, values_CTP)
            start += count * width
        return result

    return act


SPOILED: dict[str, tuple[Change, str, str]] = {
    "swapped": (swapped, WRIST, "swapped: FIX --swap-hands {}"),
    "mirrored": (x_mirrored, SHOULDER, "mirrored after detection: FIX --mirrored {}"),
    "mirrored and swapped": (
        lambda f: swapped(x_mirrored(f)),
        f"{SHOULDER}, and {WRIST}",
        "FIX --mirrored {0} --swap-hands {0}",
    ),
    "face mirrored": (moved(FACE, x_mirrored), "the left eye is on the right eye's side", "the face alone"),
    "sides of the pose": (moved(POSE, lambda p: p[:, :, SIDES]), f"{SHOULDER}, and {WRIST}", "the pose alone"),
    "pose mirrored": (moved(POSE, x_mirrored), f"{SHOULDER}, and {WRIST}", "the pose alone"),
    "upside down": (lambda f: np.stack([f[0], 1 - f[1], f[2]]), "the nose is below the shoulders", "inverted?"),
    "body in meters": (moved(POSE, around_hips), "the body is in world coordinates: meters around the hips", "pose_landmarks"),
    "hands in meters": (
        moved(LEFT, around_middle),
        "hands are in world coordinates: meters around their middle",
        "world landmarks",
    ),
    "hand elsewhere": (
        lambda f: moved(LEFT, lambda p: p - [[[0]], [[0.8]], [[0]]])(moved(RIGHT, lambda p: p - [[[0]], [[0.8]], [[0]]])(f)),
        "hands are at nobody's wrist",
        "draws some clips",
    ),
    "hands around their wrists": (
        lambda f: moved(LEFT, from_wrist)(moved(RIGHT, from_wrist)(f)),
        "hands are at nobody's wrist",
        "where the clips are made",
    ),
    "face elsewhere": (moved(FACE, lambda p: p + 0.4), "the face is far from the head", "draws some clips"),
    "order of points": (
        points_in_order("pose", "left_hand", "right_hand", "face"),
        ORDER,
        "order pose,left_hand,right_hand,face: FIX  reads every signer",
    ),
    "order of numbers": (
        read_as_usual("left_hand", "right_hand", "pose", "face"),
        ORDER,
        "--order left_hand,right_hand,pose,face`",
    ),
    "by text": (by_text(0), SORTED, "sort them by number"),
    "by text from 1": (by_text(1), SORTED, "sort them by number"),
    "shuffled": (shuffled, SHUFFLED, "without sorting"),
    "minus one": (filled(-1, -1, -1), "all points of a part are at one place", "must be NaN"),
    "a constant": (filled(0.25, 0.75, 0), "all points of a part are at one place", "must be NaN"),
    "zeros": (filled(0, 0, 0), "parts are at exactly 0", "must be NaN"),
}


@pytest.mark.parametrize(
    ("kind", "signer"), [(kind, "" if number % 2 or kind == "mirrored" else "9002") for number, kind in enumerate(SPOILED)]
)
def test_spoiled_clips(kind: str, signer: str, clips: Clips) -> None:
    """Each fault of all signers or of one gives one warning, with the signers, the cause and the command that mends it."""
    change, what, hint = SPOILED[kind]
    (warning,) = clip_warnings(facts_of(clips, change, signer), lambda options: f"FIX {options}")
    assert warning.what == what
    assert warning.where is not None
    assert ("9002" in warning.where, "9003" in warning.where) == (True, not signer)
    assert warning.hint is not None
    assert hint.format(signer or "all") in warning.hint
    assert warning.got is not None
    wrong, judged = (int(word) for word in warning.got.split(" clips: ")[0].split(" of "))
    assert 0.4 * judged <= wrong <= judged


def test_a_hint_can_be_typed(clips: Clips) -> None:
    """Names of signers in a hint are quoted for the shell, and may contain commas."""
    names = ["Lee, Anna", "O'Neil"]
    facts = facts_of(clips, swapped, "9001") + facts_of(clips, swapped, "9002")
    facts = [replace(one, signer=names[int(one.signer[-1]) - 1] if one.signer < "9003" else one.signer) for one in facts]
    options: list[str] = []
    clip_warnings(
        [one for one in facts if one.signer in names or "hands" not in one.failed], lambda text: str(options.append(text))
    )
    assert parse_signers(shlex.split(options[0])[1]) == tuple(names)
    assert parse_signers("9001, 9002,,9001 ") == ("9001", "9002")


SOUND: dict[str, Change] = {
    "as recorded": lambda f: f,
    "without a face": moved(FACE, lambda p: p * np.nan),
    "hands only": lambda f: moved(POSE, lambda p: p * np.nan)(moved(FACE, lambda p: p * np.nan)(f)),
    "one hand": moved(LEFT, lambda p: p * np.nan),
    "no hands": lambda f: moved(LEFT, lambda p: p * np.nan)(moved(RIGHT, lambda p: p * np.nan)(f)),
    "a wide picture": lambda f: np.stack([f[0] * 9 / 16 + 0.2, f[1], f[2]]),
    "a tall picture": lambda f: np.stack([f[0], f[1] * 9 / 16 + 0.2, f[2]]),
    "turned aside": lambda f: np.stack([(f[0] - 0.5) * np.cos(0.9) + 0.5, f[1], f[2]]),
    "reversed": lambda f: f[:, ::-1],
    "few frames": lambda f: f[:, :3],
    "half the frames": lambda f: f[:, ::2] if f.shape[1] > 3 else f,
    "small": lambda f: np.stack([f[0] * 0.2 + 0.7, f[1] * 0.2 + 0.7, f[2]]),
    "without z": lambda f: np.stack([f[0], f[1], f[2] * np.nan]),
}


@pytest.mark.parametrize("kind", SOUND)
def test_sound_clips(kind: str, clips: Clips) -> None:
    """Unusual pictures and bodies give no warning."""
    warnings = clip_warnings(facts_of(clips, SOUND[kind]), str)
    assert [one.render() for one in warnings if one.what != "clips of a single frame"] == []


@pytest.mark.parametrize(
    ("change", "what"),
    [(swapped, WRIST), (x_mirrored, SHOULDER), (lambda f: swapped(x_mirrored(f)), f"{SHOULDER}, and {WRIST}")],
)
def test_half_of_a_signer(change: Change, what: str, clips: Clips) -> None:
    """Where only some clips of a signer are wrong, no command is named, which would spoil the others, but all clips are."""
    facts, wrong = facts_of(clips, lambda f: f, "9002"), facts_of(clips, change, "9002")
    half = [w if number % 2 else one for number, (one, w) in enumerate(zip(facts, wrong, strict=True))]
    (warning,) = clip_warnings(half, lambda options: f"FIX {options}")
    assert (warning.what, warning.where) == (what, "9002")
    assert warning.hint is not None
    assert "FIX" not in warning.hint
    assert "in some of their clips only" in warning.hint
    assert warning.got is not None
    assert len(warning.record()["clips"]) == int(warning.got.split()[0]) > 3


def test_an_order_found_by_chance(clips: Clips) -> None:
    """Clips that are mirrored, of which a few happen to fit in another order, are named as mirrored."""
    facts = facts_of(clips, x_mirrored)
    many = [one for one in facts if one.signer == "9002"] * 3
    chance = PartOrder("left_hand,face,pose,right_hand", True)
    many[:6] = [replace(one, misfit=True, order=chance) for one in many[:6]]
    facts = [one for one in facts if one.signer != "9002"] + many
    assert [one.what for one in clip_warnings(facts, str)] == [SHOULDER]


def test_scattered_clips(clips: Clips) -> None:
    """A few clips of each signer give a warning without a command; a single one is chance."""
    facts, wrong = facts_of(clips, lambda f: f), facts_of(clips, swapped)
    judged = [number for number, one in enumerate(facts) if "hands" in one.judged]
    few = [wrong[n] if n in judged[::9] else one for n, one in enumerate(facts)]
    (warning,) = clip_warnings(few, str)
    assert warning.what == WRIST
    assert warning.got is not None
    assert warning.got.startswith(f"{len(judged[::9])} of {len(judged)} clips: ")
    assert warning.hint is not None
    assert "in single clips" in warning.hint
    assert clip_warnings([wrong[n] if n == judged[3] else one for n, one in enumerate(facts)], str) == []


def test_mirrored_copies(clips: Clips) -> None:
    """Copies in a `_swap` file with exchanged hands only are to be removed: training mirrors clips itself."""
    (file, mine), *_ = clips.items()
    copies = SignerFile(file.path.with_name(f"{file.signer}_swap.hdf5"), file.signer, True)
    facts = [inspect_clip(copies, replace(clip, feature_CTJ=swapped(x_mirrored(clip.feature_CTJ)))) for clip in mine]
    (warning,) = clip_warnings([*facts_of(clips, lambda f: f), *facts], str)
    assert warning.where == f"{file.signer}_swap.hdf5"
    assert warning.hint is not None
    assert "augment.flip" in warning.hint


def test_misfit(clips: Clips) -> None:
    """Parts fit one body as recorded, and do not in other units; nothing can be told without a pose."""
    clip = next(clip.feature_CTJ for clip in clips[next(iter(clips))] if not np.isnan(clip.feature_CTJ[0, :, LEFT]).all())
    found = [body_misfit(change(clip)) for change in (lambda f: f, moved(POSE, around_hips), moved(POSE, lambda p: p * np.nan))]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0] < 0.1 < 0.5 < found[1]
    assert found[2] is None
    for count in range(1, 8):
        values = np.random.default_rng(count).normal(size=count)
        assert median(values) == pytest.approx(np.median(values))
    assert median(np.array([np.nan])) is None


def test_luck() -> None:
    """One of one is chance, two of two are not; 1% of many is chance, 5% is not."""
    assert [beyond_luck(*one) for one in ((0, 0), (1, 1), (2, 2), (2, 50), (100, 10_000), (500, 10_000), (2, 3))] == [
        *(False, False, True, False, False, True),
        False,
    ]


def test_in_processes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes find the same as one, and report their progress."""
    alone = read_data(folder, workers=1)
    monkeypatch.setattr(reading, "_CLIPS_PER_PROCESS", 1)
    monkeypatch.setattr(reading, "_CLIPS_PER_TASK", 16)
    steps: list[tuple[int, int]] = []
    many = read_data(folder, workers=2, progress=lambda done, total: steps.append((done, total)))
    assert [replace(one, signature=two.signature) for one, two in zip(alone.clips, many.clips, strict=True)] == many.clips
    assert (len(steps), steps[-1]) == (4, (56, 56))


def test_a_run_warns(folder: Path, clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run names signers whose clips look wrong, each time, and what tells more. The test signers are not read.

    It inspects clips that an earlier version prepared, and leaves their frames as they are.
    """
    data = tmp_path / "the data"
    data.mkdir()
    shutil.copy(folder / DICTIONARY_NAME, data)
    for file, mine in clips.items():
        write_signer(data / file.path.name, [replace(clip, feature_CTJ=swapped(clip.feature_CTJ)) for clip in mine])
    definition = load_definition("label_smoothing", [])
    events: list[object] = []
    for number in range(3):
        ready = ready_clips(definition, data, tmp_path / "runs", events.append)
        (path,) = (tmp_path / "runs" / "prepared").glob("*/about.json")
        if number == 0:
            about, frames = json.loads(path.read_text(encoding="utf-8")), (path.parent / "frames.npy").stat().st_ino
            path.write_text(json.dumps({name: value for name, value in about.items() if name != "warnings"}), encoding="utf-8")
        else:
            monkeypatch.setattr("search.trial.clips._inspect", None)  # the third time nothing is read
        assert (path.parent / "frames.npy").stat().st_ino == frames
    assert json.loads(path.read_text(encoding="utf-8")) == about
    texts = [event.text for event in events if isinstance(event, Notice)]
    seen = sorted({"9001", "9002", "9003", "9004"} - {*ready.trial_clips.split.test})
    assert len(seen) == 3
    assert len(texts) == 3
    for text in texts:
        assert text.startswith(f"the clips look wrong: {WRIST}: {', '.join(seen)} (")
        assert text.endswith(f"; `islr-data check '{data}'` tells what to do")


def test_sound_data_are_not_warned_of(folder: Path, tmp_path: Path) -> None:
    """A run on sound data says nothing of them."""
    events: list[object] = []
    ready_clips(load_definition("label_smoothing", []), folder, tmp_path / "runs", events.append)
    assert [event for event in events if isinstance(event, Notice)] == []


def test_check_names_the_command(
    folder: Path, clips: Clips, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check` names the command that corrects one signer's swapped hands, ready to be typed, into a new folder."""
    data = tmp_path / "the data"
    shutil.copytree(folder, data)
    file = next(file for file in clips if file.signer == "9002")
    write_signer(data / "9002.hdf5", [replace(clip, feature_CTJ=swapped(clip.feature_CTJ)) for clip in clips[file]])
    assert execute(["check", str(data)]) == 0
    out = capsys.readouterr().out
    assert f"warning: {WRIST}\n  --> 9002\n" in out
    assert f"swapped: `islr-data import-hdf5 '{data}' NEW --swap-hands 9002`\n" in out
    assert "\nno errors, 1 warning: 56 clips of 3 words by 4 signers\n" in out
    data.rename(tmp_path / "NEW")
    monkeypatch.chdir(tmp_path)
    assert execute(["check", "NEW"]) == 0
    assert "swapped: `islr-data import-hdf5 NEW NEW2 --swap-hands 9002`\n" in capsys.readouterr().out
