"""Functions over the trials of a study: best, Pareto front, counts, results, settings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.definition.settings import LEGACY_DEFAULTS, Configs, build_configs, settings
from search.definition.space import is_same
from search.definition.trial_attributes import attribute, set_attribute
from search.errors import DefinitionError
from search.storage.leases.lease import Owner, owner_of
from search.wording import trial_name

FINISHED_STATES = (TrialState.COMPLETE, TrialState.PRUNED)
STATE_NAMES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}

COMPARED = {
    **{name: name for name in ("val_loss", "val_loss_ts", "val_top1", "val_ece", "train_loss")},
    **{"best_epoch": "epoch", "epochs": "epochs", "seconds": "seconds"},
    **{"parameters": "parameters", "latency_ms": "latency_ms"},
}
"""The numbers of a result that are user attributes too, by the attribute's name. People read them; nothing here does."""

_DECIMALS = 6


def owner(trial: FrozenTrial) -> Owner | None:
    """The run that started a trial last; None if none has."""
    return owner_of(attribute(trial, "owner"))


def count_states(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """The number of trials by state name, for every state."""
    return {name: sum(trial.state == state for trial in trials) for state, name in STATE_NAMES.items()}


def num_finished(trials: Sequence[FrozenTrial]) -> int:
    """The number of trials that count towards the target."""
    return sum(trial.state in FINISHED_STATES for trial in trials)


def trial_with(trials: Sequence[FrozenTrial], number: int) -> FrozenTrial | None:
    """The trial with a number; None if there is none. Its place in the list may be another one: trials can be deleted."""
    if 0 <= number < len(trials) and trials[number].number == number:
        return trials[number]
    return next((trial for trial in trials if trial.number == number), None)


def require_trial(study: optuna.Study, trials: Sequence[FrozenTrial], number: int) -> FrozenTrial:
    """The trial with a number that something else in the study refers to.

    Raises:
        DefinitionError: there is none.
    """
    found = trial_with(trials, number)
    if found is None:
        raise DefinitionError(
            f"the study `{study.study_name}` has no {trial_name(number)} any more: another program has deleted it",
            hint="restore the database from a copy, or start a new study with `--as NAME`",
        )
    return found


def complete_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The complete trials that this tool trained. One that another program completed could not be trained again."""
    return [trial for trial in trials if trial.state == TrialState.COMPLETE and not lacking(trial)]


def lacking(trial: FrozenTrial) -> list[str]:
    """The attributes that a trial lacks that this tool stores with every trial that it has trained."""
    return [key for key in ("result", "settings", "seed") if attribute(trial, key) is None]


def best_trial(trials: Sequence[FrozenTrial], primary: int = 0) -> FrozenTrial | None:
    """The complete trial with the lowest value, the first of equals; None if none is complete.

    With several objectives the one at index `primary` decides (see `objectives.primary_index`), then the others.
    """
    return min(complete_trials(trials), key=lambda trial: _order(trial, primary), default=None)


def ranked_trials(trials: Sequence[FrozenTrial], primary: int = 0) -> list[FrozenTrial]:
    """The complete trials, `best_trial` first."""
    return sorted(complete_trials(trials), key=lambda trial: _order(trial, primary))


def pareto_front(trials: Sequence[FrozenTrial], primary: int = 0) -> list[FrozenTrial]:
    """The complete trials that no other trial dominates, starting with `best_trial`; of equal trials the first.

    With one objective that is the best trial alone.
    """
    front: list[FrozenTrial] = []
    for trial in ranked_trials(trials, primary):
        if not any(all(a <= b for a, b in zip(other.values, trial.values, strict=True)) for other in front):
            front.append(trial)
    return front


def is_in_front(trial: FrozenTrial, trials: Sequence[FrozenTrial], primary: int = 0) -> bool:
    """Whether a trial is in the `pareto_front` of these trials, which takes longer to find."""
    order = _order(trial, primary)
    return trial in complete_trials([trial]) and not any(
        all(a <= b for a, b in zip(other.values, trial.values, strict=True)) and _order(other, primary) < order
        for other in complete_trials(trials)
    )


def _order(trial: FrozenTrial, primary: int) -> tuple[float, ...]:
    return (trial.values[primary], *trial.values, trial.number)


def store_result(trial: optuna.Trial, result: Mapping[str, Any]) -> None:
    """Stores the result of a trial with it, and the numbers in it that people compare, rounded."""
    set_attribute(trial, "result", json.dumps(result))
    for name, key in COMPARED.items():
        if (value := result.get(key)) is not None and math.isfinite(value):
            set_attribute(trial, name, round(value, _DECIMALS))


def trial_result(trial: FrozenTrial) -> dict[str, Any]:
    """The result that `store_result` stored; empty for a trial without."""
    result: dict[str, Any] = json.loads(attribute(trial, "result", "{}"))
    return result


def trial_settings(trial: FrozenTrial) -> dict[str, dict[str, Any]]:
    """The settings that a trial was trained with, by group; empty for a trial that never started.

    Settings that did not exist yet when it was trained have the value that corresponds to how it was trained.
    """
    stored: dict[str, dict[str, Any]] = json.loads(attribute(trial, "settings", "{}"))
    if not stored:
        return {}
    values: dict[str, dict[str, Any]] = {}
    for key, setting in settings().items():
        value = stored.get(setting.group, {}).get(setting.field, LEGACY_DEFAULTS.get(key, setting.default))
        values.setdefault(setting.group, {})[setting.field] = value
    return values


def settings_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The settings that two trials both have with different values, as text. Rounding errors are no difference."""
    return [
        f"{group}.{key}: {one[group][key]} -> {value}"
        for group, fields in other.items()
        if isinstance(one.get(group), dict)
        for key, value in fields.items()
        if key in one[group] and not is_same(one[group][key], value)
    ]


def trial_configs(trial: FrozenTrial) -> Configs:
    """The configurations that a trial was trained with."""
    values = {f"{group}.{name}": value for group, fields in trial_settings(trial).items() for name, value in fields.items()}
    return build_configs(values, f"trial {trial.number}")


def trial_curve(trial: FrozenTrial) -> dict[int, float]:
    """The objective as reported, by epoch; with the pruner `wilcoxon` by training. NaN stands for a report that was deleted."""
    return {step: value for step, value in sorted(trial.intermediate_values.items()) if not math.isnan(value)}
