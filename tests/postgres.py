"""A real PostgreSQL server for the tests: a cluster of its own in a temporary folder, on loopback, with a password.

`postgres` is one server for all tests of a process that only need a database, `own_postgres` one for a test that stops and
starts it. Both are fixtures that every test can ask for (`conftest.py` names them). Without PostgreSQL's programs such tests
are skipped, with the reason. Nothing stays behind when the tests end, however they end.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

USER = "tester"
PATIENCE_S = 60
"""For a machine that does much else at the same time."""

_PLACES = Path("/usr/lib/postgresql")  # Debian's, one folder a version
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "16MB",
    "dynamic_shared_memory_type": "mmap",  # in the cluster's folder, so that nothing stays behind after a kill
    "max_wal_size": "128MB",
    "autovacuum": "off",
}
_QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_WATCH = """
cat > /dev/null
[ -f "$0/data/postmaster.pid" ] && kill -QUIT "$(head -n 1 "$0/data/postmaster.pid")"
for second in 1 2 3 4 5 6 7 8 9 10; do [ -f "$0/data/postmaster.pid" ] || break; sleep 1; done
rm -rf "$0"
"""  # reads until whoever started it is gone or lets go


def programs() -> Path | None:
    """The folder of the newest `initdb` and `postgres`; None if there is none."""
    on_path = shutil.which("initdb")
    found = [] if on_path is None else [Path(on_path).resolve().parent]
    found += sorted(_PLACES.glob("*/bin"), key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))], reverse=True)
    return next((folder for folder in found if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


class Postgres:
    """A cluster. Its port, its user and its databases stay the same when it is stopped and started again."""

    def __init__(self, *, durable: bool = False) -> None:
        """Makes the cluster's files; `start` starts it. A durable one keeps what it has acknowledged through a kill."""
        found = programs()
        assert found is not None, "without programs the fixtures skip"
        self._programs = found
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: the path of a socket has 107 letters at most
        self.secret = secrets.token_hex(8)
        self.password = f"p@ss/{self.secret}%:"
        """Holds what has to be quoted in a URL; `secret` is the part that looks the same there."""

        self.port = 0
        self._settings = _SETTINGS if durable else {**_SETTINGS, **_QUICK}
        self._numbers = itertools.count(1)
        self._server: subprocess.Popen[bytes] | None = None
        self._as_user: dict[str, Any] = {}
        if os.getuid() == 0:  # which PostgreSQL refuses to run as
            user, group = _other_user()
            self._as_user = {"user": user, "group": group, "extra_groups": []}
            os.chown(self.folder, user, group)
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, str(self.folder)], stdin=subprocess.PIPE, start_new_session=True, cwd="/"
        )
        password = self.folder / "password"
        password.write_text(self.password, encoding="utf-8")
        password.chmod(0o644)  # the folder is closed to others
        self._run(
            "initdb", "-D", "data", "-U", USER, "--pwfile=password", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "-N"
        )
        password.unlink()

    @property
    def is_running(self) -> bool:
        """Whether the server's process is there."""
        return self._server is not None and self._server.poll() is None

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        assert not self.is_running, "it runs already"
        deadline = time.monotonic() + PATIENCE_S
        while True:
            port = self.port or _free_port()
            settings = {**self._settings, "port": str(port), "unix_socket_directories": str(self.folder)}
            words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
            with (self.folder / "server.log").open("ab") as log:
                command = [str(self._programs / "postgres"), "-D", "data", *words]
                self._server = subprocess.Popen(
                    command,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    **self._as_user,
                )
            while self.is_running and time.monotonic() < deadline:
                with contextlib.suppress(OSError), self._connection(port):
                    self.port = port
                    return
                time.sleep(0.05)
            # it ended: somebody was faster at the port, or what a killed server has left is still in use
            assert time.monotonic() < deadline, f"PostgreSQL does not start:\n{self.log()[-2000:]}"
            time.sleep(0.2)

    def stop(self, mode: str = "fast") -> None:
        """Ends the server: `fast` breaks off what is open and ends cleanly, `immediate` leaves the next start to recover."""
        if self._server is not None:
            if self.is_running:
                self._server.send_signal(_SIGNALS[mode])
            self._server.wait(PATIENCE_S)

    def kill(self) -> None:
        """All of its processes end at once and without a word, as if the machine had lost its power."""
        assert self._server is not None, "it was not started"
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self._server.pid)
            server.suspend()  # it starts no process any more
            children = server.children(recursive=True)
            for process in [*children, server]:
                process.kill()
            psutil.wait_procs(children, PATIENCE_S)
        self._server.wait(PATIENCE_S)

    def close(self) -> None:
        """Ends the server, and deletes all that it has written."""
        self.stop("immediate")
        assert self._watch.stdin is not None
        self._watch.stdin.close()
        self._watch.wait(PATIENCE_S)

    def url(self, database: str = "postgres", *, password: str | None = None) -> str:
        """Where a database is, as SQLAlchemy and Optuna take it. With another password nobody is let in."""
        quoted = quote(self.password if password is None else password, safe="")
        return f"postgresql+psycopg://{USER}:{quoted}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> tuple[str, str]:
        """Makes an empty database. Its name and its URL."""
        name = f"studies_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return name, self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """What a statement answers; empty where it answers nothing. Each is a transaction of its own."""
        import psycopg

        with psycopg.connect(**self._place(self.port), dbname=database, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return [] if cursor.description is None else cursor.fetchall()

    def log(self) -> str:
        """What the server has said since it was made."""
        return (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")

    def _place(self, port: int) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": port, "user": USER, "password": self.password, "connect_timeout": 10}

    @contextlib.contextmanager
    def _connection(self, port: int) -> Iterator[None]:
        """Raises OSError while the server does not answer, or if somebody else's does."""
        import psycopg

        try:
            with psycopg.connect(**self._place(port), dbname="postgres"):
                yield
        except psycopg.OperationalError as error:
            raise ConnectionError from error

    def _run(self, program: str, *words: str) -> None:
        command = [str(self._programs / program), *words]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, **self._as_user)
        assert done.returncode == 0, f"{program} failed:\n{done.stdout}{done.stderr}"


def _other_user() -> tuple[int, int]:
    """Somebody who is not root, and their group."""
    import pwd

    people = {person.pw_name: person for person in pwd.getpwall()}
    person = people.get("postgres") or people["nobody"]
    return person.pw_uid, person.pw_gid


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _require() -> None:
    pytest.importorskip("psycopg", reason="psycopg, the extra `postgres`, is not installed")
    if programs() is None:
        pytest.skip("no PostgreSQL server: no initdb on the PATH or in /usr/lib/postgresql (Debian's package: postgresql)")


@contextlib.contextmanager
def _running(*, durable: bool) -> Iterator[Postgres]:
    _require()
    server = Postgres(durable=durable)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for every test of this process that needs a database, and leaves the server itself alone."""
    with _running(durable=False) as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A running server of the test's own, to be stopped, killed and started. What it has acknowledged outlives a kill."""
    with _running(durable=True) as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """The URL of a fresh, empty database."""
    return postgres.new_database()[1]
