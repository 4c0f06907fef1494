"""What a database says when it fails, in words, and whether waiting may help."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator

import optuna

from search.errors import ResourceError
from search.storage.place import place_of

_FILE_HINT = "is the disk full or read-only? Name another file with --storage sqlite:///PATH"
_SERVER_HINT = "is the server up, and are user, password and database right? Nothing is lost: the same command goes on"


@contextlib.contextmanager
def database_errors(url: str) -> Iterator[None]:
    """Turns errors of the database inside the block into a `ResourceError` that names it."""
    try:
        yield
    except Exception as error:
        if not _is_of_database(error):
            raise
        raise unusable(url, error) from error


def unusable(url: str, error: BaseException) -> ResourceError:
    """The error for people."""
    place = place_of(url)
    cause = error.__cause__ or error
    text = str(getattr(cause, "orig", None) or cause)
    return ResourceError(
        "the study database cannot be used",
        where=place.name,
        got=place.hide(next(iter(text.splitlines()), type(cause).__name__)),
        hint=_SERVER_HINT if place.is_server else _FILE_HINT,
    )


def is_away(error: BaseException | None) -> bool:
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
        error = error.__cause__
    return False


def _is_of_database(error: Exception) -> bool:
    if isinstance(error, sqlite3.Error | optuna.exceptions.StorageInternalError):
        return True
    known = sys.modules.get("sqlalchemy.exc")  # where it was not imported it raised nothing
    return known is not None and isinstance(error, known.SQLAlchemyError)
