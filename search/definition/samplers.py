"""What decides which parameters are tried: samplers and the options that each knows."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from annotated_types import Ge, Unit

if TYPE_CHECKING:
    import optuna


@contextlib.contextmanager
def experimental() -> Iterator[None]:
    """Optuna warns of what it may still change; its version is pinned, and a test runs each of them."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


Trials = Annotated[int, Ge(0), Unit("trials")]


class Sampler(Protocol):
    """What decides which parameters are tried."""

    supports_many_objectives: ClassVar[bool]
    """Whether it can search for several objectives at once."""

    supports_wider_ranges: ClassVar[bool]
    """Whether it goes on well when a range becomes wider. Others look only at trials of one and the same range."""

    def make(self, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
        """The Optuna sampler for one trial, whose own seed is `seed`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Tpe:
    """Tree-structured Parzen estimator: models good and other points and asks where good ones are denser."""

    supports_many_objectives: ClassVar[bool] = True
    supports_wider_ranges: ClassVar[bool] = True

    startup: Trials = 10
    """Trials drawn at random before the model is used."""

    def make(self, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
        """The Optuna sampler."""
        import optuna

        return optuna.samplers.TPESampler(n_startup_trials=self.startup, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Gp:
    """Gaussian process: the best model for few trials of few, mostly continuous dimensions; slower to ask than the others.
    Conditional dimensions are drawn at random."""

    supports_many_objectives: ClassVar[bool] = True
    supports_wider_ranges: ClassVar[bool] = False

    startup: Trials = 10
    """Trials drawn at random before the model is used."""

    def make(self, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
        """The Optuna sampler."""
        import optuna

        with experimental():
            return optuna.samplers.GPSampler(n_startup_trials=self.startup, seed=seed, warn_independent_sampling=False)


@dataclass(frozen=True, kw_only=True)
class CmaEs:
    """Evolves a normal distribution over the numeric dimensions; choices and conditional dimensions are drawn at random."""

    supports_many_objectives: ClassVar[bool] = False
    supports_wider_ranges: ClassVar[bool] = False

    startup: Trials = 1
    """Trials drawn at random before the distribution is used."""

    population: Annotated[int, Ge(4), Unit("trials")] | None = None
    """Trials a generation; empty: 4 + 3 ln(dimensions), as the method's author advises (Hansen 2016)."""

    def make(self, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
        """The Optuna sampler."""
        import optuna

        with experimental():
            return optuna.samplers.CmaEsSampler(
                n_startup_trials=self.startup, popsize=self.population, seed=seed, warn_independent_sampling=False
            )


@dataclass(frozen=True, kw_only=True)
class Random:
    """Independent random points."""

    supports_many_objectives: ClassVar[bool] = True
    supports_wider_ranges: ClassVar[bool] = True

    def make(self, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
        """The Optuna sampler."""
        import optuna

        return optuna.samplers.RandomSampler(seed=seed)


@dataclass(frozen=True, kw_only=True)
class Qmc:
    """Points spread more evenly than at random (a quasi-Monte Carlo sequence): for looking at a whole space. Dimensions that
    do not apply to the baseline are drawn at random."""

    supports_many_objectives: ClassVar[bool] = True
    supports_wider_ranges: ClassVar[bool] = False

    sequence: Literal["sobol", "halton"] = "sobol"
    """Which sequence."""

    scramble: bool = True
    """Another sequence for every seed of the study."""

    def make(self, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
        """The Optuna sampler."""
        from search.definition.qmc import SequenceSampler

        with experimental():
            return SequenceSampler(self.sequence, scramble=self.scramble, study_seed=study_seed, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every setting of a space of choices, whole numbers and steps, in order; then the study ends."""

    supports_many_objectives: ClassVar[bool] = True
    supports_wider_ranges: ClassVar[bool] = True

    def make(self, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
        """An Optuna sampler for what is not asked: `search.proposal` walks through the grid."""
        import optuna

        return optuna.samplers.RandomSampler(seed=seed)


@dataclass(frozen=True, kw_only=True)
class Nsga2:
    """Genetic algorithm for several objectives: crosses and mutates the trials that no other trial beats in everything.
    Conditional dimensions are drawn at random."""

    supports_many_objectives: ClassVar[bool] = True
    supports_wider_ranges: ClassVar[bool] = False

    population: Annotated[int, Ge(2), Unit("trials")] = 20
    """Trials a generation. The first is drawn at random."""

    def make(self, seed: int, study_seed: int) -> optuna.samplers.BaseSampler:
        """The Optuna sampler."""
        import optuna

        return optuna.samplers.NSGAIISampler(population_size=self.population, seed=seed)


SAMPLERS: dict[str, type[Sampler]] = {
    "tpe": Tpe,
    "gp": Gp,
    "cmaes": CmaEs,
    "random": Random,
    "qmc": Qmc,
    "grid": Grid,
    "nsga2": Nsga2,
}
