"""One trial in full."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import optuna
from optuna.trial import FrozenTrial

from data_utils.wording import align, format_duration
from model.objective import Metric, Reduce
from search import BASELINE_TRIAL
from search.definition.trial_attributes import attribute
from search.study.folder import find_folder
from search.study.order import FIRST_ORDER, ORDER_SEED, STACK, shared_order
from search.study.study import study_caution, study_data, study_objectives, study_plan
from search.study.trials import STATE_NAMES, trial_curve, trial_result, trial_settings
from search.trial.files import read_curves, read_rows
from search.trial.outcome import SignerScore
from search.wording import format_number, format_values


def show_json(study: optuna.Study, trial: FrozenTrial, runs: Path) -> dict[str, Any]:
    """One trial as plain values."""
    own = find_folder(runs, study)
    folder = own.of_trial(trial)
    curves = read_curves(folder / "curve.csv")
    return {
        "study": study.study_name,
        "trial": trial.number,
        "state": STATE_NAMES[trial.state],
        "caution": study_caution(study),
        "params": trial.params,
        "result": trial_result(trial) or None,
        "seed": attribute(trial, "seed"),
        **shared_order(study, trial),
        **({} if (stack := attribute(trial, STACK)) is None else {STACK: stack}),
        "settings": trial_settings(trial),
        "curve": [{"training": n, **dataclasses.asdict(record)} for n, curve in curves.items() for record in curve],
        "reported": {step: value if math.isfinite(value) else None for step, value in trial_curve(trial).items()},
        "signers": [dataclasses.asdict(row) for row in read_rows(SignerScore, folder / "signers.csv")],
        "files": [str(path) for path in own.files_of(trial)],
        "reason": attribute(trial, "reason", ""),
        "deaths": attribute(trial, "deaths", []),
    }


def show_lines(study: optuna.Study, trial: FrozenTrial, runs: Path) -> list[str]:
    """One trial for people."""
    shown = show_json(study, trial, runs)
    baseline = " (the baseline)" if trial.number == BASELINE_TRIAL else ""
    lines = [f"trial    {trial.number} of {study.study_name}{baseline}: {shown['state']}"]
    if shown["caution"]:
        lines.append(f"people   {shown['caution']}")
    if shown["reason"]:
        lines.append(f"reason   {shown['reason']}")
    lines += [f"worker   died: {reason}" for reason in shown["deaths"]]
    lines += [f"         {name} {format_number(value)}" for name, value in trial.params.items()]
    if result := shown["result"]:
        chance = 1 / len(study_data(study).words)
        if values := result.get("values"):
            lines.append(f"value    {format_values(values)}")
        lines.append(f"epoch    {result['epoch']}: val_loss {result['val_loss']:.4f}, top1 {result['val_top1']:.4f}")
        lines.append(f"         top5 {result['val_top5']:.4f}, ece {result['val_ece']:.4f}; chance is {chance:.4f}")
        lines += _metric_lines(result.get("all_values", {}))
        lines.append(f"cost     {result['epochs']} epochs in {format_duration(result['seconds'])}, seed {shown['seed']}")
        if ORDER_SEED in shown:
            lines.append(f"order    of the clips: that of the study, from its epoch {shown[FIRST_ORDER] + 1} on")
        if STACK in shown:
            lines.append(f"stack    {f'at most {shown[STACK]} trainings in lockstep' if shown[STACK] else 'of several widths'}")
    lines += [f"file     {path}" for path in shown["files"]]
    if signers := shown["signers"]:
        lines += ["", *_table_lines(signers, list(signers[0]))]
    if shown["reported"] and not shown["curve"]:  # the files are missing: the values in the database
        unit, value = "training" if study_plan(study).one_by_one else "epoch", study_objectives(study)[0].name
        lines += ["", *_table_lines([{unit: step, value: float(x)} for step, x in trial_curve(trial).items()], [unit, value])]
    if curve := shown["curve"]:
        several = ["training"] if len({row["training"] for row in curve}) > 1 else []
        names = [*several, "epoch", "train_loss", "val_loss", "val_loss_ts", "val_top1", "val_ece"]
        lines += ["", *_table_lines(curve, names)]
    return lines


def _table_lines(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """Columns of rows as a table; floats with 4 decimals."""
    cells = [[f"{row[n]:.4f}" if isinstance(row[n], float) else str(row[n]) for n in names] for row in rows]
    return align([names, *cells], right=range(len(names)))


def _metric_lines(values: dict[str, float]) -> list[str]:
    """The nine values of a trial's curve, by metric and by how it is reduced; empty for a trial without them."""
    if not values:
        return []

    def number(metric: str, reduce: str) -> float:
        return values.get(f"{metric}_{reduce}", math.nan)

    rows = [[metric, *(f"{number(metric, reduce):.4f}" for reduce in get_args(Reduce))] for metric in get_args(Metric)]
    header = ["", *get_args(Reduce)]
    return [f"         {line}" for line in align([header, *rows], right=range(1, len(header)))]
