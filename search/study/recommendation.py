"""Which trial to use: the confirmed one, else the one that a model believes in, else the one with the best value."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial

from search.definition.objectives import primary_index
from search.definition.observed import is_inside
from search.definition.space import Dimension
from search.errors import DefinitionError, NegativeAnswer
from search.study.belief import believe
from search.study.confirmed import load_confirmed
from search.study.searched_space import study_space
from search.study.study import study_objectives
from search.study.trials import best_trial, complete_trials, require_trial

MIN_TRIALS = 8
"""Complete trials from which on a model is fitted. Fewer say little about how much of a value is noise."""

RIVAL = 0.05
"""From this probability on of being better than the believed trial, another one could have been picked in its place."""

WIDENED_FOR_CHOICE = "widened for the choice among the trials that could be the best (Bonferroni)"
"""The correction of a recommendation's interval, in words."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The trial whose setting has the lowest mean over seeds, estimated by a Gaussian process.

    It is fitted to all complete trials; of more than 150, to those nearest to the lowest.

    The field names are those of `--json`.
    """

    trial: int
    params: Mapping[str, Any]
    mean: float
    """Its true value: the mean over all seeds, as far as it is known."""

    low: float
    """Lower end of the true value's 95% interval. It is widened for the choice among all trials that could have been picked
    (Bonferroni, see `RIVAL`): the lowest of many means is partly luck too."""

    high: float
    noise: float
    """Standard deviation of one training's value around the true value, estimated."""

    best: int
    """The trial with the best value, which is partly luck."""

    best_value: float
    better: float | None
    """Probability that `trial` has a better true value than `best`; None if they are the same."""

    complete: int
    """Number of complete trials."""


@dataclass(frozen=True)
class Choice:
    """The trial to use, and why."""

    trial: FrozenTrial
    by: Literal["confirmation", "model", "value"]
    """A confirmation recommends it, the model believes in it, or it has the best value and there is no model."""

    best: FrozenTrial
    """The trial with the best value."""

    believed: Recommendation | None
    """What the model says; None without a model, and where a confirmation has decided."""


def chosen_trial(study: optuna.Study) -> Choice | None:
    """The trial to use; None if none is complete."""
    trials = study.get_trials(deepcopy=False)
    best, confirmed = best_trial(trials, primary_index(study_objectives(study))), load_confirmed(study)
    if best is None:
        return None
    if confirmed is not None and confirmed.found.recommended is not None:
        return Choice(require_trial(study, trials, confirmed.found.recommended), "confirmation", best, None)
    believed = believed_trial(study)
    if believed is None:
        return Choice(best, "value", best, None)
    return Choice(require_trial(study, trials, believed.trial), "model", best, believed)


def require_choice(study: optuna.Study) -> Choice:
    """The trial to use.

    Raises:
        NegativeAnswer: no trial is complete.
    """
    choice = chosen_trial(study)
    if choice is None:
        name = study.study_name
        raise NegativeAnswer(
            f"no trial of `{name}` is complete yet",
            hint=f"continue with `islr-search run {name}`; `islr-search status {name}` shows its state",
        )
    return choice


def believed_trial(study: optuna.Study) -> Recommendation | None:
    """What a model of a study recommends; None where `recommend` gives none, or where a parameter is no setting."""
    try:
        space = study_space(study)
    except DefinitionError:  # a confirmation, or a study of another program
        return None
    return recommend(study.get_trials(deepcopy=False), space, primary_index(study_objectives(study)))


def recommend(trials: Sequence[FrozenTrial], space: Sequence[Dimension], primary: int) -> Recommendation | None:
    """The complete trial that a model believes in.

    None with fewer than `MIN_TRIALS` complete trials of this tool, with several objectives, and where no model can be fitted.
    The last results are kept, so that asking again costs nothing while no trial has finished.
    """
    known = [trial for trial in complete_trials(trials) if _is_usable(trial, space, primary)]
    if len(known) < MIN_TRIALS:
        return None
    content = repr((primary, space, [(trial.number, trial.values, trial.params) for trial in known]))
    return _recommend(_Question(content, known, space, primary))


@dataclass(frozen=True)
class _Question:
    """The arguments of `recommend`, equal to others with the same content."""

    content: str
    trials: Sequence[FrozenTrial] = field(compare=False)
    space: Sequence[Dimension] = field(compare=False)
    primary: int = field(compare=False)


def _is_usable(trial: FrozenTrial, space: Sequence[Dimension], primary: int) -> bool:
    """Whether a trial's setting is a point of the space, and its only value a number."""
    return is_inside(trial, space) and len(trial.values) == 1 and math.isfinite(trial.values[primary])


@functools.lru_cache(maxsize=4)
def _recommend(question: _Question) -> Recommendation | None:
    trials = {trial.number: trial for trial in question.trials}
    luckiest = best_trial(question.trials, question.primary)
    belief = believe(question.trials, question.space, question.primary, averaged=True)
    if belief is None or luckiest is None or not belief.is_fitted:
        return None
    value = luckiest.values[question.primary]
    number = min(belief.trials, key=lambda one: (belief.mean_of(one), trials[one].values[question.primary], one))
    place = belief.trials.index(number)
    mean, sd = belief.mean_of(number), math.sqrt(max(float(belief.covariance_MM[place, place]), 0.0))
    rivals = sum(belief.probability_better(one, number) >= RIVAL for one in belief.trials if one != number)
    z = statistics.NormalDist().inv_cdf(1 - 0.025 / (1 + rivals))
    is_same = number == luckiest.number or luckiest.number not in belief.trials
    return Recommendation(
        trial=number,
        params=trials[number].params,
        mean=mean,
        low=mean - z * sd,
        high=mean + z * sd,
        noise=belief.noise,
        best=luckiest.number,
        best_value=value,
        better=None if is_same else belief.probability_better(number, luckiest.number),
        complete=len(trials),
    )
