"""Several trainings in one stack: the next epoch of each, on the same batches."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence

from model.record import EpochRecord
from model.training import Diverged, Training


def stack_key(training: Training) -> Hashable:
    """Trainings with equal keys can train their next epoch in one stack."""
    generators = training.generators
    states = generators.order.bit_generator.state, generators.augment.bit_generator.state
    order = json.dumps(states, default=str) if training.order is None else (training.order.seed, training.clock)
    config = training.config
    return (training.model.config, training.augment, config.optimizer, config.batch_size, id(training.train.clips), order)


def run_epochs(trainings: Sequence[Training], width: int) -> list[EpochRecord | Diverged]:
    """Trains the next epoch of each training; at most `width` with equal keys together."""
    results: list[EpochRecord | Diverged] = []
    for training in trainings:
        try:
            results.append(training.run_epoch())
        except Diverged as error:
            results.append(error)
    return results
