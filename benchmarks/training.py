"""Compares an epoch of the article's loop with one of ours: same clips, same machine, alternating within one run.

    python benchmarks/training.py [--json] [--epochs 2] [--clips 3881]

The set has the article's size, 3,881 + 200 clips, with realistic lengths (log-normal, median 23, sigma 1, 2 to 404 frames). The
article's side trains with PyTorch's default number of threads and two loading processes, validates, and tests clip by clip;
ours trains with one thread and validates. Each side runs in a separate process, so that CPU time (including children) and peak
memory can be separated. Ours runs several epochs for each of the article's; medians are compared.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import resource
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from article_loop import ArticleTraining

from data_utils.prepared import ClipSet, clip_set
from model.config import ModelConfig, TrainConfig
from model.training import Training

WORDS = 10
HELD_OUT = 200
OURS_PER_ARTICLE = 3


def realistic_clips(count: int, seed: int) -> ClipSet:
    """Random frames in clips of realistic lengths."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(np.round(np.exp(rng.normal(np.log(23), 1.0, count))), 2, 404).astype(int)
    clips = [rng.standard_normal((length, 260)).astype(np.float32) for length in lengths]
    return clip_set(clips, rng.integers(0, WORDS, count))


def cpu_seconds() -> float:
    """CPU time of this process and of its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def run_side(side: str, count: int, pipe: Connection) -> None:
    """The process of one side: trains an epoch for each message."""
    train, held_out = realistic_clips(count, 0), realistic_clips(HELD_OUT, 1)
    if side == "article":
        torch.manual_seed(0)
        article = ArticleTraining(train, held_out, WORDS)
        run: Any = article.run_epoch
    else:
        torch.set_num_threads(1)
        config = TrainConfig(epochs=1000, patience=0)
        ours = Training(ModelConfig(), config, train=train, validation=held_out, num_words=WORDS, seed=0)
        run = ours.run_epoch
    pipe.send(int(train.lengths_C.sum()))
    while pipe.recv():
        cpu, wall = cpu_seconds(), time.perf_counter()
        run()
        measured = {"cpu": cpu_seconds() - cpu, "wall": time.perf_counter() - wall}
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        pipe.send({**measured, "peak_mb": usage / 1024})


def start_side(side: str, count: int) -> tuple[Connection, int]:
    """Starts a side. Returns its pipe and the number of training frames."""
    here, there = mp.Pipe()
    mp.get_context("spawn").Process(target=run_side, args=(side, count, there), daemon=side == "ours").start()
    return here, here.recv()


def run_epoch(pipe: Connection) -> dict[str, float]:
    """Lets a side train an epoch. Returns its CPU and wall seconds and its peak memory."""
    pipe.send(True)
    return pipe.recv()


def gemm_rate() -> float:
    """GFLOP/s of one thread in a float32 product of 1024 x 1024 matrices, the best of 20."""
    torch.set_num_threads(1)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * 1024**3 / best / 1e9


def products_gflop(clips: ClipSet) -> float:
    """GFLOP of the matrix products of a training epoch, without padding.

    Three products each: forward, and backward for weights and inputs; two for the embedding, whose input needs no gradient.
    """
    config = ModelConfig()
    d = config.width
    layer = 4 * d * d + 2 * d * config.ffn_width
    per_frame = 2 * 260 * d + 3 * config.layers * layer
    cells = 3 * config.layers * 2 * d * int((clips.lengths_C**2).sum())
    return 2 * (per_frame * int(clips.lengths_C.sum()) + cells) / 1e9


def median(rows: list[dict[str, float]], key: str) -> float:
    """Median of one quantity."""
    return float(np.median([row[key] for row in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of the article's loop (ours: three times as many)")
    parser.add_argument("--clips", type=int, default=3881, help="training clips")
    options = parser.parse_args()

    article, frames = start_side("article", options.clips)
    ours, _ = start_side("ours", options.clips)
    run_epoch(ours)  # our warm-up; the article's first epoch is much longer and includes its own
    rows: dict[str, list[dict[str, float]]] = {"article": [], "ours": []}
    for _ in range(options.epochs):
        rows["article"].append(run_epoch(article))
        rows["ours"] += [run_epoch(ours) for _ in range(OURS_PER_ARTICLE)]
    rate = gemm_rate()
    for pipe in (article, ours):
        pipe.send(False)
    gflop = products_gflop(realistic_clips(options.clips, 0))
    cpu = {side: median(rows[side], "cpu") for side in rows}
    wall = {side: median(rows[side], "wall") for side in rows}
    peak = {side: max(row["peak_mb"] for row in rows[side]) for side in rows}
    result = {
        "schema": 1,
        "clips": options.clips,
        "frames": frames,
        "cpu_s": cpu,
        "wall_s": wall,
        "peak_mb": peak,
        "cpu_ratio": cpu["article"] / cpu["ours"],
        "wall_ratio": wall["article"] / wall["ours"],
        "gemm_gflops": rate,
        "gemm_gflop": gflop,
        "gemm_s": gflop / rate,
        "gemm_share": gflop / rate / cpu["ours"],
        "epochs": rows,
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{options.clips:,} + {HELD_OUT} clips, {frames:,} training frames, torch {torch.__version__}")
    print("| side | CPU s per epoch | wall s per epoch | peak MB | CPU s of each epoch |\n|---|---|---|---|---|")
    for side in rows:
        each = " ".join(f"{row['cpu']:.2f}" for row in rows[side])
        print(f"| {side} | {cpu[side]:.2f} | {wall[side]:.2f} | {peak[side]:,.0f} | {each} |")
    print(f"CPU ratio {result['cpu_ratio']:.1f}, wall ratio {result['wall_ratio']:.1f}")
    print(
        f"matrix products: {gflop:.0f} GFLOP per epoch, {gflop / rate:.2f} s at the measured {rate:.0f} GFLOP/s of one core: "
        f"{100 * result['gemm_share']:.0f}% of our CPU time"
    )


if __name__ == "__main__":
    main()
