"""The trainings of a confirmation as trials: what has been trained, and what its next round wants. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from search import BASELINE_TRIAL
from search.confirm.evidence import Values, dropped

CANDIDATE, SEED = "candidate", "seed"
SHAPES: dict[str, BaseDistribution] = {CANDIDATE: IntDistribution(0, 10**9), SEED: IntDistribution(1, 10**9)}


def values_of(trials: Sequence[FrozenTrial], lead: int, *, anew_before: int = 0) -> dict[int, dict[int, float | None]]:
    """What finished trainings gave, by candidate and seed; None for one that failed.

    `anew_before`: of trainings with a lower number, those that the machine has failed are to be tried again, and left out.
    """
    found: dict[int, dict[int, float | None]] = {}
    for trial in trials:
        if trial.state.is_finished() and not (trial.number < anew_before and failed_by_machine(trial)):
            value = trial.values[lead] if trial.state == TrialState.COMPLETE else None
            found.setdefault(trial.params[CANDIDATE], {})[trial.params[SEED]] = value
    return found


def trainings_of(trials: Sequence[FrozenTrial], candidate: int) -> list[FrozenTrial]:
    """The trainings of one candidate that came to their end, by the number of their seed."""
    found = [one for one in trials if one.state == TrialState.COMPLETE and one.params[CANDIDATE] == candidate]
    return sorted(found, key=lambda one: int(one.params[SEED]))


def failed_by_machine(trial: FrozenTrial) -> bool:
    """Whether a training failed because its workers died or memory was short, and not by its setting."""
    reason = str(trial.user_attrs.get("reason", ""))
    return trial.state == TrialState.FAIL and (bool(trial.user_attrs.get("deaths")) or reason.startswith("out of memory"))


def wanted(candidates: Sequence[int], values: Values, seeds: int) -> list[tuple[int, int]]:
    """What the first round that is not full lacks, as (candidate, seed); nothing when all rounds are full."""
    for seed in range(1, seeds + 1):
        out = dropped(candidates, values, seed - 1)
        racing = [BASELINE_TRIAL, *(candidate for candidate in candidates if candidate not in out)]
        lacking = [(candidate, seed) for candidate in racing if seed not in values.get(candidate, {})]
        if lacking:
            return lacking
    return []
