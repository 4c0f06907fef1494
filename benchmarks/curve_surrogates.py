"""Surrogates of real learning curves: any setting of a space to a curve with noise, and to its true value.

A set's curves are those of `make_curves.py`. Two kinds stand for the mean curve, so that no search method meets only its like:
a Gaussian process over the first components of the log curves, and a forest of extremely randomized trees. The noise is what
the seeds of one setting show: the deviations of its curves from their mean, mixed at random, more often from nearby settings.
"""

# N trainings, S dimensions of the space, D coordinates of its unit cube, E epochs, C components, G settings with several seeds

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.stats import qmc
from sklearn.ensemble import ExtraTreesRegressor

from search.definition.cube import Cube
from search.definition.definition import StudyDefinition
from search.definition.ranges import Choices
from search.definition.study_file import load_definition
from search.surrogate.gaussian_process import GaussianProcess

KINDS = ("process", "forest")
COMPONENTS = 6
"""Of the log curves: they hold over 99% of the variance of the sets at hand."""

MIXED, NEARBY = 24, 0.25
"""Noise curves per setting that a true value is the mean over; width of the neighborhood that noise comes from, in the cube."""

DEFAULT_SPACE = """
data: {train: rest, validation: auto, test: auto}
fixed: {epochs: 50, batch_size: 32}
space:
  label_smoothing: {low: 0.0, high: 0.6}
  lr:              {low: 1.0e-5, high: 1.0e-2, log: true}
  dropout:         {low: 0.0, high: 0.5}
baseline: {label_smoothing: 0.0, lr: 3.0e-4, dropout: 0.1}
"""
"""The space of sets that do not name theirs."""


@dataclass(frozen=True)
class CurveSet:
    """The learning curves of one data set."""

    name: str
    text: str
    """The study file whose settings were trained."""

    config_NS: Float[np.ndarray, "N S"]
    curve_NE: Float[np.ndarray, "N E"]
    """val_loss."""

    def definition(self, seed: int = 0) -> StudyDefinition:
        """The study."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "curves.yaml"
            path.write_text(self.text, encoding="utf-8")
            return load_definition(str(path), seed=seed)


@functools.cache
def load_curves(path: Path) -> list[CurveSet]:
    """Every set of a file; without those that are too small, or whose noise is unknown."""
    sets = []
    arrays = np.load(path)
    for name in sorted(key.removesuffix("_config") for key in arrays.files if key.endswith("_config")):
        config_NS = np.asarray(arrays[f"{name}_config"], dtype=float)
        _, counts = np.unique(config_NS, axis=0, return_counts=True)
        if counts.max() < 2 or len(counts) < 20:
            continue
        text = str(arrays[f"{name}_study"]) if f"{name}_study" in arrays.files else DEFAULT_SPACE
        sets.append(CurveSet(name, text, config_NS, np.asarray(arrays[f"{name}_curve"][:, :, 0], dtype=float)))
    return sets


@dataclass
class Surrogate:
    """One set's curves, anywhere in its space."""

    curves: CurveSet
    kind: Literal["process", "forest"]
    definition: StudyDefinition = field(init=False)
    cube: Cube = field(init=False)
    lowest: float = field(init=False)
    """The lowest true value of the space, as far as a fine search finds it."""

    def __post_init__(self) -> None:
        self.definition = self.curves.definition()
        self.cube = Cube(self.definition.space)
        config_NS, curve_NE = self.curves.config_NS, self.curves.curve_NE
        finite = np.isfinite(curve_NE)
        curve_NE = np.where(finite, curve_NE, curve_NE[finite].max())  # diverged: as bad as the worst
        log_NE = np.log(np.maximum(curve_NE, 1e-6))
        position_NS = np.array([self.cube.positions(self._params(row)) for row in config_NS])
        point_ND = self.cube.points(position_NS)
        self._set_noise(config_NS, point_ND, log_NE)
        self._middle_E = log_NE.mean(0)
        _, _, direction_EE = np.linalg.svd(log_NE - self._middle_E, full_matrices=False)
        self._direction_CE = direction_EE[:COMPONENTS]
        score_NC = (log_NE - self._middle_E) @ self._direction_CE.T
        if self.kind == "process":
            self._processes = [GaussianProcess(point_ND, score_NC[:, component]) for component in range(score_NC.shape[1])]
        else:
            self._forest = _Forest(point_ND, log_NE - self._middle_E)
        self.lowest = self._lowest(position_NS)

    def draw(self, params: Mapping[str, Any], rng: np.random.Generator) -> Float[np.ndarray, " E"]:
        """The curve of one training."""
        point_D = self.cube.points(self.cube.positions(params)[None])[0]
        group = rng.choice(len(self._share(point_D[None])[0]), p=self._share(point_D[None])[0])
        return np.exp(self._mean(point_D[None])[0] + _mix(self._noise[group], rng))

    def truth(self, params: Mapping[str, Any]) -> float:
        """The true value: the mean over many trainings of the lowest epoch."""
        return float(self._truth(self.cube.points(self.cube.positions(params)[None]))[0])

    def _truth(self, point_MD: Float[np.ndarray, "M D"]) -> Float[np.ndarray, " M"]:
        mean_ME, share_MG = self._mean(point_MD), self._share(point_MD)
        truth_M = np.zeros(len(point_MD))
        for group, noise_KE in enumerate(self._mixed):
            truth_M += share_MG[:, group] * np.exp(mean_ME[:, None] + noise_KE[None]).min(axis=2).mean(axis=1)
        return truth_M

    def _params(self, row: Float[np.ndarray, " S"]) -> dict[str, Any]:
        pairs = [(dim, value) for dim, value in zip(self.definition.space, row.tolist(), strict=True) if not math.isnan(value)]
        raw = {dim.name: dim.domain.choices[int(v)] if isinstance(dim.domain, Choices) else v for dim, v in pairs}
        return {dim.name: dim.rounded(raw[dim.name]) for dim, _ in pairs}

    def _set_noise(
        self, config_NS: Float[np.ndarray, "N S"], point_ND: Float[np.ndarray, "N D"], log_NE: Float[np.ndarray, "N E"]
    ) -> None:
        _, first, inverse, counts = np.unique(config_NS, axis=0, return_index=True, return_inverse=True, return_counts=True)
        groups = np.flatnonzero(counts > 1)
        self._noise_points_GD = point_ND[first[groups]]
        self._noise = []
        for group in groups:
            curve_KE = log_NE[inverse == group]
            self._noise.append((curve_KE - curve_KE.mean(0)) * math.sqrt(len(curve_KE) / (len(curve_KE) - 1)))
        rng = np.random.default_rng(0)
        self._mixed = [np.array([_mix(noise, rng) for _ in range(MIXED)]) for noise in self._noise]

    def _share(self, point_MD: Float[np.ndarray, "M D"]) -> Float[np.ndarray, "M G"]:
        square_MG = ((point_MD[:, None] - self._noise_points_GD[None]) ** 2).sum(-1)
        weight_MG = np.exp(-(square_MG - square_MG.min(1, keepdims=True)) / (2 * NEARBY**2))
        return weight_MG / weight_MG.sum(1, keepdims=True)

    def _mean(self, point_MD: Float[np.ndarray, "M D"]) -> Float[np.ndarray, "M E"]:
        if self.kind == "process":
            score_MC = np.stack([process.at(point_MD)[0] for process in self._processes], axis=1)
            return self._middle_E + score_MC @ self._direction_CE
        return self._middle_E + self._forest(point_MD)

    def _lowest(self, position_NS: Float[np.ndarray, "N S"]) -> float:
        rng = np.random.default_rng(0)
        spread_MS = self.cube.from_unit(qmc.Sobol(len(self.cube.space), seed=0).random_base2(11))
        position_MS = np.concatenate([spread_MS, np.unique(position_NS, axis=0)])
        for spread in (0.1, 0.05, 0.02, 0.01, None):
            truth_M = np.concatenate([self._truth(part) for part in np.array_split(self.cube.points(position_MS), 8)])
            best = position_MS[np.argsort(truth_M)[:16]]
            if spread is not None:
                position_MS = np.concatenate([best, *(self.cube.near(one, 32, spread, rng) for one in best)])
        return float(truth_M.min())


def _mix(noise_KE: Float[np.ndarray, "K E"], rng: np.random.Generator) -> Float[np.ndarray, " E"]:
    """A noise curve with the covariance of those of one setting."""
    one, other = rng.choice(len(noise_KE), 2, replace=False)
    angle = rng.uniform(0, 2 * math.pi)
    return math.cos(angle) * noise_KE[one] + math.sin(angle) * noise_KE[other]


class _Forest:
    """A fitted forest as arrays: scikit-learn's own prediction of a single point takes a hundred times as long."""

    def __init__(self, point_ND: Float[np.ndarray, "N D"], curve_NE: Float[np.ndarray, "N E"]) -> None:
        forest = ExtraTreesRegressor(200, min_samples_leaf=2, bootstrap=True, random_state=0).fit(point_ND, curve_NE)
        trees = [tree.tree_ for tree in forest.estimators_]
        nodes = max(tree.node_count for tree in trees)

        def stacked(arrays: list[np.ndarray]) -> np.ndarray:
            padded = [np.pad(array, [(0, nodes - len(array)), *[(0, 0)] * (array.ndim - 1)]) for array in arrays]
            return np.stack(padded)

        self._left, self._right = (stacked([getattr(tree, f"children_{side}") for tree in trees]) for side in ("left", "right"))
        self._feature, self._threshold = stacked([t.feature for t in trees]), stacked([t.threshold for t in trees])
        self._value = stacked([tree.value[:, :, 0] for tree in trees])
        self._depth = max(tree.max_depth for tree in trees)

    def __call__(self, point_MD: Float[np.ndarray, "M D"]) -> Float[np.ndarray, "M E"]:
        tree_T = np.arange(len(self._left))[:, None]
        node_TM = np.zeros((len(self._left), len(point_MD)), dtype=int)
        point_DM = point_MD.astype(np.float32).T
        for _ in range(self._depth):
            left_TM = self._left[tree_T, node_TM]
            goes_left_TM = (
                point_DM[self._feature[tree_T, node_TM], np.arange(len(point_MD))] <= self._threshold[tree_T, node_TM]
            )
            next_TM = np.where(goes_left_TM, left_TM, self._right[tree_T, node_TM])
            node_TM = np.where(left_TM < 0, node_TM, next_TM)
        mean = np.zeros((len(point_MD), self._value.shape[2]))
        for tree in range(len(self._left)):
            mean += self._value[tree, node_TM[tree]]
        return mean / len(self._left)


@functools.cache
def surrogate(path: Path, name: str, kind: Literal["process", "forest"]) -> Surrogate:
    """The surrogate of a set in a file, made once per process."""
    return Surrogate(next(one for one in load_curves(path) if one.name == name), kind)
