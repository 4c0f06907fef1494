"""The engine `processes` in a search: workers that die, hang or fail. See also `test_engine_contract.py`."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
from conftest import Cli
from launch import (
    TINY_STUDY,
    environment,
    is_in_trial,
    outcomes,
    run_cli,
    start_cli,
    states,
    storage_of,
    stored_trials,
    wait_until,
    workers,
)

from data_utils.splits import Split
from search.definition.study_file import load_definition
from search.definition.trial_attributes import attribute
from search.engines import child, processes, worker
from search.engines.engine import JobDone
from search.engines.engine_options import EngineOptions
from search.engines.job_run import STOP_SIGNALS, Setup
from search.engines.processes import ProcessEngine
from search.errors import ResourceError
from search.events import EpochFinished, Event, TrialFinished, TrialStarted, WorkerDied
from search.running.run import RunOptions, run
from search.running.signals import StopSignals

SLOW = ("--set", "epochs=60", "--set", "train.kernel=torch")
"""Trials that last long enough to be interrupted."""

pytestmark = pytest.mark.slow

Watch = Callable[[Event], None]


def search_here(data: Path, watch: Watch, *sets: str, **options: Any) -> list[Event]:
    """Runs a search of `tiny.yaml` from this process and calls `watch` for each event. Returns the events."""
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        watch(event)

    who = {name: options.pop(name) for name in ("workers", "trial_timeout_s") if name in options}
    engine = EngineOptions(device="cpu", engine="processes", **who)
    given = {"storage": "sqlite:///runs/studies.db", "runs": Path("runs"), "more": None, "engine": engine}
    definition = load_definition("tiny.yaml", sets)
    with StopSignals() as stop:
        run(definition, RunOptions(data=data, **{**given, **options}), listen, stop)
    assert not workers(), "no worker outlives its run"
    return events


def ignore(_: Event) -> None:
    """A listener that does nothing."""


def test_two_workers(place: Path, tiny: Path, cli: Cli) -> None:
    """Two workers finish exactly the target number of trials, with different parameters and all files."""
    done = cli("run", "tiny.yaml", "--data", tiny, "--workers", 2, "--trials", 7)
    assert done.code == 0
    assert "device   cpu, 2 workers, " in done.err
    trials = stored_trials(place)
    assert states(place) == ["COMPLETE"] * 7
    assert len({tuple(trial.params.values()) for trial in trials}) == 7
    assert all((place / "runs" / "tiny" / "trials" / f"{n:04d}" / "curve.csv").exists() for n in range(7))
    assert all(json.loads(attribute(trial, "made_with"))["device"] == "cpu" for trial in trials)


@pytest.mark.parametrize(("number", "most"), [(1, 1), (2, 3)])
def test_next_trial_is_sampled_ahead(number: int, most: int, place: Path, tiny: Path) -> None:
    """With two workers, a third trial is sampled while both are busy; with one, sampling waits for its result."""
    running: list[int] = []

    def watch(event: Event) -> None:
        if isinstance(event, EpochFinished):
            running.append(states(place).count("RUNNING"))

    search_here(tiny, watch, "epochs=10", workers=number)
    assert max(running) == most


def test_a_killed_worker_costs_nothing(
    place_per_storage: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial of a killed worker resumes from its checkpoint in another one, with the same results."""
    killed = []

    def watch(event: Event) -> None:
        if (
            isinstance(event, EpochFinished)
            and event.record.epoch in (2, 5)
            and (event.trial, event.record.epoch) not in killed
        ):
            killed.append((event.trial, event.record.epoch))
            for process in workers():
                process.kill()

    events = search_here(tiny, watch, "epochs=8", "trials=2", storage=storage_of(place_per_storage))
    assert killed == [(trial, epoch) for trial in range(2) for epoch in (2, 5)]
    deaths = [event for event in events if isinstance(event, WorkerDied)]
    assert [(event.trial, event.deaths, event.allowed) for event in deaths] == [(t, n, 3) for t in range(2) for n in (1, 2)]
    assert all(event.reason == "it was killed by SIGKILL (out of memory?)" for event in deaths)
    starts = [event for event in events if isinstance(event, TrialStarted)]
    assert [event.done > 0 for event in starts] == [False, True, True] * 2
    assert all(event.remark == f"resuming after epoch {event.done}" for event in starts if event.done)
    told = [(event.trial, event.record.epoch) for event in events if isinstance(event, EpochFinished)]
    assert told == [(trial, epoch) for trial in range(2) for epoch in range(1, 9)], "each epoch is emitted once"

    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "tiny.yaml").write_text(TINY_STUDY, encoding="utf-8")
    monkeypatch.chdir(whole)
    search_here(tiny, ignore, "epochs=8", "trials=2")
    assert outcomes(place_per_storage) == outcomes(whole)


def test_a_worker_that_dies_too_often(place: Path, tiny: Path) -> None:
    """A trial whose worker dies too often fails with the reason, and the search continues."""

    def watch(event: Event) -> None:
        if isinstance(event, TrialStarted) and event.trial == 1:
            for process in workers():
                process.terminate()  # workers ignore SIGTERM
                process.kill()

    events = search_here(tiny, watch, "epochs=8", "trials=2", max_restarts=2)
    assert states(place) == ["COMPLETE", "FAIL", "COMPLETE"]
    failed = next(event for event in events if isinstance(event, TrialFinished) and event.state == "failed")
    assert failed.reason == "its worker died 3 times; the last time: it was killed by SIGKILL (out of memory?)"
    assert attribute(stored_trials(place)[1], "deaths") == ["it was killed by SIGKILL (out of memory?)"] * 3
    shown = run_cli("show", "tiny", "1", cwd=place).out.splitlines()
    assert shown.count("worker   died: it was killed by SIGKILL (out of memory?)") == 3


def test_suspended_search(place: Path, tiny: Path) -> None:
    """Time in which the whole search is suspended (Ctrl-Z) does not count toward a trial's limit."""
    command = [sys.executable, "-m", "search", "run", "tiny.yaml", "--data", str(tiny), "--trials", "1"]
    process = subprocess.Popen(
        [*command, "--set", "epochs=50", "--trial-timeout", "7s", "--max-failures", "0"],
        cwd=place, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_until(is_in_trial(place, 0, epochs=3), process)
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(8)
    os.killpg(process.pid, signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert states(place) == ["COMPLETE"]


def test_time_of_earlier_runs_counts(place: Path, tiny: Path, cli: Cli) -> None:
    """Training time in earlier runs counts toward a trial's limit."""
    process = start_cli("run", "tiny.yaml", "--data", str(tiny), "--set", "epochs=3000", "--set", "trials=1", cwd=place)
    wait_until(is_in_trial(place, 0, epochs=100), process)
    process.terminate()
    process.communicate()
    done = cli(
        "run", "tiny.yaml", "--data", tiny, "--set", "epochs=3000", "--trials", 1, "--trial-timeout", "0.5s",
        "--max-failures", 0,
    )  # fmt: skip
    assert done.code == 1
    assert states(place) == ["FAIL"]


def broken_workers(folder: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Every worker started from now on executes `what` first."""
    (folder / "broken").mkdir()
    text = f"import os, sys\nif 'spawn_main' in ' '.join(sys.orig_argv):\n    {what}\n"
    (folder / "broken" / "sitecustomize.py").write_text(text, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder / "broken"), prepend=os.pathsep)


def test_workers_that_cannot_start(place: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After four failed starts in a row, the run ends with the reason; the trial does not fail."""
    with monkeypatch.context() as patch:
        broken_workers(tmp_path, patch, "os._exit(7)")
        with pytest.raises(ResourceError, match="workers end before they start training") as caught:
            search_here(tiny, ignore)
    assert caught.value.got == "4 in a row; the last: it exited with code 7"
    assert states(place)[0] == "RUNNING"
    search_here(tiny, ignore)
    assert states(place) == ["COMPLETE"] * 4


def test_too_many_open_files(place: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that cannot be started is a resource error, not a bug."""

    def exhausted(*_: object) -> NoReturn:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(child._SPAWN, "Pipe", exhausted)
    with pytest.raises(ResourceError, match="a worker cannot be started"):
        search_here(tiny, ignore)


def test_bug_in_a_worker(place: Path, tiny: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in a worker ends the run with exit code 4; the log contains the worker's traceback."""
    broken_workers(
        tmp_path, monkeypatch, "import model.training; model.training.Training.run_epoch = lambda self: fault_of_this_version"
    )
    done = cli("run", "tiny.yaml", "--data", tiny, "--engine", "processes")
    assert (done.code, done.err.splitlines()[-3]) == (4, "error: internal error, a bug in this program")
    log = next((place / "runs").glob("crash-*.log")).read_text(encoding="utf-8")
    assert "in _train" in log
    assert "NameError: name 'fault_of_this_version' is not defined" in log
    assert "Traceback" not in done.err


def test_missing_data(place: Path, tiny: Path, tmp_path: Path, cli: Cli) -> None:
    """The run ends with a resource error; once the data set is back, the same command resumes."""
    data = tmp_path / "data"
    data.mkdir()
    for path in tiny.iterdir():
        (data / path.name).write_bytes(path.read_bytes())

    def watch(event: Event) -> None:
        if isinstance(event, EpochFinished) and (event.trial, event.record.epoch) == (1, 1):
            data.rename(tmp_path / "elsewhere")
            for process in workers():
                process.kill()  # the next one looks for the data

    with pytest.raises(ResourceError, match="the data cannot be read any more: there is no such data folder"):
        search_here(data, watch)
    assert states(place)[:2] == ["COMPLETE", "RUNNING"]
    (tmp_path / "elsewhere").rename(data)
    search_here(data, ignore)
    assert states(place) == ["COMPLETE"] * 4


def test_data_that_changes_during_a_search(place: Path, tiny: Path, tmp_path: Path) -> None:
    """A new worker refuses a data set that differs from the one that the study was checked against."""
    data = tmp_path / "data"
    data.mkdir()
    for path in tiny.iterdir():
        (data / path.name).write_bytes(path.read_bytes())

    def watch(event: Event) -> None:
        if isinstance(event, EpochFinished) and (event.trial, event.record.epoch) == (0, 1):
            files = sorted(data.glob("*.hdf5"))
            files[0].write_bytes(files[1].read_bytes())
            for process in workers():
                process.kill()

    with pytest.raises(ResourceError, match="the data set has changed while a search was using it"):
        search_here(data, watch)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_whole_group_is_stopped(number: int, code: int, place: Path, tiny: Path) -> None:
    """Workers ignore a signal to the whole process group (Ctrl-C); the run stops cleanly, and the same command resumes."""
    command = [sys.executable, "-m", "search", "run", "tiny.yaml", "--data", str(tiny), "--workers", "2", *SLOW]
    process = subprocess.Popen(
        command, cwd=place, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for trial in (0, 1):
        wait_until(is_in_trial(place, trial, epochs=5), process)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err + out
    assert f"stopped ({signal.Signals(number).name}); everything is kept." in err
    assert set(states(place)) == {"RUNNING"}
    epochs = [max(trial.intermediate_values, default=0) for trial in stored_trials(place)]
    done = run_cli("run", "tiny.yaml", "--data", str(tiny), "--workers", "2", *SLOW, "--trials", "2", cwd=place)
    assert done.code == 0
    assert f"trial 0 was interrupted: resuming after epoch {epochs[0]}" in done.err, "no epoch is lost"
    assert not any(attribute(trial, "deaths") for trial in stored_trials(place))
    assert states(place).count("COMPLETE") == 2


def test_workers_do_not_outlive_a_killed_coordinator(place: Path, tiny: Path) -> None:
    """Workers end at once if their coordinator is killed, even in the middle of an epoch."""
    process = start_cli("run", "tiny.yaml", "--data", str(tiny), "--workers", "2", "--set", "epochs=3000", cwd=place)
    wait_until(is_in_trial(place, 1), process)
    children = psutil.Process(process.pid).children()
    assert len(children) >= 2
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_two_runs_share_a_study(place_per_storage: Path, tiny: Path) -> None:
    """Two runs finish exactly the target number of trials; if one is killed, the other resumes its trials."""
    run_it = ("run", "tiny.yaml", "--data", str(tiny), "--trials", "7", "--set", "epochs=120", "--set", "train.kernel=torch")
    first = start_cli(*run_it, "--workers", "2", cwd=place_per_storage)
    wait_until(is_in_trial(place_per_storage, 1), first)
    second = start_cli(*run_it, cwd=place_per_storage)
    wait_until(is_in_trial(place_per_storage, 3), second)
    status = json.loads(run_cli("status", "tiny", "--json", cwd=place_per_storage).out)
    assert (status["runs"], status["working"]) == (2, True)
    assert all(running["alive"] for running in status["running"])
    first.kill()
    first.communicate()
    out, err = second.communicate(timeout=240)
    assert second.returncode == 0, err
    assert "7 of 7 trials finished" in out
    assert "was interrupted: resuming after epoch" in err
    trials = stored_trials(place_per_storage)
    assert states(place_per_storage) == ["COMPLETE"] * 7
    assert len({tuple(trial.params.values()) for trial in trials}) == 7
    assert len({attribute(trial, "owner")["run"] for trial in trials}) >= 1


def test_a_run_waits_for_a_slow_one(place: Path, tiny: Path) -> None:
    """A run leaves the trials of a suspended run alone, and says that it is waiting for them."""
    run_it = ("run", "tiny.yaml", "--data", str(tiny), "--trials", "2", *SLOW)
    first = start_cli(*run_it, cwd=place)
    wait_until(is_in_trial(place, 0), first)
    first.send_signal(signal.SIGSTOP)
    second = start_cli(*run_it, cwd=place)
    wait_until(lambda: states(place)[1:] == ["COMPLETE"], second)
    time.sleep(2)
    assert second.poll() is None
    assert states(place)[0] == "RUNNING"
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=60)
    _, err = second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert f"waiting for trials of another run: trial 0 (process {first.pid})" in err
    assert states(place) == ["COMPLETE"] * 2


def test_workers_share_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five workers on two GPUs: three share one, two the other. A replacement gets its predecessor's GPU."""
    given: list[tuple[str | None, int]] = []

    class Process:
        exitcode = 0

        def __init__(self, target: object, args: tuple[object, Setup], name: str) -> None:
            given.append((args[1].gpu, args[1].workers_per_gpu))

        def start(self) -> None:
            pass

        kill = join = close = start

    monkeypatch.setattr(child._SPAWN, "Process", Process)
    engine = processes.ProcessEngine(
        Setup(tmp_path, tmp_path, Split((), (), ()), "", gpu=None),
        slots=5,
        gpus=("4", "7"),
        trial_timeout_s=math.inf,
        emit=ignore,
    )
    hired = [engine._start_worker() for _ in range(5)]
    engine._dismiss(hired[1])
    engine._start_worker()
    engine.close()
    assert given == [("4", 3), ("7", 2), ("4", 3), ("7", 2), ("4", 3), ("7", 2)]


def test_a_worker_sees_only_its_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA_VISIBLE_DEVICES is set before CUDA is initialized, which happens before the worker is ready."""
    seen: list[tuple[object, ...]] = []
    monkeypatch.setattr(worker, "warm_up", lambda *given: seen.append((*given, os.environ["CUDA_VISIBLE_DEVICES"])))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(worker, "end_with_parent", lambda: None)
    here, there = Pipe()
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        worker.work(there, Setup(tmp_path / "nowhere", tmp_path, Split((), (), ()), "", gpu="1"))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert seen == [("cuda", 1, "1")]
    assert isinstance(here.recv(), worker.Ready)
    assert "there is no such data folder" in str(here.recv())


def test_results_are_written_when_the_engine_fails(place: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pending result is still written if an error ends the search."""
    real, over = ProcessEngine.next_event, list[str]()

    def next_event(engine: ProcessEngine, timeout_s: float) -> object:
        if over:
            raise ResourceError("the machine is on fire")
        event = real(engine, timeout_s)
        over.extend(["now"] if isinstance(event, JobDone) else [])
        return event

    monkeypatch.setattr(ProcessEngine, "next_event", next_event)
    with pytest.raises(ResourceError, match="on fire"):
        search_here(tiny, ignore, workers=2)
    assert sorted(states(place)) == ["COMPLETE", *["RUNNING"] * (len(states(place)) - 1)]
