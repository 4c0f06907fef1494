"""Searches and confirmations with the engine `lockstep`, from the command line. Its host works in this process."""

from __future__ import annotations

import re
from multiprocessing import Pipe
from pathlib import Path

import pytest
from conftest import Cli
from launch import outcomes, stored_trials

from search.definition.trial_attributes import attribute
from search.engines.job_run import Setup, open_trial_clips
from search.engines.lockstep import engine as module
from search.engines.lockstep.host import Host, Round, RoundAccepted, RoundDone
from search.engines.worker import Ready

BY_TORCH = ("--set", "train.kernel=torch", "--set", "trials=8")
LOCKSTEP = ("--engine", "lockstep", "--workers", "3")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Hosts train in this process. The numbers of jobs that were in each round."""
    sizes: list[int] = []

    class Child:
        def __init__(self, work: object, setup: Setup, *, name: str) -> None:
            self.pipe, self._there = Pipe()
            self._host = Host(open_trial_clips(setup, self._there.send), 3, self._there.send)
            self._there.send(Ready())

        def send(self, message: Round) -> None:
            sizes.append(len(message.advanced) + len(message.started))
            self._there.send(RoundAccepted())
            self._there.send(RoundDone(tuple(self._host.run(message))))

        def end(self) -> None:
            self.pipe.close()

    monkeypatch.setattr(module, "Child", Child)
    return sizes


def test_the_same_search_again(place: Path, tiny: Path, cli: Cli, here: list[int]) -> None:
    """The same trials with the same numbers, bit for bit. Free slots are filled while others train."""
    pruner = ("--set", "pruner={name: median, startup: 2, warmup_epochs: 1}", "--set", "epochs=3")
    for name in ("one", "two"):
        done = cli("run", "tiny.yaml", "--data", tiny, *BY_TORCH, *pruner, *LOCKSTEP, "--as", name)
        assert done.code == 0, done.err
        assert "device   cpu, 3 trials in lockstep, storage" in done.err
        assert "`--engine processes` is faster" in done.err
    assert outcomes(place, "one") == outcomes(place, "two")
    trials = stored_trials(place, "one")
    assert {"COMPLETE", "PRUNED"} == {trial.state.name for trial in trials}
    assert {attribute(trial, "stack") for trial in trials} == {3}
    firsts = [attribute(trial, "first_order") for trial in trials]
    assert firsts[:3] == [0, 0, 0]
    assert max(firsts) > 0, "a trial joined others in their stack"
    assert set(here) <= {1, 2, 3}


def test_a_confirmation(place: Path, tiny: Path, cli: Cli, here: list[int]) -> None:
    """It trains the same candidates with the same seeds as one by one, and finds the same."""
    assert cli("run", "tiny.yaml", "--data", tiny, *BY_TORCH).code == 0
    assert cli("copy", "tiny", "--to", "sqlite:///other.db").code == 0
    told = []
    for words in (("--engine", "inline"), ("--storage", "sqlite:///other.db", "--runs", "other", *LOCKSTEP)):
        done = cli("confirm", "tiny", "--top", "2", "--seeds", "2", *words)
        assert done.code == 0, done.err
        told.append(re.sub(r"--(storage|runs) \S+|\d+s|\s+", "", done.out))
    assert told[0] == told[1]
    assert max(here) == 3
