"""Settings become points of the unit cube, and points settings, with choices, steps and conditions."""

from __future__ import annotations

import numpy as np
import pytest

from search.definition.cube import Cube, embedding
from search.definition.space import active_dimensions, random_combination
from search.definition.study_file import load_definition

SPACE = """
space:
  label_smoothing: {low: 0.0, high: 0.6}
  lr: {low: 1e-4, high: 1e-1, log: true}
  layers: {low: 1, high: 4}
  dropout: {low: 0.0, high: 0.4, step: 0.2}
  activation: {choices: [relu, gelu, silu]}
  optimizer: {choices: [adam, adamw]}
  weight_decay: {low: 1e-4, high: 1e-1, log: true, when: {optimizer: adamw}}
baseline: {label_smoothing: 0.0, lr: 1e-3, layers: 1, dropout: 0.0, activation: relu, optimizer: adam}
"""


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Cube:
    """That of a space with every kind of dimension."""
    path = tmp_path_factory.mktemp("cube") / "every.yaml"
    path.write_text(SPACE, encoding="utf-8")
    return Cube(load_definition(str(path)).space)


def test_there_and_back(cube: Cube) -> None:
    """A setting's position is that setting again, and its point is its embedding."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        params = random_combination(cube.space, rng)
        position_S = cube.positions(params)
        back = cube.settings(position_S)
        assert back.keys() == params.keys()
        assert all(
            back[name] == pytest.approx(value) if isinstance(value, float) else back[name] == value
            for name, value in params.items()
        )
        assert np.allclose(cube.points(position_S[None])[0], embedding(params, cube.space))


def test_positions_are_valid_settings(cube: Cube) -> None:
    """Points of the cube, and positions around them, lie on the steps, and give one value per active dimension."""
    rng = np.random.default_rng(1)
    position_MS = cube.from_unit(rng.random((100, len(cube.space))))
    position_MS = np.concatenate([position_MS, *(cube.near(one, 5, 0.1, rng) for one in position_MS)])
    for position_S, point_D in zip(position_MS, cube.points(position_MS), strict=True):
        params = cube.settings(position_S)
        assert params.keys() == {dim.name for dim in active_dimensions(cube.space, params)}
        assert all(dim.contains(params[dim.name]) for dim in cube.space if dim.name in params)
        assert np.allclose(point_D, embedding(params, cube.space)), "the point is that of the setting that is tried"


def test_choices_have_equal_shares(cube: Cube) -> None:
    """An even spread over the unit cube is an even spread over choices and steps."""
    position_MS = cube.from_unit(np.random.default_rng(2).random((3000, len(cube.space))))
    names = [dim.name for dim in cube.space]
    _, counts = np.unique(position_MS[:, names.index("activation")], return_counts=True)
    assert len(counts) == 3
    assert counts.min() > 900


def test_what_does_not_apply_makes_no_difference(cube: Cube) -> None:
    """Two settings with the optimizer adam have the same point whatever the position of the weight decay."""
    names = [dim.name for dim in cube.space]
    one = cube.positions({"optimizer": "adam", "lr": 1e-3})
    other = one.copy()
    other[names.index("weight_decay")] = 0.9
    assert np.array_equal(*cube.points(np.stack([one, other])))
    one[names.index("optimizer")] = other[names.index("optimizer")] = 1
    assert not np.array_equal(*cube.points(np.stack([one, other])))
