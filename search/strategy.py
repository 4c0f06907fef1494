"""Samplers and pruners by name, with the options that each knows."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from annotated_types import Ge, Gt, Lt, Unit

from data_utils.hdf5 import suggest
from search.errors import DefinitionError
from search.settings import build, require_mapping

if TYPE_CHECKING:
    import optuna

Trials = Annotated[int, Ge(0), Unit("trials")]
Epochs = Annotated[int, Ge(0), Unit("epochs")]


class Sampler(Protocol):
    """What decides which parameters are tried."""

    many_objectives: ClassVar[bool]
    """Whether it can search for several objectives at once."""

    def make(self, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
        """The Optuna sampler for one trial, whose own seed is `seed`."""
        ...


class Pruner(Protocol):
    """What decides which trials are not worth going on with."""

    by_training: ClassVar[bool]
    """Whether it judges a trial after each of its trainings (folds, repeats), which then run one by one; else after each epoch,
    by the mean curve of all trainings, which run side by side."""

    def make(self, epochs: int) -> optuna.pruners.BasePruner:
        """The Optuna pruner for trials of up to that many epochs."""
        ...


@dataclass(frozen=True, kw_only=True)
class Tpe:
    """Tree-structured Parzen estimator: models good and other points and asks where good ones are denser."""

    many_objectives: ClassVar[bool] = True

    startup: Trials = 10
    """Trials drawn at random before the model is used."""

    def make(self, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
        """The Optuna sampler."""
        import optuna

        return optuna.samplers.TPESampler(n_startup_trials=self.startup, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Gp:
    """Gaussian process: the best model for few trials of few, mostly continuous dimensions; slower to ask than the others."""

    many_objectives: ClassVar[bool] = True

    startup: Trials = 10
    """Trials drawn at random before the model is used."""

    def make(self, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
        """The Optuna sampler."""
        import optuna

        with _experimental():
            return optuna.samplers.GPSampler(n_startup_trials=self.startup, seed=seed, warn_independent_sampling=False)


@dataclass(frozen=True, kw_only=True)
class CmaEs:
    """Evolves a normal distribution over the numeric dimensions; choices and conditional dimensions are drawn at random."""

    many_objectives: ClassVar[bool] = False

    startup: Trials = 1
    """Trials drawn at random before the distribution is used."""

    population: Annotated[int, Ge(4), Unit("trials")] | None = None
    """Trials a generation; empty: 4 + 3 ln(dimensions), as the method's author advises (Hansen 2016)."""

    def make(self, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
        """The Optuna sampler."""
        import optuna

        with _experimental():
            return optuna.samplers.CmaEsSampler(
                n_startup_trials=self.startup, popsize=self.population, seed=seed, warn_independent_sampling=False
            )


@dataclass(frozen=True, kw_only=True)
class Random:
    """Independent random points."""

    many_objectives: ClassVar[bool] = True

    def make(self, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
        """The Optuna sampler."""
        import optuna

        return optuna.samplers.RandomSampler(seed=seed)


@dataclass(frozen=True, kw_only=True)
class Qmc:
    """Points spread more evenly than at random (a quasi-Monte Carlo sequence): for looking at a whole space. Conditional
    dimensions are drawn at random."""

    many_objectives: ClassVar[bool] = True

    sequence: Literal["sobol", "halton"] = "sobol"
    """Which sequence."""

    scramble: bool = True
    """Another sequence for every seed of the study."""

    def make(self, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
        """The Optuna sampler."""
        from search.sequence import SequenceSampler

        with _experimental():
            return SequenceSampler(self.sequence, scramble=self.scramble, study_seed=study_seed, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every setting of a space of choices, whole numbers and steps, in order; then the study ends."""

    many_objectives: ClassVar[bool] = True

    def make(self, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
        """An Optuna sampler for what is not asked: `search.proposal` walks through the grid."""
        import optuna

        return optuna.samplers.RandomSampler(seed=seed)


@dataclass(frozen=True, kw_only=True)
class Nsga2:
    """Genetic algorithm for several objectives: crosses and mutates the trials that no other trial beats in everything."""

    many_objectives: ClassVar[bool] = True

    population: Annotated[int, Ge(2), Unit("trials")] = 20
    """Trials a generation. The first is drawn at random."""

    def make(self, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
        """The Optuna sampler."""
        import optuna

        return optuna.samplers.NSGAIISampler(population_size=self.population, seed=seed)


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
        with _experimental():
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

        with _experimental():
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


SAMPLERS: dict[str, type[Sampler]] = {
    "tpe": Tpe,
    "gp": Gp,
    "cmaes": CmaEs,
    "random": Random,
    "qmc": Qmc,
    "grid": Grid,
    "nsga2": Nsga2,
}
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


@contextlib.contextmanager
def _experimental() -> Iterator[None]:
    """Optuna warns of what it may still change; its version is pinned, and a test runs each of them."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def name_of(chosen: Sampler | Pruner) -> str:
    """The name that a study file calls it by."""
    return next(name for name, kind in {**SAMPLERS, **PRUNERS}.items() if type(chosen) is kind)


def sampler(given: Any, where: str) -> Sampler:
    """A checked sampler from `{name: tpe, ...}`.

    Raises:
        DefinitionError: an unknown name or option.
    """
    made: Sampler = _by_name(SAMPLERS, given, "sampler", where)
    return made


def pruner(given: Any, where: str) -> Pruner:
    """A checked pruner from `{name: median, ...}`.

    Raises:
        DefinitionError: an unknown name or option.
    """
    made: Pruner = _by_name(PRUNERS, given, "pruner", where)
    return made


def _by_name(kinds: Mapping[str, type], given: Any, key: str, where: str) -> Any:
    require_mapping(given, key, where)
    name = given.get("name")
    if not isinstance(name, str) or name not in kinds:
        raise DefinitionError(
            f"unknown {key}",
            where=where,
            got=str(name),
            expected=", ".join(kinds),
            hint=suggest(str(name), kinds) or f"write `{key}: {{name: {next(iter(kinds))}}}`",
        )
    return build(kinds[name], {option: value for option, value in given.items() if option != "name"}, key, where)
