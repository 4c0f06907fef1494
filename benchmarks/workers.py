"""Compares the throughput of two single-threaded workers with that of one.

    python benchmarks/workers.py [--epochs 20] [--rounds 3]

Each worker trains the article's configuration on the demo set in a separate process. Rounds with one worker and with two
alternate; the medians of the epochs per hour of all workers are compared. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from data_utils.synthetic.synthetic import synthesize


def work(folder: Path, store: Path, seed: int, pipe: Connection) -> None:
    """The worker process: receives a number of epochs and trains them."""
    from data_utils.prepared import open_data
    from data_utils.splits import split_signers
    from search.definition.definition import Plan
    from search.definition.settings import build_configs
    from search.trial.clips import TrialClips
    from search.trial.trial_run import start_trainings

    data = open_data(folder)
    trial_clips = TrialClips(data, split_signers(data.words_of), store, lambda event: None)
    configs = build_configs({"train.epochs": 10_000, "train.patience": 0}, "workers")
    (training,) = start_trainings(configs, seed, "cpu", Plan(), trial_clips.folds(configs.preprocess), len(data.words))
    training.run_epoch()
    pipe.send("ready")
    while epochs := pipe.recv():
        for _ in range(epochs):
            training.run_epoch()
        pipe.send("done")


def epochs_per_hour(pipes: list[Connection], epochs: int) -> float:
    """The throughput of all these workers together."""
    start = time.perf_counter()
    for pipe in pipes:
        pipe.send(epochs)
    for pipe in pipes:
        pipe.recv()
    return 3600 * epochs * len(pipes) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "demo"
        synthesize(folder)
        pipes = []
        for seed in range(2):
            here, there = mp.Pipe()
            store = Path(temporary) / "prepared"
            mp.get_context("spawn").Process(target=work, args=(folder, store, seed, there)).start()
            pipes.append(here)
        for pipe in pipes:
            pipe.recv()
        one, two = [], []
        for _ in range(options.rounds):
            one.append(epochs_per_hour(pipes[:1], options.epochs))
            two.append(epochs_per_hour(pipes, options.epochs))
        for pipe in pipes:
            pipe.send(0)
    print("| workers | epochs per hour of each round | median |\n|---|---|---|")
    for label, rates in (("1", one), ("2", two)):
        print(f"| {label} | {' '.join(f'{rate:,.0f}' for rate in rates)} | {np.median(rates):,.0f} |")
    print(f"ratio {np.median(two) / np.median(one):.2f}")


if __name__ == "__main__":
    main()
