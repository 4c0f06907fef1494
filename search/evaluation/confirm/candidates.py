"""The trials of a search that are worth training again: the best ones, without near-duplicates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from search import BASELINE_TRIAL
from search.definition.objectives import primary_index
from search.definition.space import Dimension
from search.errors import NegativeAnswer
from search.study.confirmed import load_confirmed
from search.study.searched_space import study_space
from search.study.study import study_objectives
from search.study.trials import complete_trials, require_trial, trial_settings

NEAR = 0.05
"""Two numbers are nearly the same within this share of their range, on its scale (as in `Dimension.edge`). A sampler ends with
many trials around its best, and five of those would be one candidate five times. In the simulation of the tests this changes no
regret: it is for the reader, who gets five different answers."""


def are_distinct(a: Mapping[str, Any], b: Mapping[str, Any], space: Sequence[Dimension], near: float = NEAR) -> bool:
    """Whether two settings are not nearly the same.

    Distinct: a choice differs, a dimension applies to only one, or a number differs by more than `near` of its range.
    """
    for dim in space:
        if (dim.name in a) != (dim.name in b):
            return True
        if dim.name in a and abs(dim.position(a[dim.name]) - dim.position(b[dim.name])) > near:  # choices are at least 1 apart
            return True
    return False


def best_distinct(
    trials: Sequence[FrozenTrial], baseline: FrozenTrial, space: Sequence[Dimension], primary: int, k: int
) -> list[FrozenTrial]:
    """At most `k` trials with the lowest values that are pairwise distinct, and distinct from the baseline.

    Args:
        trials: the complete ones.
        baseline: in any state.
        space: the dimensions of the search.
        primary: index of the objective that decides where there are several.
        k: how many at most.
    """
    finite = [trial for trial in trials if math.isfinite(trial.values[primary])]
    best: list[FrozenTrial] = []
    for trial in sorted(finite, key=lambda trial: (trial.values[primary], trial.number)):
        if len(best) < k and all(are_distinct(trial.params, one.params, space) for one in [baseline, *best]):
            best.append(trial)
    return best


def trials_to_confirm(study: optuna.Study, count: int) -> list[FrozenTrial]:
    """The baseline, the `count` best distinct trials, and the recommendation of an earlier confirmation.

    Raises:
        NegativeAnswer: no trial except the baseline is complete.
    """
    trials, primary = study.get_trials(deepcopy=False), primary_index(study_objectives(study))
    complete = complete_trials(trials)
    baseline = require_trial(study, trials, BASELINE_TRIAL) if trials else None
    best = best_distinct(complete, baseline, study_space(study), primary, count) if complete and baseline is not None else []
    if baseline is None or not best or not trial_settings(baseline):
        raise NegativeAnswer(
            f"nothing to confirm: no trial of `{study.study_name}` except the baseline is complete",
            hint=f"continue the search with `python -m search run {study.study_name}`",
        )
    earlier = load_confirmed(study)
    known = {BASELINE_TRIAL, *(trial.number for trial in best)}
    if earlier is not None and earlier.found.recommended not in known:  # luckier values do not displace what was confirmed
        best.append(require_trial(study, trials, earlier.found.recommended or BASELINE_TRIAL))
    return [baseline, *best]
