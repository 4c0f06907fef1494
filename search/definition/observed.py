"""What the trials of a study have shown: points of the unit cube with noisy values, ready for a Gaussian process."""

# N trials, D coordinates of the unit cube

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from optuna.trial import FrozenTrial, TrialState

from search.definition.cube import embedding
from search.definition.space import Dimension
from search.definition.trial_attributes import attribute

FENCE_FACTOR = 3.0
"""At which distance above the median values are clipped, in distances between the median and the lower quartile: how far a bad
setting went off says nothing about the good ones. It is 2 standard deviations of a normal distribution. Only the lower half
counts, unlike with Tukey's fence, since half of all settings may be bad."""

MIN_COMPLETE = 4
"""With fewer complete trials nobody knows what pruned ones would have reached, or what is bad."""


@dataclass(frozen=True)
class Observed:
    """The trials that say something, and what."""

    numbers: tuple[int, ...]
    points_ND: Float[np.ndarray, "N D"]
    values_N: Float[np.ndarray, " N"]
    """Of a complete trial its value, of a pruned one the value that it would probably have reached, of one that failed by its
    settings the worst; none above the fence."""

    extra_noise_N: Float[np.ndarray, " N"]
    """How uncertain, as a variance, a value is beside the noise of a training: 0 for complete trials."""


def observe(trials: Sequence[FrozenTrial], space: Sequence[Dimension], primary: int = 0) -> Observed:
    """What trials have shown.

    A pruned trial would have improved by as much, on average, as complete trials did from that step to their end.

    Args:
        trials: in any state; those that are not over, and those that the machine failed, are left out.
        space: the dimensions of the search.
        primary: index of the objective that counts.
    """
    inside = [trial for trial in trials if is_inside(trial, space)]
    complete = [trial for trial in inside if trial.state == TrialState.COMPLETE and math.isfinite(trial.values[primary])]
    rows = [(trial, trial.values[primary], 0.0) for trial in complete]
    fence = upper_fence(np.array([value for _, value, _ in rows])) if rows else math.inf
    gains: dict[int, tuple[float, float]] = {}
    for trial in inside if len(complete) >= MIN_COMPLETE else []:
        if trial.state == TrialState.PRUNED and (reported := _reported(trial)):
            step = max(reported)
            if step not in gains:
                gains[step] = _gain(complete, step, primary)
            gain, variance = gains[step]
            rows.append((trial, min(reported.values()) - gain, variance))
        elif failed_by_settings(trial):
            rows.append((trial, fence, 0.0))
    rows.sort(key=lambda row: row[0].number)
    return Observed(
        numbers=tuple(trial.number for trial, _, _ in rows),
        points_ND=np.array([embedding(trial.params, space) for trial, _, _ in rows]),
        values_N=np.minimum([value for _, value, _ in rows], fence),
        extra_noise_N=np.array([variance for _, _, variance in rows]),
    )


def failed_by_settings(trial: FrozenTrial) -> bool:
    """Whether a trial failed because of its settings: its loss diverged, for instance."""
    return trial.state == TrialState.FAIL and attribute(trial, "result") is not None and not failed_by_machine(trial)


def failed_by_machine(trial: FrozenTrial) -> bool:
    """Whether a trial failed because workers died or memory ran out, and not because of its settings."""
    out_of_memory = str(attribute(trial, "reason", "")).startswith("out of memory")
    return trial.state == TrialState.FAIL and (bool(attribute(trial, "deaths")) or out_of_memory)


def upper_fence(value_N: Float[np.ndarray, " N"]) -> float:
    """The value above which values are clipped; see `FENCE_FACTOR`."""
    lower, middle = np.quantile(value_N, [0.25, 0.5])
    return float(middle + FENCE_FACTOR * (middle - lower))


def is_inside(trial: FrozenTrial, space: Sequence[Dimension]) -> bool:
    """Whether a trial has parameters, and all of them are values of the space."""
    names = {dim.name: dim for dim in space}
    return bool(trial.params) and all(name in names and names[name].contains(value) for name, value in trial.params.items())


def _reported(trial: FrozenTrial) -> dict[int, float]:
    return {step: value for step, value in trial.intermediate_values.items() if math.isfinite(value)}


def _gain(complete: Sequence[FrozenTrial], step: int, primary: int) -> tuple[float, float]:
    """By how much complete trials have improved on their best value up to a step: mean and variance."""
    gains = []
    for trial in complete:
        if early := [value for number, value in _reported(trial).items() if number <= step]:
            gains.append(min(early) - trial.values[primary])
    if not gains:
        return 0.0, 0.0
    return statistics.fmean(gains), statistics.pvariance(gains)
