"""What an epoch leaves behind. Imports nothing heavy, so that results can be read without PyTorch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave. Validation is of the weights that are kept: the averaged ones, with `TrainConfig.ema`."""

    epoch: int
    """From 1."""

    train_loss: float
    """Mean over the training clips of the loss that was minimised: smoothed, with dropout, weights moving. Not comparable
    between settings of label smoothing."""

    val_loss: float
    """Mean plain cross-entropy over the validation clips, nats. Never smoothed, whatever the training used."""

    val_top1: float
    val_top5: float
    val_ece: float
    """Expected calibration error on the validation clips, 0..1, over bins of equal width."""

    val_ece_mass: float
    """The same over bins of equally many clips, 0..1."""

    val_loss_ts: float
    """Mean plain cross-entropy after dividing the logits by the one best temperature, nats. The temperature is fitted on these
    same clips, so this is never above val_loss: it is what is left when a wrong confidence is forgiven."""

    temperature: float
    """That temperature: above 1 the model is too sure of itself, below 1 not sure enough. Label smoothing lowers it."""

    seconds: float
    """Wall time of the epoch with its validation."""

    @property
    def val_error(self) -> float:
        """Share of validation clips whose most likely word is wrong, 0..1."""
        return 1 - self.val_top1


def mean_record(records: Sequence[EpochRecord]) -> EpochRecord:
    """Several trainings' epochs as one: the mean of each number, the largest epoch, the seconds together.

    Raises:
        ValueError: there are none.
    """
    names = [field.name for field in dataclasses.fields(EpochRecord) if field.name not in ("epoch", "seconds")]
    means = {name: fmean(getattr(record, name) for record in records) for name in names}
    return EpochRecord(
        epoch=max(record.epoch for record in records), seconds=sum(record.seconds for record in records), **means
    )
