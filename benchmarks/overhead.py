"""Measures what a search costs beyond the training itself.

    python benchmarks/overhead.py [--trials 4] [--epochs 15] [--stored 10000] [--reports 20]

First: searches with one worker, once inside the coordinator and once in a separate process, on a synthetic set whose epochs
take about a second. The overhead is the time from the start of the first trial to the end of the search, minus the time inside
epochs (training and validation, from each trial's `curve.csv`), as a percentage of the latter. It covers sampler, reports,
pruner, checkpoints, files, log, and the setup of each trial. Second: the cost of one report with the pruner's decision, and of
one `ask`, by the number of stored trials.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna

from data_utils.synthetic.synthetic import synthesize
from search.definition.study_file import load_definition
from search.engines.engine_options import EngineOptions
from search.events import Event, TrialStarted
from search.running.ledger import Ledger
from search.running.run import RunOptions, run
from search.running.signals import StopSignals
from search.storage.leases.choice import lease_of
from search.storage.opening import open_storage
from search.trial.files import read_curves

_WRITTEN = 250
"""Trials written through Optuna; the others are copies of them."""

ENGINES = ("inline", "processes")


def run_search(folder: Path, data: Path, engine: str, trials: int, epochs: int) -> tuple[float, list[float]]:
    """Seconds of the search from the start of its first trial, and seconds of each epoch."""
    starts: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, TrialStarted) and not starts:
            starts.append(time.perf_counter())

    definition = load_definition("label_smoothing", [f"epochs={epochs}", f"trials={trials}", "pruner={name: median}"])
    options = RunOptions(
        data=data,
        storage=f"sqlite:///{folder / engine / 'studies.db'}",
        runs=folder / engine,
        more=None,
        engine=EngineOptions(device="cpu", engine=engine),
    )
    run(definition, options, listen, StopSignals())
    spent = time.perf_counter() - starts[0]
    curves = sorted((folder / engine / definition.name / "trials").glob("*/curve.csv"))
    seconds = [record.seconds for path in curves for record in read_curves(path)[0]]
    return spent, seconds


def make_filled_study(folder: Path, stored: int, reports: int) -> str:
    """Makes a study with `stored` finished trials in a database opened as a search opens it. Returns its URL."""
    rng = np.random.default_rng(0)
    space = {dim.name: dim.distribution() for dim in load_definition("label_smoothing").space}
    trials = []
    written = min(stored, _WRITTEN)
    for _ in range(written):
        params = {"label_smoothing": rng.uniform(0, 0.6), "lr": 10 ** rng.uniform(-5, -2), "dropout": rng.uniform(0, 0.5)}
        curve = 1 + rng.uniform(size=reports)
        trials.append(
            optuna.trial.create_trial(
                params=params,
                distributions=space,
                value=float(curve.min()),
                intermediate_values={epoch: float(value) for epoch, value in enumerate(curve, 1)},
                user_attrs={"result": json.dumps({"val_loss": float(curve.min())})},
            )
        )
    storage = open_storage(f"sqlite:///{folder / f'{stored}.db'}", create=True)
    study = optuna.create_study(storage=storage, study_name="stored")
    study.add_trials(trials)
    _multiply(folder / f"{stored}.db", written, stored // written)
    return f"sqlite:///{folder / f'{stored}.db'}"


def measure(url: str, reports: int) -> tuple[list[float], list[float]]:
    """Seconds of each `ask`, and of each report with the pruner's decision until it is written."""
    definition = load_definition("label_smoothing")
    asked, reported = [], []
    with lease_of(url, "stored") as lease:
        ledger = Ledger(open_storage(url, create=False), "stored", lease)
        study = ledger.open()
        study.pruner = definition.pruner.make(definition.max_epochs)
        for number in range(10):
            study.sampler = definition.sampler.make(number, 0)
            start = time.perf_counter()
            trial = study.ask({dim.name: dim.distribution() for dim in definition.space})
            asked.append(time.perf_counter() - start)
            for epoch in range(1, reports + 1):
                start = time.perf_counter()
                trial.report(1.5, epoch)
                trial.should_prune()
                ledger.flush()
                reported.append(time.perf_counter() - start)
            study.tell(trial, 1.5)
            ledger.flush()
    return asked, reported


def _multiply(database: Path, written: int, times: int) -> None:
    """Copies the trials of a database, because Optuna takes minutes to write thousands."""
    copied = {
        "trials": "number, study_id, state, datetime_start, datetime_complete",
        "trial_params": "param_name, param_value, distribution_json",
        "trial_values": "objective, value, value_type",
        "trial_intermediate_values": "step, intermediate_value, intermediate_value_type",
        "trial_user_attributes": "key, value_json",
    }
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        for copy in range(1, times):
            offset = copy * written
            for table, columns in copied.items():
                values = columns.replace("number", f"number + {offset}") if table == "trials" else columns
                connection.execute(
                    f"INSERT INTO {table} (trial_id, {columns}) SELECT trial_id + {offset}, {values} FROM {table} "
                    f"WHERE trial_id <= {written}"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1500, help="clips of the synthetic set; decides how long an epoch takes")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--stored", type=int, nargs="*", default=[100, 1000, 10000])
    parser.add_argument("--reports", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = folder / "data"
        synthesize(data, clips=options.clips)
        print("| engine | epochs | one epoch, median s | search s | overhead |\n|---|---|---|---|---|")
        for engine in ENGINES:
            spent, seconds = run_search(folder, data, engine, options.trials, options.epochs)
            overhead = (spent - sum(seconds)) / sum(seconds)
            print(f"| {engine} | {len(seconds)} | {np.median(seconds):.3f} | {spent:.1f} | {100 * overhead:.2f}% |", flush=True)
        print("\n| trials stored | report and decision, median ms | 95% | ask, median ms |\n|---|---|---|---|")
        for stored in options.stored:
            asked, reported = measure(make_filled_study(folder, stored, options.reports), options.reports)
            ms = 1000 * np.array(reported)
            print(
                f"| {stored:,} | {np.median(ms):.1f} | {np.percentile(ms, 95):.1f} | {1000 * np.median(asked):.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
