"""Runs the command line as a separate process, and reads what it stored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna
import psutil
import sqlalchemy
from preloaded import Preloaded

import search

ROOT = Path(search.__file__).parents[1]
TINY_STUDY = """\
about: A small search
trials: 4
sampler: {name: tpe, startup: 4}
pruner: {name: none}
fixed: {epochs: 2, batch_size: 8, width: 16, ffn_width: 16, layers: 1, patience: 0}
space:
  label_smoothing: {low: 0.0, high: 0.6}
  lr: {low: 1e-4, high: 1e-1, log: true}
  dropout: {low: 0.0, high: 0.5}
baseline: {label_smoothing: 0.0, lr: 1e-3, dropout: 0.1}
"""


TRIAL_FILES = ("answers.csv", "confidence.csv", "config.yaml", "curve.csv", "signers.csv")
"""Files in the folder of a complete trial, sorted."""

CONFIRM = ("confirm", "tiny", "--top", "2", "--seeds", "5")
"""Command that confirms the study `tiny`."""


@dataclass(frozen=True)
class Answer:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


STORAGE = ".storage"
"""File in a working directory with the storage URL that commands use there instead of the default."""


def storage_of(cwd: Path) -> str:
    """The URL of the storage that commands in a working directory use."""
    named = cwd / STORAGE
    return named.read_text(encoding="utf-8") if named.exists() else f"sqlite:///{cwd / 'runs' / 'studies.db'}"


def environment(more: Mapping[str, str] | None = None, cwd: Path | None = None) -> dict[str, str]:
    """The environment of a command: one thread, and none of the user's own settings."""
    user_settings = ("SEARCH_", "COLUMNS", "NO_COLOR", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(user_settings)}
    named = {"SEARCH_STORAGE": storage_of(cwd)} if cwd is not None and (cwd / STORAGE).exists() else {}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **named, **(more or {})}


def run_cli(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Answer:
    """Runs `islr-search` and waits for its end."""
    with start_cli(*arguments, cwd=cwd, env=env) as process:
        try:
            out, err = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return Answer(process.returncode, out, err)


def start_cli(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Starts `islr-search` without waiting. The process handles SIGINT even if this process ignores it."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if sys.platform == "linux":
        return Preloaded(arguments, cwd=cwd, env=environment(env, cwd), **streams)
    return subprocess.Popen(
        [sys.executable, "-m", "search", *arguments],
        cwd=cwd,
        env=environment(env, cwd),
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **streams,
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str], timeout_s: float = 120) -> None:
    """Waits until a condition holds; fails if the process ends or the time runs out before."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, f"the process ended before the condition held: {process.communicate()}"
        assert time.monotonic() < deadline, f"the condition did not hold within {timeout_s} s"
        time.sleep(0.01)


def command_of(process: psutil.Process) -> str:
    """The command line of a process; empty if it has ended, including zombies."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def workers() -> list[psutil.Process]:
    """The worker processes of this process, without other children such as a database server."""
    return [child for child in psutil.Process().children() if "spawn_main" in command_of(child)]


def is_in_trial(cwd: Path, number: int, epochs: int = 2) -> Callable[[], bool]:
    """Returns a condition for `wait_until`: the trial is running and has reported at least `epochs` epochs."""
    storages = (cwd / STORAGE, cwd / "runs" / "studies.db")
    return lambda: any(path.exists() for path in storages) and num_reports(storage_of(cwd), number) >= epochs


def num_reports(url: str, number: int) -> int:
    """The number of epochs that a running trial has reported; 0 if it is not running or the tables do not exist yet.

    Queries the tables directly: opening a storage with Optuna takes longer than training a small trial.
    """
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    try:
        with engine.connect() as connection:
            count = connection.execute(
                sqlalchemy.text(
                    "SELECT count(*) FROM trial_intermediate_values v JOIN trials t ON v.trial_id = t.trial_id "
                    "WHERE t.state = 'RUNNING' AND t.number = :number"
                ),
                {"number": number},
            )
            return int(count.scalar_one())
    except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.ProgrammingError):  # the tables do not exist yet
        return 0


def stored_trials(cwd: Path, study: str = "tiny") -> list[optuna.trial.FrozenTrial]:
    """The trials of a study, read with plain Optuna."""
    storage = optuna.storages.RDBStorage(storage_of(cwd))
    try:
        return optuna.load_study(study_name=study, storage=storage).get_trials()
    finally:
        storage.engine.dispose()


def states(cwd: Path, study: str = "tiny") -> list[str]:
    """The state of each trial of a study."""
    return [trial.state.name for trial in stored_trials(cwd, study)]


def outcomes(cwd: Path, study: str = "tiny") -> list[tuple[object, ...]]:
    """For each trial, what must be the same whenever a search is repeated: number, state, parameters, values, curve."""
    return [(t.number, t.state.name, t.params, t.values, t.intermediate_values) for t in stored_trials(cwd, study)]
