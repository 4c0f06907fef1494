"""The record of one epoch. Imports nothing heavy, so that results can be read without PyTorch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class EpochRecord:
    """Training loss and validation metrics of one epoch. With `TrainConfig.ema` the averaged weights are validated."""

    epoch: int
    """Counted from 1."""

    train_loss: float
    """Mean over the training clips of the loss that was minimized: smoothed, with dropout, while the weights change. Not
    comparable between different settings of label smoothing."""

    val_loss: float
    """Mean plain cross-entropy over the validation clips, nats. Never smoothed, whatever the training used."""

    val_top1: float
    val_top5: float
    val_ece: float
    """Expected calibration error on the validation clips, 0..1, over bins of equal width."""

    val_ece_mass: float
    """The same over bins that hold equally many clips, 0..1."""

    val_loss_ts: float
    """val_loss after temperature scaling, nats. The temperature is fitted on these same clips, so this is never above val_loss:
    it is the loss that remains once the overall level of confidence is corrected."""

    temperature: float
    """The fitted temperature: above 1 the model is overconfident, below 1 underconfident. Label smoothing lowers it."""

    seconds: float
    """Wall time of the epoch including validation."""

    @property
    def val_error(self) -> float:
        """Fraction of validation clips whose most likely word is wrong, 0..1."""
        return 1 - self.val_top1


def mean_record(records: Sequence[EpochRecord]) -> EpochRecord:
    """Averages the epochs of several trainings: the mean of each number, the largest epoch number, the sum of the seconds.

    Raises:
        ValueError: there are no records.
    """
    names = [field.name for field in dataclasses.fields(EpochRecord) if field.name not in ("epoch", "seconds")]
    means = {name: fmean(getattr(record, name) for record in records) for name in names}
    return EpochRecord(epoch=max(r.epoch for r in records), seconds=sum(r.seconds for r in records), **means)
