"""Searches under failures of disks, databases and data: exit code 3 or 2, and no recorded result is lost."""

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
from conftest import Cli, enter_copy, run_in
from launch import TINY_STUDY, TRIAL_FILES, is_in_trial, outcomes, run_cli, start_cli, states, stored_trials, wait_until
from test_storage import HOLD

from search.definition.trial_attributes import attribute
from search.reporting.dashboard.serve import free_port
from search.storage.opening import open_storage
from search.study.trials import trial_curve
from search.trial.files import CHECKPOINT, read_curves
from search.trial.trial_run import TrialRun

LONG = ("--set", "epochs=80")


@pytest.fixture(scope="module")
def interrupted_once(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a search of two trials that was killed during the second. Read-only."""
    folder = tmp_path_factory.mktemp("once") / "interrupted"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    process = start_cli("run", "tiny.yaml", "--data", str(tiny), "--trials", "2", *LONG, cwd=folder)
    wait_until(is_in_trial(folder, 1, epochs=5), process)
    process.kill()
    process.communicate()
    return folder


@pytest.fixture(scope="module")
def uninterrupted(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    """The outcomes of an uninterrupted search with the same settings."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    run_in(folder, "run", "tiny.yaml", "--data", str(tiny), "--trials", "2", *LONG)
    return outcomes(folder)


def halve(path: Path) -> None:
    """Cuts a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "notice"),
    [
        (halve, "starting over (unusable checkpoint: it is damaged"),
        (
            lambda path: path.write_bytes(b"garbage"),
            "starting over (unusable checkpoint: it is not a checkpoint",
        ),
        (Path.unlink, "starting over (no checkpoint)"),
        (lambda path: path.with_name(".checkpoint.99.part").write_bytes(b"half"), "resuming after epoch"),
    ],
    ids=["cut in half", "garbage", "deleted", "partly written"],
)
def test_damaged_checkpoint(
    damage: Callable[[Path], object],
    notice: str,
    interrupted_once: Path,
    tiny: Path,
    uninterrupted: list[tuple[object, ...]],
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The trial starts over with a notice, ends with the results of the uninterrupted run, and leaves no extra file."""
    place = enter_copy(interrupted_once, tmp_path / "place", monkeypatch)
    checkpoint = place / "runs" / "tiny" / "trials" / "0001" / CHECKPOINT
    damage(checkpoint)
    done = cli("run", "tiny.yaml", "--data", tiny, "--trials", "2", *LONG)
    assert done.code == 0
    assert f"trial 1 was interrupted: {notice}" in done.err
    assert outcomes(place) == uninterrupted
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == list(TRIAL_FILES)


def test_checkpoint_of_another_version(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that was started with another PyTorch version starts over."""
    run = ("run", "tiny.yaml", "--data", tiny, "--trials", 1, "--set", "epochs=4")
    with monkeypatch.context() as patch:
        real = TrialRun.next_step
        patch.setattr("search.trial.machine.version", lambda package: "0.1")

        def interrupt(self: TrialRun) -> object:
            if self.steps_done == 2:
                raise KeyboardInterrupt
            step = real(self)
            return step and replace(step, records={0: replace(step.records[0], val_loss=9.0)})  # a value of the other version

        patch.setattr(TrialRun, "next_step", interrupt)
        assert cli(*run).code == 130
    done = cli(*run)
    assert done.code == 0
    assert "trial 0 was interrupted: starting over (unusable checkpoint: it belongs to another training" in done.err
    (trial,) = stored_trials(place)
    assert '"torch": "0.1"' not in attribute(trial, "made_with")
    curve = read_curves(place / "runs" / "tiny" / "trials" / "0000" / "curve.csv")[0]
    assert trial.intermediate_values == {record.epoch: record.val_loss for record in curve}
    assert 9.0 not in trial.intermediate_values.values(), "the values of the other version are discarded"


@pytest.mark.parametrize("storage", ["sqlite:///studies.db", "journal:///studies.journal"])
@pytest.mark.parametrize("same", [True, False], ids=["same values", "other values"])
def test_a_trial_that_starts_over_and_becomes_shorter(
    same: bool, storage: str, place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports of the longer training do not remain; a pruner sees the last report of this training as the last one."""
    run = ("run", "tiny.yaml", "--data", tiny, "--trials", 1, "--storage", storage, "--set", "epochs=8", "--set", "patience=2")
    asked: list[int | None] = []
    real = TrialRun.next_step

    def interrupt(self: TrialRun) -> object:
        if self.steps_done == 6:
            raise KeyboardInterrupt
        step = real(self)
        return step if same or not step else replace(step, records={0: replace(step.records[0], val_loss=9.0)})

    def trial(url: str = storage) -> optuna.trial.FrozenTrial:
        return optuna.load_study(study_name="tiny", storage=open_storage(url, create=False)).trials[0]

    with monkeypatch.context() as patch:
        patch.setattr("model.training.epochs_without_improvement", lambda history: 0)
        patch.setattr(TrialRun, "next_step", interrupt)
        assert cli(*run).code == 130
    assert sorted(trial().intermediate_values) == [1, 2, 3, 4, 5, 6]
    (place / "runs" / "tiny" / "trials" / "0000" / CHECKPOINT).unlink()
    monkeypatch.setattr("model.training.epochs_without_improvement", len)
    monkeypatch.setattr(optuna.pruners.NopPruner, "prune", lambda self, study, trial: asked.append(trial.last_step))
    done = cli(*run)
    assert done.code == 0
    assert "trial 0 was interrupted: starting over (no checkpoint)" in done.err
    assert asked == ([] if same else [1, 2]), "about steps for which it has not decided yet"
    curve = read_curves(place / "runs" / "tiny" / "trials" / "0000" / "curve.csv")[0]
    assert [record.epoch for record in curve] == [1, 2]
    assert trial_curve(trial()) == {record.epoch: record.val_loss for record in curve}
    if storage.startswith("sqlite"):
        assert sorted(trial().intermediate_values) == [1, 2]
    shown = json.loads(cli("show", "tiny", "0", "--storage", storage, "--json").out)
    assert list(shown["reported"]) == ["1", "2"]


def test_checkpoint_of_a_finished_trial(place: Path, tiny: Path, cli: Cli) -> None:
    """A checkpoint that remains because the run was killed just after recording the result is deleted by the next run."""
    run = ("run", "tiny.yaml", "--data", tiny)
    assert cli(*run, "--trials", 1).code == 0
    checkpoint = place / "runs" / "tiny" / "trials" / "0000" / CHECKPOINT
    checkpoint.write_bytes(b"x")
    assert cli(*run, "--trials", 1).code == 0
    assert not checkpoint.exists()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_locked_database(workers: str, place: Path, tiny: Path) -> None:
    """The search waits while another program holds the write lock of the database for 8 s."""
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
def test_busy_dashboard_during_a_search(place: Path, tiny: Path, uninterrupted: list[tuple[object, ...]], cli: Cli) -> None:
    """A dashboard that is queried without pause does not change the results of the search."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", "1", *LONG).code == 0
    port = free_port("127.0.0.1", 18080)
    dashboard = start_cli("dashboard", "tiny", "--port", str(port), cwd=place)
    answers: list[int] = []
    finished = threading.Event()

    def query() -> None:
        while not finished.is_set():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies/1", timeout=20) as answer:
                    answers.append(answer.status)
            except OSError:
                time.sleep(0.1)

    thread = threading.Thread(target=query)
    thread.start()
    try:
        wait_until(lambda: len(answers) > 0, dashboard)
        before = len(answers)
        assert run_cli("run", "tiny.yaml", "--data", str(tiny), "--trials", "2", *LONG, cwd=place).code == 0
        assert len(answers) > before + 10
    finally:
        finished.set()
        thread.join()
        dashboard.send_signal(signal.SIGINT)
        dashboard.communicate(timeout=30)
    assert set(answers) == {200}
    assert outcomes(place) == uninterrupted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A separate 6 MiB disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("only root can mount a disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Fills a disk completely."""
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
def test_full_disk(
    what: str, engine: str, small_disk: Path, place: Path, tiny: Path, uninterrupted: list[tuple[object, ...]], cli: Cli
) -> None:
    """The run ends with exit code 3; with free space again, the same command gives the uninterrupted results."""
    (place / "runs").mkdir()
    elsewhere = ("--runs", str(small_disk / "runs")) if what == "runs" else ()
    storage = place / "runs" / "studies.db" if what == "runs" else small_disk / "studies.db"
    run = ("run", "tiny.yaml", "--data", str(tiny), "--trials", "2", *LONG, "--engine", engine, *elsewhere)
    run = (*run, "--storage", f"sqlite:///{storage}")
    process = start_cli(*run, cwd=place)
    default_storage = place / "runs" / "studies.db"
    if what == "database":
        default_storage.symlink_to(storage)  # where the test reads the study
    wait_until(is_in_trial(place, 0), process)
    filler = fill(small_disk)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert "Traceback" not in err
    assert "full" in err
    full = run_cli(*run, cwd=place)
    assert full.code == 3, "the disk is still full"
    assert "Traceback" not in full.err
    filler.unlink()
    done = cli(*run)
    assert done.code == 0, done.err
    assert outcomes(place) == uninterrupted


@pytest.mark.slow
def test_read_only_runs_folder(small_disk: Path, place: Path, tiny: Path, cli: Cli) -> None:
    """An interrupted search ends with exit code 3 if its folder is read-only, and is resumed once the folder is writable."""
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


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_folder_without_write_permission(place: Path, tiny: Path, cli: Cli) -> None:
    """A folder without write permission ends the run with exit code 3."""
    (place / "runs").mkdir(mode=0o500)
    done = cli("run", "tiny.yaml", "--data", tiny)
    assert done.code == 3
    assert "Permission denied" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["replaced", "deleted"])
def test_damaged_database_during_a_search(damage: str, place: Path, tiny: Path) -> None:
    """The run ends with exit code 3 and names the file; a file that replaced the database is not overwritten."""
    process = start_cli("run", "tiny.yaml", "--data", str(tiny), "--set", "epochs=3000", cwd=place)
    wait_until(is_in_trial(place, 0), process)
    database = place / "runs" / "studies.db"
    backup = place / "backup.db"
    process.send_signal(signal.SIGSTOP)
    with sqlite3.connect(database, timeout=30) as source, sqlite3.connect(backup) as target:
        source.backup(target)
    process.send_signal(signal.SIGCONT)
    if damage == "replaced":
        (place / "other.db").write_bytes(b"garbage" * 100)
        (place / "other.db").replace(database)
    else:
        database.unlink()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert "studies.db\n" in err
    assert "Traceback" not in err
    if damage != "deleted":
        refused = run_cli("run", "tiny.yaml", "--data", str(tiny), "--set", "epochs=3000", cwd=place)
        assert refused.code == 3
        assert database.read_bytes().startswith(b"garbage")
    for name in ("studies.db-wal", "studies.db-shm"):
        (place / "runs" / name).unlink(missing_ok=True)
    backup.replace(database)
    assert run_cli("status", "tiny", cwd=place).code == 0


def test_unusable_database_is_logged(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of the log has the error that was shown and the exit code."""

    def fail(*_: object) -> object:
        raise optuna.exceptions.StorageInternalError("An exception is raised during the commit.")

    monkeypatch.setattr(optuna.Trial, "report", fail)
    done = cli("run", "tiny.yaml", "--data", tiny)
    assert done.code == 3
    log = next((place / "runs" / "tiny" / "logs").iterdir()).read_text(encoding="utf-8").splitlines()
    last = json.loads(log[-1])
    assert (last["event"], last["exit_code"]) == ("run_failed", 3)
    assert last["error"].startswith("error: the study database cannot be used")


def test_database_file_is_garbage(place: Path, tiny: Path, cli: Cli) -> None:
    """All commands end with exit code 3 and do not change the file."""
    (place / "runs").mkdir()
    database = place / "runs" / "studies.db"
    database.write_bytes(b"garbage" * 100)
    for command in (("run", "tiny.yaml", "--data", tiny), ("status", "tiny"), ("list",), ("export", "tiny")):
        done = cli(*command)
        assert (done.code, done.err.splitlines()[0]) == (3, "error: the study database cannot be used")
        assert database.read_bytes() == b"garbage" * 100


def test_database_file_is_garbage_but_its_log_is_complete(place: Path, tiny: Path, cli: Cli) -> None:
    """A file that replaced the database is refused even if the write-ahead log still holds every page."""
    database = place / "runs" / "studies.db"
    database.parent.mkdir()
    with contextlib.closing(sqlite3.connect(database)) as reader:  # keeps the log from being merged into the file
        reader.execute("PRAGMA journal_mode=WAL")
        reader.execute("SELECT * FROM sqlite_master").fetchall()
        assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 1).code == 0
        (place / "other.db").write_bytes(b"garbage" * 100)
        (place / "other.db").replace(database)
        for command in (("run", "tiny.yaml", "--data", tiny), ("status", "tiny"), ("list",), ("export", "tiny")):
            done = cli(*command)
            assert (done.code, done.err.splitlines()[0]) == (3, "error: the study database cannot be used")
            assert database.read_bytes() == b"garbage" * 100


@pytest.mark.parametrize("change", ["clip", "new signer", "word"])
def test_data_changed_between_two_runs(change: str, place: Path, tiny: Path, tmp_path: Path, cli: Cli) -> None:
    """A study is not continued with changed data: exit code 2, the difference, and the suggestion of `--as`."""
    data = tmp_path / "data"
    shutil.copytree(tiny, data)
    assert cli("run", "tiny.yaml", "--data", data, "--trials", 1).code == 0
    before = outcomes(place)
    files = sorted(data.glob("*.hdf5"))
    if change == "clip":
        files[0].write_bytes(files[1].read_bytes())
    elif change == "new signer":
        shutil.copy(files[0], data / "9999.hdf5")
    else:
        path = data / "sign_to_prediction_index_map.json"
        path.write_text(path.read_text(encoding="utf-8").replace('": 0', '変": 0'), encoding="utf-8")
    done = cli("run", "tiny.yaml", "--data", data, "--trials", 2)
    assert done.code == 2
    assert "error: the study `tiny` already exists with different settings\ngot: " in done.err
    assert ("the same recordings under 2 signers: 9001, 9999" in done.err) == (change == "new signer")
    assert "data: fingerprint: " in done.err
    assert "--as NAME" in done.err.splitlines()[-1]
    assert outcomes(place) == before
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 2).code == 0


@pytest.mark.slow
def test_runs_start_at_once_without_a_database(place: Path, tiny: Path) -> None:
    """Four runs of two studies that start at once, before the database exists, reach both targets."""
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


def test_trial_added_by_another_program(place: Path, tiny: Path, cli: Cli) -> None:
    """A trial that another program adds counts toward the target."""
    run = ("run", "tiny.yaml", "--data", tiny)
    assert cli(*run, "--trials", 1).code == 0
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{place / 'runs' / 'studies.db'}")
    study.tell(study.ask(), 3.0)
    assert cli(*run, "--trials", 3).code == 0
    assert states(place) == ["COMPLETE"] * 3
