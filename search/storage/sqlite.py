"""What an SQLite file needs beside: write-ahead mode, patience, and a look whether it is still the same file."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock

from search.errors import ResourceError, os_errors


def locks_root(database: Path) -> Path:
    database = database.resolve()  # whichever way it is reached
    return database.with_name(f".{database.name}.locks")


@contextlib.contextmanager
def creating(database: Path) -> Iterator[None]:
    """Makes the database's folder; inside, no other process of this tool makes the database's tables.

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
    hint = "free some space, or name another place with --storage sqlite:///PATH"
    return os_errors("the folder of the study database cannot be written", where=database.parent, hint=hint)


_BEGIN = b"SQLite format 3\0"  # of every database file, says section 1.3 of SQLite's file format
BUSY_TIMEOUT_S = 60
"""How long a command waits for another that writes."""


def make_ready(path: Path) -> None:
    """Write-ahead mode, which stays with the file: neither a reader nor another writer makes a report fail.

    Raises:
        sqlite3.DatabaseError: the file is no database.
    """
    require_sqlite(path)
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def lighter_syncs(connection: Any, _record: Any) -> None:
    """With write-ahead logging NORMAL cannot corrupt the file; a power cut may cost the last report."""
    connection.execute("PRAGMA synchronous=NORMAL")


def require_sqlite(path: Path) -> None:
    """Refuses a file of another kind. SQLite would not, where the write-ahead log of a database lies beside it.

    Raises:
        sqlite3.DatabaseError: the file is there, is not empty, and does not begin like a database.
    """
    begin = b""
    with contextlib.suppress(OSError), path.open("rb") as stream:  # what cannot be read SQLite will say
        begin = stream.read(len(_BEGIN))
    if begin not in (b"", _BEGIN):
        raise sqlite3.DatabaseError("file is not a database")


def same_file(path: Path) -> Callable[..., None]:
    """Looks before each use whether the file is still the one that was opened. SQLite would go on writing into the void."""
    opened = path.stat()

    def look(*_: Any) -> None:
        try:
            now = path.stat()
        except OSError:
            now = None
        if now is None or (now.st_dev, now.st_ino) != (opened.st_dev, opened.st_ino):
            raise ResourceError(
                "the study database was removed or replaced while it was in use",
                where=str(path),
                hint="put the right file back, and the same command goes on",
            )

    return look
