"""The value of a learning curve under every metric and reduction."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import get_args

import pytest
from launch import ROOT, environment

from model.objective import Metric, Objective, Reduce, all_values, epochs_without_improvement
from model.record import EpochRecord, mean_record


def record(epoch: int, val_loss: float, val_loss_ts: float, val_top1: float) -> EpochRecord:
    """An epoch with only some numbers of interest."""
    return EpochRecord(
        epoch=epoch,
        train_loss=1.0,
        val_loss=val_loss,
        val_top1=val_top1,
        val_top5=1.0,
        val_ece=0.1,
        val_ece_mass=0.1,
        val_loss_ts=val_loss_ts,
        temperature=1.5,
        seconds=2.0,
    )


def curve(*rows: tuple[float, float, float]) -> list[EpochRecord]:
    """A history from val_loss, val_loss_ts and val_top1 of each epoch."""
    return [record(number, *map(float, row)) for number, row in enumerate(rows, start=1)]


# the losses rise early, the accuracy keeps rising
HISTORY = curve(
    (1.0, 1.0, 0.25),
    (0.5, 0.5, 0.5),
    (0.75, 0.25, 0.5),
    (0.875, 0.375, 0.75),
    (1.0, 0.5, 0.75),
    (1.5, 0.625, 0.625),
    (2.0, 0.75, 0.75),
)

EXPECTED: dict[tuple[Metric, Reduce], tuple[float, int, float]] = {  # value, kept epoch, value for the pruner
    ("val_loss", "best"): (0.5, 2, 2.0),
    ("val_loss", "last"): (2.0, 7, 2.0),
    ("val_loss", "mean_last_5"): (1.225, 7, 1.225),
    ("val_loss_ts", "best"): (0.25, 3, 0.75),
    ("val_loss_ts", "last"): (0.75, 7, 0.75),
    ("val_loss_ts", "mean_last_5"): (0.5, 7, 0.5),
    ("val_error", "best"): (0.25, 4, 0.25),
    ("val_error", "last"): (0.25, 7, 0.25),
    ("val_error", "mean_last_5"): (0.325, 7, 0.325),
}


@pytest.mark.parametrize(("metric", "reduce"), EXPECTED)
def test_every_metric_and_reduction(metric: Metric, reduce: Reduce) -> None:
    """Value, kept epoch and the value for the pruner equal those computed by hand."""
    objective = Objective(metric=metric, reduce=reduce)
    value, epoch, intermediate = EXPECTED[metric, reduce]
    assert objective.value(HISTORY) == pytest.approx(value)
    assert objective.kept_epoch(HISTORY).epoch == epoch
    assert objective.intermediate_value(HISTORY) == pytest.approx(intermediate)


def test_all_values_at_once() -> None:
    """The nine values are those of every combination of metric and reduction."""
    expected = {f"{metric}_{reduce}": row[0] for (metric, reduce), row in EXPECTED.items()}
    assert all_values(HISTORY) == pytest.approx(expected)
    assert {(metric, reduce) for metric in get_args(Metric) for reduce in get_args(Reduce)} == set(EXPECTED)


def test_the_default_is_the_best_val_loss() -> None:
    """The default objective is the best val_loss."""
    assert Objective() == Objective(metric="val_loss", reduce="best")


def test_fewer_than_five_epochs() -> None:
    """With fewer than five epochs the mean is over all of them."""
    assert Objective(metric="val_loss", reduce="mean_last_5").value(HISTORY[:2]) == 0.75
    assert Objective(metric="val_loss", reduce="mean_last_5").value(HISTORY[:1]) == 1.0


def test_ties() -> None:
    """Equal accuracies go to the lower val_loss; equal in both, or equal val_loss, to the first epoch."""
    history = curve((3.0, 1.0, 0.5), (2.0, 1.0, 0.5), (2.0, 1.0, 0.5), (1.0, 1.0, 0.25))
    assert Objective(metric="val_error").kept_epoch(history).epoch == 2
    assert Objective(metric="val_loss").kept_epoch(history[:3]).epoch == 2


PATIENCE: list[tuple[str, Sequence[tuple[float, float, float]], int]] = [
    ("nothing yet", [], 0),
    ("one epoch", [(1, 1, 0.5)], 0),
    ("no improvement", [(1, 1, 0.5), (1, 1, 0.5), (2, 2, 0.25)], 2),
    ("the loss improves", [(1, 1, 0.5), (2, 2, 0.25), (0.5, 2, 0.25)], 0),
    ("only the temperature-scaled loss improves", [(1, 1, 0.5), (2, 0.5, 0.25), (3, 0.75, 0.25)], 1),
    ("only accuracy improves", [(1, 1, 0.5), (2, 2, 0.75), (3, 3, 0.75), (4, 4, 0.75)], 2),
    ("a dip is no improvement", [(1, 1, 0.5), (3, 3, 0.25), (2, 2, 0.375)], 2),
]


@pytest.mark.parametrize(("rows", "expected"), [case[1:] for case in PATIENCE], ids=[case[0] for case in PATIENCE])
def test_epochs_without_improvement(rows: Sequence[tuple[float, float, float]], expected: int) -> None:
    """Epochs are counted from the last one in which any of the three metrics reached a new lowest value."""
    assert epochs_without_improvement(curve(*rows)) == expected


def test_mean_record() -> None:
    """The mean of each number, the largest epoch, the sum of the seconds; a single record is unchanged."""
    one, other = record(3, 1.0, 0.5, 0.25), record(7, 2.0, 1.0, 0.75)
    mean = mean_record([one, other])
    assert (mean.epoch, mean.val_loss, mean.val_loss_ts, mean.val_top1, mean.temperature) == (7, 1.5, 0.75, 0.5, 1.5)
    assert mean.seconds == 4.0
    assert mean.val_error == 0.5
    assert mean_record([one]) == one
    with pytest.raises(ValueError):  # noqa: PT011 (any text will do)
        mean_record([])


def test_curves_can_be_read_without_pytorch() -> None:
    """Settings, records and objectives import neither torch nor numpy."""
    code = (
        "import sys, model.config, model.objective, model.record\nassert not {'torch', 'numpy'} & sys.modules.keys(), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), check=True)
