"""Leases on a database server: runs that are alive, by the database's clock, and turns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import sqlalchemy
from launch import environment
from postgres import Postgres

from search.errors import DefinitionError, ResourceError
from search.storage.leases.choice import lease_of, observe
from search.storage.leases.lease import LeaseLost, Owner, TurnLost, owner_of
from search.storage.leases.rows import RowLease

HOLD = """
import json, sys, time
from search.storage.leases.choice import lease_of
with lease_of(sys.argv[1], "s", lease_s=float(sys.argv[2])) as lease:
    print(json.dumps(lease.stored()), flush=True)
    time.sleep(600)
"""
ELSEWHERE = "another machine"


@contextmanager
def another_run(url: str, lease_s: float) -> Iterator[tuple[subprocess.Popen[str], Owner]]:
    """A run of the study `s` in another process, and its owner."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, url, str(lease_s)], env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    owner = owner_of(json.loads(process.stdout.readline()))
    assert owner is not None
    try:
        yield process, owner
    finally:
        process.kill()
        process.communicate()


def change(url: str, what: str, run: str) -> None:
    """Changes the row of a run."""
    with sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).begin() as connection:
        done = connection.execute(sqlalchemy.text(f"UPDATE islr_search_runs SET {what} WHERE run = :run"), {"run": run})
        assert done.rowcount == 1


def wait_for(condition: object, timeout_s: float = 30) -> None:
    """Waits until a function returns true."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def test_a_run_is_alive_while_it_renews_its_lease(postgres_url: str) -> None:
    """A killed run is dead at once on its machine, and on others when its lease expires; a suspended one also expires."""
    watch = observe(postgres_url, "s")
    with another_run(postgres_url, 2.0) as (process, owner):
        stranger = replace(owner, boot=ELSEWHERE)
        assert watch.is_alive(owner)
        assert watch.is_alive(stranger)
        assert watch.is_alive(replace(owner, started=owner.started - 100)), "the wall clock may have been adjusted"
        assert watch.num_runs() == 1
        assert watch.runs() == [owner.run]
        assert observe(postgres_url, "t").num_runs() == 0
        time.sleep(2.5)
        assert watch.is_alive(stranger), "it renews its lease"
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: not watch.is_alive(stranger))
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: watch.is_alive(stranger))
        process.kill()
        process.wait()
        assert not watch.is_alive(owner)
        assert watch.num_runs() == 0
        assert watch.is_alive(stranger), "another machine cannot see it yet"
        wait_for(lambda: not watch.is_alive(stranger))


def test_a_run_that_ends_leaves_nothing(postgres_url: str) -> None:
    """A run that ends deletes its row and stops its thread."""
    before = threading.active_count()
    with lease_of(postgres_url, "s") as lease:
        assert lease.observer.num_runs() == 1
        assert lease.is_alive(lease.owner)
        assert lease.owns(lease.owner)
    assert observe(postgres_url, "s").num_runs() == 0
    assert not observe(postgres_url, "s").is_alive(lease.owner)
    assert threading.active_count() == before


def test_an_owner_without_a_row_is_dead(postgres_url: str) -> None:
    """An unknown owner is dead, also before the table exists."""
    owner = Owner("20260101T000000Z-1-aaaa", "h", os.getpid(), 0.0, ELSEWHERE)
    watch = observe(postgres_url, "s")
    assert watch.num_runs() == 0
    assert not watch.is_alive(owner)
    with lease_of(postgres_url, "s") as lease:
        assert not lease.is_alive(owner)
        assert lease.reclaim_from(owner)
        assert lease.reclaim_from(None)


def test_reclaiming(postgres_url: str) -> None:
    """Only dead runs are reclaimed from; such a run notices, and rejoins under another name."""
    with lease_of(postgres_url, "s") as mine, lease_of(postgres_url, "s") as theirs:
        assert isinstance(mine, RowLease)
        assert isinstance(theirs, RowLease)
        assert not mine.reclaim_from(theirs.owner)
        assert mine.reclaim_from(mine.owner), "trials that it lost with a turn have no owner"
        assert mine.observer.num_runs() == 2
        change(postgres_url, "renewed = 0, lease_s = 1e-9", theirs.owner.run)
        mine.observer.grace_until = time.monotonic() + 600
        assert not mine.reclaim_from(theirs.owner), "the connection was lost a moment ago, perhaps theirs too"
        assert mine.is_alive(theirs.owner)
        mine.observer.grace_until = 0.0
        assert mine.reclaim_from(theirs.owner)
        assert mine.reclaim_from(theirs.owner), "it stays dead"
        with theirs._engine.begin() as connection, pytest.raises(LeaseLost):
            theirs.fence(connection)
        old = theirs.owner
        theirs.rejoin()
        assert theirs.owner.run != old.run
        assert mine.is_alive(theirs.owner)
        assert not mine.is_alive(old)
        with theirs._engine.begin() as connection:
            theirs.fence(connection)


def test_a_run_that_writes_cannot_be_reclaimed_from(postgres_url: str) -> None:
    """A batch that has started is written before its run can be declared dead."""
    with lease_of(postgres_url, "s") as mine, lease_of(postgres_url, "s") as theirs:
        assert isinstance(theirs, RowLease)
        change(postgres_url, "renewed = 0, lease_s = 1e-9", theirs.owner.run)
        reclaimed = threading.Event()

        def reclaim() -> None:
            mine.reclaim_from(theirs.owner)
            reclaimed.set()

        with theirs._engine.begin() as connection:
            theirs.fence(connection)
            thread = threading.Thread(target=reclaim)
            thread.start()
            assert not reclaimed.wait(0.5)
        thread.join(30)
        assert reclaimed.is_set()


def test_time_without_a_server_does_not_count(own_postgres: Postgres) -> None:
    """After the server was down for longer than a lease, runs have a full lease time to renew their rows."""
    _, url = own_postgres.new_database()
    with another_run(url, 3.0) as (process, owner):
        stranger = replace(owner, boot=ELSEWHERE)
        process.send_signal(signal.SIGSTOP)
        own_postgres.stop()
        time.sleep(3.5)
        own_postgres.start()
        watch = observe(url, "s")
        assert watch.is_alive(stranger)
        wait_for(lambda: not watch.is_alive(stranger))


def test_turns(postgres_url: str) -> None:
    """One run at a time has the turn of a study; an error inside the turn ends it."""
    with lease_of(postgres_url, "s") as first, lease_of(postgres_url, "s") as second, lease_of(postgres_url, "t") as third:
        with first.turn() as mine:
            assert mine
            with second.turn() as also_mine, third.turn() as theirs:
                assert (also_mine, theirs) == (False, True)
        with second.turn() as mine:
            assert mine
        with pytest.raises(ZeroDivisionError), first.turn():
            raise ZeroDivisionError
        with second.turn() as mine:
            assert mine, "an error ends the turn"


def end_turn(url: str) -> None:
    """Ends the connection that holds a turn."""
    with sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        )


def test_a_turn_whose_connection_breaks_is_lost(postgres_url: str) -> None:
    """A turn whose connection breaks raises TurnLost at its end, since another run may have had it meanwhile."""

    def lose() -> None:
        with first.turn() as mine:
            assert mine
            end_turn(postgres_url)
            with second.turn(5) as theirs:
                assert theirs

    with lease_of(postgres_url, "s") as first, lease_of(postgres_url, "s") as second:
        with pytest.raises(TurnLost):
            lose()
        with first.turn() as mine:
            assert mine
        with pytest.raises(ResourceError, match="was unreachable for a moment"), first.wait_for_turn():
            end_turn(postgres_url)


@pytest.mark.parametrize("lease_s", [0, 0.5, -1, float("inf"), float("nan")])
def test_invalid_lease_times(lease_s: float, postgres_url: str) -> None:
    """A lease time that is too short or infinite is refused."""
    with pytest.raises(DefinitionError, match="lease"):
        lease_of(postgres_url, "s", lease_s=lease_s)
