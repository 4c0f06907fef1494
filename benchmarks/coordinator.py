"""How many workers one coordinator carries.

    python benchmarks/coordinator.py [--workers 1 8 64 256] [--epochs 20] [--seconds 60] [--stored 1000 5000]

The trainers here cost nothing: an epoch is a number from a formula. All else is the real thing: sampler (TPE), pruner (median),
ledger, database, leases, the trials' files, the log. Two ways:

- flat out: every simulated worker answers at once. Epochs and trials a second are what the coordinator can do.
- paced: a worker needs about a second for an epoch, from 0.8 to 1.2 by what its trial is. What they wait for the coordinator's
  verdicts, and for their next trial, is what the coordinator costs them: `busy` is the share of their time in which they train.

The first third of each run, in which the workers get their first trials, is not counted.

The databases: SQLite in a temporary folder and, where its programs are installed, a PostgreSQL of its own with durable commits
on the same machine; `--storage` adds others, each empty.
"""

from __future__ import annotations

import argparse
import copy
import heapq
import math
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from optuna.trial import TrialState

from data_utils.synthetic.synthetic import synthesize
from model.record import EpochRecord
from search.definition.definition import Resources, StudyDefinition
from search.definition.study_file import load_definition
from search.engines.engine import EngineEvent, JobDone, JobInterrupted, JobStarted, StepDone
from search.engines.engine_options import EngineOptions
from search.running.run import RunOptions, run
from search.running.signals import StopSignals
from search.storage.bulk import add_trials
from search.storage.opening import open_storage
from search.study.study import load_study
from search.trial.clips import TrialClips
from search.trial.curves import Step
from search.trial.job import Job
from search.trial.outcome import Outcome, SignerScore

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from postgres import Postgres, programs

PACE_S = 1.0


@dataclass
class _Task:
    job: Job
    epoch: int = 0
    began: float = 0.0
    told: float = 0.0
    """When its last epoch began and was over, for a worker that does not wait for anybody."""


@dataclass
class SimulatedEngine:
    """Workers that need about `pace_s` seconds for an epoch of nothing."""

    slots: int
    pace_s: float
    epochs: int
    tasks: dict[int, _Task] = field(default_factory=dict)
    due: list[tuple[float, int]] = field(default_factory=list)
    events: deque[EngineEvent] = field(default_factory=deque)
    idle_since: deque[float] = field(default_factory=deque)
    verdicts: list[tuple[float, float, float]] = field(default_factory=list)
    """When each came, the seconds from the end of its epoch, and those of the epoch."""

    idle: list[tuple[float, float]] = field(default_factory=list)
    """When each worker got its next trial, and the seconds from the end of the one before."""

    ends: bool = False

    def start(self, job: Job) -> None:
        """The job is ready at once."""
        now = time.perf_counter()
        if self.idle_since:
            self.idle.append((now, now - self.idle_since.popleft()))
        self.tasks[job.trial] = _Task(job)
        eps = job.configs.train.label_smoothing
        self.events.append(JobStarted(job.trial, {"torch": "none"}, 0, self.epochs, 0.0, eps, ""))
        self._train(job.trial)

    def _train(self, trial: int) -> None:
        speed = 0.8 + 0.4 * (self.tasks[trial].job.seed % 1000 / 999)
        self.tasks[trial].began = time.perf_counter()
        heapq.heappush(self.due, (self.tasks[trial].began + self.pace_s * speed, trial))

    def next_event(self, timeout_s: float) -> EngineEvent | None:
        """The next epoch that is over."""
        if self.events:
            return self.events.popleft()
        until = time.perf_counter() + timeout_s
        while True:
            now = time.perf_counter()
            if self.due and self.due[0][0] <= now:
                end, trial = heapq.heappop(self.due)
                if trial in self.tasks:
                    return self._epoch(self.tasks[trial], end)
                continue
            wait = min(until, self.due[0][0] if self.due else math.inf) - now
            if now >= until:
                return None
            time.sleep(max(0.0, wait))

    def _epoch(self, task: _Task, end: float) -> EngineEvent:
        task.epoch += 1
        task.told = end
        rng = np.random.default_rng([task.job.seed % 2**32, task.epoch])
        best = 1 + abs(math.log10(task.job.configs.train.lr) + 3) + task.job.configs.train.label_smoothing
        loss = best + math.exp(-task.epoch / 5) + 0.05 * rng.random()
        record = EpochRecord(task.epoch, loss, loss, 0.5, 0.9, 0.1, 0.1, loss, 1.0, max(self.pace_s, 1e-6))
        return StepDone(task.job.trial, Step({0: record}, is_last=task.epoch == self.epochs))

    def advance(self, trial: int) -> None:
        """One more epoch, or the end."""
        task = self.tasks[trial]
        self._note_verdict(task)
        if self.ends:
            self._end(trial)
            self.events.append(JobInterrupted(trial))
        elif task.epoch < self.epochs:
            self._train(trial)
        else:
            self._end(trial)
            self.events.append(JobDone(trial, Outcome((SignerScore(0, "s", 1, 1.0, 0.5),), (), (), 1, None)))

    def cancel(self, trial: int) -> None:
        """Its worker is free."""
        if trial in self.tasks:
            self._note_verdict(self.tasks[trial])
            self._end(trial)

    def _note_verdict(self, task: _Task) -> None:
        now = time.perf_counter()
        self.verdicts.append((now, now - task.told, task.told - task.began))

    def _end(self, trial: int) -> None:
        del self.tasks[trial]
        self.idle_since.append(time.perf_counter())

    def interrupt_jobs(self) -> None:
        """The run's time is over: jobs are put aside after their epoch."""
        self.ends = True

    def close(self) -> None:
        """Nothing to end."""


@dataclass(frozen=True, kw_only=True)
class Simulated(EngineOptions):
    """Hires one engine of simulated workers."""

    made: SimulatedEngine

    def create_engine(self, trial_clips: TrialClips, runs: Path, resources: Resources = Resources()) -> SimulatedEngine:
        """The engine that was made."""
        return self.made


def filled(definition: StudyDefinition, where: RunOptions, stored: int) -> None:
    """Makes a study and fills it with finished trials, so many about."""
    with StopSignals(3, None) as stop:
        run(definition, where, lambda event: None, stop)
    storage = open_storage(where.storage, create=False)
    study = load_study(storage, definition.name)
    known, rng = study.get_trials(), np.random.default_rng(0)
    pattern = next(trial for trial in known if trial.state == TrialState.COMPLETE)
    copies = []
    for number in range(len(known), stored):
        copies.append(copy.deepcopy(pattern))
        copies[-1].number = number
        copies[-1].params = {
            "label_smoothing": rng.uniform(0, 0.6),
            "lr": 10 ** rng.uniform(-5, -2),
            "dropout": rng.uniform(0, 0.5),
        }
        copies[-1].values = [1 + rng.random()]
    list(add_trials(storage, study._study_id, copies))


def row(
    folder: Path, data: Path, database: tuple[str, str], workers: int, pace_s: float, stored: int, options: argparse.Namespace
) -> str:
    """What a search by so many simulated workers gives, as a row of the table."""
    name, url = database
    engine = SimulatedEngine(workers, pace_s, options.epochs)
    study = f"b{workers}-{stored}-{'paced' if pace_s else 'flat'}"
    definition = load_definition(
        "label_smoothing", [f"epochs={options.epochs}", "trials=1000000", "pruner={name: median}"], name=study
    )
    by = Simulated(device="cpu", workers=workers, engine="processes", made=engine)
    where = RunOptions(data=data, storage=url, runs=folder / name, more=None, engine=by)
    if stored:
        filled(definition, replace(where, engine=replace(by, made=SimulatedEngine(8, 0.0, options.epochs))), stored)
    counted_from = time.perf_counter() + options.seconds / 3
    with StopSignals(options.seconds, None) as stop:
        run(definition, where, lambda event: None, stop)
    counted = [(wait, trained) for when, wait, trained in engine.verdicts if when > counted_from]
    verdicts = [wait for wait, _ in counted]
    idle = [wait for when, wait in engine.idle if when > counted_from]
    last = max((when for when, _, _ in engine.verdicts), default=counted_from)
    spent = last - counted_from
    busy = f"{100 * sum(trained for _, trained in counted) / (workers * spent):.0f} %" if pace_s else "-"
    cells = [
        name,
        f"{stored:,}",
        str(workers),
        f"about {pace_s:g} s" if pace_s else "flat out",
        f"{len(verdicts) / spent:,.1f}",
        f"{len(idle) / spent:.1f}",
        f"{_ms(verdicts, 0.5)} / {_ms(verdicts, 0.95)}",
        f"{_ms(idle, 0.5)} / {_ms(idle, 0.95)}",
        busy,
    ]
    return f"| {' | '.join(cells)} |"


@contextmanager
def databases(folder: Path, others: list[str]) -> Iterator[dict[str, str]]:
    """Empty ones, by name."""
    found = {"SQLite": f"sqlite:///{folder / 'studies.db'}"}
    found |= dict(other.split("=", 1) for other in others)
    server = Postgres(durable=True) if programs() is not None else None
    if server is None:
        print("PostgreSQL's programs are not installed: only SQLite")
        yield found
        return
    server.start()
    try:
        yield found | {"PostgreSQL": server.new_database()[1]}
    finally:
        server.close()


def _ms(values: list[float], share: float) -> str:
    return f"{1000 * float(np.quantile(values, share)):.0f}" if values else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 8, 64, 256])
    parser.add_argument("--epochs", type=int, default=20, help="of a trial that is not pruned")
    parser.add_argument("--seconds", type=float, default=60, help="of each run")
    parser.add_argument("--stored", type=int, nargs="*", default=[1000, 5000], help="finished trials, for rows more")
    parser.add_argument("--storage", nargs="*", default=[], metavar="NAME=URL")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, databases(Path(temporary), options.storage) as found:
        folder = Path(temporary)
        data = folder / "data"
        synthesize(data, clips=48, signs=3, signers=4, seed=1)
        heads = ["database", "stored", "workers", "an epoch", "epochs/s", "trials/s"]
        heads += ["ms to a verdict", "ms to the next trial", "busy"]
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for pace_s in (0.0, PACE_S):
            for workers in options.workers:
                for database in found.items():
                    print(row(folder, data, database, workers, pace_s, 0, options), flush=True)
        for stored in options.stored:
            for database in found.items():
                print(row(folder, data, database, max(options.workers, default=256), PACE_S, stored, options), flush=True)


if __name__ == "__main__":
    main()
