"""The value of a training: which metric, and how its learning curve is reduced to one number. Imports nothing heavy."""

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
    """Reduces the epochs of a training to one number. Lower is better. A history holds at least one epoch."""

    metric: Metric = "val_loss"
    """A field or property of `EpochRecord`."""

    reduce: Reduce = "best"
    """The value of the best epoch, of the last epoch, or the mean over the last five epochs (over all if there are fewer)."""

    def metric_of(self, record: EpochRecord) -> float:
        """The metric of one epoch."""
        return float(getattr(record, self.metric))

    def value(self, history: Sequence[EpochRecord]) -> float:
        """The value of a whole training."""
        if self.reduce == "mean_last_5":
            return fmean(self.metric_of(record) for record in history[-_LAST:])
        return self.metric_of(self.kept_epoch(history))

    def kept_epoch(self, history: Sequence[EpochRecord]) -> EpochRecord:
        """The epoch whose weights are kept: with `best` the one with the lowest metric, otherwise the last.

        Ties, which are common for val_error, go to the lower val_loss, then to the earlier epoch.
        """
        if self.reduce == "best":
            return min(history, key=lambda record: (self.metric_of(record), record.val_loss))
        return history[-1]

    def intermediate_value(self, history: Sequence[EpochRecord]) -> float:
        """What the pruner gets after the latest epoch: with `best` that epoch's metric, otherwise the value so far."""
        return self.metric_of(history[-1]) if self.reduce == "best" else self.value(history)


def all_values(history: Sequence[EpochRecord]) -> dict[str, float]:
    """The value for every metric and every reduction, by names such as `val_error_last`.

    Every trial records all of them because conclusions about label smoothing depend on the choice. Plain cross-entropy favors
    a small eps: a smoothed model is less confident, which costs loss on clips that it gets right. Temperature scaling removes
    that effect, and accuracy never had it. Over the last epochs, when a model without smoothing has become overconfident, the
    metrics may disagree.
    """
    objectives = [Objective(metric=metric, reduce=reduce) for metric in get_args(Metric) for reduce in get_args(Reduce)]
    return {f"{one.metric}_{one.reduce}": one.value(history) for one in objectives}


def epochs_without_improvement(history: Sequence[EpochRecord]) -> int:
    """Epochs since any of the metrics last reached a new lowest value; 0 before the first epoch."""
    if not history:
        return 0
    curves = [[Objective(metric=metric).metric_of(record) for record in history] for metric in get_args(Metric)]
    return len(history) - 1 - max(curve.index(min(curve)) for curve in curves)
