"""`search stop`: what the first Ctrl-C does, through the database, to the runs that work now and to no later one."""

from __future__ import annotations

import re
from pathlib import Path

import optuna
import pytest
from conftest import Cli
from launch import is_in_trial, start_cli, states, stored_trials, wait_until

from search.commands.screens import PlainScreen
from search.definition.study_file import load_definition
from search.engines.engine_options import EngineOptions
from search.evaluation.confirm.confirm import ConfirmOptions, confirm
from search.events import EpochFinished, Event
from search.running.ledger import Ledger
from search.running.run import RunOptions, run
from search.running.signals import StopSignals
from search.storage.leases.choice import lease_of, observe
from search.storage.leases.lease import new_owner
from search.storage.opening import closing_storage, open_storage
from search.study import stopping
from search.study.stopping import ask_to_stop, wait_for_end

URL = "sqlite:///runs/studies.db"
CPU = EngineOptions(device="cpu")


class Asking:
    """A listener that asks the runs of a study to stop, once, at the first epoch."""

    def __init__(self) -> None:
        self.asked: dict[str, list[str]] = {}

    def __call__(self, event: Event) -> None:
        """Receives an event."""
        if isinstance(event, EpochFinished) and not self.asked:
            self.asked = {name: list(runs) for name, runs in ask_to_stop("tiny", URL, str).items()}
            assert [observe(URL, name).num_runs() for name in self.asked] == [1]


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs look at every event for what others have done."""
    monkeypatch.setattr("search.running.ledger._MAX_AGE_S", -1.0)


def test_a_run_is_asked_to_stop(place: Path, tiny: Path) -> None:
    """It keeps its trial for later; the next run is not stopped."""
    definition = load_definition("tiny.yaml", ["trials=2", "epochs=6"], seed=0)
    options = RunOptions(data=tiny, storage=URL, runs=Path("runs"), more=None, engine=CPU)
    stop, asking = StopSignals(), Asking()
    result = run(definition, options, asking, stop)
    assert (result.stopped_by, stop.exit_code) == ("islr-search stop", 130)
    assert list(asking.asked) == ["tiny"]
    assert wait_for_end(asking.asked, URL) == 0
    assert states(place) == ["RUNNING"]
    stop = StopSignals()
    assert run(definition, options, lambda event: None, stop).stopped_by == ""
    assert (states(place), stop.exit_code) == (["COMPLETE"] * 2, 0)


def test_a_confirmation_is_asked_to_stop(searched_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The request names the study; it reaches the runs that confirm it. What they train is called a training, never a trial."""
    options = ConfirmOptions(study="tiny", storage=URL, runs=Path("runs"), data=None, top=1, seeds=2, engine=CPU)
    stop, asking = StopSignals(), Asking()
    assert confirm(options, asking, stop) is None
    assert (list(asking.asked), stop.exit_code) == (["tiny/confirm"], 130)
    assert confirm(options, PlainScreen(), StopSignals()) is not None
    said = capsys.readouterr().err
    assert re.search(r"^target   4 finished trainings, [01] so far\n training state ", said, re.MULTILINE)
    assert "trial" not in said.replace("trials of the search", "")


def test_the_command_waits_for_the_end(place: Path, tiny: Path, cli: Cli) -> None:
    """It says how many runs were asked and that they have ended; they say how to resume. Without a run, it says that."""
    words = ("run", "tiny.yaml", "--data", str(tiny), "--set", "epochs=100000")
    with start_cli(*words, cwd=place) as process:
        wait_until(is_in_trial(place, 0), process)
        done = cli("stop", "tiny")
        assert done.out == "1 run of `tiny` asked to stop after the epoch in progress\n1 run ended; everything is kept\n"
        assert process.wait(60) == 130
        said = process.communicate()[1]
    assert "stopped (islr-search stop); everything is kept. Resume with:\n  islr-search run tiny.yaml" in said
    (trial,) = stored_trials(place)
    assert trial.state.name == "RUNNING"
    assert cli("stop").out == "no run is working on `tiny`\n"
    assert cli("stop", "other").code == 2


def test_a_run_that_was_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has another name then, and obeys a request to its earlier one. The command counts other names, but does not wait."""
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    looked: list[str] = []
    monkeypatch.setattr(stopping, "observe", lambda *where: looked.append(where[1]) or observe(*where))
    monkeypatch.setattr(stopping, "_POLL_S", 0.0)
    with closing_storage(open_storage(url, create=True)) as storage, lease_of(url, "s") as lease:
        study = optuna.create_study(storage=storage, study_name="s")
        ledger = Ledger(storage, "s", lease)
        asked = {"s": [lease.owner.run]}
        storage.set_study_system_attr(study._study_id, "stop", asked["s"])
        lease.owner = new_owner()
        ledger.refresh()
        assert ledger.is_asked_to_stop
        with lease_of(url, "s") as other:
            answers = iter([[*asked["s"], other.owner.run], [*asked["s"]], [other.owner.run]])
            monkeypatch.setattr(type(other.observer), "runs", lambda observer: next(answers))
            assert wait_for_end(asked, url) == 1
    assert looked == ["s"], "an observer of a server has connections of its own"
