"""Synthetic data sets: reproducible from a seed, similar to real data, written atomically."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_utils.checking.problems import find_problems
from data_utils.checking.summary import summarize
from data_utils.cli import execute
from data_utils.errors import DataError
from data_utils.folder import signer_files
from data_utils.hdf5 import read_clips
from data_utils.landmarks import FILE_PARTS
from data_utils.prepared import open_data
from data_utils.splits import split_signers
from data_utils.synthetic import synthetic
from data_utils.synthetic.skeleton import Body, Posture, landmarks
from data_utils.synthetic.synthetic import MAX_SIGNS, synthesize
from data_utils.words import read_words

SMALL = {"clips": 30, "signs": 5, "signers": 3}


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set large enough for shares and quartiles: 240 clips of 12 signers."""
    folder = tmp_path_factory.mktemp("synthetic") / "many"
    synthesize(folder, clips=240, signs=10, signers=12, seed=3)
    return folder


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    """Two runs write equal files; another seed changes every signer's file."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        synthesize(tmp_path / name, **SMALL, seed=seed)
    first, again, other = (digests(tmp_path / name) for name in "abc")
    assert sorted(first) == ["9001.hdf5", "9002.hdf5", "9003.hdf5", "sign_to_prediction_index_map.json"]
    assert first == again
    assert all(first[name] != other[name] for name in first if name.endswith(".hdf5"))


def test_a_signer_does_not_depend_on_the_others(tmp_path: Path) -> None:
    """With equally many clips each, a data set with more signers starts with the same files."""
    synthesize(tmp_path / "three", clips=30, signs=5, signers=3)
    synthesize(tmp_path / "five", clips=50, signs=5, signers=5)
    three, five = digests(tmp_path / "three"), digests(tmp_path / "five")
    assert all(five[name] == three[name] for name in three)


def test_it_is_a_valid_data_set(many: Path) -> None:
    """The data set has no problems, has balanced words, and can be split with every word in training."""
    assert find_problems(many) == []
    data = open_data(many)
    labels = [label for own in data.labels_of.values() for label in own]
    assert np.bincount(labels).tolist() == [24] * 10
    assert {len(own) for own in data.labels_of.values()} == {20}
    split = split_signers(data.words_of)
    assert split.train
    assert split.validation
    assert split.test


def test_numbers_resemble_real_ones(many: Path) -> None:
    """Lengths, missing parts and body sizes are close to those of real recordings."""
    summary = summarize(many)
    frames, missing = summary["frames"], summary["missing"]
    assert frames["smallest"] >= 2
    assert frames["largest"] <= 404
    assert 16 <= frames["median"] <= 30
    assert 26 <= frames["mean"] <= 48
    assert missing["pose"] == 0
    assert missing["face"] < 0.03
    assert 0.35 <= missing["left_hand"] <= 0.80
    assert 0.35 <= missing["right_hand"] <= 0.80
    shoulders, face_heights, noses = [], [], []
    for file in signer_files(many):
        for clip in read_clips(file, 10):
            x, y = clip.feature_CTJ[:2]
            shoulders.append(np.abs(x[:, 500] - x[:, 501]).mean())
            noses.append((x[:, 489].mean(), y[:, 489].mean()))
            face_heights.extend(np.ptp(y[~np.isnan(y[:, 0]), :468], axis=1))
    assert 0.30 <= np.median(shoulders) <= 0.50
    assert 0.18 <= np.median(face_heights) <= 0.42
    assert 0.40 <= np.median(noses, axis=0)[0] <= 0.65
    assert 0.30 <= np.median(noses, axis=0)[1] <= 0.65


def test_whole_parts_go_missing_in_runs(many: Path) -> None:
    """A part is missing with all its points or none, mostly for several consecutive frames."""
    runs = []
    never = 0
    for file in signer_files(many):
        for clip in read_clips(file, 10):
            lost_TJ = np.isnan(clip.feature_CTJ).any(axis=0)
            for part in ("face", "left_hand", "right_hand"):
                lost = lost_TJ[:, FILE_PARTS[part]]
                assert (lost.all(axis=1) == lost.any(axis=1)).all()
            lost_T = lost_TJ[:, FILE_PARTS["left_hand"].start]
            never += bool(lost_T.all())
            runs.append((lost_T.sum(), np.count_nonzero(np.diff(lost_T.astype(int)) == 1) + lost_T[0]))
    frames, starts = np.sum(runs, axis=0)
    assert frames / starts > 4
    assert never > 24  # a tenth: the hand that a one-handed sign leaves down


def test_coordinates_lie_on_a_grid(many: Path) -> None:
    """Every coordinate is a multiple of 2^-13, so that sums of float32 are exact."""
    clip = next(read_clips(signer_files(many)[0], 10))
    scaled = clip.feature_CTJ * 8192
    assert (scaled[~np.isnan(scaled)] % 1 == 0).all()


def test_both_hands_are_mirror_images() -> None:
    """The same posture on both sides gives a left side that mirrors the right one."""
    frames = 2
    both = np.ones((frames, 2, 1))
    posture = Posture(
        wrists_TS3=both * np.array([-0.4, 0.3, -0.8]),
        curls_TS5=both * np.array([0.1, 0.2, 0.3, 0.4, 0.5]),
        angles_TS3=both * np.array([0.3, -0.2, 0.1]),
        mouth_T2=np.zeros((frames, 2)),
        head_T3=np.zeros((frames, 3)),
    )
    points = landmarks(Body(), posture)
    flip = np.array([-1.0, 1.0, 1.0])
    np.testing.assert_allclose(points[:, FILE_PARTS["left_hand"]], points[:, FILE_PARTS["right_hand"]] * flip, atol=1e-12)
    pose = points[:, FILE_PARTS["pose"]]
    np.testing.assert_allclose(pose[:, 11::2], pose[:, 12::2] * flip, atol=1e-12)
    for bone, length in (((12, 14), Body.arm), ((14, 16), 0.88 * Body.arm)):
        np.testing.assert_allclose(np.linalg.norm(pose[:, bone[0]] - pose[:, bone[1]], axis=1), length, atol=1e-9)


def test_words_are_words() -> None:
    """All 250 words differ, and the first ten are the article's."""
    words = synthetic._words(MAX_SIGNS)
    assert len(set(words)) == len(words) == MAX_SIGNS
    assert words[:3] == ["listen", "look", "shhh"]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"signs": 1}, "`signs` is out of range"),
        ({"signs": 251, "clips": 1000}, "`signs` is out of range"),
        ({"signers": 0}, "`signers` is out of range"),
        ({"clips": 0}, "`clips` is out of range"),
        ({"seed": -1}, "`seed` is out of range"),
        ({"clips": 29, "signs": 10}, "too few clips"),
        ({"clips": 30, "signs": 2, "signers": 16}, "too few clips"),
    ],
)
def test_numbers_out_of_range_are_errors(tmp_path: Path, sizes: dict[str, int], message: str) -> None:
    """Sizes out of range, or too few clips for them, are errors, and nothing is written."""
    with pytest.raises(DataError, match=message):
        synthesize(tmp_path / "data", **sizes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("signs", "signers"), [(2, 1), (20, 2), (20, 7), (30, 45)])
def test_the_fewest_clips_still_split(tmp_path: Path, signs: int, signers: int) -> None:
    """With the minimum number of clips, an automatic split still keeps every word in training."""
    labels = {
        str(signer): frozenset(synthetic._labels(0, signer, max(3 * signs, 2 * signers), signs, signers).tolist())
        for signer in range(signers)
    }
    assert frozenset().union(*labels.values()) == frozenset(range(signs))
    if signers > 1:
        assert split_signers(labels).train


def test_a_folder_that_is_not_empty_is_kept(tmp_path: Path) -> None:
    """A folder that is not empty is an error and is kept; an empty one is filled."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="is not empty"):
        synthesize(folder, **SMALL)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    (folder / "thesis.txt").unlink()
    synthesize(folder, **SMALL)
    assert find_problems(folder) == []
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_current_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder cannot be replaced; a folder inside it can."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="the current folder cannot be replaced"):
        synthesize(Path(), **SMALL)
    synthesize(Path("data"), **SMALL)
    assert find_problems(tmp_path / "data") == []


def test_a_stopped_run_leaves_nothing(tmp_path: Path) -> None:
    """A run that is stopped midway leaves neither a partial data set nor temporary files."""

    def stop(done: int, total: int) -> None:
        assert total == 30
        if done == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "data", **SMALL, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_the_command_creates_a_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`synth` writes the requested data set and prints a summary on stderr alone."""
    assert (
        execute(["synth", str(tmp_path / "new" / "data"), "--clips", "12", "--signs", "2", "--signers", "2", "--seed", "4"])
        == 0
    )
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"12 clips of 2 words by 2 signers in {tmp_path / 'new' / 'data'}\n"
    assert read_words(tmp_path / "new" / "data") == ("listen", "look")
    assert execute(["synth", str(tmp_path / "new" / "data")]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_slow_commands_show_progress_on_a_pipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no terminal, commands that take longer than a moment print how far they are."""
    monkeypatch.setattr("data_utils.commands.progress._LOG_AFTER_S", 0.0)
    folder = str(tmp_path / "data")
    for words, line in (
        (["synth", folder, "--clips", "12", "--signs", "2", "--signers", "2"], "5 of 12 clips"),
        (["info", folder], "6 of 12 clips read"),
        (["check", folder], "6 of 12 clips read"),
    ):
        assert execute(words) == 0
        assert line in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_stop_it_cleanly(tmp_path: Path, number: int, code: int) -> None:
    """Ctrl-C and SIGTERM end it with their exit codes, without a traceback, and leave nothing."""
    process = subprocess.Popen(
        [sys.executable, "-m", "data_utils", "synth", str(tmp_path / "data"), "--clips", "99999"],
        cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(600):
        if list(tmp_path.glob(".data.part-*/.9001.hdf5.*")):  # it is at work
            break
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_help_needs_no_heavy_import() -> None:
    """`--help` does not import NumPy or HDF5."""
    look = "import sys, data_utils.cli as m\ntry: m.execute(['--help'])\nexcept SystemExit as e: assert e.code == 0\n"
    look += "assert not {'numpy', 'h5py', 'torch'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", look], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "check" in done.stdout
