"""What an epoch leaves behind. Imports nothing heavy, so that results can be read without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave."""

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
    """Expected calibration error on the validation clips, 0..1."""

    seconds: float
    """Wall time of the epoch with its validation."""
