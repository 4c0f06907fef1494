"""When a study ends: by its number of trials, its time, or because it no longer improves."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

from optuna.trial import FrozenTrial

from search.definition.definition import Stagnation, StudyDefinition
from search.study.trials import FINISHED_STATES, complete_trials, num_finished, trial_curve, trial_result

_TAIL = 10
"""Last epochs of the best curve from which the noise is estimated."""


def why_ended(trials: Sequence[FrozenTrial], definition: StudyDefinition, target: int, *, more: bool = False) -> str:
    """The condition that ends a study, in words; empty if none is met. With `more` only the target counts."""
    finished = num_finished(trials)
    if finished >= target:
        return f"{finished:,} trials are finished"
    if more:
        return ""
    if definition.time_s is not None:
        spent = sum(trial_result(trial).get("seconds", 0.0) for trial in trials)
        if spent >= definition.time_s:
            return f"its trials trained for {spent:,.0f} s, and the limit is {definition.time_s:,.0f} s"
    return _why_stagnant(trials, definition.stagnation) if definition.stagnation is not None else ""


def _why_stagnant(trials: Sequence[FrozenTrial], limit: Stagnation) -> str:
    """Goes through finished trials in the order they ended. An improvement lies below the last one by more than the noise."""
    order = sorted((t for t in trials if t.state in FINISHED_STATES), key=lambda t: (t.datetime_complete, t.number))
    complete = complete_trials(order)
    if not complete:
        return ""
    ranked = sorted(complete, key=_value)
    noise = noise_of(*ranked[:2]) if limit.noise is None else limit.noise
    best, since, ours = float("inf"), 0, {trial.number for trial in complete}
    for trial in order:
        if trial.number in ours and _value(trial) < best - noise:
            best, since = _value(trial), 0
        else:
            since += 1
    if since < limit.trials:
        return ""
    return f"the last {since} trials brought no improvement beyond the noise ({noise:.2g})"


def noise_of(best: FrozenTrial, second: FrozenTrial | None = None) -> float:
    """Roughly how much a trial's value would change with another seed.

    With repeats: the standard error of the mean over all trainings, from their spread within each fold. With folds alone, whose
    spread mostly shows how hard their signers are: the standard error of the mean difference to the second best trial, fold by
    fold. With one training: the standard deviation of its last epoch-to-epoch steps, divided by sqrt(2), as if epochs were
    independent.
    """
    folds = _by_fold(best)
    count = sum(map(len, folds.values()))
    if any(len(values) > 1 for values in folds.values()):
        within = [statistics.variance(values) for values in folds.values() if len(values) > 1]
        return float((statistics.fmean(within) / count) ** 0.5)
    if count > 1:
        others = {} if second is None else _by_fold(second)
        gaps = [values[0] - others[fold][0] for fold, values in folds.items() if fold in others]
        return statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else 0.0
    curve = list(trial_curve(best).values())[-_TAIL:]
    steps = [after - before for before, after in itertools.pairwise(curve)]
    return float(statistics.pstdev(steps) / 2**0.5) if len(steps) > 1 else 0.0


def _by_fold(trial: FrozenTrial) -> dict[int, list[float]]:
    values: dict[int, list[float]] = {}
    for one in trial_result(trial).get("trainings", []):
        values.setdefault(one["fold"], []).append(one["value"])
    return values


def _value(trial: FrozenTrial) -> float:
    return trial.values[0] if trial.values else float("inf")
