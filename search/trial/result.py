"""What a trial gave: numbers from its curves and its outcome, and whether they can be true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from model.config import TrainConfig
from model.objective import Metric, Reduce, all_values
from model.record import EpochRecord
from search.definition.objectives import StudyObjective
from search.trial.curves import Curves

if TYPE_CHECKING:
    from search.trial.outcome import Outcome


MEASURED = (
    "epoch",
    "val_loss",
    "val_top1",
    "val_top5",
    "val_ece",
    "val_ece_mass",
    "val_loss_ts",
    "temperature",
    "train_loss",
)
"""What is kept of the epoch that counts."""

VALUE_NAMES = tuple(f"{metric}_{reduce}" for metric in get_args(Metric) for reduce in get_args(Reduce))
"""What every trial records, whatever its study minimises: see `all_values`."""

_FLOOR_SLACK = 1e-4
"""How far below its floor a training loss may lie for float32's sake, nats."""

_EPS_SLACK = 1e-6
"""How far the eps of the loss function may lie from the setting for rounding's sake."""


def values_of(objectives: Sequence[StudyObjective], curves: Curves, outcome: Outcome | None) -> dict[str, float]:
    """The objectives' values by name; costs only where the outcome is known.

    Of several objectives, all with `reduce: best` are read at the primary one's best epoch: the values belong to one model.
    """
    values = {}
    for objective in objectives:
        if objective.curve_objective is not None and objective.reduce == "best" and len(objectives) > 1:
            values[objective.name] = curves.mean_at_selected_epoch(objective.curve_objective.metric_of)
        elif objective.curve_objective is not None:
            values[objective.name] = curves.mean(objective.curve_objective.value)
        elif outcome is not None:
            cost = outcome.parameters if objective.metric == "parameters" else outcome.latency_ms
            values[objective.name] = float("nan") if cost is None else float(cost)
    return values


def result_of(
    objectives: Sequence[StudyObjective], curves: Curves, outcome: Outcome | None, label_smoothing_used: float
) -> dict[str, Any]:
    """Everything that is kept of a trial beside its curves, as plain values. Means over its trainings."""
    counted = {n: curves.objective.kept_epoch(history) for n, history in sorted(curves.histories.items())}
    result: dict[str, Any] = measured(list(counted.values()))
    result |= {"epochs": curves.num_epochs, "seconds": curves.seconds, "values": values_of(objectives, curves, outcome)}
    every = [all_values(history) for history in curves.histories.values()]
    result["all_values"] = {name: sum(one[name] for one in every) / len(every) for name in every[0]}
    if len(counted) > 1:
        result["trainings"] = [
            {
                "training": n,
                "fold": n // curves.repeats,
                "epochs": len(curves.histories[n]),
                "value": curves.objective.value(curves.histories[n]),
                **measured([record]),
            }
            for n, record in counted.items()
        ]
    result["label_smoothing_used"] = label_smoothing_used
    if outcome is not None:
        result["parameters"] = outcome.parameters
        result |= {"models": list(outcome.models)} if outcome.models else {}
        result |= {} if outcome.latency_ms is None else {"latency_ms": outcome.latency_ms}
    return result


def measured(records: Sequence[EpochRecord]) -> dict[str, Any]:
    """The mean of what was measured at the epochs that count; `epoch` rounded."""
    means = {name: sum(getattr(record, name) for record in records) / len(records) for name in MEASURED}
    return {**means, "epoch": round(means["epoch"])}


def why_invalid(
    config: TrainConfig, num_words: int, histories: Mapping[int, Sequence[EpochRecord]], label_smoothing_used: float
) -> str:
    """Why a trial cannot have been trained as its record says; empty if nothing speaks against it.

    No loss lies below the entropy of its smoothed target, and the loss function, when probed, shows the eps that it uses.
    """
    from model.loss import smoothing_floor

    wished = config.label_smoothing
    if abs(label_smoothing_used - wished) > _EPS_SLACK:
        return f"invalid: label_smoothing is recorded as {wished:g}, but the loss function used {label_smoothing_used:g}"
    floor = smoothing_floor(wished, num_words, config.label_smoothing_over)
    lowest = min(record.train_loss for history in histories.values() for record in history)
    if lowest < floor - _FLOOR_SLACK:
        return (
            f"invalid: a training loss of {lowest:.4f} lies below {floor:.4f}, the lowest that label_smoothing {wished:g} "
            f"allows with {num_words} words: it was trained with another"
        )
    return ""
