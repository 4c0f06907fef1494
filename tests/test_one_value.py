"""One value of a setting is one value, whoever wrote it: samplers, study files, other programs, earlier versions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Cli
from launch import storage_of, stored_trials

from search.definition.definition import StudyDefinition
from search.definition.samplers import SAMPLERS
from search.definition.space import Dimension, active_dimensions
from search.definition.study_file import load_definition
from search.definition.trial_attributes import attribute
from search.definition.yaml_text import parse_yaml
from search.errors import DefinitionError
from search.running.proposal import Tried, propose

TENTHS = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
SEVENTH = 0.1 + 0.2 + 0.3  # 0.6000000000000001
SMALL = "fixed: {epochs: 1, batch_size: 8, width: 16, ffn_width: 16, layers: 1, patience: 0}\n"
STEPS = f"trials: 12\nsampler: {{name: tpe, startup: 3}}\npruner: {{name: none}}\n{SMALL}"
STEPS += "space: {dropout: {low: 0.0, high: 0.7, step: 0.1}}\nbaseline: {dropout: 0.1}\n"


def load(folder: Path, text: str) -> StudyDefinition:
    """A study with this text."""
    path = folder / "steps.yaml"
    path.write_text(text, encoding="utf-8")
    return load_definition(str(path))


def dimension(folder: Path, name: str, given: str, baseline: object) -> Dimension:
    """The only dimension of a study."""
    return load(folder, f"space: {{{name}: {given}}}\nbaseline: {{{name}: {baseline}}}\n").space[0]


@pytest.mark.parametrize(
    ("name", "given", "written", "exact"),
    [
        ("dropout", "{low: 0, high: 0.7, step: 0.1}", SEVENTH, 0.6),
        ("dropout", "{low: 0, high: 0.7, step: 0.1}", 0, 0.0),
        ("dropout", "{low: 0, high: 0.7, step: 0.1}", 7 * 0.1, 0.7),
        ("dropout", "{low: 0, high: 0.7, step: 0.1}", math.nextafter(0.0, -1.0), 0.0),
        ("dropout", "{low: 0.05, high: 0.65, step: 0.1}", 0.05 + 3 * 0.1, 0.35),
        ("lr", "{low: 1e-5, high: 7e-5, step: 1e-5}", 1e-5 + 5 * 1e-5, 6e-5),
        ("dropout", "{low: 0, high: 0.7}", SEVENTH, SEVENTH),
        ("lr", "{low: 1e-5, high: 1e-1, log: true}", 0.1 * 0.1 * 0.1, 0.1 * 0.1 * 0.1),
        ("layers", "{low: 1, high: 4}", 2.0, 2),
        ("batch_size", "{low: 8, high: 64, step: 8}", 16.0, 16),
        ("dropout", "{choices: [0.1, 0.3]}", 0.1 + 0.2, 0.3),
        ("layers", "{choices: [1, 2]}", 2.0, 2),
        ("norm_first", "{choices: [true, false]}", False, False),
    ],
)
def test_rounding_errors_are_removed(name: str, given: str, written: Any, exact: Any, tmp_path: Path) -> None:
    """A number on steps is the decimal of its step, a whole number an int, a choice as it is listed."""
    dim = dimension(tmp_path, name, given, str(exact).lower())
    assert (dim.rounded(written), dim.contains(written)) == (exact, True)
    assert type(dim.rounded(written)) is type(exact)


@pytest.mark.parametrize(
    ("name", "given", "outside"),
    [
        (
            "dropout",
            "{low: 0.1, high: 0.5, step: 0.1}",
            [0.15, 0.1001, 0.6, 0.0, math.nan, math.inf, 10**400, True, "0.2", None, [0.2]],
        ),
        ("dropout", "{low: 0.1, high: 0.5}", [0.6, 0.0, math.nan, math.inf, 10**400, True, "0.2"]),
        ("layers", "{low: 1, high: 4}", [0, 5, 1.5, True, math.nan, 10**400, 1e300]),
        ("batch_size", "{low: 8, high: 64, step: 8}", [9, 16.5, 72, 0]),
        ("layers", "{choices: [1, 2]}", [True, 3, "1"]),
        ("norm_first", "{choices: [true, false]}", [1, 0, 1.0, "true"]),
        ("dropout", "{choices: [0.1, 0.3]}", [0.30001, 0.2, True]),
    ],
)
def test_other_values_stay_outside(name: str, given: str, outside: list[Any], tmp_path: Path) -> None:
    """What is not on the grid or not of the setting's type is outside: True is not 1."""
    baseline = {"dropout": 0.1, "layers": 2, "batch_size": 16, "norm_first": "true"}[name]
    dim = dimension(tmp_path, name, given, baseline)
    assert [value for value in outside if dim.contains(value)] == []


def test_study_files_are_rounded(tmp_path: Path) -> None:
    """A baseline and a condition mean the step that they are nearest to; nearly equal choices are one choice twice."""
    space = "{dropout: {low: 0, high: 0.7, step: 0.1}, lr: {low: 1e-4, high: 1e-2, when: {dropout: [0.30000000000000004]}}}"
    definition = load(tmp_path, f"space: {space}\nbaseline: {{dropout: 0.30000000000000004, lr: 1e-3}}\n")
    assert definition.baseline == {"dropout": 0.3, "lr": 1e-3}
    assert definition.space[1].text() == "0.0001 .. 0.01 when model.dropout is 0.3"
    assert len(active_dimensions(definition.space, {"dropout": 0.1 + 0.2})) == 2
    with pytest.raises(DefinitionError, match="lists a choice twice"):
        load(tmp_path, "space: {dropout: {choices: [0.3, 0.30000000000000004]}}\nbaseline: {dropout: 0.3}\n")


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_draws_each_step_once(name: str, tmp_path: Path) -> None:
    """Sixteen combinations of eight steps and two choices are each proposed once, then none."""
    space = "{dropout: {low: 0, high: 0.7, step: 0.1}, layers: {low: 1, high: 2}}"
    definition = load(tmp_path, f"sampler: {{name: {name}}}\nspace: {space}\nbaseline: {{dropout: 0.1, layers: 1}}\n")
    study = optuna.create_study()
    found, tried = [], Tried(definition)
    for number in range(17):
        study.sampler = definition.sampler.make(number, 0, definition.space)
        trial = study.ask()
        tried.add(study.get_trials(deepcopy=False))
        params = propose(study, study.trials[number], definition, tried.except_for(number), number)
        for dim in definition.space if params else ():
            shape = dim.distribution()
            study._storage.set_trial_param(trial._trial_id, dim.name, shape.to_internal_repr(params[dim.name]), shape)
        study.tell(trial, None if params is None else float(number % 5), state=None if params else optuna.trial.TrialState.FAIL)
        found += [] if params is None else [(params["dropout"], params["layers"])]
    assert sorted(found) == [(tenth, layers) for tenth in TENTHS for layers in (1, 2)]


def test_each_step_is_trained_once(place: Path, tiny: Path, cli: Cli) -> None:
    """A search over eight values tries all eight, whatever other programs enqueue, and exports them as they are written."""
    (place / "steps.yaml").write_text(STEPS, encoding="utf-8")
    run = ("run", "steps.yaml", "--data", tiny)
    assert cli(*run, "--trials", 1).code == 0
    study = optuna.load_study(study_name="steps", storage=storage_of(place))
    for value in (SEVENTH, 0.6, 0.1 + 0.2):
        study.enqueue_trial({"dropout": value})
    done = cli(*run)
    assert "the space is exhausted: 8 combinations were tried" in done.out
    trials = stored_trials(place, "steps")
    trained = {trial.number: trial.params["dropout"] for trial in trials if trial.state.name == "COMPLETE"}
    assert sorted(trained.values()) == TENTHS
    assert [trial.user_attrs["reason"] for trial in trials if trial.state.name == "FAIL"] == ["trial 1 had the same parameters"]
    assert (trained[1], trained[3]) == (0.6, 0.3)
    exported = parse_yaml(cli("export", "steps", "--trial", 1).out, "")
    assert exported["model"]["dropout"] == json.loads(attribute(trials[1], "settings"))["model"]["dropout"] == 0.6


def test_a_study_of_an_earlier_version(place: Path, tiny: Path, cli: Cli) -> None:
    """Where an earlier version stored 0.6000000000000001, that counts as 0.6, also in its baseline."""
    (place / "steps.yaml").write_text(STEPS.replace("dropout: 0.1}", "dropout: 0.6}"), encoding="utf-8")
    run = ("run", "steps.yaml", "--data", tiny)
    assert cli(*run, "--trials", 1).code == 0
    storage = optuna.storages.RDBStorage(storage_of(place))
    study = optuna.load_study(study_name="steps", storage=storage)
    lines = json.loads(study.user_attrs["identity"])
    assert lines["baseline: dropout"] == "0.6"
    study.set_user_attr("identity", json.dumps({**lines, "baseline: dropout": str(SEVENTH)}))
    with storage.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE trial_params SET param_value = {SEVENTH!r}")
    storage.engine.dispose()
    assert stored_trials(place, "steps")[0].params == {"dropout": SEVENTH}
    done = cli(*run)
    assert "the space is exhausted: 8 combinations were tried" in done.out
    drawn = [trial.params["dropout"] for trial in stored_trials(place, "steps")]
    assert (drawn[0], sorted(drawn[1:])) == (SEVENTH, [tenth for tenth in TENTHS if tenth != 0.6])


def test_a_trial_outside_the_space_does_not_exhaust_it(place: Path, tiny: Path, cli: Cli) -> None:
    """A value that another program tried outside the range is not one of its combinations."""
    (place / "steps.yaml").write_text(STEPS.replace("high: 0.7", "high: 0.2"), encoding="utf-8")
    run = ("run", "steps.yaml", "--data", tiny)
    assert cli(*run, "--trials", 1).code == 0
    study = optuna.load_study(study_name="steps", storage=storage_of(place))
    shape = {"dropout": optuna.distributions.FloatDistribution(0, 1)}
    study.add_trial(optuna.trial.create_trial(value=9.0, params={"dropout": 0.9}, distributions=shape))
    assert "the space is exhausted: 3 combinations were tried" in cli(*run).out
    assert sorted(trial.params["dropout"] for trial in stored_trials(place, "steps")) == [0.0, 0.1, 0.2, 0.9]


@pytest.mark.parametrize(
    ("space", "sampler", "wider"),
    [
        ("{norm_first: {choices: [true]}}", "tpe", False),
        ("{layers: {low: 1, high: 2}}", "tpe", True),
        ("{layers: {low: 1, high: 2}, dropout: {low: 0, high: 0.1, step: 0.1}}", "cmaes", False),
    ],
)
def test_what_continues_an_exhausted_space(space: str, sampler: str, wider: bool, place: Path, tiny: Path, cli: Cli) -> None:
    """`--more` cannot add trials to an exhausted space: the message names what can, and that works."""
    text = f"sampler: {{name: {sampler}}}\npruner: {{name: none}}\n{SMALL.replace('layers: 1, ', '')}space: {space}\n"
    text += "baseline: {layers: 1}\n" if "layers" in space else "baseline: {norm_first: true}\n"
    (place / "steps.yaml").write_text(text.replace("layers: 1}\n", "layers: 1, dropout: 0}\n") if "dropout" in space else text)
    run = ("run", "steps.yaml", "--data", tiny)
    for more in (("--trials", 9), ("--more", 2)):
        shown = " ".join(cli(*run, *more).out.split())
        assert "the space is exhausted" in shown
        assert "--more" not in shown
        assert "a new study that has a larger space (`--as NAME --from steps`)" in shown
        assert ("a wider range (`--allow-wider`)" in shown) == wider
    if wider:
        again = cli(*run, "--trials", 9, "--allow-wider", "--set", "space.layers.high=3")
        assert "3 combinations were tried" in again.out
    larger = cli(
        *run,
        "--as",
        "larger",
        "--from",
        "steps",
        "--trials",
        2,
        "--set",
        "space.width={choices: [16, 32]}",
        "--set",
        "fixed={epochs: 1, batch_size: 8, ffn_width: 16}",
        "--set",
        "baseline.width=16",
    )
    assert larger.code == 0
