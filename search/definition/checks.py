"""Whether a study can work at all: told before anything starts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from search.definition import strategy
from search.definition.pruners import Wilcoxon
from search.definition.ranges import Choices, Range
from search.definition.samplers import SAMPLERS, CmaEs, Grid
from search.definition.settings import settings
from search.definition.space import Dimension, all_combinations, num_combinations, random_combination
from search.errors import DefinitionError

if TYPE_CHECKING:
    from search.definition.definition import StudyDefinition


_LOOKED_THROUGH = 2_000  # settings that are tried before a space is called impossible


def require_feasible(definition: StudyDefinition) -> None:
    """Refuses a space in which nothing goes together, and a baseline that does not.

    Raises:
        DefinitionError: see above.
    """
    try:
        definition.configs(definition.baseline)
    except DefinitionError as error:
        where = f"{definition.source}: space"
        if not any(_goes_together(definition, params) for params in _some_settings(definition.space)):
            raise DefinitionError(
                "no setting of this space goes together", where=where, got=error.got, hint="change a range, or what is fixed"
            ) from error
        raise DefinitionError(
            "the baseline's settings do not go together",
            where=f"{definition.source}: baseline",
            got=error.got,
            hint="write values under `baseline` that do",
        ) from error


def _goes_together(definition: StudyDefinition, params: Mapping[str, Any]) -> bool:
    try:
        definition.configs(params)
    except DefinitionError:
        return False
    return True


def _some_settings(space: tuple[Dimension, ...]) -> Iterator[dict[str, Any]]:
    """All settings of a small space, many random ones of a large."""
    if num_combinations(space) <= _LOOKED_THROUGH:
        yield from all_combinations(space)
        return
    rng = np.random.default_rng(0)
    for _ in range(_LOOKED_THROUGH):
        yield random_combination(space, rng)


def require_usable_strategy(definition: StudyDefinition) -> None:
    """Refuses a sampler or a pruner that could not do its work in this study.

    Raises:
        DefinitionError: see above.
    """
    where, sampler, pruner = definition.source, definition.sampler, definition.pruner
    if len(definition.objectives) > 1 and not sampler.supports_many_objectives:
        able = [name for name, kind in SAMPLERS.items() if kind.supports_many_objectives]
        raise DefinitionError(
            f"the sampler `{strategy.strategy_name(sampler)}` searches for one objective only",
            where=where,
            got=", ".join(objective.name for objective in definition.objectives),
            expected=f"one objective, or one of {', '.join(able)}",
        )
    if len(definition.objectives) > 1 and definition.stagnation is not None:
        raise DefinitionError(
            "`stagnation` is for one objective: several have no single best", where=where, hint="use `trials` or `time`"
        )
    if isinstance(sampler, CmaEs):
        numeric = [dim.name for dim in definition.space if not dim.when and isinstance(dim.domain, Range)]
        if len(numeric) < 2:
            raise DefinitionError(
                "the sampler `cmaes` evolves two or more numeric dimensions that always apply",
                where=where,
                got=", ".join(numeric) or "none",
                hint="use tpe, which takes every kind",
            )
    if isinstance(sampler, Grid):
        _require_grid(definition)
    folds = definition.signers.folds
    if isinstance(pruner, Wilcoxon) and definition.prunes and folds != "each":
        require_trainings(definition, folds or definition.repeats)


def require_fits_data(definition: StudyDefinition, trainings: int, num_words: int) -> None:
    """Refuses what cannot work with the data: too few trainings a trial for its pruner, an eps that so few words cannot have.

    Raises:
        DefinitionError: see above.
    """
    require_trainings(definition, trainings)
    most = 1 - 1 / num_words
    searched = {dim.setting.key: dim for dim in definition.space}

    def reached(key: str) -> list[Any]:
        if key in searched:
            domain = searched[key].domain
            return domain.choices if isinstance(domain, Choices) else [domain.high]
        return [definition.fixed.get(key, settings()[key].default)]

    highest = max(reached("train.label_smoothing"))
    if "wrong" in reached("train.label_smoothing_over") and highest > most:
        raise DefinitionError(
            "with `label_smoothing_over: wrong` the true word would get less than the others",
            where=definition.source,
            got=f"label_smoothing up to {highest:g}, {num_words} words",
            expected=f"at most {most:.4g}",
        )


def require_trainings(definition: StudyDefinition, trainings: int) -> None:
    """Refuses a pruner that goes by trainings, where a trial has too few of them for it ever to stop one.

    Raises:
        DefinitionError: see above.
    """
    pruner = definition.pruner
    if definition.prunes and isinstance(pruner, Wilcoxon) and trainings < pruner.least_trainings():
        raise DefinitionError(
            "the pruner `wilcoxon` could never stop a trial",
            where=definition.source,
            got=f"{trainings} to compare in a trial (folds, or repeats where there are none)",
            expected=f"{pruner.least_trainings()} or more at p {pruner.p:g}",
            hint="set `data.folds` or `repeats`, or use `median`",
        )


def _require_grid(definition: StudyDefinition) -> None:
    endless = [dim for dim in definition.space if math.isinf(dim.size)]
    if endless:
        raise DefinitionError(
            f"a grid needs values to walk through, and `{endless[0].name}` is continuous",
            where=f"{definition.source}: space",
            got=endless[0].domain.text(),
            expected="choices, whole numbers, or a range with `step`",
        )
    size = num_combinations(definition.space)
    if size > definition.trials:
        raise DefinitionError(
            "the grid is too large for its trials",
            where=definition.source,
            got=f"{size:,} settings, {definition.trials:,} trials",
            hint=f"`--trials {size}` walks through all of it; fewer values or `sampler: {{name: random}}` make it shorter",
        )
