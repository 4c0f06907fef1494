"""Proposals: no parameters twice, only valid combinations, and none when the space is exhausted."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest
from conftest import Cli
from launch import stored_trials

from search.definition.definition import StudyDefinition
from search.definition.space import num_combinations
from search.definition.study_file import load_definition
from search.running.proposal import Tried, key_of, propose, why_rejected

GRID = """
fixed: {epochs: 1}
space: {width: {choices: [16, 18, 20]}, heads: {low: 1, high: 4}, dropout: {low: 0.0, high: 0.4, step: 0.2}}
baseline: {width: 16, heads: 1, dropout: 0.0}
"""
NUM_VALID = 3 * ((1 + 1 + 0 + 1) + (1 + 1 + 1 + 0) + (1 + 1 + 0 + 1))  # heads 1 to 4 that divide 16, 18, 20


@pytest.fixture
def grid(tmp_path: Path) -> StudyDefinition:
    """A small space with invalid combinations."""
    (tmp_path / "grid.yaml").write_text(GRID, encoding="utf-8")
    return load_definition(str(tmp_path / "grid.yaml"))


def propose_next(study: optuna.Study, definition: StudyDefinition, seed: int) -> dict[str, object] | None:
    """Proposes the parameters of the next trial and stores them."""
    tried = Tried(definition)
    tried.add(study.get_trials())
    trial = study.ask()
    frozen = study.trials[trial.number]
    params = propose(study, frozen, definition, tried.except_for(frozen.number), seed)
    for dim in definition.space if params else ():
        shape = dim.distribution()
        trial.storage.set_trial_param(trial._trial_id, dim.name, shape.to_internal_repr(params[dim.name]), shape)
    study.tell(trial, None if not params else float(seed % 7), state=None if params else optuna.trial.TrialState.FAIL)
    return params


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_each_valid_combination_once(sampler: str, grid: StudyDefinition) -> None:
    """Each valid combination is proposed once; then the space is exhausted."""
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=1) if sampler == "tpe" else optuna.samplers.RandomSampler(seed=1)
    )
    proposals = [propose_next(study, grid, seed) for seed in range(NUM_VALID)]
    assert all(params is not None and not why_rejected(params, grid) for params in proposals)
    assert len({key_of(params) for params in proposals if params}) == NUM_VALID
    assert [propose_next(study, grid, seed) for seed in range(3)] == [None] * 3


def test_proposals_are_reproducible(grid: StudyDefinition) -> None:
    """The same seeds of sampler and proposal give the same parameters."""
    runs = []
    for _ in range(2):
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=5, n_startup_trials=3))
        runs.append([propose_next(study, grid, seed) for seed in range(20)])
    assert runs[0] == runs[1]


def test_enqueued_values_are_kept(grid: StudyDefinition) -> None:
    """Enqueued values are kept, and the other parameters are drawn so that the combination is valid."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(9):
        study.enqueue_trial({"heads": 3})
    proposals = [propose_next(study, grid, seed) for seed in range(9)]
    assert [params and params["heads"] for params in proposals] == [3, 3, 3, None, None, None, None, None, None]
    assert {params["width"] for params in proposals if params} == {18}
    assert propose(
        study,
        optuna.trial.create_trial(
            value=1.0,
            params={"width": 16, "heads": 3, "dropout": 0.0},
            distributions={dim.name: dim.distribution() for dim in grid.space},
        ),
        grid,
        set(),
        0,
    ) == {"width": 16, "heads": 3, "dropout": 0.0}, "even if the combination is invalid"


def test_number_of_combinations(grid: StudyDefinition, tmp_path: Path) -> None:
    """The number of combinations; infinite for a float range without steps."""
    assert [dim.size for dim in grid.space] == [3, 4, 3]
    assert [dim.values() for dim in grid.space] == [[16, 18, 20], [1, 2, 3, 4], [0.0, 0.2, 0.4]]
    assert num_combinations(grid.space) == 36
    assert num_combinations(load_definition("label_smoothing").space) == math.inf
    assert all(dim.contains(value) for dim in grid.space for value in dim.values())
    assert not any(dim.contains("x") for dim in grid.space)


def test_why_rejected(grid: StudyDefinition) -> None:
    """The reason names the parameter that is outside the space or the settings that are not compatible."""
    good = {"width": 16, "heads": 1, "dropout": 0.2}
    assert why_rejected(good, grid) == ""
    assert why_rejected({**good, "dropout": 0.3}, grid) == "dropout 0.3 is outside the space: 0.0 .. 0.4 step 0.2"
    assert "multiple of heads 3" in why_rejected({**good, "heads": 3}, grid)


@pytest.mark.parametrize(
    ("enqueued", "reason"),
    [
        ({"label_smoothing": 0.0, "lr": 1e-3, "dropout": 0.1}, "trial 0 had the same parameters"),
        ({"label_smoothing": 0.0, "lr": 2.0, "dropout": 0.1}, "lr 2.0 is outside the space: 0.0001 .. 0.1 log"),
        ({"lr": 5.0}, "lr 5.0 is outside the space: 0.0001 .. 0.1 log"),
        ({"lr": "fast"}, "lr fast is outside the space: 0.0001 .. 0.1 log"),
    ],
)
def test_enqueued_with_optuna(enqueued: dict[str, object], reason: str, place: Path, tiny: Path, cli: Cli) -> None:
    """Trials enqueued with Optuna are checked as well; a rejected one does not count as a failure of the run."""
    run = ("run", "tiny.yaml", "--data", tiny, "--max-failures", 0)
    assert cli(*run, "--trials", 1).code == 0
    optuna.load_study(study_name="tiny", storage=f"sqlite:///{place / 'runs' / 'studies.db'}").enqueue_trial(enqueued)
    assert cli(*run, "--trials", 2).code == 0
    trials = stored_trials(place)
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert trials[1].user_attrs["reason"] == reason
