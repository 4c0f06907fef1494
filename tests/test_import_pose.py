"""Importing `.pose` files: landmarks, layouts, indexes, archives, and what is rejected."""

from __future__ import annotations

import contextlib
import json
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_utils.checking.problems import find_problems
from data_utils.cli import execute
from data_utils.errors import DataError
from data_utils.folder import signer_files
from data_utils.hdf5 import read_clips
from data_utils.importing.pose import plan_import
from data_utils.importing.pose_file import COMPONENTS, read_clip
from data_utils.landmarks import FILE_PARTS
from data_utils.words import read_words

pytest.importorskip("pose_format", reason="pose-format is not installed")

SIZE = (640, 480)
HOLISTIC = {"RIGHT_HAND_LANDMARKS": 21, "POSE_WORLD_LANDMARKS": 33, "FACE_LANDMARKS": 478, "POSE_LANDMARKS": 33}
HOLISTIC |= {"LEFT_HAND_LANDMARKS": 21}
INDEX = "path,spoken_language,signed_language,words,glosses\n"


def write_pose(
    path: Path,
    components: Mapping[str, int] = HOLISTIC,
    *,
    seed: int = 0,
    frames: int = 4,
    people: int = 1,
    size: tuple[int, int] = SIZE,
    channels: str = "XYZC",
    z: float = 0.0,
    unseen: Sequence[str] = (),
) -> np.ndarray:
    """Writes a file and returns its landmarks `[T, P, 3]`, x and y as fractions of the picture."""
    from pose_format import Pose, PoseHeader
    from pose_format.numpy import NumPyPoseBody
    from pose_format.pose_header import PoseHeaderComponent, PoseHeaderDimensions

    parts = [PoseHeaderComponent(name, [str(n) for n in range(count)], [], [], channels) for name, count in components.items()]
    num_points, depth = sum(components.values()), len(channels) - 1
    made_TPC = np.random.default_rng(seed).uniform(0.1, 0.9, (frames, num_points, 3)).astype(np.float32)
    made_TPC[..., 2] += z
    pixels = (made_TPC * np.array([*size, 1], np.float32))[:, None, :, :depth].repeat(people, axis=1)
    confidence = np.ones((frames, people, num_points), np.float32)
    start = 0
    for name, count in components.items():
        confidence[1:, :, start : start + count] = name not in unseen
        start += count
    header = PoseHeader(0.2, PoseHeaderDimensions(*size, 0), parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        Pose(header, NumPyPoseBody(25.0, pixels, confidence)).write(stream)
    return made_TPC


def part_of(made_TPC: np.ndarray, name: str, components: Mapping[str, int] = HOLISTIC) -> np.ndarray:
    """The landmarks of a component as a file of ours has them, `[3, T, points]`."""
    place = FILE_PARTS[COMPONENTS[name]]
    start = sum(list(components.values())[: list(components).index(name)])
    return made_TPC[:, start : start + place.stop - place.start].transpose(2, 0, 1)


@pytest.mark.parametrize("z", [0.0, 320.0])
def test_landmarks(tmp_path: Path, z: float) -> None:
    """Whatever their order, components become parts: fractions of the picture, depth around 0, NaN where nothing was seen."""
    made_TPC = write_pose(tmp_path / "a.pose", z=z, unseen=["LEFT_HAND_LANDMARKS"])
    feature_CTJ = read_clip(tmp_path / "a.pose")
    assert (feature_CTJ.dtype, feature_CTJ.shape) == (np.float32, (3, 4, 543))
    for name, part in COMPONENTS.items():
        expected = part_of(made_TPC, name)
        expected[2] -= z
        if name == "LEFT_HAND_LANDMARKS":
            expected[:, 1:] = np.nan
        np.testing.assert_allclose(feature_CTJ[:, :, FILE_PARTS[part]], expected, atol=1e-4)


def test_parts_that_were_not_saved(tmp_path: Path) -> None:
    """A part that the file lacks was not detected; a file without z has the depth 0."""
    made_TPC = write_pose(tmp_path / "a.pose", {"RIGHT_HAND_LANDMARKS": 21}, channels="XYC")
    feature_CTJ = read_clip(tmp_path / "a.pose")
    hand = FILE_PARTS["right_hand"]
    np.testing.assert_allclose(feature_CTJ[:2, :, hand], made_TPC.transpose(2, 0, 1)[:2], atol=1e-6)
    assert (feature_CTJ[2, :, hand] == 0).all()
    assert np.isnan(np.delete(feature_CTJ, np.r_[hand], axis=2)).all()


def test_files_that_are_rejected(tmp_path: Path) -> None:
    """Each is told for what it is."""
    path = tmp_path / "a.pose"
    wrong: list[tuple[dict[str, object], str, str]] = [
        ({"components": {"pose_keypoints_2d": 25, "face_keypoints_2d": 70}}, "another program", "pose_keypoints_2d, face"),
        ({"components": {"FACE_LANDMARKS": 128}}, "FACE_LANDMARKS has other points", "128 points: lacks 340"),
        ({"people": 2}, "does not show one person", "2 people"),
        ({"size": (0, 0)}, "how large the picture is", "0 x 0"),
        ({"unseen": list(HOLISTIC), "frames": 0}, "no frame", "[3, 0, 543]"),
    ]
    for arguments, what, got in wrong:
        write_pose(path, **arguments)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=what) as caught:
            read_clip(path)
        assert got in str(caught.value.got)
    write_pose(path)
    whole = path.read_bytes()
    for data in (b"", b"{}", whole[:200], whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"not a \.pose file, or is damaged"):
            read_clip(path)


def test_folders_of_signers_and_words(tmp_path: Path) -> None:
    """Signer and word are read from the folders; other files and hidden ones are ignored. Words can be chosen."""
    for name in (
        "anna/hello/1.pose",
        "anna/bye/1.pose",
        "anna/bye/2.POSE",
        "Žofie/hello/x.pose",
        ".hidden/x.pose",
        "anna/._x.pose",
    ):
        touch(tmp_path / "SRC" / name)
    (tmp_path / "SRC" / "notes.txt").write_text("recorded in May")
    plan = plan_import(tmp_path / "SRC")
    assert plan.words == ("bye", "hello")
    assert {signer: [(clip.name, clip.label) for clip in clips] for signer, clips in plan.clips_of.items()} == {
        "anna": [("bye__1", 0), ("bye__2", 0), ("hello__1", 1)],
        "Žofie": [("hello__x", 1)],
    }
    assert plan_import(tmp_path / "SRC", min_signers=2).words == ("hello",)
    assert list(plan_import(tmp_path / "SRC", words=["bye"]).clips_of) == ["anna"]
    for arguments, what in (({"words": ["hallo"]}, "no clip shows hallo"), ({"min_signers": 3}, "no word has 3 signers")):
        with pytest.raises(DataError, match=what):
            plan_import(tmp_path / "SRC", **arguments)  # type: ignore[arg-type]


def touch(*paths: Path) -> None:
    """Makes empty files: a plan does not read them."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


_WORDS = tuple(f"{signer}/{word}.pose" for signer in ("anna", "bob") for word in ("bye", "hello"))
_ARE_WORDS = ("anna bye bye__bye", "anna hello hello__hello", "bob bye bye__bye", "bob hello hello__hello")


@pytest.mark.parametrize(
    ("files", "options", "clips"),
    [
        (_WORDS, {}, _ARE_WORDS),
        (
            ("anna/bye.pose", "bob/bye.POSE", "__MACOSX/anna/bye.pose", "Logs/x.txt"),
            {},
            ("anna bye bye__bye", "bob bye bye__bye"),
        ),
        (("a/bye.pose", "b/hello.pose"), {"layout": "{signer}/{word}.pose"}, ("a bye bye__bye", "b hello hello__hello")),
        (("bye/1.pose", "bye/2.pose", "hi/1.pose"), {"signer": "me"}, ("me bye bye__1", "me bye bye__2", "me hi hi__1")),
        (("bye.pose", "hello.pose"), {"signer": "me"}, ("me bye bye__bye", "me hello hello__hello")),
        (("bye/ann_1.pose", "bye/ann_2.Pose"), {"layout": "{word}/{signer}_{clip}"}, ("ann bye bye__1", "ann bye bye__2")),
        (tuple(f"poses/{name}" for name in _WORDS), {"layout": "poses/{signer}/{word}.pose"}, _ARE_WORDS),
        (tuple(f"poses/{name}" for name in _WORDS), {}, "not clear what is a signer"),
        (("bye/01.pose", "bye/02.pose", "hi/01.pose"), {}, "hardly words: they differ by numbers only"),
        (("bye/1.pose", "hi/1.pose"), {}, "hardly words: each has a number"),
        (("bye/ann_1.pose", "bye/bob_1.pose", "hi/ann_1.pose", "hi/bob_1.pose"), {}, "hardly words: each has a number"),
        (("bye/a.pose", "hi/b.pose"), {}, "hardly words: each is in one folder only"),
        (("1.pose", "2.pose"), {"signer": "me"}, "hardly words: they differ by numbers only"),
        (("train/bye/1.pose", "test/bye/2.pose"), {}, "named like parts of a split"),
        ((*_WORDS, "anna/bye/1.pose"), {}, "at different levels of folders"),
        (("x.pose",), {}, "the wrong layout"),
        (
            ("poses/ann/bye/1.pose",),
            {},
            "levels too many\n(.*\n)*hint: (name a folder inside|--layout 'poses/{signer}/{word}/{clip}.pose')",
        ),
        (
            ("poses/bye/1.pose",),
            {"signer": "me"},
            "else (name a folder inside, such as .*/poses|--layout 'poses/{word}/{clip}.pose')",
        ),
        (_WORDS, {"signer": " "}, "name of a signer cannot be used .*\n  --> --signer"),
        (("bye/1.pose",), {"layout": "{word}/{frame}"}, "a .pose file is not a frame"),
        (("__MACOSX/anna/bye.pose", "bye.txt"), {}, "contains no .pose file"),
    ],
)
def test_signers_and_words(
    tmp_path: Path, files: Sequence[str], options: Mapping[str, Any], clips: Sequence[str] | str
) -> None:
    """They come from the paths, in a folder and in an archive; where the paths leave it open, the user says it."""
    touch(*(tmp_path / "SRC" / file for file in files))
    with zipfile.ZipFile(tmp_path / "SRC.zip", "w") as archive:
        for file in (*files, "../up/bye.pose"):
            archive.writestr(file, b"")
    for source in (tmp_path / "SRC", tmp_path / "SRC.zip"):
        with pytest.raises(DataError, match=clips) if isinstance(clips, str) else contextlib.nullcontext():
            plan = plan_import(source, **options)
            found = [f"{signer} {plan.words[clip.label]} {clip.name}" for signer, own in plan.clips_of.items() for clip in own]
            assert sorted(found) == list(clips)
            assert all(plan.exists(source / clip.file) for own in plan.clips_of.values() for clip in own)


def test_an_index(tmp_path: Path) -> None:
    """Its columns name signer and word; a recording that two signers claim stays with the first."""
    source, said = tmp_path / "SRC", list[str]()
    for name in ("1", "2", "3"):
        write_pose(source / "videos" / f"{name}.pose")
    rows = ["1.pose,en,ase,a,A", "2.pose,en,ase,b,B", "1.pose,fr,fsl,a,A", "3.pose,fr,fsl,b,B", "3.pose,it,fsl,b,B"]
    (source / "videos" / "index.csv").write_text(INDEX + "\n".join(rows))
    plan = plan_import(source, notify=said.append)
    files = {signer: [(clip.name, clip.file) for clip in clips] for signer, clips in plan.clips_of.items()}
    assert files == {"ase": [("A__1", "videos/1.pose"), ("B__2", "videos/2.pose")], "fsl": [("B__3", "videos/3.pose")]}
    assert said == ["left out 1 line of signer fsl, which list recordings of signer ase"]
    own = tmp_path / "own.csv"
    own.write_text("\ufeffsigner,word,path\nanna,hello,videos/2.pose\n", encoding="utf-8")
    assert plan_import(source, index=own).clips_of.keys() == {"anna"}
    own.write_bytes(own.read_bytes().replace(b"\n", b"\r"))  # lines as old spreadsheets end them
    assert plan_import(source, index=own).clips_of.keys() == {"anna"}
    for text in (
        "path;Word;signer\nvideos\\2.pose;hello;anna \n;;\n",
        "path\tword\tsigner\n/gone/lexicon/videos/2.pose\thello\tanna\n",
        "path,word,signer,\n../lexicon/videos/2.pose,hello,anna,\n",
    ):
        own.write_text(text)
        ((signer, clips),) = plan_import(source, index=own).clips_of.items()
        assert (signer, [(clip.name, clip.file) for clip in clips]) == ("anna", [("hello__2", "videos/2.pose")])
    own.write_text("path,word\nvideos/2.pose,hello\n")
    assert plan_import(source, index=own, signer="me").clips_of.keys() == {"me"}
    assert plan_import(source, layout="{signer}/{word}").clips_of.keys() == {"videos"}  # without the index
    with pytest.raises(DataError, match="the index itself names the signers"):
        plan_import(source, signer="me")
    for text, what in (
        ("path,word\nvideos/1.pose,a\n", "does not tell the signer"),
        ("path,word,signer\n\nvideos/1.pose,,b\n", "a line of the list has no word\n  --> .*: line 3"),
        ("path,word,signer\nvideos/1.pose,a,nan\n", "a line of the list has no signer"),
        ("path,word,signer\nvideos/1.pose,a\n", "a line of the list is cut short"),
        ("path,word,signer\nvideos/1.pose,a/b,c\n", "cannot be used as a file name"),
        ("path,word,signer\n", "no .pose file"),
        ("path,word,signer\nx/1.pose,a,b\ny/1.pose,a,b\n", "the same name"),
    ):
        own.write_text(text)
        with pytest.raises(DataError, match=what):
            plan_import(source, index=own)


def test_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wheel is read without unpacking it, broken clips are named or skipped, and the result is a data set."""
    made = {name: write_pose(tmp_path / f"{name}.pose", seed=n) for n, name in enumerate("abcd")}
    archive, folder = tmp_path / "lexicon.whl", tmp_path / "letters"
    with zipfile.ZipFile(archive, "w") as wheel:
        for name in "abc":
            wheel.write(tmp_path / f"{name}.pose", f"assets/{name}.pose")
        wheel.writestr("assets/d.pose", b"broken")
        rows = ["a.pose,en,ase,A,A", "b.pose,en,asq,A,A", "c.pose,en,ase,B,B", "d.pose,en,asq,B,B", "e.pose,en,asq,A,A"]
        wheel.writestr("assets/index.csv", INDEX + "\n".join(rows))
    command = ["import-pose", str(archive), str(folder), "--workers", "1"]
    assert execute(command) == 2
    assert "files are missing: 1 of 5" in capsys.readouterr().err
    assert execute([*command, "--skip-broken"]) == 0
    err = capsys.readouterr().err
    assert (
        "skipped 2 broken clips:\n  assets/e.pose: there is no such file\n  assets/d.pose: the file is not a .pose file" in err
    )
    assert "3 clips of 2 words by 2 signers" in err
    assert find_problems(folder) == []
    assert read_words(folder) == ("A", "B")
    found = {(file.signer, clip.name): clip.feature_CTJ for file in signer_files(folder) for clip in read_clips(file, 2)}
    assert found.keys() == {("ase", "A__a"), ("ase", "B__c"), ("asq", "A__b")}
    hand = FILE_PARTS["right_hand"]
    np.testing.assert_allclose(found["asq", "A__b"][:, :, hand], part_of(made["b"], "RIGHT_HAND_LANDMARKS"), atol=1e-6)
    assert execute([*command, "--skip-broken", "--words", "A", "--json"]) == 2
    assert "the folder contains another import" in capsys.readouterr().err
    assert execute(["import-pose", str(archive), str(tmp_path / "only"), "--words", "B", "--min-signers", "2", "--json"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["broken"] == 1


def test_sources_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that is not there, is no archive, or is empty is told; so is that pose-format is not installed."""
    (tmp_path / "x.zip").write_bytes(b"PK")
    (tmp_path / "empty").mkdir()
    for name, what in (("none", "no such folder or archive"), ("x.zip", "source cannot be read"), ("empty", "no .pose file")):
        with pytest.raises(DataError, match=what):
            plan_import(tmp_path / name)
    monkeypatch.setitem(sys.modules, "pose_format", None)
    with pytest.raises(DataError, match="pose-format is not installed"):
        plan_import(tmp_path / "empty")
