"""What a study's trials cost, what was saved and lost, how many failed and where."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from search.study.trials import STATE_NAMES, trial_result, trial_settings

_FEWEST_FAILURES = 3
"""Fewer in one end of a range are no pattern."""

_NUMBER = re.compile(r"(?<![A-Za-z_])[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Infeasible:
    """How many trials failed, why, and where."""

    finished: int
    """Complete, pruned and failed trials together."""

    failed: int
    reasons: tuple[tuple[str, int], ...]
    """Kinds of reasons, their numbers written as `#`, with how often each came; the most frequent first."""

    places: tuple[str, ...]
    """For each numeric parameter whose failures all lie in one end of it: a sentence that says so."""

    @property
    def share(self) -> float:
        """Share of the finished trials that failed, 0..1; 0 where none is finished."""
        return self.failed / self.finished if self.finished else 0.0


def infeasible(trials: Sequence[FrozenTrial]) -> Infeasible:
    """The share of trials that failed, by kind of reason, and parameters whose failures lie in one end.

    In one end: three failures or more, all of them above the 75 % quantile of the complete trials, or all below the 25 % one.
    """
    finished = [trial for trial in trials if trial.state.is_finished()]
    failed = [trial for trial in finished if trial.state == TrialState.FAIL]
    complete = [trial for trial in finished if trial.state == TrialState.COMPLETE]
    kinds = Counter(_NUMBER.sub("#", trial.user_attrs.get("reason", "")) or "no reason was recorded" for trial in failed)
    names = dict.fromkeys(name for trial in failed for name in trial.params)
    said = [_where(name, _numbers(failed, name), _numbers(complete, name)) for name in names]
    reasons = sorted(kinds.items(), key=lambda one: (-one[1], one[0]))
    return Infeasible(len(finished), len(failed), tuple(reasons), tuple(filter(None, said)))


def _numbers(trials: Sequence[FrozenTrial], name: str) -> list[float]:
    values = [trial.params[name] for trial in trials if name in trial.params]
    return [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]


def _where(name: str, failed: Sequence[float], complete: Sequence[float]) -> str:
    if len(failed) < _FEWEST_FAILURES or not complete:
        return ""
    lower, upper = np.quantile(complete, (0.25, 0.75))
    if min(failed) > upper:
        end = f"above {upper:.3g}, where a quarter of the complete ones"
    elif max(failed) < lower:
        end = f"below {lower:.3g}, where a quarter of the complete ones"
    else:
        return ""
    return (
        f"all {len(failed)} failed trials have {name} {end} lie: their median is {statistics.median(failed):.3g}, "
        f"complete ones range from {min(complete):.3g} to {max(complete):.3g}"
    )


@dataclass(frozen=True)
class Cost:
    """What some trials took. A sum of costs is a cost."""

    trials: int = 0
    epochs: float = 0
    """All trainings of a trial together. Whole, but where it is estimated."""

    cpu_s: float = 0.0
    gpu_s: float = 0.0
    other_s: float = 0.0
    """Seconds of training by the kind of device; `other_s` where none was recorded."""

    @property
    def seconds(self) -> float:
        """On whatever device."""
        return self.cpu_s + self.gpu_s + self.other_s

    def __add__(self, more: Cost) -> Cost:
        return Cost(**{field.name: getattr(self, field.name) + getattr(more, field.name) for field in fields(Cost)})


@dataclass(frozen=True)
class Ledger:
    """Where a study's epochs and seconds went."""

    by_state: Mapping[str, Cost]
    """For `complete`, `pruned`, `failed` and `running` trials."""

    saved: Cost
    """What pruning has saved at most; its trials are those that were pruned."""

    deaths: int
    """How often a worker died."""

    struck: int
    """Trials whose worker died, once or more."""

    @property
    def total(self) -> Cost:
        """Everything that was spent."""
        return sum(self.by_state.values(), Cost())

    @property
    def lost(self) -> Cost:
        """What went into trials that failed."""
        return self.by_state["failed"]


def ledger(trials: Sequence[FrozenTrial], max_epochs: int) -> Ledger:
    """What trials cost by state and device, what pruning saved and what failures lost.

    Saved is what a pruned trial would have trained on, at its own seconds an epoch. That is an upper bound: trainings may end
    early by patience, and a pruned trial is not one of the good ones, which train longest. So each training is taken to have
    had the mean epochs of the complete trials' trainings, where that is less than it may have. With a pruner that looks at one
    training after another, those that a pruned trial never began count too: as many as the study's other trials have.

    What a trial costs is recorded when it ends: one that is running counts as a trial, with no epochs.

    Args:
        most_epochs: the most epochs of one training, see `StudyDefinition.most_epochs`; a trial's own setting may be lower.
    """
    states = {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING}
    costs = {
        STATE_NAMES[state]: _sum([_cost(t) for t in trials if t.state == state]) for state in STATE_NAMES if state in states
    }
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and _number(trial, "epochs") > 0]
    likely = float(max_epochs)
    if complete:
        likely = min(likely, sum(_number(t, "epochs") for t in complete) / sum(_num_trainings(t) for t in complete))
    trainings = max(map(_num_trainings, trials), default=1)
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    deaths = [len(trial.user_attrs.get("deaths", [])) for trial in trials]
    return Ledger(
        by_state=costs,
        saved=_sum([_saved(trial, trainings, likely) for trial in pruned]),
        deaths=sum(deaths),
        struck=sum(count > 0 for count in deaths),
    )


def _sum(costs: Sequence[Cost]) -> Cost:
    return sum(costs, Cost())


def _cost(trial: FrozenTrial) -> Cost:
    return _on_device(trial, _number(trial, "epochs"), _number(trial, "seconds"))


def _saved(trial: FrozenTrial, trainings: int, likely: float) -> Cost:
    trained = _number(trial, "epochs")
    may_have = trial_settings(trial).get("train", {}).get("epochs", likely)
    left = max(trainings * min(likely, may_have) - trained, 0)
    return _on_device(trial, left, left * _number(trial, "seconds") / trained if trained else 0.0)


def _on_device(trial: FrozenTrial, epochs: float, seconds: float) -> Cost:
    device = str(json.loads(trial.user_attrs.get("made_with", "{}")).get("device", ""))
    kind = {"cpu": "cpu_s", "cuda": "gpu_s"}.get(device.partition(":")[0], "other_s")
    running: dict[str, Any] = {kind: seconds}
    return Cost(trials=1, epochs=epochs, **running)


def _number(trial: FrozenTrial, name: str) -> float:
    """A number of a trial's result; 0 for a trial without, or one that is not finite."""
    value: int | float = trial_result(trial).get(name) or 0
    return value if math.isfinite(value) else 0


def _num_trainings(trial: FrozenTrial) -> int:
    """A trial of one training has no list of them."""
    return len(trial_result(trial).get("trainings", [])) or 1
