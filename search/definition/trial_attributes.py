"""What this tool stores with a trial besides what Optuna does, and where.

Numbers that people compare, and short texts, are user attributes: optuna-dashboard shows, sorts and plots them. Everything else
is a system attribute, which no page shows. Earlier versions stored all of it as user attributes, where it is still found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial

PREFIX = "islr:"
"""How the keys of our system attributes begin."""

HIDDEN = ("owner", "settings", "result", "made_with", "stints", "deaths", "pruned_at", "first_order", "stack")
"""What is stored as a system attribute: JSON, lists, and notes of a run to itself."""


def attribute(trial: FrozenTrial, key: str, default: Any = None) -> Any:
    """What this tool has stored with a trial under a key; `default` if nothing."""
    return trial.system_attrs.get(PREFIX + key, trial.user_attrs.get(key, default))


def set_attribute(trial: optuna.Trial, key: str, value: Any) -> None:
    """Stores a value with a running trial."""
    if key in HIDDEN:
        trial.storage.set_trial_system_attr(trial._trial_id, PREFIX + key, value)
    else:
        trial.set_user_attr(key, value)


def new_attributes(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The user attributes and the system attributes of a new trial that has these values."""
    user = {key: value for key, value in values.items() if key not in HIDDEN}
    return user, {PREFIX + key: value for key, value in values.items() if key in HIDDEN}
