"""What augmentation costs: a training epoch with each kind alone and with all together, against none.

    python benchmarks/augmentation.py [--rounds 5] [--clips 3881]

The set is that of `training.py`, made up and of the article's size. Each kind changes half of the clips (probability 0.5). All
variants take turns within a round, an epoch of one thread each, so that a slow minute of the machine hits all of them; a ratio
is the median over rounds of a variant's CPU seconds by those of `none` in the same round. Warping and cropping change how many
frames an epoch has: the column `frames` says by how much.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from training import HELD_OUT, WORDS, clips_like_real_ones

from data_utils.augment import AugmentConfig, augmented_batches
from data_utils.prepared import ClipSet
from model.config import ModelConfig, TrainConfig
from model.training import Training

KINDS = ("flip", "crop", "warp", "affine", "drop_frames", "drop_parts", "noise")
PROBABILITY = 0.5


def variants() -> dict[str, AugmentConfig]:
    """Nothing, each kind alone, all together."""
    alone = {kind: AugmentConfig(**{kind: PROBABILITY}) for kind in KINDS}
    by_part = {"affine by parts": AugmentConfig(affine=PROBABILITY, affine_scope="parts")}
    return {"none": AugmentConfig(), **alone, **by_part, "all": AugmentConfig(**dict.fromkeys(KINDS, PROBABILITY))}


def frames_an_epoch(train: ClipSet, config: AugmentConfig) -> int:
    """Frames of one epoch's batches, without padding."""
    order, augment = np.random.default_rng(0), np.random.default_rng(1)
    batches = augmented_batches(train, TrainConfig().batch_size, config, order_rng=order, augment_rng=augment)
    return sum(int((batch.source_M > 0).sum()) for batch in batches)


def epoch(training: Training) -> float:
    """CPU seconds of a training epoch, validation included."""
    began = time.process_time()
    training.run_epoch()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=3881, help="training clips")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, held_out = clips_like_real_ones(options.clips, 0), clips_like_real_ones(HELD_OUT, 1)
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
    frames = {name: frames_an_epoch(train, training.augment) for name, training in trainings.items()}
    epoch(trainings["none"])  # warms up
    seconds: dict[str, list[float]] = {name: [] for name in trainings}
    for _ in range(options.rounds):
        for name, training in trainings.items():
            seconds[name].append(epoch(training))

    print(f"{options.clips:,} + {HELD_OUT} clips, {frames['none']:,} training frames, torch {torch.__version__}")
    print("| augmentation | CPU s an epoch, median | ratio to none | frames | each round, CPU s |\n|---|---|---|---|---|")
    for name, rows in seconds.items():
        ratio = np.median(np.array(rows) / np.array(seconds["none"]))
        each = " ".join(f"{row:.2f}" for row in rows)
        print(f"| {name} | {np.median(rows):.2f} | {ratio:.2f} | {frames[name] / frames['none']:.2f} | {each} |")


if __name__ == "__main__":
    main()
