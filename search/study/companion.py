"""The study that holds fresh trainings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    import optuna


_COMPANION = "/confirm"
CONFIRMS = "confirms"
"""The attribute by which a study says which search's fresh trainings it holds."""


def companion_name(study: str) -> str:
    """The study that holds the trainings of a confirmation. No search can have this name."""
    return f"{study}{_COMPANION}"


def is_companion(study: str) -> bool:
    """Whether a study's name says that it holds such trainings."""
    return study.endswith(_COMPANION)


def fresh_trials(study: optuna.Study, storage: optuna.storages.BaseStorage) -> list[FrozenTrial]:
    """The trainings of a study's confirmation; none if it was not confirmed."""
    import optuna

    name = companion_name(study.study_name)
    if name not in optuna.get_all_study_names(storage):
        return []
    return optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)


CANDIDATE, SEED = "candidate", "seed"
SHAPES: dict[str, BaseDistribution] = {CANDIDATE: IntDistribution(0, 10**9), SEED: IntDistribution(1, 10**9)}


def values_of(trials: Sequence[FrozenTrial], primary: int, *, anew_before: int = 0) -> dict[int, dict[int, float | None]]:
    """What finished trainings gave, by candidate and seed; None for one that failed.

    `anew_before`: of trainings with a lower number, those that the machine has failed are to be tried again, and left out.
    """
    found: dict[int, dict[int, float | None]] = {}
    for trial in trials:
        if trial.state.is_finished() and not (trial.number < anew_before and failed_by_machine(trial)):
            value = trial.values[primary] if trial.state == TrialState.COMPLETE else None
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
