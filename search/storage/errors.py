"""Recognizes and explains errors of databases, and decides whether waiting may help."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator

import optuna

from search.errors import ResourceError
from search.storage.url import parse_url

_FILE_HINT = "is the disk full or read-only? Choose another file with --storage sqlite:///PATH"
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
        hint=_SERVER_HINT if storage is None or storage.is_server else _FILE_HINT,
    )


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
