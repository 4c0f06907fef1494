"""Makes a study of thousands of trials in seconds: database rows modeled on one trial that was really trained.

python tests/many.py FOLDER COUNT     makes one: `cd FOLDER`, then `islr-search status tiny`
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import random
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.definition.trial_attributes import PREFIX, new_attributes
from search.study.trials import COMPARED

DATABASE = Path("runs") / "studies.db"
REASONS = (
    "the training loss of epoch 3 is not finite",
    "out of memory: CUDA out of memory. Tried to allocate 2.00 GiB",
    "its worker died 4 times; the last time: it was killed by signal 9",
)
_BEGAN = datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC)
_EPOCH_S = 1.5
_WORKERS = 2
_TABLES = {
    "trials": "trial_id, number, study_id, state, datetime_start, datetime_complete",
    "trial_user_attributes": "trial_id, key, value_json",
    "trial_system_attributes": "trial_id, key, value_json",
    "trial_params": "trial_id, param_name, param_value, distribution_json",
    "trial_values": "trial_id, objective, value, value_type",
    "trial_intermediate_values": "trial_id, step, intermediate_value, intermediate_value_type",
}


def many_trials(folder: Path, count: int, source: Path, *, epochs: int = 20, seed: int = 1) -> Path:
    """A working directory with a study `tiny` of `count` trials, modeled on `source` (the fixture `searched`).

    Trial 0, the baseline, and about a third of the others are complete, most are pruned, a few failed with reasons, and the
    last was orphaned by a dead run. They have no files. The best of them is anywhere.
    """
    assert count >= 2, "a baseline and a running trial"
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    yaml = (source / "tiny.yaml").read_text(encoding="utf-8")
    (folder / "tiny.yaml").write_text(yaml.replace("epochs: 2,", f"epochs: {epochs},"), encoding="utf-8")
    with contextlib.closing(sqlite3.connect(source / DATABASE)) as real, contextlib.closing(_fresh(folder)) as database:
        real.backup(database)
        pattern = _pattern(database)
        rows: dict[str, list[tuple[Any, ...]]] = {table: [] for table in _TABLES}
        for number in range(count):
            for table, row in _rows(number, count, epochs, pattern, random.Random(f"{seed} {number}")):
                rows[table].append(row)
        with database:
            for table, names in _TABLES.items():
                marks = ", ".join("?" * len(names.split(",")))
                database.execute(f"DELETE FROM {table}")
                database.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows[table])
            _describe(database, count, epochs)
    return folder


def _fresh(folder: Path) -> sqlite3.Connection:
    for path in (folder / "runs").glob("studies.db*"):
        path.unlink()
    return sqlite3.connect(folder / DATABASE)


@dataclass(frozen=True)
class _Pattern:
    """Trial 1 of a real study."""

    study: int
    attributes: Mapping[str, Any]
    settings: Mapping[str, Any]
    result: Mapping[str, Any]
    shapes: Mapping[str, str]
    """The stored distributions of the parameters."""

    baseline: Mapping[str, float]
    groups: Mapping[str, str]
    """The group of settings of each parameter."""


def _pattern(database: sqlite3.Connection) -> _Pattern:
    trial, study = database.execute("SELECT trial_id, study_id FROM trials WHERE number = 1").fetchone()
    both = " UNION ".join(
        f"SELECT key, value_json FROM trial_{kind}_attributes WHERE trial_id = {trial}" for kind in ("user", "system")
    )
    attributes = {key.removeprefix(PREFIX): json.loads(value) for key, value in database.execute(both)}
    del attributes["fixed_params"]
    settings = json.loads(attributes["settings"])
    params = database.execute(
        "SELECT param_name, distribution_json, param_value FROM trials JOIN trial_params USING (trial_id) WHERE number = 0"
    ).fetchall()
    groups = {name: next(group for group, values in settings.items() if name in values) for name, _, _ in params}
    return _Pattern(
        study=study,
        attributes=attributes,
        settings=settings,
        result=json.loads(attributes["result"]),
        shapes={name: shape for name, shape, _ in params},
        baseline={name: value for name, _, value in params},
        groups=groups,
    )


def _rows(
    number: int, count: int, epochs: int, pattern: _Pattern, chance: random.Random
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The rows of one trial, each with the name of its table."""
    trial = number + 1
    state = "COMPLETE" if number == 0 else "RUNNING" if number == count - 1 else _state(chance)
    params = dict(pattern.baseline) if number == 0 else {name: _draw(shape, chance) for name, shape in pattern.shapes.items()}
    reported = {"COMPLETE": epochs, "FAIL": chance.randrange(4)}.get(state, epochs // 4 + chance.randrange(epochs // 2 + 1))
    curve = _curve(params, reported, epochs, chance)
    place = number // _WORKERS * epochs * _EPOCH_S * 0.6
    begin, end = (_BEGAN + datetime.timedelta(seconds=place + used) for used in (0, max(reported, 1) * _EPOCH_S))
    yield "trials", (trial, number, pattern.study, state, _time(begin), None if state == "RUNNING" else _time(end))
    yield "trial_system_attributes", (trial, "fixed_params", json.dumps(params))
    user, system = new_attributes(_attributes(number, state, params, curve, epochs, begin, pattern, chance))
    for table, attributes in (("trial_user_attributes", user), ("trial_system_attributes", system)):
        for key, value in attributes.items():
            yield table, (trial, key, json.dumps(value))
    for name, value in params.items():
        yield "trial_params", (trial, name, value, pattern.shapes[name])
    told = min(curve) if state == "COMPLETE" else curve[-1] if state == "PRUNED" else None
    if told is not None:
        yield "trial_values", (trial, 0, told, "FINITE")
    for step, loss in enumerate(curve, 1):
        yield "trial_intermediate_values", (trial, step, loss, "FINITE")


def _state(chance: random.Random) -> str:
    return chance.choices(("PRUNED", "COMPLETE", "FAIL"), (60, 34, 6))[0]


def _draw(shape: str, chance: random.Random) -> float:
    """A value of a stored range."""
    about = json.loads(shape)["attributes"]
    low, high = about["low"], about["high"]
    return float(low * (high / low) ** chance.random() if about["log"] else chance.uniform(low, high))


def _curve(params: Mapping[str, float], reported: int, epochs: int, chance: random.Random) -> list[float]:
    """Validation losses that fall and then rise a little; the minimum depends on the parameters, with noise."""
    lowest = 0.4 + 0.1 * (math.log10(params["lr"]) + 2.5) ** 2 + 0.5 * (params["dropout"] - 0.2) ** 2
    lowest += 0.05 * params["label_smoothing"] + chance.gauss(0, 0.03)
    turn = epochs * 0.8
    return [
        lowest + 0.7 * 0.75**epoch + 0.01 * max(0.0, epoch - turn) + abs(chance.gauss(0, 0.01))
        for epoch in range(1, reported + 1)
    ]


def _attributes(
    number: int,
    state: str,
    params: Mapping[str, float],
    curve: list[float],
    epochs: int,
    begin: datetime.datetime,
    pattern: _Pattern,
    chance: random.Random,
) -> dict[str, Any]:
    """What this tool stores with a trial."""
    settings = {group: dict(values) for group, values in pattern.settings.items()}
    for name, value in params.items():
        settings[pattern.groups[name]][name] = value
    settings["train"]["epochs"] = epochs
    run = f"20260105T000000Z-4242-{number // 1000:04x}"
    written = {
        **pattern.attributes,
        "owner": {**pattern.attributes["owner"], "run": run, "boot": "another start of the machine"},
        "seed": chance.getrandbits(32),
        "settings": json.dumps(settings),
        "stints": [[run, number % _WORKERS, begin.timestamp(), None]],
    }
    for key in ("result", *COMPARED):
        written.pop(key, None)
    if state == "PRUNED":
        written["pruned_at"] = len(curve)
    if state == "FAIL":
        reason = chance.choice(REASONS)
        written |= {"deaths": [reason.split(": ")[-1]] * 4, "reason": reason} if "worker" in reason else {"reason": reason}
    if state == "RUNNING" or not curve:
        return written
    result = _result(pattern.result, params, curve, chance)
    return written | {"result": json.dumps(result)} | {name: result[key] for name, key in COMPARED.items() if key in result}


def _result(real: Mapping[str, Any], params: Mapping[str, float], curve: list[float], chance: random.Random) -> dict[str, Any]:
    best = min(curve)
    top1 = min(1.0, max(0.05, 1 - best + chance.gauss(0, 0.05)))
    readings = {"best": best, "last": curve[-1], "mean_last_5": sum(curve[-5:]) / len(curve[-5:])}
    return {
        **real,
        "epoch": curve.index(best) + 1,
        "val_loss": best,
        "val_top1": top1,
        "val_loss_ts": best * 0.97,
        "val_ece": chance.uniform(0.02, 0.2),
        "val_ece_mass": chance.uniform(0.02, 0.2),
        "temperature": chance.uniform(0.8, 2),
        "train_loss": best * 0.6,
        "epochs": len(curve),
        "seconds": len(curve) * _EPOCH_S,
        "values": {"val_loss": best},
        "all_values": {
            **{f"val_loss_{name}": value for name, value in readings.items()},
            **{f"val_loss_ts_{name}": value * 0.97 for name, value in readings.items()},
            **{f"val_error_{name}": min(1.0, value) for name, value in readings.items()},
        },
        "label_smoothing_used": params["label_smoothing"],
    }


def _describe(database: sqlite3.Connection, count: int, epochs: int) -> None:
    """Makes the study's attributes match its trials."""
    stored = database.execute("SELECT value_json FROM study_user_attributes WHERE key = 'identity'").fetchone()[0]
    identity = {**json.loads(json.loads(stored)), "fixed: train.epochs": str(epochs)}
    for key, value in (("identity", json.dumps(identity, ensure_ascii=False)), ("target", count)):
        database.execute("UPDATE study_user_attributes SET value_json = ? WHERE key = ?", (json.dumps(value), key))


def _time(moment: datetime.datetime) -> str:
    """A time as Optuna stores it: UTC without a time zone."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def _make(folder: Path, count: int) -> None:
    """Runs a small search as the pattern, then makes the study."""
    from conftest import run_in
    from launch import TINY_STUDY

    from data_utils.synthetic.synthetic import synthesize

    pattern = folder / "pattern"
    pattern.mkdir(parents=True)
    synthesize(folder / "data", clips=48, signs=3, signers=4, seed=1)
    (pattern / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    run_in(pattern, "run", "tiny.yaml", "--data", str((folder / "data").resolve()), "--trials", "2")
    many_trials(folder, count, pattern)
    shutil.rmtree(pattern)


if __name__ == "__main__":
    _make(Path(sys.argv[1]), int(sys.argv[2]))
