"""Optuna's TPE sampler, faster with thousands of trials: it keeps what it has read of them from one proposal to the next."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.samplers._tpe.sampler import _get_pruned_trial_score, default_gamma
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

_COMPLETE, _PRUNED, _RUNNING, _OTHER = range(4)
_CODES = {TrialState.COMPLETE: _COMPLETE, TrialState.PRUNED: _PRUNED, TrialState.RUNNING: _RUNNING}


class _Column:
    """The values of one parameter in Optuna's internal representation, by position of the trial; NaN where it has none."""

    def __init__(self, name: str, distribution: BaseDistribution) -> None:
        self.name, self.distribution = name, distribution
        self.values = np.empty(0)

    def resize(self, size: int) -> None:
        """Makes room for new trials."""
        self.values = np.append(self.values[:size], np.full(max(size - len(self.values), 0), np.nan))

    def put(self, position: int, params: dict[str, Any]) -> None:
        """Takes the value of a trial."""
        has = self.name in params
        self.values[position] = self.distribution.to_internal_repr(params[self.name]) if has else np.nan


class _Known:
    """What the sampler knows of a study's trials, by their position in order of their numbers."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Starts anew."""
        self.trials: list[FrozenTrial] = []
        self.codes = np.empty(0, dtype=np.int8)
        self.losses = np.empty(0)
        """The values of complete trials."""

        self.has_constraints = False
        self.space: dict[str, BaseDistribution] | None = None
        """The parameters that all ended trials have with the same distribution; None without one. It is what Optuna's
        `IntersectionSearchSpace` finds, which starts again from the oldest running trial each time."""

        self._columns: dict[tuple[str, BaseDistribution], _Column] = {}

    def update(self, trials: list[FrozenTrial]) -> None:
        """Reads trials that are new or have changed. If one that had ended is different now, forgets everything first."""
        common = map(operator.is_, self.trials, trials)
        changed = [position for position, is_same in enumerate(common) if not is_same]
        before = self.trials
        if len(trials) < len(before) or any(_differ(before[position], trials[position]) for position in changed):
            self.forget()
            before, changed = [], []
        changed += range(len(before), len(trials))
        self.codes = np.append(self.codes, np.full(len(trials) - len(before), _OTHER, dtype=np.int8))
        self.losses = np.append(self.losses, np.full(len(trials) - len(before), np.nan))
        for column in self._columns.values():
            column.resize(len(trials))
        for position in changed:
            trial = trials[position]
            self.codes[position] = _CODES.get(trial.state, _OTHER)
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
                self.has_constraints |= bool(trial.constraints)
                shared = trial.distributions if self.space is None else self.space
                self.space = {name: kind for name, kind in shared.items() if trial.distributions.get(name) == kind}
                if trial.state == TrialState.COMPLETE:
                    self.losses[position] = trial.values[0]
                for column in self._columns.values():
                    column.put(position, trial.params)
        self.trials = trials

    def column(self, name: str, distribution: BaseDistribution) -> NDArray[np.float64]:
        """The values of a parameter of complete and pruned trials."""
        column = self._columns.get((name, distribution))
        if column is None:
            column = self._columns[name, distribution] = _Column(name, distribution)
            column.resize(len(self.trials))
            for position in np.flatnonzero(self.codes <= _PRUNED).tolist():
                column.put(position, self.trials[position].params)
        return column.values


class RememberingTpe(TPESampler):
    """TPE that proposes the same as Optuna's, bit for bit, with any number of trials.

    Optuna reads all trials for each proposal, in Python. This sampler reads each once, and passes what it has read to the
    sampler of the next trial. Several objectives, maximized ones and constraints are left to Optuna.
    """

    def __init__(self, startup: int, seed: int, before: BaseSampler | None = None) -> None:
        """`before`: the sampler of an earlier trial of the same study."""
        super().__init__(n_startup_trials=startup, seed=seed)
        self._known: _Known = before._known if isinstance(before, RememberingTpe) else _Known()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that all ended trials have, in alphabetical order."""
        if len(study.directions) > 1:
            return super().infer_relative_search_space(study, trial)
        self._known.update(study.get_trials(deepcopy=False))
        return {name: kind for name, kind in sorted((self._known.space or {}).items()) if not kind.single()}

    def _sample(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        known = self._known
        known.update(study.get_trials(deepcopy=False))
        if study.directions != [StudyDirection.MINIMIZE] or known.has_constraints:
            return super()._sample(study, trial, search_space)
        is_below = self._is_below(study)
        running = [n for n in np.flatnonzero(known.codes == _RUNNING) if known.trials[n].number != trial.number]
        is_above = (known.codes <= _PRUNED) & ~is_below
        is_above[running] = True
        columns = {}
        is_full = np.ones(len(known.trials), dtype=bool)
        for name, distribution in search_space.items():
            columns[name] = column = known.column(name, distribution).copy()
            for n in running:
                params = self._get_params(known.trials[n], study)
                column[n] = distribution.to_internal_repr(params[name]) if name in params else np.nan
            is_full &= ~np.isnan(column)
        below, above = (
            self._parzen_estimator_cls(
                {name: column[part & is_full] for name, column in columns.items()},
                search_space,
                self._parzen_estimator_parameters,
            )
            for part in (is_below, is_above)
        )
        samples = below.sample(self._rng.rng, self._n_ei_candidates)
        chosen = TPESampler._compare(samples, self._compute_acquisition_func(samples, below, above))
        return {name: distribution.to_external_repr(chosen[name]) for name, distribution in search_space.items()}

    def _is_below(self, study: Study) -> NDArray[np.bool_]:
        """Which trials are among the good ones: the best complete ones, then the pruned ones that came furthest."""
        known = self._known
        complete, pruned = np.flatnonzero(known.codes == _COMPLETE), np.flatnonzero(known.codes == _PRUNED)
        count = default_gamma(len(complete) + len(pruned))
        below: list[int] = complete[np.argsort(known.losses[complete], kind="stable")][:count].tolist()
        if count > len(below):
            ranked = sorted(pruned.tolist(), key=lambda n: _get_pruned_trial_score(known.trials[n], study))
            below += ranked[: count - len(below)]
        is_below = np.zeros(len(known.trials), dtype=bool)
        is_below[below] = True
        return is_below


def _differ(old: FrozenTrial, new: FrozenTrial) -> bool:
    """Whether a trial that had ended is another one now."""
    return old.state.is_finished() and _modeled(old) != _modeled(new)


def _modeled(trial: FrozenTrial) -> Sequence[Any]:
    return (trial.number, trial.state, trial.values, trial.params, trial.distributions, trial.intermediate_values)
