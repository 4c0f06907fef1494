"""How many trials fit on a GPU at once: an estimate from its free memory and the largest network of a study."""

# L frames of a clip

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from data_utils.landmarks import NUM_FEATURES
from model.lockstep import LEAST_ROWS

MOST_AT_ONCE = 32
"""Trials on one device. More hardly share more of a step's fixed costs, and their sampler learns too late."""

LEARNING_SHARE = 4
"""At most one in this many of a study's trials train at once, so that the sampler learns from three quarters of them."""

_FLOAT = 4
_CONTEXT = 1 << 30
"""Bytes for CUDA itself, its libraries, and the gaps that its allocator leaves."""

_PADDING = 1.25
"""How many rows a batch has for each frame; see `data_utils.batches`."""

_SLACK = 1.5
"""Factor for what the formulas leave out: temporaries of the backward run, batches of long clips, fragmentation."""


@dataclass(frozen=True, kw_only=True)
class LargestNetwork:
    """The largest value of each setting that needs memory, whether or not a single trial has them all."""

    width: int
    layers: int
    heads: int
    ffn_width: int
    batch_size: int


def largest_network(highest: Callable[[str], float]) -> LargestNetwork:
    """`highest`: by the full key of a setting, its highest value."""
    groups = {field.name: "train" if field.name == "batch_size" else "model" for field in fields(LargestNetwork)}
    return LargestNetwork(**{name: int(highest(f"{group}.{name}")) for name, group in groups.items()})


def trials_that_fit(free: int, network: LargestNetwork, lengths_C: np.ndarray, *, words: int, trainings: int) -> int:
    """How many trials fit into `free` bytes, at least 1.

    Args:
        lengths_C: frames of each clip. All trials share them; if they take half of the memory, they stay outside.
        trainings: how many models a trial trains side by side.
    """
    frames = int(lengths_C.sum()) * NUM_FEATURES * _FLOAT
    left = free - _CONTEXT - (frames if frames <= free // 2 else 0)
    return max(left // (trainings * bytes_per_training(network, lengths_C, words)), 1)


def bytes_per_training(network: LargestNetwork, lengths_C: np.ndarray, words: int) -> int:
    """What a training takes of the memory while it trains with others. `lengths_C`: frames of each clip.

    Its weights are there ten times: with gradients, Adam's two averages, the moving average and the kept ones, and half of
    these again as a row of the stack. A step keeps, for each row (frame) of the batch, the activations of all layers and once
    more those of one layer for its gradients, with dropout masks: 15 D + 4 F + 3 heads x L floats. For the article's network
    and clips of 40 frames, these are 76 MB; counted were 36 MB.
    """
    d, f, mean = network.width, network.ffn_width, float(lengths_C.mean())
    weights = NUM_FEATURES * d + network.layers * (4 * d * d + 2 * d * f + 13 * d + f) + words * d
    keys = float((lengths_C.astype(np.float64) ** 2).mean()) / mean  # frames that a frame of the average batch attends to
    per_row = (network.layers + 1) * (15 * d + 4 * f + 3 * network.heads * keys * _PADDING) + 4 * d
    rows = max(_PADDING * network.batch_size * mean, LEAST_ROWS)
    return int(_SLACK * _FLOAT * (10 * weights + rows * per_row))
