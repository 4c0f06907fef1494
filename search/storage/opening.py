"""Opens each kind of storage with suitable settings.

SQLite: write-ahead logging and a busy timeout. A server: connections that are tested before use, time out, and are closed by
the server when their machine is gone. A journal: locks that work on network file systems.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import optuna

from search.errors import DefinitionError, ResourceError
from search.storage.errors import database_errors
from search.storage.sqlite import BUSY_TIMEOUT_S, creation_lock, enable_wal, file_guard, relax_sync
from search.storage.url import StorageUrl, parse_url, redact_url

if TYPE_CHECKING:
    import sqlalchemy


_CONNECT_S = 5
_KEEPALIVE_S = 10
"""Seconds of silence before a connection is probed, and between probes that are not acknowledged."""

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
        raise DefinitionError(
            "there is no study database yet",
            where=parsed.name,
            hint="`python -m search run` creates it; --storage selects another",
        )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    with database_errors(url):
        if parsed.kind == "journal":
            return _open_journal(parsed)
        return optuna.storages.get_storage(
            _open_sqlite(parsed, create) if parsed.kind == "sqlite" else _open_server(parsed, create)
        )


def has_studies(url: str) -> bool:
    """Whether the file exists, or the server's database has Optuna's tables.

    Raises:
        DefinitionError: the URL is not supported.
        ResourceError: the server cannot be reached.
    """
    parsed = parse_url(url)
    if parsed.path is not None:
        return parsed.path.exists()
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
    return sqlalchemy.create_engine(server.url, **{**_server_options(server), **options})


def _server_options(server: StorageUrl) -> dict[str, Any]:
    """Engine options with which both ends notice within half a minute that the other is gone."""
    if server.kind == "mysql":
        timeouts = {"connect_timeout": _CONNECT_S, "read_timeout": BUSY_TIMEOUT_S, "write_timeout": BUSY_TIMEOUT_S}
        return {"pool_pre_ping": True, "pool_recycle": 3600, "connect_args": timeouts}
    keepalives = {"idle": _KEEPALIVE_S, "interval": _KEEPALIVE_S // 2, "count": 3}
    by_server = " ".join(f"-c tcp_keepalives_{name}={value}" for name, value in keepalives.items())
    arguments = {
        "connect_timeout": _CONNECT_S,
        "application_name": "islr-search",
        "options": f"{by_server} -c lock_timeout={BUSY_TIMEOUT_S}s -c statement_timeout={BUSY_TIMEOUT_S}s",
        "tcp_user_timeout": 1000 * 2 * _KEEPALIVE_S,
        **{f"keepalives_{name}": value for name, value in keepalives.items()},
    }
    return {"pool_pre_ping": True, "connect_args": arguments}


def _open_sqlite(file: StorageUrl, create: bool) -> optuna.storages.RDBStorage:
    import sqlalchemy  # slow to import, and not needed to read an SQLite file (see read_only.py)

    assert file.path is not None
    with creation_lock(file.path) if create else contextlib.nullcontext():
        enable_wal(file.path)
        storage = _open_tables(file, {"connect_args": {"timeout": BUSY_TIMEOUT_S}}, create)
        sqlalchemy.event.listen(storage.engine, "connect", relax_sync)
        sqlalchemy.event.listen(storage.engine, "checkout", file_guard(file.path))
        storage.engine.dispose()  # connections from before the listeners
    return storage


def _open_server(server: StorageUrl, create: bool) -> optuna.storages.RDBStorage:
    import sqlalchemy

    # Readers take the lock too: Optuna writes the schema version to a table of its own whenever it opens a database.
    with table_creation_lock(engine_of(server, poolclass=sqlalchemy.NullPool)):
        storage = _open_tables(server, _server_options(server), create)
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
    on_postgres = engine.dialect.name == "postgresql"
    lock = f"SELECT pg_advisory_lock({_TABLES_LOCK})" if on_postgres else f"SELECT GET_LOCK('{_TABLES_LOCK}', 60)"
    unlock = f"SELECT pg_advisory_unlock({_TABLES_LOCK})" if on_postgres else f"SELECT RELEASE_LOCK('{_TABLES_LOCK}')"
    with _connect(engine) as connection:
        if connection.exec_driver_sql(lock).scalar() == 0:
            raise ResourceError("another program has been creating tables in the database for a minute", hint="try again")
        try:
            yield
        finally:
            connection.exec_driver_sql(unlock)


def _open_tables(storage: StorageUrl, options: dict[str, Any], create: bool) -> optuna.storages.RDBStorage:
    try:
        return optuna.storages.RDBStorage(storage.url, engine_kwargs=options, skip_table_creation=not create)
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
