"""PostgreSQL behind PgBouncer, which lends its connections for one transaction each; options of a storage URL."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from conftest import Cli
from launch import STORAGE, is_in_trial, start_cli, states, stored_trials, wait_until
from postgres import PgBouncer, Postgres

from search.storage.opening import engine_of, open_storage
from search.storage.url import parse_url


@pytest.fixture
def pooled(place: Path, postgres: Postgres, pgbouncer: PgBouncer) -> Path:
    """Same as `place`, with the studies behind PgBouncer."""
    (place / STORAGE).write_text(pgbouncer.url(postgres.new_database()[0]), encoding="utf-8")
    return place


@pytest.mark.slow
def test_search_behind_pgbouncer(pooled: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs share a study, one is killed, the other takes over its trial; no trial is missing, and all can be shown."""
    command = (
        "run",
        "tiny.yaml",
        "--data",
        str(tiny),
        "--set",
        "epochs=30",
        "--trials",
        "5",
        "--lease",
        "3s",
        "--set",
        "train.kernel=torch",
    )
    first = start_cli(*command, cwd=pooled)
    wait_until(is_in_trial(pooled, 0), first)
    second = start_cli(*command, "--runs", "other", cwd=pooled)
    wait_until(lambda: Counter(states(pooled))["COMPLETE"] >= 1, second)
    first.kill()
    first.communicate(timeout=60)
    _, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert states(pooled) == ["COMPLETE"] * 5
    assert len({tuple(trial.params.values()) for trial in stored_trials(pooled)}) == 5
    monkeypatch.setenv("SEARCH_STORAGE", (pooled / STORAGE).read_text(encoding="utf-8"))
    for look in ("status", "show", "export", "report"):
        answer = cli(look, "tiny", *(["1"] if look == "show" else []))
        assert answer.code == 0, answer
    assert "5 of 5 finished" in cli("status", "tiny").out


def test_nothing_outlives_a_transaction(postgres: Postgres, pgbouncer: PgBouncer) -> None:
    """Settings hold within a transaction, and the server's connection is returned as it was."""
    server = parse_url(pgbouncer.url(postgres.new_database()[0]))
    engine = engine_of(server)
    for _ in range(8):  # psycopg would prepare the statement at its sixth time
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "1min"
            assert connection.exec_driver_sql("SHOW tcp_keepalives_idle").scalar() == "10"
            assert connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar() == 0
    engine.dispose()
    plain = engine_of(server, isolation_level="AUTOCOMMIT", connect_args={"prepare_threshold": None})
    with plain.connect() as connection:
        connection.commit()
        found = connection.connection.dbapi_connection.execute("SHOW lock_timeout").fetchone()  # type: ignore[union-attr]
        assert found == ("0",)
    plain.dispose()


def test_options_of_the_url(postgres: Postgres) -> None:
    """The URL's own options are used: tables in its schema, its name, its timeouts instead of ours."""
    name, url = postgres.new_database()
    postgres.execute("CREATE SCHEMA foo", name)
    own = f"{url}?options=-csearch_path%3Dfoo%20-clock_timeout%3D5s&application_name=mine&connect_timeout=7&sslmode=prefer"
    open_storage(own, create=True)
    tables = postgres.execute("SELECT schemaname FROM pg_tables WHERE tablename IN ('trials', 'studies')", name)
    assert tables == [("foo",), ("foo",)]
    engine = engine_of(parse_url(own))
    with engine.connect() as connection:
        shown = {key: connection.exec_driver_sql(f"SHOW {key}").scalar() for key in ("lock_timeout", "statement_timeout")}
        assert shown == {"lock_timeout": "5s", "statement_timeout": "1min"}
        assert connection.exec_driver_sql("SHOW application_name").scalar() == "mine"
    engine.dispose()


def test_options_behind_pgbouncer(postgres: Postgres, pgbouncer: PgBouncer, cli: Cli) -> None:
    """Options that PgBouncer does not pass on are an error that names them."""
    url = pgbouncer.url(postgres.new_database()[0])
    answer = cli("list", "--storage", f"{url}?options=-csearch_path%3Dfoo")
    assert answer.code == 3
    assert "unsupported startup parameter" in answer.err
    assert "PgBouncer" in answer.err.splitlines()[-1]
