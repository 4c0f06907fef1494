"""Objectives: the minimized value, several objectives at once, and the record of all metrics and reductions."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st
from launch import TINY_STUDY, stored_trials
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.definition.trial_attributes import attribute
from search.study.trials import best_trial, pareto_front
from search.trial.files import read_curves

TWO = "objective=[{metric: val_loss}, {metric: parameters}]"


@pytest.mark.parametrize(("metric", "reduce"), [("val_loss", "last"), ("val_loss_ts", "best"), ("val_error", "mean_last_5")])
def test_each_objective(metric: str, reduce: str, place: Path, tiny: Path, cli: Cli) -> None:
    """The value follows from the curve, and the values of all nine metrics and reductions are recorded."""
    objective = f"objective={{metric: {metric}, reduce: {reduce}}}"
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 1, "--set", objective, "--set", "epochs=7").code == 0
    (trial,) = stored_trials(place)
    (history,) = read_curves(place / "runs" / "tiny" / "trials" / "0000" / "curve.csv").values()
    every = {}
    for name in ("val_loss", "val_loss_ts", "val_error"):
        curve = [getattr(record, name) for record in history]
        every |= {f"{name}_best": min(curve), f"{name}_last": curve[-1], f"{name}_mean_last_5": math.fsum(curve[-5:]) / 5}
    assert trial.value == every[f"{metric}_{reduce}"]
    assert json.loads(attribute(trial, "result"))["all_values"] == pytest.approx(every, abs=1e-12)
    curve = [getattr(record, metric) for record in history]
    reported = curve if reduce != "mean_last_5" else [sum(curve[max(0, n - 5) : n]) / min(n, 5) for n in range(1, 8)]
    assert list(trial.intermediate_values.values()) == pytest.approx(reported, abs=1e-12)


def test_two_objectives(place: Path, tiny: Path, cli: Cli) -> None:
    """`run`, `status` and `export` show a front instead of a best trial, and pruning is off with a notice."""
    text = TINY_STUDY.replace("width: 16, ", "", 1).replace("space:", "space:\n  width: {choices: [16, 32, 48, 64]}")
    (place / "tiny.yaml").write_text(text.replace("name: none", "name: median"), encoding="utf-8")
    done = cli("run", "tiny.yaml", "--data", tiny, "--set", TWO, "--trials", 6)
    assert done.code == 0, done.err
    assert "pruning is off: with several objectives (val_loss, parameters) half-trained trials cannot be ranked" in done.err
    trials = stored_trials(place)
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert {trial.values[1] for trial in trials} == {float(json.loads(attribute(t, "result"))["parameters"]) for t in trials}
    front = [trial.number for trial in pareto_front(trials)]
    status = json.loads(cli("status", "tiny", "--json").out)
    assert [one["trial"] for one in status["front"]] == front
    assert status["objectives"] == ["val_loss", "parameters"]
    assert f"front    {len(front)} trial" in cli("status", "tiny").out
    exported = cli("export", "tiny", "--output", "best.yaml")
    content = yaml.safe_load((place / "best.yaml").read_text(encoding="utf-8"))
    assert content["trial"] == front[0]
    assert [one["trial"] for one in content["front"]] == front
    assert len(front) == 1 or f"--trial {front[1]}" in exported.err
    assert cli("retrain", "best.yaml").code == 0


def test_latency(place: Path, tiny: Path, cli: Cli) -> None:
    """Latency is measured, and below a second for a model of this size."""
    sets = ("--set", "objective=[{metric: val_error}, {metric: latency_ms}]", "--set", "sampler={name: nsga2, population: 2}")
    assert cli("run", "tiny.yaml", "--data", tiny, *sets, "--trials", 2).code == 0
    assert all(0 < trial.values[1] < 1000 for trial in stored_trials(place))


def test_all_values_of_a_trial_are_of_one_model(place: Path, tiny: Path, cli: Cli) -> None:
    """All objectives are read at the primary objective's best epoch, and the export names a trial of the front."""
    sets = ("--set", "objective=[{metric: parameters}, {metric: val_error}, {metric: val_loss}]", "--set", "epochs=8")
    done = cli("run", "tiny.yaml", "--data", tiny, *sets, "--trials", 5)
    assert done.code == 0
    trials = stored_trials(place)
    for trial in trials:
        (history,) = read_curves(place / "runs" / "tiny" / "trials" / f"{trial.number:04d}" / "curve.csv").values()
        counted = min(history, key=lambda record: (record.val_error, record.val_loss))
        assert trial.values[1:] == [counted.val_error, counted.val_loss]
    front = pareto_front(trials, primary=1)
    assert json.loads(cli("status", "tiny", "--json").out)["best"]["trial"] == front[0].number
    assert "several objectives have no single best trial: val_error decided" in cli("export", "tiny").err


VALUES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12)


def trial_of(number: int, values: tuple[int, ...]) -> FrozenTrial:
    """A complete trial with these values."""
    trial = create_trial(
        state=TrialState.COMPLETE, values=list(values), user_attrs={"result": "{}", "settings": "{}", "seed": 0}
    )
    trial.number = number
    return trial


@given(values=VALUES, primary=st.sampled_from([0, 1]))
def test_the_front(values: list[tuple[int, int]], primary: int) -> None:
    """The front is the set of trials that no other dominates, sorted by the primary objective."""
    trials = [trial_of(number, one) for number, one in enumerate(values)]
    front = pareto_front(trials, primary)

    def beats(one: FrozenTrial, other: FrozenTrial) -> bool:
        no_worse = all(a <= b for a, b in zip(one.values, other.values, strict=True))
        return no_worse and (one.values != other.values or one.number < other.number)

    def beaten(trial: FrozenTrial) -> bool:
        return any(beats(other, trial) for other in trials)

    assert {trial.number for trial in front} == {trial.number for trial in trials if not beaten(trial)}
    assert [trial.values[primary] for trial in front] == sorted(trial.values[primary] for trial in front)
    assert (front[0] if front else None) == best_trial(trials, primary)
