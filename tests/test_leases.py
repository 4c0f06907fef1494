"""Leases in files: the kernel decides whether a run is alive, never how long it has been silent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
from launch import environment

from search.errors import ResourceError
from search.storage.leases import files as locks
from search.storage.leases import lease as leases
from search.storage.leases.files import FileLease, FileObserver, locks_folder
from search.storage.leases.lease import Owner, owner_of

HOLD = """
import json, sys, time
from pathlib import Path
from search.storage.leases.files import FileLease
with FileLease(Path(sys.argv[1]), "s") as lease:
    print(json.dumps(lease.stored()), flush=True)
    if sys.argv[2] == "turn":
        with lease.turn() as is_mine:
            print(is_mine, flush=True)
            time.sleep(60)
    time.sleep(60)
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The path of a database that need not exist."""
    return tmp_path / "studies.db"


def hold(database: Path, what: str = "lease") -> tuple[subprocess.Popen[str], Owner]:
    """Another run of the study `s`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(database), what], env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    owner = owner_of(json.loads(process.stdout.readline()))
    assert owner is not None
    if what == "turn":
        assert process.stdout.readline().strip() == "True"
    return process, owner


@pytest.fixture
def other(database: Path) -> Iterator[tuple[subprocess.Popen[str], Owner]]:
    """Another run of the study `s`, alive."""
    process, owner = hold(database)
    yield process, owner
    process.kill()
    process.communicate()


def test_a_killed_owner_is_dead(other: tuple[subprocess.Popen[str], Owner], database: Path) -> None:
    """An owner is alive while it runs, and dead as soon as it is killed."""
    process, owner = other
    assert FileObserver(database, "s").is_alive(owner)
    assert FileObserver(database, "s").num_runs() == len(FileObserver(database, "s").runs()) == 1
    assert FileObserver(database, "t").num_runs() == 0
    process.kill()
    process.wait()
    assert not FileObserver(database, "s").is_alive(owner)
    assert FileObserver(database, "s").num_runs() == 0


def test_a_suspended_owner_is_alive(other: tuple[subprocess.Popen[str], Owner], database: Path) -> None:
    """A suspended run is slow, not dead."""
    process, owner = other
    process.send_signal(signal.SIGSTOP)
    try:
        assert FileObserver(database, "s").is_alive(owner)
        assert FileObserver(database, "s").num_runs() == 1
    finally:
        process.send_signal(signal.SIGCONT)


def test_without_its_lock_the_process_table_decides(other: tuple[subprocess.Popen[str], Owner], database: Path) -> None:
    """Deleting a run's lock file does not make it dead; a reused process id does not make it alive."""
    process, owner = other
    folder = locks_folder(database, "s")
    (folder / f"{owner.run}.lock").unlink()
    assert FileObserver(database, "s").is_alive(owner)
    assert not FileObserver(database, "s").is_alive(replace(owner, started=owner.started - 100))
    process.kill()
    process.wait()
    assert not FileObserver(database, "s").is_alive(owner)


def test_a_zombie_is_dead(other: tuple[subprocess.Popen[str], Owner], database: Path) -> None:
    """A process that has ended but was not reaped is dead."""
    process, owner = other
    folder = locks_folder(database, "s")
    (folder / f"{owner.run}.lock").unlink()
    process.kill()
    deadline = time.monotonic() + 10
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not FileObserver(database, "s").is_alive(owner)


def test_an_owner_from_another_boot_is_dead(other: tuple[subprocess.Popen[str], Owner], database: Path) -> None:
    """After a reboot, or on another machine, no earlier process is alive, whatever its id."""
    folder = locks_folder(database, "s")
    (folder / f"{other[1].run}.lock").unlink()
    assert FileObserver(database, "s").is_alive(other[1])
    assert not FileObserver(database, "s").is_alive(replace(other[1], boot="another"))


def test_a_run_of_this_process(database: Path) -> None:
    """A run that has ended is dead, even if its process continues."""
    folder = locks_folder(database, "s")
    with FileLease(database, "s") as lease:
        assert lease.owns(lease.owner)
        assert lease.is_alive(lease.owner)
        assert not lease.is_alive(None)
        assert [path.name for path in folder.glob("2*")] == [f"{lease.owner.run}.lock"]
    assert not FileObserver(database, "s").is_alive(lease.owner)
    assert not list(folder.glob("2*")), "it deletes its lock"


def test_the_lock_has_priority(other: tuple[subprocess.Popen[str], Owner], database: Path) -> None:
    """With two containers on one folder, process ids and boot ids mislead; the held lock decides."""
    twin = replace(other[1], pid=os.getpid(), started=psutil.Process().create_time())
    assert FileObserver(database, "s").is_alive(twin)
    assert FileObserver(database, "s").is_alive(replace(twin, boot="another"))


def test_a_lock_that_cannot_be_checked_counts_as_held(
    other: tuple[subprocess.Popen[str], Owner], database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process without free file descriptors reclaims no trial and deletes no lock."""

    def exhausted(*_arguments: object, **_more: object) -> NoReturn:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(locks.filelock.FileLock, "acquire", exhausted)
    assert FileObserver(database, "s").is_alive(other[1])
    assert FileObserver(database, "s").num_runs() == 1


def test_one_database_by_two_names(database: Path, tmp_path: Path) -> None:
    """A database has the same locks under every path."""
    database.touch()
    (tmp_path / "link.db").symlink_to(database)
    assert locks_folder(tmp_path / "link.db", "s") == locks_folder(database, "s")


def test_locks_of_dead_runs_are_deleted(database: Path) -> None:
    """A new run deletes the locks of killed runs, and keeps those of living ones."""
    dead, owner = hold(database)
    living, _ = hold(database)
    dead.kill()
    dead.communicate()
    folder = locks_folder(database, "s")
    assert (folder / f"{owner.run}.lock").exists()
    with FileLease(database, "s"):
        assert not (folder / f"{owner.run}.lock").exists()
        assert FileObserver(database, "s").num_runs() == 2
    living.kill()
    living.communicate()


def test_turns(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run at a time has the turn; others continue without it, or wait and fail with a proper error."""
    process, _ = hold(database, "turn")
    monkeypatch.setattr(leases, "_TURN_TIMEOUT_S", 0.2)
    with pytest.raises(ResourceError, match="another run keeps the study `s` locked"), FileLease(database, "s"):
        pytest.fail("it did not have the turn")
    process.kill()
    process.communicate()
    with FileLease(database, "s") as first, FileLease(database, "s") as second, first.turn() as mine:
        assert mine
        with second.turn() as also_mine:
            assert not also_mine
    with FileLease(database, "t") as third, third.turn() as mine:
        assert mine, "another study has its own turn"


@pytest.mark.parametrize("stored", [None, {}, "x", 3, [], {"run": "x"}, {"run": "x", "strange": 1}])
def test_invalid_owners(stored: object) -> None:
    """An attribute that another program wrote does not count as an owner."""
    assert owner_of(stored) is None


def test_an_owner_survives_json(database: Path) -> None:
    """An owner, stored as JSON in a trial, is read back equal."""
    with FileLease(database, "s") as lease:
        assert owner_of(json.loads(json.dumps(lease.stored()))) == lease.owner


def test_a_machine_without_a_boot_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On systems other than Linux the boot time identifies the boot."""
    monkeypatch.setattr(leases, "_BOOT_ID", tmp_path / "nothing")
    assert leases.boot_id() == leases.boot_id() != ""
