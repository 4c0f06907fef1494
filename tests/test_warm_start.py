"""Warm start from another study: its best valid trials, unless they were chosen with signers that are sealed here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import Cli
from launch import stored_trials

NEW = """
trials: 5
pruner: {name: none}
sampler: {name: random}
fixed: {epochs: 2, batch_size: 8, width: 16, ffn_width: 16, layers: 1}
space:
  lr: {low: 1e-4, high: 1e-1, log: true}
  dropout: {low: 0.0, high: 0.5}
  label_smoothing: {low: 0.0, high: 0.6}
  activation: {choices: [relu, gelu]}
baseline: {label_smoothing: 0.0, lr: 1e-3, dropout: 0.1}
"""


@pytest.fixture
def place(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a finished study `tiny` of six trials and the file of a new study."""
    folder = tmp_path / "place"
    shutil.copytree(searched, folder)
    (folder / "new.yaml").write_text(NEW, encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def test_best_trials_are_tried_first(place: Path, tiny: Path, cli: Cli) -> None:
    """The best trials of the other study, with its fixed settings, follow the baseline; a second run does not repeat them."""
    run = ("run", "new.yaml", "--data", tiny, "--from", "tiny", "--from-best", 3)
    done = cli(*run, "--trials", 2)
    assert done.code == 0, done.err
    assert cli(*run, "--trials", 5).code == 0
    source = sorted(stored_trials(place), key=lambda trial: (trial.value, trial.number))
    best = [trial for trial in source if trial.number != 0][:3] if source[0].number else source[1:4]
    new = stored_trials(place, "new")
    assert [trial.params for trial in new[1:4]] == [{**trial.params, "activation": "relu"} for trial in best]
    assert [trial.user_attrs.get("from") for trial in new] == [
        None,
        *(f"tiny trial {trial.number}" for trial in best),
        None,
    ]
    assert f"tried first, from the best of tiny: trial {', '.join(str(t.number) for t in best)}" in done.err
    assert len({json.dumps(trial.params, sort_keys=True) for trial in new}) == 5


def test_trials_outside_the_space_are_skipped(place: Path, tiny: Path, cli: Cli) -> None:
    """Trials outside the new space are skipped with a notice; the others are tried."""
    text = NEW.replace("high: 1e-1", "high: 2e-3")
    (place / "new.yaml").write_text(text, encoding="utf-8")
    done = cli("run", "new.yaml", "--data", tiny, "--from", "tiny", "--trials", 4)
    assert done.code == 0
    assert "is not tried here: lr" in done.err
    assert all(trial.params["lr"] <= 2e-3 for trial in stored_trials(place, "new"))


def test_trials_chosen_with_sealed_signers_are_refused(place: Path, tiny: Path, cli: Cli) -> None:
    """A study that validated on signers that are sealed here cannot be a source."""
    done = cli("run", "new.yaml", "--data", tiny, "--from", "tiny", "--seed", 3, "--set", "data.test=[9001, 9002]")
    assert done.code == 2
    assert "chose its best trials with signers that are sealed here" in done.err


@pytest.mark.parametrize(("source", "error"), [("nope", "`nope`"), ("empty", "no trial of `empty` is complete")])
def test_unusable_source(source: str, error: str, place: Path, tiny: Path, cli: Cli) -> None:
    """A source that does not exist or has no complete trial is refused, and no study is created."""
    assert cli("run", "new.yaml", "--data", tiny, "--as", "empty", "--set", "lr=1e30", "--max-failures", 0).code == 1
    done = cli("run", "new.yaml", "--data", tiny, "--from", source)
    assert (done.code, error in done.err) == (2, True)
    assert "new" not in cli("list").out.split(), "no study was created"


def test_sealed_signers_in_a_chain_of_warm_starts(place: Path, tiny: Path, cli: Cli) -> None:
    """The validation signers of a source's own source count as well."""
    own = ("--set", "data.train=[9003]", "--set", "data.validation=[9004]", "--set", "data.test=none")
    assert cli("run", "new.yaml", "--data", tiny, "--from", "tiny", "--as", "middle", *own, "--trials", 2).code == 0
    sealed = ("--seed", 1, "--set", "data.train=[9003]", "--set", "data.validation=[9004]", "--set", "data.test=[9001, 9002]")
    done = cli("run", "new.yaml", "--data", tiny, "--from", "middle", *sealed)
    assert (done.code, "chose its best trials with signers that are sealed here" in done.err) == (2, True)


def test_warm_start_of_an_existing_study(place: Path, tiny: Path, cli: Cli) -> None:
    """Trials that were already tried are not repeated; a study cannot be its own source."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--from", "tiny", "--trials", 7).code == 2
    assert cli("run", "tiny.yaml", "--data", tiny, "--as", "same", "--trials", 3).code == 0
    assert cli("run", "tiny.yaml", "--data", tiny, "--as", "same", "--from", "tiny", "--from-best", 6, "--trials", 6).code == 0
    trials = stored_trials(place, "same")
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * len(trials)
