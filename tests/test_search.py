"""End-to-end searches on a tiny data set: targets, seeds, stopping, killed processes, failures, pruning, sealed signers."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import h5py
import optuna
import pytest
import torch
from conftest import Cli
from launch import TINY_STUDY, is_in_trial, outcomes, run_cli, start_cli, states, stored_trials, wait_until

from search.commands.resume import resume_command
from search.definition.settings import Configs, settings
from search.definition.trial_attributes import attribute
from search.running.ledger import Ledger
from search.running.trial_source import SearchTrials
from search.study.study import study_data
from search.trial.files import read_curves
from search.trial.trial_run import TrialRun

LONG = ("--set", "epochs=30", "--set", "train.kernel=torch")  # slow enough to be interrupted
DIVERGES = ("--set", "space.lr={choices: [1e-3, 1e30]}", "--set", "sampler={name: random}")
PRUNES = (
    "--set",
    "space={lr: {choices: [3e-2, 1e-6, 2e-6, 3e-6, 4e-6, 5e-6, 6e-6, 2e-2]}}",
    "--set",
    "baseline={lr: 3e-2}",
    "--set",
    "pruner={name: median, startup: 1, warmup_epochs: 1}",
    "--set",
    "sampler={name: random}",
    "--set",
    "epochs=5",
)


def test_target_number_of_trials(place: Path, tiny: Path, cli: Cli) -> None:
    """`--trials` is the total, so the same command again does nothing; `--more` adds trials."""
    done = cli("run", "tiny.yaml", "--data", tiny, "--trials", 3)
    assert done.code == 0
    assert "3 of 3 trials finished (3 complete, 0 pruned, 0 failed)" in done.out
    before = outcomes(place)
    again = cli("run", "tiny.yaml", "--data", tiny, "--trials", 3)
    assert again.code == 0
    assert "3 of 3 trials finished" in again.out
    assert outcomes(place) == before
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 2).code == 0
    assert outcomes(place) == before
    assert cli("run", "tiny.yaml", "--data", tiny, "--more", 1).code == 0
    assert cli("run", "tiny.yaml", "--data", tiny).code == 0, "the target in the study file, 4, is reached"
    assert states(place) == ["COMPLETE"] * 4


def test_baseline_is_trial_0(searched: Path) -> None:
    """Trial 0, and no other trial, has the values of the baseline."""
    trials = stored_trials(searched)
    baseline = {"label_smoothing": 0.0, "lr": 1e-3, "dropout": 0.1}
    assert [trial.params == baseline for trial in trials] == [True] + [False] * 5


def test_no_parameters_are_drawn_twice(searched: Path) -> None:
    """The sampler gets a different seed for each trial, so random startup trials do not repeat."""
    assert len({tuple(trial.params.values()) for trial in stored_trials(searched)}) == 6


def test_attributes_of_a_trial(searched: Path) -> None:
    """Recorded settings match the parameters, every epoch is reported, and the curve file matches the reports."""
    for trial in stored_trials(searched):
        used = json.loads(attribute(trial, "settings"))
        assert used["train"]["label_smoothing"] == trial.params["label_smoothing"]
        assert used["train"]["lr"] == trial.params["lr"]
        assert used["model"]["dropout"] == trial.params["dropout"]
        assert (used["model"]["width"], used["train"]["epochs"]) == (16, 2)
        assert {f"{group}.{field}" for group, fields in used.items() for field in fields} == settings().keys()
        result = json.loads(attribute(trial, "result"))
        assert result["val_loss"] == trial.value == min(trial.intermediate_values.values())
        assert result["epochs"] == 2
        assert attribute(trial, "made_with")
        curve = read_curves(searched / "runs" / "tiny" / "trials" / f"{trial.number:04d}" / "curve.csv")[0]
        assert {record.epoch: record.val_loss for record in curve} == trial.intermediate_values
    assert len({trial.user_attrs["seed"] for trial in stored_trials(searched)}) == 6


def test_training_uses_the_sampled_label_smoothing(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training step computes the loss with the label smoothing of its trial."""
    from model import loss

    real, seen = loss.smoothed_cross_entropy, []

    def spy(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        if logits.requires_grad:  # only training steps
            seen.append(label_smoothing)
        return real(logits, labels, label_smoothing)

    monkeypatch.setattr(loss, "smoothed_cross_entropy", spy)
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 3).code == 0
    steps = len(seen) // 3
    assert seen == [trial.params["label_smoothing"] for trial in stored_trials(place) for _ in range(steps)]


def test_search_is_reproducible(tiny: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same seed, ten trials are identical, also when run as five and five more; another seed gives other trials."""
    results = []
    for name, runs in (("one", ["--trials=10"]), ("two", ["--trials=10"]), ("halves", ["--trials=5", "--more=5"])):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        (folder / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
        for run in runs:
            assert cli("run", "tiny.yaml", "--data", tiny, run).code == 0
        results.append(outcomes(folder))
    assert len(results[0]) == 10
    assert results[0] == results[1]
    assert results[0] == results[2]
    assert cli("run", "tiny.yaml", "--data", tiny, "--seed=1", "--as=other", "--trials=3").code == 0
    assert outcomes(tmp_path / "halves", "other")[1][2] != results[0][1][2]


@pytest.mark.parametrize("sampler", ["tpe, startup: 2", "random"])
@pytest.mark.parametrize("interrupted_trial", [1, 3])
def test_interrupted_between_two_parameters(
    sampler: str, interrupted_trial: int, tiny: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that was interrupted while its parameters were stored is resumed with the same parameters."""
    arguments = ("run", "tiny.yaml", "--data", tiny, "--trials", 5, "--set", f"sampler={{name: {sampler}}}")
    for name in ("uninterrupted", "interrupted"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "uninterrupted")
    assert cli(*arguments).code == 0

    monkeypatch.chdir(tmp_path / "interrupted")
    with monkeypatch.context() as patch:
        real = Ledger.set_trial_param

        def store(self: Ledger, trial_id: int, name: str, *rest: Any) -> None:
            if self.get_trial(trial_id).number == interrupted_trial and name == "lr":
                raise KeyboardInterrupt
            real(self, trial_id, name, *rest)

        patch.setattr(Ledger, "set_trial_param", store)
        assert cli(*arguments).code == 130
    assert states(tmp_path / "interrupted")[interrupted_trial:] == ["RUNNING"]
    assert cli(*arguments).code == 0
    assert outcomes(tmp_path / "interrupted") == outcomes(tmp_path / "uninterrupted")


def test_interrupted_while_a_second_draw_is_stored(
    tiny: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial whose first draw was rejected gets the parameters of the second draw, even if storing them is interrupted."""
    arguments = ("run", "tiny.yaml", "--data", tiny, "--trials", 9, "--set", "sampler={name: random}", "--set", "epochs=1")
    space = "space={label_smoothing: {choices: [0.0, 0.1, 0.2]}, lr: {choices: [1e-3, 2e-3, 3e-3]}}"
    arguments = (*arguments, "--set", space, "--set", "baseline={}", "--set", "baseline.lr=1e-3")
    for name in ("uninterrupted", "interrupted"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "uninterrupted")
    assert cli(*arguments).code == 0
    assert states(tmp_path / "uninterrupted") == ["COMPLETE"] * 9

    monkeypatch.chdir(tmp_path / "interrupted")
    real = Ledger.set_trial_param
    interrupted = []

    def store(self: Ledger, trial_id: int, name: str, *rest: Any) -> None:
        if name == "lr" and trial_id not in interrupted:
            interrupted.append(trial_id)
            raise KeyboardInterrupt
        real(self, trial_id, name, *rest)

    monkeypatch.setattr(Ledger, "set_trial_param", store)
    for _ in range(9):
        assert cli(*arguments).code == 130
    assert cli(*arguments).code == 0
    assert outcomes(tmp_path / "interrupted") == outcomes(tmp_path / "uninterrupted")


def test_orphaned_trial_finished_before_it_is_resumed(
    place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orphaned trial whose result is recorded after this run has read the study is not resumed."""
    run = ("run", "tiny.yaml", "--data", tiny)
    with monkeypatch.context() as patch:
        patch.setattr(TrialRun, "next_step", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        assert cli(*run, "--trials", 1).code == 130
    assert states(place) == ["RUNNING"]
    real = SearchTrials._orphaned

    def orphaned(self: SearchTrials, orphan: optuna.trial.FrozenTrial) -> optuna.Trial:
        other = optuna.load_study(study_name="tiny", storage=f"sqlite:///{place / 'runs' / 'studies.db'}")
        if other.trials[0].state.name == "RUNNING":
            other.tell(0, 1.0)
        return real(self, orphan)

    monkeypatch.setattr(SearchTrials, "_orphaned", orphaned)
    assert cli(*run, "--trials", 2).code == 0
    assert states(place) == ["COMPLETE"] * 2


def test_trial_ended_by_another_program(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training of such a trial stops, and the search continues with other trials."""
    real = optuna.Trial.report

    def report(self: optuna.Trial, value: float, step: int) -> None:
        if (self.number, step) == (1, 1):
            other = optuna.load_study(study_name="tiny", storage=f"sqlite:///{place / 'runs' / 'studies.db'}")
            other.tell(1, state=optuna.trial.TrialState.FAIL)
        real(self, value, step)

    monkeypatch.setattr(optuna.Trial, "report", report)
    done = cli("run", "tiny.yaml", "--data", tiny, "--trials", 3)
    assert done.code == 0
    assert "trial 1 was ended by another program; its training stops" in done.err
    assert states(place) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


def test_interrupted_between_report_and_pruning(tiny: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that was about to be pruned when the run was interrupted is pruned at the same epoch by the next run."""
    for name in ("uninterrupted", "interrupted"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    arguments = ("run", "tiny.yaml", "--data", tiny, "--trials", 6, *PRUNES)
    monkeypatch.chdir(tmp_path / "uninterrupted")
    assert cli(*arguments).code == 0
    assert "PRUNED" in states(tmp_path / "uninterrupted")

    monkeypatch.chdir(tmp_path / "interrupted")
    with monkeypatch.context() as patch:
        real = optuna.Trial.should_prune

        def should_prune(self: optuna.Trial) -> bool:
            if real(self):
                raise KeyboardInterrupt
            return False

        patch.setattr(optuna.Trial, "should_prune", should_prune)
        assert cli(*arguments).code == 130
    assert states(tmp_path / "interrupted")[-1] == "RUNNING"
    assert cli(*arguments).code == 0
    assert outcomes(tmp_path / "interrupted") == outcomes(tmp_path / "uninterrupted")


def test_pruning(place: Path, tiny: Path, cli: Cli) -> None:
    """Poor trials are pruned early and count as finished."""
    done = cli("run", "tiny.yaml", "--data", tiny, "--trials", 6, *PRUNES)
    assert done.code == 0
    trials = stored_trials(place)
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert pruned
    assert len(trials) == 6
    assert any(max(trial.intermediate_values) < 5 for trial in pruned), "no trial ended before its last epoch"
    assert f"6 of 6 trials finished ({6 - len(pruned)} complete, {len(pruned)} pruned, 0 failed)" in done.out
    assert "pruned" in done.err


def test_failed_trial_does_not_end_the_search(place: Path, tiny: Path, cli: Cli) -> None:
    """A diverged training is recorded as failed with its reason and does not count toward the target."""
    done = cli("run", "tiny.yaml", "--data", tiny, "--trials", 4, *DIVERGES)
    assert done.code == 0
    failed = [trial for trial in stored_trials(place) if trial.state.name == "FAIL"]
    assert failed
    assert all(trial.params["lr"] == 1e30 for trial in failed)
    assert all(trial.user_attrs["reason"] == "the training loss became nan in epoch 1" for trial in failed)
    assert states(place).count("COMPLETE") == 4
    assert f"4 of 4 trials finished (4 complete, 0 pruned, {len(failed)} failed)" in done.out
    assert "the training loss became nan" in done.err
    shown = cli("show", "tiny", failed[0].number)
    assert "reason   the training loss became nan in epoch 1" in shown.out


def test_invalid_combinations_are_not_tried(place: Path, tiny: Path, cli: Cli) -> None:
    """A width that is not a multiple of heads is not proposed; after all valid combinations the space is exhausted."""
    (place / "tiny.yaml").write_text(
        "sampler: {name: random}\nfixed: {epochs: 1, ffn_width: 16, layers: 1}\n"
        "space: {width: {choices: [16, 18]}, heads: {choices: [1, 4]}}\nbaseline: {width: 16, heads: 1}\n",
        encoding="utf-8",
    )
    done = cli("run", "tiny.yaml", "--data", tiny, "--trials", 5)
    assert done.code == 0
    trials = stored_trials(place)
    tried = sorted((trial.params["width"], trial.params["heads"]) for trial in trials if trial.state.name == "COMPLETE")
    assert tried == [(16, 1), (16, 4), (18, 1)]
    assert [(t.params, t.user_attrs["reason"]) for t in trials if t.state.name == "FAIL"] == [
        ({}, "no valid untried combination of settings was found")
    ]
    assert "the space is exhausted: 3 combinations were tried, and no other valid one was found" in done.out
    assert "3 of 5 trials finished (3 complete, 0 pruned, 1 failed)" in done.out
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 5).code == 0
    assert len(stored_trials(place)) == len(trials), "the same command again does nothing"


def test_max_failures(place: Path, tiny: Path, cli: Cli) -> None:
    """One failure more than `--max-failures` ends the run with exit code 1 and the reason of the last failure."""
    done = cli("run", "tiny.yaml", "--data", tiny, "--set", "lr=1e30", "--max-failures", 2)
    assert done.code == 1
    assert states(place) == ["FAIL"] * 3
    assert "error: 3 trials of this run failed, more than --max-failures 2\n" in done.err
    assert "got: the last one: the training loss became nan in epoch 1\n" in done.err


def test_changed_settings_are_refused(place: Path, tiny: Path, cli: Cli) -> None:
    """A study is not continued with another space, setting or seed: the error lists every difference and suggests `--as`."""
    run = ("run", "tiny.yaml", "--data", tiny, "--trials", 1)
    assert cli(*run).code == 0
    changed = cli(*run, "--set", "space.lr.high=0.2", "--set", "epochs=3", "--seed", 5)
    assert changed.code == 2
    assert changed.err.startswith("error: the study `tiny` already exists with different settings\n")
    for line in ("fixed: train.epochs: 2 -> 3", "space: lr: 0.0001 .. 0.1 log -> 0.0001 .. 0.2 log", "seed: 0 -> 5"):
        assert line in changed.err
    assert "fixed: model.width" not in changed.err
    assert "--as NAME" in changed.err.splitlines()[-1]
    assert states(place) == ["COMPLETE"]
    assert cli(*run, "--set", "epochs=3", "--as", "other").code == 0
    assert states(place, "other") == ["COMPLETE"]
    assert cli(*run, "--set", "about=Other words", "--set", "pruner={name: median}").code == 0


def test_study_of_another_program_is_refused(place: Path, tiny: Path, cli: Cli) -> None:
    """Commands refuse a study that this tool did not create; `list` still works."""
    (place / "runs").mkdir()
    url = f"sqlite:///{place / 'runs' / 'studies.db'}"
    study = optuna.create_study(storage=url, study_name="tiny", direction="maximize")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    optuna.create_study(storage=url, study_name="empty", direction="maximize")
    for command in (("run", "tiny.yaml", "--data", tiny), ("run", "tiny.yaml", "--data", tiny, "--as", "empty")):
        assert cli(*command).code == 2
    for command in (("status", "tiny"), ("export", "tiny"), ("trials", "tiny"), ("show", "tiny", 0)):
        done = cli(*command)
        assert (done.code, done.err.splitlines()[0]) == (2, "error: the study `tiny` was not created by this tool")
    assert cli("list").code == 0


@pytest.mark.parametrize("missing", [["identity"], ["identity", "data"], ["identity", "data", "seed", "about", "target"]])
def test_interrupted_while_the_study_was_created(missing: list[str], place: Path, tiny: Path, cli: Cli) -> None:
    """A study without trials whose attributes are incomplete gets all attributes again."""
    url = f"sqlite:///{place / 'runs' / 'studies.db'}"
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 1, "--as", "complete").code == 0
    complete = optuna.load_study(study_name="complete", storage=url)
    study = optuna.create_study(storage=url, study_name="tiny")
    for key in complete.user_attrs.keys() - set(missing):
        study.set_user_attr(key, complete.user_attrs[key])
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 1).code == 0
    assert states(place) == ["COMPLETE"]


def test_trials_and_more_exclude_each_other(place: Path, cli: Cli) -> None:
    """`--trials` and `--more` together are a usage error."""
    assert cli("run", "tiny.yaml", "--trials", 3, "--more", 2).code == 2


def test_timeout(place: Path, tiny: Path, cli: Cli) -> None:
    """A time limit stops the run after an epoch and prints the command that resumes it; the next run resumes the trial."""
    stopped = cli("run", "tiny.yaml", "--data", tiny, "--trials", 100_000, "--timeout", "8s")
    assert stopped.code == 0
    assert "stopped (timeout)" in stopped.err
    assert stopped.err.splitlines()[-1] == f"  islr-search run tiny.yaml --data {tiny} --trials 100000 --timeout 8s"
    finished = states(place).count("COMPLETE")
    assert finished
    assert len(states(place)) - finished <= 1
    assert cli("run", "tiny.yaml", "--data", tiny, "--more", 1).code == 0
    assert states(place) == ["COMPLETE"] * (finished + 1)


def test_timeout_without_a_finished_trial(place: Path, tiny: Path, cli: Cli) -> None:
    """The exit code is 1 if no trial has finished."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--timeout", "0s").code == 1


@pytest.mark.parametrize(
    ("typed", "target", "command"),
    [
        (["run", "x", "--trials", "5"], 5, "run x --trials 5"),
        (["run", "x", "--more", "5"], 8, "run x --trials 8"),
        (["run", "--more=5", "--set", "a=b c"], 8, "run --set 'a=b c' --trials 8"),
        (["run"], 50, "run"),
    ],
)
def test_resume_command(typed: list[str], target: int, command: str) -> None:
    """The resume command has the same target as the command that was typed, with `--more` turned into `--trials`."""
    assert resume_command(typed, target) == f"islr-search {command}"


def test_every_epoch_is_reported(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each epoch is reported to Optuna once, in order."""
    reports: list[tuple[int, int]] = []
    real = optuna.Trial.report

    def report(self: optuna.Trial, value: float, step: int) -> None:
        reports.append((self.number, step))
        real(self, value, step)

    monkeypatch.setattr(optuna.Trial, "report", report)
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 2, "--set", "epochs=3").code == 0
    assert reports == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]


def test_sealed_clips_do_not_affect_the_search(place: Path, tiny: Path, tmp_path: Path, cli: Cli) -> None:
    """The search gives the same results if the clips of the sealed test signers hold garbage."""
    run = ("run", "tiny.yaml", "--trials", 3, "--data")
    assert cli(*run, tiny).code == 0
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{place / 'runs' / 'studies.db'}")
    (sealed,) = study_data(study).split.test
    changed = tmp_path / "changed"
    changed.mkdir()
    for path in tiny.iterdir():
        (changed / path.name).write_bytes(path.read_bytes())
    with h5py.File(changed / f"{sealed}.hdf5", "r+") as h5:
        for clip in h5.values():
            clip["feature"][...] = float("inf")
    assert cli(*run, changed, "--as", "changed").code == 0
    assert outcomes(place, "changed") == outcomes(place)


def test_demo_data_set(place: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    """Without `--data` and SEARCH_DATA the demo data set is created once, and the first line says so."""
    created: list[Path] = []

    def synthesize(folder: Path, **_: object) -> None:
        created.append(folder)
        folder.mkdir()
        for path in tiny.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())

    monkeypatch.setattr("search.running.preparing.synthesize", synthesize)
    first = cli("run", "tiny.yaml", "--trials", 1)
    assert first.code == 0
    assert first.err.splitlines()[0].startswith("No --data and no SEARCH_DATA: searching on the demo set")
    assert cli("run", "tiny.yaml", "--trials", 1).code == 0
    assert created == [Path("runs/data/demo")]
    monkeypatch.setenv("SEARCH_DATA", str(tiny))
    assert "demo" not in cli("run", "tiny.yaml", "--trials", 1).err


def test_json_events(place: Path, tiny: Path, cli: Cli) -> None:
    """With `--json` stdout holds only events, one per line, each with its schema version; stderr is empty."""
    done = cli("run", "tiny.yaml", "--data", tiny, "--trials", 2, "--json")
    events = [json.loads(line) for line in done.out.splitlines()]
    trial = ["trial_started", "epoch_finished", "epoch_finished", "trial_finished"]
    names = [event["event"] for event in events if event["event"] not in ("data_prepared", "working")]
    assert "summing up the trials" in [event.get("what") for event in events]
    assert names == ["run_started", *trial, *trial, "run_finished"]
    assert all(event["schema"] == 1 for event in events)
    assert [event["value"] for event in events if event["event"] == "trial_finished"] == [
        stored.value for stored in stored_trials(place)
    ]
    assert events[-1]["counts"]["complete"] == 2
    assert done.err == ""


def test_dry_run_starts_nothing(place: Path, cli: Cli) -> None:
    """`--dry-run` shows the resolved study, as text or as JSON, and writes no file."""
    shown = cli("run", "tiny.yaml", "--trials", 9, "--set", "epochs=7", "--dry-run")
    assert shown.code == 0
    assert any(line.split() == ["train.epochs", "7", "--set", "epochs=7"] for line in shown.out.splitlines())
    rows = [json.loads(line) for line in cli("run", "tiny.yaml", "--trials", 9, "--dry-run", "--json").out.splitlines()]
    assert {row["key"]: row["value"] for row in rows}["trials"] == "9"
    assert [path.name for path in place.iterdir()] == ["tiny.yaml"]


def test_dry_run_shows_the_source_of_each_value(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources are `--set`, the study file, the environment, an option, and the default."""
    monkeypatch.setenv("SEARCH_DATA", str(tiny))
    shown = cli("run", "tiny.yaml", "--runs", "here", "--set", "lr=0.1", "--seed", 3, "--dry-run", "--json")
    rows = {row["key"]: (row["value"], row["from"]) for row in map(json.loads, shown.out.splitlines())}
    assert rows["train.lr"] == ("0.1", "--set lr=0.1")
    assert rows["train.epochs"] == ("2", "tiny.yaml")
    assert rows["train.optimizer"] == ("adam", "default")
    assert rows["seed"] == ("3", "--seed")
    assert rows["--data"] == (str(tiny), "environment SEARCH_DATA")
    assert rows["--runs"] == ("here", "flag --runs")
    assert rows["--storage"] == ("sqlite:///runs/studies.db", "default")


def test_recorded_settings_are_complete(searched: Path) -> None:
    """The recorded settings of a trial build the same configurations again."""
    used = json.loads(attribute(stored_trials(searched)[3], "settings"))
    from search.definition.settings import build_configs

    rebuilt = build_configs({f"{g}.{name}": value for g, fields in used.items() for name, value in fields.items()}, "here")
    assert isinstance(rebuilt, Configs)
    assert rebuilt.as_dict() == used


@pytest.mark.slow
def test_killed_during_a_trial(place_per_storage: Path, tiny: Path, tmp_path: Path) -> None:
    """After `kill -9` the same command ends with the results of an uninterrupted run: parameters, values and curves."""
    (tmp_path / "uninterrupted").mkdir()
    (tmp_path / "uninterrupted" / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    run = ("run", "tiny.yaml", "--data", str(tiny), "--trials", "6", *LONG)
    assert run_cli(*run, cwd=tmp_path / "uninterrupted").code == 0
    for trial in (0, 2):
        process = start_cli(*run, cwd=place_per_storage)
        wait_until(is_in_trial(place_per_storage, trial), process)
        process.kill()
        process.communicate()
        assert states(place_per_storage) == ["COMPLETE"] * trial + ["RUNNING"]
    status = run_cli("status", "tiny", cwd=place_per_storage)
    assert "orphaned trial 2" in status.out
    done = run_cli(*run, cwd=place_per_storage)
    assert done.code == 0
    assert "trial 2 was interrupted: resuming after epoch" in done.err
    assert outcomes(place_per_storage) == outcomes(tmp_path / "uninterrupted")
    assert states(place_per_storage) == ["COMPLETE"] * 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place_per_storage", "number", "code", "name"),
    [("sqlite", signal.SIGINT, 130, "SIGINT"), ("postgresql", signal.SIGTERM, 143, "SIGTERM")],
    indirect=["place_per_storage"],
)
def test_stopped_by_a_signal(number: int, code: int, name: str, place_per_storage: Path, tiny: Path) -> None:
    """A signal is announced at once; the run prints the command that resumes it, and that command reaches the target."""
    process = start_cli("run", "tiny.yaml", "--data", str(tiny), "--more", "3", *LONG, cwd=place_per_storage)
    wait_until(is_in_trial(place_per_storage, 1), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "stopping after this epoch; press Ctrl-C again to stop at once" in err
    assert f"stopped ({name})" in err
    last = err.splitlines()[-1].strip()
    assert last == f"islr-search run tiny.yaml --data {tiny} --set epochs=30 --set train.kernel=torch --trials 3"
    assert "next" not in out
    assert run_cli(*last.split()[1:], cwd=place_per_storage).code == 0
    assert states(place_per_storage) == ["COMPLETE"] * 3


@pytest.mark.slow
def test_second_signal_stops_at_once(place: Path, tiny: Path) -> None:
    """A second signal stops the run without waiting for the end of the epoch."""
    process = start_cli("run", "tiny.yaml", "--data", str(tiny), *LONG, "--set", "width=512", "--set", "layers=6", cwd=place)
    wait_until(is_in_trial(place, 0, epochs=1), process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 143
    assert states(place) == ["RUNNING"]


@pytest.mark.slow
def test_closed_pipe_does_not_end_the_search(place: Path, tiny: Path) -> None:
    """`run 2>&1 | head` reaches its target, and `trials | head` exits with 0."""
    with start_cli("run", "tiny.yaml", "--data", str(tiny), "--trials", "4", cwd=place) as process:
        assert process.stderr is not None
        process.stderr.readline()
        process.stderr.close()
        assert process.wait(timeout=60) == 0
    assert states(place) == ["COMPLETE"] * 4
    with start_cli("trials", "tiny", cwd=place) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 0
