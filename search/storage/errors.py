"""Recognizes and explains errors of databases, and decides whether waiting may help."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna

from search.errors import ResourceError
from search.storage.sqlite import files_without_right
from search.storage.url import parse_url

_FULL = 1 << 20
"""Bytes that a database needs to work at all, with its log."""

_SERVER_HINT = "is the server up, and are user, password and database right? Nothing is lost: run the same command again"


@contextlib.contextmanager
def database_errors(url: str) -> Iterator[None]:
    """Turns errors of the database inside the block into a `ResourceError` that names it."""
    try:
        yield
    except Exception as error:
        in_journal = parse_url(url).kind == "journal" and isinstance(error, OSError)
        if not (is_database_error(error) or in_journal):
            raise
        raise as_resource_error(url, error) from error


def as_resource_error(url: str | None, error: BaseException) -> ResourceError:
    """The error to show to the user. Without a URL it is a server's: errors of files are caught where the file is read."""
    storage = None if url is None else parse_url(url)
    cause = error
    while getattr(cause, "orig", None) is None and (below := _cause_of(cause)) is not None:
        cause = below
    text = next(iter(str(getattr(cause, "orig", None) or cause).splitlines()), type(cause).__name__)
    return ResourceError(
        "the study database cannot be used",
        where=None if storage is None else storage.name,
        got=text if storage is None else storage.redact(text),
        hint=_server_hint(text) if storage is None or storage.path is None else _file_hint(storage.path, text),
    )


def _server_hint(text: str) -> str:
    if "startup parameter" in text:
        return "PgBouncer does not pass this on: leave it out of the URL, and set it with ALTER ROLE or ALTER DATABASE"
    if "statement pooling" in text:
        return "PgBouncer must lend its connections for whole transactions: pool_mode = transaction"
    if "query_wait_timeout" in text:
        return "each run needs 3 connections of the server at once: raise PgBouncer's default_pool_size"
    return _SERVER_HINT


def _file_hint(path: Path, text: str) -> str:
    """What may help with a file, by the text of the error."""
    closed = files_without_right(path)
    if path.is_dir():
        return f"this is a folder: name a file in it, --storage {shlex.quote(f'sqlite:///{path}/studies.db')}"
    if "not a database" in text or "malformed" in text:
        return "is it the right file? Choose another with --storage sqlite:///PATH"
    if path.parent.exists() and shutil.disk_usage(path.parent).free < _FULL:
        return "the disk is full: free some space, or choose another place with --storage sqlite:///PATH"
    if closed and path.exists():
        return f"may you read and write {closed[0]}? Only looking at a study (status, show, report, ...) works without"
    if "locking protocol" in text or "disk I/O" in text:
        return "is it on a network file system? Put studies on a local disk, or in a journal: --storage journal:///PATH"
    return "is the disk full or read-only? Choose another file with --storage sqlite:///PATH"


def is_unreachable(error: BaseException | None) -> bool:
    """Whether the error means that a database server cannot be reached at the moment, so that waiting may help."""
    known = sys.modules.get("sqlalchemy.exc")
    while known is not None and error is not None:
        if isinstance(error, known.DBAPIError):
            return not isinstance(error.orig, sqlite3.Error) and (
                error.connection_invalidated or isinstance(error, known.OperationalError | known.InterfaceError)
            )
        if isinstance(error, known.TimeoutError):  # of the connection pool
            return True
        error = _cause_of(error)
    return False


def _cause_of(error: BaseException) -> BaseException | None:
    """The cause of an error. Optuna may use a connection again after it is lost; SQLAlchemy's error then names no cause."""
    known = sys.modules.get("sqlalchemy.exc")
    if known is not None and isinstance(error, known.PendingRollbackError):
        return error.__cause__ or error.__context__
    return error.__cause__


def is_database_error(error: BaseException) -> bool:
    """Whether a database or its driver raised it."""
    if isinstance(error, sqlite3.Error | optuna.exceptions.StorageInternalError):
        return True
    known = sys.modules.get("sqlalchemy.exc")  # if it was never imported, it raised nothing
    return known is not None and isinstance(error, known.SQLAlchemyError)
