"""Every trial of a study as a flat row."""

from __future__ import annotations

import json
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from search.definition.objectives import primary_index
from search.definition.trial_attributes import attribute
from search.study.study import study_objectives
from search.study.trials import STATE_NAMES, ranked_trials, trial_result
from search.trial.files import csv_text
from search.trial.result import MEASURED, VALUE_NAMES


def trial_rows(study: optuna.Study, top: int | None = None) -> list[dict[str, Any]]:
    """Every trial, or the `top` best ones: number, state, value of the first objective, metrics of the selected epoch, cost,
    all objective values, seed, parameters, reason of a failure."""
    names = sorted({name for trial in study.get_trials(deepcopy=False) for name in trial.params})
    return [_trial_row(trial, names) for trial in listed_trials(study, top)]


def listed_trials(study: optuna.Study, top: int | None = None) -> list[FrozenTrial]:
    """The trials by number; or the `top` complete ones, the best first."""
    trials = study.get_trials(deepcopy=False)
    return trials if top is None else ranked_trials(trials, primary_index(study_objectives(study)))[:top]


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
