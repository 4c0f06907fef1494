"""Shared fixtures: a small data set, finished and confirmed studies, the command line."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import jaxtyping
import pytest
import typer.main

SHAPES_CHECKED = ["model", "data_utils"]
jaxtyping.install_import_hook(SHAPES_CHECKED, "beartype.beartype")  # before these packages are imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
typer.main.get_command = functools.cache(typer.main.get_command)  # a process has one command line; the tests call it often

from launch import CONFIRM, STORAGE, TINY_STUDY, Answer  # noqa: E402 (after the hook)
from postgres import own_postgres, pgbouncer, postgres, postgres_url  # noqa: E402, F401 (fixtures)

from data_utils.synthetic.synthetic import synthesize  # noqa: E402
from search.cli import execute  # noqa: E402

Cli = Callable[..., Answer]


def pytest_collection_finish() -> None:
    """Keeps what is loaded by now out of garbage collection: there is much of it, and it stays."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 48 clips: 3 signs by 4 signers. Read-only."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    synthesize(folder, clips=48, signs=3, signers=4, seed=1)
    return folder


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands do not say that they are slow: on a busy machine each may be."""
    monkeypatch.setattr("search.commands.waiting._PATIENCE_S", 3600.0)


@pytest.fixture(autouse=True)
def no_user_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes environment variables of the user that would affect the tests."""
    for name in ("SEARCH_DATA", "SEARCH_KERNEL", "SEARCH_STORAGE", "SEARCH_RUNS", "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the file of a small study, `tiny.yaml`."""
    folder = tmp_path / "place"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(params=["sqlite", "postgresql"])
def place_per_storage(request: pytest.FixtureRequest, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Same as `place`; the test runs once with studies in SQLite and once with studies in PostgreSQL."""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
        (place / STORAGE).write_text(url, encoding="utf-8")
        monkeypatch.setenv("SEARCH_STORAGE", url)
    return place


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command in this process."""

    def call(*arguments: str | Path) -> Answer:
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["search", *words])
        capsys.readouterr()
        code = execute(words)
        shown = capsys.readouterr()
        return Answer(code, shown.out, shown.err)

    return call


@pytest.fixture(scope="session")
def searched(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a finished study `tiny` of 6 trials. Read-only."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    run_in(folder, "run", "tiny.yaml", "--data", str(tiny), "--trials", "6")
    return folder


@pytest.fixture(scope="session")
def once_confirmed(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the finished study `tiny`, its best two trials confirmed with at most five seeds. Read-only."""
    folder = tmp_path_factory.mktemp("once") / "confirmed"
    shutil.copytree(searched, folder)
    run_in(folder, *CONFIRM)
    return folder


@pytest.fixture
def confirmed(once_confirmed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `once_confirmed`, as the current directory."""
    return enter_copy(once_confirmed, tmp_path / "confirmed", monkeypatch)


@pytest.fixture
def searched_copy(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `searched`, as the current directory."""
    return enter_copy(searched, tmp_path / "searched", monkeypatch)


def enter_copy(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies a working directory and changes to the copy."""
    shutil.copytree(source, folder)
    monkeypatch.chdir(folder)
    return folder


def run_in(folder: Path, *words: str) -> None:
    """Runs a command in a folder; it must succeed."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert execute(list(words)) == 0
    finally:
        os.chdir(before)
