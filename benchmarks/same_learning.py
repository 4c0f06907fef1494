"""Compares what our loop and the article's learn: several seeds of each, and the difference with its 95% interval.

    python benchmarks/same_learning.py DATA --held-out 1002 [--seeds 10] [--epochs 50]
    python benchmarks/same_learning.py --synthetic [--seeds 10] [--epochs 20]

Both sides use the article's settings, initialization, mask and batch size 32. Two processes share the runs. The interval is
that of the difference between two means of n runs each, from Student's t with 2 (n - 1) degrees of freedom.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from article_loop import ArticleTraining

from data_utils.normalize import PreprocessConfig
from data_utils.prepared import ClipSet, open_data, prepare
from data_utils.splits import split_signers
from data_utils.synthetic.synthetic import synthesize
from model.config import ModelConfig, TrainConfig
from model.training import Training, fit

T_975 = {5: 2.306, 10: 2.101, 20: 2.024}
"""97.5% quantiles of Student's t by the number of runs per side."""

COLUMNS = ("best val_loss", "last val_loss", "last val_top1", "mean val_top1 of the last 5", "last train loss")


def load_split(folder: Path, held_out: list[str]) -> tuple[ClipSet, ClipSet, int]:
    """Training and held-out clips, and the number of words."""
    data = open_data(folder)
    split = split_signers(data.words_of, validation=held_out, test="none")
    config = PreprocessConfig(mask="detected")
    train, validation = (prepare(data, s, config, mirrored=False) for s in (split.train, split.validation))
    return train, validation, len(data.words)


def one_run(task: tuple[str, int, Path, list[str], int, float]) -> list[float]:
    """The metrics of one run of one side."""
    side, seed, folder, held_out, epochs, eps = task
    torch.set_num_threads(1)
    train, validation, words = load_split(folder, held_out)
    if side == "article":
        torch.manual_seed(seed)
        article = ArticleTraining(train, validation, words, eps=eps, workers=0)
        records = [article.run_epoch(test=False) for _ in range(epochs)]
        curve = [(record.val_nll, record.val_top1, record.train_loss) for record in records]
    else:
        ours = Training(
            ModelConfig(init="reference"),
            TrainConfig(epochs=epochs, label_smoothing=eps, patience=0),
            train=train,
            validation=validation,
            num_words=words,
            seed=seed,
        )
        curve = [(record.val_loss, record.val_top1, record.train_loss) for record in fit(ours)]
    loss, top1, train_loss = (list(column) for column in zip(*curve, strict=True))
    return [min(loss), loss[-1], top1[-1], float(np.mean(top1[-5:])), train_loss[-1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--held-out", nargs="+", default=[])
    parser.add_argument("--synthetic", action="store_true", help="a small synthetic set instead of DATA")
    parser.add_argument("--seeds", type=int, default=10, choices=T_975)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--eps", type=float, default=0.1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, held_out = options.data, options.held_out
        if options.synthetic:
            folder, held_out = Path(temporary) / "signs", ["9002", "9005"]
            synthesize(folder, clips=240, signs=5, signers=10, seed=0)
        sides = ("article", "ours")
        tasks = [(side, seed, folder, held_out, options.epochs, options.eps) for seed in range(options.seeds) for side in sides]
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            rows = np.array(list(pool.map(one_run, tasks)))
        train, validation, words = load_split(folder, held_out)
    article, ours = rows[0::2], rows[1::2]
    print(
        f"{'synthetic' if options.synthetic else folder.name}: {len(train)} + {len(validation)} clips, {words} words, ", end=""
    )
    print(f"eps {options.eps:g}, {options.epochs} epochs, {options.seeds} seeds per side")
    print("| figure | article, mean (sd) | ours, mean (sd) | difference, 95% interval | contains 0 |\n|---|---|---|---|---|")
    for i, name in enumerate(COLUMNS):
        a, b = article[:, i], ours[:, i]
        half = T_975[options.seeds] * float(np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / options.seeds))
        gap = float(b.mean() - a.mean())
        texts = [f"{side.mean():.4f} ({side.std(ddof=1):.4f})" for side in (a, b)]
        contains = "yes" if abs(gap) <= half else "NO"
        print(f"| {name} | {texts[0]} | {texts[1]} | {gap:+.4f} [{gap - half:+.4f}, {gap + half:+.4f}] | {contains} |")


if __name__ == "__main__":
    main()
