"""The companion study `STUDY/confirm`, whose trials are the trainings of a confirmation."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from search.definition.observed import failed_by_machine
from search.errors import DefinitionError
from search.study.checked import CheckedStudy, notify_of
from search.study.identity import IDENTITY, is_rounding
from search.study.presence import all_studies, study_names
from search.study.study_id import SHORT, assign_id, study_id
from search.study.trials import settings_differences, trial_settings

if TYPE_CHECKING:
    import optuna
    from optuna.study._frozen import FrozenStudy


_COMPANION = "/confirm"
_NAME = re.compile(rf".+{_COMPANION}(-[0-9a-f]{{{SHORT}}})?")

CONFIRMS = "confirms"
"""The attribute of a companion that holds the name of the search it confirms."""

CONFIRMED_STUDY = "confirmed_study"
"""The attribute of a companion that holds the id and the identity of the search it confirms. Earlier versions lack it."""

CANDIDATE, SEED = "candidate", "seed"
TRAINING_DISTRIBUTIONS: dict[str, BaseDistribution] = {CANDIDATE: IntDistribution(0, 10**9), SEED: IntDistribution(1, 10**9)}
"""The parameters of a training: the candidate's number in the search, and the number of the seed, from 1."""

_MAX_DIFFERENCES = 5
"""Differences that an error lists."""


def is_companion(study: str) -> bool:
    """Whether a study's name is that of a companion. No search can have such a name."""
    return _NAME.fullmatch(study) is not None


def find_companion(study: optuna.Study, storage: optuna.storages.BaseStorage) -> optuna.Study | None:
    """The companion of a study; None if it was not confirmed.

    It is found by the study's id, so that a companion that an earlier study of the same name has left is never taken for it.
    A companion of an earlier version carries no id: it is the study's if all its trainings can be.

    Raises:
        DefinitionError: its trainings are of another question than the study's.
    """
    own = study_id(study)
    for one in all_studies(storage):
        if not is_companion(one.study_name):
            continue
        link = one.user_attrs.get(CONFIRMED_STUDY)
        by_name = link is None and one.user_attrs.get(CONFIRMS) == study.study_name
        if by_name or (isinstance(link, dict) and own is not None and link.get("id") == own):
            companion = CheckedStudy(one.study_name, storage, notify_of(study), TRAINING_DISTRIBUTIONS)
            differences = _differences(study, companion)
            if not differences:
                return companion
            if not by_name:
                raise DefinitionError(
                    f"the trainings in `{one.study_name}` are of another question than `{study.study_name}`",
                    got="\n     ".join(differences[:_MAX_DIFFERENCES]),
                    expected="the same objective, data, split and settings",
                    hint=f"delete the study `{one.study_name}` in the dashboard, and confirm again",
                )
    return None


def companion_to_write(study: optuna.Study, storage: optuna.storages.BaseStorage) -> tuple[str, list[str]]:
    """The name of a study's companion, which need not exist; and what a person should know, in sentences.

    Raises: same as `find_companion`.
    """
    companion = find_companion(study, storage)
    if companion is not None:
        return companion.study_name, []
    own = study_id(study)
    assert own is not None
    usual, name = f"{study.study_name}{_COMPANION}", companion_name(study.study_name, own, study_names(storage))
    if name == usual:
        return usual, []
    return name, [
        f"the database also holds `{usual}`, which is not the confirmation of this study, perhaps of one of its name that was "
        f"deleted or renamed: it is left alone, and the trainings go to `{name}`"
    ]


def companion_name(study: str, id: str, taken: Collection[str]) -> str:
    """The name for the companion of a study."""
    usual = f"{study}{_COMPANION}"
    return usual if usual not in taken else f"{usual}-{id[:SHORT]}"


def link_companion(companion: optuna.Study, study: optuna.Study) -> None:
    """Records in a companion which study it confirms, and gives it an id if it has none."""
    companion.set_user_attr(CONFIRMS, study.study_name)
    link = {"id": study_id(study), "identity": json.loads(study.user_attrs[IDENTITY])}
    companion.set_user_attr(CONFIRMED_STUDY, link)
    if study_id(companion) is None:
        assign_id(companion)


def study_of(companion: optuna.Study | FrozenStudy) -> tuple[str, str | None] | None:
    """The name and the id of the study that a companion confirms; None if the study is no companion."""
    attributes = companion.user_attrs
    if not is_companion(companion.study_name) or CONFIRMS not in attributes:
        return None
    link = attributes.get(CONFIRMED_STUDY)
    return str(attributes[CONFIRMS]), str(link["id"]) if isinstance(link, dict) and link.get("id") else None


def _differences(study: optuna.Study, companion: optuna.Study) -> list[str]:
    """What shows that the trainings of a companion are not of the study, as text. Ranges may have become wider."""
    link = companion.user_attrs.get(CONFIRMED_STUDY)
    stored = link.get("identity") if isinstance(link, dict) else None
    now = json.loads(study.user_attrs.get(IDENTITY, "{}"))
    found = [
        f"{key}: {text} -> {now[key]}"
        for key, text in (stored.items() if isinstance(stored, dict) else ())
        if key in now and text != now[key] and not key.startswith("space: ") and not is_rounding(key, text, now[key])
    ]
    trials = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    for training in companion.get_trials(deepcopy=False):
        candidate = trials.get(training.params.get(CANDIDATE, -1))
        if candidate is None:
            found.append(f"training {training.number}: trial {training.params.get(CANDIDATE)} is not in `{study.study_name}`")
            continue
        different = settings_differences(trial_settings(candidate), trial_settings(training))
        found += [f"training {training.number} of trial {candidate.number}: {text}" for text in different]
        begun, ended = training.datetime_start, candidate.datetime_complete
        if stored is None and begun is not None and ended is not None and begun < ended:
            found.append(f"training {training.number}: began before trial {candidate.number} ended")
    return found


def fresh_trainings(study: optuna.Study, storage: optuna.storages.BaseStorage) -> list[FrozenTrial]:
    """The trainings of a study's confirmation; empty if it was not confirmed.

    Raises: same as `find_companion`.
    """
    companion = find_companion(study, storage)
    return [] if companion is None else companion.get_trials(deepcopy=False)


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
