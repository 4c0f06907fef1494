"""Settings as points of the unit cube, so that distances between them mean something."""

# D coordinates of the unit cube: one per numeric dimension, one per choice of a categorical one

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from search.definition.ranges import Choices
from search.definition.space import Dimension


def embedding(params: Mapping[str, Any], space: Sequence[Dimension]) -> Float[np.ndarray, " D"]:
    """The coordinates of a setting in the unit cube.

    A number has its position in its range. A choice is one-hot, divided by the square root of 2, so that two choices are 1
    apart. A dimension that does not apply has 0.5, or all zeros if it is categorical.
    """
    coordinates: list[float] = []
    for dim in space:
        applies = dim.name in params
        if isinstance(dim.domain, Choices):
            hot = int(dim.position(params[dim.name])) if applies else -1
            coordinates += [float(number == hot) / math.sqrt(2) for number in range(len(dim.domain.choices))]
        else:
            coordinates.append(dim.position(params[dim.name]) if applies else 0.5)
    return np.array(coordinates)
