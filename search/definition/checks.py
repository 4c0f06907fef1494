"""Checks whether a study can work at all, before anything starts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from search.definition.pruners import Wilcoxon
from search.definition.ranges import Choices, Range
from search.definition.samplers import SAMPLERS, CmaEs, Grid
from search.definition.settings import settings
from search.definition.space import Dimension, all_combinations, num_combinations, random_combination
from search.definition.strategy import strategy_name
from search.errors import DefinitionError

if TYPE_CHECKING:
    from search.definition.definition import StudyDefinition


_MAX_TRIED = 2_000  # combinations that are tried before a space counts as impossible


def require_feasible(definition: StudyDefinition) -> None:
    """Checks that the baseline is a valid combination of settings.

    Raises:
        DefinitionError: it is not, or the space has no valid combination at all.
    """
    try:
        definition.configs(definition.baseline)
    except DefinitionError as error:
        if not any(_is_valid(definition, params) for params in _some_combinations(definition.space)):
            raise DefinitionError(
                "no combination in this space is valid",
                where=f"{definition.source}: space",
                got=error.got,
                hint="change a range, or what is fixed",
            ) from error
        raise DefinitionError(
            "the baseline's settings are not compatible",
            where=f"{definition.source}: baseline",
            got=error.got,
            hint="write compatible values under `baseline`",
        ) from error


def _is_valid(definition: StudyDefinition, params: Mapping[str, Any]) -> bool:
    try:
        definition.configs(params)
    except DefinitionError:
        return False
    return True


def _some_combinations(space: tuple[Dimension, ...]) -> Iterator[dict[str, Any]]:
    """All combinations of a small space, and many random ones of a large space."""
    if num_combinations(space) <= _MAX_TRIED:
        yield from all_combinations(space)
        return
    rng = np.random.default_rng(0)
    for _ in range(_MAX_TRIED):
        yield random_combination(space, rng)


def require_usable_strategy(definition: StudyDefinition) -> None:
    """Checks that the sampler, the pruner and `stagnation` can work in this study.

    Raises:
        DefinitionError: one of them cannot.
    """
    where, sampler = definition.source, definition.sampler
    if len(definition.objectives) > 1 and not sampler.supports_many_objectives:
        able = [name for name, kind in SAMPLERS.items() if kind.supports_many_objectives]
        raise DefinitionError(
            f"the sampler `{strategy_name(sampler)}` supports only one objective",
            where=where,
            got=", ".join(objective.name for objective in definition.objectives),
            expected=f"one objective, or one of {', '.join(able)}",
        )
    if len(definition.objectives) > 1 and definition.stagnation is not None:
        raise DefinitionError(
            "`stagnation` needs a single objective: several have no single best", where=where, hint="use `trials` or `time`"
        )
    if isinstance(sampler, CmaEs):
        numeric = [dim.name for dim in definition.space if not dim.when and isinstance(dim.domain, Range)]
        if len(numeric) < 2:
            raise DefinitionError(
                "the sampler `cmaes` needs two or more numeric dimensions without conditions",
                where=where,
                got=", ".join(numeric) or "none",
                hint="use tpe, which supports every kind of dimension",
            )
    if isinstance(sampler, Grid):
        _require_finite_grid(definition)
    folds = definition.signers.folds
    if folds != "each":
        _require_enough_trainings(definition, folds or definition.repeats)


def require_fits_data(definition: StudyDefinition, trainings: int, num_words: int) -> None:
    """Checks a study against its data: enough trainings per trial for the pruner, and a label smoothing that is possible.

    Raises:
        DefinitionError: the study cannot work with this data.
    """
    _require_enough_trainings(definition, trainings)
    most = 1 - 1 / num_words
    searched = {dim.setting.key: dim for dim in definition.space}

    def possible_values(key: str) -> list[Any]:
        if key in searched:
            domain = searched[key].domain
            return domain.choices if isinstance(domain, Choices) else [domain.high]
        return [definition.fixed.get(key, settings()[key].default)]

    highest = max(possible_values("train.label_smoothing"))
    if "wrong" in possible_values("train.label_smoothing_over") and highest > most:
        raise DefinitionError(
            "with `label_smoothing_over: wrong`, the true word would get less than the others",
            where=definition.source,
            got=f"label_smoothing up to {highest:g}, {num_words} words",
            expected=f"at most {most:.4g}",
        )


def _require_enough_trainings(definition: StudyDefinition, trainings: int) -> None:
    """Checks that a pruner that compares trainings has enough of them in a trial."""
    pruner = definition.pruner
    if definition.prunes and isinstance(pruner, Wilcoxon) and trainings < pruner.min_trainings():
        raise DefinitionError(
            "the pruner `wilcoxon` could never stop a trial",
            where=definition.source,
            got=f"{trainings} to compare per trial (folds, or repeats without folds)",
            expected=f"{pruner.min_trainings()} or more at p {pruner.p:g}",
            hint="set `data.folds` or `repeats`, or use `median`",
        )


def _require_finite_grid(definition: StudyDefinition) -> None:
    continuous = next((dim for dim in definition.space if math.isinf(dim.size)), None)
    if continuous is not None:
        raise DefinitionError(
            f"a grid needs finite dimensions, and `{continuous.name}` is continuous",
            where=f"{definition.source}: space",
            got=continuous.domain.text(),
            expected="choices, whole numbers, or a range with `step`",
        )
    size = num_combinations(definition.space)
    if size > definition.trials:
        raise DefinitionError(
            "the grid has more combinations than the study has trials",
            where=definition.source,
            got=f"{size:,} combinations, {definition.trials:,} trials",
            hint=f"`--trials {size}` covers all of it; fewer values or `sampler: {{name: random}}` make it shorter",
        )
