"""Measures large data sets: the index, preparation, the start of a trial, and memory per worker.

    python benchmarks/scale.py [--clips 1000 10000 94477] [--folder DIR] [--json]

The whole Kaggle release has 94,477 clips of 250 signs by 21 signers. The file of one signer is made, with realistic lengths and
missing hands, and linked under 21 names: everything is read and computed for each signer, but the file is on the disk once and
comes from the page cache. Two workers start a trial at the same time; private memory is what a worker uses beyond PyTorch
itself after its first 200 steps.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.hdf5 import Clip, write_signer
from data_utils.landmarks import FILE_PARTS, NUM_LANDMARKS
from data_utils.normalize import PreprocessConfig
from data_utils.prepared import open_data
from data_utils.store import load_prepared
from data_utils.words import write_words

SIGNERS = 21
SIGNS = 250
STEPS = 200


def make_data(folder: Path, clips: int) -> None:
    """Makes a data set of about this many clips."""
    rng = np.random.default_rng(0)

    def one(number: int) -> Clip:
        frames = int(np.clip(round(np.exp(rng.normal(np.log(23), 1.0))), 2, 404))
        start = rng.uniform(0.2, 0.8, (3, 1, NUM_LANDMARKS))
        moves = np.cumsum(rng.normal(0, 0.003, (3, frames, NUM_LANDMARKS)), axis=1)
        feature = (np.round((start + moves) * 8192) / 8192).astype(np.float32)
        for part in ("left_hand", "right_hand"):
            feature[:, rng.random(frames) < 0.69, FILE_PARTS[part]] = np.nan
        return Clip(f"{number:08d}", feature, number % SIGNS)

    folder.mkdir(parents=True)
    write_words(folder, [f"sign{number}" for number in range(SIGNS)])
    write_signer(folder / "1000.hdf5", (one(number) for number in range(-(-clips // SIGNERS))))
    for signer in range(1001, 1000 + SIGNERS):
        os.link(folder / "1000.hdf5", folder / f"{signer}.hdf5")


def private_mb() -> float:
    """Memory that this process has written to and shares with no other, MB.

    Does not count the pages of the memory-mapped frames, which all processes share.
    """
    text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_Dirty")) / 1024


def work(folder: Path, store: Path, barrier: Any, results: Any) -> None:
    """The worker process: loads PyTorch, starts a trial, trains 200 steps."""
    import torch

    from model.config import ModelConfig, TrainConfig
    from model.training import Training

    torch.set_num_threads(1)
    torch.mm(torch.ones(64, 64), torch.ones(64, 64))
    before = private_mb()
    barrier.wait()
    start = time.perf_counter()
    data = open_data(folder, store / "index")
    entries = data.entries_of([e.file.signer for e in data.entries], mirrored=True)
    clips = load_prepared(entries, PreprocessConfig(), store, report=lambda _: None)
    held_out = np.arange(len(clips)) < len(clips) // 10
    training = Training(
        ModelConfig(),
        TrainConfig(epochs=1),
        train=clips.select(~held_out),
        validation=clips.select(held_out),
        num_words=SIGNS,
        seed=os.getpid(),
    )
    start_s = time.perf_counter() - start
    training.train.clips = training.train.clips.select(
        np.random.default_rng(os.getpid()).permutation(len(clips) // 2)[: 32 * STEPS]
    )
    training._train_epoch()
    barrier.wait()
    results.put((start_s, private_mb() - before))
    barrier.wait()


def measure(clips: int, place: Path) -> dict[str, Any]:
    """Measures one size."""
    folder, store = place / f"data{clips}", place / f"store{clips}"
    make_data(folder, clips)
    seconds: dict[str, float] = {}

    def timed(name: str, call: Any) -> Any:
        start = time.perf_counter()
        result = call()
        seconds[name] = time.perf_counter() - start
        return result

    timed("index", lambda: open_data(folder, store / "index"))
    data = timed("index_again", lambda: open_data(folder, store / "index"))
    entries = data.entries_of([e.file.signer for e in data.entries], mirrored=True)
    result = timed("prepare", lambda: load_prepared(entries, PreprocessConfig(), store, report=print))
    context = mp.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=work, args=(folder, store, barrier, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    starts, private = zip(*[results.get() for _ in workers], strict=True)
    for worker in workers:
        worker.join()
    usage = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return {
        "clips": len(result),
        "frames": len(result.frames_NF) - 1,
        **{f"{name}_s": value for name, value in seconds.items()},
        "trial_start_s": max(starts),
        "private_mb_a_worker": max(private),
        "prepared_mb": result.frames_NF.nbytes / 1e6,
        "peak_mb": max(resource.getrusage(who).ru_maxrss for who in usage) / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[1000, 10_000, 94_477])
    parser.add_argument(
        "--folder", type=Path, help="working folder; needs about 5 GB for the largest set [default: a temporary folder]"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per size instead of the table")
    options = parser.parse_args()
    if not options.json:
        print("| clips | frames | index s | index again s | prepare s | prepared MB | trial start s | private MB per worker |")
        print("|---|---|---|---|---|---|---|---|")
    for clips in options.clips:
        place = Path(tempfile.mkdtemp(dir=options.folder))
        try:
            row = measure(clips, place)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        if options.json:
            print(json.dumps({"schema": 1, **row}), flush=True)
            continue
        print(
            f"| {row['clips']:,} | {row['frames']:,} | {row['index_s']:.1f} | {row['index_again_s']:.2f} "
            f"| {row['prepare_s']:.1f} | {row['prepared_mb']:,.0f} | {row['trial_start_s']:.2f} "
            f"| {row['private_mb_a_worker']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
