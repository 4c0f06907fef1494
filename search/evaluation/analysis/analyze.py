"""`search analyze`: everything the trials of a study show beyond the best one. The numbers come from the modules beside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from search.definition.objectives import primary_index
from search.definition.space import Dimension
from search.errors import NegativeAnswer
from search.evaluation.analysis.cost import Infeasible, Spending, infeasible, spending
from search.evaluation.analysis.edges import EdgeAdvice, edge_advice
from search.evaluation.analysis.grid import GridComparison, compare_grid
from search.evaluation.analysis.importance import Importances, importance
from search.evaluation.analysis.isolation import Bin, isolation_bins, trial_points
from search.evaluation.analysis.metrics_agree import MetricComparison, compare_metrics
from search.evaluation.analysis.noise import Noise, expected_optimism, noise_from_repeats
from search.study.companion import fresh_trainings, training_values
from search.study.recommendation import Recommendation, chosen_trial
from search.study.searched_space import study_space
from search.study.study import study_objectives, study_plan
from search.study.trials import complete_trials, trial_result, trial_settings


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """The analysis of one study. The field names are those of `--json`."""

    study: str
    objective: str
    """Name of the objective that is analyzed: the primary one."""

    chosen: int | None
    """The trial to use, whose position in the space is checked (`chosen_trial`); None if none is complete."""

    believed: Recommendation | None
    """What a model of the search recommends; None without a model, and where a confirmation has decided."""

    edges: tuple[EdgeAdvice, ...]
    importance: Importances | None
    no_importance: str
    """Why `importance` is None; else empty."""

    isolation: Mapping[str, tuple[Bin, ...]]
    """For each scientific dimension."""

    readings: Mapping[str, MetricComparison]
    """For each scientific dimension."""

    grid: GridComparison | None
    """The settings of a small grid with repeats, compared with the baseline; None for other studies."""

    infeasible: Infeasible
    noise: Noise | None
    """From fresh seeds, else from the trials' own repeats; None if nothing was repeated."""

    luck: float | None
    """Expected optimism of the best of as many equal trials; None without noise."""

    complete: int
    """Number of complete trials."""

    ledger: Spending
    confirming: Spending | None
    """Cost of the confirmation; None if there was none."""


def analyze(study: optuna.Study, storage: optuna.storages.BaseStorage) -> Analysis:
    """Analyzes a study and its confirmation."""
    trials, objectives, space = study.get_trials(deepcopy=False), study_objectives(study), study_space(study)
    primary, complete, fresh = primary_index(objectives), complete_trials(trials), fresh_trainings(study, storage)
    choice = chosen_trial(study)
    params = {} if choice is None else choice.trial.params
    advice = [edge_advice(dim, params[dim.name]) for dim in space if dim.name in params]
    importances, no_importance = _importance(complete, space, primary, study.user_attrs.get("seed", 0))
    noise = _noise(complete, fresh, primary)
    scientific = [dim for dim in space if dim.role == "scientific"]
    reduce = study_plan(study).objective.reduce
    return Analysis(
        study=study.study_name,
        objective=objectives[primary].name,
        chosen=None if choice is None else choice.trial.number,
        believed=None if choice is None else choice.believed,
        edges=tuple(one for one in advice if one is not None),
        importance=importances,
        no_importance=no_importance,
        isolation={
            dim.name: tuple(isolation_bins(trial_points(complete, dim.name, lambda t: t.values[primary]), domain=dim.domain))
            for dim in scientific
        },
        readings={dim.name: compare_metrics(complete, dim.name, domain=dim.domain, reduce=reduce) for dim in scientific},
        grid=compare_grid(complete, space, objectives[primary].name, study_plan(study).repeats),
        infeasible=infeasible(trials),
        noise=noise,
        luck=None if noise is None or not complete else expected_optimism(len(complete), noise.sd),
        complete=len(complete),
        ledger=spending(trials, _max_epochs(trials)),
        confirming=spending(fresh, _max_epochs(fresh)) if fresh else None,
    )


def _importance(
    complete: Sequence[FrozenTrial], space: Sequence[Dimension], primary: int, seed: int
) -> tuple[Importances | None, str]:
    try:
        return importance(complete, space, lambda trial: float(trial.values[primary]), seed=seed), ""
    except NegativeAnswer as error:
        return None, error.what + (f": {error.got}" if error.got else "")


def _noise(complete: Sequence[FrozenTrial], fresh: Sequence[FrozenTrial], primary: int) -> Noise | None:
    """Noise from what was trained with several seeds: the confirmation, else the repeats within trials.

    A trial's value is the mean over its n repeats, so its noise is lower by sqrt(n).
    """
    by_candidate = [
        [value for value in by_seed.values() if value is not None] for by_seed in training_values(fresh, primary).values()
    ]
    if (noise := noise_from_repeats(by_candidate)) is not None:
        return noise
    by_fold: dict[tuple[int, int], list[float]] = {}
    trainings = {trial.number: trial_result(trial).get("trainings", []) for trial in complete}
    for number, rows in trainings.items():
        for row in rows:
            by_fold.setdefault((number, row["fold"]), []).append(row["value"])
    if (noise := noise_from_repeats(list(by_fold.values()))) is None:
        return None
    scale = 1 / math.sqrt(max(map(len, trainings.values())))
    return Noise(noise.sd * scale, noise.freedom, noise.low * scale, noise.high * scale)


def _max_epochs(trials: Sequence[FrozenTrial]) -> int:
    return max((int(stored["train"]["epochs"]) for trial in trials if (stored := trial_settings(trial))), default=0)
