"""Opening the study database well.

SQLite is opened in write-ahead mode with a busy timeout, so that neither a dashboard that reads nor another writer makes a
report fail.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna

from search import DEFAULT_STORAGE
from search.confirm.record import is_companion
from search.errors import DefinitionError, ResourceError
from search.leases import creating

_SQLITE = "sqlite:///"
_BEGIN = b"SQLite format 3\0"  # of every database file, says section 1.3 of SQLite's file format
BUSY_TIMEOUT_S = 60
"""How long a command waits for another that writes."""


def database_path(url: str) -> Path:
    """The file of an SQLite URL.

    Raises:
        DefinitionError: the URL is not of the form sqlite:///PATH.
    """
    if not url.startswith(_SQLITE) or url == _SQLITE or url == f"{_SQLITE}:memory:" or "?" in url:
        raise DefinitionError(
            "this storage is not supported",
            got=url.split("@")[-1],  # never show a password
            expected=f"{_SQLITE}PATH, such as {DEFAULT_STORAGE}",
        )
    return Path(url.removeprefix(_SQLITE))


def open_storage(url: str, *, create: bool) -> optuna.storages.BaseStorage:
    """Optuna's storage for an SQLite URL.

    Raises:
        DefinitionError: the URL is of another kind, or there is no database and `create` is off.
        ResourceError: the file is not a study database, or cannot be written.
    """
    import sqlalchemy  # not before it is needed: a look at a study goes without (search/thin.py)

    path = database_path(url)
    if not path.exists() and not create:
        raise DefinitionError(
            "there is no study database yet",
            where=str(path),
            hint="`python -m search run` makes it, or name one with --storage",
        )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    with creating(path) if create else contextlib.nullcontext(), database_errors(url):
        require_sqlite(path)
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)
        try:
            connection.execute("PRAGMA journal_mode=WAL")  # stays with the file
        finally:
            connection.close()
        try:
            storage = optuna.storages.RDBStorage(
                url, engine_kwargs={"connect_args": {"timeout": BUSY_TIMEOUT_S}}, skip_table_creation=not create
            )
        except RuntimeError as error:
            raise ResourceError(
                "the study database was made by another version of Optuna",
                where=str(path),
                got=str(error).splitlines()[0],
                hint="`optuna storage upgrade --storage URL` may help, or name another file with --storage sqlite:///PATH",
            ) from error
        sqlalchemy.event.listen(storage.engine, "connect", _lighter_syncs)
        sqlalchemy.event.listen(storage.engine, "checkout", same_file(path))
        storage.engine.dispose()  # connections made before the listeners
    return optuna.storages.get_storage(storage)


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


def _lighter_syncs(connection: Any, _record: Any) -> None:
    # With write-ahead logging NORMAL cannot corrupt the file; a power cut may cost the last report.
    connection.execute("PRAGMA synchronous=NORMAL")


@contextlib.contextmanager
def database_errors(url: str) -> Iterator[None]:
    """Turns errors of the database inside the block into a `ResourceError` that names the file."""
    try:
        yield
    except Exception as error:
        if not _is_of_database(error):
            raise
        cause = error.__cause__ or error
        raise ResourceError(
            "the study database cannot be used",
            where=str(database_path(url)),
            got=str(getattr(cause, "orig", None) or cause).splitlines()[0],
            hint="is the disk full or read-only? Name another file with --storage sqlite:///PATH",
        ) from error


def _is_of_database(error: Exception) -> bool:
    if isinstance(error, sqlite3.Error | optuna.exceptions.StorageInternalError):
        return True
    known = sys.modules.get("sqlalchemy.exc")  # where it was not imported it raised nothing
    return known is not None and isinstance(error, known.SQLAlchemyError)


def load_study(storage: optuna.storages.BaseStorage, name: str) -> optuna.Study:
    """A study that exists.

    Raises:
        DefinitionError: there is none of this name.
    """
    names = [known for known in optuna.get_all_study_names(storage) if known == name or not is_companion(known)]
    if name not in names:
        raise DefinitionError(
            f"the database holds no study `{name}`",
            expected=f"one of {', '.join(sorted(names))}" if names else "a study; there is none yet",
            hint=f"`python -m search run {name}` starts it",
        )
    return optuna.load_study(study_name=name, storage=storage)
