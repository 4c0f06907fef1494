"""A study in its storage: made or found, and read back.

A trial is RUNNING while it trains, and when a run that was stopped has left it. COMPLETE and PRUNED trials are finished and
count towards the target; FAIL does not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from data_utils.splits import Split
from model.objective import Objective
from search.definition.definition import Plan
from search.definition.objectives import StudyObjective, primary_index
from search.errors import DefinitionError, NegativeAnswer
from search.study.companion import is_companion
from search.study.trials import best_trial


def load_study(storage: optuna.storages.BaseStorage, name: str) -> optuna.Study:
    """A study that exists.

    Raises:
        DefinitionError: there is none of this name.
    """
    names = [known for known in optuna.get_all_study_names(storage) if known == name or not is_companion(known)]
    if name not in names:
        raise DefinitionError(
            f"the database holds no study `{name}`",
            expected=f"one of {', '.join(sorted(names))}" if names else "a study; there is none yet",
            hint=f"`python -m search run {name}` starts it",
        )
    return optuna.load_study(study_name=name, storage=storage)


EXHAUSTED = "exhausted"
"""The attribute of a study whose space holds nothing more to try."""


@dataclass(frozen=True)
class StudyData:
    """What a study says of its data, so that results can be read without the data."""

    folder: str
    fingerprint: str
    words: tuple[str, ...]
    split: Split


def study_data(study: optuna.Study) -> StudyData:
    """What a study was made with."""
    stored = json.loads(study.user_attrs["data"])
    split = Split(
        train=tuple(stored["train"]),
        validation=tuple(stored["validation"]),
        test=tuple(stored["test"]),
        folds=tuple(tuple(fold) for fold in stored.get("folds", [])),
    )
    return StudyData(stored["folder"], stored["fingerprint"], tuple(stored["words"]), split)


def study_objectives(study: optuna.Study) -> tuple[StudyObjective, ...]:
    """What a study minimises."""
    return tuple(StudyObjective(**objective) for objective in study.user_attrs.get("goals", [{}]))


def study_plan(study: optuna.Study) -> Plan:
    """How a study's trials train."""
    stored = dict(study.user_attrs.get("plan", {}))
    return Plan(**{**stored, "objective": Objective(**stored.get("objective", {}))})


def require_best(study: optuna.Study) -> FrozenTrial:
    """The best complete trial.

    Raises:
        NegativeAnswer: there is none.
    """
    best = best_trial(study.get_trials(deepcopy=False), primary_index(study_objectives(study)))
    if best is None:
        raise NegativeAnswer(
            f"no trial of `{study.study_name}` has trained to its end yet",
            hint=f"`python -m search run {study.study_name}` goes on, `python -m search status {study.study_name}` tells more",
        )
    return best
