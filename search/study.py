"""A study in its storage: made or found, and read back.

A trial is RUNNING while it trains, and when a run that was stopped has left it. COMPLETE and PRUNED trials are finished and
count towards the target; FAIL does not.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from data_utils.splits import Split
from model.objective import Objective
from search import BASELINE_TRIAL
from search.definition import Plan, StudyDefinition
from search.errors import NegativeAnswer
from search.events import TrialSummary
from search.goals import Goal, lead_of
from search.identity import identity, is_described, require_same, store_identity, widen
from search.leases import Owner, owner_of
from search.records import trial_folder
from search.settings import BEFORE, settings

if TYPE_CHECKING:
    from data_utils.prepared import DataSet

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
STATE_NAMES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
EXHAUSTED = "exhausted"
"""The attribute of a study whose space holds nothing more to try."""


@dataclass(frozen=True)
class StudyData:
    """What a study says of its data, so that results can be read without the data."""

    folder: str
    fingerprint: str
    words: tuple[str, ...]
    split: Split


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
            definition.goals
        ):  # a run died between making and describing it
            _describe(study, definition, data, split, fingerprint, lines)
        elif wider:
            changes = widen(study, lines, definition)
            study.set_user_attr(EXHAUSTED, False)
        else:
            require_same(study, lines)
    else:
        directions = [goal.direction for goal in definition.goals]
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
        study.set_metric_names([goal.name for goal in definition.goals])
    study.set_user_attr("about", definition.about)
    study.set_user_attr("seed", definition.seed)
    study.set_user_attr("goals", [dataclasses.asdict(goal) for goal in definition.goals])
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


def owner(trial: FrozenTrial) -> Owner | None:
    """The run that took a trial last; None for one that no run has taken."""
    return owner_of(trial.user_attrs.get("owner"))


def is_finished(trial: FrozenTrial) -> bool:
    """Whether nothing will happen to it any more."""
    return trial.state.is_finished()


def count_states(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Trials by state name; every state is there."""
    return {name: sum(trial.state == state for trial in trials) for state, name in STATE_NAMES.items()}


def num_finished(trials: Sequence[FrozenTrial]) -> int:
    """Trials that count towards the target."""
    return sum(trial.state in FINISHED for trial in trials)


def study_goals(study: optuna.Study) -> tuple[Goal, ...]:
    """What a study minimises."""
    return tuple(Goal(**goal) for goal in study.user_attrs.get("goals", [{}]))


def study_plan(study: optuna.Study) -> Plan:
    """How a study's trials train."""
    stored = dict(study.user_attrs.get("plan", {}))
    return Plan(**{**stored, "objective": Objective(**stored.get("objective", {}))})


def best_trial(trials: Sequence[FrozenTrial], lead: int = 0) -> FrozenTrial | None:
    """The complete trial with the lowest value; the first of equals; None if none is complete.

    Of several objectives the one at `lead` decides (see `goals.lead_of`), then the others.
    """
    return min(complete_trials(trials), key=lambda trial: _order(trial, lead), default=None)


def front_of(trials: Sequence[FrozenTrial], lead: int = 0) -> list[FrozenTrial]:
    """The complete trials that no other beats in everything (the Pareto front), starting with `best_trial`.

    Of trials with equal values the first. With one objective that is the best trial alone.
    """
    front: list[FrozenTrial] = []
    for trial in sorted(complete_trials(trials), key=lambda trial: _order(trial, lead)):
        if not any(all(a <= b for a, b in zip(other.values, trial.values, strict=True)) for other in front):
            front.append(trial)
    return front


def _order(trial: FrozenTrial, lead: int) -> tuple[float, ...]:
    return (trial.values[lead], *trial.values, trial.number)


def complete_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """A trial that another program told has no result of ours: nobody could train it again."""
    return [trial for trial in trials if trial.state == TrialState.COMPLETE and "result" in trial.user_attrs]


def require_best(study: optuna.Study) -> FrozenTrial:
    """The best complete trial.

    Raises:
        NegativeAnswer: there is none.
    """
    best = best_trial(study.get_trials(deepcopy=False), lead_of(study_goals(study)))
    if best is None:
        raise NegativeAnswer(
            f"no trial of `{study.study_name}` has trained to its end yet",
            hint=f"`python -m search run {study.study_name}` goes on, `python -m search status {study.study_name}` tells more",
        )
    return best


def summary(trial: FrozenTrial | None) -> TrialSummary | None:
    """A finished trial in short."""
    result = trial_result(trial) if trial is not None else {}
    if trial is None or not result:
        return None
    values = result.get("values") or {"val_loss": result["val_loss"]}  # without: an earlier version wrote it
    return TrialSummary(trial.number, trial.params, next(iter(values.values())), result["val_top1"], result["epoch"], values)


def baseline_summary(trials: Sequence[FrozenTrial]) -> TrialSummary | None:
    """The baseline in short, once it is finished."""
    return next((summary(t) for t in trials if t.number == BASELINE_TRIAL and t.state in FINISHED), None)


def store_result(trial: optuna.Trial, result: Mapping[str, Any]) -> None:
    """Keeps with a trial what it gave, and what it cost."""
    trial.set_user_attr("result", json.dumps(result))


def trial_result(trial: FrozenTrial) -> dict[str, Any]:
    """What `store_result` kept; empty for a trial that gave nothing."""
    result: dict[str, Any] = json.loads(trial.user_attrs.get("result", "{}"))
    return result


def trial_settings(trial: FrozenTrial) -> dict[str, dict[str, Any]]:
    """The settings that a trial was trained with, by group; empty for a trial that never started.

    Settings that there were not yet when it was trained stand as they acted then.
    """
    stored: dict[str, dict[str, Any]] = json.loads(trial.user_attrs.get("settings", "{}"))
    if not stored:
        return {}
    whole: dict[str, dict[str, Any]] = {}
    for key, setting in settings().items():
        value = stored.get(setting.group, {}).get(setting.field, BEFORE.get(key, setting.default))
        whole.setdefault(setting.group, {})[setting.field] = value
    return whole


def curve_of(trial: FrozenTrial) -> dict[int, float]:
    """The objective by epoch (with the pruner `wilcoxon` by training), as reported."""
    return dict(sorted(trial.intermediate_values.items()))


def files_of(runs: Path, study: str, trial: int) -> list[Path]:
    """The files that a trial left."""
    folder = trial_folder(runs, study, trial)
    return sorted(folder.iterdir()) if folder.is_dir() else []
