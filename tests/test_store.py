"""The store of prepared data and the catalog cache: computed once, shared, and computed again when invalid."""

from __future__ import annotations

import json
import multiprocessing as mp
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_utils import hdf5, processes, store
from data_utils.catalog import CatalogEntry
from data_utils.errors import DataError, ResourceError
from data_utils.normalize import PreprocessConfig
from data_utils.prepared import ClipSet, DataSet, fingerprint, open_data, prepare

CONFIG = PreprocessConfig()


def entries_of(data: DataSet) -> tuple[CatalogEntry, ...]:
    """Every file of a data set."""
    return data.entries_of([entry.file.signer for entry in data.entries], mirrored=True)


def make(data: DataSet, folder: Path, config: PreprocessConfig = CONFIG) -> tuple[ClipSet, list[str]]:
    """The prepared clips of all signers, and the reported lines."""
    reported: list[str] = []
    return store.load_prepared(entries_of(data), config, folder, report=reported.append), reported


def kept(folder: Path) -> list[Path]:
    """The prepared folders in a store."""
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def same(one: ClipSet, other: ClipSet) -> bool:
    """Whether two clip sets are equal bit for bit."""
    names = ("frames_NF", "real_N", "lengths_C", "labels_C", "starts_C")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.fixture
def data(tiny: Path) -> DataSet:
    """The tiny data set."""
    return open_data(tiny)


@pytest.mark.parametrize("mask", ["lengths", "detected"])
def test_files_equal_preparation_in_memory(data: DataSet, tmp_path: Path, mask: str) -> None:
    """The mapped file, when computed and when read again, equals preparation in memory, and nothing is reported."""
    config = PreprocessConfig(mask=mask)  # type: ignore[arg-type]
    signers = [entry.file.signer for entry in data.entries]
    in_memory = prepare(data, signers, config, mirrored=True)
    for _ in range(2):
        clips, reported = make(data, tmp_path, config)
        assert same(clips, in_memory)
        assert reported == []
    assert isinstance(clips.frames_NF, np.memmap)
    assert make(data, tmp_path, config)[0].frames_NF is clips.frames_NF  # mapped once for all trials of a process


def test_processes_give_the_same(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preparation in several processes equals preparation in one, and reports its progress."""
    alone, _ = make(data, tmp_path / "one")
    monkeypatch.setattr(store, "_FRAMES_PER_PROCESS", 1)
    steps: list[tuple[int, int]] = []
    many = store.load_prepared(
        entries_of(data), CONFIG, tmp_path / "many", report=print, progress=lambda done, total: steps.append((done, total))
    )
    assert same(alone, many)
    assert steps[-1] == (len(many), len(many))
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _press_ctrl_c_and_fill(task: store._Task) -> tuple[np.ndarray, list[object]]:
    os.kill(os.getpid(), signal.SIGINT)
    return store._fill_one(task)


@pytest.mark.parametrize(
    ("module", "name", "instead"), [(processes, "end_with_parent", _die), (store, "_fill_one", _press_ctrl_c_and_fill)]
)
def test_killed_and_interrupted_processes_change_nothing(
    module: object, name: str, instead: object, data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where processes are killed, this one does their work. Ctrl-C does not reach them: this one decides what it means."""
    alone, _ = make(data, tmp_path / "one")
    monkeypatch.setattr(store, "_FRAMES_PER_PROCESS", 1)
    monkeypatch.setattr(module, name, instead)
    assert same(alone, make(data, tmp_path / "many")[0])


def test_other_inputs_other_folders(data: DataSet, tmp_path: Path) -> None:
    """Another preprocessing and other signers get folders of their own; equal inputs are not computed again."""
    make(data, tmp_path)
    make(data, tmp_path, PreprocessConfig(scale="none"))
    store.load_prepared(entries_of(data)[:2], CONFIG, tmp_path, report=print)
    assert len(kept(tmp_path)) == 3
    stamps = {path: (path / "frames.npy").stat().st_mtime_ns for path in kept(tmp_path)}
    make(data, tmp_path)
    assert {path: (path / "frames.npy").stat().st_mtime_ns for path in kept(tmp_path)} == stamps


def cut(folder: Path) -> None:
    """Cuts the frames short."""
    with (folder / "frames.npy").open("r+b") as stream:
        stream.truncate(1000)


def flip(folder: Path) -> None:
    """Changes one byte of the frames."""
    with (folder / "frames.npy").open("r+b") as stream:
        stream.seek(5000)
        byte = stream.read(1)
        stream.seek(5000)
        stream.write(bytes([byte[0] ^ 1]))


def garble(folder: Path) -> None:
    """Makes the description unreadable."""
    (folder / "about.json").write_text("{", encoding="utf-8")


def lose(folder: Path) -> None:
    """Removes a file."""
    (folder / "real.npy").unlink()


@pytest.mark.parametrize(
    ("harm", "why"),
    [(cut, "cut short (frames.npy)"), (flip, "damaged (frames.npy)"), (garble, "damaged (about.json)"), (lose, "damaged")],
)
def test_damaged_data_is_computed_again_with_a_report(data: DataSet, tmp_path: Path, harm: object, why: str) -> None:
    """Damaged prepared data is computed again, and one line says why."""
    whole, _ = make(data, tmp_path)
    expected = np.array(whole.frames_NF)
    (folder,) = kept(tmp_path)
    assert callable(harm)
    harm(folder)
    again, reported = make(data, tmp_path)
    assert np.array_equal(again.frames_NF, expected)
    assert len(reported) == 1
    assert why in reported[0]
    assert make(data, tmp_path)[1] == []


def test_a_touched_file_is_checked_not_computed_again(data: DataSet, tmp_path: Path) -> None:
    """A new modification time alone, as after a copy, costs a checksum but no preparation."""
    make(data, tmp_path)
    (folder,) = kept(tmp_path)
    inode = (folder / "frames.npy").stat().st_ino
    os.utime(folder / "frames.npy", (1, 1))
    assert make(data, tmp_path)[1] == []
    assert (folder / "frames.npy").stat().st_ino == inode


def test_a_write_stays_in_its_process(data: DataSet, tmp_path: Path) -> None:
    """The mapping is copy-on-write: a write changes neither the file nor other processes."""
    clips, _ = make(data, tmp_path)
    before = clips.frames_NF[1, 0]
    clips.frames_NF[1, 0] = 99.0
    del clips  # within a process all clips of a file share one mapping
    assert make(data, tmp_path)[0].frames_NF[1, 0] == before
    assert make(data, tmp_path)[1] == []


def test_a_damaged_clip_leaves_nothing(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in a clip is raised unchanged from a worker process, and no unfinished folder remains."""
    spoilt = tmp_path / "spoilt"
    shutil.copytree(tiny, spoilt)
    with h5py.File(spoilt / "9002.hdf5", "r+") as h5:
        name = sorted(h5)[1]
        h5[name]["feature"][...] = np.nan
    monkeypatch.setattr(store, "_FRAMES_PER_PROCESS", 1)
    with pytest.raises(DataError, match="nothing was detected") as caught:
        make(open_data(spoilt), tmp_path / "store")
    assert caught.value.path == f"/{name}/feature"
    assert kept(tmp_path / "store") == []
    assert not list((tmp_path / "store").glob(".*.part"))


def test_errors_can_be_pickled() -> None:
    """An explained error is the same after pickling."""
    error = DataError("what", file="a.hdf5", path="/1", got="this", expected="that", hint="do")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is DataError
    assert again.render() == error.render()
    assert again.path == "/1"


def _prepare_in_process(folder: Path, place: Path, barrier: object, answers: object) -> None:
    data = open_data(folder)
    barrier.wait()  # type: ignore[attr-defined]
    clips, _ = make(data, place)
    (made,) = kept(place)
    answers.put((len(clips), (made / "frames.npy").stat().st_ino))  # type: ignore[attr-defined]


def test_concurrent_processes_do_the_work_once(tiny: Path, tmp_path: Path) -> None:
    """Processes that prepare the same data at the same time get one folder, computed once."""
    context = mp.get_context("spawn")
    barrier, answers = context.Barrier(3), context.Queue()
    place = tmp_path / "store"
    processes = [context.Process(target=_prepare_in_process, args=(tiny, place, barrier, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    found = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert len(found) == 1
    assert not list(place.glob(".*.part"))
    answers.close()
    answers.join_thread()


KILLED = """
import sys, time
from pathlib import Path
from data_utils import prepared, store
from data_utils.normalize import PreprocessConfig
data = prepared.open_data(Path(sys.argv[1]))
real = prepared.preprocess
prepared.preprocess = lambda *a: (time.sleep(0.2), real(*a))[1]
entries = data.entries_of([e.file.signer for e in data.entries], mirrored=True)
store.load_prepared(entries, PreprocessConfig(), Path(sys.argv[2]), report=print)
"""


def test_a_killed_preparation_leaves_no_trace(tiny: Path, data: DataSet, tmp_path: Path) -> None:
    """After `kill -9` midway, the next run prepares the data without a report and removes the leftovers."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tiny), str(tmp_path)], cwd=Path(__file__).parents[1])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*.part/frames.npy")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob(".*.part"))
    clips, reported = make(data, tmp_path)
    assert reported == []
    assert len(clips) > 0
    assert not list(tmp_path.glob(".*.part"))


def test_the_catalog_is_cached(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cached catalog is used while the files are unchanged, and gives the same fingerprint."""
    first = open_data(tiny, tmp_path / "index")
    monkeypatch.setattr(hdf5, "read_index", lambda file: pytest.fail("read again"))
    again = open_data(tiny, tmp_path / "index")
    assert again == first
    assert fingerprint(again) == fingerprint(open_data(tiny, tmp_path / "index"))


def test_a_changed_file_or_damaged_cache_is_read_again(tiny: Path, tmp_path: Path) -> None:
    """A changed file and a damaged cache entry are read again."""
    copy, index = tmp_path / "data", tmp_path / "index"
    shutil.copytree(tiny, copy)
    first = open_data(copy, index)
    with h5py.File(copy / "9001.hdf5", "r+") as h5:
        clip = sorted(h5)[0]
        h5[clip]["token"][...] = (first.entries[0].labels[0] + 1) % len(first.words)
    changed = open_data(copy, index)
    assert changed.entries[0].labels[0] != first.entries[0].labels[0]
    assert fingerprint(changed) != fingerprint(first)
    for path in index.iterdir():
        path.write_text(json.dumps({"stamp": 1}), encoding="utf-8")
    assert open_data(copy, index) == changed


def test_an_unwritable_cache_is_ignored(tiny: Path, tmp_path: Path) -> None:
    """If the cache cannot be written, the data is read without it."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert open_data(tiny, tmp_path / "file" / "index") == open_data(tiny)


def test_an_unwritable_store_is_an_error(data: DataSet, tmp_path: Path) -> None:
    """A store that cannot be written is a ResourceError that names it."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ResourceError, match="cannot be written"):
        make(data, tmp_path / "file" / "store")
