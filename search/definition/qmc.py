"""A quasi-Monte Carlo sampler whose points are determined by the trial number."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

_REDRAW_STRIDE = 1 << 16
"""Offset in the sequence of each further point that is drawn for the same trial."""


class SequenceSampler(optuna.samplers.QMCSampler):
    """Optuna's QMCSampler, but a trial's number decides its point instead of a counter in the storage.

    A search that is killed and resumed therefore has the points of an uninterrupted one.
    """

    def __init__(self, sequence: str, *, scramble: bool, study_seed: int, seed: int) -> None:
        super().__init__(
            qmc_type=sequence,
            scramble=scramble,
            seed=study_seed,
            independent_sampler=optuna.samplers.RandomSampler(seed=seed),
            warn_independent_sampling=False,
        )
        self._trial = 0
        self._draws = 0

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The trial's point; a different one at each further call."""
        self._trial = trial.number
        return super().sample_relative(study, trial, search_space)

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        self._draws += 1
        return self._trial + (self._draws - 1) * _REDRAW_STRIDE
