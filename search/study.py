"""A study in its storage: made or found, locked, and read back.

A trial is RUNNING while it trains, and when a run that was stopped has left it. COMPLETE and PRUNED trials are finished and
count towards the target; FAIL does not.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from data_utils.splits import Split
from model.record import EpochRecord
from search.definition import StudyDefinition
from search.errors import NegativeAnswer, ResourceError
from search.events import TrialSummary
from search.identity import identity, is_described, require_same, store_identity
from search.records import trial_folder
from search.storage import database_path

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
_LOCK_PATIENCE_S = 1
"""`is_locked` holds the lock for an instant; a run that starts just then must not be refused."""

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
    storage: optuna.storages.BaseStorage, definition: StudyDefinition, data: DataSet, split: Split, fingerprint: str
) -> optuna.Study:
    """Makes the study with its baseline waiting as trial 0, or finds it.

    Raises:
        DefinitionError: the study asks another question than the definition.
    """
    lines = identity(definition, split, fingerprint)
    if definition.name in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name=definition.name, storage=storage)
        half_made = not is_described(study) and not study.get_trials(deepcopy=False)
        if half_made and study.directions == [StudyDirection.MINIMIZE]:  # a run died between making and describing it
            _describe(study, definition, data, split, fingerprint, lines)
        else:
            require_same(study, lines)
    else:
        study = optuna.create_study(storage=storage, study_name=definition.name, direction=definition.objective.direction)
        _describe(study, definition, data, split, fingerprint, lines)
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(dict(definition.baseline))
    return study


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


@contextlib.contextmanager
def study_lock(storage_url: str, study: str) -> Iterator[None]:
    """Holds the study for one run at a time. The lock goes with the process, however it ends.

    Raises:
        ResourceError: another run holds it.
    """
    database = database_path(storage_url)
    path = database.with_name(f".{database.name}.{study}.lock")
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(path, timeout=_LOCK_PATIENCE_S).acquire()
    except filelock.Timeout as error:
        raise ResourceError(
            f"another run is working on the study `{study}`",
            where=str(database),
            hint=f"wait for it, watch it with `python -m search status {study}`, or start another study with `--as NAME`",
        ) from error
    except OSError as error:
        raise ResourceError(
            "the folder of the study database cannot be written",
            where=str(database.parent),
            got=error.strerror,
            hint="free some space, or name another place with --storage sqlite:///PATH",
        ) from error
    with held:
        yield


def is_locked(storage_url: str, study: str) -> bool:
    """Whether a run is working on the study now."""
    database = database_path(storage_url)
    path = database.with_name(f".{database.name}.{study}.lock")
    if not path.exists():
        return False
    lock = filelock.FileLock(path, timeout=0)
    try:
        with lock:
            return False
    except (filelock.Timeout, OSError):
        return True


def count_states(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Trials by state name; every state is there."""
    return {name: sum(trial.state == state for trial in trials) for state, name in STATE_NAMES.items()}


def num_finished(trials: Sequence[FrozenTrial]) -> int:
    """Trials that count towards the target."""
    return sum(trial.state in FINISHED for trial in trials)


def best_trial(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The complete trial with the lowest value; the first of equals; None if none is complete."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None]
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


def store_result(trial: optuna.Trial, history: Sequence[EpochRecord], seconds: float) -> None:
    """Keeps with a trial what its best epoch gave, and what it cost."""
    best = min(history, key=lambda record: record.val_loss)
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
