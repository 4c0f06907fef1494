"""Whether the answer hangs on how the learning curves are read."""

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
"""Two values of a parameter differ if they lie further apart than this share of its range."""

_SLACK = 1e-9  # a tenth of a range is a tenth, whatever floats make of it


@dataclass(frozen=True)
class Pick:
    """The trial that one reading of the curves puts first."""

    metric: Metric
    trial: int
    at: Any
    """Its value of the parameter."""

    reading: float


@dataclass(frozen=True)
class Readings:
    """Which value of a parameter each reading chooses."""

    name: str
    picks: tuple[Pick, ...]
    """One for each metric that any complete trial has recorded."""

    disagree: bool
    """Whether two of the choices differ: by more than a tenth of the range on its scale, or at all where there are choices."""

    leans: bool
    """Whether plain val_loss chooses a clearly smaller value than val_loss_ts and than val_error."""

    text: str


def readings(
    trials: Sequence[FrozenTrial],
    name: str,
    *,
    domain: Range | Choices,
    reduce: Reduce = "best",
    metrics: Sequence[Metric] = get_args(Metric),
) -> Readings:
    """Whether the value that is chosen for a parameter hangs on how the curves are read; see `model.objective.all_values`.

    Of equal readings the lower val_loss_ts decides, then the earlier trial. Trials that have not recorded a reading, or one
    that is not finite, do not take part in it.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and name in trial.params]
    found = [_pick(complete, name, metric, reduce) for metric in metrics]
    picks = tuple(pick for pick in found if pick is not None)
    disagree = any(_differ(one.at, other.at, domain) for one in picks for other in picks)
    at = {pick.metric: pick.at for pick in picks}
    others = [at[metric] for metric in ("val_loss_ts", "val_error") if metric in at]
    leans = (
        "val_loss" in at
        and len(others) == 2
        and all(_is_below(at["val_loss"], other) and _differ(at["val_loss"], other, domain) for other in others)
    )
    return Readings(name, picks, disagree, leans, _readings_text(name, picks, disagree=disagree, leans=leans))


def _pick(complete: Sequence[FrozenTrial], name: str, metric: Metric, reduce: Reduce) -> Pick | None:
    rows = []
    for trial in complete:
        values = trial_result(trial).get("all_values", {})
        reading = values.get(f"{metric}_{reduce}", math.nan)
        if math.isfinite(reading):
            rows.append((reading, values.get(f"val_loss_ts_{reduce}", math.inf), trial.number, trial.params[name]))
    if not rows:
        return None
    reading, _, number, at = min(rows, key=lambda row: row[:3])
    return Pick(metric, number, at, reading)


def _differ(one: Any, other: Any, domain: Range | Choices) -> bool:
    if isinstance(domain, Choices):
        return bool(one != other)
    if domain.log and min(one, other) <= 0:  # on no logarithmic scale: as far from all that are as can be
        return bool(one != other)
    scale = math.log if domain.log else float
    return abs(scale(one) - scale(other)) > (CLEARLY + _SLACK) * (scale(domain.high) - scale(domain.low))


def _is_below(one: Any, other: Any) -> bool:
    are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
    return are_numbers and bool(one < other)


def _readings_text(name: str, picks: Sequence[Pick], *, disagree: bool, leans: bool) -> str:
    if not picks:
        return f"no complete trial has recorded what it reads for {name}"
    shown = [f"{pick.at:.3g}" if isinstance(pick.at, float) else str(pick.at) for pick in picks]
    chosen = ", ".join(f"{at} by {pick.metric} (trial {pick.trial})" for at, pick in zip(shown, picks, strict=True))
    end = "the readings agree" if len(picks) > 1 else "there is one reading only"
    if leans:
        end = f"plain NLL leans to a small {name} through confidence, not through errors"
    elif disagree:
        end = "the choice hangs on the reading"
    return f"the best {name} is {chosen}: {end}"
