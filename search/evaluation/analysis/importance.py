"""The importance of the searched parameters, and how stable it is."""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.definition.space import Dimension, rounded_params
from search.errors import NegativeAnswer

MIN_FOR_IMPORTANCE = 20
"""Complete trials. PED-ANOVA estimates a density from the best tenth of them, which takes at least two trials."""

SPREAD = (0.05, 0.95)
"""The quantiles of the bootstrap resamples that are reported: 90% lie between them."""


@dataclass(frozen=True)
class Importance:
    """The importance of one parameter."""

    name: str
    importance: float
    """Share of the importance of all judged parameters, 0..1."""

    low: float
    high: float
    """Its `SPREAD` over the resamples; NaN if no resample gave a result."""

    sd: float
    """Its standard deviation over the resamples."""


@dataclass(frozen=True)
class Importances:
    """The importances of a study's parameters, the most important first."""

    params: tuple[Importance, ...]
    not_judged: Mapping[str, str]
    """Why a parameter is not among them, by its name."""

    trials: int
    """Number of complete trials that were used."""

    draws: int
    """Number of bootstrap resamples that gave a result."""


def importance(
    trials: Sequence[FrozenTrial],
    space: Sequence[Dimension],
    value_of: Callable[[FrozenTrial], float],
    *,
    seed: int,
    draws: int = 50,
) -> Importances:
    """Which searched parameters decide whether a trial is among the best tenth, and how stable the ranking is.

    The spread is from a bootstrap: as many trials are resampled with replacement, `draws` times. It shows how much the ranking
    depends on which trials happened to be drawn. It is no confidence interval: repeated trials make every peak sharper, and a
    search that concentrates around its best has seen little of the rest. Parameters that do not apply in every trial are left
    out, because each would be judged on a different set of trials.

    Args:
        value_of: what is minimized; trials for which it is not finite are left out.

    Raises:
        NegativeAnswer: there are fewer than `MIN_FOR_IMPORTANCE` complete trials, or their values do not differ.

    Source: PED-ANOVA, Watanabe, Bansal and Hutter 2023, as implemented in Optuna; bootstrap, Efron 1979.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and math.isfinite(value_of(trial))]
    if len(complete) < MIN_FOR_IMPORTANCE:
        raise NegativeAnswer(
            "too few complete trials to compute which parameters mattered",
            got=f"{len(complete)}",
            expected=f"{MIN_FOR_IMPORTANCE} or more",
            hint="add trials with `islr-search run STUDY --more N`",
        )
    why_not = {dim.name: _why_not_judged(dim, complete) for dim in space}
    judged = [dim for dim in space if not why_not[dim.name]]
    rows = [_reduced(trial, judged, value_of(trial)) for trial in complete]
    rng = np.random.default_rng(seed)
    with _quiet_optuna():
        whole = _shares(rows, judged)
        drawn = [_shares([rows[n] for n in rng.integers(len(rows), size=len(rows))], judged) for _ in range(draws)]
    if judged and not whole:
        raise NegativeAnswer(
            "which parameters mattered is unknown: the complete trials' values do not differ",
            hint="analyze another objective, or widen the space",
        )
    valid = [shares for shares in drawn if shares]
    params = [_with_spread(dim.name, whole[dim.name], [shares[dim.name] for shares in valid]) for dim in judged]
    ranked = sorted(params, key=lambda one: (-one.importance, one.name))
    return Importances(tuple(ranked), {name: why for name, why in why_not.items() if why}, len(complete), len(valid))


def _why_not_judged(dim: Dimension, complete: Sequence[FrozenTrial]) -> str:
    values = [trial.params[dim.name] for trial in complete if dim.name in trial.params]
    if len(values) < len(complete):
        return f"it applies in only {len(values)} of {len(complete)} trials"
    if all(value == values[0] for value in values):
        return f"it is {values[0]} in every trial"
    return "" if all(dim.contains(value) for value in values) else "some of its values lie outside its range"


def _reduced(trial: FrozenTrial, judged: Sequence[Dimension], value: float) -> FrozenTrial:
    """The trial with only its value and the judged parameters, in the current ranges: the study may have been widened."""
    return create_trial(
        value=value,
        params=rounded_params(judged, trial.params),
        distributions={dim.name: dim.distribution() for dim in judged},
    )


def _shares(rows: Sequence[FrozenTrial], judged: Sequence[Dimension]) -> dict[str, float]:
    """Importances by name, with sum 1. Empty if all are 0, which they are if the best tenth is no better than the rest."""
    study = optuna.create_study(storage=_Given(rows))
    raw = PedAnovaImportanceEvaluator().evaluate(study, params=[dim.name for dim in judged])
    total = sum(raw.values())
    return {name: value / total for name, value in raw.items()} if total > 0 else {}


class _Given(optuna.storages.InMemoryStorage):
    """A storage whose study has given complete trials. Optuna's own would copy each in depth, which takes most of the time."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._trials = [copy.copy(trial) for trial in trials]
        for number, trial in enumerate(self._trials):  # a resample has some trials several times
            trial.number = trial._trial_id = number

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self._trials


def _with_spread(name: str, whole: float, drawn: Sequence[float]) -> Importance:
    if not drawn:
        return Importance(name, whole, math.nan, math.nan, math.nan)
    low, high = np.quantile(drawn, SPREAD)
    return Importance(name, whole, float(low), float(high), float(np.std(drawn)))


@contextlib.contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Silences Optuna, which logs every new study, and warns of resamples whose values do not differ."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
