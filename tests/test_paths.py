"""The file that is named is the file that everybody uses; a password is never shown, not even in part."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import optuna_dashboard._storage_url
import pytest
from conftest import Cli
from launch import environment

from search.reporting.dashboard.serve import plain_command
from search.storage.leases.files import locks_folder
from search.storage.opening import open_storage
from search.storage.read_only import open_read_only
from search.storage.url import parse_url

NAMES = [
    "{x}",
    "{SCHEMA_VERSION}",
    "{",
    "{0}{}",
    "my%20db",
    "100%",
    "%7Bx%7D",
    "a b",
    "a#b",
    "a&b+c=d",
    "a@b:c",
    "手話ü",
    "C:\\x",
    "file:x",
    "~x",
    "'q\"",
    "a;b",
    "-x",
    "*",
    "folder%41/{y}",
]


@pytest.mark.parametrize("name", NAMES)
def test_one_file(name: str, place: Path) -> None:
    """This tool's reader, Optuna, its dashboard and the locks use the file that was named, and no other."""
    url = f"sqlite:///{name}.db"
    path = place / f"{name}.db"
    storage = open_storage(url, create=True)
    optuna.create_study(storage=storage, study_name="s")
    storage.remove_session()
    assert parse_url(url).path == Path(f"{name}.db")
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert optuna.get_all_study_names(open_read_only(url)) == ["s"]
    assert optuna.get_all_study_names(open_storage(url, create=False)) == ["s"]
    assert locks_folder(Path(f"{name}.db"), "s").parent == path.parent / f".{path.name}.locks"
    others = {f".{path.name}.locks", path.name, f"{path.name}-wal", f"{path.name}-shm", "tiny.yaml"}
    assert {one.name for one in path.parent.iterdir()} <= others
    served = optuna_dashboard._storage_url.get_storage(parse_url(url).url)
    assert optuna.get_all_study_names(served) == ["s"]
    served.engine.dispose()
    assert {one.name for one in path.parent.iterdir()} <= others


@pytest.mark.parametrize("name", NAMES)
def test_one_journal(name: str, place: Path) -> None:
    """The same with a journal."""
    url = f"journal:///{name}.log"
    optuna.create_study(storage=open_storage(url, create=True), study_name="s")
    assert optuna.get_all_study_names(open_storage(url, create=False)) == ["s"]
    assert (place / f"{name}.log").stat().st_size > 0


def test_two_spellings_of_one_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links, relative paths and `~` lead to the same file, locks and lock of the journal."""
    monkeypatch.setenv("HOME", str(place))
    (place / "real").mkdir()
    (place / "link").symlink_to("real")
    (place / "linked.db").symlink_to("real/a.db")
    spellings = ["real/a.db", "./real/../real/a.db", "link/a.db", "linked.db", "~/real/a.db", str(place / "link" / "a.db")]
    paths = [parse_url(f"sqlite:///{spelling}").path for spelling in spellings]
    assert len({locks_folder(path, "s") for path in paths if path is not None}) == 1
    for number, spelling in enumerate(spellings):
        optuna.create_study(storage=open_storage(f"sqlite:///{spelling}", create=True), study_name=str(number))
    assert len(optuna.get_all_study_names(open_read_only("sqlite:///real/a.db"))) == len(spellings)
    (place / "linked.log").symlink_to("real/a.log")
    backends = [open_storage(url, create=True)._backend for url in ("journal:///real/a.log", "linked.log", "~/real/a.log")]  # type: ignore[attr-defined]
    assert {backend._lock._lock_file for backend in backends} == {str(place / "real" / "a.log.lock")}


def test_home(place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, searched: Path) -> None:
    """`~` is the home folder wherever a path is named, also behind `=` and in a variable, where no shell expands it."""
    monkeypatch.setenv("HOME", str(searched))
    monkeypatch.setenv("SEARCH_STORAGE", "sqlite:///~/runs/studies.db")
    monkeypatch.setenv("SEARCH_RUNS", "~/runs")
    answer = cli("show", "tiny", "1")
    assert answer.code == 0, answer
    assert str(searched / "runs" / "tiny") in answer.out
    assert cli("show", "tiny", "1", "--runs=~/runs") == answer
    monkeypatch.setenv("HOME", str(place))
    assert cli("trials", "tiny", "--storage", f"sqlite:///{searched}/runs/studies.db", "--output=~/t.csv").code == 0
    assert (place / "t.csv").exists()
    assert not (place / "~").exists()


def test_dashboard_command(place: Path) -> None:
    """The printed command names the same file to optuna-dashboard."""
    command = plain_command("sqlite:///a b/{x}%20.db", "127.0.0.1", 8080, Path("runs/artifacts"))
    assert command.startswith("optuna-dashboard 'sqlite:///a b/%7Bx%7D%2520.db' ")
    assert "optuna-dashboard sqlite:///runs/studies.db " in plain_command("sqlite:///runs/studies.db", "h", 1, Path("a"))


SECRET = "SuperSecret"
LEAKY = [
    f"postgresql://u1:p@{SECRET}@h/d1",
    f"postgresql://u1:{SECRET}@x@h/d1",
    f"postgresql://u:p/{SECRET}",
    f"postgresql://u:p#{SECRET}",
    f"postgresql://u:{SECRET}",
    f"postgresql://u:1{SECRET}/d",
    f"postgresql://u:p@{SECRET}/x@h:1/d",
    f"postgresql:/u:{SECRET}@h/d",
    f"postgresql:u:{SECRET}@h/d",
    f"//u:{SECRET}@h/d",
    f"u:{SECRET}@h/d",
    f"postgres://u:{SECRET}@h/d",
    f"POSTGRESQL://u:{SECRET}@h/d",
    f"mysql://u:pw?{SECRET}@h",
    f"mysql://u:pw@{SECRET}@h/d",
    f"mysql://u:{SECRET}[@127.0.0.1:x/d",
    f"postgresql://h/d?password=a@{SECRET}&x=1",
    f"postgresql://h/d?password=a&{SECRET}&x=1",
    f"postgresql://:{SECRET}@/d@",
    f"sqlite://u:{SECRET}@h/x.db",
]


@pytest.mark.parametrize("url", LEAKY)
def test_no_part_of_a_password_is_shown(url: str, place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL that is cut off, or whose password is not quoted, is refused before it reaches a driver, which would quote it."""
    monkeypatch.setattr("search.reporting.doctor._PACKAGES", ())
    for words in (("list",), ("run", "tiny.yaml", "--data", "nowhere"), ("run", "tiny.yaml", "--dry-run"), ("doctor",)):
        answer = cli(*words, "--storage", url)
        assert SECRET not in answer.out + answer.err, answer
        assert answer.code in ((0,) if "--dry-run" in words else (1,) if words == ("doctor",) else (2, 3)), answer
    answer = cli("copy", "tiny", "--to", url)
    assert SECRET not in answer.out + answer.err

    def broken(*_: object) -> None:
        raise RuntimeError(f"no luck with {url}")

    monkeypatch.setattr("search.reporting.status.has_studies", broken)
    assert cli("list", "--storage", url).code == 4
    assert not [path for path in place.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_an_at_sign_that_is_not_quoted(cli: Cli) -> None:
    """The hint says how to write it."""
    answer = cli("list", "--storage", "postgresql://u1:p@SuperSecret@127.0.0.1/d1")
    assert answer.code == 2
    assert answer.err.splitlines()[0] == "error: the storage URL holds an `@` that is not quoted"
    assert "`@` as `%40`" in answer.err.splitlines()[-1]


def test_packages_of_our_names_in_the_working_folder(tmp_path: Path) -> None:
    """`model` and `data_utils` are the program's, whatever the folder holds that one stands in."""
    for name in ("model", "data_utils", "studies"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('not ours')", encoding="utf-8")
    command = [sys.executable, "-m", "search", "run", "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
