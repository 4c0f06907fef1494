"""Writes a trial with Optuna's own calls, for storages whose tables `storage/tables.py` does not know."""

from __future__ import annotations

import copy
import math

import optuna
from optuna.trial import FrozenTrial

from search.storage.tables import Changes

_DROPPED = "dropped_reports"
"""System attribute of a trial: steps whose reports are deleted, in a storage that can only replace them, with NaN."""


def write_one(storage: optuna.storages.BaseStorage, trial: int, change: Changes) -> None:
    """Writes one trial with Optuna's own calls."""
    known = storage.get_trial(trial)
    for name, (value, shape) in change.params.items():
        if name not in known.params:
            storage.set_trial_param(trial, name, value, shape)
    for key, attribute in change.system.items():
        storage.set_trial_system_attr(trial, key, attribute)
    for key, attribute in change.user.items():
        storage.set_trial_user_attr(trial, key, attribute)
    if change.dropped:  # Optuna's calls cannot delete a report
        dropped = sorted({*_dropped(known), *change.dropped})
        storage.set_trial_system_attr(trial, _DROPPED, dropped)
        for step in change.dropped:
            storage.set_trial_intermediate_value(trial, step, math.nan)
    for step, reported in change.reported.items():
        storage.set_trial_intermediate_value(trial, step, reported)
    if change.state is not None:
        storage.set_trial_state_values(trial, change.state, change.values)


def without_dropped(trial: FrozenTrial) -> FrozenTrial:
    """The trial without deleted reports that the storage still has as NaN."""
    values = trial.intermediate_values
    dropped = {step for step in _dropped(trial) if math.isnan(values.get(step, 0.0))}
    if dropped:
        trial = copy.copy(trial)
        trial.intermediate_values = {step: value for step, value in values.items() if step not in dropped}
    return trial


def _dropped(trial: FrozenTrial) -> set[int]:
    """The steps that the attribute names; none if another program wrote something else there."""
    stored = trial.system_attrs.get(_DROPPED)
    return {step for step in stored if isinstance(step, int)} if isinstance(stored, list) else set()
