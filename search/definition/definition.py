"""A study as people write it (YAML and `--set`) -> a checked `StudyDefinition`. Whoever misspells a word is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Unit

from data_utils.splits import Folds, SignerSelection
from model.objective import Objective
from search.definition.objectives import StudyObjective, primary_objective
from search.definition.pruners import NoPruning, Pruner
from search.definition.samplers import Sampler
from search.definition.settings import Configs, build_configs, settings
from search.definition.space import Dimension, active_dimensions


@dataclass(frozen=True, kw_only=True)
class Stagnation:
    """When a search that gains nothing any more ends."""

    trials: Annotated[int, Gt(0), Unit("trials")]
    """Finished trials without a gain."""

    noise: Annotated[float, Ge(0)] | None = None
    """What does not count as a gain, in the objective's unit. Empty: it is estimated from the best trial: from the spread of
    its repeats, else from how its folds differ from those of the second best, else from how its curve moves."""


@dataclass(frozen=True)
class Plan:
    """How every trial of a study trains its models."""

    objective: Objective = Objective()  # noqa: RUF009 (frozen)
    """Decides which epoch speaks for a curve."""

    repeats: int = 1
    """Trainings of each fold, with seeds of their own."""

    one_by_one: bool = False
    """Trainings run after each other; else side by side, an epoch of each in turn."""

    unit: int = 1
    """One by one: after how many trainings the pruner is asked: all repeats of a fold, or one where there are no folds."""

    wants_latency: bool = False


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Which signers train, validate and are sealed, as the study asks for them."""

    train: SignerSelection = "rest"
    validation: SignerSelection = "auto"
    test: SignerSelection = "auto"
    folds: Folds = None
    """Instead of a validation part: so many groups of signers, each of which validates once; `each`: every signer by itself."""


@dataclass(frozen=True, kw_only=True)
class StudyDefinition:
    """A checked study."""

    name: str
    source: str
    """The file it was read from, for messages."""

    about: str
    objectives: tuple[StudyObjective, ...]
    """What is minimised. With several, a study has a front of best trials instead of one."""

    trials: int
    """How many trials are to be finished."""

    time_s: float | None
    """How long all its trials together may train; None: as long as they like."""

    stagnation: Stagnation | None
    repeats: int
    """How often each trial trains the same setting, with seeds of its own."""

    sampler: Sampler
    pruner: Pruner
    """As written. See `prunes`."""

    resources: Resources
    """What each worker asks of a cluster. No part of the question."""

    signers: SplitOptions
    fixed: Mapping[str, Any]
    """Values by full key."""

    space: tuple[Dimension, ...]
    """Each dimension behind those that its condition looks at."""

    baseline: Mapping[str, Any]
    """A value for each dimension that applies, by the dimension's name. Always trial 0."""

    seed: int
    origins: Mapping[str, str]
    """Where each key's value came from: the file, or `--set`. What is missing here is a default."""

    @property
    def prunes(self) -> bool:
        """Whether a pruner is at work: with several objectives no order of half-trained trials means anything."""
        return len(self.objectives) == 1 and not isinstance(self.pruner, NoPruning)

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
        """The most epochs that one training can have."""
        searched = {dim.setting.key: dim for dim in self.space}
        if "train.epochs" not in searched:
            return int(self.fixed.get("train.epochs", settings()["train.epochs"].default))
        dim = searched["train.epochs"]
        return max(int(dim.highest), dim.setting.default if dim.when else 0)

    def configs(self, params: Mapping[str, Any]) -> Configs:
        """The configurations of a trial with these parameters.

        Raises:
            DefinitionError: the values do not go together.
        """
        chosen = {dim.setting.key: params[dim.name] for dim in active_dimensions(self.space, params)}
        return build_configs({**self.fixed, **chosen}, self.source)


RESOURCES = "resources"
"""Where a study keeps what its last run asked for; a confirmation asks for the same."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the engine `ray` reserves for each worker. That changes how many train at once, and no result."""

    cpus: Annotated[float, Ge(0.01), Unit("processors")] = 1.0
    """A worker computes with one thread. Less than 1: several share a processor."""

    gpus: Annotated[float, Ge(0.01), Le(1), Unit("GPUs")] = 1.0
    """Where trials train on GPUs, else none. Half a one: two workers share it, and must fit into its memory together."""

    def stored(self) -> dict[str, float]:
        """As the study keeps it."""
        return asdict(self)


def stored_resources(attributes: Mapping[str, Any]) -> Resources:
    """What the study of these attributes has asked for; the default for one of an earlier version."""
    return Resources(**attributes.get(RESOURCES, {}))


def amount_text(cpus: float, gpus: float) -> str:
    """`1 CPU and 0.5 GPU`."""
    return f"{cpus:g} CPU{'' if cpus <= 1 else 's'} and {gpus:g} GPU{'' if 0 < gpus <= 1 else 's'}"
