"""The engine `ray` on clusters of several nodes: lost workers and nodes do not change a study's results."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from clusters import actors, ray_cluster
from conftest import Cli
from launch import TINY_STUDY, command_of, environment, is_in_trial, outcomes, start_cli, states, stored_trials, wait_until
from test_engine_contract import engine_of, events_of, followed, job_of, numbers, trial_clips_of, wait_for_slot

from data_utils.errors import ExplainedError
from data_utils.prepared import fingerprint
from model.training import Training
from search.definition.definition import Resources
from search.definition.study_file import load_definition
from search.definition.trial_attributes import attribute
from search.engines.engine import Engine, JobDone, JobStarted, StepDone, WorkerLost
from search.engines.engine_options import EngineOptions
from search.engines.job_run import STOP_SIGNALS, Decision, Setup
from search.engines.ray.actor import Actor, ActorReady, ChangedFile, JobAccepted, scratch_name
from search.engines.ray.files import renew_token, write_token
from search.errors import DefinitionError, ResourceError
from search.events import EpochFinished, Event, Notice, TrialFinished, TrialStarted, WorkerDied
from search.running.run import RunOptions, run
from search.running.signals import StopSignals
from search.trial.job import Job
from search.trial.trial_run import TrialRun

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]

RANDOM = TINY_STUDY.replace("{name: tpe, startup: 4}", "{name: random}")
"""A study whose trials do not depend on the order in which other trials end."""

RAY_WORDS = {"Ray", "raylet", "Raylet", "gcs_server", "WARNING", "Token"}
"""Words of Ray's own messages."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster for all tests."""
    with ray_cluster(0, 1, 1) as cluster:
        yield cluster


@pytest.fixture
def cluster(nodes: Any) -> Iterator[Any]:
    """The cluster with a head and two nodes for one worker each, whatever the previous test has changed."""
    while len(nodes.worker_nodes) < 2:
        nodes.add_node(num_cpus=1)
    before = set(nodes.worker_nodes)
    yield nodes
    for node in set(nodes.worker_nodes) - before:
        nodes.remove_node(node)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that holds `tiny.yaml`."""
    (tmp_path / "tiny.yaml").write_text(RANDOM, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def search_here(data: Path, engine: EngineOptions, watch: Callable[[Event], None], *sets: str) -> list[Event]:
    """Runs a search of `tiny.yaml` from this process and calls `watch` for each event. Returns the events."""
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        watch(event)

    options = RunOptions(data=data, storage="sqlite:///runs/studies.db", runs=Path("runs"), more=None, engine=engine)
    with StopSignals() as stop:
        run(load_definition("tiny.yaml", sets), options, listen, stop)
    return events


def until(true: Callable[[], bool]) -> None:
    """Waits for something that other processes do."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def num_idle() -> int:
    """How many workers are ready and idle. Ray names a process by its current method."""
    return sum(command_of(actor).strip() == "ray::Actor" for actor in actors())


def node_of(actor: psutil.Process, cluster: Any) -> Any:
    """The node of an actor."""
    return next(node for node in cluster.worker_nodes if node.all_processes["raylet"][0].process.pid == actor.ppid())


def uninterrupted(place: Path, tiny: Path, cli: Cli, *sets: str) -> list[tuple[object, ...]]:
    """Outcomes of the same study from an uninterrupted run in one process."""
    words = [word for assignment in sets for word in ("--set", assignment)]
    assert cli("run", "tiny.yaml", "--data", tiny, "--as", "whole", *words).code == 0
    return outcomes(place, "whole")


def test_workers_and_nodes_come_and_go(
    place: Path, tiny: Path, cli: Cli, cluster: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker is killed, a node is lost and another joins: every number stays the same."""
    monkeypatch.setattr("search.engines.ray.worker_count._DELAY_S", 0.05)
    sets = ("epochs=25", "trials=6", "train.kernel=torch")
    happened: list[str] = []
    steps: dict[int, int] = {}

    def watch(event: Event) -> None:
        if isinstance(event, WorkerDied | TrialFinished):
            steps.pop(event.trial, None)
        if isinstance(event, WorkerDied) and happened == ["a worker"]:
            until(lambda: num_idle() == 2)  # the trials wait meanwhile
            happened.append("its death")
        elif isinstance(event, Notice) and "lost its machine" in event.text and happened[-1] == "a node":
            cluster.add_node(num_cpus=2)
            until(lambda: num_idle() == 3)
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

    engine = EngineOptions(device="auto", engine="ray", address=cluster.address, workers=3)
    events = search_here(tiny, engine, watch, *sets)
    assert happened == ["a worker", "its death", "a node", "another"]
    assert capsys.readouterr() == ("", ""), "Ray prints nothing"
    assert states(place) == ["COMPLETE"] * 6
    deaths = [event.reason for event in events if isinstance(event, WorkerDied)]
    assert [reason.split(" (process ")[0] for reason in deaths] == ["its process died; out of memory?"]
    lost = [event.text for event in events if isinstance(event, Notice) and "lost its machine" in event.text]
    assert len(lost) == 1, "a lost machine does not count as a death"
    assert lost[0].endswith("it resumes from its checkpoint")
    told = sorted((event.trial, event.record.epoch) for event in events if isinstance(event, EpochFinished))
    assert told == [(trial, epoch) for trial in range(6) for epoch in range(1, 26)], "each epoch is emitted once"
    starts = [event for event in events if isinstance(event, TrialStarted)]
    assert sum(event.done > 0 for event in starts) == 2, "both trials resumed from their checkpoints"
    notices = [event.text for event in events if isinstance(event, Notice) and "workers are ready" in event.text]
    assert (
        notices[0] == "2 of 3 workers are ready: each needs 1 CPU and 0 GPUs, the cluster has 2 CPUs and 0 GPUs on 3 machines"
    )
    assert notices[-1].startswith("3 of 3 workers are ready: "), "the node that joined is used"
    assert {json.loads(attribute(trial, "made_with"))["device"] for trial in stored_trials(place)} == {"cpu"}
    assert [outcome[1:] for outcome in outcomes(place)] == [one[1:] for one in uninterrupted(place, tiny, cli, *sets)]
    psutil.wait_procs(actors(), timeout=20)
    assert not actors()


def test_transferred_files_survive_a_lost_node(tmp_path: Path, tiny: Path, cluster: Any) -> None:
    """Without shared folders, the job of a lost node resumes elsewhere from the files that had been transferred."""
    runs = tmp_path / "runs"
    shutil.copytree(tiny, tmp_path / "data")
    trial_clips, job = trial_clips_of(tmp_path / "data", runs), job_of(0, runs, keeps_models=True)
    with engine_of("inline", trial_clips, runs, lambda: None) as engine:
        whole = numbers(events_of(engine, replace(job, folder=tmp_path / "whole")))
    (tmp_path / "data").rename(tmp_path / "elsewhere")  # the clips are prepared: the data set is not needed any more

    def lose(engine: Engine, step: StepDone) -> None:
        if step.step.records[0].epoch == 3:
            cluster.remove_node(node_of(actors()[0], cluster))
        engine.advance(0)

    with engine_of("ray, nothing shared", trial_clips, runs, lambda: cluster) as engine:
        assert engine.slots == 0, "no slots before a worker is ready"
        lost = events_of(engine, job, lose)
        assert [type(event) for event in lost] == [JobStarted, *[StepDone] * 3, WorkerLost]
        assert lost[-1].reason.startswith("its machine was lost (process ")
        assert lost[-1].machine_lost, "the job is not to blame"
        again = events_of(engine, job.resumed())
    assert again[0].steps_done >= 1
    assert numbers(again) == whole


def test_checkpoints_are_sent_before_the_next_epoch(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is sent before the next epoch is trained, and files that came with the job are not sent back."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    trial_clips, job = trial_clips_of(tiny, tmp_path), job_of(0, tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place = tmp_path / f"islr-search-{os.getuid()}"
    of_another_container = ["other-1-999999998", f"other-1-{os.getpid()}"]
    for name in [scratch_name(999999999), "other-1-999999999", *of_another_container]:
        (place / name / "trial").mkdir(parents=True)
    for name in ("other-1-999999999", of_another_container[0]):
        os.utime(place / name, (0, 0))
    os.utime(place / "other-1-999999999" / "trial", (0, 0))
    epochs: list[int] = []
    trained = Training.run_epoch
    monkeypatch.setattr(Training, "run_epoch", lambda self: epochs.append(len(self.history) + 1) or trained(self))
    try:
        actor = Actor(Setup(tiny, tmp_path, trial_clips.split, fingerprint(trial_clips.data), gpu=None), "", "cpu")
        [up] = actor.start_up()
        assert isinstance(up, ActorReady)
        left = sorted(path.name for path in place.iterdir())
        assert left == sorted([scratch_name(os.getpid()), *of_another_container]), "folders of killed workers are deleted"
        assert (up.sees_files, up.sees_data) == (False, False)
        given = {}, trial_clips.data, trial_clips.clips(job.configs.preprocess)
        assert [type(message) for message in actor.start_job(job, *given)] == [JobAccepted, JobStarted, StepDone]
        epochs.clear()
        messages = actor.apply(Decision.CONTINUE)
        kept = next(messages)
        assert isinstance(kept, ChangedFile)
        assert not epochs
        [step] = messages
        assert isinstance(step, StepDone)
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / kept.name).write_bytes(kept.content)
        again = TrialRun(replace(job, folder=tmp_path / "kept", is_resumed=True), trial_clips)
        assert again.steps_done == 1
        given = {kept.name: kept.content}, *given[1:]
        assert [type(message) for message in actor.start_job(job.resumed(), *given)] == [JobAccepted, JobStarted, StepDone]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_read_only_folder(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that can read but not write the search's folder transfers its files."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    trial_clips, runs = trial_clips_of(tiny, tmp_path / "runs"), tmp_path / "runs"
    token = write_token(runs)
    there = sorted((runs / "prepared").iterdir())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    write = Path.write_text

    def refuse(path: Path, *rest: Any, **more: Any) -> int:
        if runs in path.parents:
            raise OSError(30, "Read-only file system", str(path))
        return write(path, *rest, **more)

    try:
        for is_read_only in (False, True):
            with monkeypatch.context() as patch:
                if is_read_only:
                    patch.setattr(Path, "write_text", refuse)
                [up] = Actor(
                    Setup(tiny, runs, trial_clips.split, fingerprint(trial_clips.data), gpu=None), token, "cpu"
                ).start_up()
            assert isinstance(up, ActorReady)
            assert (up.sees_files, up.sees_data) == (not is_read_only, not is_read_only)
            assert sorted((runs / "prepared").iterdir()) == there, "the probe is deleted"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_tokens(tmp_path: Path) -> None:
    """Tokens of killed runs are deleted; a long run renews its own and restores it if it was deleted."""
    old, kept = write_token(tmp_path), write_token(tmp_path)
    for token in (old, kept):
        os.utime(tmp_path / token, (0, 0))
    renew_token(tmp_path, kept)
    write_token(tmp_path)
    assert not (tmp_path / old).exists()
    assert (tmp_path / kept).read_text(encoding="utf-8") == kept
    renew_token(tmp_path, old)
    assert (tmp_path / old).read_text(encoding="utf-8") == old


class Unreadable(Job):
    """A job that no worker can unpickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no job",)


def test_a_job_that_no_worker_accepts(tmp_path: Path, tiny: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few workers have died on it, with one notice, the coordinator gets it back. Other jobs train."""
    monkeypatch.setattr("search.engines.ray.engine.MAX_STARTUP_FAILURES", 2)
    monkeypatch.setattr("search.engines.ray.engine.RENEWAL_S", 0.0)
    events: list[Event] = []
    job = job_of(0, tmp_path, epochs=1)
    with engine_of("ray", trial_clips_of(tiny, tmp_path, events.append), tmp_path, lambda: cluster) as engine:
        [token] = (tmp_path / "prepared").glob(".seen-*")
        token.unlink()
        wait_for_slot(engine)
        assert token.exists(), "it is renewed"
        engine.start(Unreadable(**vars(job)))
        [lost] = followed(engine)
        assert isinstance(lost, WorkerLost)
        assert "ValueError: invalid literal for int() with base 10: 'no job'" in lost.reason
        told = [event.text for event in events if isinstance(event, Notice) and "trial 0" in event.text]
        assert [text.split(": ")[0] for text in told] == ["trial 0 could not be given to a worker; another worker gets it"]
        assert isinstance(events_of(engine, job_of(1, tmp_path, epochs=1))[-1], JobDone)


def test_a_cluster_on_which_no_worker_can_train(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If workers start up on the only machine but accept no job, the search ends with an error."""
    monkeypatch.setattr("search.engines.limits.MAX_STARTUP_FAILURES", 2)
    with (
        ray_cluster(1) as lonely,
        engine_of("ray", trial_clips_of(tiny, tmp_path), tmp_path, lambda: lonely) as engine,
        pytest.raises(ResourceError, match="workers end before they start training") as caught,
    ):
        events_of(engine, Unreadable(**vars(job_of(0, tmp_path))))
    assert caught.value.hint is not None
    assert "the same Python, packages and islr-search" in caught.value.hint


def test_unfit_machines(tmp_path: Path, tiny: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk on one machine, a missing package on another: one notice each, and the search continues without them."""
    monkeypatch.setattr("search.engines.limits.MAX_STARTUP_FAILURES", 2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / f"islr-search-{os.getuid()}").touch()
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "safetensors.py").write_text("raise ImportError('safetensors is missing here')")
    events: list[Event] = []

    def notices() -> list[str]:
        return [event.text for event in events if isinstance(event, Notice) and "continues without" in event.text]

    trial_clips, runs = trial_clips_of(tiny, tmp_path / "runs", events.append), tmp_path / "runs"
    with engine_of("ray, nothing shared", trial_clips, runs, lambda: cluster, workers=3) as engine:
        for number, variables in enumerate([{"TMPDIR": str(tmp_path / "full")}, {"PYTHONPATH": str(tmp_path / "without")}]):
            cluster.add_node(num_cpus=2, env_vars=variables)
            deadline = time.monotonic() + 130
            while engine.slots < 2 or len(notices()) <= number:
                assert engine.next_event(0.2) is None
                assert time.monotonic() < deadline, "it took too long"
        assert isinstance(events_of(engine, job_of(0, runs, epochs=1))[-1], JobDone)
        assert engine.next_event(2.0) is None
        assert engine.slots == 2
    full, without = notices()
    start = f"the search continues without machine {socket.gethostname()}: "
    assert full == f"{start}a worker's folder cannot be created: File exists ({tmp_path}/full/islr-search-{os.getuid()})"
    assert without.startswith(f"{start}workers end before they start training: 2 in a row; the last: ")
    assert "safetensors is missing here" in without


class FakeRay:
    """Stands in for Ray and the cluster. Workers send the given messages at once; those without a machine send none."""

    def __init__(self, machines: list[Any], exceptions: Any) -> None:
        self.machines, self.exceptions = machines, exceptions
        self.is_reachable = True
        self.excluded: set[Any] = set()
        self.asked: list[dict[str, Any]] = []
        """Options of each requested worker."""

        self.coming: list[tuple[Any, list[object]]] = []
        """Machine and messages of the next workers."""

        self.job = [JobAccepted(), exceptions.OutOfMemoryError("too much")]
        """Messages of workers when they get a job."""

    def remote(self, **_: object) -> Any:
        """Makes an actor class."""
        return lambda kind: self

    def options(self, **options: Any) -> Any:
        """Records the options."""

        def hired(*_: object) -> Any:
            self.asked.append(options)
            machine, said = self.coming.pop(0) if self.coming else (None, [])
            return SimpleNamespace(machine=machine, start_up=self._call(said), start_job=self._call(list(self.job)))

        return SimpleNamespace(remote=hired)

    def _call(self, said: list[object]) -> Any:
        return SimpleNamespace(remote=lambda *_: Stream(said))

    def wait(self, streams: list[Stream], num_returns: int, timeout: float) -> tuple[list[Stream], list[Stream]]:
        """Streams with a message, and the others."""
        return [stream for stream in streams if stream.left][:num_returns], [stream for stream in streams if not stream.left]

    def get(self, message: object) -> object:
        """The message; raises it if it is an error of Ray."""
        if isinstance(message, Exception) and not isinstance(message, ExplainedError):
            raise message
        return message

    def kill(self, actor: object, no_restart: bool) -> None:
        """Does nothing."""

    def capacity(self, cpus: float, gpus: float) -> int:
        """One worker per machine."""
        return len(set(self.machines) - self.excluded)

    def machine_of(self, actor: Any) -> Any:
        """The actor's machine."""
        return actor.machine

    def check(self, at_once: bool = False) -> None:
        """Always reachable."""

    def text(self) -> str:
        """Empty."""
        return ""

    def close(self) -> None:
        """Does nothing."""


class Stream:
    """Messages of a worker."""

    def __init__(self, left: list[object]) -> None:
        self.left = left

    def __next__(self) -> object:
        return self.left.pop(0)


@pytest.mark.parametrize("stays", [True, False])
def test_no_machine_is_left(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, stays: bool) -> None:
    """A proven machine is used again if it is the only one; an unproven one is not, since a proven one may come back."""
    from ray import exceptions

    from search.engines.ray.cluster import Machine
    from search.engines.ray.engine import RayEngine

    good, bad = Machine("1", "good"), Machine("2", "bad")
    full = ResourceError("a worker's folder cannot be created")
    ray: Any = FakeRay([good] if stays else [good, bad], exceptions)
    monkeypatch.setattr("search.engines.ray.engine.ray", ray)
    up = ActorReady("process 1 on good", sees_files=True, sees_data=True)
    ray.coming = [(good, [up]), (good, [full])] if stays else [(good, [up])]
    events: list[Event] = []
    trial_clips = trial_clips_of(tiny, tmp_path, events.append)
    setup = Setup(tiny, tmp_path, trial_clips.split, fingerprint(trial_clips.data), gpu=None)
    engine = RayEngine(ray, trial_clips, setup, workers=2, device="cpu", resources=Resources())
    for _ in range(3):
        assert engine.next_event(0.0) is None
    assert engine.slots == 1
    avoids = {"label_selector": {"ray.io/node-id": f"!in({'1' if stays else '2'})"}}
    assert ray.asked == ([{}, {}, avoids] if stays else [{}, {}])
    engine.start(job_of(0, tmp_path))
    if not stays:
        ray.machines = [bad]
    ray.coming = [(good if stays else bad, [full])]
    lost = engine.next_event(0.0) or engine.next_event(0.0)
    assert isinstance(lost, WorkerLost)
    if stays:
        with pytest.raises(ResourceError):
            engine.next_event(0.0)
        assert ray.asked[3:] == [{}]
    else:
        for _ in range(3):
            assert engine.next_event(0.0) is None
        assert ray.asked[2:] == [{}, avoids]
    told = [event.text for event in events if isinstance(event, Notice) and "continues without" in event.text]
    assert told == [f"the search continues without machine {'good' if stays else 'bad'}: a worker's folder cannot be created"]


def test_ray_errors() -> None:
    """A lost connection is an error of Ray."""
    from search.engines.ray.cluster import ray_errors

    with pytest.raises(ResourceError, match="the Ray cluster failed"), ray_errors():
        raise ConnectionResetError


def test_the_driver_is_killed_and_stopped(place: Path, tiny: Path, cli: Cli, cluster: Any) -> None:
    """The same command resumes after `kill -9` and after Ctrl-C, and every number is the same."""
    sets = ("epochs=70", "trials=3", "train.kernel=torch")  # slow enough to be interrupted
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
    assert "was interrupted: resuming after epoch" in err
    assert "Traceback" not in err + out
    assert not RAY_WORDS & set(re.findall(r"\w+", out + err.replace("connecting to Ray", ""))), "Ray prints nothing"
    kept = {trial.number: max(trial.intermediate_values, default=0) for trial in stored_trials(place)}
    left = [number for number, state in enumerate(states(place)) if state == "RUNNING" and kept[number]]
    assert left

    done = cli(*command)
    assert done.code == 0, done.err
    for number in left:
        assert f"trial {number} was interrupted: resuming after epoch {kept[number]}" in done.err, "no epoch is lost"
    assert states(place) == ["COMPLETE"] * 3
    assert not any(attribute(trial, "deaths") for trial in stored_trials(place))
    assert outcomes(place) == uninterrupted(place, tiny, cli, *sets)

    confirmed = cli("confirm", "tiny", "--top", "1", "--seeds", "2", *command[4:10])
    assert confirmed.code in (0, 1), confirmed.err
    assert set(states(place, "tiny/confirm")) == {"COMPLETE"}
    until(lambda: not actors())


def test_local_ray(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an address, a local Ray instance is started. It survives signals to the process group, but not the run's end.

    Its workers use this program's packages, though the working folder has one of the same name.
    """
    (place / "model").mkdir()
    (place / "model" / "__init__.py").write_text("", encoding="utf-8")
    monkeypatch.setenv("HOME", str(place))  # Ray keeps a token there
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    command = ["run", "tiny.yaml", "--data", str(tiny), "--trials", "1", "--set", "epochs=400", "--set", "train.kernel=torch"]
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
            "only the run itself reacts to the signal"
        )
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=100)
        assert process.returncode == 143, err
        assert "stopped (SIGTERM); everything is kept." in err
        assert not RAY_WORDS & set(re.findall(r"\w+", out + err.replace("connecting to Ray", ""))), "Ray prints nothing"
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive
    finally:
        process.kill()


def test_a_lost_cluster(place: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost cluster ends the run with a resource error."""
    monkeypatch.setattr("search.engines.ray.cluster._LOST_S", 1.0)

    with ray_cluster(1) as lonely:
        address = lonely.address
        engine = EngineOptions(device="cpu", engine="ray", address=address)

        def watch(event: Event) -> None:
            if isinstance(event, EpochFinished) and event.step == 2:
                lonely.head_node.all_processes["gcs_server"][0].process.kill()

        with pytest.raises(ResourceError, match="the Ray cluster is lost") as caught:
            search_here(tiny, engine, watch, "epochs=2000")
    assert caught.value.got.startswith(f"no answer from {address} for ")
    assert set(states(place)) == {"RUNNING"}


def test_invalid_addresses(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invalid addresses are refused before anything is created, and quoted as given."""
    dead = "127.0.0.1:1"
    told = [
        (("--address", dead, "--device", "cpu"), None, 3, f"the connection to the Ray cluster failed\n  --> --address {dead}"),
        (("--device", "cuda"), dead, 3, f"the connection to the Ray cluster failed\n  --> RAY_ADDRESS={dead}"),
        ((), "ray://127.0.0.1:1", 2, "got: RAY_ADDRESS=ray://127.0.0.1:1"),
        *(
            (("--address", address), None, 2, f"this is not the address of a Ray cluster\ngot: --address {address}")
            for address in ("..:80", "127.0.0.1:\u00b2", "127.0.0.1:99999", "127.0.0.1:x")
        ),
    ]
    for words, variable, code, text in told:
        with monkeypatch.context() as patch:
            if variable:
                patch.setenv("RAY_ADDRESS", variable)
            answer = cli("run", "tiny.yaml", "--data", tiny, "--engine", "ray", *words)
        assert (answer.code, text in answer.err) == (code, True), answer.err
    assert not (place / "runs").exists()


def test_impossible_options(place: Path, tiny: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conflicting options and a missing cluster are errors before anything is created."""
    told = {
        ("--address", "auto"): (2, "add `--engine ray`"),
        ("--engine", "ray", "--address", "127.0.0.1:1"): (3, "the connection to the Ray cluster failed"),
        ("--engine", "ray", "--address", "ray://127.0.0.1:1"): (2, "cannot use a Ray Client address"),
        ("--engine", "ray", "--device", "cuda:0"): (2, "a Ray cluster assigns GPUs itself"),
        ("--set", "resources.gpus=2"): (2, "resources"),
        ("--set", "resources.cpus=0"): (2, "resources"),
    }
    for words, (code, text) in told.items():
        answer = cli("run", "tiny.yaml", "--data", tiny, *words)
        assert (answer.code, text in answer.err) == (code, True), answer.err
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find(name, *rest))
    with pytest.raises(DefinitionError) as caught:
        EngineOptions(device="cpu", engine="ray").require_possible()
    assert caught.value.hint == "pip install 'islr-search[ray]'"
    assert not (place / "runs" / "studies.db").exists()


def test_ray_does_not_upload_the_working_directory() -> None:
    """The variables that Ray reads when it is imported are set before: under `uv run` it would upload all runs."""
    code = "import search.engines.ray.cluster, ray._private.ray_constants as c; print(c.RAY_ENABLE_UV_RUN_RUNTIME_ENV)"
    own = {name: value for name, value in environment().items() if name != "RAY_ENABLE_UV_RUN_RUNTIME_ENV"}
    done = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
