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
class StudyObjective:
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
    def curve_objective(self) -> Objective | None:
        """What to look at in a curve; None for a cost."""
        for metric in get_args(Metric):
            if self.metric == metric:
                return Objective(metric=metric, reduce=self.reduce)
        return None


def parse_objectives(given: Any, where: str) -> tuple[StudyObjective, ...]:
    """The checked goals from one mapping or a list of them.

    Raises:
        DefinitionError: a goal is wrong or there twice, or none of them asks whether the model is any good.
    """
    found = tuple(build(StudyObjective, one, "objective", where) for one in (given if isinstance(given, list) else [given]))
    for objective in found:
        if objective.curve_objective is None and objective.reduce != "best":
            raise DefinitionError(f"`{objective.metric}` has no curve to reduce", where=where, hint="take `reduce` away")
    names = [objective.name for objective in found]
    if len(set(names)) < len(names):
        raise DefinitionError("an objective is there twice", where=where, got=", ".join(names), expected="each once")
    if not any(objective.curve_objective for objective in found):
        raise DefinitionError(
            "no objective asks whether the model is any good",
            where=where,
            got=", ".join(names) or "none",
            expected=f"one of {', '.join(get_args(Metric))} among them",
        )
    return found


def primary_index(found: Sequence[StudyObjective]) -> int:
    """Which of several goals comes first where one best trial is named: the first that asks how good the model is."""
    return next(number for number, objective in enumerate(found) if objective.curve_objective is not None)


def primary_objective(found: Sequence[StudyObjective]) -> Objective:
    """The objective that decides which epoch of a curve counts, and which weights are kept: the first that has a curve."""
    return next(objective.curve_objective for objective in found if objective.curve_objective is not None)
