"""Soak test: kills, suspends and terminates the processes of a search at random moments until the search is finished.

    python tests/soak.py [--workers 1 2 4] [--events 100] [--seed 0] [--runs-at-once 1]

Runs one study for each number of workers. The same command is started again and again, while a random process of it (the
coordinator or one of its workers) receives SIGKILL, SIGTERM, or SIGSTOP followed by SIGCONT, until the given number of events
has been sent; the last command then runs without events. At the end:

- exactly the target number of trials has finished, none is RUNNING or WAITING, and trial numbers have no gap;
- no two trials have the same parameters;
- the curve of every trial, in its file and in the database, equals bit for bit the curve of the same trial trained again
  without interruption;
- no checkpoint, lock or partly written file remains.

With one worker the whole study must also equal that of an uninterrupted search. Exit code 1 if any check fails.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil
from launch import command_of, outcomes, start_cli, stored_trials

from data_utils.prepared import open_data
from data_utils.synthetic.synthetic import synthesize
from model.record import EpochRecord
from model.training import fit
from search.definition.definition import Plan
from search.definition.settings import build_configs
from search.definition.study_file import load_definition
from search.running.preparing import split_of
from search.study.folder import trial_folder
from search.study.trials import trial_settings
from search.trial.clips import TrialClips
from search.trial.files import read_curves
from search.trial.trial_run import start_trainings

STUDY = """\
about: Soak test
trials: TRIALS
sampler: {name: gp, startup: 5}
pruner: {name: median, startup: 3, warmup_epochs: WARMUP}
fixed: {epochs: EPOCHS, batch_size: 8, width: 32, ffn_width: 64, layers: 2, patience: 0}
space:
  label_smoothing: {low: 0.0, high: 0.6}
  lr: {low: 1e-4, high: 1e-1, log: true}
  dropout: {low: 0.0, high: 0.5}
baseline: {label_smoothing: 0.0, lr: 1e-3, dropout: 0.1}
"""
NAME = "soak"
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)  # SIGKILL twice as often
Event = tuple[Literal["coordinator", "worker"], signal.Signals]
MAX_SILENCE_S = 120
"""How long a command may write nothing to its log."""


@dataclass
class Report:
    """Events sent to the processes of one study, and the result."""

    sent: Counter[str] = field(default_factory=Counter)
    """Number of events by receiver and signal, such as `worker SIGKILL`."""

    commands: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    resumed: int = 0
    """How often a trial was resumed from a checkpoint."""

    failures: list[str] = field(default_factory=list)
    """Checks that failed."""

    @property
    def events(self) -> int:
        """Number of events sent so far."""
        return sum(self.sent.values())


def command(data: Path, workers: int) -> list[str]:
    """The `search run` command that is started again and again."""
    engine = ["--workers", str(workers), "--engine", "processes"] if workers else []
    return ["run", f"{NAME}.yaml", "--data", str(data), "--max-restarts", "1000", "--max-failures", "0", *engine]


def processes_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The coordinator and its workers."""
    with contextlib.suppress(psutil.Error):
        here = psutil.Process(process.pid)
        return [here, *(child for child in here.children() if "resource_tracker" not in command_of(child))]
    return []


def send_random_signal(process: subprocess.Popen[str], rng: random.Random, report: Report) -> None:
    """Sends a random signal to a random process of a command."""
    receivers = processes_of(process)
    if not receivers:
        return
    # About a third of the events go to the coordinator: each costs a complete start.
    receiver = receivers[0] if len(receivers) == 1 or rng.random() < 0.35 else rng.choice(receivers[1:])
    send(receiver, rng.choice(SIGNALS), "coordinator" if receiver is receivers[0] else "worker", rng, report)


def send(receiver: psutil.Process, number: signal.Signals, name: str, rng: random.Random, report: Report) -> None:
    """Sends a signal to a process. A suspended process is continued after up to 2 s."""
    with contextlib.suppress(psutil.Error):
        receiver.send_signal(number)
        report.sent[f"{name} {number.name}"] += 1
        if number == signal.SIGSTOP:
            time.sleep(rng.uniform(0.1, 2.0))
            receiver.send_signal(signal.SIGCONT)


def send_planned_events(
    folder: Path, running: Sequence[subprocess.Popen[str]], plan: Sequence[Event], rng: random.Random, report: Report
) -> None:
    """Sends the remaining planned events, each during training, until all are sent or all commands have ended."""

    def epochs_of(process: subprocess.Popen[str]) -> int:
        logs = folder.glob(f"runs/{NAME}/logs/*-{process.pid}-*")
        return sum(log.read_bytes().count(b'"epoch_finished"') for log in logs)

    while report.events < len(plan) and (alive := [process for process in running if process.poll() is None]):
        for process in alive:
            begin = epochs_of(process)
            while process.poll() is None and epochs_of(process) < begin + 3:
                time.sleep(0.02)
            time.sleep(rng.uniform(0.0, 0.3))
            receivers = processes_of(process)
            if process.poll() is None and report.events < len(plan):
                who, number = plan[report.events]
                for receiver in (
                    receivers[:1] if who == "coordinator" else rng.sample(receivers[1:], min(1, len(receivers) - 1))
                ):
                    send(receiver, number, who, rng, report)


def run_with_events(
    folder: Path, data: Path, workers: int, events: int | Sequence[Event], rng: random.Random, at_once: int
) -> Report:
    """Starts the command until the search is finished. `events`: number of random events, or the planned events."""
    report = Report()
    plan = None if isinstance(events, int) else events
    count = len(plan) if plan is not None else events
    while True:
        no_events_left = report.events >= count
        running = [start_cli(*command(data, workers), cwd=folder) for _ in range(1 if no_events_left else at_once)]
        report.commands += len(running)
        last_change, log_size = time.monotonic(), -1
        if plan is None:
            # Most events should hit the search itself, not the imports at the start of a command.
            logs = len(list(folder.glob(f"runs/{NAME}/logs/*")))
            while rng.random() < 0.99 and len(list(folder.glob(f"runs/{NAME}/logs/*"))) == logs and running[-1].poll() is None:
                time.sleep(0.05)
        else:
            send_planned_events(folder, running, plan, rng, report)
        pause = rng.uniform(0.0, 4.0 + 2.0 * (workers > 0))
        while any(process.poll() is None for process in running):
            if (now := sum(path.stat().st_size for path in folder.glob(f"runs/{NAME}/logs/*"))) != log_size:
                last_change, log_size = time.monotonic(), now
            if time.monotonic() - last_change > MAX_SILENCE_S:
                report.failures.append(f"a command wrote nothing to its log for {MAX_SILENCE_S} s")
                for process in running:
                    process.kill()
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2 if no_events_left or plan is not None else pause)
                if plan is None and report.events < count:
                    send_random_signal(process, rng, report)
            pause = rng.uniform(0.05, 1.5)
        for process in running:
            out, err = process.communicate()
            report.codes[process.returncode] += 1
            report.resumed += err.count("resuming after epoch")
            if process.returncode not in (0, -signal.SIGKILL, 143, 3, -signal.SIGTERM) or "Traceback" in err:
                report.failures.append(f"a command ended with {process.returncode}:\n{out}{err}")
            if process.returncode == 0 and report.events < count and plan is not None:
                report.failures.append(f"the search ended before {plan[report.events]} could be sent")
        if no_events_left or report.failures:
            return report


def train_uninterrupted(folder: Path, data: Path, number: int) -> list[EpochRecord]:
    """Trains a trial again, outside a search, and returns its curve."""
    trial = stored_trials(folder, NAME)[number]
    settings = trial_settings(trial)
    values = {f"{group}.{name}": value for group, fields in settings.items() for name, value in fields.items()}
    opened = open_data(data)
    trial_clips = TrialClips(
        opened, split_of(load_definition(str(folder / f"{NAME}.yaml")), opened), folder / "uninterrupted", lambda event: None
    )
    configs = build_configs(values, "soak")
    folds = trial_clips.folds(configs.preprocess)
    (training,) = start_trainings(configs, trial.user_attrs["seed"], "cpu", Plan(), folds, len(opened.words))
    return fit(training)


def check(folder: Path, data: Path, target: int) -> list[str]:
    """Checks a finished study and returns the failures."""
    failures = []
    trials = stored_trials(folder, NAME)
    states = Counter(trial.state.name for trial in trials)
    if states["COMPLETE"] + states["PRUNED"] != target or states["RUNNING"] or states["WAITING"] or states["FAIL"]:
        failures.append(f"{dict(states)} instead of {target} finished trials")
    if [trial.number for trial in trials] != list(range(len(trials))):
        failures.append(f"trial numbers: {[trial.number for trial in trials]}")
    if len({tuple(sorted(trial.params.items())) for trial in trials}) < len(trials):
        failures.append("two trials have the same parameters")
    for trial in trials:
        curve = read_curves(trial_folder(folder / "runs" / NAME, trial.number) / "curve.csv")[0]
        expected_curve = train_uninterrupted(folder, data, trial.number)
        if [record.epoch for record in curve] != list(range(1, len(curve) + 1)):
            failures.append(f"trial {trial.number}: epochs {[record.epoch for record in curve]}")
        for found, expected in zip(curve, expected_curve, strict=False):
            for name in ("train_loss", "val_loss", "val_top1", "val_top5", "val_ece", "val_ece_mass"):
                if getattr(found, name) != getattr(expected, name):
                    failures.append(f"trial {trial.number}, epoch {found.epoch}: {name} differs from the uninterrupted run")
        if trial.intermediate_values != {record.epoch: record.val_loss for record in curve}:
            failures.append(f"trial {trial.number}: the curves in the database and in the file differ")
        if trial.state.name == "COMPLETE" and len(curve) != len(expected_curve):
            failures.append(f"trial {trial.number}: {len(curve)} of {len(expected_curve)} epochs")
    remaining = [path for path in folder.rglob("*") if path.name == "checkpoint" or path.name.endswith(".part")]
    remaining += [path for path in folder.rglob("*.lock") if path.parent.name == NAME and path.name != "turn.lock"]
    return failures + [f"file remains: {path}" for path in remaining]


def set_up(folder: Path, trials: int, epochs: int) -> None:
    """Creates a working directory with the study file."""
    folder.mkdir(parents=True)
    text = STUDY
    for name, number in {"TRIALS": trials, "EPOCHS": epochs, "WARMUP": epochs * 3 // 10}.items():
        text = text.replace(name, str(number))
    (folder / f"{NAME}.yaml").write_text(text, encoding="utf-8")


def soak(
    folder: Path,
    data: Path,
    workers: int,
    events: int | Sequence[Event],
    seed: int,
    *,
    at_once: int = 1,
    trials: int,
    epochs: int = 100,
) -> Report:
    """Runs one study with events and checks it. `workers` 0: trials run in the process of the command."""
    set_up(folder, trials, epochs)
    report = run_with_events(folder, data, workers, events, random.Random(seed), at_once)
    report.failures += check(folder, data, trials)
    return report


def uninterrupted(folder: Path, data: Path, trials: int, epochs: int = 100) -> list[tuple[object, ...]]:
    """The outcomes of an uninterrupted search with one worker."""
    set_up(folder, trials, epochs)
    process = start_cli(*command(data, 0), cwd=folder)
    process.communicate()
    assert process.returncode == 0
    return outcomes(folder, NAME)


def main() -> int:
    """Runs the soak test and prints a summary for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=[0, 1, 2, 4],
        help="numbers of workers to test; 0: trials run in the process of the command",
    )
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs-at-once", type=int, default=1)
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        synthesize(data, clips=120, signs=3, signers=4, seed=1)
        expected = uninterrupted(Path(temporary) / "uninterrupted", data, options.trials) if {0, 1} & {*options.workers} else []
        for workers in options.workers:
            folder = Path(temporary) / f"{workers}-workers"
            began = time.monotonic()
            report = soak(
                folder, data, workers, options.events, options.seed, at_once=options.runs_at_once, trials=options.trials
            )
            if workers <= 1 and options.runs_at_once == 1 and not report.failures and outcomes(folder, NAME) != expected:
                report.failures.append("parameters or values differ from those of the uninterrupted search")
            states = Counter(trial.state.name for trial in stored_trials(folder, NAME))
            print(f"workers {workers}: {report.events} events in {report.commands} commands, {time.monotonic() - began:.0f} s")
            print(f"  events   {dict(sorted(report.sent.items()))}")
            print(f"  codes    {dict(report.codes)}; trials resumed from a checkpoint {report.resumed} times")
            print(f"  trials   {dict(states)}")
            print("\n".join(f"  FAILED   {line}" for line in report.failures) or "  all checks passed", flush=True)
            failed |= bool(report.failures)
            if report.failures:
                shutil.copytree(folder, Path(tempfile.gettempdir()) / f"soak-{workers}", dirs_exist_ok=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
