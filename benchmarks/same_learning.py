"""Compares what two training loops learn: several seeds of each, and the difference with its 95% interval.

    python benchmarks/same_learning.py DATA --held-out 1002             # the article's loop and ours
    python benchmarks/same_learning.py DATA --held-out 1002 --paths     # PyTorch's gradients and the kernel's
    python benchmarks/same_learning.py --synthetic --epochs 20 [--paths]

Both sides use the article's settings, mask and batch size 32; with the article's loop also its initialization. Two processes
share the runs. The article's loop draws other weights and another order of clips than ours: the interval is that of the
difference between two means (Student's t, 2 (n - 1) degrees of freedom). PyTorch and the kernel start from the same weights and
take the same batches, so that their runs are paired by seed (n - 1 degrees of freedom); only the dropout masks and rounding
differ.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent))

from article_loop import ArticleTraining

from data_utils.normalize import PreprocessConfig
from data_utils.prepared import ClipSet, open_data, prepare
from data_utils.splits import split_signers
from data_utils.synthetic.synthetic import synthesize
from model.config import ModelConfig, TrainConfig
from model.training import Training, fit

COLUMNS = ("best val_loss", "last val_loss", "last val_top1", "mean val_top1 of the last 5", "last train loss")


def load_split(folder: Path, held_out: list[str]) -> tuple[ClipSet, ClipSet, int]:
    """Training and held-out clips, and the number of words."""
    data = open_data(folder)
    split = split_signers(data.words_of, validation=held_out, test="none")
    config = PreprocessConfig(mask="detected")
    train, validation = (prepare(data, s, config, mirrored=False) for s in (split.train, split.validation))
    return train, validation, len(data.words)


@dataclass(frozen=True)
class Run:
    """One run of one side."""

    side: str
    seed: int
    eps: float
    epochs: int
    paths: bool
    folder: Path
    held_out: list[str]

    def figures(self) -> list[float]:
        """Trains, and returns the values of `COLUMNS`."""
        torch.set_num_threads(1)
        train, validation, words = load_split(self.folder, self.held_out)
        if self.side == "article":
            torch.manual_seed(self.seed)
            article = ArticleTraining(train, validation, words, eps=self.eps, workers=0)
            records = [article.run_epoch(test=False) for _ in range(self.epochs)]
            curve = [(record.val_nll, record.val_top1, record.train_loss) for record in records]
        else:
            ours = Training(
                ModelConfig() if self.paths else ModelConfig(init="reference"),
                TrainConfig(
                    epochs=self.epochs,
                    label_smoothing=self.eps,
                    patience=0,
                    kernel="torch" if self.side == "PyTorch" else "auto",
                ),
                train=train,
                validation=validation,
                num_words=words,
                seed=self.seed,
            )
            if self.side == "kernel" and not ours.choice.kernel:
                sys.exit(ours.choice.reason)
            curve = [(record.val_loss, record.val_top1, record.train_loss) for record in fit(ours)]
        loss, top1, train_loss = (list(column) for column in zip(*curve, strict=True))
        return [min(loss), loss[-1], top1[-1], float(np.mean(top1[-5:])), train_loss[-1]]


def print_table(sides: tuple[str, str], rows: np.ndarray, *, paired: bool) -> None:
    """The table of one eps. `rows[n, s]` are the figures of run n of side s."""
    print(f"| figure | {sides[0]}, mean (sd) | {sides[1]}, mean (sd) | difference, 95% interval | contains 0 |")
    print("|---|---|---|---|---|")
    for i, name in enumerate(COLUMNS):
        a, b = rows[:, 0, i], rows[:, 1, i]
        test = stats.ttest_rel(b, a) if paired else stats.ttest_ind(b, a)
        low, high = test.confidence_interval()
        texts = [f"{side.mean():.4f} ({side.std(ddof=1):.4f})" for side in (a, b)]
        contains = "NO" if low > 0 or high < 0 else "yes"  # both NaN if all pairs are equal
        print(f"| {name} | {texts[0]} | {texts[1]} | {b.mean() - a.mean():+.4f} [{low:+.4f}, {high:+.4f}] | {contains} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--held-out", nargs="+", default=[])
    parser.add_argument("--synthetic", action="store_true", help="a small synthetic set instead of DATA")
    parser.add_argument("--paths", action="store_true", help="compare PyTorch with the kernel instead of the article's loop")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--eps", type=float, nargs="+", default=[0.0, 0.1])
    options = parser.parse_args()
    if options.data is None and not options.synthetic:
        parser.error("name a data set, or use --synthetic")
    sides = ("PyTorch", "kernel") if options.paths else ("article", "ours")
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    with tempfile.TemporaryDirectory() as temporary:
        folder, held_out = options.data, options.held_out
        if options.synthetic:
            folder, held_out = Path(temporary) / "signs", ["9002", "9005"]
            synthesize(folder, clips=240, signs=5, signers=10, seed=0)
        train, validation, words = load_split(folder, held_out)
        name = "synthetic" if options.synthetic else folder.name
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            for eps in options.eps:
                runs = [
                    Run(side, seed, eps, options.epochs, options.paths, folder, held_out) for seed in seeds for side in sides
                ]
                rows = np.array(list(pool.map(Run.figures, runs))).reshape(len(seeds), 2, len(COLUMNS))
                print(f"\n{name}: {len(train)} + {len(validation)} clips, {words} words, eps {eps:g}, {options.epochs} epochs,")
                print(f"seeds {seeds[0]} to {seeds[-1]} on each side:\n")
                print_table(sides, rows, paired=options.paths)
                sys.stdout.flush()


if __name__ == "__main__":
    main()
