"""Every trial of a study as a flat row."""

from __future__ import annotations

import json
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from search.definition.trial_attributes import attribute
from search.study.trials import STATE_NAMES, trial_result
from search.trial.files import csv_text
from search.trial.result import MEASURED, VALUE_NAMES


def trial_rows(study: optuna.Study) -> list[dict[str, Any]]:
    """Every trial: number, state, value of the first objective, metrics of the selected epoch, cost, all objective values,
    seed, parameters, reason of a failure."""
    trials = study.get_trials(deepcopy=False)
    names = sorted({name for trial in trials for name in trial.params})
    return [_trial_row(trial, names) for trial in trials]


def _trial_row(trial: FrozenTrial, names: list[str]) -> dict[str, Any]:
    result = trial_result(trial)
    measured = {name: result.get(name) for name in (*MEASURED, "epochs", "seconds", "parameters", "latency_ms")}
    return {
        "trial": trial.number,
        "state": STATE_NAMES[trial.state],
        "value": next(iter(result.get("values", {}).values()), result.get("val_loss")),
        **measured,
        **{name: result.get("all_values", {}).get(name) for name in VALUE_NAMES},
        "seed": attribute(trial, "seed"),
        **{f"param_{name}": trial.params.get(name) for name in names},
        "reason": attribute(trial, "reason", ""),
    }


def trials_csv(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV with a header; missing values are empty cells."""
    return csv_text(list(rows[0]), (row.values() for row in rows)) if rows else ""


def trials_jsonl(rows: list[dict[str, Any]]) -> str:
    """Rows as JSON objects, one per line."""
    return "".join(json.dumps({"schema": 1, **row}, ensure_ascii=False) + "\n" for row in rows)
