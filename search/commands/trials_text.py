"""The trials of a study as a table, the same as while it was searched."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial

from search.commands.run_text import TrialTable
from search.definition.objectives import primary_index
from search.definition.trial_attributes import attribute
from search.events import TrialFinished
from search.study.searched_space import study_space
from search.study.study import study_objectives
from search.study.trials import STATE_NAMES, pareto_front, trial_curve, trial_result
from search.wording import Strong


def trial_lines(study: optuna.Study, trials: Sequence[FrozenTrial], max_width: int | None) -> list[str]:
    """Trials as lines of at most `max_width` columns; the best, or the Pareto front, is starred."""
    everything = study.get_trials(deepcopy=False)
    names = [objective.name for objective in study_objectives(study)]
    primary = primary_index(study_objectives(study))
    starred = {trial.number for trial in pareto_front(everything, primary)}
    table = TrialTable({dim.name: dim.domain.text() for dim in study_space(study)}, names, max_width)
    lines = [table.head()]
    for trial in trials:
        row, *reason = table.rows(_event(trial, is_best=trial.number in starred))
        lines += [Strong(row) if trial.number in starred else row, *reason]
    return lines


def _event(trial: FrozenTrial, *, is_best: bool) -> TrialFinished:
    result = trial_result(trial)
    values = result.get("values") or ({"val_loss": result["val_loss"]} if "val_loss" in result else {})
    return TrialFinished(
        trial=trial.number,
        state=STATE_NAMES[trial.state],
        params=trial.params,
        values=values,
        val_top1=result.get("val_top1"),
        epochs=result.get("epochs") or max(trial_curve(trial), default=0),
        seconds=result.get("seconds") or 0.0,
        is_best=is_best,
        finished=0,
        target=0,
        reason=attribute(trial, "reason", ""),
    )
