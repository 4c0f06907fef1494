"""The contract that every engine fulfills. A new engine adds itself to `KINDS`."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusters import actors, ray_cluster
from launch import workers

from data_utils.errors import DataError
from data_utils.normalize import PreprocessConfig
from data_utils.prepared import fingerprint
from data_utils.splits import split_signers
from search.definition.definition import Plan, Resources
from search.definition.settings import build_configs
from search.engines.engine import Engine, EngineEvent, JobDone, JobFailed, JobInterrupted, JobStarted, StepDone, WorkerLost
from search.engines.inline import InlineEngine
from search.engines.job_run import Setup
from search.engines.lockstep.engine import LockstepEngine
from search.engines.processes import ProcessEngine
from search.engines.ray.actor import scratch_name, scratch_root
from search.events import Event, Listener, Notice
from search.trial.clips import TrialClips, data_store, open_indexed
from search.trial.files import CHECKPOINT
from search.trial.job import Job
from search.trial.outcome import Outcome
from search.trial.weights import model_path

pytestmark = pytest.mark.slow

KINDS = ("inline", "processes", "lockstep", "ray", "ray, nothing shared")
every_kind = pytest.mark.parametrize("kind", KINDS)
every_kind_but_shared_ray = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "ray"])
"""For tests in which files that come between a worker's other messages are the harder case."""

every_kind_with_workers = pytest.mark.parametrize("kind", ["processes", "lockstep", "ray"])
"""For the deaths of workers. That transferred files outlive one: `test_transferred_files_survive_a_lost_node`."""

SMALL = {"train.batch_size": 8, "model.width": 16, "model.ffn_width": 16, "model.layers": 1, "train.patience": 0}
LIMIT_S = 100.0
"""How long a test waits for an event."""

Answer = Callable[[Engine, StepDone], None]


def trial_clips_of(folder: Path, runs: Path, emit: Listener = lambda event: None) -> TrialClips:
    """The clips of a data set, split as a study would."""
    data = open_indexed(folder, runs)
    split = split_signers(data.words_of, train="rest", validation="auto", test="auto", folds=None, seed=0)
    return TrialClips(data, split, data_store(runs), emit)


def job_of(trial: int, runs: Path, *, epochs: int = 4, keeps_models: bool = False, **settings: Any) -> Job:
    """A small trial."""
    values = {**SMALL, "train.epochs": epochs, **{name.replace("__", "."): value for name, value in settings.items()}}
    folder = runs / "study" / f"{trial:04d}"
    configs = build_configs(values, "a test")
    return Job(trial, configs, 7 + trial, Plan(), "cpu", folder, keeps_models=keeps_models)


def events_of(
    engine: Engine, job: Job, answer: Answer | None = None, until: Callable[[EngineEvent], bool] | None = None
) -> list[EngineEvent]:
    """Starts a job and advances it after each step, until it ends or `until` is true for an event."""
    wait_for_slot(engine)
    engine.start(job)
    return followed(engine, answer, until)


def followed(
    engine: Engine, answer: Answer | None = None, until: Callable[[EngineEvent], bool] | None = None
) -> list[EngineEvent]:
    """The events of the engine's only job."""
    events: list[EngineEvent] = []
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        event = engine.next_event(0.2)
        if event is None:
            continue
        events.append(event)
        if isinstance(event, JobDone | JobFailed | JobInterrupted | WorkerLost) or (until is not None and until(event)):
            return events
        if isinstance(event, StepDone):
            (answer or (lambda engine, step: engine.advance(step.trial)))(engine, event)
    raise AssertionError(f"no more events after {events}")


def wait_for_slot(engine: Engine) -> None:
    """Waits until a worker is ready."""
    deadline = time.monotonic() + LIMIT_S
    while not engine.slots:
        assert engine.next_event(0.2) is None
        assert time.monotonic() < deadline, "no worker becomes ready"


def numbers(events: list[EngineEvent]) -> list[Any]:
    """What must be the same in every engine: every epoch and the outcome."""
    found: list[Any] = []
    for event in events:
        if isinstance(event, StepDone):
            found.append({n: replace(record, seconds=0.0) for n, record in event.step.records.items()})
        elif isinstance(event, JobDone):
            found.append(event.outcome)
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of one node, started for the first test that uses it."""
    with ray_cluster(2) as cluster:
        yield cluster


@contextlib.contextmanager
def engine_of(
    kind: str, trial_clips: TrialClips, runs: Path, cluster: Callable[[], Any], timeout_s: float = 1000.0, workers: int = 1
) -> Iterator[Engine]:
    """An engine, closed at the end."""
    setup = Setup(trial_clips.data.folder, runs, trial_clips.split, fingerprint(trial_clips.data), gpu=None)
    engine: Engine
    if kind == "inline":
        engine = InlineEngine(trial_clips)
    elif kind == "processes":
        engine = ProcessEngine(setup, slots=workers, gpus=(), trial_timeout_s=timeout_s, emit=trial_clips.emit)
    elif kind == "lockstep":
        emit = trial_clips.emit
        engine = LockstepEngine(setup, slots=workers, gpus=(), width=workers, trial_timeout_s=timeout_s, emit=emit)
    else:
        from search.engines.ray.cluster import Cluster
        from search.engines.ray.engine import RayEngine

        connection = Cluster(cluster().address)
        engine = RayEngine(
            connection, trial_clips, setup, workers=workers, device="cpu", resources=Resources(), trial_timeout_s=timeout_s,
            shares_files=kind == "ray",
        )  # fmt: skip
    try:
        yield engine
    finally:
        engine.close()


def workers_of(kind: str) -> list[psutil.Process]:
    """The worker processes of this process."""
    return actors() if kind.startswith("ray") else workers()


def only_worker(kind: str) -> psutil.Process:
    """The one worker, once those of earlier tests have ended."""
    deadline = time.monotonic() + 60
    while len(found := workers_of(kind)) != 1:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found[0]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The folder for all output."""
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def expected(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The numbers of job 0 from an uninterrupted run."""
    runs = tmp_path_factory.mktemp("expected")
    with engine_of("inline", trial_clips_of(tiny, runs), runs, lambda: None) as engine:
        return numbers(events_of(engine, job_of(0, runs, keeps_models=True)))


class TestEngine:
    """Every engine passes all tests."""

    @pytest.fixture
    def make_engine(
        self, kind: str, runs: Path, tiny: Path, request: pytest.FixtureRequest
    ) -> Callable[..., contextlib.AbstractContextManager[Engine]]:
        """Makes an engine of this kind, on the small data set or another."""

        def make(
            folder: Path = tiny, emit: Listener = lambda event: None, **options: float
        ) -> contextlib.AbstractContextManager[Engine]:
            return engine_of(
                kind, trial_clips_of(folder, runs, emit), runs, lambda: request.getfixturevalue("cluster"), **options
            )

        return make

    @every_kind
    def test_one_job_after_the_other(self, kind: str, make_engine: Any, runs: Path, tiny: Path, expected: list[Any]) -> None:
        """A job reports its start, each epoch and its end, with the same numbers, also after canceled and failed jobs."""
        notices: list[Event] = []
        trial_clips_of(tiny, runs).folds(PreprocessConfig())
        [frames] = (runs / "prepared").glob("*/frames.npy")
        os.truncate(frames, 100)
        with make_engine(emit=notices.append) as engine:
            dropped = events_of(
                engine, job_of(1, runs), lambda engine, step: engine.cancel(1), lambda e: isinstance(e, StepDone)
            )
            engine.cancel(1)
            assert [type(event) for event in dropped] == [JobStarted, StepDone]
            assert engine.next_event(0.3) is None, "it reports nothing more"
            texts = [event.text for event in notices if isinstance(event, Notice)]
            assert [text for text in texts if "workers are ready" not in text] == [  # on a busy machine they start late
                f"the prepared data in {frames.parent} is cut short (frames.npy): computing it again"
            ]

            failed = events_of(engine, job_of(2, runs, model__ffn_width=10**12))
            assert [type(event) for event in failed] == [WorkerLost]
            assert failed[0].reason.startswith("out of memory: ")
            assert failed[0].device_failed, "the memory is given back, and the job can be tried once more"

            job = job_of(0, runs, keeps_models=True)
            events = events_of(engine, job)
            assert [type(event) for event in events] == [JobStarted, *[StepDone] * 4, JobDone]
            assert {event.trial for event in events} == {0}
            assert (events[0].steps_done, events[0].max_steps, events[0].resume_note, events[0].worker) == (0, 4, "", 0)
            assert numbers(events) == expected
            outcome: Outcome = events[-1].outcome
            assert outcome.models
            assert model_path(job.folder, 0, 1).is_file(), "the weights are in the job's folder"
            assert engine.next_event(0.3) is None
            if kind.startswith("ray"):
                scratch = scratch_root() / scratch_name(only_worker(kind).pid)
                assert scratch.exists() == (kind == "ray, nothing shared"), "files are shared where possible"

    @every_kind_but_shared_ray
    def test_canceled_at_any_moment(self, kind: str, make_engine: Any, runs: Path, expected: list[Any]) -> None:
        """A canceled job reports nothing more: in the middle of an epoch, before its start, or with a dead worker."""
        with make_engine() as engine:

            def one_step(trial: int) -> None:
                events = events_of(engine, job_of(trial, runs), until=lambda event: isinstance(event, StepDone))
                assert [type(event) for event in events] == [JobStarted, StepDone]

            one_step(1)
            engine.advance(1)
            engine.cancel(1)
            engine.start(job_of(2, runs))  # its worker is not there yet
            engine.cancel(2)
            assert engine.next_event(0.3) is None
            wait_for_slot(engine)
            engine.start(job_of(3, runs))
            engine.cancel(3)
            if kind != "inline":
                one_step(4)
                [worker] = workers_of(kind)
                worker.kill()
                engine.cancel(4)
                until = time.monotonic() + 5
                while time.monotonic() < until and worker in workers_of(kind):
                    assert engine.next_event(0.2) is None
                assert engine.next_event(1.0) is None
                one_step(5)
                only_worker(kind).kill()
                engine.advance(5)
                engine.cancel(5)
                assert engine.next_event(0.3) is None
            events = events_of(engine, job_of(0, runs, keeps_models=True))
            assert {event.trial for event in events} == {0}
            assert numbers(events) == expected

    @every_kind_but_shared_ray
    def test_interrupted_and_resumed(self, kind: str, make_engine: Any, runs: Path, expected: list[Any]) -> None:
        """An interrupted job resumes in another engine with the same numbers. One not yet started is interrupted at once."""
        job = job_of(0, runs, keeps_models=True)
        with make_engine() as engine:

            def answer(engine: Engine, step: StepDone) -> None:
                if step.step.records[0].epoch == 2:
                    engine.interrupt_jobs()
                engine.advance(0)

            first = events_of(engine, job, answer)
            assert [type(event) for event in first] == [JobStarted, StepDone, StepDone, JobInterrupted]
            assert (job.folder / CHECKPOINT).is_file()
            engine.start(job_of(1, runs))
            assert followed(engine) == [JobInterrupted(1)]
        with make_engine() as engine:
            again = events_of(engine, job.resumed())
            assert (again[0].steps_done, again[0].resume_note) == (2, "resuming after epoch 2")
            assert numbers(again) == expected, "earlier epochs are reported again"

    @every_kind
    def test_missing_data(self, kind: str, make_engine: Any, runs: Path, tiny: Path, tmp_path: Path) -> None:
        """A missing data set is an error of the search, not of the trial."""
        shutil.copytree(tiny, tmp_path / "data")
        with make_engine(tmp_path / "data") as engine:
            wait_for_slot(engine)
            if kind not in ("processes", "lockstep"):  # its worker reads the data when it starts
                assert numbers(events_of(engine, job_of(1, runs, epochs=1)))
            (tmp_path / "data").rename(tmp_path / "elsewhere")
            with pytest.raises(DataError):
                events_of(engine, job_of(0, runs, preprocess__align="unique"))

    @every_kind_with_workers
    def test_an_idle_worker_dies_or_hangs_as_it_gets_a_job(
        self, kind: str, make_engine: Any, runs: Path, expected: list[Any]
    ) -> None:
        """The job was never accepted, so nothing is reported of it: another worker gets it."""
        with make_engine() as engine:
            for trial, dies in ((1, True), (2, False)):
                done = events_of(engine, job_of(trial, runs, epochs=1))
                assert [type(event) for event in done] == [JobStarted, StepDone, JobDone]
                process = only_worker(kind)
                process.suspend()
                engine.start(job_of(0, runs / str(trial), keeps_models=True))
                if dies:
                    process.kill()
                else:
                    while kind == "lockstep" and not engine._workers[0].in_round:
                        assert engine.next_event(0.0) is None
                    [worker] = engine._workers
                    worker.clock.start(worker.clock.limit_s)  # its time has run out
                events = followed(engine)
                assert [type(event) for event in events] == [JobStarted, *[StepDone] * 4, JobDone]
                assert numbers(events) == expected

    @every_kind_with_workers
    def test_a_worker_dies_and_another_hangs(self, kind: str, make_engine: Any, runs: Path, expected: list[Any]) -> None:
        """If a worker dies, its job resumes from the checkpoint. If one hangs, its job fails; later jobs get a new worker."""
        with make_engine(timeout_s=6.0) as engine:
            job = job_of(0, runs, keeps_models=True)

            def kill(engine: Engine, step: StepDone) -> None:
                if step.step.records[0].epoch == 3:
                    only_worker(kind).kill()
                engine.advance(0)

            lost = events_of(engine, job, kill)
            assert [type(event) for event in lost] == [JobStarted, *[StepDone] * 3, WorkerLost]
            assert not lost[-1].machine_lost
            again = events_of(engine, job.resumed())
            assert again[0].steps_done >= 1, "the first epoch is always saved"
            assert numbers(again) == expected

            def suspend(engine: Engine, step: StepDone) -> None:
                only_worker(kind).suspend()
                engine.advance(1)

            hangs = events_of(engine, job_of(1, runs), suspend)
            assert hangs[-1] == JobFailed(1, "it took longer than the 6 s allowed for a trial")
            assert [type(event) for event in events_of(engine, job_of(2, runs, epochs=1))][-1] is JobDone
        psutil.wait_procs(workers_of(kind), timeout=20)
        assert not workers_of(kind), "no worker outlives its engine"
