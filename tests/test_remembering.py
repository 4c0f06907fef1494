"""The samplers and pruners that remember what they have read propose and decide the same as Optuna's, bit for bit."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, MedianPruner, PatientPruner, PercentilePruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.definition.pruners import Median, Patient, Percentile, Pruner
from search.definition.samplers import Tpe, ignore_experimental

SHAPES: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "dropout": FloatDistribution(0.0, 0.5),
    "step": FloatDistribution(0.0, 1.0, step=0.1),
    "layers": IntDistribution(1, 8),
    "width": IntDistribution(8, 512, log=True),
    "kind": CategoricalDistribution(("a", "b", None, True)),
}
CHANCES = [(0.4, 0.3, 0.1, 0.15, 0.05), (0.05, 0.8, 0.05, 0.1, 0.0), (0.9, 0.0, 0.0, 0.1, 0.0)]
"""How often trials are in each of these states."""

STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING)


def drawn(rng: np.random.Generator, names: list[str], state: TrialState, *, shapes: Any = SHAPES) -> FrozenTrial:
    """A trial in a state with random parameters and reports."""
    sampler = optuna.samplers.RandomSampler(seed=int(rng.integers(2**31)))
    chosen = names if state != TrialState.WAITING else []
    params = {name: sampler.sample_independent(None, None, name, shapes[name]) for name in chosen}  # type: ignore[arg-type]
    reports = {step: float(rng.random()) for step in range(1, 1 + int(rng.integers(0, 6)))}
    return create_trial(
        state=state,
        params=params,
        distributions={name: shapes[name] for name in params},
        values=[float(rng.choice([rng.random(), 0.5]))] if state == TrialState.COMPLETE else None,  # with ties
        intermediate_values=reports if state != TrialState.WAITING else {},
    )


def proposals(study: optuna.Study, sampler: BaseSampler, trial: FrozenTrial) -> dict[str, Any]:
    """Joint values, then those of all other dimensions, one by one, as the search draws them."""
    study._thread_local.cached_all_trials = None  # as `Study.ask` does
    joint = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
    return {
        name: joint[name] if name in joint else sampler.sample_independent(study, trial, name, shape)
        for name, shape in SHAPES.items()
    }


def grown(seed: int, count: int, chances: tuple[float, ...], *, optional: list[str]) -> Iterator[optuna.Study]:
    """A study that grows: running trials end, and new ones come, in some of which a parameter does not apply."""
    rng, study = np.random.default_rng(seed), optuna.create_study()
    for number in range(count):
        names = [name for name in SHAPES if name not in optional or rng.random() < 0.6]
        study.add_trial(drawn(rng, names, STATES[rng.choice(len(STATES), p=chances)]))
        running = [trial for trial in study.get_trials() if trial.state == TrialState.RUNNING]
        if running and rng.random() < 0.5:
            ended = running[rng.integers(len(running))]
            study.tell(ended.number, float(rng.random()), state=TrialState.COMPLETE)
        if number % 3 == 0:
            yield study


@pytest.mark.parametrize("optional", [[], ["kind"], ["lr", "layers"], list(SHAPES)], ids=str)
@pytest.mark.parametrize("chances", CHANCES)
def test_tpe_proposes_the_same(chances: tuple[float, ...], optional: list[str]) -> None:
    """A chain of samplers, each with a seed of its own, in a study that grows between their proposals."""
    sampler: BaseSampler = Tpe().make(0, 0, ())
    compared = 0
    for seed, study in enumerate(grown(1, 90, chances, optional=optional)):
        number = study.ask().number
        asked = study.get_trials(deepcopy=False)[number]
        sampler = Tpe().make_next(sampler, seed, 0, ())
        assert proposals(study, sampler, asked) == proposals(study, TPESampler(n_startup_trials=10, seed=seed), asked)
        compared += 1
    assert compared == 30


def test_tpe_after_a_range_was_widened_and_a_trial_changed() -> None:
    """Wider ranges, and a trial that was another one when it was read first, lead to what Optuna proposes now."""
    rng, study, sampler = np.random.default_rng(0), optuna.create_study(), Tpe().make(0, 0, ())
    study.add_trials([drawn(rng, list(SHAPES), TrialState.COMPLETE) for _ in range(30)])

    def require_same(seed: int) -> None:
        nonlocal sampler
        trial = study.ask()
        frozen = study.get_trials(deepcopy=False)[trial.number]
        sampler = Tpe().make_next(sampler, seed, 0, ())
        assert proposals(study, sampler, frozen) == proposals(study, TPESampler(n_startup_trials=10, seed=seed), frozen)

    require_same(1)
    trials = study._storage._studies[study._study_id].trials  # type: ignore[attr-defined]
    trials[3] = copy.deepcopy(trials[3])
    trials[3].state, trials[3]._values = TrialState.FAIL, None
    require_same(2)
    wider = {**SHAPES, "lr": FloatDistribution(1e-6, 1.0, log=True)}
    study.add_trials([drawn(rng, list(SHAPES), TrialState.COMPLETE, shapes=wider) for _ in range(5)])
    require_same(3)


@pytest.mark.parametrize("directions", [["minimize", "minimize"], ["maximize"]], ids=str)
def test_tpe_leaves_other_directions_to_optuna(directions: list[str]) -> None:
    """Several objectives, and maximized ones of other programs, work as before."""
    rng, study = np.random.default_rng(0), optuna.create_study(directions=directions)
    for _ in range(25):
        trial = drawn(rng, list(SHAPES), TrialState.COMPLETE)
        trial.values = [float(rng.random()) for _ in directions]
        study.add_trial(trial)
    study.add_trial(drawn(rng, [], TrialState.RUNNING))
    frozen, ours = study.get_trials(deepcopy=False)[-1], Tpe().make_next(Tpe().make(0, 0, ()), 5, 0, ())
    assert proposals(study, ours, frozen) == proposals(study, TPESampler(n_startup_trials=10, seed=5), frozen)


def _patient() -> BasePruner:
    with ignore_experimental():
        return PatientPruner(MedianPruner(5), 2)


@pytest.mark.filterwarnings("ignore:All-NaN")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Median(startup=4, warmup_epochs=2), MedianPruner(4, 2)),
        (Percentile(keep=30, startup=3, warmup_epochs=0), PercentilePruner(30, 3, 0)),
        (Patient(patience=2), _patient()),
    ],
    ids=["median", "percentile", "patient"],
)
def test_pruners_decide_the_same(ours: Pruner, theirs: BasePruner) -> None:
    """One pruner for a study that grows, at every step of every running trial, with values that are not finite."""
    rng, study, pruner = np.random.default_rng(2), optuna.create_study(), ours.make(20)
    decisions = []
    for _ in range(60):
        trial = study.ask()
        for step in range(1, 8):
            trial.report(float(rng.choice([rng.random(), math.nan, math.inf], p=[0.9, 0.07, 0.03])), step)
            frozen = study.get_trials(deepcopy=False)[-1]
            decisions.append(pruner.prune(study, frozen))
            assert decisions[-1] == theirs.prune(study, frozen)
        study.tell(trial, float(rng.random()))
    assert {True, False} == set(decisions)
