"""Summaries of a trial and of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial

from data_utils.wording import caution_of
from search import BASELINE_TRIAL
from search.definition.definition import StudyDefinition
from search.definition.objectives import primary_index
from search.definition.space import active_dimensions
from search.events import RunFinished, TrialSummary
from search.running.criteria import noise_of
from search.study.recommendation import believed_trial, chosen_trial
from search.study.trials import FINISHED_STATES, best_trial, count_states, num_finished, pareto_front, trial_result

if TYPE_CHECKING:
    from search.running.trial_source import SearchTrials  # imports torch


def run_finished(
    study: optuna.Study, definition: StudyDefinition, trial_source: SearchTrials, seconds: float, stopped_by: str
) -> RunFinished:
    trials = study.get_trials(deepcopy=False)
    primary, several = primary_index(definition.objectives), len(definition.objectives) > 1
    best, choice = best_trial(trials, primary), chosen_trial(study)
    believed = believed_trial(study)
    return RunFinished(
        study=definition.name,
        finished=num_finished(trials),
        target=trial_source.target,
        counts=count_states(trials),
        best=trial_summary(best),
        baseline=baseline_summary(trials),
        front=tuple(filter(None, map(trial_summary, pareto_front(trials, primary)))) if several else (),
        edges=() if several else _edges(None if choice is None else choice.trial, definition),
        noise=None if several else believed.noise if believed is not None else _noise(trials, best),
        seconds=seconds,
        stopped_by=stopped_by,
        ended_by=trial_source.ended_by,
        continue_with=trial_source.continue_with,
        caution=caution_of(definition.signers.split),
        believed=None if choice is not None and choice.by == "confirmation" else believed,
    )


def _noise(trials: Sequence[FrozenTrial], best: FrozenTrial | None) -> float | None:
    if best is None:
        return None
    second = best_trial([trial for trial in trials if trial.number != best.number])
    noise = noise_of(best, second)
    return noise if 0 < noise < float("inf") else None


def _edges(chosen: FrozenTrial | None, definition: StudyDefinition) -> tuple[str, ...]:
    if chosen is None or chosen.number == BASELINE_TRIAL:
        return ()
    return tuple(
        f"{dim.name} {chosen.params[dim.name]:.3g} lies at the {end} edge of its range {dim.domain.text()}"
        for dim in active_dimensions(definition.space, chosen.params)
        if dim.name in chosen.params and (end := dim.edge(chosen.params[dim.name]))
    )


def trial_summary(trial: FrozenTrial | None) -> TrialSummary | None:
    """Summary of a finished trial."""
    result = trial_result(trial) if trial is not None else {}
    if trial is None or not result:
        return None
    values = result.get("values") or {"val_loss": result["val_loss"]}  # written by an earlier version: no `values`
    return TrialSummary(trial.number, trial.params, next(iter(values.values())), result["val_top1"], result["epoch"], values)


def baseline_summary(trials: Sequence[FrozenTrial]) -> TrialSummary | None:
    """Summary of the baseline; None until it is finished."""
    return next((trial_summary(t) for t in trials if t.number == BASELINE_TRIAL and t.state in FINISHED_STATES), None)
