"""What a database says when it fails, in words, and whether waiting may help."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator

import optuna

from search.errors import ResourceError
from search.storage.url import parse_url

_FILE_HINT = "is the disk full or read-only? Name another file with --storage sqlite:///PATH"
_SERVER_HINT = "is the server up, and are user, password and database right? Nothing is lost: the same command goes on"


@contextlib.contextmanager
def database_errors(url: str) -> Iterator[None]:
    """Turns errors of the database inside the block into a `ResourceError` that names it."""
    try:
        yield
    except Exception as error:
        in_journal = parse_url(url).kind == "journal" and isinstance(error, OSError) and not isinstance(error, BrokenPipeError)
        if not (is_database_error(error) or in_journal):
            raise
        raise as_resource_error(url, error) from error


def as_resource_error(url: str | None, error: BaseException) -> ResourceError:
    """The error for people. Without an URL it is a server's: what is in a file is guarded where it is read."""
    place = None if url is None else parse_url(url)
    cause = error
    while getattr(cause, "orig", None) is None and (below := _below(cause)) is not None:
        cause = below
    text = next(iter(str(getattr(cause, "orig", None) or cause).splitlines()), type(cause).__name__)
    return ResourceError(
        "the study database cannot be used",
        where=None if place is None else place.name,
        got=text if place is None else place.hide(text),
        hint=_SERVER_HINT if place is None or place.is_server else _FILE_HINT,
    )


def is_unreachable(error: BaseException | None) -> bool:
    """Whether a database server could not be reached, or has gone away: waiting may help."""
    known = sys.modules.get("sqlalchemy.exc")
    while known is not None and error is not None:
        if isinstance(error, known.DBAPIError):
            wrong = isinstance(error.orig, sqlite3.Error)
            return not wrong and (
                error.connection_invalidated or isinstance(error, known.OperationalError | known.InterfaceError)
            )
        if isinstance(error, known.TimeoutError):  # of the pool
            return True
        error = _below(error)
    return False


def _below(error: BaseException) -> BaseException | None:
    """What an error came of. Optuna may use a connection once more after it is lost: SQLAlchemy's refusal names no cause."""
    known = sys.modules.get("sqlalchemy.exc")
    if known is not None and isinstance(error, known.PendingRollbackError):
        return error.__cause__ or error.__context__
    return error.__cause__


def is_database_error(error: BaseException) -> bool:
    """Whether a database, or its driver, raised it."""
    if isinstance(error, sqlite3.Error | optuna.exceptions.StorageInternalError):
        return True
    known = sys.modules.get("sqlalchemy.exc")  # where it was not imported it raised nothing
    return known is not None and isinstance(error, known.SQLAlchemyError)
