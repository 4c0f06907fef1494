"""Stopping criteria of a study: number of trials, total training time, stagnation."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Cli
from launch import stored_trials
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.definition.definition import Stagnation, StudyDefinition
from search.definition.study_file import load_definition
from search.running.criteria import noise_of, why_ended


def trial_of(number: int, value: float, *, pruned: bool = False, seconds: float = 1.0, **result: object) -> FrozenTrial:
    """A finished trial whose curve alternates by 0.2 from epoch to epoch."""
    curve = {epoch: value + 0.2 * (epoch % 2) for epoch in range(1, 21)}
    trial = create_trial(
        state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
        value=value,
        intermediate_values=curve,
        user_attrs={"result": json.dumps({"seconds": seconds, **result}), "settings": "{}", "seed": 0},
    )
    trial.number = number
    trial.datetime_complete = datetime.datetime(2026, 1, 1, 0, 0, number)
    return trial


@pytest.fixture
def definition() -> StudyDefinition:
    """A study with 50 trials and no other stopping criterion."""
    return load_definition("label_smoothing")


def test_number_of_trials(definition: StudyDefinition) -> None:
    """Complete and pruned trials count."""
    trials = [trial_of(0, 1.0), trial_of(1, 1.0, pruned=True)]
    assert why_ended(trials, definition, 3) == ""
    assert why_ended(trials, definition, 2) == "2 trials are finished"


def test_time(definition: StudyDefinition) -> None:
    """The total training time of all trials is limited, unless more trials are requested."""
    timed = replace(definition, time_s=5.0)
    assert why_ended([trial_of(n, 1.0) for n in range(4)], timed, 50) == ""
    trials = [trial_of(n, 1.0) for n in range(5)]
    assert why_ended(trials, timed, 50) == "its trials trained for 5 s, and the limit is 5 s"
    assert why_ended(trials, timed, 50, more=True) == ""


@pytest.mark.parametrize(
    ("values", "noise", "ends"),
    [
        ([1.0, 1.1, 1.2], 0.05, False),
        ([1.0, 1.1, 1.2, 1.3], 0.05, True),
        ([1.0, 1.1, 0.96, 1.3], 0.05, True),  # 0.96 is within the noise
        ([1.0, 1.1, 0.94, 1.3], 0.05, False),
        ([1.0, 0.98, 0.96, 0.94, 1.0], 0.05, False),  # small steps add up to an improvement
        ([1.0, 0.9, 1.0, 1.0, 1.0], 0.0, True),
        ([1.0, 0.9, 1.0, 1.0], 0.0, False),
    ],
)
def test_stagnation(values: list[float], noise: float, ends: bool, definition: StudyDefinition) -> None:
    """A study ends after three trials without an improvement beyond the noise."""
    study = replace(definition, stagnation=Stagnation(trials=3, noise=noise))
    reason = why_ended([trial_of(n, value) for n, value in enumerate(values)], study, 50)
    assert bool(reason) == ends
    assert not ends or "brought no improvement beyond the noise" in reason


def test_pruned_trials_are_no_improvement(definition: StudyDefinition) -> None:
    """A pruned trial is no improvement, whatever its value; stagnation needs one complete trial."""
    study = replace(definition, stagnation=Stagnation(trials=2, noise=0.0))
    trials = [trial_of(0, 1.0), trial_of(1, 0.5, pruned=True), trial_of(2, 0.4, pruned=True)]
    assert "the last 2 trials" in why_ended(trials, study, 50)
    assert why_ended(trials[1:], study, 50) == "", "no trial is complete"


def test_noise() -> None:
    """The noise comes from the spread of repeated trainings, or else from the variation of the curve."""
    assert noise_of(trial_of(0, 1.0)) == pytest.approx(0.2 / 2**0.5, rel=0.05)
    repeats = [{"fold": 0, "value": value} for value in (1.0, 1.2, 1.4, 1.6)]
    assert noise_of(trial_of(0, 1.3, trainings=repeats)) == pytest.approx(0.2582 / 2, rel=1e-3)
    easy_and_hard = [{"fold": fold, "value": fold + seed} for fold in (0, 5) for seed in (0.1, 0.3)]
    assert noise_of(trial_of(0, 1.3, trainings=easy_and_hard)) == pytest.approx(0.02**0.5 / 2), (
        "differences between folds are not noise"
    )
    folds = [{"fold": fold, "value": 5.0 * fold} for fold in range(4)]
    second = [{"fold": fold, "value": 5.0 * fold + gap} for fold, gap in enumerate([0.1, 0.3, 0.1, 0.3])]
    assert noise_of(trial_of(0, 1.0, trainings=folds), trial_of(1, 1.2, trainings=second)) == pytest.approx(
        0.1155 / 2, rel=1e-3
    )
    assert noise_of(create_trial(value=1.0)) == 0.0


def test_run_ends_by_stagnation(place: Path, tiny: Path, cli: Cli) -> None:
    """A run reports that stagnation ended the search; the same command does nothing, and `--more` continues."""
    run = ("run", "tiny.yaml", "--data", tiny, "--set", "stagnation={trials: 2, noise: 100}")
    done = cli(*run, "--trials", 9)
    assert done.code == 0
    assert "3 of 9 trials finished" in done.out
    assert "ended    the last 2 trials brought no improvement beyond the noise (1e+02)" in done.out
    assert len(stored_trials(place)) == 3
    assert cli(*run, "--trials", 9).code == 0
    assert len(stored_trials(place)) == 3
    assert cli(*run, "--more", 2).code == 0
    assert len(stored_trials(place)) == 5


def test_run_ends_by_training_time(place: Path, tiny: Path, cli: Cli) -> None:
    """The running trial is finished, and no other is started."""
    done = cli("run", "tiny.yaml", "--data", tiny, "--trials", 9, "--set", "time=0.0001s")
    assert done.code == 0
    assert "ended    its trials trained for" in done.out
    assert len(stored_trials(place)) == 1
