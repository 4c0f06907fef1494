"""Objectives: what a search minimizes."""

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
    """One quantity that a search minimizes."""

    metric: Metric | Cost = "val_loss"
    """`val_loss`: cross-entropy on the validation signers in nats, without label smoothing. `val_loss_ts`: the same after
    temperature scaling with the best single temperature. `val_error`: share of misclassified clips, 1 - top1. `parameters`:
    number of learned parameters. `latency_ms`: milliseconds for one clip of median length on the trial's device; differs
    slightly from run to run. The last two are useful only next to one of the first three."""

    reduce: Reduce = "best"
    """How a curve becomes a number: its `best` epoch, its `last`, or the mean of the last five (`mean_last_5`). With several
    objectives, the first one that has a curve determines the best epoch; all are read there, so they describe one model."""

    direction: Literal["minimize"] = "minimize"
    """The only direction."""

    @property
    def name(self) -> str:
        """Its name in tables and in the dashboard."""
        return self.metric if self.reduce == "best" else f"{self.metric}_{self.reduce}"

    @property
    def curve_objective(self) -> Objective | None:
        """What to read from a learning curve; None for a cost."""
        for metric in get_args(Metric):
            if self.metric == metric:
                return Objective(metric=metric, reduce=self.reduce)
        return None


def parse_objectives(given: Any, where: str) -> tuple[StudyObjective, ...]:
    """The objectives from one mapping or a list of mappings.

    Raises:
        DefinitionError: an objective is wrong or listed twice, or none of them measures the model's quality.
    """
    mappings = given if isinstance(given, list) else [given]
    objectives = tuple(build(StudyObjective, mapping, "objective", where) for mapping in mappings)
    for objective in objectives:
        if objective.curve_objective is None and objective.reduce != "best":
            raise DefinitionError(f"`{objective.metric}` has no curve to reduce", where=where, hint="remove `reduce`")
    names = [objective.name for objective in objectives]
    if len(set(names)) < len(names):
        raise DefinitionError("an objective is listed twice", where=where, got=", ".join(names), expected="each once")
    if not any(objective.curve_objective for objective in objectives):
        raise DefinitionError(
            "no objective measures the model's quality",
            where=where,
            got=", ".join(names) or "none",
            expected=f"at least one of {', '.join(get_args(Metric))}",
        )
    return objectives


def primary_index(objectives: Sequence[StudyObjective]) -> int:
    """Index of the primary objective: the first one that measures the model's quality. It decides which trial is the best."""
    return next(index for index, objective in enumerate(objectives) if objective.curve_objective is not None)


def primary_objective(objectives: Sequence[StudyObjective]) -> Objective:
    """What the primary objective reads from a curve. It decides which epoch counts and which weights are kept."""
    return next(objective.curve_objective for objective in objectives if objective.curve_objective is not None)
