"""`search analyze`: what a study's trials say beyond their best. The numbers are made in `search.analysis`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from search.definition.objectives import primary_index
from search.definition.space import Dimension
from search.errors import NegativeAnswer
from search.evaluation.analysis.cost import Infeasible, Ledger, infeasible, ledger
from search.evaluation.analysis.edges import EdgeAdvice, edge_advice
from search.evaluation.analysis.importance import Importances, importance
from search.evaluation.analysis.isolation import Bin, isolation, points_of
from search.evaluation.analysis.noise import Noise, best_of, noise_of_repeats
from search.evaluation.analysis.readings import Readings, readings
from search.study.companion import fresh_trials, values_of
from search.study.confirmed import stored_confirmed
from search.study.searched_space import study_space
from search.study.study import study_objectives, study_plan
from search.study.trials import best_trial, complete_trials, trial_result, trial_settings


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Everything that is said of one study."""

    study: str
    objective: str
    """What is read; of several objectives the primary one."""

    chosen: int | None
    """The trial whose place in the space is judged: the confirmed one, else the best; None if there is none."""

    edges: tuple[EdgeAdvice, ...]
    importance: Importances | None
    no_importance: str
    """Why there is none."""

    isolation: Mapping[str, tuple[Bin, ...]]
    """For each scientific dimension."""

    readings: Mapping[str, Readings]
    """For each scientific dimension."""

    infeasible: Infeasible
    noise: Noise | None
    """From the trials' own repeats and from fresh seeds; None if nothing was repeated."""

    luck: float | None
    """How far the best of as many equal trials would lie below what it gives again; None without noise."""

    complete: int
    """Trials that have trained to their end."""

    ledger: Ledger
    confirming: Ledger | None
    """What a confirmation took."""


def analyze(study: optuna.Study, storage: optuna.storages.BaseStorage) -> Analysis:
    """Reads a study and its confirmation."""
    trials, objectives, space = study.get_trials(deepcopy=False), study_objectives(study), study_space(study)
    primary, complete = primary_index(objectives), complete_trials(trials)
    fresh = fresh_trials(study, storage)
    confirmed = stored_confirmed(study)
    chosen = best_trial(trials, primary)
    if confirmed is not None and confirmed.found.recommended is not None:
        chosen = trials[confirmed.found.recommended]
    found, why_not = _importance(trials, space, primary, study.user_attrs.get("seed", 0))
    noise = _noise(complete, fresh, primary)
    scientific = [dim for dim in space if dim.role == "scientific"]
    reduce = study_plan(study).objective.reduce
    return Analysis(
        study=study.study_name,
        objective=objectives[primary].name,
        chosen=None if chosen is None else chosen.number,
        edges=() if chosen is None else tuple(_edges(space, chosen.params)),
        importance=found,
        no_importance=why_not,
        isolation={
            dim.name: tuple(isolation(points_of(complete, dim.name, lambda t: t.values[primary]), domain=dim.domain))
            for dim in scientific
        },
        readings={dim.name: readings(complete, dim.name, domain=dim.domain, reduce=reduce) for dim in scientific},
        infeasible=infeasible(trials),
        noise=noise,
        luck=None if noise is None or not complete else best_of(len(complete), noise.sd),
        complete=len(complete),
        ledger=ledger(trials, _most_epochs(trials)),
        confirming=ledger(fresh, _most_epochs(fresh)) if fresh else None,
    )


def _importance(
    trials: Sequence[FrozenTrial], space: Sequence[Dimension], primary: int, seed: int
) -> tuple[Importances | None, str]:
    try:
        return importance(complete_trials(trials), space, lambda trial: float(trial.values[primary]), seed=seed), ""
    except NegativeAnswer as error:
        return None, error.what + (f": {error.got}" if error.got else "")


def _edges(space: Sequence[Dimension], params: Mapping[str, Any]) -> Iterator[EdgeAdvice]:
    for dim in space:
        if dim.name in params and (advice := edge_advice(dim, params[dim.name])) is not None:
            yield advice


def _noise(complete: Sequence[FrozenTrial], fresh: Sequence[FrozenTrial], primary: int) -> Noise | None:
    """From what was trained with several seeds: by fresh seeds, else the repeats of single trials.

    A trial's value is the mean over its repeats, so that of n repeats the noise is less by sqrt(n).
    """
    by_candidate: dict[int, list[float]] = {}
    for candidate, by_seed in values_of(fresh, primary).items():
        by_candidate[candidate] = [value for value in by_seed.values() if value is not None]
    try:
        return noise_of_repeats(list(by_candidate.values()))
    except ValueError:
        pass
    groups: dict[tuple[int, int], list[float]] = {}
    for trial in complete:
        for row in trial_result(trial).get("trainings", []):
            groups.setdefault((trial.number, row["fold"]), []).append(row["value"])
    trainings = max((len(trial_result(trial).get("trainings", [])) for trial in complete), default=0)
    try:
        single = noise_of_repeats(list(groups.values()))
    except ValueError:
        return None
    scale = 1 / math.sqrt(trainings)
    return Noise(single.sd * scale, single.freedom, single.low * scale, single.high * scale)


def _most_epochs(trials: Sequence[FrozenTrial]) -> int:
    return max((int(trial_settings(trial)["train"]["epochs"]) for trial in trials if trial_settings(trial)), default=0)
