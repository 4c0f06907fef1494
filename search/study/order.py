"""The order of the clips, and the augmentation, that the trials of a study share.

A study that was made for training its trials in lockstep has one, and keeps it whatever engine goes on with it.
"""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial

from search.definition.trial_attributes import attribute

ORDER_SEED = "order_seed"
"""The study attribute that the shared order is drawn from. Written when the study is made. Absent: each trial has its own."""

FIRST_ORDER = "first_order"
"""The trial attribute that says which epoch of the shared order its first one was."""

STACK = "stack"
"""The trial attribute that says how many trainings at most were in a stack with its own: with the same width it has the same
numbers, bit for bit. 0: the width changed, or some of its epochs were trained alone. Absent: it trained alone."""


def shared_order(study: optuna.Study, trial: FrozenTrial) -> dict[str, int]:
    """`order_seed` and `first_order` of a trial; empty if it was trained with an order of its own."""
    seed, first = study.user_attrs.get(ORDER_SEED), attribute(trial, FIRST_ORDER)
    return {} if seed is None or first is None else {ORDER_SEED: seed, FIRST_ORDER: first}
