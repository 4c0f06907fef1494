"""Every sampler and pruner works in a study, and continues identically after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Cli
from launch import outcomes, stored_trials

from search.definition.definition import StudyDefinition
from search.definition.pruners import PRUNERS
from search.definition.samplers import SAMPLERS
from search.definition.strategy import parse_pruner
from search.definition.study_file import load_definition
from search.running.coordinator import Coordinator
from search.running.proposal import Tried, key_of, propose
from search.running.running_trial import RunningTrial
from search.storage.opening import open_storage
from search.trial.job import sampler_seed

SPACE = """
fixed: {epochs: 2, batch_size: 8, width: 16, ffn_width: 16, layers: 1, patience: 0}
space:
  label_smoothing: {low: 0.0, high: 0.6}
  lr: {low: 1e-4, high: 1e-1, log: true}
  activation: {choices: [relu, gelu]}
  optimizer: {choices: [adam, adamw]}
  weight_decay: {low: 1e-4, high: 1e-1, log: true, when: {optimizer: adamw}}
baseline: {label_smoothing: 0.0, lr: 1e-3}
"""
GRID = """
fixed: {epochs: 2, batch_size: 8, width: 16, ffn_width: 16, layers: 1}
space:
  label_smoothing: {choices: [0.0, 0.3]}
  optimizer: {choices: [adam, adamw]}
  weight_decay: {choices: [0.01, 0.1], when: {optimizer: adamw}}
"""
SAMPLER_TEXTS = {
    "tpe": "{name: tpe, startup: 3}",
    "gp": "{name: gp, startup: 3}",
    "cmaes": "{name: cmaes, startup: 2, population: 4}",
    "random": "{name: random}",
    "qmc": "{name: qmc}",
    "grid": "{name: grid}",
    "nsga2": "{name: nsga2, population: 4}",
}
PRUNER_TEXTS = {
    "median": "{name: median, startup: 2, warmup_epochs: 1}",
    "none": "{name: none}",
    "percentile": "{name: percentile, keep: 25, startup: 2, warmup_epochs: 1}",
    "hyperband": "{name: hyperband, min_epochs: 1, reduction: 2}",
    "asha": "{name: asha, min_epochs: 1, reduction: 2}",
    "patient": "{name: patient, patience: 1, startup: 2}",
    "wilcoxon": "{name: wilcoxon, p: 0.3}",
    "threshold": "{name: threshold, upper: 1.12, warmup_epochs: 1}",
}


def test_every_name_is_tested() -> None:
    """Every sampler and pruner is covered by the tests below."""
    assert SAMPLER_TEXTS.keys() == SAMPLERS.keys()
    assert PRUNER_TEXTS.keys() == PRUNERS.keys()


@pytest.mark.parametrize("name", SAMPLER_TEXTS)
def test_each_sampler_finishes_a_study(name: str, place: Path, tiny: Path, cli: Cli) -> None:
    """Each sampler reaches the target with conditions, choices and ranges; the grid covers its space."""
    text = f"trials: 6\nsampler: {SAMPLER_TEXTS[name]}\npruner: {{name: none}}\n{GRID if name == 'grid' else SPACE}"
    (place / "tiny.yaml").write_text(text, encoding="utf-8")
    done = cli("run", "tiny.yaml", "--data", tiny)
    assert done.code == 0, done.err
    trials = stored_trials(place)
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 6
    assert len({key_of(trial.params) for trial in trials}) == 6
    assert all(("weight_decay" in trial.params) == (trial.params["optimizer"] == "adamw") for trial in trials)


@pytest.mark.parametrize("name", PRUNER_TEXTS)
def test_each_pruner_finishes_a_study(name: str, place: Path, tiny: Path, cli: Cli) -> None:
    """Each pruner reaches the target, whichever trials it stops."""
    repeats = 4 if name == "wilcoxon" else 1
    text = f"trials: 5\nrepeats: {repeats}\nsampler: {{name: random}}\npruner: {PRUNER_TEXTS[name]}\n{SPACE}"
    (place / "tiny.yaml").write_text(text, encoding="utf-8")
    done = cli("run", "tiny.yaml", "--data", tiny, "--set", "epochs=4" if repeats == 1 else "epochs=2")
    assert done.code == 0, done.err
    states = [trial.state.name for trial in stored_trials(place)]
    assert len(states) == 5
    assert states[0] == "COMPLETE"
    assert set(states) <= {"COMPLETE", "PRUNED"}


def curve(last: float, epochs: int = 20) -> list[float]:
    """A curve that falls from 3 to `last`."""
    return [last + (3 - last) * 0.7**epoch for epoch in range(1, epochs + 1)]


@pytest.mark.parametrize("name", [name for name in PRUNER_TEXTS if name != "none"])
def test_each_pruner_stops_a_bad_trial_and_no_good_one(name: str) -> None:
    """After nine trials of different quality, it stops at least one of four far worse trials and none of four better ones."""
    pruner = parse_pruner({**parsed(PRUNER_TEXTS[name]), **({"upper": 2.5} if name == "threshold" else {})}, "here").make(20)
    study = optuna.create_study(pruner=pruner, study_name="a", sampler=optuna.samplers.RandomSampler(seed=0))

    def stopped_at(values: list[float]) -> int:
        trial = study.ask()
        for step, value in enumerate(values, 1):
            trial.report(value, step)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                return step
        study.tell(trial, values[-1])
        return 0

    for number in range(9):
        stopped_at(curve(1.0 + number / 10))
    # hyperband distributes them among brackets, some more patient
    bad = [stopped_at([9.0 + step / 10 for step in range(20)]) for _ in range(4)]
    assert any(0 < step < 20 for step in bad)
    assert [stopped_at(curve(0.1 - n / 100)) for n in range(4)] == [0] * 4


def parsed(text: str) -> dict[str, object]:
    """A mapping in YAML."""
    from search.definition.yaml_text import parse_yaml

    found: dict[str, object] = parse_yaml(text, "here")
    return found


def objective(params: Mapping[str, float | str]) -> float:
    """A function to minimize."""
    return float(params["label_smoothing"]) + (0.5 if params["optimizer"] == "adam" else float(params.get("weight_decay", 0)))


def search_of(
    definition: StudyDefinition, url: str, trials: int, worth: Callable[[Mapping[str, float | str]], float] = objective
) -> list[dict[str, object]]:
    """Runs or continues a search as a run does, with the same seeds, but without training."""
    storage = open_storage(url, create=True)
    if "s" in optuna.get_all_study_names(storage):
        study = optuna.load_study(study_name="s", storage=storage)
    else:
        study = optuna.create_study(study_name="s", storage=storage)
        study.enqueue_trial(dict(definition.baseline))
    while sum(trial.state.is_finished() for trial in study.trials) < trials:
        before = [trial for trial in study.get_trials() if trial.state.is_finished()]
        tried = Tried(definition)
        tried.add(before)
        seed = sampler_seed(definition.seed, len(before))
        study.sampler = definition.sampler.make(seed, definition.seed, definition.space)
        trial = study.ask()
        params = propose(study, study.trials[trial.number], definition, tried.except_for(trial.number), seed)
        if params is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            break
        for dim in definition.space:
            if dim.name in params and dim.name not in study.trials[trial.number].params:
                shape = dim.distribution()
                storage.set_trial_param(trial._trial_id, dim.name, shape.to_internal_repr(params[dim.name]), shape)
        study.tell(trial, worth(params))
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("name", SAMPLER_TEXTS)
def test_each_sampler_continues_identically(name: str, tmp_path: Path) -> None:
    """Twelve trials of one run equal four and eight of two runs; another seed gives other trials, except for a grid."""
    space = GRID.replace("[0.01, 0.1]", "[0.01, 0.03, 0.1, 0.3, 1.0]") if name == "grid" else SPACE
    (tmp_path / "s.yaml").write_text(f"trials: 12\nsampler: {SAMPLER_TEXTS[name]}\n{space}", encoding="utf-8")
    definition = load_definition(str(tmp_path / "s.yaml"))
    whole = search_of(definition, f"sqlite:///{tmp_path / 'whole.db'}", 12)
    assert len({key_of(params) for params in whole}) == 12
    search_of(definition, f"sqlite:///{tmp_path / 'cut.db'}", 4)
    assert search_of(definition, f"sqlite:///{tmp_path / 'cut.db'}", 12) == whole
    other = load_definition(str(tmp_path / "s.yaml"), seed=1)
    assert (search_of(other, f"sqlite:///{tmp_path / 'other.db'}", 12) == whole) == (name == "grid")


def test_the_sequence_is_even(tmp_path: Path) -> None:
    """The points of a Sobol sequence fall into nearly all sixteenths of a range; random points would miss several."""
    text = "sampler: {name: qmc}\nspace: {label_smoothing: {low: 0.0, high: 0.6}, dropout: {low: 0.0, high: 0.5}}\n"
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    definition = load_definition(str(tmp_path / "s.yaml"))
    found = search_of(definition, f"sqlite:///{tmp_path / 's.db'}", 33, lambda params: 1.0)[1:]
    for name, high in (("label_smoothing", 0.6), ("dropout", 0.5)):
        cells = {int(16 * float(str(params[name])) / high) for params in found}
        assert len(cells) >= 15, f"{name}: {sorted(cells)}"


def test_the_order_of_the_grid(tmp_path: Path) -> None:
    """The grid starts with the baseline and covers every valid combination; the last dimension changes fastest."""
    (tmp_path / "s.yaml").write_text(f"trials: 9\nsampler: {{name: grid}}\n{GRID}", encoding="utf-8")
    found = search_of(load_definition(str(tmp_path / "s.yaml")), f"sqlite:///{tmp_path / 's.db'}", 9)
    assert [tuple(params.values()) for params in found if params] == [
        (0.0, "adam"),
        (0.0, "adamw", 0.01),
        (0.0, "adamw", 0.1),
        (0.3, "adam"),
        (0.3, "adamw", 0.01),
        (0.3, "adamw", 0.1),
    ]


@pytest.mark.parametrize("pruner", ["asha", "hyperband"])
def test_a_pruning_decision_survives_a_kill(
    pruner: str, place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run dies after the pruner has decided and before the trial is recorded: the next run keeps to the decision."""
    text = f"sampler: {{name: random}}\npruner: {PRUNER_TEXTS[pruner]}\n{SPACE.replace('epochs: 2', 'epochs: 4')}"
    (place / "tiny.yaml").write_text(text, encoding="utf-8")
    (place / "uninterrupted").mkdir()
    monkeypatch.chdir(place / "uninterrupted")  # the same study name: Hyperband's brackets depend on it
    assert cli("run", "../tiny.yaml", "--data", tiny, "--trials", 5).code == 0
    monkeypatch.chdir(place)
    real, died = Coordinator._record, []

    def record(self: Coordinator, running: RunningTrial, state: optuna.trial.TrialState, *args: Any, **kwargs: Any) -> None:
        if state == optuna.trial.TrialState.PRUNED and running.job.trial not in died:
            died.append(running.job.trial)
            raise KeyboardInterrupt
        real(self, running, state, *args, **kwargs)

    monkeypatch.setattr(Coordinator, "_record", record)
    codes = [cli("run", "tiny.yaml", "--data", tiny, "--trials", 5).code for _ in range(6)]
    assert died, codes
    assert codes[: len(died) + 1] == [130] * len(died) + [0]
    assert outcomes(place) == outcomes(place / "uninterrupted")


@pytest.mark.parametrize("began", ["now", "before seeds were shared"])
def test_a_grid_with_repeats_goes_on_as_it_began(
    began: str, place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted trial of a grid resumes exactly, and its study is never mixed: all trials share seeds, or none do."""
    grid = GRID.replace(", adamw", "").split("  weight_decay")[0].replace("[0.0, 0.3]", "[0.0, 0.1, 0.3]")
    text = f"trials: 3\nrepeats: 2\nsampler: {{name: grid}}\n{grid}baseline: {{label_smoothing: 0.0}}\n"
    (place / "tiny.yaml").write_text(text, encoding="utf-8")
    (place / "uninterrupted").mkdir()
    is_old, real = began != "now", RunningTrial.report

    def report(self: RunningTrial, *args: Any, **kwargs: Any) -> bool:
        goes_on = real(self, *args, **kwargs)
        if self.job.trial == 1 and Path("uninterrupted").exists():
            raise KeyboardInterrupt
        return goes_on

    with monkeypatch.context() as patches:
        if is_old:  # neither shared nor recorded
            patches.setattr(StudyDefinition, "shares_seeds", False)
            patches.setattr("search.study.making.SHARES_SEEDS", "unknown")
        patches.setattr(RunningTrial, "report", report)
        assert cli("run", "tiny.yaml", "--data", tiny).code == 130
        patches.chdir(place / "uninterrupted")
        assert cli("run", "../tiny.yaml", "--data", tiny).code == 0
    resumed = cli("run", "tiny.yaml", "--data", tiny)
    assert resumed.code == 0, resumed.err
    assert "starting over" not in resumed.out + resumed.err
    assert outcomes(place) == outcomes(place / "uninterrupted")
    assert len({trial.user_attrs["seed"] for trial in stored_trials(place)}) == (3 if is_old else 1)
