"""What a search minimises: one goal or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from model.objective import Metric, Objective, Reduce
from search.definition.settings import build
from search.errors import DefinitionError

Cost = Literal["parameters", "latency_ms"]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One thing that a search minimises."""

    metric: Metric | Cost = "val_loss"
    """`val_loss`: the plain cross-entropy on the validation signers, nats, never smoothed. `val_loss_ts`: the same after
    dividing the logits by the one temperature that suits them best. `val_error`: share of wrong clips, 1 - top1.
    `parameters`: numbers that the model learns. `latency_ms`: milliseconds for one clip of middle length on the trial's
    device, which no two runs measure alike. The last two make sense beside one of the first three only."""

    reduce: Reduce = "best"
    """How a curve becomes a number: its `best` epoch, its `last`, or the mean of the last five (`mean_last_5`). Of several
    objectives the first that has a curve says which epoch is best: all are read there, from one and the same model."""

    direction: Literal["minimize"] = "minimize"
    """There is no other."""

    @property
    def name(self) -> str:
        """What it is called in tables and in the dashboard."""
        return self.metric if self.reduce == "best" else f"{self.metric}_{self.reduce}"

    @property
    def objective(self) -> Objective | None:
        """What to look at in a curve; None for a cost."""
        for metric in get_args(Metric):
            if self.metric == metric:
                return Objective(metric=metric, reduce=self.reduce)
        return None


def goals(given: Any, where: str) -> tuple[Goal, ...]:
    """The checked goals from one mapping or a list of them.

    Raises:
        DefinitionError: a goal is wrong or there twice, or none of them asks whether the model is any good.
    """
    found = tuple(build(Goal, one, "objective", where) for one in (given if isinstance(given, list) else [given]))
    for goal in found:
        if goal.objective is None and goal.reduce != "best":
            raise DefinitionError(f"`{goal.metric}` has no curve to reduce", where=where, hint="take `reduce` away")
    names = [goal.name for goal in found]
    if len(set(names)) < len(names):
        raise DefinitionError("an objective is there twice", where=where, got=", ".join(names), expected="each once")
    if not any(goal.objective for goal in found):
        raise DefinitionError(
            "no objective asks whether the model is any good",
            where=where,
            got=", ".join(names) or "none",
            expected=f"one of {', '.join(get_args(Metric))} among them",
        )
    return found


def lead_of(found: Sequence[Goal]) -> int:
    """Which of several goals comes first where one best trial is named: the first that asks how good the model is."""
    return next(number for number, goal in enumerate(found) if goal.objective is not None)


def leading(found: Sequence[Goal]) -> Objective:
    """The objective that decides which epoch of a curve counts, and which weights are kept: the first that has a curve."""
    return next(goal.objective for goal in found if goal.objective is not None)
