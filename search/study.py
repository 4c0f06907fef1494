"""A study in its storage: made or found, and read back.

A trial is RUNNING while it trains, and when a run that was stopped has left it. COMPLETE and PRUNED trials are finished and
count towards the target; FAIL does not.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from data_utils.splits import Split
from model.record import EpochRecord
from search.definition import StudyDefinition
from search.errors import NegativeAnswer
from search.events import TrialSummary
from search.identity import identity, is_described, require_same, store_identity, widen
from search.leases import Owner, owner_of
from search.records import trial_folder

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
BASELINE_TRIAL = 0
EXHAUSTED = "exhausted"
"""The attribute of a study whose space holds nothing more to try."""

MEASURED = ("epoch", "val_loss", "val_top1", "val_top5", "val_ece", "train_loss")
"""What is kept of a trial's best epoch."""


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
        if half_made and study.directions == [StudyDirection.MINIMIZE]:  # a run died between making and describing it
            _describe(study, definition, data, split, fingerprint, lines)
        elif wider:
            changes = widen(study, lines, definition)
            study.set_user_attr(EXHAUSTED, False)
        else:
            require_same(study, lines)
    else:
        study = optuna.create_study(storage=storage, study_name=definition.name, direction=definition.objective.direction)
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
        study.set_metric_names([definition.objective.metric])
    study.set_user_attr("about", definition.about)
    study.set_user_attr("seed", definition.seed)
    about_data = {"folder": str(data.folder.resolve()), "fingerprint": fingerprint, "words": list(data.words), **split.parts()}
    study.set_user_attr("data", json.dumps(about_data, ensure_ascii=False))
    store_identity(study, lines)  # last: a study with an identity has all the rest


def study_data(study: optuna.Study) -> StudyData:
    """What a study was made with."""
    stored = json.loads(study.user_attrs["data"])
    split = Split(train=tuple(stored["train"]), validation=tuple(stored["validation"]), test=tuple(stored["test"]))
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


def best_trial(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The complete trial with the lowest value; the first of equals; None if none is complete.

    A trial that another program told has no result of ours: nobody could train it again.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and "result" in trial.user_attrs]
    return min(complete, key=lambda trial: (trial.value, trial.number), default=None)


def require_best(study: optuna.Study) -> FrozenTrial:
    """The best complete trial.

    Raises:
        NegativeAnswer: there is none.
    """
    best = best_trial(study.get_trials(deepcopy=False))
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
    return TrialSummary(trial.number, trial.params, result["val_loss"], result["val_top1"], result["epoch"])


def baseline_summary(trials: Sequence[FrozenTrial]) -> TrialSummary | None:
    """The baseline in short, once it is finished."""
    return next((summary(t) for t in trials if t.number == BASELINE_TRIAL and t.state in FINISHED), None)


def store_result(trial: optuna.Trial, history: Sequence[EpochRecord]) -> None:
    """Keeps with a trial what its best epoch gave, and what it cost."""
    best = min(history, key=lambda record: record.val_loss)
    seconds = sum(record.seconds for record in history)
    result = {name: getattr(best, name) for name in MEASURED} | {"epochs": len(history), "seconds": seconds}
    trial.set_user_attr("result", json.dumps(result))


def trial_result(trial: FrozenTrial) -> dict[str, Any]:
    """What `store_result` kept; empty for a trial that gave nothing."""
    result: dict[str, Any] = json.loads(trial.user_attrs.get("result", "{}"))
    return result


def trial_settings(trial: FrozenTrial) -> dict[str, dict[str, Any]]:
    """The settings that a trial was trained with, by group; empty for a trial that never started."""
    stored: dict[str, dict[str, Any]] = json.loads(trial.user_attrs.get("settings", "{}"))
    return stored


def curve_of(trial: FrozenTrial) -> dict[int, float]:
    """val_loss by epoch, as reported."""
    return dict(sorted(trial.intermediate_values.items()))


def files_of(runs: Path, study: str, trial: int) -> list[Path]:
    """The files that a trial left."""
    folder = trial_folder(runs, study, trial)
    return sorted(folder.iterdir()) if folder.is_dir() else []
