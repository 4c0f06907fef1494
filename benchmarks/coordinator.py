"""Measures how many workers one coordinator can serve.

    python benchmarks/coordinator.py [--workers 1 8 64 256] [--epochs 20] [--seconds 60] [--stored 1000 5000]

The workers are simulated: the loss of an epoch comes from a formula. Everything else is real: sampler (TPE), pruner (median),
ledger, database, leases, the trials' files, the log. There are two modes:

- flat out: every worker answers immediately. Epochs and trials per second are the coordinator's limit.
- paced: a worker needs about a second per epoch, from 0.8 to 1.2 s depending on the trial. The time that it waits for decisions
  and for its next trial is what the coordinator costs: `busy` is the percentage of the workers' time spent training.

The first third of each run, in which the workers get their first trials, is not counted.

The databases are SQLite in a temporary folder and, if PostgreSQL is installed, a temporary PostgreSQL server with durable
commits on the same machine; `--storage` adds others, which must be empty.
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
from search.engines.placement import Placement
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
    start: float = 0.0
    end: float = 0.0
    """When its last epoch started and ended."""


@dataclass
class SimulatedEngine:
    """Simulated workers that need about `pace_s` seconds per epoch."""

    slots: int
    pace_s: float
    epochs: int
    tasks: dict[int, _Task] = field(default_factory=dict)
    due: list[tuple[float, int]] = field(default_factory=list)
    events: deque[EngineEvent] = field(default_factory=deque)
    idle_since: deque[float] = field(default_factory=deque)
    decisions: list[tuple[float, float, float]] = field(default_factory=list)
    """For each decision its time, the seconds since the end of its epoch, and the seconds of the epoch."""

    idle: list[tuple[float, float]] = field(default_factory=list)
    """The time of each start of a next trial, and the seconds since the end of the previous one."""

    stopping: bool = False
    takes_jobs: bool = True

    def start(self, job: Job) -> None:
        """Starts the job immediately."""
        now = time.perf_counter()
        if self.idle_since:
            self.idle.append((now, now - self.idle_since.popleft()))
        self.tasks[job.trial] = _Task(job)
        eps = job.configs.train.label_smoothing
        self.events.append(JobStarted(job.trial, {"torch": "none"}, 0, self.epochs, 0.0, eps, ""))
        self._train(job.trial)

    def _train(self, trial: int) -> None:
        speed = 0.8 + 0.4 * (self.tasks[trial].job.seed % 1000 / 999)
        self.tasks[trial].start = time.perf_counter()
        heapq.heappush(self.due, (self.tasks[trial].start + self.pace_s * speed, trial))

    def next_event(self, timeout_s: float) -> EngineEvent | None:
        """The next epoch that has ended."""
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
        task.end = end
        rng = np.random.default_rng([task.job.seed % 2**32, task.epoch])
        best = 1 + abs(math.log10(task.job.configs.train.lr) + 3) + task.job.configs.train.label_smoothing
        loss = best + math.exp(-task.epoch / 5) + 0.05 * rng.random()
        record = EpochRecord(task.epoch, loss, loss, 0.5, 0.9, 0.1, 0.1, loss, 1.0, max(self.pace_s, 1e-6))
        return StepDone(task.job.trial, Step({0: record}, is_last=task.epoch == self.epochs))

    def advance(self, trial: int) -> None:
        """Trains another epoch, or ends the trial."""
        task = self.tasks[trial]
        self._record_decision(task)
        if self.stopping:
            self._end(trial)
            self.events.append(JobInterrupted(trial))
        elif task.epoch < self.epochs:
            self._train(trial)
        else:
            self._end(trial)
            self.events.append(JobDone(trial, Outcome((SignerScore(0, "s", 1, 1.0, 0.5),), (), (), 1, None)))

    def cancel(self, trial: int) -> None:
        """Ends the trial and frees its worker."""
        if trial in self.tasks:
            self._record_decision(self.tasks[trial])
            self._end(trial)

    def _record_decision(self, task: _Task) -> None:
        now = time.perf_counter()
        self.decisions.append((now, now - task.end, task.end - task.start))

    def _end(self, trial: int) -> None:
        del self.tasks[trial]
        self.idle_since.append(time.perf_counter())

    def interrupt_jobs(self) -> None:
        """Interrupts all jobs after their current epochs."""
        self.stopping = True

    def close(self) -> None:
        """Does nothing: there are no processes."""


@dataclass(frozen=True, kw_only=True)
class SimulatedOptions(EngineOptions):
    """Options that use a given engine of simulated workers."""

    made: SimulatedEngine

    def create_engine(
        self, placement: Placement, trial_clips: TrialClips, runs: Path, resources: Resources = Resources()
    ) -> SimulatedEngine:
        """The given engine."""
        return self.made


def fill_study(definition: StudyDefinition, where: RunOptions, stored: int) -> None:
    """Makes a study with about `stored` finished trials."""
    with StopSignals(10, None) as stop:
        run(definition, where, lambda event: None, stop)
    storage = open_storage(where.storage, create=False)
    study = load_study(storage, definition.name, print)
    existing, rng = study.get_trials(), np.random.default_rng(0)
    template = next(trial for trial in existing if trial.state == TrialState.COMPLETE)
    copies = []
    for number in range(len(existing), stored):
        copies.append(copy.deepcopy(template))
        copies[-1].number = number
        copies[-1].params = {
            "label_smoothing": rng.uniform(0, 0.6),
            "lr": 10 ** rng.uniform(-5, -2),
            "dropout": rng.uniform(0, 0.5),
        }
        copies[-1].values = [1 + rng.random()]
    list(add_trials(storage, study._study_id, copies))


def measure_row(
    folder: Path, data: Path, database: tuple[str, str], workers: int, pace_s: float, stored: int, options: argparse.Namespace
) -> str:
    """Runs a search with simulated workers. Returns a row of the table."""
    name, url = database
    engine = SimulatedEngine(workers, pace_s, options.epochs)
    study = f"b{workers}-{stored}-{'paced' if pace_s else 'flat'}"
    definition = load_definition(
        "label_smoothing", [f"epochs={options.epochs}", "trials=1000000", "pruner={name: median}"], name=study
    )
    simulated = SimulatedOptions(device="cpu", workers=workers, engine="processes", made=engine)
    where = RunOptions(data=data, storage=url, runs=folder / name, more=None, engine=simulated)
    if stored:
        fill_study(definition, replace(where, engine=replace(simulated, made=SimulatedEngine(8, 0.0, options.epochs))), stored)
    counted_from = time.perf_counter() + options.seconds / 3
    with StopSignals(options.seconds, None) as stop:
        run(definition, where, lambda event: None, stop)
    counted = [(wait, trained) for when, wait, trained in engine.decisions if when > counted_from]
    waits = [wait for wait, _ in counted]
    idle = [wait for when, wait in engine.idle if when > counted_from]
    last = max((when for when, _, _ in engine.decisions), default=counted_from)
    spent = last - counted_from
    busy = f"{100 * sum(trained for _, trained in counted) / (workers * spent):.0f}%" if pace_s else "-"
    cells = [
        name,
        f"{stored:,}",
        str(workers),
        f"about {pace_s:g} s" if pace_s else "flat out",
        f"{len(waits) / spent:,.1f}",
        f"{len(idle) / spent:.1f}",
        f"{_ms(waits, 0.5)} / {_ms(waits, 0.95)}",
        f"{_ms(idle, 0.5)} / {_ms(idle, 0.95)}",
        busy,
    ]
    return f"| {' | '.join(cells)} |"


@contextmanager
def databases(folder: Path, others: list[str]) -> Iterator[dict[str, str]]:
    """The URLs of empty databases by name."""
    urls = {"SQLite": f"sqlite:///{folder / 'studies.db'}"}
    urls |= dict(other.split("=", 1) for other in others)
    server = Postgres(durable=True) if programs() is not None else None
    if server is None:
        print("PostgreSQL is not installed: measuring SQLite only")
        yield urls
        return
    server.start()
    try:
        yield urls | {"PostgreSQL": server.new_database()[1]}
    finally:
        server.close()


def _ms(values: list[float], quantile: float) -> str:
    return f"{1000 * float(np.quantile(values, quantile)):.0f}" if values else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 8, 64, 256])
    parser.add_argument("--epochs", type=int, default=20, help="epochs of a trial that is not pruned")
    parser.add_argument("--seconds", type=float, default=60, help="length of each run")
    parser.add_argument("--stored", type=int, nargs="*", default=[1000, 5000], help="trials stored before, for more rows")
    parser.add_argument("--storage", nargs="*", default=[], metavar="NAME=URL")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, databases(Path(temporary), options.storage) as urls:
        folder = Path(temporary)
        data = folder / "data"
        synthesize(data, clips=48, signs=3, signers=4, seed=1)
        heads = ["database", "stored", "workers", "epoch", "epochs/s", "trials/s"]
        heads += ["ms to a decision", "ms to the next trial", "busy"]
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for pace_s in (0.0, PACE_S):
            for workers in options.workers:
                for database in urls.items():
                    print(measure_row(folder, data, database, workers, pace_s, 0, options), flush=True)
        for stored in options.stored:
            for database in urls.items():
                print(
                    measure_row(folder, data, database, max(options.workers, default=256), PACE_S, stored, options), flush=True
                )


if __name__ == "__main__":
    main()
