"""The per-signer layout: what is written is read back, and every fault is reported with file and place."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_utils.checking.problems import find_problems
from data_utils.cli import execute
from data_utils.errors import DataError
from data_utils.folder import SignerFile, signer_files
from data_utils.hdf5 import Clip, read_clips, read_index, write_signer
from data_utils.landmarks import FILE_PARTS, NUM_LANDMARKS
from data_utils.normalize import PreprocessConfig
from data_utils.prepared import fingerprint, open_data, prepare
from data_utils.wording import suggest
from data_utils.words import DICTIONARY_NAME, read_words, write_words

CLIP = "1001000001"


def feature(frames: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 0.9, (3, frames, NUM_LANDMARKS)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A valid data set: two words, two signers, two clips each."""
    folder = tmp_path / "data"
    folder.mkdir()
    write_words(folder, ["hello", "thanks"])
    for signer in (1001, 1002):
        clips = [Clip(f"{signer}{number:06d}", feature(3 + number, signer + number), number % 2) for number in range(2)]
        write_signer(folder / f"{signer}.hdf5", clips)
    return folder


def edit(folder: Path, change: Callable[[h5py.File], object], file: str = "1001.hdf5") -> None:
    with h5py.File(folder / file, "r+") as h5:
        change(h5)


def replace(name: str, value: np.ndarray) -> Callable[[Path], None]:
    """A fault: one clip's dataset contains something else."""

    def change(h5: h5py.File) -> None:
        del h5[CLIP][name]
        h5[CLIP][name] = value

    return lambda folder: edit(folder, change)


def delete(name: str) -> Callable[[Path], None]:
    return lambda folder: edit(folder, lambda h5: h5[CLIP].__delitem__(name))


def with_value(value: float) -> np.ndarray:
    changed = feature()
    changed[0, 1, 5] = value
    return changed


def cut_short(folder: Path) -> None:
    path = folder / "1001.hdf5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite_middle(folder: Path) -> None:
    """Keeps the end of the file and overwrites the landmarks' bytes."""
    path = folder / "1001.hdf5"
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : 2 * len(content) // 3] = b"\xff" * (2 * len(content) // 3 - len(content) // 3)
    path.write_bytes(bytes(content))


def no_clips(folder: Path) -> None:
    with h5py.File(folder / "1001.hdf5", "w"):
        pass


def top_level(folder: Path) -> None:
    edit(folder, lambda h5: h5.create_dataset("stray", data=np.zeros(3)))


def group_as_feature(folder: Path) -> None:
    def change(h5: h5py.File) -> None:
        del h5[CLIP]["feature"]
        h5[CLIP].create_group("feature")

    edit(folder, change)


def elsewhere(target: h5py.ExternalLink) -> Callable[[Path], None]:
    """A fault: the landmarks are a link to another file."""

    def change(h5: h5py.File) -> None:
        del h5[CLIP]["feature"]
        h5[CLIP]["feature"] = target

    return lambda folder: edit(folder, change)


def created(name: str, **how: object) -> Callable[[Path], None]:
    """A fault: a dataset with other creation options."""

    def change(h5: h5py.File) -> None:
        del h5[CLIP][name]
        h5[CLIP].create_dataset(name, **how)

    return lambda folder: edit(folder, change)


def virtual(h5: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 3, NUM_LANDMARKS), dtype="f4")
    layout[:, :, :] = h5py.VirtualSource("1002.hdf5", "1002000000/feature", shape=(3, 3, NUM_LANDMARKS))
    del h5[CLIP]["feature"]
    h5[CLIP].create_virtual_dataset("feature", layout)


LONG = {"shape": (3, 2**40, NUM_LANDMARKS), "dtype": "f4", "chunks": (3, 8, NUM_LANDMARKS)}
ONE_CHUNK = {"shape": (3, 3, NUM_LANDMARKS), "dtype": "f4", "chunks": (3, 10_001, NUM_LANDMARKS), "maxshape": (None,) * 3}
OUTSIDE = {"shape": (3, 3, NUM_LANDMARKS), "dtype": "f4", "external": [("1002.hdf5", 0, 4 * 9 * NUM_LANDMARKS)]}
UNSEEN = np.full((3, 4, NUM_LANDMARKS), np.nan, np.float32)
CLIP_FAULTS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    # fault -> (how it is made, message, place)
    "no feature": (delete("feature"), "no dataset `feature`", f"/{CLIP}"),
    "no token": (delete("token"), "no dataset `token`", f"/{CLIP}"),
    "feature is a group": (group_as_feature, "no dataset `feature`", f"/{CLIP}"),
    "two axes": (replace("feature", feature()[0]), "wrong shape", f"/{CLIP}/feature"),
    "one frame without its axis": (replace("feature", feature()[:, 0]), "wrong shape", f"/{CLIP}/feature"),
    "axes in another order": (replace("feature", feature().transpose(2, 0, 1)), "wrong shape", f"/{CLIP}/feature"),
    "too few landmarks": (replace("feature", feature()[..., :75]), "wrong shape", f"/{CLIP}/feature"),
    "landmarks as whole numbers": (replace("feature", feature().astype(np.int32)), "not floats", f"/{CLIP}/feature"),
    "landmarks as text": (replace("feature", np.array(b"none")), "not floats", f"/{CLIP}/feature"),
    "no frame": (replace("feature", feature()[:, :0]), "no frame", f"/{CLIP}/feature"),
    "nothing detected": (replace("feature", UNSEEN), "nothing was detected", f"/{CLIP}/feature"),
    "all zero": (replace("feature", 0 * feature()), "nothing was detected", f"/{CLIP}/feature"),
    "infinite": (replace("feature", with_value(np.inf)), "infinite", f"/{CLIP}/feature"),
    "minus infinite": (replace("feature", with_value(-np.inf)), "infinite", f"/{CLIP}/feature"),
    "too large for float32": (replace("feature", with_value(1.0).astype(np.float64) * 1e300), "infinite", f"/{CLIP}/feature"),
    "label too large": (replace("token", np.array([2])), "outside the dictionary", f"/{CLIP}/token"),
    "label below 0": (replace("token", np.array([-1])), "outside the dictionary", f"/{CLIP}/token"),
    "label as float": (replace("token", np.array([1.0])), "not one whole number", f"/{CLIP}/token"),
    "two labels": (replace("token", np.array([0, 1])), "not one whole number", f"/{CLIP}/token"),
    "label as text": (replace("token", np.array([b"hello"])), "not one whole number", f"/{CLIP}/token"),
    "label in one huge chunk": (
        created("token", shape=(1,), dtype="i8", chunks=(2**28,), maxshape=(None,)),
        "far too large",
        f"/{CLIP}/token",
    ),
    "declared without end": (created("feature", **LONG), "far too large for one sign", f"/{CLIP}/feature"),
    "one huge chunk": (created("feature", **ONE_CHUNK), "far too large for one sign", f"/{CLIP}/feature"),
    "link into another file": (
        elsewhere(h5py.ExternalLink("1002.hdf5", "/1002000000/feature")),
        "is stored in another file",
        f"/{CLIP}/feature",
    ),
    "bytes of another file": (created("feature", **OUTSIDE), "is stored in another file", f"/{CLIP}/feature"),
    "made of another file": (lambda folder: edit(folder, virtual), "is stored in another file", f"/{CLIP}/feature"),
    "dataset at the top": (top_level, "not a group", "/stray"),
}
FILE_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "not HDF5": (lambda folder: (folder / "1001.hdf5").write_text("hello"), "not HDF5, or is damaged"),
    "empty file": (lambda folder: (folder / "1001.hdf5").write_bytes(b""), "1001.hdf5"),
    "cut short": (cut_short, "cut short"),
    "spoilt inside": (overwrite_middle, "1001.hdf5"),
    "without clips": (no_clips, "contains no clip"),
    "folder named like a file": (lambda folder: (folder / "1003.hdf5").mkdir(), "1003.hdf5"),
    "dangling link": (lambda folder: (folder / "1003.hdf5").symlink_to(folder / "gone"), "1003.hdf5"),
    "pipe": (lambda folder: os.mkfifo(folder / "1003.hdf5"), "this is not a file"),
    "name that is not UTF-8": (
        lambda folder: (folder / "1001.hdf5").rename(folder / os.fsdecode(b"\xff.hdf5")),
        "the file's name is not UTF-8",
    ),
    "clip whose name is not UTF-8": (
        lambda folder: edit(folder, lambda h5: h5.id.move(CLIP.encode(), b"\xff")),
        "a clip's name is not UTF-8",
    ),
    "mirrored without original": (
        lambda folder: (folder / "1001.hdf5").rename(folder / "1009_swap.hdf5"),
        "a mirrored copy has no original",
    ),
}


def dictionary(text: str | bytes) -> Callable[[Path], object]:
    content = text if isinstance(text, bytes) else text.encode()
    return lambda folder: (folder / DICTIONARY_NAME).write_bytes(content)


DICTIONARY_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "none": (lambda folder: (folder / DICTIONARY_NAME).unlink(), "no dictionary"),
    "two": (lambda folder: (folder / "other.json").write_text("{}"), "more than one dictionary"),
    "not JSON": (dictionary("hello: 0"), "not valid JSON"),
    "not UTF-8": (dictionary(b'{"\xff\xfe": 0}'), "not valid JSON"),
    "empty": (dictionary("{}"), "does not map words"),
    "a list": (dictionary('["hello", "thanks"]'), "does not map words"),
    "numbers as text": (dictionary('{"hello": "0", "thanks": "1"}'), "does not map words"),
    "numbers as truth values": (dictionary('{"hello": false, "thanks": true}'), "does not map words"),
    "from 1": (dictionary('{"hello": 1, "thanks": 2}'), "not 0, 1, 2"),
    "a number twice": (dictionary('{"hello": 0, "thanks": 0}'), "not 0, 1, 2"),
    "a word twice": (dictionary('{"hello": 0, "hello": 1}'), "lists a word twice"),
    "pipe": (lambda folder: ((folder / DICTIONARY_NAME).unlink(), os.mkfifo(folder / DICTIONARY_NAME)), "this is not a file"),
    "number of 5,000 digits": (dictionary('{"hello": 0, "thanks": ' + "9" * 5000 + "}"), "not valid JSON"),
    "half of a character": (dictionary('{"hello": 0, "\\ud800": 1}'), "half a character"),
    "nested too deeply": (dictionary("[" * 100_000), "not valid JSON"),
}


def first_fault(folder: Path) -> DataError:
    """The error when the data set is used."""

    def use() -> None:
        data = open_data(folder)
        prepare(data, list(data.labels_of), PreprocessConfig(), mirrored=True)

    with pytest.raises(DataError) as caught:
        use()
    return caught.value


def checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and output of `check`, which must not contain a traceback."""
    code = execute(["check", str(folder)])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert err == ""
    return code, out


@pytest.mark.parametrize("case", list(CLIP_FAULTS))
def test_a_faulty_clip_is_reported(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A clip's fault is an error that names the file and the HDF5 path, in use and in `check`."""
    spoil, message, place = CLIP_FAULTS[case]
    spoil(folder)
    fault = first_fault(folder)
    assert message in fault.what
    assert (fault.file, fault.path) == (folder / "1001.hdf5", place)
    assert [(fault.file, fault.path) for fault in find_problems(folder)] == [(folder / "1001.hdf5", place)]
    code, out = checked(folder, capsys)
    assert code == 1
    assert message in out
    assert f"  --> {folder / '1001.hdf5'}: {place}" in out
    assert out.endswith("1 problem in 1 place\n")


@pytest.mark.parametrize("case", list(FILE_FAULTS))
def test_a_faulty_file_is_reported(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that cannot be read is an error that names the file."""
    spoil, message = FILE_FAULTS[case]
    spoil(folder)
    fault = first_fault(folder)
    assert message in fault.render()
    assert fault.file is not None
    assert fault.file.parent == folder
    found = find_problems(folder)
    assert found
    assert all(isinstance(fault, DataError) for fault in found)
    code, out = checked(folder, capsys)
    assert code == 1
    assert message in out


@pytest.mark.parametrize("case", list(DICTIONARY_FAULTS))
def test_a_faulty_dictionary_is_reported(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dictionary that does not number words 0 to K-1 is an error that names it or its folder."""
    spoil, message = DICTIONARY_FAULTS[case]
    spoil(folder)
    with pytest.raises(DataError, match=message) as caught:
        read_words(folder)
    assert caught.value.file in (folder, folder / DICTIONARY_NAME)
    assert [message in fault.what for fault in find_problems(folder)] == [True]
    assert checked(folder, capsys)[0] == 1


def test_all_faults_are_listed_at_once(folder: Path) -> None:
    """Faults in the dictionary, a file and several clips are all listed, not only the first one."""
    dictionary("hello")(folder)
    replace("token", np.array([-1]))(folder)
    replace("feature", UNSEEN)(folder)
    edit(folder, lambda h5: h5["1002000000"].__delitem__("token"), "1002.hdf5")
    edit(folder, lambda h5: h5["1002000001"].__delitem__("feature"), "1002.hdf5")
    (folder / "1003.hdf5").write_text("not HDF5")
    places = [(fault.file, fault.path) for fault in find_problems(folder)]
    for place in [
        (folder / DICTIONARY_NAME, None),
        (folder / "1001.hdf5", f"/{CLIP}/token"),
        (folder / "1001.hdf5", f"/{CLIP}/feature"),
        (folder / "1002.hdf5", "/1002000000"),
        (folder / "1002.hdf5", "/1002000001"),
        (folder / "1003.hdf5", None),
    ]:
        assert place in places
    assert len(places) == 6


def test_a_valid_set_has_no_problems(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A valid data set has no problems, and `check` prints its size."""
    assert find_problems(folder) == []
    code, message = checked(folder, capsys)
    assert code == 0
    assert re.fullmatch(r"no errors, \d+ warnings: 4 clips of 2 words by 2 signers", message.splitlines()[-1])


def test_a_missing_or_empty_folder_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing folder and a file are wrong usage; an empty folder has two problems."""
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name, message in (("gone", "no such data folder"), ("file", "is a file, not a folder")):
        with pytest.raises(DataError, match=message):
            signer_files(tmp_path / name)
        with pytest.raises(DataError, match=message):
            read_words(tmp_path / name)
        assert [message in fault.what for fault in find_problems(tmp_path / name)] == [True]
        assert execute(["check", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err
    assert len(find_problems(tmp_path / "empty")) == 2
    assert checked(tmp_path / "empty", capsys)[0] == 1


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Landmarks, missing parts and labels are read back bit for bit, with clips sorted by name."""
    lost = feature(5, 7)
    lost[:, 2, FILE_PARTS["left_hand"]] = np.nan
    write_words(tmp_path, ["a", "b"])
    write_signer(tmp_path / "7.hdf5", [Clip("9", lost, 1), Clip("10", feature(1), 0)])
    (file,) = signer_files(tmp_path)
    clips = list(read_clips(file, 2))
    assert [clip.name for clip in clips] == ["10", "9"]
    np.testing.assert_array_equal(clips[1].feature_CTJ, lost)
    assert clips[1].feature_CTJ.dtype == np.float32
    assert [(clip.name, clip.label) for clip in read_index(file)] == [("10", 0), ("9", 1)]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_widths_are_read(folder: Path, dtype: type) -> None:
    """Landmarks stored as float16 or float64 are read as float32."""
    replace("feature", feature().astype(dtype))(folder)
    assert find_problems(folder) == []
    clip = next(clip for clip in read_clips(signer_files(folder)[0], 2) if clip.name == CLIP)
    assert clip.feature_CTJ.dtype == np.float32
    np.testing.assert_allclose(clip.feature_CTJ, feature(), atol=1e-3)


def test_words_in_any_script_round_trip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Words in Japanese, Arabic and with accents are read back unchanged, and are aligned in `info`."""
    words = ["こんにちは", "مرحبا", "façade", "手話", "a b"]
    write_words(tmp_path, words)
    write_signer(tmp_path / "1.hdf5", [Clip(str(label), feature(2, label), label) for label in range(5)])
    assert read_words(tmp_path) == tuple(words)
    assert find_problems(tmp_path) == []
    assert execute(["info", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "こんにちは      1        1" in lines  # ten columns wide, as the table's widest word
    assert "手話            1        1" in lines
    assert execute(["info", "--json", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["schema"] == 1
    assert [word["word"] for word in result["words"]] == words


def test_check_as_json_is_one_object_per_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`check --json` prints one JSON object per line for each problem and for the summary, and nothing else."""
    delete("token")(folder)
    assert execute(["check", "--json", str(folder)]) == 1
    out, err = capsys.readouterr()
    problem, summary = (json.loads(line) for line in out.splitlines())
    assert err == ""
    assert (problem["schema"], problem["kind"], problem["path"]) == (1, "problem", f"/{CLIP}")
    assert summary == {"schema": 1, "kind": "summary", "sound": False, "problems": 1, "warnings": 0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chek", "x"], "no such command 'chek'. Did you mean 'check'?"),
        (["frobnicate"], "no such command 'frobnicate'\nhint: see `islr-data --help`"),
        (["check"], "missing argument 'DIR'\nhint: see `islr-data check --help`"),
        (["check", "x", "--jsno"], "no such option: --jsno"),
        (["synth", "x", "--clips", "many"], "invalid value for '--clips'"),
        (["info", "gone"], "there is no such data folder"),
    ],
)
def test_wrong_usage_is_an_error_with_a_hint(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage ends with exit code 2, an error in the common form on stderr, and nothing on stdout."""
    assert execute(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.splitlines()[-1].startswith("hint: ")


def test_a_closed_pipe_is_quiet(folder: Path) -> None:
    """A reader that closes the pipe early, such as `head`, causes no message."""
    write_words(folder, ["hello", "thanks", *(f"word{number}" for number in range(20_000))])
    process = subprocess.Popen(
        [sys.executable, "-m", "data_utils", "info", str(folder)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(timeout=60)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """If the clips raise an error, the old file stays and no temporary file is left."""
    write_signer(tmp_path / "1.hdf5", [Clip("1", feature(), 0)])
    before = (tmp_path / "1.hdf5").read_bytes()

    def broken() -> list[Clip]:
        raise RuntimeError("no more clips")

    with pytest.raises(RuntimeError, match="no more clips"):
        write_signer(tmp_path / "1.hdf5", (clip for make in (broken,) for clip in make()))
    assert [path.name for path in tmp_path.iterdir()] == ["1.hdf5"]
    assert (tmp_path / "1.hdf5").read_bytes() == before


def test_the_fingerprint_depends_on_content_alone(folder: Path) -> None:
    """Another folder name keeps the fingerprint; another word, label, landmark or file name changes it."""
    first = fingerprint(open_data(folder))
    moved = folder.rename(folder.with_name("moved"))
    assert fingerprint(open_data(moved)) == first
    seen = {first}
    for change in (
        lambda: write_words(moved, ["hello", "bye"]),
        lambda: replace("token", np.array([0]))(moved),
        lambda: replace("feature", feature(4, 9))(moved),
        lambda: (moved / "1002.hdf5").rename(moved / "1003.hdf5"),
    ):
        change()
        seen.add(fingerprint(open_data(moved)))
    assert len(seen) == 5


def test_hidden_files_are_ignored(folder: Path) -> None:
    """Hidden files of operating systems and temporary files are not read as data."""
    (folder / ".1001.hdf5").write_text("")
    (folder / "._words.json").write_text("")
    (folder / "LICENSE.txt").write_text("")
    assert find_problems(folder) == []
    assert [file.signer for file in signer_files(folder)] == ["1001", "1002"]


def test_frames_may_come_first(folder: Path, tmp_path: Path) -> None:
    """[T, 543, 3] is read as [3, T, 543]: the same index, clips and prepared data, also with 3 frames."""
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    with h5py.File(other / "1001.hdf5", "r+") as h5:
        for clip in h5.values():
            values = clip["feature"][()]
            del clip["feature"]
            clip["feature"] = values.transpose(1, 2, 0)
    (before, *_), (after, *_) = signer_files(folder), signer_files(other)
    assert read_index(after) == read_index(before)
    for one, two in zip(read_clips(before, 2), read_clips(after, 2), strict=True):
        np.testing.assert_array_equal(two.feature_CTJ, one.feature_CTJ)
    sets = [prepare(open_data(place), ["1001"], PreprocessConfig(), mirrored=False) for place in (folder, other)]
    np.testing.assert_array_equal(sets[0].frames_NF, sets[1].frames_NF)


def test_a_digest_is_of_values(folder: Path, tmp_path: Path) -> None:
    """Copies with the same x and y are known, however they are stored and whatever their z; others are not."""
    file, *_ = signer_files(folder)
    stored = [clip.digest for clip in read_index(file, with_digests=True)]
    assert len({*stored, ""}) == len(stored) + 1
    for kind, change, same in (
        ({}, lambda values: values, True),
        ({"compression": "gzip", "compression_opts": 9}, lambda values: values.astype(np.float64), True),
        ({"chunks": True, "compression": "lzf"}, lambda values: values.transpose(1, 2, 0), True),
        ({"fletcher32": True}, lambda values: np.where(np.isnan(values), -np.float32(np.nan), values), True),
        ({}, lambda values: np.nan_to_num(values) * np.float32([[[1]], [[1]], [[0.5]]]), True),
        ({}, lambda values: values[:, :, ::-1], False),
    ):
        with h5py.File(file.path) as old, h5py.File(tmp_path / "new.hdf5", "w") as new:
            for name in old:
                new.create_dataset(f"{name}/feature", data=change(old[name]["feature"][()]), **kind)
                new[f"{name}/token"] = old[name]["token"][()]
        again = read_index(SignerFile(tmp_path / "new.hdf5", "new", mirrored=False), with_digests=True)
        assert ([clip.digest for clip in again] == stored) is same, kind


def test_every_ending_of_hdf5_is_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """.h5 and endings in capitals are read as well; two files of one signer are an error."""
    before = fingerprint(open_data(folder))
    shutil.copy(folder / "1001.hdf5", folder / "1003.HDF5")
    shutil.copy(folder / "1001.hdf5", folder / "1004_swap.h5")
    (folder / "1002.hdf5").rename(folder / "1004.h5")
    assert [(file.signer, file.mirrored) for file in signer_files(folder)] == [
        *(("1001", False), ("1003", False), ("1004", False), ("1004", True))
    ]
    assert execute(["check", str(folder)]) == 0
    assert "6 clips of 2 words by 3 signers" in capsys.readouterr().out
    assert fingerprint(open_data(folder)) != before
    shutil.copy(folder / "1001.hdf5", folder / "1001.h5")
    assert execute(["check", str(folder)]) == 1
    assert "two files of one signer" in capsys.readouterr().out


def test_a_dictionary_may_begin_with_a_byte_order_mark(folder: Path) -> None:
    """Windows writes one."""
    path = folder / DICTIONARY_NAME
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_words(folder) == ("hello", "thanks")


def test_suggestions() -> None:
    """A misspelled name gets the closest known name as a suggestion, an unrelated one gets none."""
    assert suggest("1602", ["1606", "9999"]) == "did you mean `1606`?"
    assert suggest("xyz", ["1606"]) is None
