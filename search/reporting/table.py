"""Every trial of a study as a flat row."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from search.study.trials import STATE_NAMES, trial_result
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
        "seed": trial.user_attrs.get("seed"),
        **{f"param_{name}": trial.params.get(name) for name in names},
        "reason": trial.user_attrs.get("reason", ""),
    }


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV with a header; missing values are empty cells."""
    stream = io.StringIO()
    if rows:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return stream.getvalue()


def jsonl_text(rows: list[dict[str, Any]]) -> str:
    """Rows as JSON objects, one per line."""
    return "".join(json.dumps({"schema": 1, **row}, ensure_ascii=False) + "\n" for row in rows)
