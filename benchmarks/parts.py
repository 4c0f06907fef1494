"""Measures what a trial costs apart from its training steps: the start of its worker, and the parts of an epoch.

    python benchmarks/parts.py [--data FOLDER]

First: a worker process as the engine starts it, with CPU and wall seconds and peak memory after each stage up to its second
epoch. Second: CPU milliseconds of the parts of an epoch, for the clips of the data set and for a set of the article's size. The
data set is prepared beforehand; by default it is a synthetic one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

REPEATS = 5


def worker(pipe: Connection, began: float) -> None:
    """A worker: receives data set, folder, split and job, and sends its costs after each stage."""

    def at(stage: str) -> None:
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        pipe.send((stage, time.process_time(), time.time() - began, peak_mb))

    at("process")
    import torch  # noqa: F401

    at("torch")
    import search.engines.worker  # noqa: F401

    at("other imports")
    from search.trial.clips import TrialClips, data_store, open_indexed
    from search.trial.trial_run import TrialRun

    folder, runs, split, job = pipe.recv()
    clips = TrialClips(open_indexed(folder, runs), split, data_store(runs), lambda event: None)
    run = TrialRun(job, clips)
    at("trial made")
    for number in (1, 2):
        run.next_step()
        at(f"epoch {number}")
    pipe.send(None)


def measure_start(folder: Path, runs: Path) -> None:
    """Prints the stages of a worker's start."""
    from data_utils.splits import split_signers
    from search.definition.definition import Plan
    from search.definition.settings import build_configs
    from search.trial.clips import TrialClips, data_store, open_indexed
    from search.trial.job import Job

    data = open_indexed(folder, runs)
    split = split_signers(data.words_of, train="rest", validation="auto", test="auto", folds=None, seed=0)
    job = Job(0, build_configs({}, "the benchmark"), 0, Plan(), "cpu", runs)
    TrialClips(data, split, data_store(runs), lambda event: None).folds(job.configs.preprocess)
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=worker, args=(there, time.time()))
    process.start()
    here.send((folder, runs, split, job))
    print("| a worker's start | CPU s | wall s | peak MB |\n|---|---|---|---|")
    while (row := here.recv()) is not None:
        print(f"| {row[0]} | {row[1]:.2f} | {row[2]:.2f} | {row[3]:.0f} |")
    process.join()


def cpu_ms(call: Callable[[], object]) -> float:
    """CPU milliseconds of a call, the least of several."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def measure_parts(name: str, folder: Path | None, runs: Path) -> None:
    """Prints the parts of an epoch; without a folder for a set of the article's size."""
    import torch
    from sides import HELD_OUT, WORDS, realistic_clips

    from data_utils.normalize import PreprocessConfig
    from data_utils.prepared import open_data
    from data_utils.store import load_prepared
    from model.checkpoint import save_checkpoint
    from model.config import ModelConfig, TrainConfig
    from model.metrics import measure
    from model.training import Training

    words, train, held_out = WORDS, realistic_clips(3881, 0), realistic_clips(HELD_OUT, 1)
    if folder is not None:
        data = open_data(folder)
        clips = load_prepared(data.entries, PreprocessConfig(), runs / "prepared", report=print)
        numbers = torch.arange(len(clips)).numpy()
        words, train, held_out = len(data.words), clips.select(numbers % 5 > 0), clips.select(numbers % 5 == 0)
    torch.set_num_threads(1)
    config = TrainConfig(epochs=1000, patience=0)
    training = Training(ModelConfig(), config, train=train, validation=held_out, num_words=words, seed=0)
    epoch = cpu_ms(training.run_epoch)
    logits, labels = training.kept_logits(), torch.from_numpy(held_out.labels_C)
    parts = {
        "logits of the validation clips": cpu_ms(lambda: training.path.logits(training.averaged, training.validation)),
        "metrics": cpu_ms(lambda: measure(logits, labels)),
        "keeping the weights": cpu_ms(lambda: {name: value.clone() for name, value in training.averaged.state_dict().items()}),
        "a checkpoint (at most 1% of the time)": cpu_ms(lambda: save_checkpoint([training], runs / "checkpoint", "about")),
    }
    print(f"\n| {name}: {len(train):,} + {len(held_out):,} clips | CPU ms | of an epoch |\n|---|---|---|")
    for part, spent in {"an epoch": epoch, **parts}.items():
        print(f"| {part} | {spent:.2f} | {100 * spent / epoch:.1f}% |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the data set")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.data
        if folder is None:
            from data_utils.synthetic.synthetic import synthesize

            folder = Path(temporary) / "data"
            synthesize(folder)
        measure_start(folder, Path(temporary) / "runs")
        measure_parts("the data set", folder, Path(temporary) / "runs")
        measure_parts("the article's size", None, Path(temporary) / "runs")


if __name__ == "__main__":
    main()
