"""Compares an epoch of the article's loop with one of ours, by PyTorch and by the kernel: same clips, alternating in one run.

    python benchmarks/training.py [--json] [--epochs 3] [--clips 3881]

The set has the article's size, 3,881 + 200 clips, with realistic lengths (log-normal, median 23, sigma 1, 2 to 404 frames). The
article's side trains with PyTorch's default number of threads and two loading processes, and once more with one thread and
without loading processes; it validates, and tests clip by clip. Ours trains with one thread and validates. Each round has one
epoch of the article's sides and several of ours. Further tables: two workers at once, other sizes of batches and models.

Other programs only ever add to a time. Medians are typical, and minima are closest to an idle machine: both are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from sides import HELD_OUT, Loop, Side, Variant, epochs_per_hour

from model.config import TrainConfig
from model.paths import choose_path

LOOPS = {
    "article": (Loop("article", threads=None), 1),
    "article, one thread": (Loop("article"), 1),
    "ours, PyTorch": (Loop("torch"), 3),
    "ours": (Loop("kernel"), 6),
}
"""By the name of a side in the JSON output: its loop, and how many epochs it trains in each round."""

OURS = ("ours, PyTorch", "ours")
TITLES = {"ours": "ours, kernel"}
SMALL_EPOCHS = 50
"""Epochs per measurement of the set of 20 clips."""

Rows = dict[str, list[dict[str, float]]]


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


def over(rows: Rows, key: str, reduce: Callable[[list[float]], Any]) -> dict[str, float]:
    """One quantity of each side, reduced over its measurements."""
    return {side: float(reduce([row[key] for row in measured])) for side, measured in rows.items()}


def measure_epochs(sides: Mapping[str, Side], variant: Variant, rounds: int) -> tuple[Rows, list[float]]:
    """Epochs of every side in turn, and the rate of products between them."""
    for name in OURS:
        sides[name].run(variant)  # warm-up; the article's first epoch is long and includes its own
    rows: Rows = {name: [] for name in sides}
    rates = []
    for _ in range(rounds):
        for name, side in sides.items():
            rows[name] += [side.run(variant) for _ in range(LOOPS[name][1])]
            rates.append(gemm_rate())
    return rows, rates


def measure_workers(sides: Sequence[Side], variant: Variant, rounds: int, epochs: int) -> dict[str, Any]:
    """Epochs per hour of one of two workers and of both at once, in turn."""
    sides[1].run(variant)
    one, two = [], []
    for number in range(2 * rounds):
        one.append(epochs_per_hour([sides[number % 2]], variant, epochs))
        two.append(epochs_per_hour(sides, variant, epochs))
    ratios = {"ratio": float(np.median(two) / np.median(one)), "ratio_of_best": max(two) / max(one)}
    return {"one": one, "two": two, **ratios}


def measure_variant(
    sides: Mapping[str, Side], name: str, variant: Variant, *, epochs: int, rounds: int, rate: float
) -> dict[str, Any]:
    """CPU seconds per epoch of each of our loops, in turn. `epochs`: of each measurement."""
    rows: Rows = {loop: [] for loop in OURS}
    for loop in OURS:
        sides[loop].run(variant, epochs)
    for _ in range(rounds):
        for loop in OURS:
            rows[loop] += [sides[loop].run(variant, epochs) for _ in range(LOOPS[loop][1] // 3)]
    median, least = over(rows, "cpu", np.median), over(rows, "cpu", min)
    return {
        "variant": name,
        "cpu_s": median,
        "cpu_ratio": median["ours, PyTorch"] / median["ours"],
        "cpu_ratio_of_min": least["ours, PyTorch"] / least["ours"],
        "gemm_share": variant.products_gflop() / rate / median["ours"],
    }


def measure(clips: int, rounds: int) -> dict[str, Any]:
    """Everything, as the JSON output has it."""
    load = os.getloadavg()[0]
    variant = Variant(clips)
    choice = choose_path(variant.model_config, TrainConfig(), torch.device("cpu"))
    if choice.library is None:
        sys.exit(choice.reason)
    with contextlib.ExitStack() as stack:
        sides = {name: stack.enter_context(Side(loop)) for name, (loop, _) in LOOPS.items()}
        rows, rates = measure_epochs(sides, variant, rounds)
        rate = max(rates)
        seconds = {name: stack.enter_context(Side(LOOPS[name][0])) for name in OURS}
        workers = {name: measure_workers((sides[name], seconds[name]), variant, rounds, LOOPS[name][1]) for name in OURS}
        variants = [
            measure_variant(sides, "20 clips in all", Variant(20), epochs=SMALL_EPOCHS, rounds=rounds, rate=rate),
            *(
                measure_variant(sides, name, one, epochs=1, rounds=rounds, rate=rate)
                for name, one in (
                    ("batches of 128 clips", Variant(clips, batch_size=128)),
                    ("width 32, feed-forward 128", Variant(clips, width=32)),
                    ("width 128, feed-forward 512", Variant(clips, width=128)),
                )
            ),
        ]
    cpu, least = over(rows, "cpu", np.median), over(rows, "cpu", min)
    wall, bound_s = over(rows, "wall", np.median), variant.products_gflop() / rate
    return {
        "schema": 1,
        "clips": clips,
        "held_out": min(clips, HELD_OUT),
        "frames": int(variant.sets()[0].lengths_C.sum()),
        "kernel": choice.kernel,
        "load_before": load,
        "cpu_s": cpu,
        "cpu_min_s": least,
        "wall_s": wall,
        "peak_mb": over(rows, "peak_mb", max),
        "cpu_ratio": cpu["article"] / cpu["ours"],
        "wall_ratio": wall["article"] / wall["ours"],
        "cpu_ratios": {name: cpu[name] / cpu["ours"] for name in cpu},
        "cpu_ratios_of_min": {name: least[name] / least["ours"] for name in least},
        "gemm_gflops": rate,
        "gemm_gflops_each": rates,
        "gemm_gflop": variant.products_gflop(),
        "gemm_s": bound_s,
        "gemm_share": bound_s / cpu["ours"],
        "gemm_shares": {name: bound_s / cpu[name] for name in cpu},
        "gemm_shares_of_min": {name: bound_s / least[name] for name in least},
        "epochs": rows,
        "workers": workers,
        "variants": variants,
    }


def print_tables(result: dict[str, Any]) -> None:
    """The tables for people."""
    print(
        f"{result['clips']:,} + {result['held_out']} clips, {result['frames']:,} training frames, torch {torch.__version__}, "
        f"kernel {result['kernel']}, load {result['load_before']:.1f} before the start\n"
    )
    print(
        "| side | CPU s per epoch | wall s | peak MB | CPU, ratio to the kernel's | of the minima | share of the GEMM bound |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, cpu in result["cpu_s"].items():
        print(
            f"| {TITLES.get(name, name)} | {cpu:.2f} | {result['wall_s'][name]:.2f} | {result['peak_mb'][name]:,.0f} "
            f"| {result['cpu_ratios'][name]:.1f} | {result['cpu_ratios_of_min'][name]:.1f} "
            f"| {100 * result['gemm_shares'][name]:.0f}% |"
        )
    print("\nCPU seconds of each epoch:\n")
    for name, rows in result["epochs"].items():
        each = " ".join(f"{row['cpu']:.2f}" for row in rows)
        print(f"- {TITLES.get(name, name)}: {each}")
    rates = result["gemm_gflops_each"]
    print(
        f"\nMatrix products: {result['gemm_gflop']:.0f} GFLOP per epoch, {result['gemm_s']:.2f} s at {max(rates):.0f} GFLOP/s, "
        f"the best rate of one core ({len(rates)} measurements between the epochs, from {min(rates):.0f}). By the minima, the "
        f"kernel's share of this bound is {100 * result['gemm_shares_of_min']['ours']:.0f}%.\n"
    )
    print("| loop | epochs per hour, one worker | two at once | ratio | of the best |\n|---|---|---|---|---|")
    for name, row in result["workers"].items():
        one, two = (np.median(row[key]) for key in ("one", "two"))
        print(f"| {TITLES.get(name, name)} | {one:,.0f} | {two:,.0f} | {row['ratio']:.2f} | {row['ratio_of_best']:.2f} |")
    print("\n| variant | PyTorch, CPU s per epoch | kernel | ratio | of the minima | kernel's share of the GEMM bound |")
    print("|---|---|---|---|---|---|")
    for row in result["variants"]:
        torch_s, kernel_s = row["cpu_s"]["ours, PyTorch"], row["cpu_s"]["ours"]
        print(
            f"| {row['variant']} | {torch_s:.3g} | {kernel_s:.3g} | {row['cpu_ratio']:.1f} "
            f"| {row['cpu_ratio_of_min']:.1f} | {100 * row['gemm_share']:.0f}% |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the tables")
    parser.add_argument(
        "--epochs", type=int, default=3, help="rounds: epochs of the article's loop (ours: several times as many)"
    )
    parser.add_argument("--clips", type=int, default=3881, help="training clips")
    options = parser.parse_args()
    result = measure(options.clips, options.epochs)
    if options.json:
        print(json.dumps(result))
    else:
        print_tables(result)


if __name__ == "__main__":
    main()
