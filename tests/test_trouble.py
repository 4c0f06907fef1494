"""What goes wrong around a search: disks, databases, other programs, other hands. It ends with 3 or 2, and loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from conftest import Cli, answered_in, own_copy
from launch import TINY_STUDY, TRIAL_FILES, is_in_trial, outcomes, run_cli, start_cli, stored_trials, wait_until
from test_storage import HOLD

from search.reporting.dashboard.serve import free_port
from search.trial.files import CHECKPOINT, read_curves
from search.trial.trial_run import TrialRun

LONG = ("--set", "epochs=80")


def states(place: Path, study: str = "tiny") -> list[str]:
    """The state of each trial."""
    return [trial.state.name for trial in stored_trials(place, study)]


@pytest.fixture(scope="module")
def once_cut_off(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a search of two trials that was killed in the middle of the second. Only to be read."""
    folder = tmp_path_factory.mktemp("once") / "cut_off"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    process = start_cli("run", "tiny.yaml", "--data", str(tiny), "--trials", "2", *LONG, cwd=folder)
    wait_until(is_in_trial(folder, 1, epochs=5), process)
    process.kill()
    process.communicate()
    return folder


@pytest.fixture(scope="module")
def peace(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    """What the same search gives when nobody disturbs it."""
    folder = tmp_path_factory.mktemp("peace")
    (folder / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    answered_in(folder, "run", "tiny.yaml", "--data", str(tiny), "--trials", "2", *LONG)
    return outcomes(folder)


def halve(path: Path) -> None:
    """Cuts a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (halve, "starting over (unusable checkpoint: it is damaged"),
        (
            lambda path: path.write_bytes(b"garbage"),
            "starting over (unusable checkpoint: it is not a checkpoint",
        ),
        (Path.unlink, "starting over (no checkpoint)"),
        (lambda path: path.with_name(".checkpoint.99.part").write_bytes(b"half"), "resuming after epoch"),
    ],
    ids=["cut in half", "garbage", "deleted", "half of another"],
)
def test_a_spoilt_checkpoint(
    harm: Callable[[Path], object],
    said: str,
    once_cut_off: Path,
    tiny: Path,
    peace: list[tuple[object, ...]],
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The trial starts over and says so; the numbers are those of a search in peace; nothing stays behind."""
    place = own_copy(once_cut_off, tmp_path / "place", monkeypatch)
    checkpoint = place / "runs" / "tiny" / "trials" / "0001" / CHECKPOINT
    harm(checkpoint)
    done = cli("run", "tiny.yaml", "--data", tiny, "--trials", "2", *LONG)
    assert done.code == 0
    assert f"trial 1 was interrupted: {said}" in done.err
    assert outcomes(place) == peace
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == list(TRIAL_FILES)


def test_a_checkpoint_of_other_versions(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another PyTorch began is not mixed with this one's epochs."""
    run = ("run", "tiny.yaml", "--data", tiny, "--trials", 1, "--set", "epochs=4")
    with monkeypatch.context() as patch:
        real = TrialRun.next_step
        patch.setattr("search.trial.machine.version", lambda package: "0.1")

        def cut(self: TrialRun) -> object:
            if self.steps_done == 2:
                raise KeyboardInterrupt
            step = real(self)
            return step and replace(step, records={0: replace(step.records[0], val_loss=9.0)})  # another version's number

        patch.setattr(TrialRun, "next_step", cut)
        assert cli(*run).code == 130
    done = cli(*run)
    assert done.code == 0
    assert "trial 0 was interrupted: starting over (unusable checkpoint: it belongs to another training" in done.err
    (trial,) = stored_trials(place)
    assert '"torch": "0.1"' not in trial.user_attrs["made_with"]
    curve = read_curves(place / "runs" / "tiny" / "trials" / "0000" / "curve.csv")[0]
    assert trial.intermediate_values == {record.epoch: record.val_loss for record in curve}
    assert 9.0 not in trial.intermediate_values.values(), "what the other version reported is no longer there"


def test_a_checkpoint_that_is_left_of_a_finished_trial(place: Path, tiny: Path, cli: Cli) -> None:
    """A run that was killed just after it told a result leaves one; the next run clears it away."""
    run = ("run", "tiny.yaml", "--data", tiny)
    assert cli(*run, "--trials", 1).code == 0
    left = place / "runs" / "tiny" / "trials" / "0000" / CHECKPOINT
    left.write_bytes(b"x")
    assert cli(*run, "--trials", 1).code == 0
    assert not left.exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_foreign_write_lock(workers: str, place: Path, tiny: Path) -> None:
    """Somebody else writes to the database for eight seconds: the search waits, and goes on."""
    process = start_cli("run", "tiny.yaml", "--data", str(tiny), "--trials", "3", *LONG, "--workers", workers, cwd=place)
    wait_until(is_in_trial(place, 0, epochs=3), process)
    holder = subprocess.run(
        [sys.executable, "-c", HOLD, str(place / "runs" / "studies.db"), "8"], capture_output=True, check=True, timeout=60
    )
    assert holder.returncode == 0
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert states(place) == ["COMPLETE"] * 3


@pytest.mark.slow
def test_a_dashboard_that_looks_all_the_while(place: Path, tiny: Path, peace: list[tuple[object, ...]], cli: Cli) -> None:
    """It reads as fast as it can; the search ends as in peace."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", "1", *LONG).code == 0
    port = free_port("127.0.0.1", 18080)
    dashboard = start_cli("dashboard", "tiny", "--port", str(port), cwd=place)
    answers: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies/1", timeout=20) as answer:
                    answers.append(answer.status)
            except OSError:
                time.sleep(0.1)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        wait_until(lambda: len(answers) > 0, dashboard)
        before = len(answers)
        assert run_cli("run", "tiny.yaml", "--data", str(tiny), "--trials", "2", *LONG, cwd=place).code == 0
        assert len(answers) > before + 10
    finally:
        over.set()
        watcher.join()
        dashboard.send_signal(signal.SIGINT)
        dashboard.communicate(timeout=30)
    assert set(answers) == {200}
    assert outcomes(place) == peace


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 6 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not made or made.returncode:
        pytest.skip("a small disk can be made by root only")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leaves nothing free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"\0" * 4096)
        except OSError:
            pass
    return filler


@pytest.mark.slow
@pytest.mark.parametrize(("what", "engine"), [("runs", "inline"), ("runs", "processes"), ("database", "inline")])
def test_a_disk_that_fills_up(
    what: str, engine: str, small_disk: Path, place: Path, tiny: Path, peace: list[tuple[object, ...]], cli: Cli
) -> None:
    """The run ends with 3 and says what could not be written; with room again, the same command ends as in peace."""
    (place / "runs").mkdir()
    elsewhere = ("--runs", str(small_disk / "runs")) if what == "runs" else ()
    storage = place / "runs" / "studies.db" if what == "runs" else small_disk / "studies.db"
    run = ("run", "tiny.yaml", "--data", str(tiny), "--trials", "2", *LONG, "--engine", engine, *elsewhere)
    run = (*run, "--storage", f"sqlite:///{storage}")
    process = start_cli(*run, cwd=place)
    found = place / "runs" / "studies.db"
    if what == "database":
        found.symlink_to(storage)  # for whoever looks there
    wait_until(is_in_trial(place, 0), process)
    filler = fill(small_disk)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert "Traceback" not in err
    assert "full" in err
    full = run_cli(*run, cwd=place)
    assert full.code == 3, "nothing has changed"
    assert "Traceback" not in full.err
    filler.unlink()
    done = cli(*run)
    assert done.code == 0, done.err
    assert outcomes(place) == peace


@pytest.mark.slow
def test_a_runs_folder_that_cannot_be_written(small_disk: Path, place: Path, tiny: Path, cli: Cli) -> None:
    """A search that was cut off is not continued where it cannot write: 3; writable again, the same command goes on."""
    run = ("run", "tiny.yaml", "--data", str(tiny), "--trials", "2", *LONG, "--runs", str(small_disk / "runs"))
    (place / "runs").mkdir()
    process = start_cli(*run, cwd=place)
    wait_until(is_in_trial(place, 0), process)
    process.kill()
    process.communicate()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = run_cli(*run, cwd=place)
    assert done.code == 3
    assert "Read-only file system" in done.err
    assert "Traceback" not in done.err
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert cli(*run).code == 0
    assert states(place) == ["COMPLETE"] * 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(place: Path, tiny: Path, cli: Cli) -> None:
    """The same for people who are not root."""
    (place / "runs").mkdir(mode=0o500)
    done = cli("run", "tiny.yaml", "--data", tiny)
    assert done.code == 3
    assert "Permission denied" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("how", ["replaced", "deleted"])
def test_a_database_that_is_spoilt_under_a_search(how: str, place: Path, tiny: Path) -> None:
    """The run ends with 3 and names the file, instead of writing into the void; what is there is not overwritten."""
    process = start_cli("run", "tiny.yaml", "--data", str(tiny), "--set", "epochs=3000", cwd=place)
    wait_until(is_in_trial(place, 0), process)
    database = place / "runs" / "studies.db"
    kept = place / "kept.db"
    process.send_signal(signal.SIGSTOP)
    with sqlite3.connect(database, timeout=30) as source, sqlite3.connect(kept) as target:
        source.backup(target)
    process.send_signal(signal.SIGCONT)
    if how == "replaced":
        (place / "other.db").write_bytes(b"garbage" * 100)
        (place / "other.db").replace(database)
    else:
        database.unlink()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert "studies.db\n" in err
    assert "Traceback" not in err
    if how != "deleted":
        refused = run_cli("run", "tiny.yaml", "--data", str(tiny), "--set", "epochs=3000", cwd=place)
        assert refused.code == 3
        assert database.read_bytes().startswith(b"garbage")
    for name in ("studies.db-wal", "studies.db-shm"):
        (place / "runs" / name).unlink(missing_ok=True)
    kept.replace(database)
    assert run_cli("status", "tiny", cwd=place).code == 0


def test_the_log_tells_how_a_spoilt_database_ended_the_run(
    place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last line is the error that was shown, with the exit code of the process."""

    def spoilt(*_: object) -> object:
        raise optuna.exceptions.StorageInternalError("An exception is raised during the commit.")

    monkeypatch.setattr(optuna.Trial, "report", spoilt)
    done = cli("run", "tiny.yaml", "--data", tiny)
    assert done.code == 3
    log = next((place / "runs" / "tiny" / "logs").iterdir()).read_text(encoding="utf-8").splitlines()
    last = json.loads(log[-1])
    assert (last["event"], last["exit_code"]) == ("run_failed", 3)
    assert last["error"].startswith("error: the study database cannot be used")


def test_garbage_instead_of_a_database(place: Path, tiny: Path, cli: Cli) -> None:
    """Refused with 3, by `run` and by everything that reads, and not a byte of it is changed."""
    (place / "runs").mkdir()
    database = place / "runs" / "studies.db"
    database.write_bytes(b"garbage" * 100)
    for command in (("run", "tiny.yaml", "--data", tiny), ("status", "tiny"), ("list",), ("export", "tiny")):
        done = cli(*command)
        assert (done.code, done.err.splitlines()[0]) == (3, "error: the study database cannot be used")
        assert database.read_bytes() == b"garbage" * 100


def test_garbage_beside_the_log_of_a_database(place: Path, tiny: Path, cli: Cli) -> None:
    """A write-ahead log that still holds every page does not make a database of another file."""
    database = place / "runs" / "studies.db"
    database.parent.mkdir()
    with contextlib.closing(sqlite3.connect(database)) as reader:  # while it is open nobody moves the log into the file
        reader.execute("PRAGMA journal_mode=WAL")
        reader.execute("SELECT * FROM sqlite_master").fetchall()
        assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 1).code == 0
        (place / "other.db").write_bytes(b"garbage" * 100)
        (place / "other.db").replace(database)
        for command in (("run", "tiny.yaml", "--data", tiny), ("status", "tiny"), ("list",), ("export", "tiny")):
            done = cli(*command)
            assert (done.code, done.err.splitlines()[0]) == (3, "error: the study database cannot be used")
            assert database.read_bytes() == b"garbage" * 100


@pytest.mark.parametrize("change", ["a clip", "a signer more", "a word"])
def test_data_that_changed_between_two_runs(change: str, place: Path, tiny: Path, tmp_path: Path, cli: Cli) -> None:
    """The study is not continued with other data: 2, with what is different and how to go on."""
    data = tmp_path / "data"
    shutil.copytree(tiny, data)
    assert cli("run", "tiny.yaml", "--data", data, "--trials", 1).code == 0
    before = outcomes(place)
    files = sorted(data.glob("*.hdf5"))
    if change == "a clip":
        files[0].write_bytes(files[1].read_bytes())
    elif change == "a signer more":
        shutil.copy(files[0], data / "9999.hdf5")
    else:
        path = data / "sign_to_prediction_index_map.json"
        path.write_text(path.read_text(encoding="utf-8").replace('": 0', '変": 0'), encoding="utf-8")
    done = cli("run", "tiny.yaml", "--data", data, "--trials", 2)
    assert done.code == 2
    assert done.err.startswith("error: the study `tiny` already exists with different settings\ngot: ")
    assert "data: fingerprint: " in done.err
    assert "--as NAME" in done.err.splitlines()[-1]
    assert outcomes(place) == before
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 2).code == 0


@pytest.mark.slow
def test_many_first_runs_at_once(place: Path, tiny: Path) -> None:
    """Runs that start together on a database that is not there yet all find their place."""
    runs = [
        start_cli("run", "tiny.yaml", "--data", str(tiny), "--trials", "6", *(("--as", "other") if n % 2 else ()), cwd=place)
        for n in range(4)
    ]
    ends = [(run.communicate(timeout=200), run.returncode) for run in runs]
    assert [code for _, code in ends] == [0] * 4, ends
    for study in ("tiny", "other"):
        trials = stored_trials(place, study)
        assert [trial.state.name for trial in trials] == ["COMPLETE"] * 6
        assert len({tuple(trial.params.values()) for trial in trials}) == 6


def test_a_trial_that_somebody_else_adds(place: Path, tiny: Path, cli: Cli) -> None:
    """A foreign trial takes a number, and nothing breaks."""
    run = ("run", "tiny.yaml", "--data", tiny)
    assert cli(*run, "--trials", 1).code == 0
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{place / 'runs' / 'studies.db'}")
    study.tell(study.ask(), 3.0)
    assert cli(*run, "--trials", 3).code == 0
    assert states(place) == ["COMPLETE"] * 3
