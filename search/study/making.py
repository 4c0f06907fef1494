"""Creates a study, or opens an existing one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import optuna
from optuna.study import StudyDirection

from data_utils.splits import Split
from search.definition.definition import StudyDefinition
from search.definition.objectives import StudyObjective
from search.definition.samplers import ignore_experimental
from search.storage.tables import uncached
from search.study.identity import accept_wider_ranges, identity, is_ours, require_same, store_identity
from search.study.order import ORDER_SEED
from search.study.presence import study_names
from search.study.study import EXHAUSTED, SHARES_SEEDS, checked_study
from search.study.study_id import assign_id

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
    order_seed: int | None = None,
) -> tuple[optuna.Study, list[str]]:
    """Creates the study with its baseline waiting as trial 0, or opens it.

    Args:
        wider: accept ranges wider than those of the existing study.
        order_seed: of an order of the clips that the trials of a new study share. An existing study keeps what it has.

    Returns:
        The study, and the ranges that became wider, in words.

    Raises:
        DefinitionError: the existing study has different settings.
    """
    changes: list[str] = []
    study: optuna.Study
    lines = identity(definition, split, fingerprint)
    directions = [objective.direction for objective in definition.objectives]
    if definition.name not in study_names(storage):
        study = optuna.create_study(storage=storage, study_name=definition.name, directions=directions)
        _describe(study, definition, data, split, fingerprint, lines, order_seed)
    else:
        study = checked_study(storage, definition.name, notify=lambda text: None)  # the run's own view of the study notifies
        is_empty = not is_ours(study) and not uncached(storage).get_n_trials(study._study_id)
        if is_empty and study.directions == [StudyDirection.MINIMIZE] * len(directions):
            _describe(study, definition, data, split, fingerprint, lines, order_seed)  # a run died after creating it
        elif wider:
            changes = accept_wider_ranges(study, lines, definition)
            study.set_user_attr(EXHAUSTED, False)
        else:
            require_same(study, lines)
    if not uncached(storage).get_n_trials(study._study_id):
        study.enqueue_trial(dict(definition.baseline))
    return study, changes


def name_objectives(study: optuna.Study, objectives: Sequence[StudyObjective]) -> None:
    """Gives the study's values their names, which the dashboard shows in place of `Objective 0`."""
    with ignore_experimental():
        study.set_metric_names([objective.name for objective in objectives])


def _describe(
    study: optuna.Study,
    definition: StudyDefinition,
    data: DataSet,
    split: Split,
    fingerprint: str,
    lines: Mapping[str, str],
    order_seed: int | None,
) -> None:
    name_objectives(study, definition.objectives)
    study.set_user_attr("about", definition.about)
    study.set_user_attr("seed", definition.seed)
    study.set_user_attr("goals", [dataclasses.asdict(objective) for objective in definition.objectives])
    study.set_user_attr("plan", dataclasses.asdict(definition.plan))
    study.set_user_attr(SHARES_SEEDS, definition.shares_seeds)
    if order_seed is not None:
        study.set_user_attr(ORDER_SEED, order_seed)
    roles = {dim.name: {"key": dim.setting.key, "range": dim.text(), "role": dim.role} for dim in definition.space}
    study.set_user_attr("space", json.dumps(roles, ensure_ascii=False))
    about_data = {
        "folder": str(data.folder.resolve()),
        "fingerprint": fingerprint,
        "words": list(data.words),
        "folds": split.folds,
    }
    clips = {} if split.clips is None else {"clips": dataclasses.asdict(split.clips)}
    study.set_user_attr("data", json.dumps({**about_data, **split.parts(), **clips}, ensure_ascii=False))
    assign_id(study)
    store_identity(study, lines)  # last: a study with an identity has all the rest
