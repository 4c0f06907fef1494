"""Settings as points of the unit cube, so that distances between them mean something, and points as settings."""

# D coordinates of the unit cube: one per numeric dimension, one per choice of a categorical one; S dimensions of the space;
# M settings

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from search.definition.ranges import Choices
from search.definition.space import Dimension, active_dimensions

SNAPPED = 1000
"""Steps up to which a number's position is rounded to them. More count as continuous, until it becomes a value."""


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


class Cube:
    """The unit cube of a space, for many settings at once.

    Between settings and points stand positions: one number per dimension, whether it applies or not, for a choice its index.
    """

    def __init__(self, space: Sequence[Dimension]) -> None:
        self.space = tuple(space)
        places = {dim.setting.key: place for place, dim in enumerate(self.space)}
        self._conditions = [
            [(places[one.key], [self.space[places[one.key]].position(value) for value in one.values]) for one in dim.when]
            for dim in self.space
        ]
        self._steps = [_step_positions(dim) for dim in self.space]

    def positions(self, params: Mapping[str, Any]) -> Float[np.ndarray, " S"]:
        """The positions of a setting; of a dimension that does not apply the middle, or the first choice."""
        middles = [0.0 if isinstance(dim.domain, Choices) else 0.5 for dim in self.space]
        pairs = zip(self.space, middles, strict=True)
        return np.array([dim.position(params[dim.name]) if dim.name in params else middle for dim, middle in pairs])

    def settings(self, position_S: Float[np.ndarray, " S"]) -> dict[str, Any]:
        """The parameters at a position: those of the dimensions that apply."""
        values = {dim.name: dim.at_position(place) for dim, place in zip(self.space, position_S.tolist(), strict=True)}
        return {dim.name: values[dim.name] for dim in active_dimensions(self.space, values)}

    def from_unit(self, unit_MS: Float[np.ndarray, "M S"]) -> Float[np.ndarray, "M S"]:
        """The positions of points that are spread over the unit cube of S dimensions, each choice with an equal share."""
        position_MS = unit_MS.copy()
        for column, dim in enumerate(self.space):
            if isinstance(dim.domain, Choices):
                count = len(dim.domain.choices)
                position_MS[:, column] = np.minimum(np.floor(unit_MS[:, column] * count), count - 1)
        return self._snapped(position_MS)

    def near(
        self, position_S: Float[np.ndarray, " S"], count: int, spread: float, rng: np.random.Generator
    ) -> Float[np.ndarray, "M S"]:
        """Positions around one: numbers move by a normal step of `spread`, and one choice in S, on average, is drawn anew."""
        position_MS = np.repeat(position_S[None], count, axis=0)
        for column, dim in enumerate(self.space):
            if isinstance(dim.domain, Choices):
                is_new_M = rng.random(count) < 1 / len(self.space)
                drawn_M = rng.integers(len(dim.domain.choices), size=count)
                position_MS[:, column] = np.where(is_new_M, drawn_M, position_MS[:, column])
            else:
                position_MS[:, column] = np.clip(position_MS[:, column] + spread * rng.normal(size=count), 0, 1)
        return self._snapped(position_MS)

    def points(self, position_MS: Float[np.ndarray, "M S"]) -> Float[np.ndarray, "M D"]:
        """The points of the cube, as `embedding` gives them."""
        return np.concatenate(list(self._coordinates(position_MS)), axis=1)

    def _coordinates(self, position_MS: Float[np.ndarray, "M S"]) -> Iterator[Float[np.ndarray, "M _"]]:
        applies_MS = self._applies(position_MS)
        for column, dim in enumerate(self.space):
            position_M, applies_M = position_MS[:, column], applies_MS[:, column]
            if isinstance(dim.domain, Choices):
                hot_MC = position_M[:, None] == np.arange(len(dim.domain.choices))
                yield (hot_MC & applies_M[:, None]) / math.sqrt(2)
            else:
                yield np.where(applies_M, position_M, 0.5)[:, None]

    def _applies(self, position_MS: Float[np.ndarray, "M S"]) -> Bool[np.ndarray, "M S"]:
        applies_MS = np.ones(position_MS.shape, dtype=bool)
        for column, conditions in enumerate(self._conditions):  # each dimension follows the dimensions of its conditions
            for place, positions in conditions:
                holds_M = np.isclose(position_MS[:, place, None], positions).any(axis=1)
                applies_MS[:, column] &= holds_M & applies_MS[:, place]
        return applies_MS

    def _snapped(self, position_MS: Float[np.ndarray, "M S"]) -> Float[np.ndarray, "M S"]:
        for column, steps in enumerate(self._steps):
            if steps is not None:
                middles = (steps[1:] + steps[:-1]) / 2
                position_MS[:, column] = steps[np.searchsorted(middles, position_MS[:, column])]
        return position_MS


def _step_positions(dim: Dimension) -> Float[np.ndarray, " _"] | None:
    if isinstance(dim.domain, Choices) or dim.size > SNAPPED:
        return None
    return np.array([dim.position(value) for value in dim.values()])
