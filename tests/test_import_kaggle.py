"""Importing Kaggle's release: what is read, what is rejected, and that a killed import continues to the same bytes."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import filelock
import numpy as np
import pyarrow as arrow
import pyarrow.compute as compute
import pyarrow.parquet as parquet
import pytest
from kaggle_tree import table_of, write_clip, write_kaggle_tree, write_list
from launch import ROOT, environment

from data_utils.checking.problems import find_problems
from data_utils.cli import execute
from data_utils.errors import DataError
from data_utils.folder import signer_files
from data_utils.hdf5 import Clip, read_clips
from data_utils.importing import kaggle
from data_utils.importing.importing import progress_line
from data_utils.importing.kaggle import read_clip
from data_utils.landmarks import FILE_PARTS
from data_utils.words import DICTIONARY_NAME, read_words

SAMPLE = ROOT.parent / "shared" / "data" / "gislr_sample"
WORDS = ("TV", "cow", "after", "bee", "shhh")  # not in alphabetical order
LABELS = {"30": [0, 1, 2, 2, 1, 4], "4": [1, 2, 2, 0], "26": [2, 1, 3]}  # after 5, cow 4, TV 2, bee 1, shhh 1


def made_clip(seed: int, frames: int = 4) -> np.ndarray:
    """A clip without the left hand, and without a face in the first frame."""
    feature_CTJ = np.random.default_rng(seed).random((3, frames, 543), np.float32)
    feature_CTJ[:, :, FILE_PARTS["left_hand"]] = np.nan
    feature_CTJ[:, 0, FILE_PARTS["face"]] = np.nan
    return feature_CTJ


def made_clips(frames: int = 4, times: int = 1) -> dict[str, list[Clip]]:
    return {
        signer: [
            Clip(f"{signer}00{number:03}", made_clip(int(signer) * 1000 + number, frames), label)
            for number, label in enumerate(labels * times)
        ]
        for signer, labels in LABELS.items()
    }


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of 13 clips. Read-only."""
    folder = tmp_path_factory.mktemp("kaggle") / "release"
    write_kaggle_tree(folder, made_clips(), WORDS)
    return folder


@pytest.fixture
def release(once: Path, tmp_path: Path) -> Path:
    """A copy of the release."""
    return Path(shutil.copytree(once, tmp_path / "release"))


def run(*words: str | Path) -> int:
    return execute(["import-kaggle", *map(str, words), "--workers", "1"])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def held(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """Names and labels of the clips of each signer."""
    words = read_words(folder)
    return {file.signer: [(c.name, c.label) for c in read_clips(file, len(words))] for file in signer_files(folder)}


def parquet_of(release: Path, number: int = 0) -> Path:
    """The file of the given clip of signer 4."""
    return release / "train_landmark_files" / "4" / f"400{number:03}.parquet"


def test_a_real_clip() -> None:
    """A file of the release gives the same numbers as an independent conversion of the clip."""
    if not SAMPLE.is_dir():
        pytest.skip("the real clip is not at hand")
    expected = next(read_clips(signer_files(SAMPLE)[0], 1)).feature_CTJ
    found = read_clip(SAMPLE / "10042041.parquet")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def shuffled(table: arrow.Table) -> arrow.Table:
    return table.take(np.random.default_rng(0).permutation(len(table)))


def recast(table: arrow.Table, **types: str) -> arrow.Table:
    for name, kind in types.items():
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    return table


def with_column(table: arrow.Table, name: str, values: object) -> arrow.Table:
    return table.set_column(table.column_names.index(name), name, values)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda table: table, {}),
        (shuffled, {}),
        (lambda table: table.filter(compute.is_valid(table["x"])), {}),
        (lambda table: with_column(table, "frame", compute.multiply(table["frame"], 7).cast("int16")), {}),
        (lambda table: with_column(table, "frame", compute.subtract(table["frame"], 30).cast("int16")), {}),
        (lambda table: recast(table, frame="int64", landmark_index="int32", x="float32", y="float32", z="float32"), {}),
        (lambda table: recast(table, frame="uint64", landmark_index="uint64"), {}),
        (lambda table: recast(table, type="large_string"), {}),
        (lambda table: with_column(table, "type", table["type"].dictionary_encode()), {}),
        (lambda table: table.drop_columns(["row_id"]), {"compression": "gzip"}),
        (lambda table: shuffled(table), {"row_group_size": 100}),
        (lambda table: table, {"use_dictionary": False}),
    ],
    ids=[
        "plain",
        "shuffled",
        "absent",
        "gaps",
        "negative",
        "numbers",
        "unsigned",
        "long text",
        "categories",
        "no id",
        "groups",
        "raw",
    ],
)
def test_the_layout_of_rows_does_not_matter(
    tmp_path: Path, change: Callable[[arrow.Table], arrow.Table], options: dict[str, object]
) -> None:
    """Rows in any order, missing or null, frames with any start and gaps, and any column types give the same clip."""
    expected = made_clip(1)
    parquet.write_table(change(table_of(expected)), tmp_path / "clip.parquet", **options)
    found = read_clip(tmp_path / "clip.parquet")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def one_value(name: str, value: object) -> Callable[[arrow.Table], arrow.Table]:
    """Changes the value of a column in row 600: landmark 57 of the second frame's face."""

    def change(table: arrow.Table) -> arrow.Table:
        values = table[name].to_pylist()
        values[600] = value
        return with_column(table, name, arrow.array(values, table[name].type))

    return change


def numbered(frames: int) -> Callable[[arrow.Table], arrow.Table]:
    """One landmark in each of many frames."""

    def change(table: arrow.Table) -> arrow.Table:
        some = table.slice(0, 1).take(np.zeros(frames, int))
        return with_column(some, "frame", arrow.array(np.arange(frames), "int16"))

    return change


BROKEN: list[tuple[str, Callable[[arrow.Table], arrow.Table], str]] = [
    ("duplicate", lambda table: arrow.concat_tables([table, table.slice(600, 1)]), "two rows in a frame"),
    ("type", one_value("type", "foot"), "unknown type"),
    ("index", one_value("landmark_index", 478), "index is out of range"),
    ("negative", one_value("landmark_index", -1), "index is out of range"),
    ("no frame", one_value("frame", None), "a row lacks a value"),
    ("no type", one_value("type", None), "a row lacks a value"),
    ("infinite", one_value("y", float("inf")), "infinite or far too large"),
    ("far", one_value("z", -1e5), "infinite or far too large"),
    ("beyond float32", one_value("x", 1e300), "infinite or far too large"),
    ("lacks z", lambda table: table.drop_columns(["z"]), "the wrong columns"),
    ("lacks type", lambda table: table.drop_columns(["type"]), "the wrong columns"),
    ("text", lambda table: recast(table, x="string"), "`x` has the wrong type"),
    ("fractions", lambda table: recast(table, frame="float64"), "`frame` has the wrong type"),
    ("numbered types", lambda table: with_column(table, "type", table["frame"]), "`type` has the wrong type"),
    ("no row", lambda table: table.slice(0, 0), "no frame"),
    ("nothing detected", lambda table: table.filter(compute.is_null(table["x"])), "nothing was detected"),
    ("too long", numbered(10_001), "far too long"),
]


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_broken_clips_are_errors(tmp_path: Path, change: Callable[[arrow.Table], arrow.Table], message: str) -> None:
    """A broken clip is an error that says what is wrong and where."""
    path = tmp_path / "clip.parquet"
    parquet.write_table(change(table_of(made_clip(1))), path)
    with pytest.raises(DataError, match=message) as caught:
        read_clip(path)
    assert str(path) in caught.value.render()


def test_irises_are_left_out(tmp_path: Path) -> None:
    """Of 478 face points the first 468 are read."""
    table = table_of(made_clip(1))
    face = table.filter(arrow.compute.equal(table["type"], "face")).slice(0, 468)
    irises = with_column(face.slice(0, 10), "landmark_index", arrow.array(np.arange(468, 478), arrow.int16()))
    parquet.write_table(arrow.concat_tables([irises, table]), tmp_path / "clip.parquet")
    np.testing.assert_array_equal(read_clip(tmp_path / "clip.parquet"), made_clip(1))


def test_too_many_rows_are_rejected_without_reading(tmp_path: Path) -> None:
    """A file with millions of rows is rejected because of its metadata."""
    path = tmp_path / "clip.parquet"
    parquet.write_table(table_of(made_clip(1)).take(np.zeros(10_000 * 543 + 1, int)), path)
    with pytest.raises(DataError, match="far too long") as caught:
        read_clip(path)
    assert caught.value.got == "5,430,001 rows"


def test_the_maximum_number_of_frames_is_read(tmp_path: Path) -> None:
    """A clip of 10,000 frames is read."""
    parquet.write_table(numbered(10_000)(table_of(made_clip(1)).slice(543)), tmp_path / "clip.parquet")
    assert read_clip(tmp_path / "clip.parquet").shape == (3, 10_000, 543)


def test_damaged_files_are_errors(tmp_path: Path) -> None:
    """A file that is cut short at any length, overwritten, empty, missing or a folder is a DataError."""
    path = tmp_path / "clip.parquet"
    write_clip(path, made_clip(1))
    whole = path.read_bytes()
    for content in [whole[: len(whole) * part // 8] for part in range(1, 8)] + [b"not Parquet" * 99, whole[:-4] + b"PARX"]:
        path.write_bytes(content)
        with pytest.raises(DataError, match="damaged or cut short"):
            read_clip(path)
    rng = np.random.default_rng(0)
    for _ in range(100):
        content = bytearray(whole)
        for place in rng.integers(len(whole), size=20):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        with contextlib.suppress(DataError):
            assert read_clip(path).dtype == np.float32  # a change of a number's digits is not to be seen
    path.write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        read_clip(path)
    with pytest.raises(DataError, match="no such file"):
        read_clip(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="not a file"):
        read_clip(tmp_path)


def test_the_whole_release(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every clip is imported with its name and word; the dictionary is the release's; the data set has no problems."""
    assert run(release, tmp_path / "data") == 0
    out, err = capsys.readouterr()
    *warnings, summary = err.splitlines()  # the landmarks are random numbers
    assert (out, summary) == ("", f"13 clips of 5 words by 3 signers in {tmp_path / 'data'}")
    assert "warning: hands are at nobody's wrist" in warnings
    assert read_words(tmp_path / "data") == WORDS
    assert find_problems(tmp_path / "data") == []
    expected = made_clips()
    for file in signer_files(tmp_path / "data"):
        clips = list(read_clips(file, 5))
        assert [(c.name, c.label) for c in clips] == [(c.name, c.label) for c in expected.pop(file.signer)]
        for number, clip in enumerate(clips):
            np.testing.assert_array_equal(clip.feature_CTJ, made_clip(int(file.signer) * 1000 + number))
    assert not expected
    record = json.loads((tmp_path / "data" / ".import.json").read_text())
    assert {signer: entry["clips"] for signer, entry in record["signers"].items()} == {"26": 3, "30": 6, "4": 4}


def test_the_order_of_the_list_does_not_matter(release: Path, tmp_path: Path) -> None:
    """A list in another order, with a byte order mark, more columns and Windows line ends, gives the same bytes."""
    assert run(release, tmp_path / "a") == 0
    head, *lines = (release / "train.csv").read_text().splitlines()
    (release / "notes.csv").write_bytes(b"caf\xe9,sign,path\n")
    (release / "supplement.csv").write_text("path,file_id,phrase\n")
    text = "\r\n".join([f"{head},n", *(f"{line},{number}" for number, line in enumerate(reversed(lines)))])
    (release / "train.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert run(release, tmp_path / "b") == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(
    ("options", "words", "clips"),
    [
        (["--top", "2"], ("after", "cow"), {"26": [0, 1], "30": [1, 0, 0, 1], "4": [1, 0, 0]}),
        (["--top", "4"], ("TV", "after", "bee", "cow"), {"26": [1, 3, 2], "30": [0, 3, 1, 1, 3], "4": [3, 1, 1, 0]}),
        (["--signs", "shhh, TV"], ("TV", "shhh"), {"30": [0, 1], "4": [0]}),
    ],
    ids=["top", "ties by name", "named"],
)
def test_some_signs(
    release: Path, tmp_path: Path, options: list[str], words: tuple[str, ...], clips: dict[str, list[int]]
) -> None:
    """The most frequent signs, or named ones, are renumbered in alphabetical order; a signer without them has no file."""
    assert run(release, tmp_path / "data", *options) == 0
    assert read_words(tmp_path / "data") == words
    assert {signer: [label for _, label in own] for signer, own in held(tmp_path / "data").items()} == clips


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--signs", "TV,aftre"], "there is no such sign: `aftre`\nhint: did you mean `after`?"),
        (["--signs", "TV,,cow"], "there is no such sign: ``"),
        (["--top", "0"], "`top` is out of range\ngot: 0\nexpected: 1 to 5"),
        (["--top", "6"], "`top` is out of range"),
        (["--top", "2", "--signs", "TV"], "--top and --signs exclude each other"),
        (["--workers", "0"], "`workers` is out of range"),
    ],
)
def test_wrong_usage(once: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown signs and numbers out of range are errors before anything is written."""
    assert execute(["import-kaggle", str(once), str(tmp_path / "data"), *options]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


PATH = "train_landmark_files/4/400000.parquet"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "contains no clip"),
        ([("x/../4.parquet", "4", "1", "TV")], "outside the release"),
        ([(" ", "4", "1", "TV")], "has no path"),
        ([("..\\a\\..\\b", "4", "1", "TV")], "outside the release"),
        ([(PATH, "4", "1", "")], "has no word"),
        ([("a\0b", "4", "1", "TV")], "characters that no path has"),
        ([(PATH, "../4", "1", "TV")], "a signer cannot be used as a file name"),
        ([(PATH, ".4", "1", "TV")], "a signer cannot be used as a file name"),
        ([(PATH, "4_swap", "1", "TV")], "a signer cannot be used as a file name"),
        ([(PATH, "", "1", "TV")], "line 2\nhint: fill it in; or remove the column `participant_id`"),
        ([(PATH, "4" * 201, "1", "TV")], "a signer cannot be used as a file name"),
        ([(PATH, "4", "1/2", "TV")], "a clip cannot be used as a file name"),
        ([(PATH, "4", "1", "TV"), ("b", "5", "1", "TV"), ("c", "4", "1", "cow")], "line 4\ngot: 1 of 4"),
        ([(PATH, "4", "1", "TV"), (PATH, "5", "2", "TV")], "a file is listed twice"),
        ([(PATH, "4", "1", "TV", "gone")], "too many fields"),
        ([(PATH, "4", "1", "tv")], "the dictionary lacks a sign of the list"),
        ([(PATH, "4", "1")], "cut short"),
        (
            [(PATH, "4", " NaN", "TV")],
            "has no sequence_id\n  --> {list}: line 2\ngot: `NaN` in the column `sequence_id`\nhint: ",
        ),
        ([("", "", "", ""), (PATH, "None", "1", "TV")], "has no signer\n  --> {list}: line 3\ngot: `None` in the column"),
        ([(PATH, "4", "1", "TV"), (PATH, "4 ", " 1", "cow")], "a signer has a sequence twice"),
        ([(PATH, "4", "1", "TV"), (f"./{PATH}", "4", "2", "TV")], "a file is listed twice"),
        ([(f"../input/asl-signs/{PATH}", "4", "1", "TV"), (PATH, "4", "2", "TV")], "a file is listed twice"),
    ],
)
def test_faults_of_the_list(release: Path, rows: list[tuple[str, ...]], message: str, tmp_path: Path) -> None:
    """A faulty line of the list is an error that names the line."""
    write_list(release, rows)
    with pytest.raises(DataError) as caught:
        kaggle.plan_import(release)
    assert message.format(list=release / "train.csv") in caught.value.render()
    assert "train.csv" in caught.value.render()


def test_an_invalid_list_is_an_error(release: Path) -> None:
    """Another encoding, missing columns, an unclosed quote, an empty file and a missing file are errors that say so."""
    path = release / "train.csv"
    for content, message in (
        (b"", "lacks columns"),
        (b"path,sequence_id,participant_id\n", "lacks columns"),
        (b"sign,sequence_id,participant_id\n", "lacks columns"),
        (b"path,sign\n", "contains no clip"),
        (b"path,sign,word,sign\n", "two columns of the list have the same name"),
        (b"path,file_id,sequence_id,participant_id,phrase\n", "asl-fingerspelling"),
        (b"path,participant_id,sequence_id,sign\na,4,1,caf\xe9\n", "CSV in UTF-8"),
        (b'path,participant_id,sequence_id,sign\n"a,4,1,TV\n', "CSV in UTF-8"),
        ("path,participant_id,sequence_id,sign\n".encode("utf-16"), "CSV in UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            kaggle.plan_import(release)
    path.unlink()
    with pytest.raises(DataError, match="a file is missing"):
        kaggle.plan_import(release)
    with pytest.raises(DataError, match="no such folder"):
        kaggle.plan_import(release / "nowhere")


def own_set(release: Path, head: str, change: Callable[[list[str]], list[str]]) -> Path:
    """The release with other columns, in another file, and without a dictionary, as people lay out their own clips."""
    with (release / "train.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    (release / "train.csv").unlink()
    (release / DICTIONARY_NAME).unlink()
    write_list(release, list(dict.fromkeys(tuple(change(row)) for row in rows)), head.split(","), "own.csv")
    return release


@pytest.mark.parametrize(
    ("head", "change", "options", "signers", "told"),
    [
        ("path,sign", lambda row: [row[0], row[3]], [], {"26", "30", "4"}, "are taken as signers"),
        ("path, word", lambda row: [row[0].replace("/", "\\"), f" {row[3]} "], [], {"26", "30", "4"}, "are taken as signers"),
        ("sign,path", lambda row: [row[3], f"D:\\asl\\{row[0]}"], ["--signer", "anna"], {"anna"}, "5 words by 1 signer"),
        ("path,sign", lambda row: [f"../input/asl/{row[0]}", row[3]], [], {"26", "30", "4"}, "are taken as signers"),
        ("path,gloss", lambda row: [f"/gone/{row[0]}", row[3]], ["--signer", "anna"], {"anna"}, "5 words by 1 signer"),
        ("path,sign,signer", lambda row: [row[0], row[3], "010"], [], {"010"}, "13 clips of 5 words by 1 signer"),
    ],
    ids=["folders", "backslashes", "another machine", "a notebook", "absolute", "another column"],
)
def test_own_sets(
    *,
    head: str,
    change: Callable[[list[str]], list[str]],
    options: list[str],
    signers: set[str],
    told: str,
    release: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A list of paths and words is enough, whatever other CSV files there are: a column, folders or an option tell signers."""
    (release / "notes.csv").write_bytes(b"caf\xe9\n")
    (release / "supplement.csv").write_text("path,file_id,phrase\n")
    assert run(own_set(release, head, change), tmp_path / "data", *options) == 0
    assert told in capsys.readouterr().err
    assert read_words(tmp_path / "data") == tuple(sorted(WORDS))
    found = held(tmp_path / "data")
    assert set(found) == signers
    names = {f"{signer}00{number:03}" for signer, labels in LABELS.items() for number in range(len(labels))}
    assert {name for own in found.values() for name, _ in own} == names


def test_a_list_without_signers(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If nothing names the signers, the clips count as one signer's: each as its own would leak people between parts."""
    own_set(release, "path,sign", lambda row: [f"clips/{row[3]}/1.parquet", row[3]])
    for row in (release / "own.csv").read_text().splitlines()[1:]:
        path = release / row.split(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(parquet_of(release), path)
    assert run(release, tmp_path / "data") == 0
    assert "all clips count as one, `unknown`" in capsys.readouterr().err
    assert {name for name, _ in held(tmp_path / "data")["unknown"]} == {f"{word}__1" for word in WORDS}
    assert run(release, tmp_path / "again", "--signer", "") == 2


def test_the_other_release_is_named(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The files of asl-fingerspelling hold many sequences, one column per coordinate."""
    wide = tmp_path / "wide"
    wide.mkdir()
    columns = {f"{axis}_{part}_0": arrow.array([0.5]) for axis in "xyz" for part in ("face", "left_hand", "pose", "right_hand")}
    parquet.write_table(arrow.table({"frame": arrow.array([0]), **columns}), wide / "5414471.parquet")
    assert run(wide, tmp_path / "data") == 2
    assert "asl-fingerspelling: many sequences" in capsys.readouterr().err
    (wide / "5414471.parquet").rename(parquet_of(release))
    with pytest.raises(DataError, match="asl-fingerspelling"):
        read_clip(parquet_of(release))


def test_words_in_another_unicode_form(release: Path, tmp_path: Path) -> None:
    """Words, signers and paths of the list, which may have semicolons, are the same in every Unicode form."""
    composed, decomposed = "聞がく", unicodedata.normalize("NFD", "聞がく")
    shutil.copy(release / PATH, release / f"{decomposed}.parquet")
    rows = [(f"{composed}.parquet", decomposed, "1", decomposed), (PATH.replace("000.", "001."), f"{composed} ", " 2", "TV")]
    write_list(release, rows)
    (release / "train.csv").write_text((release / "train.csv").read_text().replace(",", ";"))
    (release / DICTIONARY_NAME).write_text(json.dumps({"TV": 0, composed: 1}))
    assert run(release, tmp_path / "data", "--signs", f"TV,{decomposed}") == 0
    assert read_words(tmp_path / "data") == ("TV", composed)
    assert held(tmp_path / "data") == {composed: [("1", 1), ("2", 0)]}


def test_missing_files_are_found_before_the_start(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the first ten missing files and their number, and nothing is written; --skip-broken skips them."""
    for number in range(6):
        (release / "train_landmark_files" / "30" / f"3000{number:03}.parquet").unlink()
    shutil.rmtree(release / "train_landmark_files" / "4")
    (release / "train_landmark_files" / "26" / "2600000.parquet").unlink()
    assert run(release, tmp_path / "data") == 2
    err = capsys.readouterr().err
    assert "error: files are missing: 11 of 13\n" in err
    assert "... 11 in total\n" in err
    assert err.count(".parquet") == 10
    assert "--skip-broken" in err
    assert not (tmp_path / "data").exists()
    assert run(release, tmp_path / "data", "--skip-broken") == 0
    err = capsys.readouterr().err
    assert err.count(".parquet: there is no such file\n") == 10
    assert "\n  ... 11 in total\n" in err
    assert "2 clips of 5 words by 1 signer in" in err
    assert find_problems(tmp_path / "data") == []
    assert held(tmp_path / "data") == {"26": [("2600001", 1), ("2600002", 3)]}


def test_broken_files_are_listed_at_the_end(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Signers with broken files and the dictionary are not written, the others are; --skip-broken then completes the import."""
    parquet_of(release, 1).write_bytes(b"")
    parquet_of(release, 3).write_bytes(b"PAR1")
    assert run(release, tmp_path / "data") == 1
    err = capsys.readouterr().err
    assert "error: 2 clips cannot be read: 1 signer and the dictionary of words were not written\n" in err
    assert "train_landmark_files/4/400001.parquet: the file is empty\n" in err
    assert "train_landmark_files/4/400003.parquet: the Parquet file cannot be read" in err
    assert "--skip-broken" in err
    assert sorted(contents(tmp_path / "data")) == [".import.json", ".import.lock", "26.hdf5", "30.hdf5"]
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "data").glob("*.hdf5")}
    assert run(release, tmp_path / "data", "--skip-broken", "--json") == 0
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    lines = [line for line in found if line["kind"] != "warning"]
    assert [line["kind"] for line in lines] == ["skipped", "skipped", "summary"]
    assert {"schema", "kind", "what", "where", "got", "hint", "clips"} == set(found[0])
    assert lines[0]["file"] == "train_landmark_files/4/400001.parquet"
    assert (lines[0]["signer"], lines[0]["clip"], lines[0]["why"]) == ("4", "400001", "the file is empty")
    assert lines[2] == {
        "schema": 1,
        "kind": "summary",
        "complete": True,
        "folder": str(tmp_path / "data"),
        "clips": 11,
        "words": 5,
        "signers": 3,
        "imported": 2,
        "skipped": 2,
        "broken": 0,
    }
    assert {name: (tmp_path / "data" / name).stat().st_mtime_ns for name in times} == times
    assert held(tmp_path / "data")["4"] == [("400000", 1), ("400002", 2)]
    assert run(release, tmp_path / "fresh", "--skip-broken") == 0
    assert contents(tmp_path / "fresh") == contents(tmp_path / "data")


def test_repaired_clips_are_imported_later(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bytes do not depend on earlier broken files; a file that is still broken is skipped only on request."""
    whole = parquet_of(release, 1).read_bytes()
    parquet_of(release, 1).write_bytes(b"")
    assert run(release, tmp_path / "data", "--skip-broken") == 0
    assert run(release, tmp_path / "data") == 1
    assert "1 clip cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "data" / DICTIONARY_NAME).exists(), "it is no data set as long as a signer lacks"
    parquet_of(release, 1).write_bytes(whole)
    assert run(release, tmp_path / "data") == 0
    assert run(release, tmp_path / "fresh") == 0
    assert contents(tmp_path / "fresh") == contents(tmp_path / "data")


def test_an_import_without_a_readable_clip_fails(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If every clip is broken, skipping them all is a failure."""
    for path in release.glob("train_landmark_files/*/*"):
        path.write_bytes(b"")
    assert run(release, tmp_path / "data", "--skip-broken") == 1
    assert "no clip could be read" in capsys.readouterr().err
    assert sorted(contents(tmp_path / "data")) == [".import.json", ".import.lock"]


def test_a_finished_import_has_nothing_to_do(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command again changes nothing and says so, even without the source; a lost file is written again."""
    assert run(release, tmp_path / "data") == 0
    before = contents(tmp_path / "data")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir() if path.suffix != ".lock"}
    shutil.rmtree(release / "train_landmark_files")
    capsys.readouterr()
    assert run(release, tmp_path / "data") == 0
    assert capsys.readouterr().err.startswith("nothing to do: 13 clips of 5 words by 3 signers in ")
    assert {name: (tmp_path / "data" / name).stat().st_mtime_ns for name in times} == times
    (tmp_path / "data" / "4.hdf5").unlink()
    assert run(release, tmp_path / "data") == 2
    assert "files are missing: 4 of 4" in capsys.readouterr().err
    for clip in made_clips()["4"]:
        write_clip(release / "train_landmark_files" / "4" / f"{clip.name}.parquet", clip.feature_CTJ)
    assert run(release, tmp_path / "data") == 0
    assert contents(tmp_path / "data") == before


def test_other_folders_are_kept(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder with another import or other files, the source itself and a file are errors and are kept."""
    target = tmp_path / "data"
    target.mkdir()
    (target / "thesis.txt").write_text("precious")
    (target / ".DS_Store").write_text("")
    assert run(release, target) == 2
    err = capsys.readouterr().err
    assert "got: thesis.txt\n" in err
    (target / "thesis.txt").unlink()
    assert run(release, target, "--top", "2") == 0
    before = contents(target)
    for words, message in ((["--top", "3"], "got: other words and clips"), ([], "got: other words and clips")):
        capsys.readouterr()
        assert run(release, target, *words) == 2
        assert message in capsys.readouterr().err
    (target / ".import.json").write_text('{"schema": 1, "words"')
    assert run(release, target, "--top", "2") == 2
    assert "the record of the import cannot be read" in capsys.readouterr().err
    (target / ".import.json").write_bytes(before[".import.json"])
    assert contents(target) == before
    assert run(release, release / "data") == 2
    assert "inside the source" in capsys.readouterr().err
    assert run(release, release / "train.csv") == 2
    (tmp_path / "file").write_text("")
    assert run(release, tmp_path / "file") == 2
    assert "a file, not a folder" in capsys.readouterr().err


def test_two_imports_at_once(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second import into the same folder fails with the exit code of a resource error."""
    (tmp_path / "data").mkdir()
    with filelock.FileLock(tmp_path / "data" / ".import.lock"):
        assert run(release, tmp_path / "data") == 3
    assert "another import is running" in capsys.readouterr().err
    assert run(release, tmp_path / "data") == 0


def test_a_target_that_cannot_be_written(release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder in place of a signer's file is a resource error without a traceback."""
    (tmp_path / "data").mkdir()
    assert run(release, tmp_path / "data", "--top", "2") == 0
    (tmp_path / "data" / "4.hdf5").unlink()
    (tmp_path / "data" / "4.hdf5").mkdir()
    capsys.readouterr()
    assert run(release, tmp_path / "data", "--top", "2") == 3
    err = capsys.readouterr().err
    assert err.startswith("error: a signer's file cannot be written\n")
    assert "4.hdf5" in err


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A release that takes a moment to import, and the result of an uninterrupted import. Read-only."""
    place = tmp_path_factory.mktemp("larger")
    write_kaggle_tree(place / "release", made_clips(frames=40, times=5), WORDS)
    assert run(place / "release", place / "data") == 0
    return place / "release", place / "data"


def start(release: Path, target: Path) -> subprocess.Popen[str]:
    """Starts an import in a process group of its own; it receives Ctrl-C even if this process ignores it."""
    return subprocess.Popen(
        [sys.executable, "-m", "data_utils", "import-kaggle", str(release), str(target), "--workers", "2"],
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for(found: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not found():
        assert process.poll() is None, f"the import ended too early: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.002)


MOMENTS: dict[str, Callable[[Path], object]] = {
    "begun": lambda target: (target / ".import.json").exists(),
    "in a file": lambda target: list(target.glob(".*.hdf5.*.part")),
    "one file": lambda target: list(target.glob("*.hdf5")),
    "all but one": lambda target: len(list(target.glob("*.hdf5"))) == 2,
}


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_started_again(moment: str, larger: tuple[Path, Path], tmp_path: Path) -> None:
    """After kill -9 of all processes at any moment, the same command ends with the same bytes in every file."""
    release, uninterrupted = larger
    process = start(release, tmp_path / "data")
    while not MOMENTS[moment](tmp_path / "data") and process.poll() is None:
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):  # where a busy machine let the last moment pass
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert moment == "all but one" or not (tmp_path / "data" / DICTIONARY_NAME).exists()
    assert run(release, tmp_path / "data") == 0
    assert contents(tmp_path / "data") == contents(uninterrupted)


@pytest.mark.slow
def test_processes_end_with_their_parent(larger: tuple[Path, Path], tmp_path: Path) -> None:
    """If the main process alone is killed, the other processes end too."""
    process = start(larger[0], tmp_path / "data")
    wait_for(lambda: MOMENTS["in a file"](tmp_path / "data"), process)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while not group_is_gone(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert run(larger[0], tmp_path / "data") == 0
    assert contents(tmp_path / "data") == contents(larger[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "whole", "code"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143), (signal.SIGTERM, True, 143)]
)
def test_signals_stop_it_cleanly(number: int, whole: bool, code: int, larger: tuple[Path, Path], tmp_path: Path) -> None:
    """Ctrl-C, which reaches all processes, and SIGTERM to one or all end with their exit codes and leave no partial file."""
    process = start(larger[0], tmp_path / "data")
    wait_for(lambda: MOMENTS["in a file"](tmp_path / "data"), process)
    if whole:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()[-1]) == (code, "stopped; run the same command again to continue")
    assert not list((tmp_path / "data").glob(".*.part"))
    assert not (tmp_path / "data" / DICTIONARY_NAME).exists()
    assert run(larger[0], tmp_path / "data") == 0
    assert contents(tmp_path / "data") == contents(larger[1])


@pytest.mark.slow
def test_a_killed_process_is_reported(larger: tuple[Path, Path], tmp_path: Path) -> None:
    """If the system kills a process, for example for lack of memory, the import ends with an error and can be continued."""
    psutil = pytest.importorskip("psutil")
    process = start(larger[0], tmp_path / "data")
    wait_for(lambda: MOMENTS["in a file"](tmp_path / "data"), process)
    part = MOMENTS["in a file"](tmp_path / "data")[0]  # type: ignore[index]
    psutil.Process(int(part.name.split(".")[-2])).kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "error: a process of the import was killed" in err.splitlines()
    assert "Traceback" not in err
    assert run(larger[0], tmp_path / "data") == 0
    assert contents(tmp_path / "data") == contents(larger[1])


def test_progress_on_a_terminal_is_one_line(once: Path, tmp_path: Path) -> None:
    """On a terminal the progress is one line that is overwritten; the last one says that all clips are done."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "data_utils", "import-kaggle", str(once), str(tmp_path / "data")],
        cwd=ROOT,
        env=environment(),
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux ends a terminal so
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait() == 0
    *lines, summary = shown.decode().strip().split("\r\n")
    assert summary.startswith("13 clips of 5 words by 3 signers in ")
    assert not any("of 13 clips, " in line for line in lines[1:])
    assert lines[0].split("\r")[-1].startswith("13 of 13 clips, ")


def test_the_line_of_progress() -> None:
    """Finished clips, the current rate, and the remaining time."""
    assert progress_line(0, 94_477, before=0, seconds=1.0) == "0 of 94,477 clips"
    assert progress_line(1234, 94_477, before=0, seconds=11.7) == "1,234 of 94,477 clips, 105/s, 14m44s left"
    assert progress_line(50_030, 94_477, before=50_000, seconds=20.0) == "50,030 of 94,477 clips, 1.5/s, 8h13m left"
    assert progress_line(13, 13, before=0, seconds=0.1) == "13 of 13 clips, 130/s"


def test_without_pyarrow(once: Path, tmp_path: Path) -> None:
    """Without pyarrow the import says how to install it; help does not need it."""
    code = "import sys; sys.modules['pyarrow'] = None; from data_utils.cli import execute; sys.exit(execute(sys.argv[1:]))"
    for words, exit_code in (([str(once), str(tmp_path / "data")], 2), (["--help"], 0)):
        done = subprocess.run(
            [sys.executable, "-c", code, "import-kaggle", *words],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == exit_code
        assert "Traceback" not in done.stderr
        assert ("pip install 'islr-search[kaggle]'" in done.stderr) == (exit_code == 2)
    assert list(tmp_path.iterdir()) == []
