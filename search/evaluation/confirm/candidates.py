"""The trials of a search that are worth training again: those believed to be the best, without near-duplicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from search import BASELINE_TRIAL
from search.definition.objectives import primary_index
from search.definition.space import Dimension
from search.errors import NegativeAnswer
from search.study.belief import Belief, believe
from search.study.confirmed import load_confirmed
from search.study.searched_space import study_space
from search.study.study import study_objectives
from search.study.trials import complete_trials, require_trial, trial_settings

NEAR = 0.05
"""Two numbers are nearly the same within this share of their range, on its scale (as in `Dimension.edge`). A sampler ends with
many trials around its best, and five of those would be one candidate five times."""


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
    trials: Sequence[FrozenTrial], baseline: FrozenTrial, space: Sequence[Dimension], belief: Belief, k: int
) -> list[FrozenTrial]:
    """At most `k` trials that are believed to have the lowest true values, and are pairwise distinct and from the baseline.

    By the mean, not by the luckiest value. In the simulation of the tests a lower bound, and the probability of being the best,
    leave worse settings: the best of five by the mean is as good as the best of eight by raw value.

    Args:
        trials: the complete ones.
        baseline: in any state.
        space: the dimensions of the search.
        belief: of all complete trials.
        k: how many at most.
    """
    believed = [trial for trial in trials if trial.number in belief.trials]
    best: list[FrozenTrial] = []
    for trial in sorted(believed, key=lambda trial: (belief.mean_of(trial.number), trial.number)):
        if len(best) < k and all(are_distinct(trial.params, one.params, space) for one in [baseline, *best]):
            best.append(trial)
    return best


def trials_to_confirm(study: optuna.Study, count: int) -> list[FrozenTrial]:
    """The baseline, `count` distinct trials that may be the best, and the recommendation of an earlier confirmation.

    Raises:
        NegativeAnswer: no trial except the baseline is complete.
    """
    trials, primary = study.get_trials(deepcopy=False), primary_index(study_objectives(study))
    complete = complete_trials(trials)
    baseline = require_trial(study, trials, BASELINE_TRIAL) if trials else None
    space = study_space(study)
    belief = believe(complete, space, primary)
    best = best_distinct(complete, baseline, space, belief, count) if belief is not None and baseline is not None else []
    if baseline is None or not best or not trial_settings(baseline):
        raise NegativeAnswer(
            f"nothing to confirm: no trial of `{study.study_name}` except the baseline is complete",
            hint=f"continue the search with `islr-search run {study.study_name}`",
        )
    earlier = load_confirmed(study)
    known = {BASELINE_TRIAL, *(trial.number for trial in best)}
    if earlier is not None and earlier.found.recommended not in known:  # luckier values do not displace what was confirmed
        best.append(require_trial(study, trials, earlier.found.recommended or BASELINE_TRIAL))
    return [baseline, *best]
