"""Reads an SQLite file without a trace: the file, its folder and whoever works with it are left as they are.

A connection to a file with write-ahead logging writes even if it only reads: it creates `-wal` and `-shm` next to the file. A
reader who may not write the file leaves them behind, and its owner can then no longer open it. So only the owner reads such a
file directly. Everybody else reads a copy in the temporary folder, which is made anew whenever the file has changed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path

from search.errors import ResourceError, os_errors
from search.storage.sqlite import BUSY_TIMEOUT_S, is_writable, require_sqlite, side_file, sqlite_header

_TRIES = 20
"""A copy is repeated if the file changed meanwhile in a way that the copy does not hold."""

_COPY_HINT = "may you read it, and is there room for a copy in the temporary folder? TMPDIR names another"
_WAL_VERSION = 2  # byte 18 of the header, section 1.3.3 of SQLite's file format
_WAL_HEADER_BYTES = 32
"""The header of a write-ahead log. Its salt changes whenever the log starts again from its beginning (section 4.1)."""


@dataclass(frozen=True)
class _State:
    """What shows that a database has changed."""

    header: bytes
    main: tuple[int, ...]
    wal: tuple[int, ...]
    wal_header: bytes
    journal: tuple[int, ...]

    def is_same_generation(self, later: _State) -> bool:
        """Whether a copy that was made between two states is consistent.

        What a checkpoint moves from the log to the file is in the log until that starts again. Without a log, the file itself
        must be the same.
        """
        same_file = bool(self.wal_header) or (self.main, self.header) == (later.main, later.header)
        return same_file and (self.wal_header, self.journal) == (later.wal_header, later.journal)


class Look:
    """Connections that read an SQLite file and leave no trace."""

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path))
        self._lock = threading.Lock()
        self._copied: _State | None = None
        self._folder: Path | None = None

    def connect(self) -> sqlite3.Connection:
        """A connection for reading. It never creates the file.

        Raises:
            sqlite3.Error: the file is not a database, or is locked.
            ResourceError: it cannot be read.
        """
        require_sqlite(self._path)
        if (mode := self._direct_mode()) is not None:
            try:
                return _connect(f"{self._path.as_uri()}?mode={mode}")
            except sqlite3.OperationalError as error:  # the disk is full, a journal must be rolled back, locks do not work
                if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY or not self._path.is_file():
                    raise
        with self._lock:
            return _connect(f"{self._copy().as_uri()}?mode=ro&immutable=1")

    def state(self) -> object:
        """A value that changes whenever the database has changed.

        Raises:
            ResourceError: the file cannot be read.
        """
        with os_errors("the study database cannot be read", where=self._path, hint=_COPY_HINT):
            return _state(self._path)

    def _direct_mode(self) -> str | None:
        """The mode in which the file itself can be opened; None if that would leave files behind."""
        if sqlite_header(self._path)[18:19] != bytes([_WAL_VERSION]):
            return "ro"
        is_owner = os.name != "posix" or os.geteuid() in (0, self._path.stat().st_uid)
        return "rw" if is_owner and is_writable(self._path) else None

    def _copy(self) -> Path:
        """A copy of the file as it is now."""
        with os_errors("the study database cannot be read", where=self._path, hint=_COPY_HINT):
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="islr-search-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            copy = self._folder / "copy.db"
            if _state(self._path) != self._copied:
                copy.unlink(missing_ok=True)  # others may still read it
                self._copied = _copy_consistently(self._path, copy)
            return copy


def _connect(uri: str) -> sqlite3.Connection:
    """A connection that has read something, which is when SQLite opens its files."""
    with contextlib.ExitStack() as opened:
        database = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        opened.callback(database.close)
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        opened.pop_all()
        return database


def _copy_consistently(source: Path, target: Path) -> _State:
    """Copies a database with the changes that its log or journal holds. Returns the state that the copy shows.

    Raises:
        OSError: it cannot be read.
        ResourceError: it is written all the time.
    """
    for _ in range(_TRIES):
        before = _state(source)
        shutil.copyfile(source, target)  # before the log, which holds whatever is moved to the file meanwhile
        for ending in ("-wal", "-journal"):
            side_file(target, ending).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(side_file(source, ending), side_file(target, ending))
        if before.is_same_generation(_state(source)):
            with contextlib.closing(sqlite3.connect(target)) as copy:
                copy.execute("PRAGMA journal_mode=DELETE")  # moves the log's changes into the file
            return before
    raise ResourceError("the study database changes too fast to be read", where=str(source), hint="try again")


def _state(path: Path) -> _State:
    wal = side_file(path, "-wal")
    wal_header = b""
    with contextlib.suppress(FileNotFoundError), wal.open("rb") as stream:
        wal_header = stream.read(_WAL_HEADER_BYTES)
    return _State(sqlite_header(path), _stat(path), _stat(wal), wal_header, _stat(side_file(path, "-journal")))


def _stat(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
