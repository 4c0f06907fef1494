"""Measures the cost of augmentation: a training epoch with each kind alone, with all together and with none.

    python benchmarks/augmentation.py [--rounds 5] [--clips 3881]

Uses the synthetic set of `training.py`, of the article's size. Each kind changes half of the clips (probability 0.5). In each
round every variant trains one epoch on one thread, so that a slow minute of the machine affects all of them. A ratio is the
median over the rounds of a variant's CPU seconds divided by those of `none` in the same round. Warping and cropping change the
number of frames per epoch: see the column `frames`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from sides import HELD_OUT, WORDS, realistic_clips

from data_utils.augment import AugmentConfig, augmented_batches
from data_utils.prepared import ClipSet
from model.config import ModelConfig, TrainConfig
from model.training import Training

KINDS = ("flip", "crop", "warp", "affine", "drop_frames", "drop_parts", "noise")
PROBABILITY = 0.5


def variants() -> dict[str, AugmentConfig]:
    """The configurations: none, each kind alone, all together."""
    alone = {kind: AugmentConfig(**{kind: PROBABILITY}) for kind in KINDS}
    by_part = {"affine by parts": AugmentConfig(affine=PROBABILITY, affine_scope="parts")}
    return {"none": AugmentConfig(), **alone, **by_part, "all": AugmentConfig(**dict.fromkeys(KINDS, PROBABILITY))}


def frames_per_epoch(train: ClipSet, config: AugmentConfig) -> int:
    """Frames of one epoch's batches, without padding."""
    order, augment = np.random.default_rng(0), np.random.default_rng(1)
    batches = augmented_batches(train, TrainConfig().batch_size, config, order_rng=order, augment_rng=augment)
    return sum(int((batch.source_M > 0).sum()) for batch in batches)


def epoch(training: Training) -> float:
    """CPU seconds of a training epoch including validation."""
    start = time.process_time()
    training.run_epoch()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=3881, help="training clips")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, held_out = realistic_clips(options.clips, 0), realistic_clips(HELD_OUT, 1)
    trainings = {
        name: Training(
            ModelConfig(),
            TrainConfig(epochs=1000, patience=0),
            config,
            train=train,
            validation=held_out,
            num_words=WORDS,
            seed=0,
        )
        for name, config in variants().items()
    }
    frames = {name: frames_per_epoch(train, training.augment) for name, training in trainings.items()}
    epoch(trainings["none"])  # warms up
    seconds: dict[str, list[float]] = {name: [] for name in trainings}
    for _ in range(options.rounds):
        for name, training in trainings.items():
            seconds[name].append(epoch(training))

    print(f"{options.clips:,} + {HELD_OUT} clips, {frames['none']:,} training frames, torch {torch.__version__}")
    print("| augmentation | CPU s per epoch, median | ratio to none | frames | CPU s of each round |\n|---|---|---|---|---|")
    for name, rows in seconds.items():
        ratio = np.median(np.array(rows) / np.array(seconds["none"]))
        each = " ".join(f"{row:.2f}" for row in rows)
        print(f"| {name} | {np.median(rows):.2f} | {ratio:.2f} | {frames[name] / frames['none']:.2f} | {each} |")


if __name__ == "__main__":
    main()
