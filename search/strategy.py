"""Samplers and pruners by name, with the options that each knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from data_utils.hdf5 import suggest
from search.errors import DefinitionError
from search.settings import build, require_mapping

if TYPE_CHECKING:
    import optuna

Count = Annotated[int, Ge(0)]


@dataclass(frozen=True, kw_only=True)
class Tpe:
    """Tree-structured Parzen estimator: models good and other points and asks where good ones are denser."""

    startup: Count = 10
    """Trials drawn at random before the model is used."""

    def make(self, seed: int) -> optuna.samplers.BaseSampler:
        """The Optuna sampler."""
        import optuna

        return optuna.samplers.TPESampler(n_startup_trials=self.startup, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Random:
    """Independent random points."""

    def make(self, seed: int) -> optuna.samplers.BaseSampler:
        """The Optuna sampler."""
        import optuna

        return optuna.samplers.RandomSampler(seed=seed)


@dataclass(frozen=True, kw_only=True)
class Median:
    """Stops a trial whose best value so far is worse than the median of the others at the same epoch."""

    startup: Count = 5
    """Trials that must have finished before any is stopped."""

    warmup_epochs: Count = 10
    """Epochs that every trial may train."""

    def make(self) -> optuna.pruners.BasePruner:
        """The Optuna pruner."""
        import optuna

        return optuna.pruners.MedianPruner(self.startup, self.warmup_epochs)


@dataclass(frozen=True, kw_only=True)
class NoPruning:
    """Every trial trains to its end."""

    def make(self) -> optuna.pruners.BasePruner:
        """The Optuna pruner."""
        import optuna

        return optuna.pruners.NopPruner()


SAMPLERS: dict[str, type[Tpe | Random]] = {"tpe": Tpe, "random": Random}
PRUNERS: dict[str, type[Median | NoPruning]] = {"median": Median, "none": NoPruning}


def sampler(given: Any, where: str) -> Tpe | Random:
    """A checked sampler from `{name: tpe, ...}`.

    Raises:
        DefinitionError: an unknown name or option.
    """
    return _by_name(SAMPLERS, given, "sampler", where)


def pruner(given: Any, where: str) -> Median | NoPruning:
    """A checked pruner from `{name: median, ...}`.

    Raises:
        DefinitionError: an unknown name or option.
    """
    return _by_name(PRUNERS, given, "pruner", where)


def _by_name(kinds: dict[str, Any], given: Any, key: str, where: str) -> Any:
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
