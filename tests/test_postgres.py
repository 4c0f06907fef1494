"""The PostgreSQL server for the tests is real, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest
from launch import environment
from postgres import Postgres

STARTS_ONE = """
import sys
sys.path.insert(0, sys.argv[1])
from postgres import Postgres
server = Postgres()
server.start()
print(server.folder, server._server.pid, flush=True)
sys.stdin.read()
"""


def test_databases_are_fresh_and_need_the_password(postgres: Postgres) -> None:
    """Each URL is of a separate, empty database, and needs the right password."""
    (first, _), (second, url) = postgres.new_database(), postgres.new_database()
    postgres.execute("CREATE TABLE t (x INT)", first)
    with pytest.raises(psycopg.errors.UndefinedTable):
        postgres.execute("SELECT * FROM t", second)
    plain = url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(plain) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == (second,)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.url(second, password="wrong").replace("postgresql+psycopg", "postgresql"))


@pytest.mark.parametrize(
    "end", [lambda server: server.stop("fast"), lambda server: server.stop("immediate"), lambda server: server.kill()]
)
def test_committed_data_survives(end: Callable[[Postgres], None], own_postgres: Postgres) -> None:
    """However a server ends, it restarts at the same URL with all committed data."""
    name, url = own_postgres.new_database()
    own_postgres.execute("CREATE TABLE t (x INT)", name)
    own_postgres.execute("INSERT INTO t VALUES (7)", name)
    end(own_postgres)
    assert not own_postgres.is_running
    with pytest.raises(psycopg.OperationalError):
        own_postgres.execute("SELECT 1", name)
    own_postgres.start()
    assert own_postgres.url(name) == url
    assert own_postgres.execute("SELECT x FROM t", name) == [(7,)]


@pytest.mark.usefixtures("postgres")  # skips without PostgreSQL
def test_nothing_remains_after_a_kill() -> None:
    """The server and its files are removed when the process that started them ends, even by a kill."""
    command = [sys.executable, "-c", STARTS_ONE, str(Path(__file__).parent)]
    process = subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        folder, server = process.stdout.readline().split()
        assert Path(folder).is_dir()
        assert psutil.pid_exists(int(server))
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while Path(folder).exists() or _is_running(int(server)):
        assert time.monotonic() < deadline, "the server or its files still exist"
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # orphans may be reaped late
    except psutil.NoSuchProcess:
        return False
