"""Running the command line in tests: as a process of its own, or inside this one."""

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
"""What a complete trial leaves in its folder, in order."""

CONFIRM = ("confirm", "tiny", "--top", "2", "--seeds", "3")
"""What confirms a small study."""


@dataclass(frozen=True)
class Answer:
    """What a command gave."""

    code: int
    out: str
    err: str


STORAGE = ".storage"
"""A file of this name in a working directory names the storage that its commands use instead of the default."""


def storage_of(cwd: Path) -> str:
    """The storage that commands in a working directory use."""
    named = cwd / STORAGE
    return named.read_text(encoding="utf-8") if named.exists() else f"sqlite:///{cwd / 'runs' / 'studies.db'}"


def environment(more: Mapping[str, str] | None = None, cwd: Path | None = None) -> dict[str, str]:
    """The environment of a command: nothing of the person's own settings, one thread."""
    own = ("SEARCH_", "COLUMNS", "NO_COLOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    named = {"SEARCH_STORAGE": storage_of(cwd)} if cwd is not None and (cwd / STORAGE).exists() else {}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **named, **(more or {})}


def run_cli(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Answer:
    """Runs `python -m search` to its end."""
    command = [sys.executable, "-m", "search", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment(env, cwd), capture_output=True, text=True, timeout=120, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


def start_cli(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """Starts `python -m search` and does not wait. Ctrl-C reaches it even where this process ignores it."""
    return subprocess.Popen(
        [sys.executable, "-m", "search", *arguments],
        cwd=cwd,
        env=environment(cwd=cwd),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str], timeout_s: float = 60) -> None:
    """Waits for something that a process is to bring about."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert process.poll() is None, f"the process ended too early: {process.communicate()}"
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)


def command_of(process: psutil.Process) -> str:
    """How a process was called; empty where it has ended, as a zombie has too."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def workers() -> list[psutil.Process]:
    """The workers of this process; it may have other children, a database server among them."""
    return [child for child in psutil.Process().children() if "spawn_main" in command_of(child)]


def is_in_trial(cwd: Path, number: int, epochs: int = 2) -> Callable[[], bool]:
    """Whether the trial is in training and has reported some epochs."""
    made = (cwd / STORAGE, cwd / "runs" / "studies.db")
    return lambda: any(path.exists() for path in made) and num_reports(storage_of(cwd), number) >= epochs


def num_reports(url: str, number: int) -> int:
    """How many epochs the trial that is in training has reported; 0 where it is not, or nothing is there yet.

    It asks the tables themselves: Optuna takes longer to open a storage than a small trial trains.
    """
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    try:
        with engine.connect() as connection:
            found = connection.execute(
                sqlalchemy.text(
                    "SELECT count(*) FROM trial_intermediate_values v JOIN trials t ON v.trial_id = t.trial_id "
                    "WHERE t.state = 'RUNNING' AND t.number = :number"
                ),
                {"number": number},
            )
            return int(found.scalar_one())
    except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.ProgrammingError):  # the tables are not made yet
        return 0


def stored_trials(cwd: Path, study: str = "tiny") -> list[optuna.trial.FrozenTrial]:
    """The trials of a study, read with Optuna alone."""
    storage = optuna.storages.RDBStorage(storage_of(cwd))
    try:
        return optuna.load_study(study_name=study, storage=storage).get_trials()
    finally:
        storage.engine.dispose()


def outcomes(cwd: Path, study: str = "tiny") -> list[tuple[object, ...]]:
    """What must come out the same whenever a search is repeated."""
    return [(t.number, t.state.name, t.params, t.values, t.intermediate_values) for t in stored_trials(cwd, study)]
