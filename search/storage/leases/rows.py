"""Runs on a study in the database of a server: a row for each, beside Optuna's tables.

A run renews its row from a thread of its own. One that has not done so for the time that its row names is dead to the others:
only the database's clock is asked, and time in which the server itself was down does not count. Before another run takes a
trial of a dead one it deletes that row, and every batch that a run writes begins with a look at its own row, in the same
transaction: a run that comes back too late finds itself dead, and writes nothing.

A turn is a lock of the database's, which goes with the connection that holds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Self

import sqlalchemy
from sqlalchemy import BigInteger, Column, Float, MetaData, String, Table, Text, func, select

from search.errors import DefinitionError
from search.storage.errors import is_unreachable
from search.storage.leases.lease import Lease, LeaseLost, Owner, TurnLost, new_owner, process_is_alive
from search.storage.opening import engine_of, table_creation_lock
from search.storage.url import StorageUrl

_RENEWALS = 6
"""How often a row is renewed in the time after which it would lapse."""

_OLD = 100
"""Rows of dead runs are deleted after so many times what they promised."""

_LONGEST_TURN_S = 300
"""How long the database waits for a word of the run whose turn it is. Samplers may think for long."""

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
    """Looks at the rows of a study's runs."""

    def __init__(self, engine: sqlalchemy.Engine, study: str) -> None:
        self.engine = engine
        self._study = study
        self.grace_until = 0.0
        """Until this time of the monotonic clock a row that has lapsed is as good as another."""

    @classmethod
    def of(cls, place: StorageUrl, study: str) -> Self:
        """With connections of its own."""
        return cls(engine_of(place, poolclass=sqlalchemy.NullPool), study)

    def is_alive(self, owner: Owner) -> bool:
        """Whether the run has a row that has not lapsed. A process of this machine that is gone is dead at once."""
        if process_is_alive(owner) is False:
            return False
        try:
            with self.engine.connect() as connection:
                row = connection.execute(select(_RUNS).where(_RUNS.c.run == owner.run)).one_or_none()
                return row is not None and self._is_valid(row, *_clock(connection))
        except sqlalchemy.exc.ProgrammingError:  # no run has made the table yet
            return False

    def _is_valid(self, row: Any, now: float, up_since: float) -> bool:
        """Whether a run has renewed its row in time, or has had no time for it since it could."""
        return now - max(row.renewed, up_since) < row.lease_s or time.monotonic() < self.grace_until

    def num_runs(self) -> int:
        """How many runs work on the study now."""
        try:
            with self.engine.connect() as connection:
                found = connection.execute(select(_RUNS).where(_RUNS.c.study == self._study)).all()
                now, up_since = _clock(connection)
        except sqlalchemy.exc.ProgrammingError:  # no run has made the table yet
            return 0
        valid = [Owner(**json.loads(row.owner)) for row in found if self._is_valid(row, now, up_since)]
        return sum(process_is_alive(owner) is not False for owner in valid)

    def reclaim_from(self, owner: Owner) -> bool:
        """Deletes the row of a dead run, unless it is renewed meanwhile: whether the run is dead now for good."""
        with self.engine.begin() as connection:
            row = connection.execute(select(_RUNS).where(_RUNS.c.run == owner.run)).one_or_none()
            if row is None:
                return True
            if self._is_valid(row, *_clock(connection)) and process_is_alive(owner) is not False:
                return False
            gone = connection.execute(
                sqlalchemy.delete(_RUNS).where(_RUNS.c.run == owner.run, _RUNS.c.renewals == row.renewals)
            )
            return gone.rowcount == 1


class RowLease(Lease):
    """A run on a study in the database of a server."""

    observer: RowObserver

    def __init__(self, place: StorageUrl, study: str, lease_s: float) -> None:
        """`lease_s`: seconds without a word after which this run is dead to others."""
        if not 1 <= lease_s < float("inf"):
            raise DefinitionError("a lease is too short", got=f"{lease_s:g} s", expected="a second or more")
        self._engine = engine_of(place, pool_size=2, max_overflow=2)
        super().__init__(study, RowObserver(self._engine, study), place.shown)
        self.needs_fence = True
        self._lease_s = lease_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="renews the lease", daemon=True)

    def __enter__(self) -> Self:
        with table_creation_lock(self._engine):
            _META.create_all(self._engine)
        with self._engine.begin() as connection:
            now, up_since = _clock(connection)
            old = now - _OLD * _RUNS.c.lease_s
            connection.execute(sqlalchemy.delete(_RUNS).where(_RUNS.c.renewed < old, up_since < old))
        self._enrol()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(2 * self._lease_s)
        with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError), self._engine.begin() as connection:
            connection.execute(sqlalchemy.delete(_RUNS).where(_RUNS.c.run == self.owner.run))
        self._engine.dispose()

    def rejoin(self) -> None:
        """A new name, and a row for it."""
        self.owner = new_owner()
        self._enrol()

    @contextlib.contextmanager
    def turn(self, patience_s: float = 0) -> Iterator[bool]:
        """As `Lease.turn`. A run that is suspended in its turn for minutes loses it."""
        with self._engine.connect() as connection:
            is_mine = self._wait_for_turn(connection, patience_s)
            self.turn_connection = connection if is_mine else None
            try:
                yield is_mine
            except BaseException as error:
                connection.invalidate()  # and the lock goes with it
                if is_mine and is_unreachable(error):
                    raise TurnLost from error
                raise
            finally:
                self.turn_connection = None
            if is_mine:
                self._end_turn(connection)

    def reclaim_from(self, owner: Owner | None) -> bool:
        """Deletes the row of a dead run. False if it has come back to life."""
        return owner is None or self.owns(owner) or self.observer.reclaim_from(owner)

    def fence(self, connection: Any) -> None:
        """Holds this run's row until the transaction ends."""
        mine = select(_RUNS.c.run).where(_RUNS.c.run == self.owner.run).with_for_update(read=True)
        if connection.scalar(mine) is None:
            raise LeaseLost

    def _enrol(self) -> None:
        with self._engine.begin() as connection:
            now, _ = _clock(connection)
            row = {"run": self.owner.run, "study": self.study, "owner": json.dumps(asdict(self.owner))}
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
            else:  # after a cut, which others may have had too, they have time to renew theirs
                self.observer.grace_until = min(self.observer.grace_until, time.monotonic() + self._lease_s / 2)

    def _wait_for_turn(self, connection: sqlalchemy.Connection, patience_s: float) -> bool:
        until = time.monotonic() + patience_s
        ask = self._ask_for_turn(connection)
        while not connection.scalar(ask):
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_S)
        return True

    def _ask_for_turn(self, connection: sqlalchemy.Connection) -> Any:
        number = int.from_bytes(hashlib.sha256(f"turn {self.study}".encode()).digest()[:8], "big", signed=True)
        if self._engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{_LONGEST_TURN_S}s'")
            return select(func.pg_try_advisory_xact_lock(number))
        return select(func.get_lock(f"islr {number}", 0))

    def _end_turn(self, connection: sqlalchemy.Connection) -> None:
        try:
            if self._engine.dialect.name != "postgresql":
                number = int.from_bytes(hashlib.sha256(f"turn {self.study}".encode()).digest()[:8], "big", signed=True)
                if connection.scalar(select(func.release_lock(f"islr {number}"))) != 1:
                    raise TurnLost
            connection.commit()
        except sqlalchemy.exc.DBAPIError as error:
            if is_unreachable(error):
                raise TurnLost from error
            raise


def _clock(connection: sqlalchemy.Connection) -> tuple[float, float]:
    """The database's clock, and since when its server is up: seconds since 1970."""
    if connection.dialect.name == "postgresql":
        sql = "SELECT extract(epoch FROM clock_timestamp()), extract(epoch FROM pg_postmaster_start_time())"
        now, up_since = connection.exec_driver_sql(sql).one()
        return float(now), float(up_since)
    now = float(connection.exec_driver_sql("SELECT unix_timestamp(now(6))").scalar_one())
    return now, now - float(connection.exec_driver_sql("SHOW GLOBAL STATUS LIKE 'Uptime'").one()[1])
