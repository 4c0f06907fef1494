"""Searches on a database server: outages, and several runs on different machines."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from conftest import Cli
from launch import STORAGE, TINY_STUDY, is_in_trial, outcomes, run_cli, start_cli, states, stored_trials, wait_until
from optuna.study._frozen import FrozenStudy
from postgres import Postgres

from search.storage.opening import open_storage, table_creation_lock

pytestmark = pytest.mark.slow

SLOW = ("--set", "train.kernel=torch")  # slow enough to be interrupted
LONG = ("--set", "epochs=60", "--trials", "3", *SLOW)


@pytest.fixture
def served(place: Path, own_postgres: Postgres) -> Path:
    """Same as `place`, with the studies on a server that the test may stop and start."""
    (place / STORAGE).write_text(own_postgres.new_database()[1], encoding="utf-8")
    return place


@pytest.fixture
def uninterrupted(tiny: Path, tmp_path: Path) -> list[tuple[object, ...]]:
    """The outcomes of an uninterrupted search."""
    folder = tmp_path / "uninterrupted"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    assert run_cli("run", "tiny.yaml", "--data", str(tiny), *LONG, cwd=folder).code == 0
    return outcomes(folder)


@pytest.mark.parametrize("end", [lambda server: server.stop("fast"), Postgres.kill], ids=["stopped", "killed"])
def test_server_outage(
    end: Callable[[Postgres], None], served: Path, own_postgres: Postgres, tiny: Path, uninterrupted: list[tuple[object, ...]]
) -> None:
    """Training continues during an outage, and all results are written when the server is back."""
    process = start_cli("run", "tiny.yaml", "--data", str(tiny), "--workers", "1", *LONG, cwd=served)
    wait_until(is_in_trial(served, 1, epochs=5), process)
    end(own_postgres)
    time.sleep(3)
    assert process.poll() is None
    own_postgres.start()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err.count("the study database cannot be reached") == 1
    assert err.count("the study database is back after") == 1
    assert outcomes(served) == uninterrupted
    assert own_postgres.secret not in err


def test_server_that_stays_unreachable(
    served: Path, own_postgres: Postgres, tiny: Path, uninterrupted: list[tuple[object, ...]]
) -> None:
    """The search ends with exit code 3 and reports what is not written; the same command resumes from the checkpoint."""
    command = ("run", "tiny.yaml", "--data", str(tiny), *LONG, "--storage-patience", "1s")
    process = start_cli(*command, cwd=served)
    wait_until(is_in_trial(served, 1, epochs=5), process)
    own_postgres.stop()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert "are not written (of trials" in err
    assert err.splitlines()[-4] == "error: the study database cannot be used"
    assert own_postgres.secret not in out + err
    assert run_cli(*command, cwd=served).code == 3, "the server is still down"
    own_postgres.start()
    done = run_cli(*command, cwd=served)
    assert done.code == 0, done.err
    assert "trial 1 was interrupted: resuming after epoch" in done.err
    assert outcomes(served) == uninterrupted


def test_run_with_an_expired_lease(served: Path, tiny: Path) -> None:
    """Another run reclaims the trials of a suspended run, which writes nothing for them and continues with others."""
    command = ("run", "tiny.yaml", "--data", str(tiny), "--set", "epochs=40", "--trials", "6", "--lease", "2s", *SLOW)
    first = start_cli(*command, cwd=served)
    wait_until(is_in_trial(served, 0), first)
    first.send_signal(signal.SIGSTOP)
    second = start_cli(*command, cwd=served)
    wait_until(lambda: states(served)[:1] == ["COMPLETE"], second)
    first.send_signal(signal.SIGCONT)
    ended = [process.communicate(timeout=120)[1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), ended
    assert "this run was silent for so long that other runs reclaimed its trials (0)" in ended[0]
    assert "trial 0 was interrupted" in ended[1]
    trials = stored_trials(served)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 6
    assert len({tuple(trial.params.values()) for trial in trials}) == 6
    assert all(sorted(trial.intermediate_values) == list(range(1, 41)) for trial in trials)


def test_runs_on_several_machines(served: Path, own_postgres: Postgres, tiny: Path) -> None:
    """Four runs with separate folders share a database; one is killed, the server restarts: the target is met exactly."""
    command = ("run", "tiny.yaml", "--data", str(tiny), "--set", "epochs=30", "--trials", "9", "--lease", "3s", *SLOW)
    runs = [start_cli(*command, "--runs", f"host{number}", cwd=served) for number in range(4)]
    wait_until(lambda: _has_trials(served) and Counter(states(served))["COMPLETE"] >= 2, runs[0], timeout_s=120)
    runs[3].kill()
    own_postgres.stop()
    time.sleep(1)
    own_postgres.start()
    ended = [run.communicate(timeout=200) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0, -signal.SIGKILL], ended
    trials = stored_trials(served)
    assert Counter(trial.state.name for trial in trials) == {"COMPLETE": 9}
    assert [trial.number for trial in trials] == list(range(9))
    assert len({tuple(trial.params.values()) for trial in trials}) == 9
    assert all("9 of 9 trials finished" in out for out, _ in ended[:3])


def _has_trials(place: Path) -> bool:
    try:
        return bool(states(place))
    except Exception:
        return False


def test_reading_waits_until_tables_are_created(postgres_url: str) -> None:
    """A reader that opens the storage while the first run creates the tables waits until they exist."""
    open_storage(postgres_url, create=True)
    opened = threading.Event()

    def read() -> None:
        open_storage(postgres_url, create=False)
        opened.set()

    with table_creation_lock(sqlalchemy.create_engine(postgres_url, poolclass=sqlalchemy.NullPool)):
        thread = threading.Thread(target=read)
        thread.start()
        assert not opened.wait(1)
    thread.join(30)
    assert opened.is_set()


def test_unusable_server(place: Path, postgres: Postgres, cli: Cli, tiny: Path) -> None:
    """A missing database, a wrong password or no server: exit code 3 and an error without the password."""
    _, url = postgres.new_database()
    no_server = url.replace(f":{postgres.port}/", ":1/")
    for unusable in (postgres.url("nothing"), postgres.url("postgres", password="wr0ng-s3cret"), no_server):
        for command in (("run", "tiny.yaml", "--data", tiny), ("status", "tiny"), ("list",)):
            answer = cli(*command, "--storage", unusable)
            assert answer.code == 3, answer
            assert "error: the study database cannot be used" in answer.err
            assert "hint: is the server up" in answer.err
            assert postgres.secret not in answer.err
            assert "wr0ng" not in answer.err
    assert cli("status", "tiny", "--storage", url).code == 2, "the database exists and is empty"


def test_passwords_stay_secret(place: Path, postgres: Postgres, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password appears in no output, no file and no table of the database."""
    name, url = postgres.new_database()
    monkeypatch.setenv("SEARCH_STORAGE", url)
    texts = []
    commands = [
        ("run", "tiny.yaml", "--data", str(tiny), "--storage", url),
        ("run", "tiny.yaml", "--data", str(tiny), "--json", "--trials", "5"),
        ("run", "tiny.yaml", "--dry-run"),
        ("confirm", "tiny", "--top", "1", "--seeds", "2", "--storage", url),
        ("status", "tiny"),
        ("status", "tiny", "--json"),
        ("list",),
        ("show", "tiny", "1"),
        ("trials", "tiny", "--format", "jsonl"),
        ("analyze", "tiny"),
        ("export", "tiny", "--output", "best.yaml"),
        ("report", "tiny"),
        ("dashboard", "tiny", "--print-command"),
        ("test", "tiny"),
        ("doctor",),
        ("copy", "tiny", "--to", "sqlite:///copy.db"),
    ]
    for command in commands:
        answer = cli(*command)
        assert answer.code in (0, 1), (command, answer)
        texts.append(answer.out + answer.err)
    with sqlite3.connect(place / "copy.db") as copied:
        texts += copied.iterdump()
    texts += [str(row) for table in _tables(postgres, name) for row in postgres.execute(f'SELECT * FROM "{table}"', name)]
    files = [path for path in place.rglob("*") if path.is_file()]
    assert len(files) > 30
    assert not [text for text in texts if postgres.secret in text]
    assert not [path for path in files if postgres.secret.encode() in path.read_bytes()]
    assert any("tester:***@127.0.0.1" in text for text in texts)
    assert any('--storage "$SEARCH_STORAGE"' in text for text in texts)


def test_server_outage_while_reading(served: Path, own_postgres: Postgres, tiny: Path, cli: Cli) -> None:
    """Commands that only read end with exit code 3 and an error, not with a crash."""
    url = (served / STORAGE).read_text(encoding="utf-8")
    assert run_cli("run", "tiny.yaml", "--data", str(tiny), "--trials", "1", cwd=served).code == 0
    real = optuna.storages.RDBStorage.get_all_studies

    def stop_server(storage: optuna.storages.RDBStorage) -> list[FrozenStudy]:
        own_postgres.stop()
        return real(storage)

    for command in (("list",), ("status", "tiny"), ("export", "tiny")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(optuna.storages.RDBStorage, "get_all_studies", stop_server)
            answer = cli(*command, "--storage", url)
        own_postgres.start()
        assert answer.code == 3, answer
        assert "error: the study database cannot be used" in answer.err
        assert own_postgres.secret not in answer.err


def test_crash_log_contains_no_password(place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The crash log has the command line and the traceback, with passwords removed."""
    url = "postgresql://somebody:s3cret%2Fword@127.0.0.1:1/d"

    def broken(*_: object) -> None:
        raise RuntimeError(f"no luck with {url} and s3cret/word")

    monkeypatch.setattr("search.reporting.status.has_studies", broken)
    for words in (("list", "--storage", url), ("list", f"--storage={url}")):
        answer = cli(*words)
        assert answer.code == 4
        text = next((place / "runs").glob("crash-*.log")).read_text(encoding="utf-8")
        assert "no luck with" in text
        assert "list" in text
        assert "s3cret" not in text


def _tables(postgres: Postgres, database: str) -> list[str]:
    rows = postgres.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'", database)
    return [name for (name,) in rows]
