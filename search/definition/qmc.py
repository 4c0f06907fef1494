"""The points of a quasi-Monte Carlo sequence, by trial number."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

_REDRAW = 1 << 16
"""How far along the sequence a further draw for the same trial lies."""


class SequenceSampler(optuna.samplers.QMCSampler):
    """Optuna's QMCSampler, with the point that a trial gets decided by its number instead of a counter in the storage.

    So a search that was killed and resumed has the points of one in peace.
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
        """The trial's point; at each further call another."""
        self._trial = trial.number
        return super().sample_relative(study, trial, search_space)

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, BaseDistribution]) -> int:
        self._draws += 1
        return self._trial + (self._draws - 1) * _REDRAW
