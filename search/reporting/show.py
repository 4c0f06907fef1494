"""One trial in full."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args

import optuna
from optuna.trial import FrozenTrial

from data_utils.wording import align
from model.objective import Metric, Reduce
from search.study.study import study_data, study_objectives, study_plan
from search.study.trials import STATE_NAMES, trial_curve, trial_result, trial_settings
from search.trial.files import read_curves, read_rows, trial_files
from search.trial.outcome import SignerScore
from search.wording import format_duration, format_number, format_values


def show_json(study: optuna.Study, trial: FrozenTrial, runs: Path) -> dict[str, Any]:
    """One trial as plain values."""
    files = trial_files(runs, study.study_name, trial.number)
    curves = read_curves(next((path for path in files if path.name == "curve.csv"), Path()))
    signers = read_rows(SignerScore, next((path for path in files if path.name == "signers.csv"), Path()))
    return {
        "study": study.study_name,
        "trial": trial.number,
        "state": STATE_NAMES[trial.state],
        "params": trial.params,
        "result": trial_result(trial) or None,
        "seed": trial.user_attrs.get("seed"),
        "settings": trial_settings(trial),
        "curve": [{"training": n, **dataclasses.asdict(record)} for n, curve in curves.items() for record in curve],
        "reported": trial_curve(trial),
        "signers": [dataclasses.asdict(row) for row in signers],
        "files": [str(path) for path in files],
        "reason": trial.user_attrs.get("reason", ""),
        "deaths": trial.user_attrs.get("deaths", []),
    }


def show_lines(study: optuna.Study, trial: FrozenTrial, runs: Path) -> list[str]:
    """One trial for people."""
    shown = show_json(study, trial, runs)
    baseline = " (the baseline)" if trial.number == 0 else ""
    lines = [f"trial    {trial.number} of {study.study_name}{baseline}: {shown['state']}"]
    if shown["reason"]:
        lines.append(f"reason   {shown['reason']}")
    lines += [f"worker   died: {reason}" for reason in shown["deaths"]]
    lines += [f"         {name} {format_number(value)}" for name, value in trial.params.items()]
    if result := shown["result"]:
        data = study_data(study)
        if values := result.get("values"):
            lines.append(f"value    {format_values(values)}")
        lines.append(f"epoch    {result['epoch']}: val_loss {result['val_loss']:.4f}, top1 {result['val_top1']:.4f}")
        lines.append(
            f"         top5 {result['val_top5']:.4f}, ece {result['val_ece']:.4f}; chance is {1 / len(data.words):.4f}"
        )
        lines += _reading_lines(result.get("all_values", {}))
        lines.append(f"cost     {result['epochs']} epochs in {format_duration(result['seconds'])}, seed {shown['seed']}")
    lines += [f"file     {path}" for path in shown["files"]]
    if shown["signers"]:
        names = list(shown["signers"][0])
        rows = [[f"{row[n]:.4f}" if isinstance(row[n], float) else str(row[n]) for n in names] for row in shown["signers"]]
        lines += ["", *align([names, *rows], right=range(len(names)))]
    if shown["reported"] and not shown["curve"]:  # the files are gone: what the database has
        unit = "training" if study_plan(study).one_by_one else "epoch"
        rows = [[str(step), f"{value:.4f}"] for step, value in shown["reported"].items()]
        lines += ["", *align([[unit, study_objectives(study)[0].name], *rows], right=(0, 1))]
    if shown["curve"]:
        several = ["training"] if len({row["training"] for row in shown["curve"]}) > 1 else []
        names = [*several, "epoch", "train_loss", "val_loss", "val_loss_ts", "val_top1", "val_ece"]
        rows = [[f"{row[n]:.4f}" if isinstance(row[n], float) else str(row[n]) for n in names] for row in shown["curve"]]
        lines += ["", *align([names, *rows], right=range(len(names)))]
    return lines


def _reading_lines(values: dict[str, float]) -> list[str]:
    """The nine readings of a trial's curve as a small table: it may look good by one and bad by another."""
    if not values:
        return []
    rows = [[metric, *(f"{values[f'{metric}_{reduce}']:.4f}" for reduce in get_args(Reduce))] for metric in get_args(Metric)]
    head = ["", *get_args(Reduce)]
    return [f"         {line}" for line in align([head, *rows], right=range(1, len(head)))]
