"""Which searched parameters mattered, and how far that can be trusted."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.definition.space import Dimension
from search.errors import NegativeAnswer

MIN_FOR_IMPORTANCE = 20
"""Complete trials. PED-ANOVA looks at the best tenth of them, and two trials are the fewest that make a density at all."""

SPREAD = (0.05, 0.95)
"""The quantiles between which nine of ten bootstrap draws lie."""


@dataclass(frozen=True)
class Importance:
    """How much one parameter mattered."""

    name: str
    importance: float
    """Share of all judged parameters' importance, 0..1."""

    low: float
    high: float
    """Its `SPREAD` over the bootstrap draws; NaN if no draw said anything."""

    sd: float
    """Its standard deviation over the draws."""


@dataclass(frozen=True)
class Importances:
    """Which parameters mattered, the most important first."""

    params: tuple[Importance, ...]
    not_judged: Mapping[str, str]
    """Why a parameter is not among them, by its name."""

    trials: int
    """Complete trials that were looked at."""

    draws: int
    """Bootstrap draws that said something."""


def importance(
    trials: Sequence[FrozenTrial],
    space: Sequence[Dimension],
    value_of: Callable[[FrozenTrial], float],
    *,
    seed: int,
    draws: int = 50,
) -> Importances:
    """Which searched parameters decide whether a trial is among the best tenth, and how far that can be trusted.

    The spread is a bootstrap's: the same number of trials drawn anew with replacement, `draws` times. It tells how the ranking
    hangs on the trials that happened to be drawn, and is no confidence interval: trials drawn twice make every peak sharper,
    and a search that crowds around its best has seen little of the rest. Parameters that do not apply in every trial are left
    out, as each would be judged on other trials than its neighbours.

    Args:
        value_of: what is minimised; trials for which it is not finite are left out.

    Raises:
        NegativeAnswer: there are fewer than `MIN_FOR_IMPORTANCE` complete trials, or their values do not differ.

    Source: PED-ANOVA, Watanabe, Bansal and Hutter 2023, as Optuna has it; bootstrap, Efron 1979.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and math.isfinite(value_of(trial))]
    if len(complete) < MIN_FOR_IMPORTANCE:
        raise NegativeAnswer(
            "there are too few complete trials to tell which parameters mattered",
            got=f"{len(complete)}",
            expected=f"{MIN_FOR_IMPORTANCE} or more",
            hint="go on with `python -m search run STUDY --more N`",
        )
    why_not = {dim.name: _why_not_judged(dim, complete) for dim in space}
    judged = [dim for dim in space if not why_not[dim.name]]
    rows = [_bare(trial, judged, value_of(trial)) for trial in complete]
    rng = np.random.default_rng(seed)
    with _silent():
        whole = _shares(rows, judged)
        drawn = [_shares([rows[n] for n in rng.integers(len(rows), size=len(rows))], judged) for _ in range(draws)]
    if judged and not whole:
        raise NegativeAnswer(
            "nothing tells which parameters mattered: the complete trials' values do not differ",
            hint="look at another objective, or widen the space",
        )
    said = [shares for shares in drawn if shares]
    found = [_with_spread(dim.name, whole[dim.name], [shares[dim.name] for shares in said]) for dim in judged]
    ranked = sorted(found, key=lambda one: (-one.importance, one.name))
    return Importances(tuple(ranked), {name: why for name, why in why_not.items() if why}, len(complete), len(said))


def _why_not_judged(dim: Dimension, complete: Sequence[FrozenTrial]) -> str:
    values = [trial.params[dim.name] for trial in complete if dim.name in trial.params]
    if len(values) < len(complete):
        return f"it applies in {len(values)} of {len(complete)} trials only"
    if all(value == values[0] for value in values):
        return f"it is {values[0]} in every trial"
    return "" if all(dim.contains(value) for value in values) else "some of its values lie outside its range"


def _bare(trial: FrozenTrial, judged: Sequence[Dimension], value: float) -> FrozenTrial:
    """The trial with nothing but its value and the judged parameters, in today's ranges: a study may have been widened."""
    return create_trial(
        value=value,
        params={dim.name: trial.params[dim.name] for dim in judged},
        distributions={dim.name: dim.distribution() for dim in judged},
    )


def _shares(rows: Sequence[FrozenTrial], judged: Sequence[Dimension]) -> dict[str, float]:
    """Importance by name, 1 together; empty where it is 0 for all, as it is where the best tenth is no better than the rest."""
    study = optuna.create_study()
    study.add_trials(rows)
    raw = PedAnovaImportanceEvaluator().evaluate(study, params=[dim.name for dim in judged])
    total = sum(raw.values())
    return {name: value / total for name, value in raw.items()} if total > 0 else {}


def _with_spread(name: str, whole: float, drawn: Sequence[float]) -> Importance:
    if not drawn:
        return Importance(name, whole, math.nan, math.nan, math.nan)
    low, high = np.quantile(drawn, SPREAD)
    return Importance(name, whole, float(low), float(high), float(np.std(drawn)))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Optuna tells of every study that it makes, and warns of draws whose values do not differ, which are expected here."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
