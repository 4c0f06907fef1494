"""A search under fire: its processes are killed, stopped and told to end at random moments until it is done all the same.

    python tests/soak.py [--workers 1 2 4] [--events 100] [--seed 0] [--runs-at-once 1]

For each number of workers one study is searched. The same command is given again and again, while a random process of it (the
coordinator or one of its workers) gets SIGKILL, SIGTERM, or SIGSTOP and later SIGCONT, at random moments, until that many
events have struck; then the command is left in peace. What must hold in the end:

- exactly the target finished, nothing RUNNING or WAITING, trial numbers without a gap;
- no two trials with the same parameters;
- every trial's curve, in its file and in the database, is the curve of the same trial trained once more in peace, bit for bit;
- no checkpoint, lock or half-written file is left.

With one worker the whole study must also be that of a search that nobody disturbed. Exit code 1 if anything does not hold.
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
from search.study.trials import trial_settings
from search.trial.clips import TrialClips
from search.trial.files import read_curves, trial_folder
from search.trial.trial_run import start_trainings

STUDY = """\
about: A search under fire
trials: TRIALS
sampler: {name: tpe, startup: 5}
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
PATIENCE_S = 120
"""How long a command may say nothing in its log."""


@dataclass
class Report:
    """What happened to one study."""

    struck: Counter[str] = field(default_factory=Counter)
    """Events by signal and by whom they struck."""

    commands: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    resumed: int = 0
    """Times that a trial went on from a checkpoint."""

    wrong: list[str] = field(default_factory=list)

    @property
    def events(self) -> int:
        """How many events have struck."""
        return sum(self.struck.values())


def command(data: Path, workers: int) -> list[str]:
    """The command that is given again and again."""
    engine = ["--workers", str(workers), "--engine", "processes"] if workers else []
    return ["run", f"{NAME}.yaml", "--data", str(data), "--max-restarts", "1000", "--max-failures", "0", *engine]


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The coordinator and its workers."""
    with contextlib.suppress(psutil.Error):
        here = psutil.Process(process.pid)
        return [here, *(child for child in here.children() if "resource_tracker" not in command_of(child))]
    return []


def strike(process: subprocess.Popen[str], rng: random.Random, report: Report) -> None:
    """One event to one process of a command."""
    victims = family(process)
    if not victims:
        return
    # A third of the events strike the coordinator, which costs a whole start.
    victim = victims[0] if len(victims) == 1 or rng.random() < 0.35 else rng.choice(victims[1:])
    send(victim, rng.choice(SIGNALS), "coordinator" if victim is victims[0] else "worker", rng, report)


def send(victim: psutil.Process, number: signal.Signals, name: str, rng: random.Random, report: Report) -> None:
    """One signal to one process; who was suspended goes on after a while."""
    with contextlib.suppress(psutil.Error):
        victim.send_signal(number)
        report.struck[f"{name} {number.name}"] += 1
        if number == signal.SIGSTOP:
            time.sleep(rng.uniform(0.1, 2.0))
            victim.send_signal(signal.SIGCONT)


def strike_as_planned(
    place: Path, running: Sequence[subprocess.Popen[str]], plan: Sequence[Event], rng: random.Random, report: Report
) -> None:
    """The events that are left, each in the middle of training, until the commands or the events are at an end."""

    def epochs_of(process: subprocess.Popen[str]) -> int:
        logs = place.glob(f"runs/{NAME}/logs/*-{process.pid}-*")
        return sum(log.read_bytes().count(b'"epoch_finished"') for log in logs)

    while report.events < len(plan) and (alive := [process for process in running if process.poll() is None]):
        for process in alive:
            begin = epochs_of(process)
            while process.poll() is None and epochs_of(process) < begin + 3:
                time.sleep(0.02)
            time.sleep(rng.uniform(0.0, 0.3))
            victims = family(process)
            if process.poll() is None and report.events < len(plan):
                who, number = plan[report.events]
                for victim in victims[:1] if who == "coordinator" else rng.sample(victims[1:], min(1, len(victims) - 1)):
                    send(victim, number, who, rng, report)


def under_fire(
    place: Path, data: Path, workers: int, events: int | Sequence[Event], rng: random.Random, at_once: int
) -> Report:
    """Gives the command until the search is done. `events`: how many, or which."""
    report = Report()
    plan = None if isinstance(events, int) else events
    count = len(plan) if plan is not None else events
    while True:
        left_alone = report.events >= count
        running = [start_cli(*command(data, workers), cwd=place) for _ in range(1 if left_alone else at_once)]
        report.commands += len(running)
        heard, said = time.monotonic(), -1
        if plan is None:
            # The first moments of a command (imports) are not where a search can be hurt: most events come later.
            logs = len(list(place.glob(f"runs/{NAME}/logs/*")))
            while rng.random() < 0.99 and len(list(place.glob(f"runs/{NAME}/logs/*"))) == logs and running[-1].poll() is None:
                time.sleep(0.05)
        else:
            strike_as_planned(place, running, plan, rng, report)
        pause = rng.uniform(0.0, 4.0 + 2.0 * (workers > 0))
        while any(process.poll() is None for process in running):
            if (now := sum(path.stat().st_size for path in place.glob(f"runs/{NAME}/logs/*"))) != said:
                heard, said = time.monotonic(), now
            if time.monotonic() - heard > PATIENCE_S:
                report.wrong.append("a command does nothing any more")
                for process in running:
                    process.kill()
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2 if left_alone or plan is not None else pause)
                if plan is None and report.events < count:
                    strike(process, rng, report)
            pause = rng.uniform(0.05, 1.5)
        for process in running:
            out, err = process.communicate()
            report.codes[process.returncode] += 1
            report.resumed += err.count("resuming after epoch")
            if process.returncode not in (0, -signal.SIGKILL, 143, 3, -signal.SIGTERM) or "Traceback" in err:
                report.wrong.append(f"a command ended with {process.returncode}:\n{out}{err}")
            if process.returncode == 0 and report.events < count and plan is not None:
                report.wrong.append(f"the search was over before {plan[report.events]} could strike")
        if left_alone or report.wrong:
            return report


def in_peace(place: Path, data: Path, number: int) -> list[EpochRecord]:
    """The curve of a trial, trained once more without a search."""
    trial = stored_trials(place, NAME)[number]
    settings = trial_settings(trial)
    values = {f"{group}.{name}": value for group, fields in settings.items() for name, value in fields.items()}
    opened = open_data(data)
    from search.definition.study_file import load_definition
    from search.running.preparing import split_of

    trial_clips = TrialClips(
        opened, split_of(load_definition(str(place / f"{NAME}.yaml")), opened), place / "peace", lambda event: None
    )
    configs = build_configs(values, "soak")
    folds = trial_clips.folds(configs.preprocess)
    (training,) = start_trainings(configs, trial.user_attrs["seed"], "cpu", Plan(), folds, len(opened.words))
    return fit(training)


def check(place: Path, data: Path, target: int) -> list[str]:
    """What does not hold of a study that is done."""
    wrong = []
    trials = stored_trials(place, NAME)
    states = Counter(trial.state.name for trial in trials)
    if states["COMPLETE"] + states["PRUNED"] != target or states["RUNNING"] or states["WAITING"] or states["FAIL"]:
        wrong.append(f"{dict(states)} instead of {target} finished")
    if [trial.number for trial in trials] != list(range(len(trials))):
        wrong.append(f"trial numbers: {[trial.number for trial in trials]}")
    if len({tuple(sorted(trial.params.items())) for trial in trials}) < len(trials):
        wrong.append("two trials have the same parameters")
    for trial in trials:
        told = trial.intermediate_values
        curve = read_curves(trial_folder(place / "runs", NAME, trial.number) / "curve.csv")[0]
        peace = in_peace(place, data, trial.number)
        if [record.epoch for record in curve] != list(range(1, len(curve) + 1)):
            wrong.append(f"trial {trial.number}: epochs {[record.epoch for record in curve]}")
        for found, expected in zip(curve, peace, strict=False):
            for name in ("train_loss", "val_loss", "val_top1", "val_top5", "val_ece", "val_ece_mass"):
                if getattr(found, name) != getattr(expected, name):
                    wrong.append(f"trial {trial.number}, epoch {found.epoch}: {name} is not as in peace")
        if told != {record.epoch: record.val_loss for record in curve}:
            wrong.append(f"trial {trial.number}: the database's curve is not the file's")
        if trial.state.name == "COMPLETE" and len(curve) != len(peace):
            wrong.append(f"trial {trial.number}: {len(curve)} of {len(peace)} epochs")
    left = [path for path in place.rglob("*") if path.name == "checkpoint" or path.name.endswith(".part")]
    left += [path for path in place.rglob("*.lock") if path.parent.name == NAME and path.name != "turn.lock"]
    return wrong + [f"left behind: {path}" for path in left]


def set_up(place: Path, trials: int, epochs: int) -> None:
    """A working directory with the study."""
    place.mkdir(parents=True)
    text = STUDY
    for name, number in {"TRIALS": trials, "EPOCHS": epochs, "WARMUP": epochs * 3 // 10}.items():
        text = text.replace(name, str(number))
    (place / f"{NAME}.yaml").write_text(text, encoding="utf-8")


def soak(
    place: Path,
    data: Path,
    workers: int,
    events: int | Sequence[Event],
    seed: int,
    *,
    at_once: int = 1,
    trials: int,
    epochs: int = 100,
) -> Report:
    """One study under fire, checked. `workers` 0: one worker inside the coordinator."""
    set_up(place, trials, epochs)
    report = under_fire(place, data, workers, events, random.Random(seed), at_once)
    report.wrong += check(place, data, trials)
    return report


def undisturbed(place: Path, data: Path, trials: int, epochs: int = 100) -> list[tuple[object, ...]]:
    """What a search gives that nobody disturbs, with one worker."""
    set_up(place, trials, epochs)
    process = start_cli(*command(data, 0), cwd=place)
    process.communicate()
    assert process.returncode == 0
    return outcomes(place, NAME)


def main() -> int:
    """Runs the soak and prints what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4], help="0: inside the coordinator")
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs-at-once", type=int, default=1)
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        synthesize(data, clips=120, signs=3, signers=4, seed=1)
        peace = undisturbed(Path(temporary) / "peace", data, options.trials) if {0, 1} & {*options.workers} else []
        for workers in options.workers:
            place = Path(temporary) / f"{workers}-workers"
            began = time.monotonic()
            report = soak(
                place, data, workers, options.events, options.seed, at_once=options.runs_at_once, trials=options.trials
            )
            if workers <= 1 and options.runs_at_once == 1 and not report.wrong and outcomes(place, NAME) != peace:
                report.wrong.append("parameters or values are not those of a search in peace")
            states = Counter(trial.state.name for trial in stored_trials(place, NAME))
            print(f"workers {workers}: {report.events} events in {report.commands} commands, {time.monotonic() - began:.0f} s")
            print(f"  struck   {dict(sorted(report.struck.items()))}")
            print(f"  codes    {dict(report.codes)}; trials resumed from a checkpoint {report.resumed} times")
            print(f"  trials   {dict(states)}")
            print("\n".join(f"  WRONG    {line}" for line in report.wrong) or "  all holds", flush=True)
            failed |= bool(report.wrong)
            if report.wrong:
                shutil.copytree(place, Path(tempfile.gettempdir()) / f"soak-{workers}", dirs_exist_ok=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
