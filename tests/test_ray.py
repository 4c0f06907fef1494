"""The engine `ray` on a cluster of nodes: whatever is lost, a study ends at exactly its target, nothing lost, nothing twice."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusters import actors, ray_cluster
from conftest import Cli
from launch import TINY_STUDY, environment, is_in_trial, outcomes, start_cli, stored_trials, wait_until
from test_engine_contract import engine_of, events_of, job_of, numbers, parts_of

from data_utils.prepared import fingerprint
from model.training import Training
from search.definition import load_definition
from search.engines import Engine, JobStarted, StepDone, WorkerLost
from search.engines.actor import Actor, KeptFile, Taken, Up
from search.engines.choice import Workers
from search.engines.training import STOPS, Setup, Verdict
from search.errors import DefinitionError, ResourceError
from search.events import EpochFinished, Event, Notice, TrialFinished, TrialStarted, WorkerDied
from search.run import RunOptions, run
from search.stopping import StopSignals
from search.trial import TrialRun

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]

RANDOM = TINY_STUDY.replace("{name: tpe, startup: 4}", "{name: random}")
"""A study whose trials do not depend on the order in which others end."""

RAYS_OWN = {"Ray", "raylet", "Raylet", "gcs_server", "WARNING", "Token"}
"""Words of which Ray would say some, if it said anything."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of two nodes with room for one worker each, beside its head."""
    with ray_cluster(0, 1, 1) as cluster:
        yield cluster


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that holds `tiny.yaml`."""
    (tmp_path / "tiny.yaml").write_text(RANDOM, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def states(place: Path, study: str = "tiny") -> list[str]:
    """The state of each trial."""
    return [trial.state.name for trial in stored_trials(place, study)]


def search_here(data: Path, by: Workers, watch: Callable[[Event], None], *sets: str) -> list[Event]:
    """A search of `tiny.yaml` in this process, watched event by event. Returns the events."""
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        watch(event)

    options = RunOptions(data=data, storage="sqlite:///runs/studies.db", runs=Path("runs"), more=None, by=by)
    with StopSignals() as stop:
        run(load_definition("tiny.yaml", sets), options, listen, stop)
    return events


def until(true: Callable[[], bool]) -> None:
    """Waits for something that other processes bring about."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def num_resting() -> int:
    """How many workers are up and do nothing. Ray names a process by what it does."""
    return sum(actor.cmdline()[0].strip() == "ray::Actor" for actor in actors())


def node_of(actor: psutil.Process, cluster: Any) -> Any:
    """The node that an actor runs on."""
    return next(node for node in cluster.worker_nodes if node.all_processes["raylet"][0].process.pid == actor.ppid())


def undisturbed(place: Path, tiny: Path, cli: Cli, *sets: str) -> list[tuple[object, ...]]:
    """What the same study gives in one process."""
    words = [word for assignment in sets for word in ("--set", assignment)]
    assert cli("run", "tiny.yaml", "--data", tiny, "--as", "whole", *words).code == 0
    return outcomes(place, "whole")


def test_workers_and_nodes_come_and_go(
    place: Path, tiny: Path, cli: Cli, cluster: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker's process is killed, a node is lost, another joins and is used: in the end every number is the same."""
    monkeypatch.setattr("search.engines.cluster._TELL_S", 0.05)
    sets = ("epochs=25", "trials=8")
    happened: list[str] = []
    steps: dict[int, int] = {}

    def watch(event: Event) -> None:
        if isinstance(event, WorkerDied | TrialFinished):
            steps.pop(event.trial, None)
        if isinstance(event, WorkerDied) and happened == ["a worker"]:
            until(lambda: num_resting() == 2)  # the trials wait meanwhile
            happened.append("its death")
        elif isinstance(event, WorkerDied) and happened[-1] == "a node":
            cluster.add_node(num_cpus=2)
            until(lambda: num_resting() == 3)
            happened.append("another")
        if isinstance(event, EpochFinished):
            steps[event.trial] = event.step
            if len(steps) == 2 and all(2 <= step <= 20 for step in steps.values()):  # both workers train, and for a while
                if not happened:
                    actors()[0].kill()
                    happened.append("a worker")
                elif happened[-1] == "its death":
                    cluster.remove_node(node_of(actors()[0], cluster))
                    happened.append("a node")

    by = Workers(device="auto", engine="ray", address=cluster.address, workers=3)
    events = search_here(tiny, by, watch, *sets)
    assert happened == ["a worker", "its death", "a node", "another"]
    assert capsys.readouterr() == ("", ""), "Ray says nothing on the screen"
    assert states(place) == ["COMPLETE"] * 8
    deaths = [event.reason for event in events if isinstance(event, WorkerDied)]
    assert [reason.split(" (process ")[0] for reason in deaths] == ["its process died; out of memory?", "its machine was lost"]
    told = sorted((event.trial, event.record.epoch) for event in events if isinstance(event, EpochFinished))
    assert told == [(trial, epoch) for trial in range(8) for epoch in range(1, 26)], "each epoch is told once"
    starts = [event for event in events if isinstance(event, TrialStarted)]
    assert sum(event.done > 0 for event in starts) == 2, "both trials went on from their checkpoints"
    notices = [event.text for event in events if isinstance(event, Notice) and "workers are up" in event.text]
    assert (
        notices[0] == "2 of 3 workers are up: each asks for 1 CPU and 0 GPUs, the cluster has 2 CPUs and 0 GPUs on 3 machines"
    )
    assert notices[-1].startswith("3 of 3 workers are up: "), "the node that joined is used"
    assert {json.loads(trial.user_attrs["made_with"])["device"] for trial in stored_trials(place)} == {"cpu"}
    assert [outcome[1:] for outcome in outcomes(place)] == [one[1:] for one in undisturbed(place, tiny, cli, *sets)]
    psutil.wait_procs(actors(), timeout=20)
    assert not actors()


def test_what_is_not_shared_goes_on_elsewhere(tmp_path: Path, tiny: Path, cluster: Any) -> None:
    """Nodes that share no folder: one is lost with all its files; its job goes on elsewhere from what had travelled."""
    runs = tmp_path / "runs"
    shutil.copytree(tiny, tmp_path / "data")
    parts, job = parts_of(tmp_path / "data", runs), job_of(0, runs, keeps_models=True)
    with engine_of("inline", parts, runs, lambda: None) as engine:
        whole = numbers(events_of(engine, replace(job, folder=tmp_path / "whole")))
    (tmp_path / "data").rename(tmp_path / "elsewhere")  # it has been prepared: nobody reads it any more
    while len(cluster.worker_nodes) < 2:
        cluster.add_node(num_cpus=1)

    def lose(engine: Engine, step: StepDone) -> None:
        if step.step.records[0].epoch == 3:
            cluster.remove_node(node_of(actors()[0], cluster))
        engine.go(0)

    with engine_of("ray, nothing shared", parts, runs, lambda: cluster) as engine:
        assert engine.slots == 0, "no trial is to be taken before a worker is up"
        lost = events_of(engine, job, lose)
        assert [type(event) for event in lost] == [JobStarted, *[StepDone] * 3, WorkerLost]
        assert lost[-1].reason.startswith("its machine was lost (process ")
        again = events_of(engine, job.once_more())
    assert again[0].done >= 1
    assert numbers(again) == whole


def test_a_checkpoint_does_not_wait_for_the_next_epoch(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It travels before the next epoch is trained, and what came with the job does not travel back."""
    before = {number: signal.getsignal(number) for number in STOPS}
    parts, job = parts_of(tiny, tmp_path), job_of(0, tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place = tmp_path / f"islr-search-{os.getuid()}"
    (place / "999999999").mkdir(parents=True)
    epochs: list[int] = []
    trained = Training.run_epoch
    monkeypatch.setattr(Training, "run_epoch", lambda self: epochs.append(len(self.history) + 1) or trained(self))
    try:
        actor = Actor(Setup(tiny, tmp_path, parts.split, fingerprint(parts.data), gpu=None), "", "cpu")
        [up] = actor.boot()
        assert isinstance(up, Up)
        assert [left.name for left in place.iterdir()] == [str(os.getpid())], "what a killed one has left is deleted"
        assert (up.sees_files, up.sees_data) == (False, False)
        given = {}, parts.data, parts.clips(job.configs.preprocess)
        assert [type(message) for message in actor.begin(job, *given)] == [Taken, JobStarted, StepDone]
        epochs.clear()
        messages = actor.answer(Verdict.GO)
        kept = next(messages)
        assert isinstance(kept, KeptFile)
        assert not epochs
        [step] = messages
        assert isinstance(step, StepDone)
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / kept.name).write_bytes(kept.content)
        again = TrialRun(replace(job, folder=tmp_path / "kept", again=True), parts)
        assert again.done == 1
        given = {kept.name: kept.content}, *given[1:]
        assert [type(message) for message in actor.begin(job.once_more(), *given)] == [Taken, JobStarted, StepDone]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_the_driver_is_killed_and_stopped(place: Path, tiny: Path, cli: Cli, cluster: Any) -> None:
    """The same command goes on, after `kill -9` and after Ctrl-C; in the end every number is the same."""
    while len(cluster.worker_nodes) < 2:
        cluster.add_node(num_cpus=1)
    sets = ("epochs=70", "trials=3")
    command = ["run", "tiny.yaml", "--data", str(tiny), "--engine", "ray", "--address", cluster.address, "--workers", "2"]
    command += [word for assignment in sets for word in ("--set", assignment)]

    process = start_cli(*command, cwd=place)
    wait_until(is_in_trial(place, 1, epochs=4), process)
    process.kill()
    process.communicate()
    until(lambda: not actors())
    assert "RUNNING" in states(place)

    process = start_cli(*command, cwd=place)
    wait_until(is_in_trial(place, 1, epochs=20), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert "stopped (SIGINT); everything is kept." in err
    assert "was cut off: it goes on after epoch" in err
    assert "Traceback" not in err + out
    assert not RAYS_OWN & set(re.findall(r"\w+", out + err)), "Ray says nothing on the screen"
    kept = {trial.number: max(trial.intermediate_values, default=0) for trial in stored_trials(place)}
    left = [number for number, state in enumerate(states(place)) if state == "RUNNING" and kept[number]]
    assert left

    done = cli(*command)
    assert done.code == 0, done.err
    for number in left:
        assert f"trial {number} was cut off: it goes on after epoch {kept[number]}" in done.err, "no epoch is lost"
    assert states(place) == ["COMPLETE"] * 3
    assert not any(trial.user_attrs.get("deaths") for trial in stored_trials(place))
    assert outcomes(place) == undisturbed(place, tiny, cli, *sets)

    confirmed = cli("confirm", "tiny", "--top", "1", "--seeds", "2", *command[4:10])
    assert confirmed.code in (0, 1), confirmed.err
    assert set(states(place, "tiny/confirm")) == {"COMPLETE"}
    until(lambda: not actors())


def test_a_ray_of_its_own(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an address a Ray is started for the run. It outlives what stops the whole group, and not the run."""
    monkeypatch.setenv("HOME", str(place))  # Ray keeps a token there
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    command = ["run", "tiny.yaml", "--data", str(tiny), "--trials", "1", "--set", "epochs=400"]
    process = subprocess.Popen(
        [sys.executable, "-m", "search", *command, "--engine", "ray"],
        cwd=place, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        wait_until(is_in_trial(place, 0, epochs=3), process)
        children = psutil.Process(process.pid).children(recursive=True)
        assert any(child.name() == "raylet" for child in children)
        process.send_signal(signal.SIGSTOP)
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(1)
        assert all(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children), (
            "only the run itself stops"
        )
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=100)
        assert process.returncode == 143, err
        assert "stopped (SIGTERM); everything is kept." in err
        assert not RAYS_OWN & set(re.findall(r"\w+", out + err)), "Ray says nothing on the screen"
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive
    finally:
        process.kill()


def test_a_lost_cluster(place: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a matter of the machines: 3, with what to do."""
    monkeypatch.setattr("search.engines.cluster._LOST_S", 1.0)

    with ray_cluster(1) as lonely:
        address = lonely.address
        by = Workers(device="cpu", engine="ray", address=address)

        def watch(event: Event) -> None:
            if isinstance(event, EpochFinished) and event.step == 2:
                lonely.head_node.all_processes["gcs_server"][0].process.kill()

        with pytest.raises(ResourceError, match="the Ray cluster is lost") as caught:
            search_here(tiny, by, watch, "epochs=2000")
    assert caught.value.got.startswith(f"no answer from {address} for ")
    assert set(states(place)) == {"RUNNING"}


def test_what_cannot_be(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wishes that do not go together, and a cluster that is not there, are told before anything is made."""
    told = {
        ("--address", "auto"): (2, "add `--engine ray`"),
        ("--engine", "ray", "--address", "127.0.0.1:1"): (3, "there is no connection to the Ray cluster"),
        ("--engine", "ray", "--address", "ray://127.0.0.1:1"): (2, "cannot be a Ray Client"),
        ("--engine", "ray", "--device", "cuda:0"): (2, "a cluster gives its GPUs out itself"),
        ("--set", "resources.gpus=2"): (2, "resources"),
        ("--set", "resources.cpus=0"): (2, "resources"),
    }
    for words, (code, text) in told.items():
        answer = cli("run", "tiny.yaml", "--data", tiny, *words)
        assert (answer.code, text in answer.err) == (code, True), answer.err
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find(name, *rest))
    with pytest.raises(DefinitionError) as caught:
        Workers(device="cpu", engine="ray").kind()
    assert caught.value.hint == "pip install 'islr-search[ray]'"
    assert not (place / "runs" / "studies.db").exists()
