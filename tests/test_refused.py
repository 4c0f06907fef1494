"""Where nothing was started, nothing was made: a refused `run` leaves the working directory as it was."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from conftest import Cli
from launch import TINY_STUDY

from search.api import define
from search.errors import DefinitionError
from search.running.refused import nothing_left_if_refused

TINY = "TINY"
"""Stands for the data set in the commands below."""

REFUSED = {
    "no data": ("--data", "nowhere"),
    "data is no data set": ("--data", "."),
    "unknown signer": ("--data", TINY, "--set", "data.train=[1]"),
    "unknown signer of the demo set": ("--set", "data.train=[1]"),
    "more folds than signers": ("--data", TINY, "--set", "data.folds=9"),
    "a clip is damaged": ("--data", "damaged"),
    "setting": ("--data", TINY, "--set", "epochs=x"),
    "unknown key": ("--data", TINY, "--set", "learning_rte=1"),
    "storage": ("--data", TINY, "--storage", "foo://x"),
    "storage without a server": ("--data", TINY, "--storage", "postgresql://localhost:1/x"),
    "storage is a text": ("--data", TINY, "--storage", "sqlite:///tiny.yaml"),
    "lease": ("--data", TINY, "--storage", "postgresql://localhost:1/x", "--lease", "0"),
    "device": ("--data", TINY, "--device", "cuda:9"),
    "engine": ("--data", TINY, "--engine", "threads"),
    "address": ("--data", TINY, "--address", "here"),
    "source": ("--data", TINY, "--from", "nothing"),
    "source with the demo set": ("--from", "nothing"),
    "source is itself": ("--data", TINY, "--from", "tiny"),
    "name": ("--data", TINY, "--as", "a/b"),
    "taken folder": ("--data", TINY, "--runs", ".", "--as", "taken"),
    "time": ("--data", TINY, "--timeout", "x"),
    "option": ("--data", TINY, "--trials", "x"),
    "nested runs": ("--data", "nowhere", "--runs", "a/b"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refused_run_makes_nothing(kind: str, place: Path, cli: Cli, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong: no `runs`, no database, no demo set, no locks."""
    monkeypatch.setattr("search.running.preparing.synthesize", lambda folder, **_: shutil.copytree(tiny, folder))
    Path("taken").touch()
    shutil.copytree(tiny, "damaged")
    with h5py.File("damaged/9001.hdf5", "r+") as file:
        next(iter(file.values()))["feature"][...] = float("inf")
    before = sorted(place.rglob("*"))
    words = [tiny if word == TINY else word for word in REFUSED[kind]]
    done = cli("run", "tiny.yaml", *words)
    assert done.code == (3 if "storage " in kind else 2), done.err
    assert sorted(place.rglob("*")) == before


def test_a_refused_run_takes_nothing_away(place: Path, cli: Cli, tiny: Path) -> None:
    """What earlier runs have made in the same folder stays."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 1).code == 0
    before = sorted(path for path in place.rglob("*") if "locks" not in str(path))
    (place / "other.yaml").write_text(TINY_STUDY.replace("high: 0.5", "high: 0.4"), encoding="utf-8")
    other = cli("run", "other.yaml", "--as", "tiny", "--data", tiny)
    assert other.code == 2, other.err
    assert cli("run", "tiny.yaml", "--data", tiny, "--from", "nothing", "--as", "new").code == 2
    (place / "other.yaml").unlink()
    assert sorted(path for path in place.rglob("*") if "locks" not in str(path)) == before


def test_a_refused_run_leaves_what_another_is_preparing(
    place: Path, cli: Cli, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that prepares in the same new folder, with its database elsewhere, keeps demo set and clips, and finishes."""
    prepares, refused, done = threading.Event(), threading.Event(), []

    def search() -> None:
        done.append(define("tiny.yaml", storage="sqlite:///elsewhere.db").run(1, progress=False))

    def synthesize(folder: Path, **_: object) -> None:
        if threading.current_thread() is other:
            shutil.copytree(tiny, folder)
        else:  # the refused run makes the demo set, and the other one is faster
            other.start()
            assert prepares.wait(60)

    def check(*_: object) -> None:
        prepares.set()
        assert refused.wait(60)

    other = threading.Thread(target=search)
    monkeypatch.setattr("search.running.preparing.synthesize", synthesize)
    monkeypatch.setattr("search.running.preparing.require_fits_data", check)
    answer = cli("run", "tiny.yaml", "--set", "data.train=[1]")
    assert answer.code == 2, answer.err
    assert Path("runs", "data", "demo", "9001.hdf5").exists()
    assert len(list(Path("runs", "prepared", "index").iterdir())) == 4
    refused.set()
    other.join()
    assert [result.finished for result in done] == [1]
    assert not Path("runs", ".preparing.lock").exists()


def test_a_refused_command_leaves_what_another_has_prepared(place: Path) -> None:
    """Another command that came later and ended earlier, such as `retrain`, keeps its clips; so does one that came before."""
    runs, clips = Path("runs"), Path("runs", "prepared", "clips")

    def prepare() -> None:
        with nothing_left_if_refused(runs):
            clips.mkdir(parents=True, exist_ok=True)

    for _ in ("the other comes later", "the other came before"):
        with pytest.raises(DefinitionError):
            refuse(runs, prepare)
        assert sorted(runs.rglob("*")) == [clips.parent, clips]


def refuse(runs: Path, meanwhile: Callable[[], None]) -> None:
    """A command that is refused after something has happened."""
    with nothing_left_if_refused(runs):
        meanwhile()
        raise DefinitionError("refused")
