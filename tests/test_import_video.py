"""Importing videos: what is read, what goes wrong with files and processes, and the environment of MediaPipe."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from video_environment import make_environment, opened, write_video

from data_utils.cli import execute
from data_utils.errors import DataError, ResourceError
from data_utils.folder import signer_files
from data_utils.hdf5 import read_clips
from data_utils.importing import video_setup
from data_utils.importing.record import SourceClip
from data_utils.importing.video import VideoExtraction, plan_import
from data_utils.importing.video_process import VideoReader
from data_utils.inputs import check_inputs, read_inputs
from data_utils.landmarks import FILE_PARTS
from data_utils.words import read_words

MEDIAPIPE = video_setup.interpreter()
"""Of the user's own environment, if there is one."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for MediaPipe is a shell script")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENED", str(tmp_path / "opened"))
    return tmp_path / "cache"


@pytest.fixture
def python(cache: Path) -> Path:
    """The Python of a stand-in for MediaPipe's environment."""
    make_environment(video_setup.environment())
    return video_setup.interpreter()


def test_import(python: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Broken videos cost only themselves; finished ones are not read again; what the libraries print is not shown."""
    source, target = tmp_path / "my videos", tmp_path / "set"
    write_video(source / "anna" / "hello" / "erste Aufnahme.mp4", 3)
    write_video(source / "anna" / "bye" / "2.MOV", 4)
    write_video(source / "anna" / "hello" / "._x.mp4")
    cut = source / "anna" / "hello" / "cut.mp4"
    write_video(cut, 3, declared=9, complaint="[mov,mp4 @ 0x5f] stream 0, offset 0x3: partial file\n")
    (source / "anna" / "hello" / "text.avi").write_text("no video")
    write_video(source / "Žofie" / "あした" / "1.webm", 2, declared=4)  # trimmed: without a complaint
    import_it = ["import-video", str(source), str(target)]
    assert execute(import_it) == 1
    shown = capfd.readouterr()
    assert (
        "anna/hello/cut.mp4: the video is damaged or cut short: 3 of 9 frames; stream 0, offset 0x3: partial file" in shown.err
    )
    assert "anna/hello/text.avi: the file is not a video, has no picture or is damaged: moov atom not found" in shown.err
    assert "W0000" not in shown.err
    assert shown.out == ""
    write_video(cut, 6)
    assert execute([*import_it, "--skip-broken"]) == 0
    assert [line.split()[1] for line in opened()].count("2.MOV") == 1
    assert list((target / ".videos").glob("*"))  # of anna, who lacks a clip
    (source / "anna" / "hello" / "text.avi").unlink()
    write_video(source / "anna" / "hello" / "text.avi", 1)
    assert execute(import_it) == 0
    assert not (target / ".videos").exists()
    assert read_words(target) == ("bye", "hello", "あした")
    found = {(file.signer, clip.name): clip.feature_CTJ for file in signer_files(target) for clip in read_clips(file, 3)}
    frames = {name: feature_CTJ.shape[1] for name, feature_CTJ in found.items()}
    assert frames == {
        ("anna", "bye__2"): 4,
        ("anna", "hello__cut"): 6,
        ("anna", "hello__erste Aufnahme"): 3,
        ("anna", "hello__text"): 1,
        ("Žofie", "あした__1"): 2,
    }
    feature_CTJ = found["anna", "hello__erste Aufnahme"]
    assert np.allclose(feature_CTJ[0, :, FILE_PARTS["pose"]], [[0.01], [0.02], [0.03]])  # held upright, in the order of time
    assert np.allclose(feature_CTJ[1, 0, FILE_PARTS["left_hand"]], np.arange(21) / 1000)
    assert np.isnan(feature_CTJ[:, 1, FILE_PARTS["left_hand"]]).all()
    assert np.isnan(feature_CTJ[:, :, FILE_PARTS["right_hand"]]).all()


@pytest.mark.parametrize(
    ("files", "options", "clips"),
    [
        (("a/bye.mp4", "a/hello.mp4", "b/hello.MOV"), {}, ("a bye bye__0", "a hello hello__0", "b hello hello__0")),
        (("bye/1.mp4", "hello/1.mp4"), {"signer": "ann"}, ("ann bye bye__1", "ann hello hello__1")),
        (("bye.mp4", "hello.avi"), {"signer": "ann"}, ("ann bye bye__0", "ann hello hello__0")),
        (("bye/ann_1.mp4", "bye/ann_2.webm"), {"layout": "{word}/{signer}_{clip}"}, ("ann bye bye__1", "ann bye bye__2")),
        (("a/1.mp4", "b/1.mp4"), {"layout": "{signer}/{word}.mp4"}, ("a 1 1__0", "b 1 1__0")),
        (("bye/take1.mp4", "bye/take2.mp4", "hello/take1.mp4"), {}, "hardly words: they differ by numbers only"),
        (("1.mp4", "2.mp4"), {"signer": "ann"}, "hardly words: they differ by numbers only"),
        (("bye/x.mp4", "hello/y.mp4"), {}, "hardly words: each is in one folder only"),
        (("bye.mp4",), {}, "the levels of signers and words are missing"),
        (("a/hello/1.mp4", "a/bye.mp4", "a/no.mp4"), {"signer": "ann"}, "level"),
        (("hello/photo.jpg",), {}, "contains no video"),
        (("hello/1.mp4",), {"layout": "{word}/{frame}.mp4"}, "a video is not a frame"),
        (("a/bye.mp4", "b/bye.mp4"), {"mirrored": ("anna",)}, "there is no signer `anna`"),
    ],
)
def test_layouts(
    python: Path, tmp_path: Path, files: Sequence[str], options: Mapping[str, Any], clips: Sequence[str] | str
) -> None:
    """Signers and words come from the paths; where the paths leave it open, the user says it."""
    for file in files:
        write_video(tmp_path / "src" / file)
    with pytest.raises(DataError, match=clips) if isinstance(clips, str) else contextlib.nullcontext():
        plan = plan_import(tmp_path / "src", tmp_path / "set", **options)
        found = [f"{signer} {plan.words[clip.label]} {clip.name}" for signer, own in plan.clips_of.items() for clip in own]
        assert sorted(found) == list(clips)


def extraction_of(folder: Path) -> tuple[VideoExtraction, list[SourceClip]]:
    clips = [SourceClip(path.stem, 0, path.name) for path in sorted(folder.glob("*.mp4"))]
    return VideoExtraction(folder, folder.parent / "store", frozenset({"c.mp4"})), clips


def test_a_process_that_dies(python: Path, tmp_path: Path) -> None:
    """A video that kills its process is broken; one at which it died once is read."""
    for name, crash in (("a", None), ("b", "always"), ("c", "once"), ("d", None)):
        write_video(tmp_path / "src" / f"{name}.mp4", **({"crash": crash} if crash else {}))
    extraction, clips = extraction_of(tmp_path / "src")
    extraction.run(clips, 1, lambda done, before: None)
    kept = {clip.name: extraction.files_of(tmp_path / "src" / clip.file)[0].exists() for clip in clips}
    assert kept == {"a": True, "b": False, "c": True, "d": True}
    with pytest.raises(DataError, match="killed by SIGKILL"), contextlib.closing(VideoReader(python)) as reader:
        reader.read(tmp_path / "src" / "b.mp4")


def test_stopped_and_continued(python: Path, tmp_path: Path) -> None:
    """Ends its processes at once, and later reads the unfinished videos only."""
    for name in "abcd":
        write_video(tmp_path / "src" / f"{name}.mp4", wait=name in "cd")
    extraction, clips = extraction_of(tmp_path / "src")

    def stop(done: int, before: int) -> None:
        if done == 2 and len(opened()) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extraction.run(clips, 2, stop)
    assert not [child for child in psutil.Process().children() if "video_worker" in " ".join(child.cmdline())]
    for name in "cd":
        write_video(tmp_path / "src" / f"{name}.mp4")
    counts: list[tuple[int, int]] = []
    extraction.run(clips, 2, lambda done, before: counts.append((done, before)))
    assert counts[-1] == (4, 2)
    assert sorted(line.split()[1] for line in opened()) == ["a.mp4", "b.mp4", "c.mp4", "c.mp4", "d.mp4", "d.mp4"]
    first = [np.load(extraction.files_of(tmp_path / "src" / clip.file)[0])[0, 0, 0].round(2) for clip in clips]
    assert np.allclose(first, [0.01, 0.01, 0.99, 0.01])  # the third picture is mirrored back
    extraction.clean([])
    assert not extraction.store.exists()


def test_a_process_ends_with_its_parent(python: Path, tmp_path: Path) -> None:
    """Also while it reads a video."""
    write_video(tmp_path / "a.mp4", wait=True)
    program = Path(video_setup.__file__).with_name("video_worker.py")
    with (tmp_path / "log").open("w+b") as log:
        process = subprocess.Popen([python, "-I", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        process.communicate(b'{"video": "%s", "mirrored": false, "max_frames": 9}\n' % bytes(tmp_path / "a.mp4"), timeout=60)
    assert process.returncode == 0


def test_predict_inputs(python: Path, tmp_path: Path) -> None:
    """Videos share one process, and one that cannot be read costs only itself."""
    write_video(tmp_path / "a.mp4", 2)
    (tmp_path / "b.MP4").write_text("no video")
    write_video(tmp_path / "long.mkv", 10_001)
    write_video(tmp_path / "picture.mp4", 1, declared=-9e18)
    write_video(tmp_path / "c.gif", 3)
    paths = [tmp_path / name for name in ("a.mp4", "b.MP4", "long.mkv", "picture.mp4", "c.gif")]
    check_inputs(paths)
    a, b, long, picture, c = [clip.landmarks for clip in read_inputs(paths)]
    assert isinstance(a, np.ndarray)
    assert isinstance(c, np.ndarray)
    assert (a.shape, c.shape) == ((3, 2, 543), (3, 3, 543))
    assert [one.what for one in (b, long, picture) if isinstance(one, DataError)] == [
        "the file is not a video, has no picture or is damaged",
        "the video is far too long for one sign",
        "the file is a picture, not a video",
    ]
    assert len({line.split()[0] for line in opened()}) == 1


def test_without_environment(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the command that makes it; one that does not start says why."""
    write_video(tmp_path / "src" / "anna" / "hello" / "a.mp4")
    command = ["import-video", str(tmp_path / "src"), str(tmp_path / "set")]
    assert execute(command) == 2
    assert "hint: `islr-data setup-video` installs it" in capsys.readouterr().err
    with pytest.raises(DataError, match="not set up"):
        check_inputs([tmp_path / "src" / "anna" / "hello" / "a.mp4"])
    make_environment(video_setup.environment(), works=False)
    assert execute(command) == 3
    assert "No module named 'mediapipe'" in capsys.readouterr().err


FAKE_PYTHON = """\
#!/bin/sh
case "$*" in
*version_info*) echo '[3, {minor}]' ;;
*venv*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
*"pip install"*) {pip} ;;
*video_worker.py) echo '{{"ready": true}}'; cat > /dev/null ;;
esac
"""
"""A Python that installs nothing, but does as if."""


def fake_python(folder: Path, pip: str, minor: int = 12) -> str:
    path = folder / "python"
    path.write_text(FAKE_PYTHON.format(pip=pip, minor=minor))
    path.chmod(0o755)
    return str(path)


def setup(python: str) -> int:
    return execute(["setup-video", "--python", python])


def test_setup(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is there as a whole or not at all, says what it is, and can be removed."""
    assert setup(fake_python(tmp_path, "echo 'ERROR: No matching distribution found'; exit 1")) == 2
    shown = capsys.readouterr().err
    assert str(video_setup.environment()) in shown
    assert "got: ERROR: No matching distribution found\n" in shown
    assert setup(fake_python(tmp_path, "true", minor=13)) == 2
    assert "expected: Python 3.9 to 3.12" in capsys.readouterr().err
    assert [path.suffix for path in (cache / "islr-search").iterdir()] == [".lock"]
    half = video_setup.environment().with_name(f"{video_setup.environment().name}.killed.part")
    half.mkdir()
    assert setup(fake_python(tmp_path, "true")) == 0
    assert not half.exists()
    assert video_setup.interpreter().exists()
    assert execute(["setup-video"]) == 0
    assert "nothing to do" in capsys.readouterr().err
    with video_setup._locked(), pytest.raises(ResourceError, match="installed or removed"):
        video_setup.remove()
    assert execute(["setup-video", "--remove"]) == 0
    assert not video_setup.environment().exists()


def test_another_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this Python is too new, one in the path is taken that can be started."""
    monkeypatch.setattr(video_setup, "_NEWEST", (3, 10))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "python3.10").write_text("#!/bin/sh\necho 'pyenv: python3.10: command not found' >&2; exit 127\n")
    (tmp_path / "python3.10").chmod(0o755)
    older = fake_python(tmp_path, "true", minor=9)
    Path(older).rename(tmp_path / "python3.9")
    assert video_setup.suitable_python(None) == str(tmp_path / "python3.9")
    (tmp_path / "python3.9").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(DataError, match="no other in the path"):
        video_setup.suitable_python(None)


def test_setup_interrupted(cache: Path, tmp_path: Path) -> None:
    """The installation is ended, and nothing of it is left."""
    python = fake_python(tmp_path, f"touch {tmp_path}/installing; exec sleep 60")

    def stop() -> None:
        if (tmp_path / "installing").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video_setup.set_up(python, stop)
    assert [path.suffix for path in (cache / "islr-search").iterdir()] == [".lock"]


@pytest.mark.skipif(not MEDIAPIPE.exists(), reason="MediaPipe is not set up: islr-data setup-video")
def test_real_mediapipe(tmp_path: Path) -> None:
    """A drawn person raises the own left hand, upright and as a phone stores it; a picture without a person is told."""
    draw = [MEDIAPIPE, "-I", Path(__file__).with_name("drawn_signer.py")]
    for name, options in (("upright.mp4", []), ("turned.mp4", ["turned"])):
        subprocess.run([*draw, tmp_path / name, *options], check=True)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "upright.mp4").read_bytes()[:5000])
    with contextlib.closing(VideoReader(MEDIAPIPE)) as reader:
        upright_CTJ, turned_CTJ = (reader.read(tmp_path / name) for name in ("upright.mp4", "turned.mp4"))
        with pytest.raises(DataError, match="damaged"):
            reader.read(tmp_path / "cut.mp4")
    assert upright_CTJ.shape == (3, 8, 543)
    hand, arm = upright_CTJ[:2, :, FILE_PARTS["left_hand"].start], upright_CTJ[:2, :, FILE_PARTS["pose"].start + 15]
    assert np.abs(hand - arm).max() < 0.05
    assert (hand[0] > 0.6).all()  # the own left hand is on the right of the picture
    assert (np.diff(hand[1]) < 0).all()  # and rises
    assert np.isnan(upright_CTJ[:, :, FILE_PARTS["right_hand"]]).all()
    assert np.nanmax(np.abs(upright_CTJ - turned_CTJ)[:2, :, FILE_PARTS["face"]]) < 0.05
