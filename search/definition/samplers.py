"""Samplers, which choose the parameters of the next trial, and their options."""

from __future__ import annotations

import abc
import contextlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.samplers import BaseSampler

    from search.definition.space import Dimension


def ignore_experimental() -> contextlib.AbstractContextManager[Any]:
    """Silences Optuna's ExperimentalWarning. Optuna's major version is pinned, and tests run each experimental class."""
    import optuna

    return warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning)


Trials = Annotated[int, Ge(0), Unit("trials")]


@dataclass(frozen=True, kw_only=True)
class Sampler(abc.ABC):
    """Chooses the parameters of the next trial."""

    supports_many_objectives: ClassVar[bool] = True
    supports_wider_ranges: ClassVar[bool] = False
    """Whether it can use earlier trials after a range became wider. Others use only trials with identical ranges."""

    @abc.abstractmethod
    def make(self, seed: int, study_seed: int, space: Sequence[Dimension]) -> BaseSampler:
        """The Optuna sampler for one trial of a search through `space`; `seed` is the trial's, `study_seed` the study's."""

    def make_next(self, before: BaseSampler, seed: int, study_seed: int, space: Sequence[Dimension]) -> BaseSampler:
        """The same as `make` makes, perhaps faster: it may use what `before`, the sampler of an earlier trial, has read."""
        return self.make(seed, study_seed, space)


@dataclass(frozen=True, kw_only=True)
class Gp(Sampler):
    """Gaussian process: learns how far nearby settings predict a value and how much of it is noise, and proposes where the
    largest improvement over the lowest mean is expected. Starts with points that are spread evenly. With several objectives it
    is Optuna's, which starts at random, and samples conditional dimensions at random."""

    supports_wider_ranges: ClassVar[bool] = True

    startup: Trials = 8
    """Trials before the model is used, the baseline among them."""

    def make(self, seed: int, study_seed: int, space: Sequence[Dimension]) -> BaseSampler:
        from search.definition.gp import GaussianProcessSampler

        with ignore_experimental():
            return GaussianProcessSampler(space, startup=self.startup, seed=seed, study_seed=study_seed)


@dataclass(frozen=True, kw_only=True)
class Tpe(Sampler):
    """Tree-structured Parzen estimator: models the densities of good and of other points and proposes where their ratio is
    highest."""

    supports_wider_ranges: ClassVar[bool] = True

    startup: Trials = 10
    """Random trials before the model is used."""

    def make(self, seed: int, study_seed: int, space: Sequence[Dimension]) -> BaseSampler:
        from search.definition.tpe import RememberingTpe

        return RememberingTpe(self.startup, seed)

    def make_next(self, before: BaseSampler, seed: int, study_seed: int, space: Sequence[Dimension]) -> BaseSampler:
        from search.definition.tpe import RememberingTpe

        return RememberingTpe(self.startup, seed, before)


@dataclass(frozen=True, kw_only=True)
class CmaEs(Sampler):
    """Evolves a normal distribution over the numeric dimensions; choices and conditional dimensions are sampled at random."""

    supports_many_objectives: ClassVar[bool] = False

    startup: Trials = 1
    """Random trials before the distribution is used."""

    population: Annotated[int, Ge(4), Unit("trials")] | None = None
    """Trials per generation. Empty: 4 + 3 ln(dimensions), as recommended by the method's author (Hansen 2016)."""

    def make(self, seed: int, study_seed: int, space: Sequence[Dimension]) -> BaseSampler:
        import optuna

        with ignore_experimental():
            return optuna.samplers.CmaEsSampler(
                n_startup_trials=self.startup, popsize=self.population, seed=seed, warn_independent_sampling=False
            )


@dataclass(frozen=True, kw_only=True)
class Random(Sampler):
    """Independent random points."""

    supports_wider_ranges: ClassVar[bool] = True

    def make(self, seed: int, study_seed: int, space: Sequence[Dimension]) -> BaseSampler:
        import optuna

        return optuna.samplers.RandomSampler(seed=seed)


@dataclass(frozen=True, kw_only=True)
class Qmc(Sampler):
    """Quasi-Monte Carlo sequence: points spread more evenly than at random, to explore a whole space. Dimensions that are not
    active in the baseline are sampled at random."""

    sequence: Literal["sobol", "halton"] = "sobol"
    """Which sequence."""

    scramble: bool = True
    """Randomize the sequence by the study's seed."""

    def make(self, seed: int, study_seed: int, space: Sequence[Dimension]) -> BaseSampler:
        from search.definition.qmc import SequenceSampler

        with ignore_experimental():
            return SequenceSampler(self.sequence, scramble=self.scramble, study_seed=study_seed, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Grid(Sampler):
    """Every combination of a space of choices, whole numbers and steps, in order; then the study ends. With `repeats`, all
    train with the same seeds, so that settings are compared seed by seed."""

    supports_wider_ranges: ClassVar[bool] = True

    def make(self, seed: int, study_seed: int, space: Sequence[Dimension]) -> BaseSampler:
        import optuna

        return optuna.samplers.RandomSampler(seed=seed)  # not used: `search.running.proposal` enumerates the grid


@dataclass(frozen=True, kw_only=True)
class Nsga2(Sampler):
    """Genetic algorithm for several objectives: crosses and mutates trials that no other trial dominates. Conditional
    dimensions are sampled at random."""

    population: Annotated[int, Ge(2), Unit("trials")] = 20
    """Trials per generation. The first generation is random."""

    def make(self, seed: int, study_seed: int, space: Sequence[Dimension]) -> BaseSampler:
        import optuna

        return optuna.samplers.NSGAIISampler(population_size=self.population, seed=seed)


SAMPLERS: dict[str, type[Sampler]] = {
    "gp": Gp,
    "tpe": Tpe,
    "cmaes": CmaEs,
    "random": Random,
    "qmc": Qmc,
    "grid": Grid,
    "nsga2": Nsga2,
}
