"""A real PostgreSQL server for the tests: its own cluster in a temporary folder, on loopback, with a password.

The fixture `postgres` is one server for all tests of a process that only need a database; `own_postgres` is for a test that
stops and starts it. `conftest.py` makes both available to every test. Without PostgreSQL's programs such tests are skipped, and
the reason is shown. When the tests end, in whatever way, the server and its files are removed.
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
"""Long, since the machine may be busy."""

_PLACES = Path("/usr/lib/postgresql")  # Debian's; one folder per version
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "16MB",
    "dynamic_shared_memory_type": "mmap",  # in the cluster's folder, so that nothing remains after a kill
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
"""  # reads until its starter ends or closes the pipe


def programs() -> Path | None:
    """The folder of the newest `initdb` and `postgres`; None if there is none."""
    on_path = shutil.which("initdb")
    found = [] if on_path is None else [Path(on_path).resolve().parent]
    found += sorted(_PLACES.glob("*/bin"), key=lambda path: [int(n) for n in re.findall(r"\d+", str(path))], reverse=True)
    return next((folder for folder in found if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


class Postgres:
    """A cluster. It keeps its port, user and databases when it is stopped and started again."""

    def __init__(self, *, durable: bool = False) -> None:
        """Creates the cluster's files; `start` starts it. A durable one keeps committed data through a kill."""
        found = programs()
        assert found is not None, "without programs the fixtures skip"
        self._programs = found
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: the path of a socket has at most 107 bytes
        self.secret = secrets.token_hex(8)
        self.password = f"p@ss/{self.secret}%:"
        """Holds characters that must be quoted in a URL; `secret` is the part that is the same there."""

        self.port = 0
        self._settings = _SETTINGS if durable else {**_SETTINGS, **_QUICK}
        self._numbers = itertools.count(1)
        self._server: subprocess.Popen[bytes] | None = None
        self.as_user: dict[str, Any] = {}
        if os.getuid() == 0:  # which PostgreSQL refuses to run as
            user, group = _other_user()
            self.as_user = {"user": user, "group": group, "extra_groups": []}
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
        """Whether the server's process is running."""
        return self._server is not None and self._server.poll() is None

    def start(self) -> None:
        """Starts the server and waits until it accepts connections."""
        assert not self.is_running, "it is running already"
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
                    **self.as_user,
                )
            while self.is_running and time.monotonic() < deadline:
                with contextlib.suppress(OSError), self._connection(port):
                    self.port = port
                    return
                time.sleep(0.05)
            # it ended: the port was taken, or resources of a killed server are still in use
            assert time.monotonic() < deadline, f"PostgreSQL does not start:\n{self.log()[-2000:]}"
            time.sleep(0.2)

    def stop(self, mode: str = "fast") -> None:
        """Stops the server: `fast` closes connections and shuts down cleanly, `immediate` leaves recovery to the next start."""
        if self._server is not None:
            if self.is_running:
                self._server.send_signal(_SIGNALS[mode])
            self._server.wait(PATIENCE_S)

    def kill(self) -> None:
        """Kills all of its processes at once, as in a power failure."""
        assert self._server is not None, "it was not started"
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self._server.pid)
            server.suspend()  # it starts no more processes
            children = server.children(recursive=True)
            for process in [*children, server]:
                process.kill()
            psutil.wait_procs(children, PATIENCE_S)
        self._server.wait(PATIENCE_S)

    def close(self) -> None:
        """Stops the server, and deletes its files."""
        self.stop("immediate")
        assert self._watch.stdin is not None
        self._watch.stdin.close()
        self._watch.wait(PATIENCE_S)

    def url(self, database: str = "postgres", *, password: str | None = None) -> str:
        """The URL of a database for SQLAlchemy and Optuna. `password`: another than the right one."""
        quoted = quote(self.password if password is None else password, safe="")
        return f"postgresql+psycopg://{USER}:{quoted}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> tuple[str, str]:
        """Creates an empty database; returns its name and its URL."""
        name = f"studies_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return name, self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows that a statement returns, or none. Each statement is its own transaction."""
        import psycopg

        with psycopg.connect(**self._place(self.port), dbname=database, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return [] if cursor.description is None else cursor.fetchall()

    def log(self) -> str:
        """The server's log since the cluster was created."""
        return (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")

    def _place(self, port: int) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": port, "user": USER, "password": self.password, "connect_timeout": 10}

    @contextlib.contextmanager
    def _connection(self, port: int) -> Iterator[None]:
        """Raises OSError while the server does not accept connections, or if another server does."""
        import psycopg

        try:
            with psycopg.connect(**self._place(port), dbname="postgres"):
                yield
        except psycopg.OperationalError as error:
            raise ConnectionError from error

    def _run(self, program: str, *words: str) -> None:
        command = [str(self._programs / program), *words]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, **self.as_user)
        assert done.returncode == 0, f"{program} failed:\n{done.stdout}{done.stderr}"


class PgBouncer:
    """A PgBouncer in front of a server, in transaction mode: a connection of the server is lent for one transaction."""

    _KEEP = """
    "$0" bouncer.ini & cat > /dev/null; kill $!; wait $!
    """  # ends with its starter

    def __init__(self, server: Postgres, program: str, folder: Path) -> None:
        """Starts it with files in a folder, and waits until it accepts connections."""
        self.port, self._server = _free_port(), server
        password = server.password.replace("'", "''")
        (folder / "bouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port} user={USER} password='{password}'\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = any\n"
            "pool_mode = transaction\ndefault_pool_size = 8\n",
            encoding="utf-8",
        )
        folder.chmod(0o755)
        with (folder / "bouncer.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", self._KEEP, program],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                **server.as_user,
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self._accepts():
            assert time.monotonic() < deadline, f"it does not start: {(folder / 'bouncer.log').read_text()}"
            time.sleep(0.05)

    def url(self, database: str) -> str:
        """The URL of a database behind it."""
        return self._server.url(database).replace(f":{self._server.port}/", f":{self.port}/")

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


def _other_user() -> tuple[int, int]:
    """A user other than root, and their group."""
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
    """A server shared by the tests of this process; they must not stop it."""
    with _running(durable=False) as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A running server for one test, which may stop, kill and start it. Committed data survives a kill."""
    with _running(durable=True) as server:
        yield server


@pytest.fixture
def pgbouncer(postgres: Postgres) -> Iterator[PgBouncer]:
    """PgBouncer in front of `postgres`."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("no PgBouncer (Debian's package: pgbouncer)")
    with tempfile.TemporaryDirectory(prefix="bouncer-") as folder:
        bouncer = PgBouncer(postgres, program, Path(folder))
        try:
            yield bouncer
        finally:
            bouncer.close()


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """The URL of a fresh, empty database."""
    return postgres.new_database()[1]
