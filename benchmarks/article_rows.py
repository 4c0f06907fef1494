"""Trains the article's settings with several seeds on one data set, for comparison with the article's own code.

    python benchmarks/article_rows.py DATA --held-out 1002 --eps 0 0.3 --seeds 5

Reference initialization, all frames in which something was detected, batch size 32, Adam with 3e-4, dropout 0.1, 50 epochs.
Prints one row per eps: mean (sd) over the seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from data_utils.normalize import PreprocessConfig
from data_utils.prepared import open_data, prepare
from data_utils.splits import split_signers
from model.config import ModelConfig, TrainConfig
from model.training import Training, fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--held-out", nargs="+", required=True, help="validation signers; all others train")
    parser.add_argument("--eps", nargs="+", type=float, default=[0.0, 0.3])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(1)

    data = open_data(options.data)
    split = split_signers(data.words_of, validation=options.held_out, test="none")
    config = PreprocessConfig(mask="detected")
    train = prepare(data, split.train, config, mirrored=False)
    validation = prepare(data, split.validation, config, mirrored=False)
    print(f"{options.data.name}: {len(train)} train, {len(validation)} held out, {len(data.words)} words")
    print("| eps | best NLL | last NLL | best accuracy | last accuracy | last 5 | last train loss |")
    print("|---|---|---|---|---|---|---|")
    for eps in options.eps:
        runs = []
        for seed in range(options.seeds):
            training = Training(
                ModelConfig(init="reference"),
                TrainConfig(label_smoothing=eps, epochs=options.epochs, patience=0),
                train=train,
                validation=validation,
                num_words=len(data.words),
                seed=seed,
            )
            history = fit(training)
            top1 = [record.val_top1 for record in history]
            runs.append(
                [
                    training.kept_epoch.val_loss,
                    history[-1].val_loss,
                    max(top1),
                    top1[-1],
                    np.mean(top1[-5:]),
                    history[-1].train_loss,
                ]
            )
        table = np.array(runs)
        cells = [f"{m:.3f} ({s:.3f})" for m, s in zip(table.mean(axis=0), table.std(axis=0, ddof=1), strict=True)]
        print(f"| {eps:g} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
