"""Searches on a database server that goes away, and by several runs that cannot see each other's processes."""

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
from launch import STORAGE, TINY_STUDY, is_in_trial, outcomes, run_cli, start_cli, stored_trials, wait_until
from postgres import Postgres

from search.storage.opening import open_storage, table_creation_lock

pytestmark = pytest.mark.slow

LONG = ("--set", "epochs=60", "--trials", "3")


@pytest.fixture
def served(place: Path, own_postgres: Postgres) -> Path:
    """As `place`, with the studies on a server that the test may stop and start."""
    (place / STORAGE).write_text(own_postgres.new_database()[1], encoding="utf-8")
    return place


@pytest.fixture
def peace(tiny: Path, tmp_path: Path) -> list[tuple[object, ...]]:
    """What the search comes to when nothing happens."""
    folder = tmp_path / "peace"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    assert run_cli("run", "tiny.yaml", "--data", str(tiny), *LONG, cwd=folder).code == 0
    return outcomes(folder)


def states(place: Path) -> list[str]:
    """The state of each trial."""
    return [trial.state.name for trial in stored_trials(place)]


@pytest.mark.parametrize("end", [lambda server: server.stop("fast"), Postgres.kill], ids=["stopped", "killed"])
def test_a_server_that_is_away_for_a_while(
    end: Callable[[Postgres], None], served: Path, own_postgres: Postgres, tiny: Path, peace: list[tuple[object, ...]]
) -> None:
    """Training goes on, what is found waits, and all of it arrives: as if nothing had happened."""
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
    assert outcomes(served) == peace
    assert own_postgres.secret not in err


def test_a_server_that_does_not_come_back(
    served: Path, own_postgres: Postgres, tiny: Path, peace: list[tuple[object, ...]]
) -> None:
    """The search ends with 3 and says what is not written; the same command goes on from the checkpoint."""
    command = ("run", "tiny.yaml", "--data", str(tiny), *LONG, "--storage-patience", "1s")
    process = start_cli(*command, cwd=served)
    wait_until(is_in_trial(served, 1, epochs=5), process)
    own_postgres.stop()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert "is not written (of trials" in err
    assert err.splitlines()[-4] == "error: the study database cannot be used"
    assert own_postgres.secret not in out + err
    assert run_cli(*command, cwd=served).code == 3, "nothing can begin without it"
    own_postgres.start()
    done = run_cli(*command, cwd=served)
    assert done.code == 0, done.err
    assert "trial 1 was interrupted: resuming after epoch" in done.err
    assert outcomes(served) == peace


def test_a_silent_run_loses_its_trials(served: Path, tiny: Path) -> None:
    """Another run takes them up; the one that was silent comes back, writes nothing of them, and helps with the rest."""
    command = ("run", "tiny.yaml", "--data", str(tiny), "--set", "epochs=40", "--trials", "6", "--lease", "2s")
    first = start_cli(*command, cwd=served)
    wait_until(is_in_trial(served, 0), first)
    first.send_signal(signal.SIGSTOP)
    second = start_cli(*command, cwd=served)
    wait_until(lambda: states(served)[:1] == ["COMPLETE"], second)
    first.send_signal(signal.SIGCONT)
    ended = [process.communicate(timeout=120)[1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), ended
    assert "this run was silent for so long that others have taken its trials (0)" in ended[0]
    assert "trial 0 was interrupted" in ended[1]
    trials = stored_trials(served)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 6
    assert len({tuple(trial.params.values()) for trial in trials}) == 6
    assert all(sorted(trial.intermediate_values) == list(range(1, 41)) for trial in trials)


def test_runs_on_several_machines(served: Path, own_postgres: Postgres, tiny: Path) -> None:
    """Four begin at once on an empty database, each with a folder of its own; one is killed, the server is stopped and started:
    they share the target exactly."""
    command = ("run", "tiny.yaml", "--data", str(tiny), "--set", "epochs=30", "--trials", "9", "--lease", "3s")
    runs = [start_cli(*command, "--runs", f"host{number}", cwd=served) for number in range(4)]
    wait_until(lambda: _is_there(served) and Counter(states(served))["COMPLETE"] >= 2, runs[0], timeout_s=120)
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


def _is_there(place: Path) -> bool:
    try:
        return bool(states(place))
    except Exception:
        return False


def test_a_look_waits_for_tables_that_are_made(postgres_url: str) -> None:
    """Somebody who only looks while the first run makes the tables is not in its way."""
    open_storage(postgres_url, create=True)
    opened = threading.Event()

    def look() -> None:
        open_storage(postgres_url, create=False)
        opened.set()

    with table_creation_lock(sqlalchemy.create_engine(postgres_url, poolclass=sqlalchemy.NullPool)):
        thread = threading.Thread(target=look)
        thread.start()
        assert not opened.wait(1)
    thread.join(30)
    assert opened.is_set()


def test_a_server_that_cannot_be_used(place: Path, postgres: Postgres, cli: Cli, tiny: Path) -> None:
    """A wrong password, no such database, nobody there: exit code 3, what the server said, and no password."""
    _, url = postgres.new_database()
    free = url.replace(f":{postgres.port}/", ":1/")
    wrong = [postgres.url("nothing"), postgres.url("postgres", password="wr0ng-s3cret"), free]
    for one in wrong:
        for command in (("run", "tiny.yaml", "--data", tiny), ("status", "tiny"), ("list",)):
            answer = cli(*command, "--storage", one)
            assert answer.code == 3, answer
            assert "error: the study database cannot be used" in answer.err
            assert "hint: is the server up" in answer.err
            assert postgres.secret not in answer.err
            assert "wr0ng" not in answer.err
    assert cli("status", "tiny", "--storage", url).code == 2, "there is a database, and nothing in it"


def test_passwords_stay_secret(place: Path, postgres: Postgres, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the commands print and write, and whatever goes into the database: the password is not in it."""
    name, url = postgres.new_database()
    monkeypatch.setenv("SEARCH_STORAGE", url)
    said = []
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
        said.append(answer.out + answer.err)
    with sqlite3.connect(place / "copy.db") as copied:
        said += copied.iterdump()
    said += [str(row) for table in _tables(postgres, name) for row in postgres.execute(f'SELECT * FROM "{table}"', name)]
    files = [path for path in place.rglob("*") if path.is_file()]
    assert len(files) > 30
    assert not [text for text in said if postgres.secret in text]
    assert not [path for path in files if postgres.secret.encode() in path.read_bytes()]
    assert any("tester:***@127.0.0.1" in text for text in said)
    assert any('--storage "$SEARCH_STORAGE"' in text for text in said)


def test_a_server_that_goes_away_under_a_look(served: Path, own_postgres: Postgres, tiny: Path, cli: Cli) -> None:
    """Commands that only read say what is wrong, too: no fault of the program."""
    url = (served / STORAGE).read_text(encoding="utf-8")
    assert run_cli("run", "tiny.yaml", "--data", str(tiny), "--trials", "1", cwd=served).code == 0
    real = optuna.get_all_study_names

    def stopped(storage: optuna.storages.BaseStorage) -> list[str]:
        own_postgres.stop()
        return real(storage)

    for command in (("list",), ("status", "tiny"), ("export", "tiny")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(optuna, "get_all_study_names", stopped)
            answer = cli(*command, "--storage", url)
        own_postgres.start()
        assert answer.code == 3, answer
        assert "error: the study database cannot be used" in answer.err
        assert own_postgres.secret not in answer.err


def test_a_crash_keeps_no_password(place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file about a fault of the program holds command line and traceback, but not what is secret in them."""
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
    found = postgres.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'", database)
    return [name for (name,) in found]
