"""Opens each kind of storage with suitable settings.

SQLite: write-ahead logging and a busy timeout. A journal: locks that work on network file systems. A server: connections that
are tested before use and time out; the server closes those whose machine is gone. Nothing is set for a whole session, and no
lock or prepared statement outlives a transaction, so PostgreSQL may be behind PgBouncer, which lends its connections for one
transaction.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import optuna

from search.errors import DefinitionError, ResourceError, os_errors
from search.storage.errors import database_errors
from search.storage.looking import Look
from search.storage.sqlite import BUSY_TIMEOUT_S, connect, creation_lock, enable_wal, file_guard, relax_sync, require_sqlite
from search.storage.url import StorageUrl, parse_url, redact_url

if TYPE_CHECKING:
    import sqlalchemy

    from search.storage.database import Database


_CONNECT_S = 5
_KEEPALIVE_S = 10
"""Seconds of silence before a connection is probed, and between probes that are not acknowledged."""

_KEEPALIVES = {"idle": _KEEPALIVE_S, "interval": _KEEPALIVE_S // 2, "count": 3}
_SETTINGS = {
    "lock_timeout": f"{BUSY_TIMEOUT_S}s",
    "statement_timeout": f"{BUSY_TIMEOUT_S}s",
    **{f"tcp_keepalives_{name}": value for name, value in _KEEPALIVES.items()},
}
"""PostgreSQL's settings for a transaction: it ends soon if it waits for a lock, or its machine is gone."""

_DRIVERS = {"postgresql": ("psycopg", "postgres"), "mysql": ("pymysql", "mysql")}
_TABLES_LOCK = 4_151_720_101
"""Number of the advisory lock for creating tables."""


def open_storage(url: str, *, create: bool) -> optuna.storages.BaseStorage:
    """Optuna's storage for a URL.

    Raises:
        DefinitionError: the URL is not supported, or there is no database and `create` is off.
        ResourceError: the file is not a database or cannot be written, or the server cannot be reached.
    """
    parsed = parse_url(url)
    if not create and not has_studies(url):
        raise no_studies(parsed)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    with database_errors(url):
        if parsed.kind == "journal":
            return _open_journal(parsed)
        return optuna.storages.get_storage(
            _open_sqlite(parsed, create) if parsed.kind == "sqlite" else _open_server(parsed, create)
        )


@contextlib.contextmanager
def opened_storage(url: str, *, create: bool) -> Iterator[optuna.storages.BaseStorage]:
    """A storage without cached data for the block; its connections are closed at the end. Raises: same as `open_storage`."""
    with closing_storage(open_storage(url, create=create)) as storage:
        yield storage


@contextlib.contextmanager
def closing_storage(storage: optuna.storages.BaseStorage) -> Iterator[optuna.storages.BaseStorage]:
    """Closes a storage's connections at the end of the block: an SQLite file is then whole without its write-ahead log."""
    try:
        yield storage
    finally:
        storage.remove_session()
        engine = getattr(getattr(storage, "_backend", None), "engine", None)
        if engine is not None:
            engine.dispose()


def no_studies(storage: StorageUrl) -> DefinitionError:
    """The error for a storage that nothing was stored in."""
    return DefinitionError(
        "there is no study database yet",
        where=storage.name,
        hint="`islr-search run` creates it; --storage selects another",
    )


def has_studies(url: str) -> bool:
    """Whether the file exists (an SQLite file that is empty does not count), or the server's database has Optuna's tables.

    Raises:
        DefinitionError: the URL is not supported.
        ResourceError: the server cannot be reached, or the file's folder cannot be read.
    """
    parsed = parse_url(url)
    if parsed.path is not None:
        with os_errors("the study database cannot be found", where=parsed.path, hint="is the path right, and may you read it?"):
            return parsed.path.exists() and (parsed.kind == "journal" or parsed.path.stat().st_size > 0)
    import sqlalchemy

    with database_errors(url), _connect(engine_of(parsed, poolclass=sqlalchemy.NullPool)) as connection:
        return sqlalchemy.inspect(connection).has_table("trials")


def engine_of(server: StorageUrl, **options: Any) -> sqlalchemy.Engine:
    """Connections to a database server.

    Raises:
        DefinitionError: its driver is not installed.
    """
    import sqlalchemy

    module, extra = _DRIVERS[server.kind]
    if find_spec(module) is None:
        raise DefinitionError(
            f"the driver for this storage is not installed: {module}",
            where=server.redacted,
            hint=f"pip install 'islr-search[{extra}]'",
        )
    return _with_settings(sqlalchemy.create_engine(server.url, **{**_server_options(server), **options}))


def _server_options(server: StorageUrl) -> dict[str, Any]:
    """Engine options with which this end notices within half a minute that the other is gone. Those of the URL come first."""
    import sqlalchemy

    options: dict[str, Any] = {"pool_pre_ping": True}
    arguments: dict[str, Any] = {"connect_timeout": _CONNECT_S}
    if server.kind == "mysql":
        options["pool_recycle"] = 3600
        arguments |= {"read_timeout": BUSY_TIMEOUT_S, "write_timeout": BUSY_TIMEOUT_S}
    else:
        arguments |= {
            "application_name": "islr-search",
            "tcp_user_timeout": 1000 * 2 * _KEEPALIVE_S,
            **{f"keepalives_{name}": value for name, value in _KEEPALIVES.items()},
            "prepare_threshold": None,
        }
    named = sqlalchemy.make_url(server.url).query
    options["connect_args"] = {name: value for name, value in arguments.items() if name not in named}
    return options


def _with_settings(engine: sqlalchemy.Engine) -> sqlalchemy.Engine:
    """The engine; PostgreSQL gets our settings with each transaction. Settings in the URL's `options` are left alone."""
    import sqlalchemy

    if engine.dialect.name == "postgresql":
        own = str(engine.url.query.get("options", ""))
        sql = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in _SETTINGS.items() if name not in own)
        sqlalchemy.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(sql) if sql else None)
    return engine


def _open_sqlite(file: StorageUrl, create: bool) -> Database:
    import sqlalchemy  # slow to import, and not needed to read an SQLite file (see read_only.py)

    assert file.path is not None
    require_sqlite(file.path)
    with creation_lock(file.path) if create else contextlib.nullcontext():
        enable_wal(file.path)
        # by the path: Optuna's and SQLAlchemy's reading of the URL may name another file
        storage = _open_tables(file, {"creator": partial(connect, file.path)}, create)
        sqlalchemy.event.listen(storage.engine, "connect", relax_sync)
        sqlalchemy.event.listen(storage.engine, "checkout", file_guard(file.path))
        storage.engine.dispose()  # connections from before the listeners
    return storage


def open_for_look(file: StorageUrl, look: Look) -> optuna.storages.RDBStorage:
    """Optuna's storage on connections for reading."""
    import sqlalchemy

    with database_errors(file.redacted):
        return _open_tables(file, {"creator": look.connect, "poolclass": sqlalchemy.NullPool}, create=False)


def _open_server(server: StorageUrl, create: bool) -> Database:
    import sqlalchemy

    # Readers take the lock too: Optuna writes the schema version to a table of its own whenever it opens a database.
    with table_creation_lock(engine_of(server, poolclass=sqlalchemy.NullPool)):
        storage = _open_tables(server, _server_options(server), create)
    _with_settings(storage.engine)
    weakref.finalize(storage, storage.engine.dispose)
    return storage


def _connect(engine: sqlalchemy.Engine) -> sqlalchemy.Connection:
    """The first connection of an engine.

    Raises:
        DefinitionError: the driver does not support an option of the URL.
    """
    try:
        return engine.connect()
    except (TypeError, AttributeError, RuntimeError) as error:
        raise DefinitionError(
            "the database's driver does not support this URL", where=redact_url(str(engine.url)), got=str(error).splitlines()[0]
        ) from error


@contextlib.contextmanager
def table_creation_lock(engine: sqlalchemy.Engine) -> Iterator[None]:
    """Inside the block, no other process of this tool creates tables in the server's database."""
    with _connect(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TABLES_LOCK})")  # until the connection is closed
            yield
            return
        if connection.exec_driver_sql(f"SELECT GET_LOCK('{_TABLES_LOCK}', 60)").scalar() == 0:
            raise ResourceError("another program has been creating tables in the database for a minute", hint="try again")
        try:
            yield
        finally:
            connection.exec_driver_sql(f"SELECT RELEASE_LOCK('{_TABLES_LOCK}')")


def _open_tables(storage: StorageUrl, options: dict[str, Any], create: bool) -> Database:
    from search.storage.database import Database  # imports SQLAlchemy

    try:
        return Database(storage.url, engine_kwargs=options, skip_table_creation=not create)
    except RuntimeError as error:
        raise ResourceError(
            "the study database was made by another version of Optuna",
            where=storage.name,
            got=str(error).splitlines()[0],
            hint="`optuna storage upgrade --storage URL` may help, or choose another with --storage",
        ) from error


def _open_journal(file: StorageUrl) -> optuna.storages.BaseStorage:
    from search.storage.journal import Journal

    assert file.path is not None
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        return optuna.storages.JournalStorage(Journal(file.path))
    except (OSError, ValueError, KeyError) as error:
        raise ResourceError(
            "the journal cannot be used",
            where=file.name,
            got=getattr(error, "strerror", None) or str(error),
            hint="is it an Optuna journal, and is it writable?",
        ) from error
