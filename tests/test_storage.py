"""Storages: concurrent readers and writers, URLs, and proper errors instead of tracebacks."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from search.errors import DefinitionError, ResourceError
from search.storage.errors import database_errors
from search.storage.opening import open_storage
from search.storage.url import parse_url, sqlite_path
from search.study.study import load_study

HOLD = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
connection.execute("COMMIT")
connection.close()
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The URL of a new database."""
    return f"sqlite:///{tmp_path / 'studies.db'}"


@pytest.fixture
def storage(url: str) -> Iterator[optuna.storages.BaseStorage]:
    """A database created by this tool."""
    opened = open_storage(url, create=True)
    yield opened
    opened.remove_session()


def pragma(storage: optuna.storages.BaseStorage, name: str) -> object:
    """The value of a pragma in Optuna's connections."""
    assert isinstance(storage, optuna.storages._CachedStorage)
    with storage._backend.engine.connect() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def test_how_sqlite_is_opened(storage: optuna.storages.BaseStorage) -> None:
    """Every connection has write-ahead logging, a busy timeout of a minute, and synchronous=NORMAL."""
    assert pragma(storage, "journal_mode") == "wal"
    assert pragma(storage, "busy_timeout") == 60_000
    assert pragma(storage, "synchronous") == 1


@pytest.mark.slow
@pytest.mark.parametrize("held_s", [2.0, 8.0])
def test_reports_wait_for_other_writers(held_s: float, url: str, storage: optuna.storages.BaseStorage) -> None:
    """A report waits for another process's write lock instead of failing."""
    study = optuna.create_study(storage=storage, study_name="s")
    trial = study.ask()
    holder = [sys.executable, "-c", HOLD, str(sqlite_path(url)), str(held_s)]
    with subprocess.Popen(holder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        started = time.monotonic()
        trial.report(1.0, 1)
        assert time.monotonic() - started > held_s / 2
        process.wait()
    assert study.trials[0].intermediate_values == {1: 1.0}


def test_readers_do_not_wait(url: str, storage: optuna.storages.BaseStorage) -> None:
    """While another process writes, the previous state can be read."""
    optuna.create_study(storage=storage, study_name="s")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(sqlite_path(url)), "1.5"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        started = time.monotonic()
        assert load_study(storage, "s", print).study_name == "s"
        assert time.monotonic() - started < 1
        process.kill()


@pytest.mark.parametrize("content", [b"garbage" * 100, b"SQLite format 3\0" + b"\0" * 500])
@pytest.mark.parametrize("create", [True, False])
def test_not_a_database(content: bytes, create: bool, url: str) -> None:
    """A file that is not a database gives a proper error and is not overwritten."""
    sqlite_path(url).write_bytes(content)
    with pytest.raises(ResourceError) as caught:
        open_storage(url, create=create)
    lines = caught.value.render().splitlines()
    assert lines[:2] == ["error: the study database cannot be used", f"  --> {sqlite_path(url)}"]
    assert lines[-1].startswith("hint: ")
    assert sqlite_path(url).read_bytes() == content


def test_missing_database(url: str) -> None:
    """Reading does not create a database."""
    with pytest.raises(DefinitionError, match="no study database yet"):
        open_storage(url, create=False)
    assert not sqlite_path(url).exists()


@pytest.mark.parametrize(
    "url",
    ["", "x.db", "sqlite:///", "sqlite:///:memory:", "mssql://u:secret@h/d", "postgresql://u:secret@h", "sqlite:///a?b=1"],
)
def test_unsupported_urls(url: str) -> None:
    """Unsupported URLs are refused, without showing the password."""
    with pytest.raises(DefinitionError) as caught:
        parse_url(url)
    assert "secret" not in caught.value.render()


@pytest.mark.parametrize("url", ["postgresql://u:secret@h:port/d", "mysql://u:secret@h/d?not_an_option=1"])
def test_urls_that_no_driver_supports(url: str) -> None:
    """A malformed server URL is refused as such, without showing the password."""
    with pytest.raises(DefinitionError) as caught:
        open_storage(url, create=False)
    assert "secret" not in caught.value.render()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p?ss/w:#rd@h:5/d", "postgresql://u:***@h:5/d"),
        ("postgresql://u@server:p%40ss@h:5/d?password=a&b&x=1", "postgresql://u@server:***@h:5/d?password=***&x=1"),
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql://h/d?user=u&password=secret&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ("mysql+pymysql://u:{x}%@h/d", "mysql+pymysql://u:***@h/d"),
        ("sqlite:///a@b:c.db", "sqlite:///a@b:c.db"),
        ("journal:///a.log", "journal:///a.log"),
        ("a/b.journal", "journal:///a/b.journal"),
    ],
)
def test_redacted_urls(url: str, shown: str) -> None:
    """A redacted URL shows everything but the password; the driver gets the full URL."""
    parsed = parse_url(url)
    assert parsed.redacted == shown
    assert "***" not in parsed.url
    assert parsed.redact(f"x {url} y").count("secret") == 0


def test_missing_study(storage: optuna.storages.BaseStorage) -> None:
    """The error for a missing study lists the existing ones."""
    with pytest.raises(DefinitionError) as caught:
        load_study(storage, "x", print)
    assert "there is none yet" in caught.value.render()
    optuna.create_study(storage=storage, study_name="b")
    optuna.create_study(storage=storage, study_name="a")
    with pytest.raises(DefinitionError) as caught:
        load_study(storage, "x", print)
    assert caught.value.expected == "one of a, b"


def test_only_database_errors_are_converted(url: str) -> None:
    """A bug of the program passes through unchanged."""
    for error in (RuntimeError("a fault of this version"), ValueError()):
        with pytest.raises(type(error)), database_errors(url):
            raise error
    with pytest.raises(ResourceError), database_errors(url):
        raise optuna.exceptions.StorageInternalError("x")
