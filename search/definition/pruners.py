"""What decides which trials are not worth going on with: pruners and the options that each knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from annotated_types import Ge, Gt, Lt, Unit

from search.definition.samplers import experimental

if TYPE_CHECKING:
    import optuna


Trials = Annotated[int, Ge(0), Unit("trials")]
Epochs = Annotated[int, Ge(0), Unit("epochs")]


class Pruner(Protocol):
    """What decides which trials are not worth going on with."""

    by_training: ClassVar[bool]
    """Whether it judges a trial after each of its trainings (folds, repeats), which then run one by one; else after each epoch,
    by the mean curve of all trainings, which run side by side."""

    def make(self, epochs: int) -> optuna.pruners.BasePruner:
        """The Optuna pruner for trials of up to that many epochs."""
        ...


@dataclass(frozen=True, kw_only=True)
class NoPruning:
    """Every trial trains to its end."""

    by_training: ClassVar[bool] = False

    def make(self, epochs: int) -> optuna.pruners.BasePruner:
        """The Optuna pruner."""
        import optuna

        return optuna.pruners.NopPruner()


@dataclass(frozen=True, kw_only=True)
class Median:
    """Stops a trial whose best value so far is worse than the median of the others at the same epoch."""

    by_training: ClassVar[bool] = False

    startup: Trials = 5
    """Trials that must have finished before any is stopped."""

    warmup_epochs: Epochs = 10
    """Epochs that every trial may train."""

    def make(self, epochs: int) -> optuna.pruners.BasePruner:
        """The Optuna pruner."""
        import optuna

        return optuna.pruners.MedianPruner(self.startup, self.warmup_epochs)


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """Stops a trial that is not among the best so many per cent at the same epoch."""

    by_training: ClassVar[bool] = False

    keep: Annotated[float, Gt(0), Lt(100), Unit("per cent")] = 25.0
    """How many of the trials may go on. 50 is the pruner `median`."""

    startup: Trials = 5
    """Trials that must have finished before any is stopped."""

    warmup_epochs: Epochs = 10
    """Epochs that every trial may train."""

    def make(self, epochs: int) -> optuna.pruners.BasePruner:
        """The Optuna pruner."""
        import optuna

        return optuna.pruners.PercentilePruner(self.keep, self.startup, self.warmup_epochs)


@dataclass(frozen=True, kw_only=True)
class Hyperband:
    """Several races (`asha`) from a strict to a patient one, trials dealt out among them. Needs many trials: fifty spread over
    four races. Which race a trial runs in hangs on the study's name too."""

    by_training: ClassVar[bool] = False

    min_epochs: Annotated[int, Gt(0), Unit("epochs")] = 5
    """What the strictest race grants every trial."""

    reduction: Annotated[int, Ge(2)] = 3
    """One of so many goes on at each decision."""

    def make(self, epochs: int) -> optuna.pruners.BasePruner:
        """The Optuna pruner."""
        import optuna

        return optuna.pruners.HyperbandPruner(min(self.min_epochs, epochs), epochs, self.reduction)


@dataclass(frozen=True, kw_only=True)
class Asha:
    """Successive halving without waiting: at growing numbers of epochs only the best share goes on. Source: Li et al. 2020."""

    by_training: ClassVar[bool] = False

    min_epochs: Annotated[int, Gt(0), Unit("epochs")] = 5
    """What every trial is granted."""

    reduction: Annotated[int, Ge(2)] = 3
    """One of so many goes on at each decision."""

    def make(self, epochs: int) -> optuna.pruners.BasePruner:
        """The Optuna pruner."""
        import optuna

        return optuna.pruners.SuccessiveHalvingPruner(self.min_epochs, self.reduction)


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Stops a trial that is worse than the median and has not gained for some epochs: a slow start is forgiven."""

    by_training: ClassVar[bool] = False

    patience: Annotated[int, Gt(0), Unit("epochs")] = 10
    """Epochs without a gain that a trial may have."""

    min_gain: Annotated[float, Ge(0)] = 0.0
    """What counts as a gain, in the objective's unit."""

    wraps: Literal["median", "none"] = "median"
    """`none` stops it for the missing gain alone, however good it is."""

    startup: Trials = 5
    """Trials that must have finished before the median counts."""

    def make(self, epochs: int) -> optuna.pruners.BasePruner:
        """The Optuna pruner."""
        import optuna

        inner = optuna.pruners.MedianPruner(self.startup) if self.wraps == "median" else None
        with experimental():
            return optuna.pruners.PatientPruner(inner, self.patience, self.min_gain)


@dataclass(frozen=True, kw_only=True)
class Wilcoxon:
    """Stops a trial whose folds (or repeats) so far are worse than the same ones of the best trial, by a signed-rank test.

    A trial that it stops is pruned, and never the best: the mean of the folds that it saw may be easier than the mean of all.
    """

    by_training: ClassVar[bool] = True

    p: Annotated[float, Gt(0), Lt(1)] = 0.1
    """How sure it must be: the largest p-value that stops a trial."""

    startup: Annotated[int, Ge(2), Unit("trainings")] = 2
    """Folds or repeats that every trial may train."""

    def make(self, epochs: int) -> optuna.pruners.BasePruner:
        """The Optuna pruner."""
        import optuna

        with experimental():
            return optuna.pruners.WilcoxonPruner(p_threshold=self.p, n_startup_steps=self.startup)

    def least_trainings(self) -> int:
        """From how many folds or repeats on it can stop a trial before its last: n equal signs have a p-value of 2^-n."""
        least = self.startup
        while 0.5**least >= self.p:
            least += 1
        return least + 1


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """Stops a trial whose value is above a bound."""

    by_training: ClassVar[bool] = False

    upper: float
    """The bound, in the objective's unit. For val_loss ln(words) is guessing."""

    warmup_epochs: Epochs = 10
    """Epochs that every trial may train."""

    def make(self, epochs: int) -> optuna.pruners.BasePruner:
        """The Optuna pruner."""
        import optuna

        return optuna.pruners.ThresholdPruner(upper=self.upper, n_warmup_steps=self.warmup_epochs)


PRUNERS: dict[str, type[Pruner]] = {
    "median": Median,
    "none": NoPruning,
    "percentile": Percentile,
    "hyperband": Hyperband,
    "asha": Asha,
    "patient": Patient,
    "wilcoxon": Wilcoxon,
    "threshold": Threshold,
}
