"""Draws the figure and prints the tables of a finished `article` study: four settings of label smoothing, several seeds each.

    islr-search run article --data DATA --set 'data.validation=[...]'
    python benchmarks/article_figure.py runs/article --output studies/article.png

Lines are means over the seeds, bands one standard deviation on either side. The tables go to stdout as Markdown.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import matplotlib
import yaml
from PIL import Image
from scipy import stats

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from model.objective import all_values
from model.record import EpochRecord
from search.trial.files import read_curves

COLORS = ["#3b3b3b", "#0072b2", "#d55e00", "#009e73"]  # distinguishable in print and with color blindness (Okabe and Ito 2008)
COLUMNS = {
    "best val_loss": "val_loss_best",
    "last val_loss": "val_loss_last",
    "best val_loss_ts": "val_loss_ts_best",
    "last val_loss_ts": "val_loss_ts_last",
    "best top1": "val_error_best",
    "last top1": "val_error_last",
    "top1, last five": "val_error_mean_last_5",
}

COMPARED = ("best val_loss", "last val_loss", "best val_loss_ts", "last val_loss_ts", "top1, last five")


def read_study(study: Path) -> dict[float, list[list[EpochRecord]]]:
    """The learning curves by label smoothing."""
    curves = {}
    for folder in sorted((study / "trials").iterdir()):
        eps = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["train"]["label_smoothing"]
        curves[float(eps)] = list(read_curves(folder / "curve.csv").values())
    return dict(sorted(curves.items()))


def draw(curves: dict[float, list[list[EpochRecord]]], output: Path) -> None:
    """Draws two panels: validation loss and accuracy by epoch."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for panel, (name, title) in zip(
        panels, [("val_loss", "plain validation loss (nats)"), ("val_top1", "validation accuracy")], strict=True
    ):
        for color, (eps, seeds) in zip(COLORS, curves.items(), strict=False):
            by_epoch = [[getattr(record, name) for record in epoch] for epoch in zip(*seeds, strict=True)]
            mean = [statistics.fmean(values) for values in by_epoch]
            spread = [statistics.stdev(values) for values in by_epoch]
            epochs = range(1, len(mean) + 1)
            panel.plot(epochs, mean, color=color, linewidth=1.6, label=f"label_smoothing {eps:g}")
            low = [m - s for m, s in zip(mean, spread, strict=True)]
            high = [m + s for m, s in zip(mean, spread, strict=True)]
            panel.fill_between(epochs, low, high, color=color, alpha=0.13, linewidth=0)
        panel.set_xlabel("epoch")
        panel.set_title(title, fontsize=10)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    panels[1].legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(output, dpi=110)
    Image.open(output).convert("RGB").quantize(96).save(output, optimize=True)  # a third of the bytes


def summary_table(curves: dict[float, list[list[EpochRecord]]]) -> list[str]:
    """A table of mean (sd) over the seeds."""
    head = ["label_smoothing", *COLUMNS, "last train_loss"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for eps, seeds in curves.items():
        values = [all_values(history) for history in seeds]
        cells = [f"{eps:g}"]
        for title, name in COLUMNS.items():
            numbers = [1 - one[name] if "top1" in title else one[name] for one in values]
            cells.append(f"{statistics.fmean(numbers):.3f} ({statistics.stdev(numbers):.3f})")
        cells.append(f"{statistics.fmean(history[-1].train_loss for history in seeds):.3f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def difference_table(curves: dict[float, list[list[EpochRecord]]]) -> list[str]:
    """A table of each setting minus no smoothing, seed by seed, with 95% intervals (paired t-test) widened for the number of
    settings (Bonferroni)."""
    chosen = {title: name for title, name in COLUMNS.items() if title in COMPARED}
    lines = ["| label_smoothing | " + " | ".join(chosen) + " |", "|" + "---|" * (1 + len(chosen))]
    values = {eps: [all_values(history) for history in seeds] for eps, seeds in curves.items()}
    for eps in [eps for eps in curves if eps != 0.0]:
        cells = [f"{eps:g} against 0"]
        for title, name in chosen.items():
            sign = -1 if "top1" in title else 1
            pair = [[sign * one[name] for one in values[either]] for either in (eps, 0.0)]
            interval = stats.ttest_rel(*pair).confidence_interval(1 - 0.05 / (len(curves) - 1))
            gap = statistics.fmean(pair[0]) - statistics.fmean(pair[1])
            cells.append(f"{gap:+.3f} [{interval.low:+.2f}, {interval.high:+.2f}]")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    curves = read_study(options.study)
    if options.output:
        draw(curves, options.output)
    print("\n".join([*summary_table(curves), "", *difference_table(curves)]))


if __name__ == "__main__":
    main()
