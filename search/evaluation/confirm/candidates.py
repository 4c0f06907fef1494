"""Which trials of a search are worth training again: the lowest, but never two that are nearly the same."""

# D coordinates of the unit cube: one for a dimension of numbers, as many as there are choices for another

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from jaxtyping import Float
from optuna.trial import FrozenTrial

from search import BASELINE_TRIAL
from search.definition.objectives import primary_index
from search.definition.ranges import Choices
from search.definition.space import Dimension
from search.errors import NegativeAnswer
from search.study.confirmed import stored_confirmed
from search.study.searched_space import study_space
from search.study.study import study_objectives
from search.study.trials import complete_trials, trial_settings

NEAR = 0.05
"""Two numbers are nearly the same within this share of their range, on the scale that it is drawn on; `Dimension.edge` calls
a value at the end of its range within the same. A sampler ends with many trials around its best, and five of those would be one
candidate in five copies. In the simulation of the tests it changes no regret: it is for the reader, who sees five answers."""


def embedding(params: Mapping[str, Any], space: Sequence[Dimension]) -> Float[np.ndarray, " D"]:
    """Where a setting lies in the unit cube.

    A number lies at its place in its range. A choice is a corner (one-hot), divided by the square root of 2 so that two
    choices are 1 apart. What does not apply lies in the middle, and at no corner.
    """
    coordinates: list[float] = []
    for dim in space:
        applies = dim.name in params
        if isinstance(dim.domain, Choices):
            hot = int(dim.position(params[dim.name])) if applies else -1
            coordinates += [float(number == hot) / math.sqrt(2) for number in range(len(dim.domain.choices))]
        else:
            coordinates.append(dim.position(params[dim.name]) if applies else 0.5)
    return np.array(coordinates)


def far_apart(a: Mapping[str, Any], b: Mapping[str, Any], space: Sequence[Dimension], near: float = NEAR) -> bool:
    """Whether two settings are more than nearly the same.

    They are if a choice differs, a dimension applies to one only, or a number differs by more than `near` of its range.
    """
    for dim in space:
        if (dim.name in a) != (dim.name in b):
            return True
        if dim.name in a and abs(dim.position(a[dim.name]) - dim.position(b[dim.name])) > near:  # choices lie 1 apart or more
            return True
    return False


def top(
    trials: Sequence[FrozenTrial], baseline: FrozenTrial, space: Sequence[Dimension], primary: int, k: int
) -> list[FrozenTrial]:
    """The `k` lowest trials, the first of equals first; no two nearly the same, and none nearly the baseline.

    Args:
        trials: the complete ones.
        baseline: in whatever state. Nearly itself, it is never one of the `k`.
        space: the dimensions of the search.
        primary: index of the objective that decides where there are several.
        k: how many at most.
    """
    finite = [trial for trial in trials if math.isfinite(trial.values[primary])]
    found: list[FrozenTrial] = []
    for trial in sorted(finite, key=lambda trial: (trial.values[primary], trial.number)):
        if len(found) < k and all(far_apart(trial.params, one.params, space) for one in [baseline, *found]):
            found.append(trial)
    return found


def chosen_trials(study: optuna.Study, count: int) -> list[FrozenTrial]:
    """The baseline, the best complete trials that are not nearly the same, and what an earlier confirmation recommends.

    Raises:
        NegativeAnswer: no trial but the baseline has trained to its end.
    """
    trials = study.get_trials(deepcopy=False)
    complete = complete_trials(trials)
    best = (
        top(complete, trials[BASELINE_TRIAL], study_space(study), primary_index(study_objectives(study)), count)
        if complete
        else []
    )
    if not best or not trial_settings(trials[BASELINE_TRIAL]):
        raise NegativeAnswer(
            f"there is nothing to confirm: no other trial of `{study.study_name}` than the baseline has trained to its end",
            hint=f"`python -m search run {study.study_name}` goes on",
        )
    before = stored_confirmed(study)
    known = {BASELINE_TRIAL, *(trial.number for trial in best)}
    if before is not None and before.found.recommended not in known:
        best.append(trials[before.found.recommended or BASELINE_TRIAL])  # luckier numbers do not push out what was confirmed
    return [trials[BASELINE_TRIAL], *best]
