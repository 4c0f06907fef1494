"""Importing MediaPipe Holistic results saved per frame: the layout of frames and folders, and what is rejected."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_utils.checking.problems import find_problems
from data_utils.cli import execute
from data_utils.errors import DataError
from data_utils.folder import signer_files
from data_utils.hdf5 import read_clips
from data_utils.importing import arrays, npy, readings
from data_utils.importing.npy import read_clip
from data_utils.importing.record import identity_of
from data_utils.landmarks import FILE_PARTS
from data_utils.words import read_words

NUM_VALUES = 1662

CLIPS = {  # signer -> word -> clips
    "anna": {"あした": ["0", "1"], "bye": ["0"]},
    "Žofie": {"bye": ["first take"], "hello": ["0", "10", "2"]},
}


def landmarks(values: np.ndarray) -> np.ndarray:
    """The landmarks of an array in the usual order, not validated."""
    return arrays.landmarks(arrays.rows_of(values, None, file=Path("clip.npy")))


def vectors(seed: int, frames: int = 3) -> np.ndarray:
    """Frames without the left hand, and without a face in the first one."""
    made_TV = np.random.default_rng(seed).uniform(0.1, 0.9, (frames, NUM_VALUES))
    made_TV[:, 132 + 1404 : 132 + 1404 + 63] = 0
    made_TV[0, 132 : 132 + 1404] = 0
    return made_TV


def write_frames(folder: Path, vectors_TV: np.ndarray, first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, vector in enumerate(vectors_TV, first):
        np.save(folder / f"{number}.npy", vector)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Folders of 7 clips, with unrelated files in between."""
    folder = tmp_path / "tree"
    seed = 0
    for signer, words in CLIPS.items():
        for word, clips in words.items():
            for clip in clips:
                write_frames(folder / signer / word / clip, vectors(seed))
                seed += 1
    for place in (folder, folder / "anna", folder / "anna" / "bye", folder / "anna" / "bye" / "0"):
        (place / ".DS_Store").write_bytes(b"\0\1")
        (place / "notes.txt").write_text("recorded in May")
        (place / "._0.npy").write_bytes(b"\0\1")
    (folder / ".git").mkdir()
    return folder


def run(*words: str | Path) -> int:
    return execute(["import-npy", *map(str, words), "--workers", "1"])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_number_is_read_to_its_place() -> None:
    """Point and axis of each of the 1662 numbers: pose with visibility, face, left hand, right hand."""
    named = [("pose", p, c) for p in range(33) for c in "xyzv"]
    named += [
        (part, p, c) for part, n in (("face", 468), ("left_hand", 21), ("right_hand", 21)) for p in range(n) for c in "xyz"
    ]
    assert len(named) == NUM_VALUES
    vectors_TV = np.arange(1.0, 2 * NUM_VALUES + 1).reshape(2, NUM_VALUES)
    found = landmarks(vectors_TV)
    assert found.dtype == np.float32
    assert found.shape == (3, 2, 543)
    for place, (part, point, axis) in enumerate(named):
        if axis != "v":
            np.testing.assert_array_equal(found["xyz".index(axis), :, FILE_PARTS[part].start + point], vectors_TV[:, place])
    assert not np.isnan(found).any()


def test_a_part_of_zeros_was_not_detected() -> None:
    """A part that is all zeros in a frame becomes NaN in that frame alone; a single zero stays."""
    vectors_TV = np.random.default_rng(0).uniform(0.1, 0.9, (2, NUM_VALUES))
    vectors_TV[0, :132] = vectors_TV[1, 132:1536] = vectors_TV[0, 1536:1599] = 0
    vectors_TV[1, 1599] = 0  # the x of a wrist
    lost_TJ = np.isnan(landmarks(vectors_TV)).all(axis=0)
    expected_TJ = np.zeros((2, 543), bool)
    for part, frame in (("pose", 0), ("face", 1), ("left_hand", 0)):
        expected_TJ[frame, FILE_PARTS[part]] = True
    np.testing.assert_array_equal(lost_TJ, expected_TJ)
    assert landmarks(vectors_TV)[0, 1, 522] == 0
    with pytest.raises(DataError, match="another number of values"):
        landmarks(np.ones((2, 1663)))


def test_frames_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """2.npy comes before 10.npy; numbers may start anywhere and have gaps."""
    vectors_TV = vectors(0, 12)
    write_frames(tmp_path / "a", vectors_TV)
    np.testing.assert_array_equal(read_clip(tmp_path / "a"), landmarks(vectors_TV))
    write_frames(tmp_path / "b", vectors_TV, first=95)
    (tmp_path / "b" / "97.npy").unlink()
    np.testing.assert_array_equal(read_clip(tmp_path / "b"), landmarks(np.delete(vectors_TV, 2, axis=0)))


def test_refined_faces_lose_their_irises(tmp_path: Path) -> None:
    """Of 478 face points the first 468 are read, even if a frame without a face has zeros for 468 points only."""
    vectors_TV = vectors(0).astype(np.float32)
    write_frames(tmp_path, vectors_TV)
    for frame in (1, 2):
        irises = np.full(30, 0.5, np.float32)
        np.save(tmp_path / f"{frame}.npy", np.concatenate([vectors_TV[frame, :1536], irises, vectors_TV[frame, 1536:]]))
    np.testing.assert_array_equal(read_clip(tmp_path), landmarks(vectors_TV))


class Trap:
    """Unpickling it would create a Path."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path, ("never",)


def wrong(content: object) -> Callable[[Path], object]:
    """Replaces the second frame by an array or bytes."""

    def put(folder: Path) -> None:
        if isinstance(content, bytes):
            (folder / "1.npy").write_bytes(content)
        else:
            np.save(folder / "1.npy", content)  # type: ignore[call-overload]

    return put


def npz(folder: Path) -> None:
    np.savez(folder / "1.npz", vectors(0)[0])
    (folder / "1.npz").rename(folder / "1.npy")


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def deeper(folder: Path) -> None:
    empty(folder)
    write_frames(folder / "0", vectors(0))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickled": (wrong(np.array([Trap()], dtype=object)), "not a NumPy array, or is damaged"),
    "text": (wrong(b"hello"), "not a NumPy array, or is damaged"),
    "no byte": (wrong(b""), "not a NumPy array, or is damaged"),
    "archive": (npz, "not a NumPy array, or is damaged"),
    "whole numbers": (wrong(np.zeros(NUM_VALUES, int)), "whole numbers: pixels"),
    "two frames": (wrong(np.ones((2, NUM_VALUES))), "does not hold one frame"),
    "other parts": (wrong(np.ones(258)), "different numbers of values"),
    "other numbers": (wrong(np.ones(259)), "another number of values"),
    "infinite": (wrong(np.linspace(1e200, 1e300, NUM_VALUES)), "infinite or far too large"),
    "named": (lambda folder: (folder / "2.npy").rename(folder / "last.npy"), "name has no number"),
    "twice": (lambda folder: shutil.copy(folder / "1.npy", folder / "01.npy"), "same number"),
    "empty": (empty, "no frame"),
    "deeper": (deeper, "folders instead of frames"),
    "zeros": (lambda folder: write_frames(folder, np.zeros((3, NUM_VALUES))), "nothing was detected"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_clips_are_errors(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken clip is an error that says what is wrong and where; nothing is unpickled."""
    monkeypatch.chdir(tmp_path)
    break_it, message = BROKEN[name]
    write_frames(tmp_path / "clip", vectors(0))
    break_it(tmp_path / "clip")
    with pytest.raises(DataError, match=message) as caught:
        read_clip(tmp_path / "clip")
    assert str(tmp_path / "clip") in caught.value.render()


def test_any_damaged_header_is_a_data_error(tmp_path: Path) -> None:
    """NumPy parses a file's header as Python literals and raises the errors of Python's parser."""
    np.save(tmp_path / "0.npy", vectors(0)[0])
    whole = (tmp_path / "0.npy").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(600):
        head = bytearray(whole[:128])
        for place in rng.integers(10, 128, 3):
            head[place] = rng.integers(256)
        (tmp_path / "0.npy").write_bytes(bytes(head) + whole[128:])
        with contextlib.suppress(DataError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read_clip(tmp_path)


def test_a_pipe_is_an_error(tmp_path: Path) -> None:
    """A pipe is an error at once."""
    os.mkfifo(tmp_path / "0.npy")
    with pytest.raises(DataError, match="this is not a file"):
        read_clip(tmp_path)


def test_too_many_frames_are_rejected_without_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many frames are rejected by their number, before any of them is read."""
    monkeypatch.setattr("data_utils.clips.MAX_FRAMES", 5)
    for number in range(6):
        (tmp_path / f"{number}.npy").touch()
    with pytest.raises(DataError, match="far too long"):
        read_clip(tmp_path)


def test_a_tree(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every clip is imported with its signer and word, in any script; words are numbered in alphabetical order."""
    assert run(tree, tmp_path / "data") == 0
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1]) == ("", f"7 clips of 3 words by 2 signers in {tmp_path / 'data'}")
    assert read_words(tmp_path / "data") == ("bye", "hello", "あした")
    assert find_problems(tmp_path / "data") == []
    clips = {file.signer: list(read_clips(file, 3)) for file in signer_files(tmp_path / "data")}
    assert {signer: [(clip.name, clip.label) for clip in own] for signer, own in clips.items()} == {
        "anna": [("bye__0", 0), ("あした__0", 2), ("あした__1", 2)],
        "Žofie": [("bye__first take", 0), ("hello__0", 1), ("hello__10", 1), ("hello__2", 1)],
    }
    np.testing.assert_array_equal(clips["anna"][0].feature_CTJ, landmarks(vectors(2)))
    np.testing.assert_array_equal(clips["Žofie"][3].feature_CTJ, landmarks(vectors(6)))
    assert run(tree, tmp_path / "data") == 0
    assert "nothing to do" in capsys.readouterr().err


def test_broken_clips_are_skipped_on_request(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As with the other importer, broken clips are listed and rejected, or listed and skipped."""
    np.save(tree / "anna" / "あした" / "1" / "2.npy", np.ones(97))
    assert run(tree, tmp_path / "data", "--json") == 1
    out, err = capsys.readouterr()
    broken, summary = map(json.loads, out.splitlines())
    assert (broken["kind"], broken["signer"], broken["clip"]) == ("broken", "anna", "あした__1")
    assert broken["file"] == "anna/あした/1/2.npy"
    assert broken["why"] == "the frames have another number of values: 97 numbers per frame"
    assert broken["expected"].startswith("frames of pose (33 or 25 points)")
    assert (summary["complete"], summary["broken"], summary["clips"]) == (False, 1, 4)
    assert "--skip-broken" in err
    assert run(tree, tmp_path / "data", "--skip-broken") == 0
    err = capsys.readouterr().err
    assert "  anna/あした/1/2.npy: the frames have another number of values: 97 numbers per frame\n" in err
    assert "\nexpected: frames of pose (33 or 25 points)" in err
    assert run(tree, tmp_path / "fresh", "--skip-broken") == 0
    assert contents(tmp_path / "data") == contents(tmp_path / "fresh")


def test_unicode_forms_of_a_word_are_equal(tmp_path: Path) -> None:
    """A word in composed and decomposed Unicode form is the same word."""
    for signer, form in (("anna", "NFC"), ("ben", "NFD")):
        write_frames(tmp_path / "tree" / signer / unicodedata.normalize(form, "café が") / "0", vectors(0))
    request = npy.plan_import(tmp_path / "tree")
    assert request.words == (unicodedata.normalize("NFC", "café が"),)
    write_frames(tmp_path / "tree" / "ben" / unicodedata.normalize("NFC", "café が") / "0", vectors(0))
    with pytest.raises(DataError, match="two clips would get the same name"):
        npy.plan_import(tmp_path / "tree")


@pytest.mark.parametrize(
    ("levels", "message", "layout"),
    [
        ("hello/0", "the level of signers is missing\n", "{word}/{signer}_{clip}/{frame}.npy"),
        ("0", "the levels of signers and words are missing\n", "{word}/{clip}.npy"),
        ("", "the levels of signers and words and clips are missing\n", "{word}_{signer}_{clip}_{frame}.npy"),
    ],
)
def test_a_missing_level_of_folders_is_named(tmp_path: Path, levels: str, message: str, layout: str) -> None:
    """Without folders of signers, as in tutorials, the error says which level is missing."""
    write_frames(tmp_path / levels, vectors(0))
    with pytest.raises(DataError) as caught:
        npy.plan_import(tmp_path)
    text = caught.value.render()
    assert message in text
    assert "expected: SRC/<signer>/<word>/<clip>/<frame>.npy" in text
    assert f"--layout '{layout}" in text


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["anna/a/b__c", "anna/a__b/c"], "two clips would get the same name"),
        (["anna_swap/a/0"], "name of a signer"),
        (["anna/tab\tword/0"], "name of a clip"),
        (["anna/back\\slash/0"], "name of a clip"),
    ],
)
def test_unusable_names_are_errors(tmp_path: Path, folders: list[str], message: str) -> None:
    """Clips that would get the same name, and names that files or HDF5 groups cannot have, are errors."""
    for folder in folders:
        write_frames(tmp_path / folder, vectors(0))
    with pytest.raises(DataError, match=message):
        npy.plan_import(tmp_path)


def test_a_missing_source_is_an_error() -> None:
    """A folder that does not exist is an error."""
    with pytest.raises(DataError, match="no such folder"):
        npy.plan_import(Path("nowhere"))
    with pytest.raises(DataError, match="no such folder"):
        read_clip(Path("nowhere"))


LAYOUTS: dict[str, tuple[list[str], dict[str, str], list[tuple[str, str, str]]]] = {
    # paths of clips, or of frames with *; options; signer, name and session of each clip
    "clips of signers": (["anna/hi/1.npy", "ben/hi/1.npz"], {}, [("anna", "hi__1", ""), ("ben", "hi__1", "")]),
    "clips of words": (["hi/1.npy", "bye/2.NPY"], {"signer": "anna"}, [("anna", "bye__2", ""), ("anna", "hi__1", "")]),
    "frames of words": (["hi/1/*.npy", "hi/2/frame_*.npy"], {"signer": "anna"}, [("anna", "hi__1", ""), ("anna", "hi__2", "")]),
    "frames with names": (["anna/hi/1/frame_*.npy", "anna/hi/2/img0*.npz"], {}, [("anna", "hi__1", ""), ("anna", "hi__2", "")]),
    "one folder": (
        ["anna_hi_1.npy", "anna_x_hi_2.npy"],
        {"layout": "{signer}_{word:[^_]+}_{clip}.npy"},
        [("anna", "hi__1", ""), ("anna_x", "hi__2", "")],
    ),
    "names of frames": (["hi/1/frame_*.npy"], {"layout": "{word}/{clip}/{frame}", "signer": "anna"}, [("anna", "hi__1", "")]),
    "literal text": (["a-b/hi.v1.npy"], {"layout": "{signer}-b/{word}.v{clip}"}, [("a", "hi__1", "")]),
    "a field twice": (["hi/anna/hi_1.npy"], {"layout": "{word}/{signer}/{word}_{clip}"}, [("anna", "hi__1", "")]),
    "sessions": (
        ["may/hi/1.npy", "june/hi/1.npy"],
        {"layout": "{session}/{word}/{clip}", "signer": "anna"},
        [("anna", "hi__june__1", "june"), ("anna", "hi__may__1", "may")],
    ),
    "anything": (
        ["train/hi/1.npy", "test/hi/1.npy"],
        {"layout": "{any}/{word}/{clip}", "signer": "anna"},
        [("anna", "hi__test__1", ""), ("anna", "hi__train__1", "")],
    ),
    "frames in a layout": (["hi/anna_1/f*.npy"], {"layout": "{word}/{signer}_{clip}/f{frame}.npy"}, [("anna", "hi__1", "")]),
    "frames beside each other": (
        ["hi/anna_1_*.npy", "hi/anna_12_*.npy"],
        {"layout": "{word}/{signer}_{clip}_{frame}.npy"},
        [("anna", "hi__1", ""), ("anna", "hi__12", "")],
    ),
    "phrases": (["thank_you_1.npy"], {"layout": "{word}_{clip}", "signer": "anna"}, [("anna", "thank_you__1", "")]),
    "spaces": ([" anna /hi /1.npy"], {}, [("anna", "hi__1", "")]),
    "a folder is a clip": (["anna/hi/*.npy"], {"layout": "{signer}/{word}/{frame}.npy"}, [("anna", "hi__0", "")]),
    "still pictures": (["anna/A/1.npy"], {"layout": "{signer}/{word}/{clip}.npy"}, [("anna", "A__1", "")]),
}


def write_paths(folder: Path, paths: list[str], frames: int = 3) -> dict[str, np.ndarray]:
    """Writes a clip per path, frames where the path has a star. Returns the landmarks by path."""
    made = {}
    for seed, path in enumerate(paths):
        values_TV = vectors(seed, 1 if path == "anna/A/1.npy" else frames)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        files = {path.replace("*", str(n)): value for n, value in enumerate(values_TV, 8)} if "*" in path else {path: values_TV}
        for file, values in files.items():
            with (folder / file).open("wb") as stream:
                np.savez(stream, values) if file.endswith("npz") else np.save(stream, values)
        made[path] = landmarks(values_TV)
    return made


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str, tmp_path: Path) -> None:
    """Clips are found by the levels of folders or by a pattern of paths, with their frames in order."""
    paths, options, expected = LAYOUTS[name]
    made = write_paths(tmp_path, paths)
    plan = npy.plan_import(tmp_path, **options)  # type: ignore[arg-type]
    clips = [(signer, clip) for signer, own in sorted(plan.clips_of.items()) for clip in sorted(own, key=lambda one: one.name)]
    assert [(signer, clip.name, clip.session) for signer, clip in clips] == expected
    found = [plan.read(tmp_path / clip.file) for _, clip in clips]
    for feature in made.values():
        assert any(np.array_equal(feature, one, equal_nan=True) for one in found)


WRONG_LAYOUTS: dict[str, tuple[list[str], dict[str, str], str, str]] = {  # paths, options, the error
    "words of clips": (["hi/1.npy"], {}, "the level of signers is missing", "--signer NAME"),
    "words of frames": (["hi/1/*.npy"], {}, "the level of signers is missing", "--signer NAME"),
    "still pictures": (["anna/A/1.npy"], {}, "the level of signers is missing", "--layout '{signer}/{word}/{clip}.npy'"),
    "a folder above": (["data/anna/hi/1.npy"], {}, "levels too many", "data"),
    "a signer too many": (["anna/hi/1.npy"], {"signer": "ben"}, "a level too many for --signer", "leave out --signer"),
    "parts of a split": (["train/hi/1.npy", "Test/hi/1.npy"], {}, "parts of a split", "--layout '{any}/{word}/{clip}.npy'"),
    "two levels": (["anna/hi/1.npy", "anna/bye/1.npy", "ben/1.npy"], {}, "different levels", "ben/1.npy"),
    "files of a folder": (["1.npy"], {}, "the levels of signers and words are missing", "--layout"),
    "names of files": (["hi_anna_1.npy"], {}, "the levels of signers and words", "--layout '{word}_{signer}_{clip}.npy'"),
    "files of one signer": (["hi_1.npy"], {"signer": "me"}, "the level of words is", "such as --layout '{word}_{clip}.npy'"),
    "two ways": (["thank_you_me_1.npy"], {"layout": "{word}_{signer}_{clip}"}, "in two ways", "'{word}_{signer:[^_]+}_{clip}'"),
    "side by side": (["hi/9001.npy"], {"layout": "{word}/{signer}{clip}"}, "in two ways", "signer 900; clip 1"),
    "no expression": (["hi/9001.npy"], {"layout": "{word:[}/{signer}"}, "wrong regular expression", "[^_]+"),
    "no name": (["hi/1.npy"], {"signer": "a/b"}, "the name of a signer", "--> --signer"),
    "no array": ([], {}, "contains no array", ".npy"),
    "no word": (["anna_1.npy"], {"layout": "{signer}_{clip}"}, "does not tell the word", "{word}"),
    "no signer": (["hi_1.npy"], {"layout": "{word}_{clip}"}, "does not tell the signer", "--signer NAME"),
    "two signers": (["a_hi.npy"], {"layout": "{signer}_{word}", "signer": "b"}, "both tell the signer", "leave out --signer"),
    "unknown field": (["a_hi.npy"], {"layout": "{signr}_{word}"}, "no field `{signr}`", "did you mean `signer`"),
    "unlike": (["anna/hi.npy"], {"layout": "{signer}_{word}"}, "no file has the layout", "anna/hi.npy"),
    "one name twice": (["anna/hi/1.npy", "anna/hi/1.npz"], {}, "two clips would get the same name", "1.npz"),
}


@pytest.mark.parametrize("name", WRONG_LAYOUTS)
def test_wrong_layouts(name: str, tmp_path: Path) -> None:
    """Folders that do not tell who signs what are an error that says what is there, and what to type."""
    paths, options, message, more = WRONG_LAYOUTS[name]
    write_paths(tmp_path, paths)
    with pytest.raises(DataError) as caught:
        npy.plan_import(tmp_path, **options)  # type: ignore[arg-type]
    text = caught.value.render()
    assert message in text
    assert more in text


def test_folders_without_arrays_are_no_words(tree: Path) -> None:
    """Folders of other programs and folders without arrays are neither signers nor words; those that hold files are told."""
    for folder in (
        "__MACOSX/anna/bye/0",
        "anna/Logs/train",
        "anna/.ipynb_checkpoints/0",
        "models",
        "nobody/never/0",
        "anna/bye/1",
    ):
        (tree / folder).mkdir(parents=True)
    for file in (
        "__MACOSX/anna/bye/0/._0.npy",
        "anna/Logs/train/events",
        "anna/.ipynb_checkpoints/0/0.npy",
        "models/a.h5",
        "Thumbs.db",
    ):
        (tree / file).write_bytes(b"x")
    told: list[str] = []
    plan = npy.plan_import(tree, notify=told.append)
    assert plan.words == ("bye", "hello", "あした")
    assert sorted(plan.clips_of) == ["anna", "Žofie"]
    assert [clip.name for clip in plan.clips_of["anna"]] == ["bye__0", "bye__1", "あした__0", "あした__1"]
    assert told[0] == "left out 2 folders without arrays: anna/Logs, models"
    with pytest.raises(DataError, match="no frame"):
        plan.read(tree / "anna/bye/1")


def test_links_to_folders_above_are_not_followed(tmp_path: Path) -> None:
    """A link to a folder that contains it does not add clips; another link does."""
    write_paths(tmp_path, ["in/anna/hi/1.npy", "elsewhere/hi/1.npy"])
    (tmp_path / "in/anna/all").symlink_to(tmp_path / "in")
    (tmp_path / "in/ben").symlink_to(tmp_path / "elsewhere")
    plan = npy.plan_import(tmp_path / "in")
    assert {signer: [clip.file for clip in own] for signer, own in plan.clips_of.items()} == {
        "anna": ["anna/hi/1.npy"],
        "ben": ["ben/hi/1.npy"],
    }


@pytest.mark.parametrize("values", [np.array([1.0, None]), np.ones(3 * NUM_VALUES)], ids=["objects", "flat"])
def test_unreadable_clips_are_no_frames(values: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Arrays that cannot be read say nothing about the levels of folders: the error names what is wrong with them."""
    (tmp_path / "in/anna/hi").mkdir(parents=True)
    np.save(tmp_path / "in/anna/hi/1.npy", values)
    assert run(tmp_path / "in", tmp_path / "data") in (1, 2)
    err = capsys.readouterr().err
    assert "anna/hi/1.npy" in err
    assert "level" not in err
    assert ("hint: save numbers, not objects" in err) == (values.dtype.kind == "O")


def test_an_order_that_decides_is_recorded(tmp_path: Path) -> None:
    """Frames of one hand, read as the left and as the right one, are different imports."""
    write_frames(tmp_path / "anna/hi/0", np.random.default_rng(0).random((3, 63)))
    plans = [npy.plan_import(tmp_path, order=(hand,)) for hand in ("left_hand", "right_hand")]
    assert identity_of(plans[0]) != identity_of(plans[1])


def test_an_earlier_import_continues(tree: Path, tmp_path: Path) -> None:
    """The record of an import in the usual order is that of earlier versions; another order is another import."""
    plan = npy.plan_import(tree)
    assert identity_of(plan).keys() == {"kind", "words", "clips"}
    assert identity_of(plan)["kind"] == "holistic"
    assert identity_of(npy.plan_import(tree, order=readings.TUTORIAL)) == identity_of(plan)
    other = npy.plan_import(tree, order=("face", "pose", "left_hand", "right_hand"))
    assert identity_of(other)["options"] == {"order": {"pose,face,left_hand,right_hand": "face,pose,left_hand,right_hand"}}
    assert run(tree, tmp_path / "data", "--order", "face,pose,left_hand,right_hand") == 0
    assert run(tree, tmp_path / "data") == 2
