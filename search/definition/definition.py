"""`StudyDefinition`, the checked form of a study file, and its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Unit

from data_utils.splits import Folds, SignerSelection
from model.objective import Objective
from search.definition.objectives import StudyObjective, primary_objective
from search.definition.pruners import NoPruning, Pruner
from search.definition.ranges import Choices
from search.definition.samplers import Grid, Sampler
from search.definition.settings import Configs, build_configs, settings
from search.definition.space import Dimension, active_dimensions, rounded_params


@dataclass(frozen=True, kw_only=True)
class Stagnation:
    """When a search that no longer improves ends."""

    trials: Annotated[int, Gt(0), Unit("trials")]
    """Finished trials without improvement."""

    noise: Annotated[float, Ge(0)] | None = None
    """Changes up to this size do not count as an improvement; in the objective's unit. Empty: estimated from the best trial, by
    the spread of its repeats; without repeats, by its folds' differences from the second best trial; without folds, by the
    fluctuations of its curve."""


@dataclass(frozen=True)
class Plan:
    """How every trial of a study trains its models."""

    objective: Objective = Objective()  # noqa: RUF009 (frozen)
    """Decides which epoch of a curve counts."""

    repeats: int = 1
    """Trainings of each fold, with different seeds."""

    one_by_one: bool = False
    """Trainings run one after another; otherwise side by side, one epoch of each in turn."""

    unit: int = 1
    """If one by one: trainings between two decisions of the pruner. All repeats of a fold, or 1 without folds."""

    wants_latency: bool = False


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How the study file divides the signers, or with `split: clips` their clips, into parts or folds."""

    split: Literal["signers", "clips"] = "signers"
    train: SignerSelection = "rest"
    validation: SignerSelection = "auto"
    test: SignerSelection = "auto"
    folds: Folds = None
    """Instead of a validation part: number of groups of signers, each of which validates once; `each`: one group per signer."""


@dataclass(frozen=True, kw_only=True)
class StudyDefinition:
    """A checked study."""

    name: str
    source: str
    """The file it was read from, for messages."""

    about: str
    objectives: tuple[StudyObjective, ...]
    """What is minimized. With several, a study has a front of best trials instead of a single best."""

    trials: int
    """Target number of finished trials."""

    time_s: float | None
    """Limit on the training time of all trials together; None for no limit."""

    stagnation: Stagnation | None
    repeats: int
    """Trainings per trial with the same parameters and different seeds."""

    sampler: Sampler
    pruner: Pruner
    """As written; `prunes` says whether it is used."""

    resources: Resources
    """What each worker reserves on a cluster. Not part of the study's identity."""

    signers: SplitOptions
    fixed: Mapping[str, Any]
    """Values by full key."""

    space: tuple[Dimension, ...]
    """Each dimension follows the dimensions of its conditions."""

    baseline: Mapping[str, Any]
    """A value for each active dimension, by the dimension's name. Always trial 0."""

    seed: int
    origins: Mapping[str, str]
    """Where each key's value came from: the file, or `--set`. Keys that are missing here have their default."""

    @property
    def prunes(self) -> bool:
        """Whether the pruner is used. With several objectives it is not: partly trained trials have no order."""
        return len(self.objectives) == 1 and not isinstance(self.pruner, NoPruning)

    @property
    def shares_seeds(self) -> bool:
        """Whether all trials of a new study train with the same seeds, so that settings are compared seed by seed: a grid with
        repeats. An existing study goes on as it began."""
        return isinstance(self.sampler, Grid) and self.repeats > 1

    @property
    def plan(self) -> Plan:
        """How its trials train."""
        return Plan(
            objective=primary_objective(self.objectives),
            repeats=self.repeats,
            one_by_one=self.prunes and self.pruner.by_training,
            unit=self.repeats if self.signers.folds else 1,
            wants_latency=any(objective.metric == "latency_ms" for objective in self.objectives),
        )

    @property
    def max_epochs(self) -> int:
        """The most epochs that a training can have."""
        return int(self.highest("train.epochs"))

    def highest(self, key: str) -> float:
        """The highest value that a setting of numbers may have in this study."""
        setting = settings()[key]
        for dim in self.space:
            if dim.setting.key == key:
                return max(dim.highest, setting.default) if dim.when else dim.highest
        return float(self.fixed.get(key, setting.default))

    def texts_of(self, key: str) -> tuple[str, ...]:
        """Every value that a text setting may have in this study."""
        setting = settings()[key]
        usual = str(self.fixed.get(key, setting.default))
        for dim in self.space:
            if dim.setting.key == key and isinstance(dim.domain, Choices):
                return (*map(str, dim.domain.choices), *([usual] if dim.when else []))
        return (usual,)

    def configs(self, params: Mapping[str, Any]) -> Configs:
        """The configurations of a trial with these parameters.

        Raises:
            DefinitionError: the values are not compatible.
        """
        active = active_dimensions(self.space, params)
        rounded = rounded_params(active, params)
        searched = {dim.setting.key: rounded[dim.name] for dim in active}
        return build_configs({**self.fixed, **searched}, self.source)


RESOURCES = "resources"
"""Study attribute with the resources that its last run reserved; a confirmation reserves the same."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the engine `ray` reserves for each worker. Determines how many train at once; has no effect on results."""

    cpus: Annotated[float, Ge(0.01), Unit("processors")] = 1.0
    """A worker computes with one thread. Less than 1: several workers share a processor."""

    gpus: Annotated[float, Ge(0.01), Le(1), Unit("GPUs")] = 1.0
    """If trials train on GPUs. 0.5: two workers share a GPU and must fit into its memory together."""

    def stored(self) -> dict[str, float]:
        """The value of the study attribute."""
        return asdict(self)


def stored_resources(attributes: Mapping[str, Any]) -> Resources:
    """The resources in a study's attributes; the default for studies of earlier versions."""
    return Resources(**attributes.get(RESOURCES, {}))


def amount_text(cpus: float, gpus: float) -> str:
    """`1 CPU and 0.5 GPU`."""
    return f"{cpus:g} CPU{'' if cpus <= 1 else 's'} and {gpus:g} GPU{'' if 0 < gpus <= 1 else 's'}"
