"""Loads a study, and reads what it was created with: its data, objectives and plan.

A trial is RUNNING while it trains, and stays so if its run was stopped. COMPLETE and PRUNED trials are finished and count
towards the target; FAIL does not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from data_utils.splits import Split
from data_utils.wording import caution_of, suggest
from model.objective import Objective
from search.definition.definition import Plan
from search.definition.objectives import StudyObjective
from search.errors import DefinitionError
from search.study.checked import CheckedStudy, Notify
from search.study.companion import CONFIRMED_STUDY, TRAINING_DISTRIBUTIONS, is_companion
from search.study.confirmed import from_plain
from search.study.openings import is_record
from search.study.presence import study_names


def checked_study(storage: optuna.storages.BaseStorage, name: str, notify: Notify) -> CheckedStudy:
    """A study that exists, read with checks."""
    return CheckedStudy(name, storage, notify, TRAINING_DISTRIBUTIONS if is_companion(name) else ())


def load_study(storage: optuna.storages.BaseStorage, name: str, notify: Notify) -> CheckedStudy:
    """An existing study. `notify` gets a line about everything in it that other programs have spoiled.

    Raises:
        DefinitionError: there is none of this name.
    """
    names = [known for known in study_names(storage) if known == name or not (is_companion(known) or is_record(known))]
    if name not in names:
        raise DefinitionError(
            f"the database holds no study `{name}`",
            expected=f"one of {', '.join(sorted(names))}" if names else "a study; there is none yet",
            hint=suggest(name, names) or f"start it with `islr-search run {name}`",
        )
    return checked_study(storage, name, notify)


EXHAUSTED = "exhausted"
"""The study attribute that says that every setting in the space was tried."""


def get_trial(study: CheckedStudy, number: int) -> FrozenTrial:
    """A trial by its number, with its curve. No other trial is read.

    Raises:
        DefinitionError: the study has no such trial.
    """
    found = study.trial(number)
    if found is None:
        count = len(study.get_trials(deepcopy=False))
        raise DefinitionError(
            f"the study `{study.study_name}` has no trial {number}",
            expected=f"0 to {count - 1}" if count else "a study with trials",
            hint=f"list them with `islr-search trials {study.study_name}`",
        )
    return found


SHARES_SEEDS = "shares_seeds"
"""The study attribute that says whether all trials train with the same seeds. It is written when the study is made, and holds
whatever sampler goes on with it. Studies of earlier versions lack it."""

STRATEGY = "strategy"
"""The study attribute with the sampler and the pruner of its last run. Studies of earlier versions lack it."""


@dataclass(frozen=True)
class StudyData:
    """A study's data as stored with it, so that results can be read without the data."""

    folder: str
    fingerprint: str
    words: tuple[str, ...]
    split: Split


def study_data(study: optuna.Study) -> StudyData:
    """The data that a study was created with."""
    stored = json.loads(study.user_attrs["data"])
    return from_plain(StudyData, {**stored, "split": stored})


def split_kind(study: optuna.Study) -> str:
    """Whether a study, or the study that a confirmation belongs to, holds out signers or clips."""
    if "data" in study.user_attrs:
        return study_data(study).split.kind
    confirmed = study.user_attrs.get(CONFIRMED_STUDY) or {}  # confirmations of earlier versions lack it: they are by signer
    return "clips" if "data: split" in confirmed.get("identity", {}) else "signers"


def study_caution(study: optuna.Study) -> str:
    """What limits every result of a study or of a confirmation; empty for a split by signer."""
    return caution_of(split_kind(study))


def study_objectives(study: optuna.Study) -> tuple[StudyObjective, ...]:
    """The objectives of a study."""
    return tuple(StudyObjective(**objective) for objective in study.user_attrs.get("goals", [{}]))


def study_plan(study: optuna.Study) -> Plan:
    """How the trials of a study train."""
    stored = dict(study.user_attrs.get("plan", {}))
    return Plan(**{**stored, "objective": Objective(**stored.get("objective", {}))})
