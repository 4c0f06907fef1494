"""Opening each kind of storage well.

SQLite is opened in write-ahead mode with a busy timeout; a server with connections that are looked at before use, that do not
wait for ever, and that the server ends when their machine is gone; a journal with locks that network file systems keep.
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
from search.storage.sqlite import BUSY_TIMEOUT_S, creating, lighter_syncs, make_ready, same_file
from search.storage.url import StorageUrl, parse_url, shown_url

if TYPE_CHECKING:
    import sqlalchemy


_CONNECT_S = 5
_SILENT_S = 10
"""Seconds without a word from the other side after which a connection is looked at, and again."""

_DRIVERS = {"postgresql": ("psycopg", "postgres"), "mysql": ("pymysql", "mysql")}
_ONE_AT_A_TIME = 4_151_720_101
"""The number of the lock under which tables are made."""


def open_storage(url: str, *, create: bool) -> optuna.storages.BaseStorage:
    """Optuna's storage for an URL.

    Raises:
        DefinitionError: the URL is of no known kind, or there is no database and `create` is off.
        ResourceError: there is something else in its place, it cannot be written, or the server cannot be reached.
    """
    place = parse_url(url)
    if not create and not has_studies(url):
        raise DefinitionError(
            "there is no study database yet",
            where=place.name,
            hint="`python -m search run` makes it, or name one with --storage",
        )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    with database_errors(url):
        if place.kind == "journal":
            return _journal(place)
        return optuna.storages.get_storage(_of_file(place, create) if place.kind == "sqlite" else _of_server(place, create))


def has_studies(url: str) -> bool:
    """Whether there is a file, or a server's database with Optuna's tables.

    Raises:
        DefinitionError: the URL is of no known kind.
        ResourceError: the server cannot be reached.
    """
    place = parse_url(url)
    if place.path is not None:
        return place.path.exists()
    import sqlalchemy

    with database_errors(url), _first_connection(engine_of(place, poolclass=sqlalchemy.NullPool)) as connection:
        return sqlalchemy.inspect(connection).has_table("trials")


def engine_of(place: StorageUrl, **more: Any) -> sqlalchemy.Engine:
    """Connections to a database server.

    Raises:
        DefinitionError: its driver is not installed.
    """
    import sqlalchemy

    require_driver(place)
    return sqlalchemy.create_engine(place.url, **{**_server_settings(place), **more})


def require_driver(place: StorageUrl) -> None:
    """Refuses a server whose driver is not installed.

    Raises:
        DefinitionError: so it is.
    """
    if not place.is_server:
        return
    module, extra = _DRIVERS[place.kind]
    if find_spec(module) is None:
        raise DefinitionError(
            f"the driver for this storage is not installed: {module}",
            where=place.shown,
            hint=f"pip install 'islr-search[{extra}]'",
        )


def _server_settings(place: StorageUrl) -> dict[str, Any]:
    """Connections that notice within half a minute that the other side is gone, on both sides."""
    if place.kind == "mysql":
        patience = {"connect_timeout": _CONNECT_S, "read_timeout": BUSY_TIMEOUT_S, "write_timeout": BUSY_TIMEOUT_S}
        return {"pool_pre_ping": True, "pool_recycle": 3600, "connect_args": patience}
    probes = {"idle": _SILENT_S, "interval": _SILENT_S // 2, "count": 3}
    by_server = " ".join(f"-c tcp_keepalives_{name}={value}" for name, value in probes.items())
    arguments = {
        "connect_timeout": _CONNECT_S,
        "application_name": "islr-search",
        "options": f"{by_server} -c lock_timeout={BUSY_TIMEOUT_S}s -c statement_timeout={BUSY_TIMEOUT_S}s",
        "tcp_user_timeout": 1000 * 2 * _SILENT_S,
        **{f"keepalives_{name}": value for name, value in probes.items()},
    }
    return {"pool_pre_ping": True, "connect_args": arguments}


def _of_file(place: StorageUrl, create: bool) -> optuna.storages.RDBStorage:
    import sqlalchemy  # not before it is needed: a look at a study goes without (search/thin.py)

    assert place.path is not None
    with creating(place.path) if create else contextlib.nullcontext():
        make_ready(place.path)
        storage = _tables(place, {"connect_args": {"timeout": BUSY_TIMEOUT_S}}, create)
        sqlalchemy.event.listen(storage.engine, "connect", lighter_syncs)
        sqlalchemy.event.listen(storage.engine, "checkout", same_file(place.path))
        storage.engine.dispose()  # connections made before the listeners
    return storage


def _of_server(place: StorageUrl, create: bool) -> optuna.storages.RDBStorage:
    import sqlalchemy

    # Who only looks waits too: Optuna notes the version of the tables, in a table of its own, whenever it opens some.
    with table_creation_lock(engine_of(place, poolclass=sqlalchemy.NullPool)):
        storage = _tables(place, _server_settings(place), create)
    weakref.finalize(storage, storage.engine.dispose)
    return storage


def _first_connection(engine: sqlalchemy.Engine) -> sqlalchemy.Connection:
    """A connection.

    Raises:
        DefinitionError: the driver cannot do what the URL asks for.
    """
    try:
        return engine.connect()
    except (TypeError, AttributeError, RuntimeError) as error:
        raise DefinitionError(
            "the database's driver does not take this URL", where=shown_url(str(engine.url)), got=str(error).splitlines()[0]
        ) from error


@contextlib.contextmanager
def table_creation_lock(engine: sqlalchemy.Engine) -> Iterator[None]:
    """Inside, no other process of this tool makes tables in the database of a server."""
    on_postgres = engine.dialect.name == "postgresql"
    begin = f"SELECT pg_advisory_lock({_ONE_AT_A_TIME})" if on_postgres else f"SELECT GET_LOCK('{_ONE_AT_A_TIME}', 60)"
    end = f"SELECT pg_advisory_unlock({_ONE_AT_A_TIME})" if on_postgres else f"SELECT RELEASE_LOCK('{_ONE_AT_A_TIME}')"
    with _first_connection(engine) as connection:
        if connection.exec_driver_sql(begin).scalar() == 0:
            raise ResourceError("another program has been making tables in the database for a minute", hint="try again")
        try:
            yield
        finally:
            connection.exec_driver_sql(end)


def _tables(place: StorageUrl, settings: dict[str, Any], create: bool) -> optuna.storages.RDBStorage:
    try:
        return optuna.storages.RDBStorage(place.url, engine_kwargs=settings, skip_table_creation=not create)
    except RuntimeError as error:
        raise ResourceError(
            "the study database was made by another version of Optuna",
            where=place.name,
            got=str(error).splitlines()[0],
            hint="`optuna storage upgrade --storage URL` may help, or name another with --storage",
        ) from error


def _journal(place: StorageUrl) -> optuna.storages.BaseStorage:
    from optuna.storages.journal import JournalFileBackend

    assert place.path is not None
    try:
        place.path.parent.mkdir(parents=True, exist_ok=True)
        return optuna.storages.JournalStorage(JournalFileBackend(str(place.path)))
    except (OSError, ValueError, KeyError) as error:
        raise ResourceError(
            "the journal of studies cannot be used",
            where=place.name,
            got=getattr(error, "strerror", None) or str(error),
            hint="is it a journal of Optuna's, and may it be written?",
        ) from error
