"""A warm start from another study: its best, where they are legal, and never what the sealed signers have chosen."""

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
    """A place with a finished study `tiny` of six trials, and a new one."""
    folder = tmp_path / "place"
    shutil.copytree(searched, folder)
    (folder / "new.yaml").write_text(NEW, encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def test_the_best_are_tried_first(place: Path, tiny: Path, cli: Cli) -> None:
    """After the baseline the best of the other study, with what was fixed there; once, however often the command is given."""
    run = ("run", "new.yaml", "--data", tiny, "--from", "tiny", "--from-best", 3)
    done = cli(*run, "--trials", 2)
    assert done.code == 0, done.err
    assert cli(*run, "--trials", 5).code == 0
    old = sorted(stored_trials(place), key=lambda trial: (trial.value, trial.number))
    best = [trial for trial in old if trial.number != 0][:3] if old[0].number else old[1:4]
    new = stored_trials(place, "new")
    assert [trial.params for trial in new[1:4]] == [{**trial.params, "activation": "relu"} for trial in best]
    assert [trial.user_attrs.get("from") for trial in new] == [
        None,
        *(f"tiny trial {trial.number}" for trial in best),
        None,
    ]
    assert f"tried first, from the best of tiny: trial {', '.join(str(t.number) for t in best)}" in done.err
    assert len({json.dumps(trial.params, sort_keys=True) for trial in new}) == 5


def test_what_is_not_legal_is_left_out(place: Path, tiny: Path, cli: Cli) -> None:
    """And said; the rest is tried."""
    text = NEW.replace("high: 1e-1", "high: 2e-3")
    (place / "new.yaml").write_text(text, encoding="utf-8")
    done = cli("run", "new.yaml", "--data", tiny, "--from", "tiny", "--trials", 4)
    assert done.code == 0
    assert "is not tried here: lr" in done.err
    assert all(trial.params["lr"] <= 2e-3 for trial in stored_trials(place, "new"))


def test_no_knowledge_of_sealed_signers(place: Path, tiny: Path, cli: Cli) -> None:
    """A study that has validated on signers which are sealed here would tell what they like."""
    done = cli("run", "new.yaml", "--data", tiny, "--from", "tiny", "--seed", 3, "--set", "data.test=[9001, 9002]")
    assert done.code == 2
    assert "chose its best trials with signers that are sealed here" in done.err


@pytest.mark.parametrize(("source", "said"), [("nope", "`nope`"), ("empty", "no trial of `empty` is complete")])
def test_nothing_to_start_from(source: str, said: str, place: Path, tiny: Path, cli: Cli) -> None:
    """A study that is not there, or has no complete trial."""
    assert cli("run", "new.yaml", "--data", tiny, "--as", "empty", "--set", "lr=1e30", "--max-failures", 0).code == 1
    done = cli("run", "new.yaml", "--data", tiny, "--from", source)
    assert (done.code, said in done.err) == (2, True)
    assert "new" not in cli("list").out.split(), "nothing was begun"


def test_no_knowledge_of_sealed_signers_by_a_chain(place: Path, tiny: Path, cli: Cli) -> None:
    """What a study started from has looked at, it has looked at itself."""
    own = ("--set", "data.train=[9003]", "--set", "data.validation=[9004]", "--set", "data.test=none")
    assert cli("run", "new.yaml", "--data", tiny, "--from", "tiny", "--as", "middle", *own, "--trials", 2).code == 0
    sealed = ("--seed", 1, "--set", "data.train=[9003]", "--set", "data.validation=[9004]", "--set", "data.test=[9001, 9002]")
    done = cli("run", "new.yaml", "--data", tiny, "--from", "middle", *sealed)
    assert (done.code, "chose its best trials with signers that are sealed here" in done.err) == (2, True)


def test_into_a_study_that_is_under_way(place: Path, tiny: Path, cli: Cli) -> None:
    """Nothing is tried twice, and a study does not start from itself."""
    assert cli("run", "tiny.yaml", "--data", tiny, "--from", "tiny", "--trials", 7).code == 2
    assert cli("run", "tiny.yaml", "--data", tiny, "--as", "same", "--trials", 3).code == 0
    assert cli("run", "tiny.yaml", "--data", tiny, "--as", "same", "--from", "tiny", "--from-best", 6, "--trials", 6).code == 0
    trials = stored_trials(place, "same")
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * len(trials)
