"""How many workers one coordinator carries.

    python benchmarks/coordinator.py [--workers 1 8 64 256] [--epochs 20] [--seconds 20] [--stored 0] [--storage NAME=URL ...]

The trainers here cost nothing: an epoch is a number from a formula. All else is the real thing: sampler (TPE), pruner (median),
ledger, database, leases, the trials' files, the log. Two ways:

- flat out: every simulated worker answers at once. Epochs and trials a second are what the coordinator can do.
- paced: every worker needs a second for an epoch, as many as there are. What they wait for the coordinator's verdicts, and for
  their next trial, is what the coordinator costs them.

The databases: SQLite in a temporary folder and, where its programs are installed, a PostgreSQL of its own with durable commits
on the same machine; `--storage` adds others, each empty.
"""

from __future__ import annotations

import argparse
import heapq
import math
import resource
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_utils.synthetic import synthesize
from model.record import EpochRecord
from search.curves import Step
from search.definition import load_definition
from search.engines import EngineEvent, JobDone, JobKept, JobStarted, StepDone
from search.engines.choice import Workers
from search.parts import Parts
from search.records import SignerScore
from search.resources import Resources
from search.run import RunOptions, run
from search.stopping import StopSignals
from search.trial import Job, Outcome

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from postgres import Postgres, programs

PACE_S = 1.0


@dataclass
class _Task:
    job: Job
    epoch: int = 0
    told: float = 0.0
    """When its last epoch was over, for a worker that does not wait for anybody."""


@dataclass
class SimulatedEngine:
    """Workers that need `pace_s` seconds for an epoch of nothing."""

    slots: int
    pace_s: float
    epochs: int
    tasks: dict[int, _Task] = field(default_factory=dict)
    due: list[tuple[float, int]] = field(default_factory=list)
    events: deque[EngineEvent] = field(default_factory=deque)
    idle_since: deque[float] = field(default_factory=deque)
    verdicts: list[float] = field(default_factory=list)
    """Seconds from the end of each epoch to its verdict."""

    idle: list[float] = field(default_factory=list)
    """Seconds from the end of each trial to the start of the worker's next."""

    ends: bool = False

    def start(self, job: Job) -> None:
        """The job is ready at once."""
        if self.idle_since:
            self.idle.append(time.perf_counter() - self.idle_since.popleft())
        self.tasks[job.trial] = _Task(job)
        eps = job.configs.train.label_smoothing
        self.events.append(JobStarted(job.trial, {"torch": "none"}, 0, self.epochs, 0.0, eps, ""))
        self._train(job.trial)

    def _train(self, trial: int) -> None:
        heapq.heappush(self.due, (time.perf_counter() + self.pace_s, trial))

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

    def go(self, trial: int) -> None:
        """One more epoch, or the end."""
        task = self.tasks[trial]
        self.verdicts.append(time.perf_counter() - task.told)
        if self.ends:
            self._end(trial)
            self.events.append(JobKept(trial))
        elif task.epoch < self.epochs:
            self._train(trial)
        else:
            self._end(trial)
            self.events.append(JobDone(trial, Outcome((SignerScore(0, "s", 1, 1.0, 0.5),), (), (), 1, None)))

    def drop(self, trial: int) -> None:
        """Its worker is free."""
        if trial in self.tasks:
            self.verdicts.append(time.perf_counter() - self.tasks[trial].told)
            self._end(trial)

    def _end(self, trial: int) -> None:
        del self.tasks[trial]
        self.idle_since.append(time.perf_counter())

    def wind_down(self) -> None:
        """The run's time is over: jobs are put aside after their epoch."""
        self.ends = True

    def close(self) -> None:
        """Nothing to end."""


@dataclass(frozen=True, kw_only=True)
class Simulated(Workers):
    """Hires one engine of simulated workers."""

    made: SimulatedEngine

    def hire(self, parts: Parts, runs: Path, resources: Resources = Resources()) -> SimulatedEngine:
        """The engine that was made."""
        return self.made


@dataclass(frozen=True)
class Row:
    """What one run gave."""

    epochs: int
    trials: int
    seconds: float
    cpu_s: float
    engine: SimulatedEngine


def measured(
    folder: Path, data: Path, storage: str, name: str, *, workers: int, pace_s: float, epochs: int, seconds: float
) -> Row:
    """A search by so many simulated workers for so many seconds."""
    engine = SimulatedEngine(workers, pace_s, epochs)
    definition = load_definition("label_smoothing", [f"epochs={epochs}", "trials=1000000", "pruner={name: median}"], name=name)
    by = Simulated(device="cpu", workers=workers, engine="processes", made=engine)
    options = RunOptions(data=data, storage=storage, runs=folder / "runs", more=None, by=by)
    began, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    with StopSignals(seconds, None) as stop:
        found = run(definition, options, lambda event: None, stop)
    spent = time.perf_counter() - began
    now = resource.getrusage(resource.RUSAGE_SELF)
    used = now.ru_utime + now.ru_stime - cpu.ru_utime - cpu.ru_stime
    return Row(len(engine.verdicts), found.finished, spent, used, engine)


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
    parser.add_argument("--seconds", type=float, default=20, help="of each run")
    parser.add_argument("--storage", nargs="*", default=[], metavar="NAME=URL")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, databases(Path(temporary), options.storage) as found:
        folder = Path(temporary)
        data = folder / "data"
        synthesize(data, clips=48, signs=3, signers=4, seed=1)
        print(
            "| database | workers | pace | epochs/s | trials/s | wait for a verdict, median ms | 95 % ms | for a trial, median ms | CPU |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        for pace_s in (0.0, PACE_S):
            for workers in options.workers:
                for name, url in found.items():
                    study = f"b{workers}-{'paced' if pace_s else 'flat'}"
                    row = measured(
                        folder / name,
                        data,
                        url,
                        study,
                        workers=workers,
                        pace_s=pace_s,
                        epochs=options.epochs,
                        seconds=options.seconds,
                    )
                    print(
                        f"| {name} | {workers} | {f'{pace_s:g} s' if pace_s else 'flat out'} | {row.epochs / row.seconds:.0f} "
                        f"| {row.trials / row.seconds:.1f} | {_ms(row.engine.verdicts, 0.5)} | {_ms(row.engine.verdicts, 0.95)} "
                        f"| {_ms(row.engine.idle, 0.5)} | {100 * row.cpu_s / row.seconds:.0f} % |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
