"""Version 0.1: its study resumes to the numbers it would have given, and every command reads what it left.

`version_0_1/` was written by version 0.1.0 with the data set of the fixture `tiny`: a search killed in its sixth trial after a
checkpoint, a confirmation with two seeds, an opening of the test signers, an export and a model. `expected.json` holds what
the same version found when it resumed both.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from launch import ROOT, stored_trials

from search.definition.trial_attributes import attribute

SOURCE = ROOT / "tests" / "version_0_1"
EXPECTED = json.loads((SOURCE / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture
def old(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of version 0.1, entered."""
    folder = tmp_path / "old"
    shutil.copytree(SOURCE, folder)
    (folder / "data").symlink_to(tiny)
    monkeypatch.chdir(folder)
    return folder


def trials_of(folder: Path, study: str) -> list[dict[str, Any]]:
    """The trials of a study in the form of `expected.json`."""
    return [
        {
            "number": trial.number,
            "state": trial.state.name,
            "params": trial.params,
            "values": trial.values,
            "reported": {str(step): value for step, value in trial.intermediate_values.items()},
        }
        for trial in stored_trials(folder, study)
    ]


def assert_same(trials: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Parameters and states are equal; losses may differ in the last digits between kinds of CPUs."""
    assert len(trials) == len(expected)
    for trial, other in zip(trials, expected, strict=True):
        assert {**trial, "values": 0, "reported": 0} == {**other, "values": 0, "reported": 0}
        assert trial["values"] == (other["values"] and pytest.approx(other["values"], rel=1e-4))
        assert trial["reported"] == pytest.approx(other["reported"], rel=1e-4)


def test_a_killed_search_resumes(old: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interrupted trial continues from its checkpoint, and by PyTorch all trials and trainings get the same numbers."""
    monkeypatch.setenv("SEARCH_KERNEL", "off")
    done = cli("run", "tiny.yaml", "--data", "data")
    assert done.code == 0, done.err
    assert "trial 5 was interrupted: resuming after epoch 1" in done.err
    assert_same(trials_of(old, "tiny"), EXPECTED["tiny"])
    done = cli("confirm", "tiny", "--top", 2, "--seeds", 3)
    assert done.code == 0, done.err
    trained, then = (
        {tuple(one["params"].values()): {**one, "number": 0} for one in ones}
        for ones in (trials_of(old, "tiny/confirm"), EXPECTED["tiny/confirm"])
    )
    both = sorted(trained.keys() & then.keys())
    assert len(both) > 6, "more than version 0.1 had trained; since then fewer trainings are enough"
    assert_same([trained[key] for key in both], [then[key] for key in both])


def test_an_interrupted_trial_keeps_to_pytorch(old: Path, cli: Cli) -> None:
    """It ends with the same numbers, and is recorded so, although later trials train by the kernel."""
    done = cli("run", "tiny.yaml", "--data", "data")
    assert done.code == 0, done.err
    assert "trial 5 was interrupted: resuming after epoch 1" in done.err
    assert_same(trials_of(old, "tiny")[:6], EXPECTED["tiny"][:6])
    made_with = [json.loads(attribute(trial, "made_with")) for trial in stored_trials(old)]
    assert ["kernel" in one for one in made_with] == [False] * 6 + [True] * 2


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("status tiny", "trials   5 of 8 finished (4 complete, 1 pruned, 1 running)"),
        ("status tiny --json", '"openings": [{'),
        ("list", "tiny"),
        ("trials tiny", "0.4038"),
        ("show tiny 2", "0.4038"),
        ("analyze tiny", "confirmation                    6      24"),
        ("export tiny", "label_smoothing: 0.0"),
        ("confirm tiny --top 2 --seeds 2", "1.0523"),
        ("run tiny.yaml --data data --dry-run", "label_smoothing"),
        ("predict model data/9003.hdf5", "9003"),
    ],
)
def test_commands_read_it(command: str, expected: str, old: Path, cli: Cli) -> None:
    """Every command that prints shows the facts that version 0.1 stored."""
    done = cli(*command.split())
    assert done.code == 0, done.err
    assert expected in done.out


def test_commands_write_from_it(old: Path, tiny: Path, cli: Cli) -> None:
    """Report, model, copy and retraining work; its opening of the test signers still counts."""
    assert cli("report", "tiny").code == 0
    assert (old / "runs" / "tiny" / "report.html").exists()
    assert cli("export", "tiny", "--model", "new_model").code == 0
    assert json.loads((old / "new_model" / "labels.json").read_text("utf-8")) == json.loads(
        (old / "model" / "labels.json").read_text("utf-8")
    )
    done = cli("retrain", "best.yaml", "--data", tiny)
    assert done.code == 0, done.err
    assert cli("copy", "tiny", "--to", "sqlite:///copy.db").code == 0
    done = cli("test", "tiny")
    assert done.code == 0
    assert "version  islr-search 0.1.0" in done.out, "the recorded opening is shown, and nothing is opened again"
