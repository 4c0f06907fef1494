"""Leases on a study on a database server: one row per run, in a table next to Optuna's.

A run renews its row from a background thread. Other runs consider it dead once it has not done so for the row's `lease_s`, by
the database's clock; time in which the server itself was down does not count. Before another run reclaims a dead run's trials,
it deletes that row, and every batch that a run writes first checks its own row in the same transaction. A run that comes back
too late therefore finds that it is dead, and writes nothing.

A turn is an advisory lock of the database, which ends with the connection that holds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

import sqlalchemy
from sqlalchemy import BigInteger, Column, Float, MetaData, String, Table, Text, func, select

from search.errors import DefinitionError
from search.storage.errors import is_unreachable
from search.storage.leases.lease import Lease, LeaseLost, Owner, TurnLost, new_owner, process_is_alive
from search.storage.opening import engine_of, table_creation_lock
from search.storage.url import StorageUrl

_RENEWALS = 6
"""Renewals of a row within its lease time."""

_MAX_AGE = 100
"""Rows of dead runs are deleted after this many times their lease time."""

_MAX_TURN_S = 300
"""How long the database keeps the turn of a silent run. Samplers may compute for a long time."""

_POLL_S = 0.02
_META = MetaData()
_RUNS = Table(
    "islr_search_runs",
    _META,
    Column("run", String(80), primary_key=True),
    Column("study", String(512), nullable=False),
    Column("owner", Text, nullable=False),
    Column("lease_s", Float(53), nullable=False),
    Column("renewed", Float(53), nullable=False),  # seconds since 1970 by the database's clock
    Column("renewals", BigInteger, nullable=False),
)


class RowObserver:
    """Observes the runs on a study by their rows."""

    def __init__(self, engine: sqlalchemy.Engine, study: str) -> None:
        self.engine = engine
        self._study = study
        self.grace_until = 0.0
        """Until this time of the monotonic clock, expired rows count as valid."""

    @classmethod
    def connect(cls, server: StorageUrl, study: str) -> Self:
        """An observer with connections of its own."""
        return cls(engine_of(server, poolclass=sqlalchemy.NullPool), study)

    def is_alive(self, owner: Owner) -> bool:
        """Whether the run has a row that has not expired. A run of this machine whose process is gone is dead at once."""
        if process_is_alive(owner) is False:
            return False
        try:
            with self.engine.connect() as connection:
                row = _row_of(connection, owner)
                return row is not None and self._is_valid(row, *_clock(connection))
        except sqlalchemy.exc.ProgrammingError:  # no run has created the table yet
            return False

    def _is_valid(self, row: Any, now: float, up_since: float) -> bool:
        """Whether a run has renewed its row in time, or the server has not been up long enough for that."""
        return now - max(row.renewed, up_since) < row.lease_s or time.monotonic() < self.grace_until

    def runs(self) -> list[str]:
        """Names of the runs that work on the study now."""
        try:
            with self.engine.connect() as connection:
                rows = connection.execute(select(_RUNS).where(_RUNS.c.study == self._study)).all()
                now, up_since = _clock(connection)
        except sqlalchemy.exc.ProgrammingError:  # no run has created the table yet
            return []
        valid = [Owner(**json.loads(row.owner)) for row in rows if self._is_valid(row, now, up_since)]
        return sorted(owner.run for owner in valid if process_is_alive(owner) is not False)

    def num_runs(self) -> int:
        """Number of runs that work on the study now."""
        return len(self.runs())

    def delete_if_dead(self, owner: Owner) -> bool:
        """Deletes the row of a dead run. False if the run is alive, or renewed its row meanwhile."""
        with self.engine.begin() as connection:
            row = _row_of(connection, owner)
            if row is None:
                return True
            if self._is_valid(row, *_clock(connection)) and process_is_alive(owner) is not False:
                return False
            deleted = connection.execute(
                sqlalchemy.delete(_RUNS).where(_RUNS.c.run == owner.run, _RUNS.c.renewals == row.renewals)
            )
            return deleted.rowcount == 1


class RowLease(Lease):
    """A run's lease on a study on a database server."""

    observer: RowObserver

    def __init__(self, server: StorageUrl, study: str, lease_s: float) -> None:
        """`lease_s`: seconds without contact after which other runs consider this one dead."""
        if not 1 <= lease_s < float("inf"):
            raise DefinitionError("the lease time is not valid", got=f"{lease_s:g} s", expected="1 second or more")
        self._engine = engine_of(server, pool_size=2, max_overflow=2)
        super().__init__(study, RowObserver(self._engine, study), server.redacted)
        self.needs_fence = True
        self._lease_s = lease_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="renews the lease", daemon=True)
        self._turn_number = int.from_bytes(hashlib.sha256(f"turn {study}".encode()).digest()[:8], "big", signed=True)

    def __enter__(self) -> Self:
        with table_creation_lock(self._engine):
            _META.create_all(self._engine)
        with self._engine.begin() as connection:
            now, up_since = _clock(connection)
            oldest = now - _MAX_AGE * _RUNS.c.lease_s
            connection.execute(sqlalchemy.delete(_RUNS).where(_RUNS.c.renewed < oldest, up_since < oldest))
        self._insert_row()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(2 * self._lease_s)
        with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError), self._engine.begin() as connection:
            connection.execute(sqlalchemy.delete(_RUNS).where(_RUNS.c.run == self.owner.run))
        self._engine.dispose()

    def rejoin(self) -> None:
        """Takes a new name, and inserts a row for it."""
        self.owner = new_owner()
        self.names.add(self.owner.run)
        self._insert_row()

    @contextlib.contextmanager
    def turn(self, timeout_s: float = 0) -> Iterator[bool]:
        """Same as `Lease.turn`. A run that is suspended for minutes during its turn loses it."""
        with self._engine.connect() as connection:
            is_mine = self._acquire_turn(connection, timeout_s)
            self.turn_connection = connection if is_mine else None
            try:
                yield is_mine
            except BaseException as error:
                connection.invalidate()  # this releases the lock
                if is_mine and is_unreachable(error):
                    raise TurnLost from error
                raise
            finally:
                self.turn_connection = None
            if is_mine:
                self._end_turn(connection)

    def reclaim_from(self, owner: Owner | None) -> bool:
        """Deletes the row of a dead run. False if it is alive again."""
        return owner is None or self.owns(owner) or self.observer.delete_if_dead(owner)

    def fence(self, connection: Any) -> None:
        """Locks this run's row until the transaction ends."""
        mine = select(_RUNS.c.run).where(_RUNS.c.run == self.owner.run).with_for_update(read=True)
        if connection.scalar(mine) is None:
            raise LeaseLost

    def _insert_row(self) -> None:
        with self._engine.begin() as connection:
            now, _ = _clock(connection)
            row = {"run": self.owner.run, "study": self.study, "owner": json.dumps(self.stored())}
            connection.execute(sqlalchemy.insert(_RUNS).values(**row, lease_s=self._lease_s, renewed=now, renewals=0))

    def _renew(self) -> None:
        while not self._over.wait(self._lease_s / _RENEWALS):
            try:
                with self._engine.begin() as connection:
                    now, _ = _clock(connection)
                    mine = sqlalchemy.update(_RUNS).where(_RUNS.c.run == self.owner.run)
                    connection.execute(mine.values(renewed=now, renewals=_RUNS.c.renewals + 1))
            except sqlalchemy.exc.SQLAlchemyError:
                self.observer.grace_until = float("inf")
            else:  # after an outage, which others may have had too, give them time to renew their rows
                self.observer.grace_until = min(self.observer.grace_until, time.monotonic() + self._lease_s / 2)

    def _acquire_turn(self, connection: sqlalchemy.Connection, timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        if self._engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{_MAX_TURN_S}s'")
            lock: Any = func.pg_try_advisory_xact_lock(self._turn_number)
        else:
            lock = func.get_lock(f"islr {self._turn_number}", 0)
        while not connection.scalar(select(lock)):
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_S)
        return True

    def _end_turn(self, connection: sqlalchemy.Connection) -> None:
        try:
            unlock = select(func.release_lock(f"islr {self._turn_number}"))
            if self._engine.dialect.name != "postgresql" and connection.scalar(unlock) != 1:
                raise TurnLost
            connection.commit()
        except sqlalchemy.exc.DBAPIError as error:
            if is_unreachable(error):
                raise TurnLost from error
            raise


def _row_of(connection: sqlalchemy.Connection, owner: Owner) -> Any:
    return connection.execute(select(_RUNS).where(_RUNS.c.run == owner.run)).one_or_none()


def _clock(connection: sqlalchemy.Connection) -> tuple[float, float]:
    """The database's clock, and when its server was started: seconds since 1970."""
    if connection.dialect.name == "postgresql":
        sql = "SELECT extract(epoch FROM clock_timestamp()), extract(epoch FROM pg_postmaster_start_time())"
        now, up_since = connection.exec_driver_sql(sql).one()
        return float(now), float(up_since)
    now = float(connection.exec_driver_sql("SELECT unix_timestamp(now(6))").scalar_one())
    return now, now - float(connection.exec_driver_sql("SHOW GLOBAL STATUS LIKE 'Uptime'").one()[1])
