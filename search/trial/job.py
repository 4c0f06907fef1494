"""`Job`, which tells a worker how to train a trial, and the seeds of a study."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_utils.splits import Split
from search.definition.definition import Plan
from search.definition.settings import Configs


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs to train a trial."""

    trial: int
    configs: Configs
    seed: int
    """Determines initial weights and dropout, and without `order_seed` the order of the clips and augmentation."""

    plan: Plan

    device: str
    folder: Path
    """Folder of the trial's checkpoint."""

    is_resumed: bool = False
    """Whether the trial was started before. It resumes from its checkpoint, if there is one."""

    split: Split | None = None
    """A split with other folds than the study's; None: the study's."""

    keeps_models: bool = False
    """Whether to save the weights of the kept epochs in the folder."""

    order_seed: int | None = None
    """Determines an order of the clips and an augmentation that all trials of the study share. None: each has its own."""

    first_order: int | None = None
    """Which of the study's shared epochs is its first, also when it starts over; None: not decided, and 0 if nobody does."""

    unit: str = "trial"
    """What it is called: `trial`, or in a confirmation `training`."""

    @property
    def name(self) -> str:
        """Such as `trial 7`."""
        return f"{self.unit} {self.trial}"

    def resumed(self) -> Job:
        """The same job, resumed from its checkpoint."""
        return replace(self, is_resumed=True)


def trial_seed(study_seed: int, trial: int) -> int:
    """The seed of a trial, from the study's seed and the trial's number."""
    return _derived_seed(study_seed, 0, trial)


def training_seed(seed: int, training: int) -> int:
    """The seed of one of a trial's trainings; the first has the trial's own."""
    return seed if training == 0 else _derived_seed(seed, training)


def fresh_seed(study_seed: int, number: int) -> int:
    """The seed of a confirmation's training, by its number from 1: the same for all candidates, different from all trials'."""
    return _derived_seed(study_seed, 2, number)


def order_seed(study_seed: int) -> int:
    """The seed of the order of the clips, and of the augmentation, that the trials of a study share."""
    return _derived_seed(study_seed, 3, 0)


def sampler_seed(study_seed: int, trial: int) -> int:
    """The sampler's seed for a trial. With a single seed, it would repeat its proposals whenever a run resumes."""
    return _derived_seed(study_seed, 1, trial)


def _derived_seed(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
