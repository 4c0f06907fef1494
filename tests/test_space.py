"""Contract tests for every kind of dimension, and tests of conditions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from data_utils.splits import Split
from search.definition.definition import StudyDefinition
from search.definition.space import Dimension, active_dimensions, all_combinations, num_combinations, random_combination
from search.definition.study_file import load_definition
from search.definition.yaml_text import dump_yaml, parse_yaml
from search.errors import DefinitionError
from search.study.identity import identity

SPLIT = Split(train=("a",), validation=("b",), test=())


def space_of(folder: Path, space: str, rest: str = "") -> tuple[Dimension, ...]:
    """The dimensions of a study with this space."""
    path = folder / "one.yaml"
    path.write_text(f"space: {space}\n{rest}", encoding="utf-8")
    return load_definition(str(path)).space


class DimensionContract:
    """Tests that every kind of dimension must pass. Subclasses define the attributes below."""

    name: str
    given: dict[str, Any]
    baseline: Any
    inside: list[Any]
    outside: list[Any]
    other: dict[str, Any]
    """The same dimension with a different range."""

    edges: dict[Any, str]
    """Values, and the edge at which each one lies."""

    @pytest.fixture
    def dim(self, tmp_path: Path) -> Dimension:
        """The dimension, parsed from a study file."""
        return self.study(tmp_path, self.given).space[0]

    def study(self, folder: Path, given: dict[str, Any]) -> StudyDefinition:
        """A study with one dimension."""
        path = folder / "one.yaml"
        path.write_text(dump_yaml({"space": {self.name: given}, "baseline": {self.name: self.baseline}}), encoding="utf-8")
        return load_definition(str(path))

    def test_every_sample_lies_inside(self, dim: Dimension) -> None:
        """All samples are inside, those of `draw` and those of Optuna's samplers."""
        rng = np.random.default_rng(0)
        assert all(dim.contains(dim.draw(rng)) for _ in range(200))
        for sampler in (optuna.samplers.RandomSampler(seed=0), optuna.samplers.TPESampler(seed=0, n_startup_trials=5)):
            study = optuna.create_study(sampler=sampler)
            for number in range(20):
                trial = study.ask({dim.name: dim.distribution()})
                assert dim.contains(trial.params[dim.name])
                study.tell(trial, float(number % 3))

    def test_samples_are_of_the_settings_type(self, dim: Dimension) -> None:
        """Samples have the setting's type: int or float."""
        rng = np.random.default_rng(0)
        assert {type(dim.draw(rng)) for _ in range(20)} <= {type(value) for value in self.inside}

    def test_contains(self, dim: Dimension) -> None:
        """Both ends are inside; values beyond them, between two steps or of another type are outside."""
        assert [value for value in self.inside if not dim.contains(value)] == []
        assert [value for value in self.outside if dim.contains(value)] == []

    def test_round_trip_through_yaml(self, dim: Dimension, tmp_path: Path) -> None:
        """A dimension and its values survive a round trip through YAML."""
        again = {"low": 0, **self.given} if "low" in self.given else self.given
        assert self.study(tmp_path, again).space[0] == dim
        rng = np.random.default_rng(1)
        values = [*self.inside, *(dim.draw(rng) for _ in range(50))]
        assert parse_yaml(dump_yaml({"values": values}), "here")["values"] == values

    def test_round_trip_through_a_database(self, dim: Dimension) -> None:
        """Optuna stores each value unchanged."""
        study = optuna.create_study()
        for value in self.inside:
            study.enqueue_trial({dim.name: value})
            assert study.ask({dim.name: dim.distribution()}).params[dim.name] == value

    def test_identity(self, tmp_path: Path) -> None:
        """The order of keys does not change a study's identity; any change to the range does."""
        backwards = dict(reversed(self.given.items()))
        lines = [identity(self.study(tmp_path, given), SPLIT, "f") for given in (self.given, backwards, self.other)]
        assert lines[0] == lines[1]
        assert lines[0] != lines[2]

    def test_edges(self, dim: Dimension) -> None:
        """A value near an end of a range that could be extended is at that edge."""
        assert {value: dim.edge(value) for value in self.edges} == self.edges

    def test_size(self, dim: Dimension) -> None:
        """A finite dimension lists `size` different values, all of them inside."""
        if not math.isinf(dim.size):
            values = dim.values()
            assert len(values) == dim.size == len(set(values))
            assert all(dim.contains(value) for value in values)


class TestFloat(DimensionContract):
    """A continuous range."""

    name, baseline = "dropout", 0.1
    given, other = {"low": 0.0, "high": 0.5}, {"low": 0.0, "high": 0.50001}
    inside, outside = [0.0, 0.5, 0.123456789], [-1e-9, 0.5000001, "x", None]
    edges = {0.0: "", 0.01: "", 0.25: "", 0.47: "", 0.476: "upper", 0.5: "upper"}  # dropout cannot go below 0


class TestLogFloat(DimensionContract):
    """A logarithmic range."""

    name, baseline = "train.lr", 1e-3
    given, other = {"low": 1e-5, "high": 1e-2, "log": True}, {"low": 1e-5, "high": 1e-2}
    inside, outside = [1e-5, 1e-2, 3.3e-4], [9.9e-6, 1.1e-2, 0.0]
    edges = {1e-5: "lower", 1.3e-5: "lower", 2e-5: "", 1e-3: "", 9e-3: "upper"}


class TestSteppedFloat(DimensionContract):
    """A range with steps of a tenth."""

    name, baseline = "label_smoothing", 0.1
    given, other = {"low": 0.1, "high": 0.5, "step": 0.1}, {"low": 0.1, "high": 0.5, "step": 0.2}
    inside, outside = [0.1, 0.2, 0.3, 0.4, 0.5], [0.0, 0.15, 0.6]
    edges = {0.1: "lower", 0.2: "", 0.4: "", 0.5: "upper"}


class TestInt(DimensionContract):
    """Whole numbers."""

    name, baseline = "layers", 2
    given, other = {"low": 1, "high": 4}, {"low": 1, "high": 5}
    inside, outside = [1, 2, 3, 4], [0, 5, 1.5]
    edges = {1: "", 2: "", 4: "upper"}  # no model has 0 layers


class TestSteppedInt(DimensionContract):
    """Whole numbers with steps of 16."""

    name, baseline = "batch_size", 16
    given, other = {"low": 16, "high": 64, "step": 16}, {"low": 16, "high": 64, "step": 24}
    inside, outside = [16, 32, 48, 64], [17, 8, 80]
    edges = {16: "lower", 32: "", 64: "upper"}


class TestLogInt(DimensionContract):
    """Whole numbers on a log scale."""

    name, baseline = "ffn_width", 64
    given, other = {"low": 16, "high": 1024, "log": True}, {"low": 16, "high": 1024}
    inside, outside = [16, 17, 1024], [15, 1025, 16.5]
    edges = {16: "lower", 100: "", 1024: "upper"}


class TestTexts(DimensionContract):
    """Choices of texts."""

    name, baseline = "activation", "relu"
    given, other = {"choices": ["relu", "gelu", "mish"]}, {"choices": ["relu", "gelu"]}
    inside, outside = ["relu", "gelu", "mish"], ["silu", 0, None]
    edges = {"relu": "", "mish": ""}


class TestSwitch(DimensionContract):
    """True or false."""

    name, baseline = "norm_first", True
    given, other = {"choices": [True, False]}, {"choices": [True]}
    inside, outside = [True, False], ["yes", 2]
    edges = {True: ""}


class TestNumericChoices(DimensionContract):
    """Choices of numbers."""

    name, baseline = "label_smoothing", 0.0
    given, other = {"choices": [0, 0.1, 0.3, 0.5]}, {"choices": [0, 0.1, 0.3]}
    inside, outside = [0.0, 0.1, 0.3, 0.5], [0.2, -0.1]
    edges = {0.5: ""}


CONDITIONAL = """
  weight_decay: {low: 1e-4, high: 1e-1, log: true, when: {optimizer: adamw}}
  optimizer: {choices: [adam, adamw]}
  width: {choices: [16, 32]}
  warmup_epochs: {choices: [1, 2], when: {optimizer: adamw, width: [16, 32]}}
"""


def test_conditions(tmp_path: Path) -> None:
    """A dimension follows the dimensions of its conditions, and is active where they hold."""
    space = space_of(tmp_path, CONDITIONAL, "baseline: {optimizer: adam, width: 16}\n")
    assert [dim.name for dim in space] == ["optimizer", "weight_decay", "width", "warmup_epochs"]
    assert [dim.name for dim in active_dimensions(space, {"optimizer": "adam", "width": 16})] == ["optimizer", "width"]
    assert len(active_dimensions(space, {"optimizer": "adamw", "weight_decay": 0.1, "width": 16})) == 4
    assert [dim.text() for dim in space if dim.when] == [
        "0.0001 .. 0.1 log when train.optimizer is adamw",
        "1 | 2 when train.optimizer is adamw and model.width is 16 or 32",
    ]
    rng = np.random.default_rng(0)
    drawn = [random_combination(space, rng) for _ in range(100)]
    adamw = [params["optimizer"] == "adamw" for params in drawn]
    assert adamw == ["weight_decay" in params for params in drawn] == ["warmup_epochs" in params for params in drawn]
    assert {params["optimizer"] for params in drawn} == {"adam", "adamw"}


def test_num_combinations_with_conditions(tmp_path: Path) -> None:
    """Two combinations with adam (widths), and four with adamw (widths times layers)."""
    text = (
        "{optimizer: {choices: [adam, adamw]}, width: {choices: [16, 32]}, layers: {low: 1, high: 2, when: {optimizer: adamw}}}"
    )
    space = space_of(tmp_path, text, "baseline: {optimizer: adam, width: 16}\n")
    every = list(all_combinations(space))
    assert num_combinations(space) == len(every) == 6
    assert len({tuple(sorted(params.items())) for params in every}) == 6
    assert every[0] == {"optimizer": "adam", "width": 16}


def test_an_inactive_setting_keeps_its_default(tmp_path: Path) -> None:
    """With Adam, the weight decay that is searched for AdamW only keeps its default."""
    path = tmp_path / "one.yaml"
    path.write_text(f"space:{CONDITIONAL}\nbaseline: {{optimizer: adam, width: 16}}\n", encoding="utf-8")
    definition = load_definition(str(path))
    assert definition.baseline == {"optimizer": "adam", "width": 16}
    assert definition.configs(definition.baseline).train.weight_decay == 0.0
    other = {"optimizer": "adamw", "width": 16, "weight_decay": 0.01, "warmup_epochs": 2}
    assert definition.configs(other).train.weight_decay == 0.01


@pytest.mark.parametrize(
    ("space", "rest", "what"),
    [
        ("{lr: {low: 1, high: 2, when: {optimizer: adam}}}", "", "is on a setting that is not searched"),
        ("{lr: {low: 1, high: 2, when: {optimzer: adam}}}", "", "unknown key `optimzer`"),
        ("{lr: {low: 1, high: 2, when: {optimizer: sgd}}}", "", "`space.lr.when.optimizer` has a wrong value"),
        ("{lr: {low: 1, high: 2, when: {optimizer: []}}}", "", "lists no value"),
        ("{lr: {low: 1, high: 2, when: adam}}", "", "`space.lr.when` is not a mapping"),
        ("{lr: {low: 1, high: 2, role: main}}", "", "`space.lr.role` has a wrong value"),
        (
            "{lr: {low: 1, high: 2, when: {width: 32}}, width: {choices: [16, 64]}}",
            "baseline: {lr: 1, width: 16}",
            "the condition of `lr` can never hold",
        ),
        (
            "{lr: {low: 1, high: 2, when: {width: [16, 32]}}, width: {choices: [16, 64]}}",
            "baseline: {lr: 1, width: 16}",
            "lists a value outside the space",
        ),
        (
            "{width: {choices: [16, 64], when: {layers: 1}}, layers: {choices: [1, 2], when: {width: 16}}}",
            "",
            "the conditions of `width`, `layers` are circular",
        ),
        (
            "{optimizer: {choices: [adam, adamw]}, weight_decay: {low: 0.1, high: 1, when: {optimizer: adamw}}}",
            "baseline: {optimizer: adam, weight_decay: 0.1}",
            "`weight_decay` does not apply to the baseline",
        ),
        (
            "{width: {choices: [17, 19]}, heads: {choices: [2]}}",
            "baseline: {width: 17}",
            "no combination in this space is valid",
        ),
        (
            "{width: {choices: [16, 18]}, heads: {choices: [2, 4]}}",
            "baseline: {width: 18, heads: 4}",
            "the baseline's settings are not compatible",
        ),
        (
            "{lr: {low: 1e-5, high: 1e-2, log: true}, dropout: {low: 0, high: 0.5, when: {lr: 1e-4}}}",
            "",
            "the condition of `dropout` can never hold",
        ),
        ("{lr: {low: 1e-4, high: 1}}", "time: 0", "this duration cannot be used"),
        ("{lr: {low: 2, high: 1}}", "", "`space.lr` has wrong values"),
        ("{lr: {low: 1e-4, high: 1}}", "sampler: {name: grid}", "a grid needs finite dimensions"),
        (
            "{width: {low: 2, high: 128, step: 2}, heads: {choices: [1, 2]}}",
            "sampler: {name: grid}\nbaseline: {width: 64}",
            "the grid has more combinations than the study has trials",
        ),
        ("{lr: {low: 1e-4, high: 1}}", "sampler: {name: cmaes}", "needs two or more numeric dimensions without conditions"),
        ("{lr: {low: 1e-4, high: 1}}", "pruner: {name: wilcoxon}", "could never stop a trial"),
        ("{lr: {low: 1e-4, high: 1}}", "pruner: {name: wilcoxon}\ndata: {folds: 4}", "could never stop a trial"),
        ("{lr: {low: 1e-4, high: 1}}", "pruner: {name: threshold}", "`pruner` lacks `upper`"),
        ("{lr: {low: 1e-4, high: 1}}", "sampler: {name: qmc, sequence: sobel}", "`sampler.sequence` has a wrong value"),
        ("{lr: {low: 1e-4, high: 1}}", "data: {folds: 1}", "`data.folds` has a wrong value"),
        ("{lr: {low: 1e-4, high: 1}}", "data: {folds: 3, validation: [a]}", "cannot be combined"),
        ("{lr: {low: 1e-4, high: 1}}", "time: soon", "this is not a duration"),
        ("{lr: {low: 1e-4, high: 1}}", "stagnation: {trials: 0}", "`stagnation.trials` has a wrong value"),
        ("{lr: {low: 1e-4, high: 1}}", "repeats: 0", "`repeats` has a wrong value"),
        ("{lr: {low: 1e-4, high: 1}}", "objective: {metric: parameters}", "no objective measures the model's quality"),
        ("{lr: {low: 1e-4, high: 1}}", "objective: [{metric: val_loss}, {metric: val_loss}]", "an objective is listed twice"),
        ("{lr: {low: 1e-4, high: 1}}", "objective: [{}, {metric: parameters, reduce: last}]", "has no curve to reduce"),
        ("{lr: {low: 1e-4, high: 1}}", "objective: []", "no objective measures the model's quality"),
        (
            "{lr: {low: 1e-4, high: 1}, dropout: {low: 0, high: 0.5}}",
            "sampler: {name: cmaes}\nobjective: [{}, {metric: parameters}]",
            "supports only one objective",
        ),
        (
            "{lr: {low: 1e-4, high: 1}}",
            "stagnation: 5\nobjective: [{}, {metric: parameters}]",
            "`stagnation` needs a single objective",
        ),
    ],
)
def test_impossible_studies_are_refused(space: str, rest: str, what: str, tmp_path: Path) -> None:
    """A space, grid, condition, sampler or pruner that could not work is an error before anything starts."""
    with pytest.raises(DefinitionError) as caught:
        space_of(tmp_path, space, rest)
    assert what in caught.value.what
    shown = caught.value.render().splitlines()
    assert shown[-1].startswith(("hint: ", "expected: "))


def test_max_epochs(tmp_path: Path) -> None:
    """The maximum of epochs covers ranges, choices, and the default where a condition does not hold."""
    path = tmp_path / "one.yaml"
    optimizer = "optimizer: {choices: [adam, adamw]}"
    for space, most in (
        ("{lr: {low: 1e-4, high: 1}}", 50),
        ("{epochs: {low: 5, high: 80}}", 80),
        ("{epochs: {choices: [5, 50]}}", 50),
        (f"{{epochs: {{low: 5, high: 10, when: {{optimizer: adamw}}}}, {optimizer}}}", 50),
    ):
        path.write_text(f"space: {space}\n", encoding="utf-8")
        assert load_definition(str(path)).max_epochs == most
