"""Which study a command means: the one that is named, one that is nearly named, or the latest."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path

import optuna
import pytest
from conftest import Cli
from optuna.trial import FrozenTrial, TrialState

from search.errors import DefinitionError
from search.study.companion import CONFIRMED_STUDY, CONFIRMS
from search.study.identity import IDENTITY
from search.study.latest import latest_study
from search.study.study_id import ID

NAMELESS = ("status", "trials", "analyze", "export", "show 2")
ONLY = "study tiny: the only one in the storage"


def make_study(storage: optuna.storages.BaseStorage, name: str, day: int | None, **attributes: object) -> None:
    """A study whose only trial ran on a day of a month; without a trial for None."""
    study = optuna.create_study(storage=storage, study_name=name)
    for key, value in attributes.items():
        study.set_user_attr(key, value)
    if day is not None:
        start = datetime.datetime(2026, 5, day)
        study.add_trial(FrozenTrial(0, TrialState.COMPLETE, 1.0, start, start, {}, {}, {}, {}, {}, 0))


def test_the_latest_study() -> None:
    """The latest is the one that was searched or confirmed last; other programs' studies and empty ones do not count."""
    storage = optuna.storages.InMemoryStorage()
    with pytest.raises(DefinitionError, match="holds no study of this tool"):
        latest_study(storage)
    make_study(storage, "older", 3, **{IDENTITY: "{}", ID: {"id": "abc", "row": 0}})
    make_study(storage, "newer", 4, **{IDENTITY: "{}"})
    make_study(storage, "empty", None, **{IDENTITY: "{}"})
    make_study(storage, "foreign", 9)
    assert latest_study(storage) == ("newer", 3)
    make_study(storage, "renamed/confirm", 5, **{CONFIRMS: "renamed", CONFIRMED_STUDY: {"id": "abc"}})
    assert latest_study(storage) == ("older", 3)
    make_study(storage, "newer/confirm", 6, **{CONFIRMS: "newer"})  # of an earlier version
    assert latest_study(storage) == ("newer", 3)


def test_no_name_is_needed(searched_copy: Path, cli: Cli) -> None:
    """Every command about a study takes the only one, and says so first; another program's study is no choice."""
    make_study(optuna.storages.RDBStorage("sqlite:///runs/studies.db"), "foreign", 30)
    for command in NAMELESS:
        done = cli(*command.split())
        assert (done.code, done.err.splitlines()[0]) == (0, ONLY), command
    assert json.loads(cli("status", "--json").out)["study"] == "tiny"
    assert cli("show", "2").out == cli("show", "tiny", "2").out
    done = cli("copy", "--to", "sqlite:///there.db")
    assert (done.code, done.err.splitlines()[0]) == (0, ONLY)
    for code, words in ((1, ("test",)), (2, ("confirm", "--data", "nowhere"))):
        done = cli(*words)
        assert (done.code, done.err.splitlines()[0]) == (code, ONLY), words


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        *(
            (f"{name} tinny", "tiny")
            for name in ("status", "trials", "export", "report", "analyze", "confirm", "test", "dashboard")
        ),
        ("show tinny 3", "tiny"),
        ("stop tinny", "tiny"),
        ("delete tinny", "tiny"),
        ("rename tinny other", "tiny"),
        ("report tiny tinny", "tiny"),
        ("copy tinny --to sqlite:///there.db", "tiny"),
        ("status tin", "tiny"),
        ("status ./tinny.yaml", "tiny"),
        ("run tinny", "tiny.yaml"),
        ("run tinny.yaml", "tiny.yaml"),
        ("run label_smothing", "label_smoothing"),
        ("run archi", "architecture"),
    ],
)
def test_did_you_mean(command: str, meant: str, searched: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is nearly right is answered by the right one, in every command."""
    monkeypatch.chdir(searched)
    done = cli(*command.split())
    assert (done.code, done.err.splitlines()[-1]) == (2, f"hint: did you mean `{meant}`?")


def test_run_trains_what_is_named(searched: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` without a name trains the default study, and says how to continue the latest one."""
    monkeypatch.chdir(searched)
    done = cli("run", "--dry-run")
    assert re.match(r"study label_smoothing, as none is named; to continue tiny, the latest, ", done.err)
    assert cli("run", "tiny.yaml", "--dry-run").err == ""
