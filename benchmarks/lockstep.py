"""Measures how many trials an hour are trained: by one worker, by several, and in lockstep, with K trials in one stack.

    python benchmarks/lockstep.py [--device cuda] [--clips 3881] [--rounds 3] [--slots 1 4 8 32 64] [--workers 2 4 8] [--json]
    python benchmarks/lockstep.py --count [--slots 1 8 64] [--narrow] [--json]

Trials have the article's network and 50 epochs on a set of the article's size (see `training.py`). They differ in learning
rate, dropout and label smoothing, and share the order of the clips. Each side is a process of its own with one thread. In each
round every side trains one epoch, so that a slow minute of the machine affects all of them.

`--count` needs no GPU: it trains on a pretended one (`tests/pretended_gpu.py`) and counts what a step would ask of a GPU: its
operators, the bytes that they move, copies and waits. From these it estimates the time of a step. It counts the code of the
current folder (with `PYTHONPATH=.`), also that of an earlier version without lockstep.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1] / "tests"))

from sides import WORDS, Side, Variant, realistic_clips

from data_utils.prepared import ClipSet
from model.config import ModelConfig, TrainConfig
from model.training import Training

with contextlib.suppress(ImportError):  # an earlier version can be counted
    from data_utils.batches import NARROW
    from model.device_clips import DeviceClips
    from model.lockstep import run_epochs
    from model.training import SharedOrder

EPOCHS = 50
"""Epochs of a trial, as in the default study."""

BATCH = TrainConfig().batch_size
STEPS = -(-3881 // BATCH)
"""Steps of an epoch of the article's set."""


@dataclass(frozen=True)
class Card:
    """A GPU, for estimates."""

    name: str
    bytes_s: float
    flop_s: float
    """Float32 without tensor cores."""


CARDS = (Card("H200", 4.8e12, 67e12), Card("T4", 0.32e12, 8.1e12))
"""Source: NVIDIA's data sheets."""

HOST_US, DEVICE_US, WAIT_US = 8.0, 2.0, 20.0
"""Assumed: microseconds of the host per operator (Python, autograd, launch), of the GPU per operator at least, and per wait."""

SHARE = 0.5
"""Assumed: the share of the GPU's bandwidth and arithmetic that the operators reach."""


def make(slots: int, train: ClipSet, held: ClipSet | None, device: str, kernel: str, model: ModelConfig) -> list[Training]:
    """Trials of one network, before their first epoch."""
    made = []
    for number in range(slots):
        settings = {"lr": 1e-4 * (1 + number % 8), "label_smoothing": 0.1 * (number % 4), "kernel": kernel}
        config = TrainConfig(epochs=1_000_000, patience=0, **settings)
        dropout = ModelConfig(**{**vars(model), "dropout": 0.05 * (1 + number % 6)})
        order = {"order": SharedOrder(0)} if slots > 1 else {}
        data = {"train": train, "validation": held, "num_words": WORDS}
        made.append(Training(dropout, config, **data, seed=number, device=device, **order))
    return made


def epoch_of(trainings: Sequence[Training], device: str) -> Callable[[], object]:
    """What trains the next epoch of all trainings, in one stack if there are several, and waits for its end."""

    def train() -> None:
        if len(trainings) == 1:
            trainings[0].run_epoch()
        else:
            run_epochs(trainings, len(trainings))
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return train


@dataclass(frozen=True)
class Trials:
    """A loop of `sides.Side` that trains trials in one stack."""

    slots: int
    device: str
    kernel: str = "torch"
    narrow: bool = False
    threads: int | None = 1

    def start(self, variant: Variant) -> Callable[[], object]:
        """Makes the trials. Returns what trains one epoch of them."""
        torch.set_num_threads(1)
        if self.narrow:
            DeviceClips.rule = NARROW
        train, held = variant.sets()
        return epoch_of(make(self.slots, train, held, self.device, self.kernel, variant.model_config), self.device)


def measure(
    device: str, clips: int, rounds: int, slots: Sequence[int], workers: Sequence[int], narrow: bool = False
) -> dict[str, Any]:
    """Seconds of an epoch of each side, and the trials an hour that follow."""
    variant = Variant(clips)
    by_torch = Trials(1, device, narrow=narrow)
    loops = {"one worker, PyTorch": [by_torch]} | {f"{count} workers, PyTorch": [by_torch] * count for count in workers}
    if device == "cpu":
        by_kernel = Trials(1, device, "auto")
        loops |= {"one worker, kernel": [by_kernel]} | {f"{count} workers, kernel": [by_kernel] * count for count in workers}
    loops |= {f"lockstep, K = {count}": [Trials(count, device, narrow=narrow)] for count in slots if count > 1}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in loops}
    load = os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        sides = {name: [stack.enter_context(Side(loop)) for loop in each] for name, each in loops.items()}
        for round_number in range(rounds + 1):
            for name, each in sides.items():
                start = time.perf_counter()
                for side in each:
                    side.begin(variant, 1)
                measured = [side.finish() for side in each]
                wall = time.perf_counter() - start
                trials = sum(loop.slots for loop in loops[name])
                cpu = sum(row["cpu"] for row in measured) / trials
                if round_number > 0:  # the first warms up
                    rows[name].append({"wall": wall / trials, "cpu": cpu, "peak_mb": sum(row["peak_mb"] for row in measured)})
    medians = {name: float(np.median([row["wall"] for row in each])) for name, each in rows.items()}
    return {
        "schema": 1,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "clips": clips,
        "load_before": load,
        "wall_s": medians,
        "wall_min_s": {name: min(row["wall"] for row in each) for name, each in rows.items()},
        "cpu_s": {name: float(np.median([row["cpu"] for row in each])) for name, each in rows.items()},
        "peak_mb": {name: max(row["peak_mb"] for row in each) for name, each in rows.items()},
        "trials_an_hour": {name: 3600 / (EPOCHS * wall) for name, wall in medians.items()},
        "epochs": rows,
    }


def print_measured(result: dict[str, Any]) -> None:
    """The table for people."""
    first = next(iter(result["wall_s"]))
    print(
        f"{result['clips']:,} clips, {result['device']}, torch {torch.__version__}, load {result['load_before']:.1f} before\n"
    )
    print(f"| side | s per trial and epoch | least | CPU s | peak MB | trials of {EPOCHS} epochs an hour | of one worker's |")
    print("|---|---|---|---|---|---|---|")
    for name, wall in result["wall_s"].items():
        print(
            f"| {name} | {wall:.3g} | {result['wall_min_s'][name]:.3g} | {result['cpu_s'][name]:.3g} "
            f"| {result['peak_mb'][name]:,.0f} | {result['trials_an_hour'][name]:,.0f} | {result['wall_s'][first] / wall:.2f} |"
        )


def counted(slots: int, clips: int) -> dict[str, float]:
    """What one epoch, the second, asks of a GPU, without validation."""
    from pretended_gpu import pretended_gpu

    with pretended_gpu(memory=1 << 50) as gpu:
        epoch = epoch_of(make(slots, realistic_clips(clips, 0), None, "cuda", "torch", ModelConfig()), "cpu")
        epoch()  # makes what the optimizer keeps
        with gpu.counting() as counts:
            epoch()
        return {
            "operators": counts.launches.total(),
            "bytes": counts.bytes_moved,
            "flop": counts.flop,
            "copies": counts.to_device + counts.to_host,
            "bytes_copied": counts.bytes_copied,
            "waits": counts.waits.total(),
            "peak_mb": gpu.peak / 2**20,
        }


def count(slots: int, steps: int) -> dict[str, float]:
    """The same for one step, and what an epoch adds to its steps."""
    few, many = counted(slots, BATCH), counted(slots, steps * BATCH)
    step = {name: (many[name] - few[name]) / (steps - 1) for name in few if not name.endswith("_mb")}
    epoch = {f"epoch_{name}": few[name] - step[name] for name in ("operators", "copies", "waits")}
    return {"slots": slots, **step, **epoch, "peak_mb": many["peak_mb"]}


def estimate(row: dict[str, float], card: Card) -> dict[str, float]:
    """Milliseconds of a step on a GPU, and trials an hour by one process and by eight that share the GPU."""
    operators, waits = (row[name] + row[f"epoch_{name}"] / STEPS for name in ("operators", "waits"))
    host = (operators * HOST_US + waits * WAIT_US) / 1e6
    device = operators * DEVICE_US / 1e6 + row["bytes"] / (SHARE * card.bytes_s) + row["flop"] / (SHARE * card.flop_s)
    hour = 3600 * row["slots"] / (EPOCHS * STEPS)
    step = max(host, device)
    return {"host_ms": 1e3 * host, "device_ms": 1e3 * device, "one": hour / step, "eight": hour / max(host / 8, device)}


def print_counted(rows: Sequence[dict[str, Any]]) -> None:
    """The tables for people."""
    print("| K | operators a step | per trial | MB moved | GFLOP | copies | KB copied | waits | an epoch adds | peak MB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['slots']} | {row['operators']:.0f} | {row['operators'] / row['slots']:.1f} | {row['bytes'] / 1e6:,.0f} "
            f"| {row['flop'] / 1e9:.2f} | {row['copies']:.1f} | {row['bytes_copied'] / 1e3:,.0f} | {row['waits']:.1f} "
            f"| {row['epoch_operators']:.0f} operators, {row['epoch_waits']:.0f} waits | {row['peak_mb']:,.0f} |"
        )
    for card in CARDS:
        print(f"\nEstimate for {card.name}:\n")
        print("| K | ms a step, host | GPU | trials an hour, one process | of K = 1 | eight processes |")
        print("|---|---|---|---|---|---|")
        for row in rows:
            guess = row["estimates"][card.name]
            print(
                f"| {row['slots']} | {guess['host_ms']:.2f} | {guess['device_ms']:.2f} | {guess['one']:,.0f} "
                f"| {guess['one'] / rows[0]['estimates'][card.name]['one']:.1f} | {guess['eight']:,.0f} |"
            )
    print(
        f"\nAssumed: {HOST_US:.0f} us of the host and {DEVICE_US:.0f} us of the GPU per operator, {WAIT_US:.0f} us per wait; "
        f"{SHARE:.0%} of the card's bandwidth and of its float32 arithmetic; host and GPU work at the same time. {STEPS} steps "
        "an epoch, without validation."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--count", action="store_true", help="count operators, bytes and waits on a pretended GPU")
    parser.add_argument("--clips", type=int, default=3881, help="training clips")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="steps to count")
    parser.add_argument("--narrow", action="store_true", help="narrow blocks on a GPU too, as on the CPU")
    parser.add_argument("--slots", type=int, nargs="+", help="trials in one stack")
    parser.add_argument("--workers", type=int, nargs="*", help="processes at once")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the tables")
    options = parser.parse_args()
    on_gpu = options.device.startswith("cuda")
    torch.set_num_threads(1)
    if options.count:
        if options.narrow:
            DeviceClips.rule = NARROW
        rows: list[dict[str, Any]] = [count(slots, options.steps) for slots in options.slots or [1, 8, 64]]
        for row in rows:
            row["estimates"] = {card.name: estimate(row, card) for card in CARDS}
        print(json.dumps({"schema": 1, "rows": rows})) if options.json else print_counted(rows)
        return
    slots = options.slots or ([1, 4, 8, 32, 64] if on_gpu else [1, 4, 8])
    workers = ([2, 4, 8] if on_gpu else [2]) if options.workers is None else options.workers
    result = measure(options.device, options.clips, options.rounds, slots, workers, options.narrow)
    print(json.dumps(result)) if options.json else print_measured(result)


if __name__ == "__main__":
    main()
