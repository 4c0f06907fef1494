"""`check` and `info`: unusual data causes one warning per kind, normal data causes none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from launch import ROOT

from data_utils.checking.summary import summarize
from data_utils.cli import execute
from data_utils.folder import SignerFile
from data_utils.hdf5 import Clip, read_clips, write_signer
from data_utils.landmarks import FILE_PARTS
from data_utils.prepared import fingerprint, open_data
from data_utils.synthetic.synthetic import synthesize
from data_utils.words import read_words, write_words

SHARED = ROOT.parent / "shared" / "data"


def clips_of(folder: Path, signer: str) -> list[Clip]:
    """A signer's clips."""
    return list(read_clips(SignerFile(folder / f"{signer}.hdf5", signer, False), len(read_words(folder))))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set without warnings. Read-only."""
    folder = tmp_path_factory.mktemp("sound") / "data"
    synthesize(folder, clips=48, signs=3, signers=4, seed=4)
    return folder


@pytest.fixture
def data(sound: Path, tmp_path: Path) -> Path:
    """A copy of the data set without warnings."""
    return Path(shutil.copytree(sound, tmp_path / "data"))


def changed(feature: Callable[[np.ndarray], np.ndarray], count: int = 2) -> Callable[[Path], None]:
    """Changes the landmarks of some clips of the first signer."""

    def act(folder: Path) -> None:
        clips = clips_of(folder, "9001")
        few = [replace(clip, feature_CTJ=feature(clip.feature_CTJ.copy())) for clip in clips[:count]]
        write_signer(folder / "9001.hdf5", [*few, *clips[count:]])

    return act


def part(name: str, value: float, frame: slice = slice(2)) -> Callable[[np.ndarray], np.ndarray]:
    """Moves a part in some frames."""

    def act(feature_CTJ: np.ndarray) -> np.ndarray:
        feature_CTJ[:2, frame, FILE_PARTS[name]] = value
        return feature_CTJ

    return act


def one_point_less(feature_CTJ: np.ndarray) -> np.ndarray:
    """Removes one point of the pose."""
    feature_CTJ[:, 0, 500] = np.nan
    return feature_CTJ


def deep(feature_CTJ: np.ndarray) -> np.ndarray:
    """Gives the face a depth in pixels."""
    feature_CTJ[2, :, FILE_PARTS["face"]] = 80.0
    return feature_CTJ


def without(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Removes a part from all frames."""

    def act(feature_CTJ: np.ndarray) -> np.ndarray:
        feature_CTJ[:, :, FILE_PARTS[name]] = np.nan
        return feature_CTJ

    return act


def copied(source: str, target: str, label: int | None = None) -> Callable[[Path], None]:
    """Copies a clip of one signer to another signer, or to another name."""

    def act(folder: Path) -> None:
        first = clips_of(folder, source)[0]
        extra = Clip("copy", first.feature_CTJ, first.label if label is None else (first.label + label) % 3)
        write_signer(folder / f"{target}.hdf5", [*clips_of(folder, target), extra])

    return act


def only_word(label: int, keep: int) -> Callable[[Path], None]:
    """Keeps only some clips of a word, all by the first signer."""

    def act(folder: Path) -> None:
        for path in sorted(folder.glob("*.hdf5")):
            clips = clips_of(folder, path.stem)
            mine = [clip for clip in clips if clip.label == label][: keep if path.stem == "9001" else 0]
            write_signer(path, [*(clip for clip in clips if clip.label != label), *mine])

    return act


def renamed(name: str, to: str) -> Callable[[Path], None]:
    """Moves a file within the folder."""

    def act(folder: Path) -> None:
        (folder / to).parent.mkdir(exist_ok=True)
        (folder / name).rename(folder / to)

    return act


def words(*names: str) -> Callable[[Path], None]:
    """Renames the words."""
    return lambda folder: write_words(folder, names)


ALIKE = "words are empty, or differ only by Unicode form, case or spaces"

UNUSUAL: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "leak": (
        copied("9001", "9002"),
        "the same clips under 2 signers: training on one leaks into the evaluation of the other",
        "9001, 9002",
    ),
    "twice": (copied("9001", "9001"), "the same clips more than once", "9001"),
    "two words": (copied("9001", "9001", label=1), "the same clip with different words", "9001.hdf5"),
    "pixels": (changed(lambda f: f * np.float32(480)), "coordinates look like pixels", "9001"),
    "depth": (changed(deep), "z is far larger than x and y", "9001"),
    "outside": (changed(lambda f: f + np.float32(2), count=5), "hands or face are far outside the picture", "9001"),
    "upside down": (
        changed(lambda f: np.stack([f[0], 1 - f[1], f[2]])),
        "the nose is below the shoulders",
        "9001",
    ),
    "zeros": (changed(part("right_hand", 0.0)), "parts are at exactly 0", "9001"),
    "partly": (changed(one_point_less), "single points of a part are missing", "9001"),
    "still": (changed(lambda f: np.repeat(f[:, :1], 5, axis=1)), "all frames are the same", "9001"),
    "one frame": (changed(lambda f: f[:, :1]), "clips of a single frame", "9001"),
    "long": (changed(lambda f: np.resize(f, (3, 500, 543))), "clips of more than 450 frames", "9001"),
    "no hand": (
        changed(without("left_hand"), count=99),
        "only one hand of 1 signer is ever detected",
        "no left hand: 9001 (12 clips)",
    ),
    "no face": (changed(without("face"), count=99), "the face of 1 signer is never detected", "9001 (12 clips)"),
    "unread": (renamed("9002.hdf5", "9002.hdf5.bak"), "1 file in the data folder is not read", ""),
    "deeper": (renamed("9002.hdf5", "more/9002.hdf5"), "1 file in the data folder is not read", ""),
    "alike": (words("Hello", "hello ", "look"), ALIKE, "the dictionary"),
    "forms": (words("カ\u3099", "ガ", "look"), ALIKE, "the dictionary"),
    "empty": (words("", "hello", "look"), ALIKE, "the dictionary"),
    "one signer": (only_word(1, 99), "words of one signer only", "the dictionary"),
    "few clips": (only_word(1, 2), "words with fewer than 5 clips", "the dictionary"),
}


def warnings_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The warnings of `check --json`."""
    assert execute(["check", "--json", str(folder)]) == 0
    *found, summary = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert summary == {"schema": 1, "kind": "summary", "sound": True, "problems": 0, "warnings": len(found)}
    assert {one["kind"] for one in found} <= {"warning"}
    return found


def test_no_warnings(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A synthetic data set has no warnings, and both commands say so."""
    assert warnings_of(data, capsys) == []
    assert execute(["check", str(data)]) == 0
    assert capsys.readouterr().out == "no problems: 48 clips of 3 words by 4 signers\n"
    assert execute(["info", str(data)]) == 0
    assert capsys.readouterr().out.endswith("no warnings\n")


@pytest.mark.parametrize("name", UNUSUAL)
def test_warnings(name: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kind of unusual data gives one warning that names the place, and no problem."""
    change, what, where = UNUSUAL[name]
    change(data)
    found = warnings_of(data, capsys)
    mine = [one for one in found if one["what"] == what]
    assert len(mine) == 1
    assert mine[0]["where"].startswith(where)
    assert mine[0]["hint"]
    expected = {"one signer": 3, "few clips": 3, "two words": 2}.get(name, 1)  # they bring others along
    assert len(found) == expected, [one["what"] for one in found]
    assert execute(["info", str(data)]) == 0
    assert f"\nwarning: {what}\n  --> {where}" in capsys.readouterr().out


def test_legs_may_be_left_out(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the last eight points of the pose, which the model does not read, there is no warning; with one more there is."""

    def without_legs(feature_CTJ: np.ndarray) -> np.ndarray:
        feature_CTJ[:, :, 514:522] = np.nan
        return feature_CTJ

    changed(without_legs, count=99)(data)
    assert warnings_of(data, capsys) == []
    changed(one_point_less)(data)
    assert len(warnings_of(data, capsys)) == 1


def test_many_clips_give_one_warning(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The warning counts the clips and names the first few."""
    changed(one_point_less, count=99)(data)
    (one,) = warnings_of(data, capsys)
    assert one["got"].startswith("12 of 12 clips: 9001.hdf5: /")
    assert one["got"].endswith(" and 9 more")
    assert one["clips"] == [f"9001.hdf5: /{clip.name}" for clip in clips_of(data, "9001")]


def test_hands_never_seen_are_noted_last(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Signers who show one hand give one note for both hands, after all else."""
    for signer, hand in (("9001", "left_hand"), ("9002", "right_hand")):
        lost = [replace(clip, feature_CTJ=without(hand)(clip.feature_CTJ.copy())) for clip in clips_of(data, signer)]
        write_signer(data / f"{signer}.hdf5", lost)
    only_word(1, 99)(data)
    *others, note = warnings_of(data, capsys)
    assert others
    assert note["what"] == "only one hand of 2 signers is ever detected"
    assert note["where"] == "no left hand: 9001 (12 clips); no right hand: 9002 (8 clips)"


def test_many_copies_give_one_warning_per_kind(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Copies are found although NaN and 0 have several representations, and give one warning per kind."""
    clips = [
        Clip(clip.name, np.where(np.isnan(clip.feature_CTJ), -np.float32(np.nan), clip.feature_CTJ), (clip.label + 1) % 3)
        for clip in clips_of(data, "9001")
    ]
    write_signer(data / "9009.hdf5", clips)
    assert [one["what"] for one in warnings_of(data, capsys)] == [
        "the same clips under 2 signers: training on one leaks into the evaluation of the other",
        "the same clip with different words",
    ]


def test_control_characters_are_escaped(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters in words are escaped on output."""
    write_words(data, ["a\x1b[31m", "b\nc", "d"])
    assert execute(["info", str(data)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "a\\u001b[31m" in out
    assert "b\\u000ac" in out


def test_mirrored_copies_are_no_leak(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A `_swap` file belongs to its signer; a file of copies that are not mirrored causes a warning."""
    clips = clips_of(data, "9001")
    write_signer(data / "9001_swap.hdf5", [replace(clip, feature_CTJ=clip.feature_CTJ[:, ::-1]) for clip in clips])
    assert warnings_of(data, capsys) == []
    shutil.copy(data / "9001.hdf5", data / "9001_swap.hdf5")
    (one,) = warnings_of(data, capsys)
    assert (one["what"], one["where"]) == ("the same clips more than once", "9001")


def test_problems_suppress_warnings(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With problems, no warnings are given: the rest of the data set would look unusual without the broken clips."""
    copied("9001", "9002")(data)
    (data / "9003.hdf5").write_bytes(b"")
    assert execute(["check", str(data)]) == 1
    out = capsys.readouterr().out
    assert "warning:" not in out
    assert out.endswith("1 problem in 1 place\n")


def test_info_counts(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Words by signers, lengths and missing parts agree with the clips."""
    only_word(2, 1)(data)
    assert execute(["info", "--json", str(data)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == 1
    signers = ["9001", "9002", "9003", "9004"]
    every = {signer: clips_of(data, signer) for signer in signers}
    assert result["table"] == [[sum(c.label == n for c in every[signer]) for n in range(3)] for signer in signers]
    assert [word["signers"] for word in result["words"]] == [4, 4, 1]
    assert [word["clips"] for word in result["words"]] == [sum(row[n] for row in result["table"]) for n in range(3)]
    for one in result["signers"]:
        mine = every[one["signer"]]
        lengths = [clip.feature_CTJ.shape[1] for clip in mine]
        assert (one["clips"], one["median_frames"], one["mirrored"]) == (len(mine), np.median(lengths), 0)
        lost = sum(int(np.isnan(clip.feature_CTJ[0, :, 468]).sum()) for clip in mine)
        assert one["missing"]["left_hand"] == pytest.approx(lost / sum(lengths))
    lengths = [clip.feature_CTJ.shape[1] for mine in every.values() for clip in mine]
    assert sum(bar["clips"] for bar in result["histogram"]) == len(lengths)
    for bar in result["histogram"]:
        assert bar["clips"] == sum(bar["first"] <= n <= bar["last"] for n in lengths)
    assert (result["histogram"][0]["first"], len(result["histogram"]) <= 20) == (min(lengths), True)
    assert result["fingerprint"] == fingerprint(open_data(data))


def test_info_at_eighty_columns(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table of words by signers appears if it fits, with a dash for 0; no line is wider than 80 columns."""
    only_word(1, 2)(data)
    assert execute(["info", str(data)]) == 0
    lines = capsys.readouterr().out.split("\nwarning:")[0].splitlines()
    assert max(map(len, lines)) <= 80
    assert "signer  listen  look  shhh  all" in lines
    assert any(line.split() == ["9002", "4", "-", "4", "8"] for line in lines)
    wide = tmp_path / "wide"
    wide.mkdir()
    write_words(wide, [f"a-word-of-some-length-{n}" for n in range(12)])
    first = clips_of(data, "9001")[0]
    write_signer(wide / "1.hdf5", [replace(first, name=str(n), label=n) for n in range(12)])
    assert execute(["info", str(wide)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not any(line.startswith("signer") and "a-word" in line for line in lines)
    assert "a-word-of-some-length-11      1        1" in lines


def test_overview(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page contains the counts, the warnings and an example of each word; the output of `info` stays the same."""
    copied("9001", "9002")(data)
    assert execute(["info", str(data)]) == 0
    plain = capsys.readouterr().out
    before = (data / "9001.hdf5").read_bytes()
    for wrong in (data / "9001.hdf5", data, tmp_path / "words.json"):
        assert execute(["info", str(data), "--overview", str(wrong)]) == 2
        assert capsys.readouterr().err.startswith("error: the page needs a file of its own")
    assert (data / "9001.hdf5").read_bytes() == before
    page = tmp_path / "new" / "page.html"
    assert execute(["info", str(data), "--overview", str(page)]) == 0
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1]) == (plain, f"wrote {page}")
    text = page.read_text(encoding="utf-8")
    assert "the same clips under 2 signers" in text
    for word in read_words(data):
        assert word in text
    assert text.count("<svg") >= 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("asl3", ["signers lack words", "only one hand of 1 signer is ever detected"]),
        (
            "fingerspell9",
            [
                "single points of a part are missing",
                "only one hand of 13 signers is ever detected",
            ],
        ),
        (
            "gislr_sample",
            [
                "1 file in the data folder is not read",
                "one signer: no search can tell how well new signers are recognized",
                "words with fewer than 5 clips",
            ],
        ),
    ],
)
def test_real_sets(name: str, expected: list[str]) -> None:
    """Real recordings give exactly the expected warnings."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"the recordings of {name} do not lie beside the project")
    assert [one["what"] for one in summarize(SHARED / name)["warnings"]] == expected
