"""Looking at a study needs no right to write, sees one moment of a database in use, and leaves no file behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Cli
from launch import Answer, environment

from search.errors import ResourceError
from search.storage.looking import Look
from search.storage.opening import open_storage

OWNER, COLLEAGUE, GROUP = 7001, 7002, 7000
_READ_ALL = ("--inh-caps", "--ambient-caps", "--bounding-set")  # the tests' own folders may be closed to others
_EXECUTE = """
import contextlib, io, json, sys
from search.cli import execute
answers = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["search", *words]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = execute(words)
    answers.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""
_TIME = re.compile(r"\d\d:\d\d:\d\d")
LOOKS = (
    ("list",),
    ("status", "tiny"),
    ("status", "tiny", "--json"),
    ("trials", "tiny"),
    ("show", "tiny", "1"),
    ("analyze", "tiny"),
    ("export", "tiny"),
)


def commands_as(user: int, folder: Path, *commands: tuple[str, ...]) -> list[Answer]:
    """Runs commands in one process as another user, who may read everything. Without root: as this user."""
    python = [sys.executable, "-c", _EXECUTE, json.dumps(commands)]
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("no setpriv (Debian's package: util-linux)")
        rights = [word for option in _READ_ALL for word in (option, "-all,+dac_read_search")]
        python = ["setpriv", f"--reuid={user}", f"--regid={GROUP}", "--clear-groups", *rights, *python]
    env = environment({"HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": tempfile.gettempdir()})
    done = subprocess.run(python, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    if "setpriv:" in done.stderr:
        pytest.skip(f"rights cannot be dropped here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return [Answer(*answer) for answer in json.loads(done.stdout)]


@pytest.fixture
def shared(searched: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of `searched` that other users can reach, as the current directory."""
    with tempfile.TemporaryDirectory(prefix="shared-") as name:
        folder = Path(name)
        shutil.copytree(searched, folder, dirs_exist_ok=True)
        folder.chmod(0o755)
        monkeypatch.chdir(folder)
        yield folder
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
        monkeypatch.undo()


def close(folder: Path) -> None:
    """Takes the right to write from everybody but root."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


@contextlib.contextmanager
def in_use(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection whose changes stay in the write-ahead log."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        yield connection


@pytest.mark.parametrize("state", ["idle", "in use", "left by a kill", "rollback journal"])
def test_looking_without_writing(state: str, shared: Path, tmp_path: Path, cli: Cli) -> None:
    """Every command that only looks shows what the owner sees, including what is in the log only."""
    database = shared / "runs" / "studies.db"
    lock = shared / "runs" / ".studies.db.locks" / "tiny" / "dead.lock"
    lock.touch()
    with contextlib.ExitStack() as held:
        if state == "rollback journal":
            with contextlib.closing(sqlite3.connect(database)) as connection:
                connection.execute("PRAGMA journal_mode=DELETE")
        elif state != "idle":
            connection = held.enter_context(in_use(database))
            connection.execute("UPDATE study_user_attributes SET value_json = '\"changed\"' WHERE key = 'about'")
        if state == "left by a kill":
            shutil.copytree(database.parent, tmp_path / "left")
            held.close()
            shutil.rmtree(database.parent)
            shutil.move(tmp_path / "left", database.parent)
        close(shared)
        before = files(shared)
        page = tempfile.mktemp(suffix=".html")
        commands = (*LOOKS, ("report", "tiny", "--output", page), ("dashboard", "tiny", "--print-command"))
        seen = commands_as(COLLEAGUE, shared, *commands)
        assert [answer.code for answer in seen] == [0] * len(commands), seen
        assert files(shared) == before
        assert Path(page).stat().st_size > 10_000
        assert "no run is working on it" in seen[1].out
        assert "changed" in seen[1].out or state in ("idle", "rollback journal")
        assert "may only be read" in seen[-1].err
    for command, answer in zip(LOOKS, seen, strict=False):
        again = cli(*command).out
        assert _TIME.sub("", again) == _TIME.sub("", answer.out), command


def test_looking_at_a_journal(shared: Path, cli: Cli) -> None:
    """A journal that may only be read is shown, too."""
    url = "journal:///runs/studies.journal"
    assert cli("copy", "tiny", "--to", url).code == 0
    close(shared)
    before = files(shared)
    seen = commands_as(COLLEAGUE, shared, *((*look, "--storage", url) for look in LOOKS))
    assert [answer.code for answer in seen] == [0] * len(LOOKS), seen
    assert files(shared) == before


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be two users")
def test_a_look_locks_nobody_out(shared: Path) -> None:
    """In a shared folder, a colleague's look leaves no file that would be theirs."""
    runs = shared / "runs"
    for path in (runs, *runs.rglob("*")):
        os.chown(path, OWNER, GROUP)
        path.chmod(0o2775 if path.is_dir() else 0o644)
    before = files(runs)
    seen = commands_as(COLLEAGUE, shared, *LOOKS)
    assert [answer.code for answer in seen] == [0] * len(LOOKS), seen
    assert files(runs) == before


@pytest.fixture
def not_mine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file belongs to somebody else."""
    monkeypatch.setattr(os, "geteuid", lambda: COLLEAGUE)


@pytest.mark.usefixtures("not_mine")
@pytest.mark.parametrize("checkpoint", [1, 7, 1000])
def test_a_copy_shows_one_moment(checkpoint: int, tmp_path: Path) -> None:
    """While a writer commits, moves its log to the file and starts it again, all pages of a copy are of one moment."""
    path = tmp_path / "a.db"
    over = threading.Event()
    started = threading.Event()

    def write() -> None:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=OFF")
            database.execute(f"PRAGMA wal_autocheckpoint={checkpoint}")
            database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, value INTEGER, page TEXT)")
            database.executemany("INSERT INTO t VALUES (?, 0, ?)", [(n, "x" * 3000) for n in range(40)])
            started.set()
            while not over.wait(0.001):
                database.execute("UPDATE t SET value = value + 1")

    writer = threading.Thread(target=write)
    writer.start()
    started.wait()
    try:
        look = Look(path)
        found = []
        for _ in range(30):
            with contextlib.closing(look.connect()) as database:
                found.append(database.execute("SELECT min(value), max(value), count(*) FROM t").fetchone())
    finally:
        over.set()
        writer.join()
    assert all(low == high and count == 40 for low, high, count in found), found
    assert [low for low, _, _ in found] == sorted(low for low, _, _ in found), "a copy is made anew after each change"
    assert found[-1][0] > found[0][0]


@pytest.mark.usefixtures("not_mine")
def test_an_interrupted_transaction_is_not_shown(tmp_path: Path) -> None:
    """A transaction that a kill interrupted halfway through the file is undone in what is shown; the file stays as it is."""
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA cache_size=1")
        database.execute("CREATE TABLE t (value INTEGER, page TEXT)")
        database.executemany("INSERT INTO t VALUES (0, ?)", [("x" * 3000,)] * 100)
        database.execute("BEGIN")
        database.execute("UPDATE t SET value = 1")
        killed = tmp_path / "killed"
        killed.mkdir()
        for ending in ("", "-journal"):
            shutil.copyfile(f"{path}{ending}", killed / f"a.db{ending}")
        database.execute("ROLLBACK")
    before = files(killed)
    with contextlib.closing(Look(killed / "a.db").connect()) as shown:
        assert shown.execute("SELECT sum(value), count(*) FROM t").fetchone() == (0, 100)
    assert files(killed) == before


def _folder(path: Path) -> None:
    path.mkdir()


def _header_only(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\0" * 500)


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _no_tables(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE other (x)")


@pytest.mark.parametrize(
    ("make", "code", "text"),
    [
        (_folder, 3, "this is a folder: name a file in it"),
        (_header_only, 3, "is it the right file?"),
        (lambda path: path.write_text("text"), 3, "is it the right file?"),
        (lambda path: path.touch(), 2, "there is no study database yet"),
        (_no_tables, 3, "no such table"),
        (_loop, 2, "there is no study database yet"),
    ],
    ids=["folder", "damaged", "text", "empty", "no tables", "loop"],
)
def test_no_database(make: Callable[[Path], None], code: int, text: str, place: Path, cli: Cli) -> None:
    """A file that holds no studies is explained, and left as it is."""
    make(place / "a.db")
    before = sorted(path.name for path in place.iterdir())
    for words in (("status", "tiny"), ("export", "tiny")):
        answer = cli(*words, "--storage", "sqlite:///a.db")
        assert (answer.code, text in answer.err) == (code, True), answer
    assert sorted(path.name for path in place.iterdir()) == before


def test_a_path_that_is_too_long(place: Path, cli: Cli) -> None:
    """It is an error that can be put right, not a bug."""
    url = f"sqlite:///{'x' * 300}.db"
    answer = cli("list", "--storage", url)
    assert answer.code == 3, answer
    assert "File name too long" in answer.err
    with pytest.raises(ResourceError):
        open_storage(url, create=True)


def test_a_reader_of_a_new_database_leaves_it(place: Path, cli: Cli) -> None:
    """`doctor` and `list` change nothing, not even how a database that Optuna made keeps its log."""
    path = place / "a.db"
    open_storage(f"sqlite:///{path}", create=True)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=DELETE")
    before = path.read_bytes()
    for command in ("list", "doctor"):
        cli(command, "--storage", f"sqlite:///{path}")
    assert path.read_bytes() == before
