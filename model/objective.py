"""What to look at in a learning curve: which number, and how a curve of it becomes one. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, get_args

from model.record import EpochRecord

Metric = Literal["val_loss", "val_loss_ts", "val_error"]
Reduce = Literal["best", "last", "mean_last_5"]

_LAST = 5  # epochs of `mean_last_5`


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One number for a training, from its epochs. Lower is better. A history holds an epoch or more."""

    metric: Metric = "val_loss"
    """A field or property of `EpochRecord`."""

    reduce: Reduce = "best"
    """The best epoch's value, the last epoch's, or the mean over the last five epochs, or over all where there are fewer."""

    def of(self, record: EpochRecord) -> float:
        """The metric of one epoch."""
        return float(getattr(record, self.metric))

    def value(self, history: Sequence[EpochRecord]) -> float:
        """The metric of a whole training."""
        if self.reduce == "mean_last_5":
            return fmean(self.of(record) for record in history[-_LAST:])
        return self.of(self.epoch(history))

    def epoch(self, history: Sequence[EpochRecord]) -> EpochRecord:
        """The epoch that speaks for the training, and whose weights are kept.

        The best one: the first of equals; where they differ in val_loss, as many do whose val_error is the same, the one with
        the lower. Else the last.
        """
        if self.reduce == "best":
            return min(history, key=lambda record: (self.of(record), record.val_loss))
        return history[-1]

    def so_far(self, history: Sequence[EpochRecord]) -> float:
        """What a pruner is told after the latest epoch: that epoch's metric for `best`, else the value up to here."""
        return self.of(history[-1]) if self.reduce == "best" else self.value(history)


def all_values(history: Sequence[EpochRecord]) -> dict[str, float]:
    """The value under every metric and every reduction, by names like `val_error_last`.

    A trial records them all, because what is found about label smoothing turns on the choice. Plain cross-entropy leans to
    small eps: a smoothed model is less sure of itself, and pays for that on clips that it gets right. A fitted temperature
    takes that out, and accuracy never had it; over the last epochs, when a model without smoothing has grown too sure, either
    may say the opposite.
    """
    objectives = [Objective(metric=metric, reduce=reduce) for metric in get_args(Metric) for reduce in get_args(Reduce)]
    return {f"{one.metric}_{one.reduce}": one.value(history) for one in objectives}


def epochs_without_gain(history: Sequence[EpochRecord]) -> int:
    """Epochs since one of the metrics last had a new lowest value; 0 before the first epoch."""
    if not history:
        return 0
    curves = [[Objective(metric=metric).of(record) for record in history] for metric in get_args(Metric)]
    return len(history) - 1 - max(curve.index(min(curve)) for curve in curves)
