"""A study is continued only with the same settings; ranges may become wider, which is recorded."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import optuna
import pytest
import yaml
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st
from launch import is_in_trial, start_cli, stored_trials, wait_until

from search.definition.ranges import Range
from search.definition.trial_attributes import attribute

FLOATS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda number: round(number, 6))


@given(low=FLOATS | st.integers(-100, 100), width=st.integers(1, 50), step=st.sampled_from([None, 1, 0.5]), log=st.booleans())
def test_a_range_is_read_as_it_was_written(low: float, width: int, step: float | None, log: bool) -> None:
    """What `text` writes, `from_text` reads; every range holds itself."""
    try:
        domain = Range(low=low, high=low + width, log=log, step=step)
    except ValueError:
        return
    assert Range.from_text(domain.text()) == domain
    assert domain.contains_range(domain)


@pytest.mark.parametrize("text", ["", "relu | gelu", "1 | 2", "not there", "1 ..", "1 .. 2 logs", "a .. b", "2 .. 1"])
def test_what_is_no_range(text: str) -> None:
    """Choices and other text are no range."""
    assert Range.from_text(text) is None


@pytest.mark.parametrize(
    ("old", "new", "wider"),
    [
        ("0.0 .. 0.5", "0.0 .. 0.6", True),
        ("0.0 .. 0.5", "-1.0 .. 0.5", True),
        ("0.0 .. 0.5", "0.0 .. 0.4", False),
        ("0.0 .. 0.5", "0.1 .. 0.9", False),
        ("0.1 .. 0.5 log", "0.1 .. 0.9", False),
        ("0.1 .. 0.5 log", "0.01 .. 0.9 log", True),
        ("0.0 .. 0.4 step 0.2", "0.0 .. 0.6 step 0.2", True),
        ("0.0 .. 0.4 step 0.2", "-0.2 .. 0.6 step 0.2", True),
        ("0.0 .. 0.4 step 0.2", "-0.1 .. 0.5 step 0.2", False),
        ("0.0 .. 0.4 step 0.2", "0.0 .. 0.4 step 0.1", False),
        ("1 .. 4", "1 .. 8", True),
    ],
)
def test_wider(old: str, new: str, wider: bool) -> None:
    """Every value of the old range must be in the new one."""
    before, after = Range.from_text(old), Range.from_text(new)
    assert before is not None
    assert after is not None
    assert after.contains_range(before) is wider


RUN = ("run", "tiny.yaml", "--trials")


def attributes(place: Path) -> dict[str, object]:
    """The attributes of the study."""
    return optuna.load_study(study_name="tiny", storage=f"sqlite:///{place / 'runs' / 'studies.db'}").user_attrs


def test_a_wider_range_is_accepted_when_asked_for(place: Path, tiny: Path, cli: Cli) -> None:
    """Without the flag a wider range is refused; with it, it is accepted, reported and recorded as the study's range."""
    wide = ("--data", tiny, "--set", "space.lr.high=1.0", "--set", "space.dropout.high=0.6")
    assert cli(*RUN, 2, "--data", tiny).code == 0
    refused = cli(*RUN, 3, *wide)
    assert refused.code == 2
    assert refused.err.splitlines()[-1].endswith("`--allow-wider` accepts a range that contains the old one")
    done = cli(*RUN, 8, *wide, "--allow-wider")
    assert done.code == 0
    assert "the study continues with a wider range: space: lr: 0.0001 .. 0.1 log -> 0.0001 .. 1.0 log" in done.err
    (record,) = attributes(place)["widened"]
    assert record["trials"] == 2
    assert record["ranges"] == {
        "space: lr": ["0.0001 .. 0.1 log", "0.0001 .. 1.0 log"],
        "space: dropout": ["0.0 .. 0.5", "0.0 .. 0.6"],
    }
    assert len(stored_trials(place)) == 8
    assert cli(*RUN, 8, *wide).code == 0
    assert cli(*RUN, 8, *wide, "--allow-wider").code == 0
    assert len(attributes(place)["widened"]) == 1, "nothing became wider"
    assert cli(*RUN, 9, "--data", tiny, "--allow-wider").code == 2, "a range cannot become narrower"


@pytest.mark.parametrize(
    "change",
    [
        ("space.lr.high=0.05",),
        ("space.lr={low: 1e-4, high: 1.0}",),
        ("space.lr.high=1.0", "epochs=3"),
        ("space.lr.high=1.0", "data.validation=[9001]"),
        ("space.lr={choices: [1e-3, 1e-2]}",),
        ("space.heads={low: 1, high: 2}",),
    ],
)
def test_nothing_else_is_accepted(change: tuple[str, ...], place: Path, tiny: Path, cli: Cli) -> None:
    """A narrower range, another scale or another setting is refused, and the study is not changed."""
    sets = [word for text in change for word in ("--set", text)]
    assert cli(*RUN, 1, "--data", tiny).code == 0
    before = attributes(place)
    refused = cli(*RUN, 2, "--data", tiny, *sets, "--allow-wider")
    assert (refused.code, refused.err.splitlines()[0]) == (2, "error: the study `tiny` already exists with different settings")
    assert {name: value for name, value in attributes(place).items() if name != "target"} == {
        name: value for name, value in before.items() if name != "target"
    }


def test_an_exhausted_space_can_become_wider(place: Path, tiny: Path, cli: Cli) -> None:
    """A study that ended because everything was tried continues with the new settings."""
    grid = ("--data", tiny, "--set", "baseline={}", "--set", "epochs=1", "--set", "dropout=0.1", "--set", "lr=1e-3")
    grid = (*grid, "--set", "space={label_smoothing: {low: 0.0, high: HIGH, step: 0.1}}", "--set", "baseline={}")
    narrow, wide = ([str(word).replace("HIGH", high) for word in grid] for high in ("0.2", "0.4"))
    done = cli(*RUN, 9, *narrow)
    assert done.code == 0
    assert "the space is exhausted: 3 combinations were tried, and no other valid one was found" in done.out
    done = cli(*RUN, 9, *wide, "--allow-wider")
    assert done.code == 0
    assert "the space is exhausted: 5 combinations were tried" in done.out
    assert sorted(trial.params["label_smoothing"] for trial in stored_trials(place)) == [0.0, 0.1, 0.2, 0.3, 0.4]


@pytest.mark.slow
def test_not_while_another_run_works(place: Path, tiny: Path, cli: Cli) -> None:
    """A range cannot be widened while another run works on the study, which would continue with the old one."""
    other = start_cli("run", "tiny.yaml", "--data", str(tiny), "--set", "epochs=3000", cwd=place)
    wait_until(is_in_trial(place, 0), other)
    done = cli(*RUN, 4, "--data", tiny, "--set", "epochs=3000", "--set", "space.lr.high=1.0", "--allow-wider")
    other.kill()
    other.communicate()
    assert (done.code, done.err.splitlines()[0]) == (3, "error: another run is working on the study `tiny`")


@pytest.mark.parametrize("sampler", ["cmaes", "qmc"])
def test_samplers_that_cannot_use_wider_ranges(sampler: str, place: Path, tiny: Path, cli: Cli) -> None:
    """Samplers that only use trials of one range would silently draw at random with a wider one: they refuse it."""
    run = ("run", "tiny.yaml", "--data", tiny, "--trials", 1, "--set", f"sampler={{name: {sampler}}}")
    assert cli(*run).code == 0
    assert cli(*run, "--allow-wider").code == 0, "nothing is wider"
    done = cli(*run, "--allow-wider", "--set", "space.dropout.high=0.6")
    assert (done.code, f"the sampler `{sampler}` cannot continue with a wider range" in done.err) == (2, True)


def test_a_study_of_an_earlier_version(place: Path, tiny: Path, cli: Cli) -> None:
    """Settings that did not exist yet count as what they were then: only early stopping has to be turned off to continue."""
    run = ("run", "tiny.yaml", "--data", tiny, "--trials", 1)
    assert cli(*run).code == 0
    storage = f"sqlite:///{place / 'runs' / 'studies.db'}"
    study = optuna.load_study(study_name="tiny", storage=storage)
    new = ("augment.", *(f"train.{name}" for name in ("optimizer", "weight", "ema", "patience", "clip", "warm", "sche")))
    lines = json.loads(study.user_attrs["identity"])
    kept = {key: text for key, text in lines.items() if not key.removeprefix("fixed: ").startswith(new) and key != "repeats"}
    study.set_user_attr("identity", json.dumps(kept))
    (trial,) = study.get_trials()
    settings = json.loads(attribute(trial, "settings"))
    del settings["augment"], settings["train"]["patience"], settings["train"]["ema"]
    with sqlite3.connect(place / "runs" / "studies.db") as database:
        told = json.dumps(json.dumps(settings))
        database.execute("UPDATE trial_system_attributes SET value_json = ? WHERE key = 'islr:settings'", (told,))
    database.close()
    refused = cli(*run, "--set", "patience=20")
    assert (refused.code, "fixed: train.patience: 0 -> 20" in refused.err, "augment" in refused.err) == (2, True, False)
    assert cli(*run).code == 0
    exported = yaml.safe_load(cli("export", "tiny").out)
    assert (exported["train"]["patience"], exported["train"]["ema"], exported["augment"]["flip"]) == (0, 0.0, 0.0)
