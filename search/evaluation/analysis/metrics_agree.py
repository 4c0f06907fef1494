"""Whether the metrics of the learning curves agree on the best value of a parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from optuna.trial import FrozenTrial, TrialState

from model.objective import Metric, Reduce
from search.definition.ranges import Choices, Range
from search.study.trials import trial_result

CLEARLY = 0.1
"""Two values of a parameter differ if they are further apart than this share of its range."""

_SLACK = 1e-9
"""Tolerance for a distance of exactly a tenth, which floats do not represent exactly."""


@dataclass(frozen=True)
class MetricBest:
    """The best trial by one metric."""

    metric: Metric
    trial: int
    at: Any
    """Its value of the parameter."""

    reading: float
    """Its value of the metric."""


@dataclass(frozen=True)
class MetricComparison:
    """The best value of a parameter by each metric."""

    name: str
    picks: tuple[MetricBest, ...]
    """One for each metric that any complete trial has recorded."""

    disagree: bool
    """Whether two of these values differ: by more than a tenth of the range on its scale, or, for choices, at all."""

    leans: bool
    """Whether plain val_loss prefers a clearly smaller value than both val_loss_ts and val_error."""

    text: str


def compare_metrics(
    trials: Sequence[FrozenTrial],
    name: str,
    *,
    domain: Range | Choices,
    reduce: Reduce = "best",
    metrics: Sequence[Metric] = get_args(Metric),
) -> MetricComparison:
    """The best value of a parameter by each metric, and whether they agree; see `model.objective.all_values`.

    Ties go to the lower val_loss_ts, then to the earlier trial. Trials without a finite value of a metric are ignored for it.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and name in trial.params]
    picks = tuple(one for metric in metrics if (one := _best_by(metric, complete, name, reduce)) is not None)
    disagree = any(_differ(one.at, other.at, domain) for one in picks for other in picks)
    at = {pick.metric: pick.at for pick in picks}
    others = [at[metric] for metric in ("val_loss_ts", "val_error") if metric in at]
    leans = (
        "val_loss" in at
        and len(others) == 2
        and all(_is_below(at["val_loss"], other) and _differ(at["val_loss"], other, domain) for other in others)
    )
    return MetricComparison(name, picks, disagree, leans, _comparison_text(name, picks, disagree=disagree, leans=leans))


def _best_by(metric: Metric, complete: Sequence[FrozenTrial], name: str, reduce: Reduce) -> MetricBest | None:
    rows = []
    for trial in complete:
        values = trial_result(trial).get("all_values", {})
        value = values.get(f"{metric}_{reduce}", math.nan)
        if math.isfinite(value):
            rows.append((value, values.get(f"val_loss_ts_{reduce}", math.inf), trial.number, trial.params[name]))
    if not rows:
        return None
    value, _, number, at = min(rows, key=lambda row: row[:3])
    return MetricBest(metric, number, at, value)


def _differ(one: Any, other: Any, domain: Range | Choices) -> bool:
    if isinstance(domain, Choices) or (domain.log and min(one, other) <= 0):  # 0 has no place on a logarithmic scale
        return bool(one != other)
    scale = math.log if domain.log else float
    return abs(scale(one) - scale(other)) > (CLEARLY + _SLACK) * (scale(domain.high) - scale(domain.low))


def _is_below(one: Any, other: Any) -> bool:
    are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    return are_numbers and bool(one < other)


def _comparison_text(name: str, picks: Sequence[MetricBest], *, disagree: bool, leans: bool) -> str:
    if not picks:
        return f"no complete trial has recorded a metric to compare values of {name} by"
    shown = [f"{pick.at:.3g}" if isinstance(pick.at, float) else str(pick.at) for pick in picks]
    best = ", ".join(f"{at} by {pick.metric} (trial {pick.trial})" for at, pick in zip(shown, picks, strict=True))
    conclusion = "the metrics agree" if len(picks) > 1 else "there is only one metric"
    if leans:
        conclusion = f"val_loss prefers a small {name} because of its effect on confidence, not on errors"
    elif disagree:
        conclusion = "the metrics disagree; decide which one matters to you"
    return f"the best {name} is {best}: {conclusion}"
