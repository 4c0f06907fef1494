"""What a worker is told, and seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from search.definition.definition import Plan
from search.definition.settings import Configs


@dataclass(frozen=True)
class Job:
    """Everything a worker needs to know of a trial."""

    trial: int
    configs: Configs
    seed: int
    """Decides starting weights, order of the clips, augmentation and dropout."""

    plan: Plan

    device: str
    folder: Path
    """Where the trial's checkpoint lies."""

    is_resumed: bool = False
    """It was begun before, and goes on from its checkpoint if there is one."""

    folds: tuple[tuple[str, ...], ...] = ()
    """Groups of training signers that validate in turn, instead of those of the study."""

    keeps_models: bool = False
    """The weights of the epochs that count are left in its folder."""

    def resumed(self) -> Job:
        """The same, to go on from its checkpoint."""
        return replace(self, is_resumed=True)


def trial_seed(study_seed: int, trial: int) -> int:
    """The seed of a trial, from the study's seed and the trial's number."""
    return int(np.random.SeedSequence([study_seed, 0, trial]).generate_state(1)[0])


def training_seed(seed: int, training: int) -> int:
    """The seed of one of a trial's trainings: the trial's own for the first."""
    return seed if training == 0 else int(np.random.SeedSequence([seed, training]).generate_state(1)[0])


def fresh_seed(study_seed: int, number: int) -> int:
    """The seed of a training that confirms, by its number from 1: the same for all that are compared, and no trial's own."""
    return int(np.random.SeedSequence([study_seed, 2, number]).generate_state(1)[0])


def sampler_seed(study_seed: int, trial: int) -> int:
    """The sampler's seed when it is asked for a trial. With one seed for all it would repeat itself at each resume."""
    return int(np.random.SeedSequence([study_seed, 1, trial]).generate_state(1)[0])
