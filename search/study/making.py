"""A study is made, or found."""

from __future__ import annotations

import dataclasses
import json
import warnings
from typing import TYPE_CHECKING

import optuna
from optuna.study import StudyDirection

from data_utils.splits import Split
from search.definition.definition import StudyDefinition
from search.study.identity import identity, is_described, require_same, store_identity, widen
from search.study.study import EXHAUSTED

if TYPE_CHECKING:
    from data_utils.prepared import DataSet


def open_study(
    storage: optuna.storages.BaseStorage,
    definition: StudyDefinition,
    data: DataSet,
    split: Split,
    fingerprint: str,
    *,
    wider: bool = False,
) -> tuple[optuna.Study, list[str]]:
    """Makes the study with its baseline waiting as trial 0, or finds it. Says which ranges became wider, if they may.

    Raises:
        DefinitionError: the study asks another question than the definition.
    """
    changes: list[str] = []
    lines = identity(definition, split, fingerprint)
    if definition.name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=definition.name, storage=storage)
        half_made = not is_described(study) and not study.get_trials(deepcopy=False)
        if half_made and study.directions == [StudyDirection.MINIMIZE] * len(
            definition.objectives
        ):  # a run died between making and describing it
            _describe(study, definition, data, split, fingerprint, lines)
        elif wider:
            changes = widen(study, lines, definition)
            study.set_user_attr(EXHAUSTED, False)
        else:
            require_same(study, lines)
    else:
        directions = [objective.direction for objective in definition.objectives]
        study = optuna.create_study(storage=storage, study_name=definition.name, directions=directions)
        _describe(study, definition, data, split, fingerprint, lines)
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(dict(definition.baseline))
    return study, changes


def _describe(
    study: optuna.Study,
    definition: StudyDefinition,
    data: DataSet,
    split: Split,
    fingerprint: str,
    lines: dict[str, str],
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the dashboard would say `Objective 0`
        study.set_metric_names([objective.name for objective in definition.objectives])
    study.set_user_attr("about", definition.about)
    study.set_user_attr("seed", definition.seed)
    study.set_user_attr("goals", [dataclasses.asdict(objective) for objective in definition.objectives])
    study.set_user_attr("plan", dataclasses.asdict(definition.plan))
    roles = {dim.name: {"key": dim.setting.key, "range": dim.text(), "role": dim.role} for dim in definition.space}
    study.set_user_attr("space", json.dumps(roles, ensure_ascii=False))
    about_data = {
        "folder": str(data.folder.resolve()),
        "fingerprint": fingerprint,
        "words": list(data.words),
        "folds": split.folds,
    }
    study.set_user_attr("data", json.dumps({**about_data, **split.parts()}, ensure_ascii=False))
    store_identity(study, lines)  # last: a study with an identity has all the rest
