"""Pruners, which stop unpromising trials early, and their options."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Lt, Unit

from search.definition.samplers import Trials, ignore_experimental

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


Epochs = Annotated[int, Ge(0), Unit("epochs")]


@dataclass(frozen=True, kw_only=True)
class Pruner(abc.ABC):
    """Stops unpromising trials early."""

    by_training: ClassVar[bool] = False
    """Whether it judges a trial after each of its trainings (folds, repeats), which then run one after another. Otherwise it
    judges after each epoch, by the mean curve of all trainings, which run side by side."""

    @abc.abstractmethod
    def make(self, epochs: int) -> BasePruner:
        """The Optuna pruner for trials of up to `epochs` epochs."""


@dataclass(frozen=True, kw_only=True)
class NoPruning(Pruner):
    """Every trial trains to its end."""

    def make(self, epochs: int) -> BasePruner:
        import optuna

        return optuna.pruners.NopPruner()


@dataclass(frozen=True, kw_only=True)
class Median(Pruner):
    """Stops a trial whose best value so far is worse than the median of the other trials at the same epoch."""

    startup: Trials = 5
    """Trials that finish before any is stopped."""

    warmup_epochs: Epochs = 10
    """Epochs before a trial can be stopped."""

    def make(self, epochs: int) -> BasePruner:
        from search.definition.percentile import RememberingPercentile

        return RememberingPercentile(50.0, self.startup, self.warmup_epochs)


@dataclass(frozen=True, kw_only=True)
class Percentile(Pruner):
    """Stops a trial that is not among the best `keep` percent at the same epoch."""

    keep: Annotated[float, Gt(0), Lt(100), Unit("%")] = 25.0
    """Share of trials that continue. 50 is the same as `median`."""

    startup: Trials = 5
    """Trials that finish before any is stopped."""

    warmup_epochs: Epochs = 10
    """Epochs before a trial can be stopped."""

    def make(self, epochs: int) -> BasePruner:
        from search.definition.percentile import RememberingPercentile

        return RememberingPercentile(self.keep, self.startup, self.warmup_epochs)


@dataclass(frozen=True, kw_only=True)
class Hyperband(Pruner):
    """Several brackets of successive halving (`asha`), from strict to patient, with the trials distributed among them. Needs
    many trials: 50 are spread over four brackets. A trial's bracket also depends on the study's name."""

    min_epochs: Annotated[int, Gt(0), Unit("epochs")] = 5
    """Epochs that the strictest bracket gives every trial."""

    reduction: Annotated[int, Ge(2)] = 3
    """One in this many trials continues at each decision."""

    def make(self, epochs: int) -> BasePruner:
        import optuna

        return optuna.pruners.HyperbandPruner(min(self.min_epochs, epochs), epochs, self.reduction)


@dataclass(frozen=True, kw_only=True)
class Asha(Pruner):
    """Asynchronous successive halving: at growing numbers of epochs only the best share continues. Source: Li et al. 2020."""

    min_epochs: Annotated[int, Gt(0), Unit("epochs")] = 5
    """Epochs that every trial gets."""

    reduction: Annotated[int, Ge(2)] = 3
    """One in this many trials continues at each decision."""

    def make(self, epochs: int) -> BasePruner:
        import optuna

        return optuna.pruners.SuccessiveHalvingPruner(self.min_epochs, self.reduction)


@dataclass(frozen=True, kw_only=True)
class Patient(Pruner):
    """Stops a trial that is worse than the median and has not improved for `patience` epochs; tolerates slow starts."""

    patience: Annotated[int, Gt(0), Unit("epochs")] = 10
    """Epochs without improvement that a trial may have."""

    min_gain: Annotated[float, Ge(0)] = 0.0
    """Smallest change that counts as an improvement, in the objective's unit."""

    wraps: Literal["median", "none"] = "median"
    """`none`: a trial without improvement is stopped however good it is."""

    startup: Trials = 5
    """Trials that finish before the median counts."""

    def make(self, epochs: int) -> BasePruner:
        import optuna

        from search.definition.percentile import RememberingPercentile

        inner = RememberingPercentile(50.0, self.startup) if self.wraps == "median" else None
        with ignore_experimental():
            return optuna.pruners.PatientPruner(inner, self.patience, self.min_gain)


@dataclass(frozen=True, kw_only=True)
class Wilcoxon(Pruner):
    """Stops a trial whose folds (or repeats) so far are worse than those of the best trial, by a Wilcoxon signed-rank test.

    A trial that it stops is pruned and never counts as the best, since its first folds may be easier than all of them.
    """

    by_training: ClassVar[bool] = True

    p: Annotated[float, Gt(0), Lt(1)] = 0.1
    """Largest p-value that stops a trial."""

    startup: Annotated[int, Ge(2), Unit("trainings")] = 2
    """Folds or repeats before a trial can be stopped."""

    def make(self, epochs: int) -> BasePruner:
        import optuna

        with ignore_experimental():
            return optuna.pruners.WilcoxonPruner(p_threshold=self.p, n_startup_steps=self.startup)

    def min_trainings(self) -> int:
        """Fewest folds or repeats with which it can stop a trial before its last: n equal signs have a p-value of 2^-n."""
        least = self.startup
        while 0.5**least >= self.p:
            least += 1
        return least + 1


@dataclass(frozen=True, kw_only=True)
class Threshold(Pruner):
    """Stops a trial whose value is above a bound."""

    upper: float
    """The bound, in the objective's unit. For val_loss, ln(words) corresponds to guessing."""

    warmup_epochs: Epochs = 10
    """Epochs before a trial can be stopped."""

    def make(self, epochs: int) -> BasePruner:
        import optuna

        return optuna.pruners.ThresholdPruner(upper=self.upper, n_warmup_steps=self.warmup_epochs)


PRUNERS: dict[str, type[Pruner]] = {
    "none": NoPruning,
    "median": Median,
    "percentile": Percentile,
    "hyperband": Hyperband,
    "asha": Asha,
    "patient": Patient,
    "wilcoxon": Wilcoxon,
    "threshold": Threshold,
}
