"""The companion study `STUDY/confirm`, whose trials are the trainings of a confirmation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from search.study.checked import CheckedStudy, notify_of, study_names

if TYPE_CHECKING:
    import optuna


_COMPANION = "/confirm"
CONFIRMS = "confirms"
"""The attribute of a companion that holds the name of the search it confirms."""

CANDIDATE, SEED = "candidate", "seed"
TRAINING_DISTRIBUTIONS: dict[str, BaseDistribution] = {CANDIDATE: IntDistribution(0, 10**9), SEED: IntDistribution(1, 10**9)}
"""The parameters of a training: the candidate's number in the search, and the number of the seed, from 1."""


def companion_name(study: str) -> str:
    """The name of a study's companion. No search can have this name."""
    return f"{study}{_COMPANION}"


def is_companion(study: str) -> bool:
    """Whether a study's name is that of a companion."""
    return study.endswith(_COMPANION)


def fresh_trainings(study: optuna.Study, storage: optuna.storages.BaseStorage) -> list[FrozenTrial]:
    """The trainings of a study's confirmation; empty if it was not confirmed."""

    name = companion_name(study.study_name)
    if name not in study_names(storage):
        return []
    return CheckedStudy(name, storage, notify_of(study), TRAINING_DISTRIBUTIONS).get_trials(deepcopy=False)


def training_values(
    trainings: Sequence[FrozenTrial], primary: int, *, retry_before: int = 0
) -> dict[int, dict[int, float | None]]:
    """The values of finished trainings by candidate and seed; None for a training that failed.

    Args:
        primary: index of the primary objective.
        retry_before: of the trainings with a lower number, those that failed because of the machine are left out, so that
            they are retried.
    """
    values: dict[int, dict[int, float | None]] = {}
    for trial in trainings:
        if trial.state.is_finished() and not (trial.number < retry_before and failed_by_machine(trial)):
            value = trial.values[primary] if trial.state == TrialState.COMPLETE else None
            values.setdefault(trial.params[CANDIDATE], {})[trial.params[SEED]] = value
    return values


def complete_trainings(trainings: Sequence[FrozenTrial], candidate: int) -> list[FrozenTrial]:
    """The complete trainings of one candidate, in order of their seeds."""
    complete = [one for one in trainings if one.state == TrialState.COMPLETE and one.params[CANDIDATE] == candidate]
    return sorted(complete, key=lambda one: int(one.params[SEED]))


def failed_by_machine(training: FrozenTrial) -> bool:
    """Whether a training failed because workers died or memory ran out, and not because of its settings."""
    attributes = training.user_attrs
    out_of_memory = str(attributes.get("reason", "")).startswith("out of memory")
    return training.state == TrialState.FAIL and (bool(attributes.get("deaths")) or out_of_memory)
