"""The cost of a study's trials: epochs and seconds, what pruning saved and failures lost, and where trials failed."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from search.definition.trial_attributes import attribute
from search.study.trials import STATE_NAMES, trial_result, trial_settings

_MIN_FAILURES = 3
"""Fewer failures at one end of a range are no pattern."""

_NUMBER = re.compile(r"(?<![A-Za-z_])[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Infeasible:
    """How many trials failed, why, and where in the space."""

    finished: int
    """Complete, pruned and failed trials together."""

    failed: int
    reasons: tuple[tuple[str, int], ...]
    """Kinds of reasons, with `#` for numbers, and how often each occurred; the most frequent first."""

    places: tuple[str, ...]
    """A sentence for each numeric parameter whose failures all lie at one end of its range."""

    @property
    def share(self) -> float:
        """Failed trials as a share of the finished ones, 0..1; 0 if none is finished."""
        return self.failed / self.finished if self.finished else 0.0


def infeasible(trials: Sequence[FrozenTrial]) -> Infeasible:
    """Failed trials by kind of reason, and the parameters whose failures lie at one end of their range.

    At one end: at least three failures, all above the 75% quantile of the complete trials or all below the 25% quantile.
    """
    finished = [trial for trial in trials if trial.state.is_finished()]
    failed = [trial for trial in finished if trial.state == TrialState.FAIL]
    complete = [trial for trial in finished if trial.state == TrialState.COMPLETE]
    kinds = Counter(_NUMBER.sub("#", attribute(trial, "reason", "")) or "no reason was recorded" for trial in failed)
    names = dict.fromkeys(name for trial in failed for name in trial.params)
    places = [_place(name, _param_values(failed, name), _param_values(complete, name)) for name in names]
    reasons = sorted(kinds.items(), key=lambda one: (-one[1], one[0]))
    return Infeasible(len(finished), len(failed), tuple(reasons), tuple(filter(None, places)))


def _param_values(trials: Sequence[FrozenTrial], name: str) -> list[float]:
    values = [trial.params[name] for trial in trials if name in trial.params]
    return [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]


def _place(name: str, failed: Sequence[float], complete: Sequence[float]) -> str:
    if len(failed) < _MIN_FAILURES or not complete:
        return ""
    lower, upper = np.quantile(complete, (0.25, 0.75))
    if min(failed) > upper:
        end = f"above {upper:.3g}"
    elif max(failed) < lower:
        end = f"below {lower:.3g}"
    else:
        return ""
    return (
        f"all {len(failed)} failed trials have {name} {end}, as do only a quarter of the complete trials: "
        f"their median is {statistics.median(failed):.3g}; complete ones range from {min(complete):.3g} to {max(complete):.3g}"
    )


@dataclass(frozen=True)
class Cost:
    """The cost of some trials. Costs can be added."""

    trials: int = 0
    epochs: float = 0
    """Epochs of all trainings of the trials. A whole number unless it is estimated."""

    cpu_s: float = 0.0
    gpu_s: float = 0.0
    other_s: float = 0.0
    """Seconds of training by kind of device; `other_s` if no device was recorded."""

    @property
    def seconds(self) -> float:
        """Seconds of training on all devices."""
        return self.cpu_s + self.gpu_s + self.other_s

    def __add__(self, more: Cost) -> Cost:
        return Cost(**{field.name: getattr(self, field.name) + getattr(more, field.name) for field in fields(Cost)})


@dataclass(frozen=True)
class Spending:
    """What a study's epochs and seconds were spent on."""

    by_state: Mapping[str, Cost]
    """For `complete`, `pruned`, `failed` and `running` trials."""

    saved: Cost
    """Upper bound of what pruning saved; its trials are the pruned ones."""

    deaths: int
    """How often a worker died."""

    struck: int
    """Trials whose worker died at least once."""

    @property
    def total(self) -> Cost:
        """The cost of all trials."""
        return _sum(self.by_state.values())

    @property
    def lost(self) -> Cost:
        """The cost of failed trials."""
        return self.by_state["failed"]


def spending(trials: Sequence[FrozenTrial], max_epochs: int) -> Spending:
    """The cost of trials by state and device, what pruning saved and what failures lost.

    Saved is what a pruned trial would still have trained, at its own seconds per epoch. That is an upper bound: trainings may
    stop early, and a pruned trial is not one of the good ones, which train longest. So each training is assumed to take the
    mean epochs of the complete trials' trainings, or its own maximum if that is lower. With a pruner that judges one training
    after another, trainings that a pruned trial never started count too: as many as the study's other trials have.

    The cost of a trial is recorded when it ends: a running trial counts as a trial without epochs.

    Args:
        max_epochs: the most epochs of one training, see `StudyDefinition.max_epochs`; a trial's own setting may be lower.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and _result_number(trial, "epochs") > 0]
    expected = float(max_epochs)
    if complete:
        mean = sum(_result_number(t, "epochs") for t in complete) / sum(_num_trainings(t) for t in complete)
        expected = min(expected, mean)
    trainings = max(map(_num_trainings, trials), default=1)
    deaths = [len(attribute(trial, "deaths", [])) for trial in trials]
    return Spending(
        by_state={
            name: _sum(_cost(trial) for trial in trials if trial.state == state)
            for state, name in STATE_NAMES.items()
            if state != TrialState.WAITING
        },
        saved=_sum(_saved(trial, trainings, expected) for trial in trials if trial.state == TrialState.PRUNED),
        deaths=sum(deaths),
        struck=sum(count > 0 for count in deaths),
    )


def _sum(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())


def _cost(trial: FrozenTrial) -> Cost:
    return _on_device(trial, _result_number(trial, "epochs"), _result_number(trial, "seconds"))


def _saved(trial: FrozenTrial, trainings: int, expected: float) -> Cost:
    trained = _result_number(trial, "epochs")
    allowed = trial_settings(trial).get("train", {}).get("epochs", expected)
    left = max(trainings * min(expected, allowed) - trained, 0)
    return _on_device(trial, left, left * _result_number(trial, "seconds") / trained if trained else 0.0)


def _on_device(trial: FrozenTrial, epochs: float, seconds: float) -> Cost:
    device = str(json.loads(attribute(trial, "made_with", "{}")).get("device", ""))
    kind = {"cpu": "cpu_s", "cuda": "gpu_s"}.get(device.partition(":")[0], "other_s")
    by_kind: dict[str, Any] = {kind: seconds}
    return Cost(trials=1, epochs=epochs, **by_kind)


def _result_number(trial: FrozenTrial, name: str) -> float:
    """A number of a trial's result; 0 if it is missing or not finite."""
    value: int | float = trial_result(trial).get(name) or 0
    return value if math.isfinite(value) else 0


def _num_trainings(trial: FrozenTrial) -> int:
    """A trial with a single training has no list of them."""
    return len(trial_result(trial).get("trainings", [])) or 1
