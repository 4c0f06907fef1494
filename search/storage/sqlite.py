"""Prepares and guards SQLite files: write-ahead logging, timeouts, and a check that the file was not replaced."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock

from search.errors import ResourceError, os_errors

BUSY_TIMEOUT_S = 60
"""How long a command waits for another one that writes."""

_HEADER = b"SQLite format 3\0"  # section 1.3 of SQLite's file format
_HEADER_BYTES = 100
_SIDE_FILES = ("-wal", "-shm", "-journal")


def locks_root(database: Path) -> Path:
    """The folder of a database's locks, the same however the file is reached."""
    database = Path(os.path.realpath(database))
    return database.with_name(f".{database.name}.locks")


def side_file(database: Path, ending: str) -> Path:
    """A file that SQLite keeps next to a database: its log, the log's index, or its journal."""
    return database.with_name(database.name + ending)


def is_writable(database: Path) -> bool:
    """Whether this user may write a database (or a journal): its file, its folder, and what SQLite keeps next to it."""
    return os.access(Path(os.path.realpath(database)).parent, os.W_OK) and not files_without_right(database)


def files_without_right(database: Path) -> list[Path]:
    """The files of a database that this user may not write."""
    database = Path(os.path.realpath(database))
    files = [database, *(side_file(database, ending) for ending in _SIDE_FILES)]
    return [file for file in files if os.path.lexists(file) and not os.access(file, os.R_OK | os.W_OK)]


@contextlib.contextmanager
def creation_lock(database: Path) -> Iterator[None]:
    """Creates the database's folder; inside the block, no other process of this tool creates the database's tables.

    Raises:
        ResourceError: the folder cannot be written.
    """
    folder = locks_root(database)
    with folder_errors(database):
        folder.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(folder / ".create.lock").acquire()
    with held:
        yield


def folder_errors(database: Path) -> contextlib.AbstractContextManager[None]:
    """Turns an `OSError` in the block into a `ResourceError` about the database's folder."""
    hint = "free some space, or choose another place with --storage sqlite:///PATH"
    return os_errors("the folder of the study database cannot be written", where=database.parent, hint=hint)


def enable_wal(path: Path) -> None:
    """Turns on write-ahead logging, which stays with the file. Reports then succeed while others read or write.

    Raises:
        sqlite3.DatabaseError: the file is not a database.
    """
    require_sqlite(path)
    with contextlib.closing(connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the very file of this name, which is created if it does not exist."""
    return sqlite3.connect(path.absolute(), timeout=BUSY_TIMEOUT_S, check_same_thread=False)


def relax_sync(connection: Any, _record: Any) -> None:
    """Sets synchronous=NORMAL. With write-ahead logging this cannot corrupt the file; a power cut may lose the last report."""
    connection.execute("PRAGMA synchronous=NORMAL")


def require_sqlite(path: Path) -> None:
    """Refuses a file of another kind. SQLite itself would accept it if a write-ahead log lies next to it.

    Raises:
        sqlite3.DatabaseError: the file exists, is not empty, and has no SQLite header.
    """
    if sqlite_header(path)[: len(_HEADER)] not in (b"", _HEADER):
        raise sqlite3.DatabaseError("file is not a database")


def sqlite_header(path: Path) -> bytes:
    """The header of a database; empty if it cannot be read, which SQLite itself reports."""
    with contextlib.suppress(OSError), path.open("rb") as stream:
        return stream.read(_HEADER_BYTES)
    return b""


def file_guard(path: Path) -> Callable[..., None]:
    """A function that checks, before each use, that the file is still the one opened now. SQLite would not notice."""
    opened = path.stat()

    def check(*_: Any) -> None:
        try:
            now = path.stat()
        except OSError:
            now = None
        if now is None or (now.st_dev, now.st_ino) != (opened.st_dev, opened.st_ino):
            raise replaced_error(path)

    return check


def replaced_error(path: Path) -> ResourceError:
    """The error for a database file that is not the one opened any more."""
    return ResourceError(
        "the study database was removed or replaced while it was in use",
        where=str(path),
        hint="restore the right file, and run the same command again",
    )
