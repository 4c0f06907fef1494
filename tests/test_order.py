"""The order of the clips that the trials of a study share: recorded, followed by whatever engine goes on, trained again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from conftest import Cli
from launch import TINY_STUDY, storage_of, stored_trials

from search.definition.trial_attributes import attribute
from search.engines.engine_options import EngineOptions
from search.trial.job import order_seed


@pytest.fixture
def shared(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a finished study whose trials share an order. It is made as with the engine `lockstep`."""
    with monkeypatch.context() as patch:
        patch.setattr(EngineOptions, "shares_order", lambda options, device, apart: True)
        assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 2).code == 0
    return place


def edited(place: Path, name: str, **changes: Any) -> Path:
    """The exported configuration with other values; None leaves a key out."""
    content = {**yaml.safe_load((place / "best.yaml").read_text(encoding="utf-8")), **changes}
    path = place / name
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}), encoding="utf-8")
    return path


def test_the_order_of_a_study(shared: Path, tiny: Path, cli: Cli) -> None:
    """It is in the study, its trials, their files and their models. Trained again, or from a copy, the number comes back."""
    assert optuna.load_study(study_name="tiny", storage=storage_of(shared)).user_attrs["order_seed"] == order_seed(0)
    assert [attribute(trial, "first_order") for trial in stored_trials(shared)] == [0, 0]
    shown = json.loads(cli("show", "tiny", 1, "--json").out)
    assert (shown["order_seed"], shown["first_order"]) == (order_seed(0), 0)
    assert "order    of the clips: that of the study, from its epoch 1 on" in cli("show", "tiny", 1).out

    assert cli("export", "tiny", "--trial", 1, "--output", "best.yaml").code == 0
    content = yaml.safe_load((shared / "best.yaml").read_text(encoding="utf-8"))
    assert (content["order_seed"], content["first_order"]) == (order_seed(0), 0)
    assert "reproduced bit for bit" in cli("retrain", "best.yaml", "--output", "model").out
    assert f"shared by the trials of the study (seed {order_seed(0)}, epoch 1 on)" in (shared / "model/README.md").read_text()
    assert "reproduced bit for bit" in cli("retrain", "model/config.yaml").out
    assert "NOT reproduced" in cli("retrain", edited(shared, "own.yaml", order_seed=None)).out
    assert "NOT reproduced" in cli("retrain", edited(shared, "later.yaml", first_order=1)).out

    assert cli("copy", "tiny", "--to", "sqlite:///copy.db").code == 0
    assert cli("export", "tiny", "--trial", 1, "--storage", "sqlite:///copy.db", "--output", "copy.yaml").code == 0
    assert "reproduced bit for bit" in cli("retrain", "copy.yaml").out

    done = cli("retrain", "best.yaml", "--seed", 5, "--output", "other")  # shares nothing with the trial
    assert "  order of the clips: shared by the trials of the study -> its own" in done.out.splitlines()
    assert "order_seed" not in yaml.safe_load((shared / "other/config.yaml").read_text(encoding="utf-8"))
    assert "reproduced bit for bit" in cli("retrain", "other/config.yaml").out


def test_whoever_continues_a_study_follows_its_order(
    shared: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study keeps the order that it was made with, or keeps having none, which is said."""
    said = "each of its trials has an order of the clips of its own"
    assert said not in cli("run", "tiny.yaml", "--data", tiny, "--trials", 3).err
    assert [attribute(trial, "first_order") for trial in stored_trials(shared)] == [0, 0, 0]
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 1, "--as", "without", "--from", "tiny").code == 0
    done = cli("run", "tiny.yaml", "--data", tiny, "--trials", 1, "--as", "without", "--engine", "lockstep")
    assert (done.code, said in done.err) == (0, True)
    assert {attribute(trial, "first_order") for trial in stored_trials(shared, "without")} == {None}
    assert cli("report", "tiny", "without").code == 0
    page = (shared / "runs/tiny-vs-without.html").read_text(encoding="utf-8")
    assert re.search(r"order of the clips\W.*shared by its trials.*each trial(&#39;|')s own", page, re.DOTALL)
    assert "stack" not in yaml.safe_load(cli("export", "tiny").out)
    assert "order_seed" not in optuna.load_study(study_name="without", storage=storage_of(shared)).user_attrs
    assert said not in cli("run", "tiny.yaml", "--data", tiny, "--trials", 4).err


def test_a_trial_from_a_stack_trains_again_to_its_number(place: Path, tiny: Path, cli: Cli) -> None:
    """Also one that joined the running stack of others, on the CPU: alone, in the stack's arithmetic, bit for bit."""
    study = yaml.safe_load(TINY_STUDY)
    del study["fixed"]["epochs"]
    study["fixed"]["kernel"] = "torch"
    study["space"]["epochs"] = {"choices": [2, 6]}  # so that they do not end together
    study["baseline"]["epochs"] = 6
    (place / "tiny.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    assert cli("run", "tiny.yaml", "--data", tiny, "--trials", 5, "--engine", "lockstep", "--workers", 2).code == 0
    trials = stored_trials(place)
    assert {attribute(trial, "stack") for trial in trials} == {2}
    late = max(trials, key=lambda trial: int(attribute(trial, "first_order")))
    assert attribute(late, "first_order") > 0
    assert cli("export", "tiny", "--trial", late.number, "--output", "best.yaml").code == 0
    assert yaml.safe_load((place / "best.yaml").read_text(encoding="utf-8"))["stack"] == 2
    assert "reproduced bit for bit" in cli("retrain", "best.yaml").out
    several = cli("retrain", edited(place, "several.yaml", stack=0)).out
    assert "stack: several widths, or partly alone -> alone" in several
