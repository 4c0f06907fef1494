"""Questions to a list of trials."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.definition.settings import LEGACY_DEFAULTS, Configs, build_configs, settings
from search.storage.leases.lease import Owner, owner_of


def configs_of(trial: FrozenTrial) -> Configs:
    """The configurations that a trial was trained with."""
    values = {f"{group}.{name}": value for group, fields in trial_settings(trial).items() for name, value in fields.items()}
    return build_configs(values, f"trial {trial.number}")


FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
STATE_NAMES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


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


def best_trial(trials: Sequence[FrozenTrial], primary: int = 0) -> FrozenTrial | None:
    """The complete trial with the lowest value; the first of equals; None if none is complete.

    Of several objectives the one at `primary` decides (see `objectives.primary_index`), then the others.
    """
    return min(complete_trials(trials), key=lambda trial: _order(trial, primary), default=None)


def front_of(trials: Sequence[FrozenTrial], primary: int = 0) -> list[FrozenTrial]:
    """The complete trials that no other beats in everything (the Pareto front), starting with `best_trial`.

    Of trials with equal values the first. With one objective that is the best trial alone.
    """
    front: list[FrozenTrial] = []
    for trial in sorted(complete_trials(trials), key=lambda trial: _order(trial, primary)):
        if not any(all(a <= b for a, b in zip(other.values, trial.values, strict=True)) for other in front):
            front.append(trial)
    return front


def _order(trial: FrozenTrial, primary: int) -> tuple[float, ...]:
    return (trial.values[primary], *trial.values, trial.number)


def complete_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """A trial that another program told has no result of ours: nobody could train it again."""
    return [trial for trial in trials if trial.state == TrialState.COMPLETE and "result" in trial.user_attrs]


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
        value = stored.get(setting.group, {}).get(setting.field, LEGACY_DEFAULTS.get(key, setting.default))
        whole.setdefault(setting.group, {})[setting.field] = value
    return whole


def curve_of(trial: FrozenTrial) -> dict[int, float]:
    """The objective by epoch (with the pruner `wilcoxon` by training), as reported."""
    return dict(sorted(trial.intermediate_values.items()))
