"""A trial's results, from its curves and outcome, and a check whether they are possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from model.config import TrainConfig
from model.objective import Metric, Reduce, all_values
from model.record import EpochRecord
from search.definition.objectives import StudyObjective
from search.trial.curves import Curves
from search.trial.outcome import Outcome

MEASURED = ("epoch", "val_loss", "val_top1", "val_top5", "val_ece", "val_ece_mass", "val_loss_ts", "temperature", "train_loss")
"""What is recorded of the kept epoch."""

VALUE_NAMES = tuple(f"{metric}_{reduce}" for metric in get_args(Metric) for reduce in get_args(Reduce))
"""What every trial records, whatever its study's objectives are; see `all_values`."""

_FLOOR_SLACK = 1e-4
"""How far below its floor float32 may put a training loss, in nats."""

_EPS_SLACK = 1e-6
"""Rounding allowed between the eps of the loss function and the setting."""


def values_of(objectives: Sequence[StudyObjective], curves: Curves, outcome: Outcome | None) -> dict[str, float]:
    """The objectives' values by name; costs only where the outcome is known.

    Of several objectives, all with `reduce: best` are read at the primary one's best epoch: the values belong to one model.
    """
    values = {}
    for objective in objectives:
        if objective.curve_objective is not None and objective.reduce == "best" and len(objectives) > 1:
            values[objective.name] = curves.mean_at_kept_epoch(objective.curve_objective.metric_of)
        elif objective.curve_objective is not None:
            values[objective.name] = curves.mean(objective.curve_objective.value)
        elif outcome is not None:
            cost = outcome.parameters if objective.metric == "parameters" else outcome.latency_ms
            values[objective.name] = float("nan") if cost is None else float(cost)
    return values


def result_of(
    objectives: Sequence[StudyObjective], curves: Curves, outcome: Outcome | None, label_smoothing_used: float
) -> dict[str, Any]:
    """Everything that is recorded of a trial besides its curves, as plain values. Means over its trainings."""
    kept = {n: curves.objective.kept_epoch(history) for n, history in sorted(curves.histories.items())}
    result: dict[str, Any] = measured(list(kept.values()))
    result |= {"epochs": curves.num_epochs, "seconds": curves.seconds, "values": values_of(objectives, curves, outcome)}
    values = [all_values(history) for history in curves.histories.values()]
    result["all_values"] = {name: sum(one[name] for one in values) / len(values) for name in values[0]}
    if len(kept) > 1:
        result["trainings"] = [
            {
                "training": n,
                "fold": n // curves.repeats,
                "epochs": len(curves.histories[n]),
                "value": curves.objective.value(curves.histories[n]),
                **measured([record]),
            }
            for n, record in kept.items()
        ]
    result["label_smoothing_used"] = label_smoothing_used
    if outcome is not None:
        result["parameters"] = outcome.parameters
        result |= {"models": list(outcome.models)} if outcome.models else {}
        result |= {} if outcome.latency_ms is None else {"latency_ms": outcome.latency_ms}
    return result


def measured(records: Sequence[EpochRecord]) -> dict[str, Any]:
    """The means over the kept epochs of several trainings; `epoch` is rounded."""
    means = {name: sum(getattr(record, name) for record in records) / len(records) for name in MEASURED}
    return {**means, "epoch": round(means["epoch"])}


def why_invalid(
    config: TrainConfig, num_words: int, histories: Mapping[int, Sequence[EpochRecord]], label_smoothing_used: float
) -> str:
    """Why a trial cannot have been trained with its recorded settings; empty if it can.

    No loss is below the entropy of its smoothed target, and probing the loss function has shown the eps that it uses.
    """
    from model.loss import smoothing_floor

    setting = config.label_smoothing
    if abs(label_smoothing_used - setting) > _EPS_SLACK:
        return f"invalid: label_smoothing is recorded as {setting:g}, but the loss function used {label_smoothing_used:g}"
    floor = smoothing_floor(setting, num_words, config.label_smoothing_over)
    lowest = min(record.train_loss for history in histories.values() for record in history)
    if lowest < floor - _FLOOR_SLACK:
        return (
            f"invalid: a training loss of {lowest:.4f} lies below {floor:.4f}, the lowest that label_smoothing {setting:g} "
            f"allows with {num_words} words: it was trained with another"
        )
    return ""
