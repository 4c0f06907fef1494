"""The sampler `gp`: what it makes of trials in every state, and what it proposes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.definition.definition import StudyDefinition
from search.definition.observed import observe
from search.definition.samplers import Gp
from search.definition.study_file import load_definition
from search.running.proposal import propose

SPACE = """
sampler: {name: gp, startup: 4}
space:
  label_smoothing: {low: 0.0, high: 0.6}
  lr: {low: 1e-5, high: 1e-2, log: true}
  optimizer: {choices: [adam, adamw]}
  weight_decay: {low: 1e-4, high: 1e-1, log: true, when: {optimizer: adamw}}
baseline: {label_smoothing: 0.0, lr: 3e-4, optimizer: adam}
"""


@pytest.fixture
def definition(tmp_path: Path) -> StudyDefinition:
    """A space with a choice and a condition."""
    (tmp_path / "s.yaml").write_text(SPACE, encoding="utf-8")
    return load_definition(str(tmp_path / "s.yaml"))


def trial_of(
    definition: StudyDefinition,
    params: dict[str, Any],
    value: float | None = None,
    *,
    state: TrialState = TrialState.COMPLETE,
    reports: dict[int, float] | None = None,
    **attributes: Any,
) -> FrozenTrial:
    """A trial with these parameters."""
    return create_trial(
        state=state,
        params=params,
        distributions={dim.name: dim.distribution() for dim in definition.space if dim.name in params},
        values=None if value is None else [value],
        intermediate_values=reports or {},
        user_attrs=attributes,
    )


def setting(smoothing: float, lr: float = 1e-3) -> dict[str, Any]:
    """A setting of the space."""
    return {"label_smoothing": smoothing, "lr": lr, "optimizer": "adam"}


def loss(params: dict[str, Any]) -> float:
    """Lowest at a label smoothing of 0.2 and a learning rate of 1e-3, with adamw."""
    away = (params["label_smoothing"] - 0.2) ** 2 + 0.1 * math.log10(params["lr"] / 1e-3) ** 2
    return away + (0.0 if params["optimizer"] == "adamw" else 0.2)


def search(definition: StudyDefinition, trials: int, noise: float = 0.0) -> optuna.Study:
    """A search of so many trials."""
    study = optuna.create_study()
    rng = np.random.default_rng(0)
    for number in range(trials):
        params = next_params(study, definition, number)
        study.add_trial(trial_of(definition, params, loss(params) + noise * rng.normal()))
    return study


def next_params(study: optuna.Study, definition: StudyDefinition, number: int, seed: int = 0) -> dict[str, Any]:
    """What the sampler proposes next."""
    study.sampler = definition.sampler.make(seed + number, seed, definition.space)
    frozen = create_trial(state=TrialState.RUNNING)
    frozen.number = number
    params = propose(study, frozen, definition, set(), number)
    assert params is not None
    return params


def test_it_finds_the_optimum(definition: StudyDefinition) -> None:
    """Within 25 trials it is close to the optimum, with the right choice."""
    best = search(definition, 25, noise=0.01).best_params
    assert best["optimizer"] == "adamw"
    assert abs(best["label_smoothing"] - 0.2) < 0.15
    assert abs(math.log10(best["lr"] / 1e-3)) < 0.6


def test_the_start_is_spread(definition: StudyDefinition) -> None:
    """The first trials do not depend on values, and differ by the study's seed."""
    study = optuna.create_study()
    first = [next_params(study, definition, number) for number in range(4)]
    for number, params in enumerate(first):
        study.add_trial(trial_of(definition, params, float(number)))
    assert [next_params(study, definition, number) for number in range(4)] == first
    assert next_params(study, definition, 1, seed=1) != first[1]


def test_running_trials_are_not_repeated(definition: StudyDefinition) -> None:
    """What another worker is trying now is not proposed again, nor anything close to it."""
    study = search(definition, 20)
    alone = next_params(study, definition, 20)
    study.add_trial(trial_of(definition, alone, state=TrialState.RUNNING))
    beside = next_params(study, definition, 21, seed=-1)  # the same sampler's seed
    distance = abs(beside["label_smoothing"] - alone["label_smoothing"]) + abs(math.log10(beside["lr"] / alone["lr"]))
    assert distance > 0.02


def test_workers_spread(definition: StudyDefinition) -> None:
    """Eight workers that start at once after a search get eight places, and not one eight times."""
    study = search(definition, 20, noise=0.05)
    for number in range(20, 28):
        params = next_params(study, definition, number)
        study.add_trial(trial_of(definition, params, state=TrialState.RUNNING))
    running = [trial.params for trial in study.trials[20:]]
    places = {(round(p["label_smoothing"] / 0.05), round(math.log10(p["lr"]) / 0.25), p["optimizer"]) for p in running}
    assert len(places) >= 6


@pytest.mark.parametrize(
    ("name", "shape", "value"),
    [
        ("optimizer", optuna.distributions.CategoricalDistribution(["adam", "sgd"]), "sgd"),
        ("lr", optuna.distributions.FloatDistribution(0.0, 1.0), 0.0),
        ("label_smoothing", optuna.distributions.CategoricalDistribution(["much"]), "much"),
    ],
)
def test_running_trials_of_other_programs(
    name: str, shape: optuna.distributions.BaseDistribution, value: Any, definition: StudyDefinition
) -> None:
    """A running trial whose values are not of this space is left out."""
    study = search(definition, 12)
    study.add_trial(create_trial(state=TrialState.RUNNING, params={name: value}, distributions={name: shape}))
    assert next_params(study, definition, 13)


def test_a_second_draw_differs(definition: StudyDefinition) -> None:
    """A sampler that is asked again for the same trial gives something else."""
    study = search(definition, 12)
    sampler = Gp(startup=4).make(0, 0, definition.space)
    frozen = create_trial(state=TrialState.RUNNING)
    frozen.number = 12
    space = sampler.infer_relative_search_space(study, frozen)
    assert sampler.sample_relative(study, frozen, space) != sampler.sample_relative(study, frozen, space)


def test_pruned_trials_would_have_improved(definition: StudyDefinition) -> None:
    """A pruned trial counts with what complete trials gained from that step on; without reports it says nothing."""
    complete = [
        trial_of(definition, setting(0.1 * n), 1.0 + 0.1 * n, reports={10: 1.5 + 0.1 * n, 20: 1.0 + 0.1 * n}) for n in range(5)
    ]
    pruned = trial_of(definition, setting(0.6), state=TrialState.PRUNED, reports={5: 1.9, 10: 1.8})
    silent = trial_of(definition, setting(0.5), state=TrialState.PRUNED)
    for number, trial in enumerate([*complete, pruned, silent]):
        trial.number = number
    seen = observe([*complete, pruned, silent], definition.space)
    assert seen.numbers == (0, 1, 2, 3, 4, 5)
    assert seen.values_N[5] == pytest.approx(1.8 - 0.5)
    assert seen.extra_noise_N[5] == pytest.approx(0.0, abs=1e-12)


def test_the_uncertainty_of_pruned_trials(definition: StudyDefinition) -> None:
    """The more the gains of complete trials differ, the less a pruned trial's value is worth."""
    gains = [0.2, 0.4, 0.6, 0.8]
    complete = [trial_of(definition, setting(0.1 * n), 1.0, reports={10: 1.0 + gain}) for n, gain in enumerate(gains)]
    seen = observe(
        [*complete, trial_of(definition, setting(0.6), state=TrialState.PRUNED, reports={10: 1.2})], definition.space
    )
    assert seen.extra_noise_N.max() == pytest.approx(np.var(gains))


def test_failures(definition: StudyDefinition) -> None:
    """A trial that diverged counts as one of the worst; one that the machine failed, or that never trained, says nothing."""
    complete = [trial_of(definition, setting(0.1 * n), 1.0 + 0.01 * n) for n in range(5)]
    failed = {"state": TrialState.FAIL, "reason": "the training loss became nan in epoch 3", "result": "{}"}
    diverged = trial_of(definition, setting(0.55), **failed)
    died = trial_of(definition, setting(0.56), **failed, deaths=["killed"])
    memory = trial_of(definition, setting(0.57), **{**failed, "reason": "out of memory: 3 GiB"})
    never = trial_of(definition, setting(0.58), state=TrialState.FAIL, reason="trial 3 had the same parameters")
    for number, trial in enumerate([*complete, diverged, died, memory, never]):
        trial.number = number
    seen = observe([*complete, diverged, died, memory, never], definition.space)
    assert seen.numbers == (0, 1, 2, 3, 4, 5)
    assert seen.values_N[5] == max(seen.values_N)


def test_outliers_are_clipped(definition: StudyDefinition) -> None:
    """How far a bad setting went off makes no difference."""
    values = [1.0, 1.1, 1.2, 1.3, 1.4, 1e6]
    trials = [trial_of(definition, setting(0.1 * n), value) for n, value in enumerate(values)]
    assert observe(trials, definition.space).values_N.max() < 2.0


def test_many_bad_trials(definition: StudyDefinition) -> None:
    """Where 40% of all settings are equally bad, how bad they are makes no difference to the others."""
    values = [*(1.0 + 0.02 * n for n in range(12)), *[5.0] * 8]
    trials = [trial_of(definition, setting(0.6 * n / 20), value) for n, value in enumerate(values)]
    assert observe(trials, definition.space).values_N.max() < 1.6


def test_few_complete_trials(definition: StudyDefinition) -> None:
    """With fewer than four complete trials nothing is made up of those that failed or were pruned."""
    complete = [trial_of(definition, setting(0.1 * n), 1.0, reports={5: 1.0}) for n in range(3)]
    failed = trial_of(definition, setting(0.5), state=TrialState.FAIL, reason="the loss became nan", result="{}")
    pruned = trial_of(definition, setting(0.6), state=TrialState.PRUNED, reports={5: 0.3})
    assert len(observe([*complete, failed, pruned], definition.space).numbers) == 3


def test_trials_outside_the_space(definition: StudyDefinition) -> None:
    """Trials of a wider range, or of other parameters, are left out, and so are values that are not finite."""
    wider = optuna.distributions.FloatDistribution(0.0, 1.0)
    outside = create_trial(params={"label_smoothing": 0.9}, distributions={"label_smoothing": wider}, value=0.1)
    other = create_trial(params={"momentum": 0.9}, distributions={"momentum": wider}, value=0.1)
    infinite = trial_of(definition, setting(0.1), math.inf)
    assert observe([outside, other, infinite, trial_of(definition, setting(0.2), 1.0)], definition.space).values_N.tolist() == [
        1.0
    ]


def test_thousands_of_trials(definition: StudyDefinition) -> None:
    """It proposes from a part of them, the best among it."""
    study, rng = optuna.create_study(), np.random.default_rng(0)
    for _ in range(600):
        params = setting(float(rng.uniform(0, 0.6)), float(10 ** rng.uniform(-5, -2)))
        study.add_trial(trial_of(definition, params, loss(params)))
    assert abs(next_params(study, definition, 600)["label_smoothing"] - 0.2) < 0.2


def test_equal_values(definition: StudyDefinition) -> None:
    """A study in which every trial has the same value goes on."""
    study = optuna.create_study()
    for number in range(8):
        params = next_params(study, definition, number)
        study.add_trial(trial_of(definition, params, 1.0))
    assert len({tuple(sorted(trial.params.items())) for trial in study.trials}) == 8
