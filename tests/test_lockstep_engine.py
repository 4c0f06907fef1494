"""The engine `lockstep` between the coordinator and its hosts: rounds, free slots, several GPUs, time limits, a killed host."""

from __future__ import annotations

import math
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from test_engine_contract import LIMIT_S, engine_of, trial_clips_of, workers_of
from test_lockstep_host import Driver, job_of

from data_utils.splits import Split
from model.record import EpochRecord
from search.engines.engine import EngineEvent, JobDone, JobFailed, JobInterrupted, JobStarted, StepDone, WorkerLost
from search.engines.job_run import Decision, Setup, WorkerBroken
from search.engines.lockstep import engine as module
from search.engines.lockstep.engine import LockstepEngine
from search.engines.lockstep.host import Round, RoundAccepted, RoundDone
from search.engines.worker import Ready
from search.events import Event, Notice
from search.trial.curves import Step
from search.trial.job import Job

NO_STEP = Step({}, frozenset(), is_last=False)


class Hosts:
    """The processes of an engine, played by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.pipes: dict[str, Connection] = {}
        self.gpus: dict[str, str | None] = {}
        self.said: list[Event] = []
        outer = self

        class Child:
            def __init__(self, work: object, setup: Setup, *, name: str) -> None:
                self.pipe, outer.pipes[name] = Pipe()
                outer.gpus[name] = setup.gpu

            def send(self, message: object) -> None:
                self.pipe.send(message)

            def end(self) -> None:
                self.pipe.close()

        monkeypatch.setattr(module, "Child", Child)
        self.runs, self.setup = tmp_path, Setup(tmp_path, tmp_path, Split((), (), ()), "", gpu=None)

    def engine(self, slots: int, gpus: tuple[str, ...] = (), timeout_s: float = math.inf) -> LockstepEngine:
        return LockstepEngine(
            self.setup, slots=slots, gpus=gpus, width=slots, trial_timeout_s=timeout_s, emit=self.said.append
        )  # fmt: skip

    def job(self, trial: int) -> Job:
        return job_of(trial, self.runs)

    def next_round(self, name: str = "host 0") -> Round:
        """The round that a host was sent, which it accepts."""
        assert self.pipes[name].poll(), "no round was sent"
        work = self.pipes[name].recv()
        assert isinstance(work, Round)
        self.pipes[name].send(Ready())
        self.pipes[name].send(RoundAccepted())
        return work

    def end_round(self, *events: EngineEvent, name: str = "host 0") -> None:
        self.pipes[name].send(RoundDone(events))


def started(trial: int, steps_done: int = 0) -> JobStarted:
    return JobStarted(trial, {}, steps_done, 9, 0.0, 0.0, "")


def drained(engine: LockstepEngine) -> list[EngineEvent]:
    """All events until there is none, although the engine need not ask for more jobs."""
    events = []
    for _ in range(2):
        while (event := engine.next_event(0.02)) is not None:
            events.append(event)
    return events


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hosts:
    return Hosts(monkeypatch, tmp_path)


def test_free_slots_are_filled_between_rounds(hosts: Hosts) -> None:
    """A round begins when every job has its decision, and the coordinator had the chance to fill free slots."""
    engine = hosts.engine(slots=2)
    engine.start(hosts.job(0))
    assert engine.takes_jobs
    assert engine.next_event(9.0) is None, "at once: there is a free slot"
    assert engine.next_event(0.0) is None
    assert [job.trial for job in hosts.next_round().started] == [0]
    assert drained(engine) == []
    assert not engine.takes_jobs, "in the middle of a round"

    hosts.end_round(started(0), StepDone(0, NO_STEP))
    assert [type(event) for event in drained(engine)] == [JobStarted, StepDone]
    assert not hosts.pipes["host 0"].poll(), "job 0 waits for its decision"
    engine.advance(0)
    engine.start(hosts.job(1))
    assert not engine.takes_jobs
    assert drained(engine) == []
    work = hosts.next_round()
    assert ([job.trial for job in work.started], work.advanced, work.dropped) == ([1], (0,), ())

    engine.cancel(0)
    hosts.end_round(StepDone(0, NO_STEP), started(1), JobFailed(1, "why"))
    assert [event.trial for event in drained(engine)] == [1, 1], "job 0 was canceled in the middle of the round"
    assert engine.takes_jobs
    engine.start(hosts.job(2))
    assert drained(engine) == []
    work = hosts.next_round()
    assert ([job.trial for job in work.started], work.advanced, work.dropped) == ([2], (), (0,))

    hosts.end_round(started(2), StepDone(2, NO_STEP))
    drained(engine)
    engine.interrupt_jobs()
    engine.advance(2)
    assert drained(engine) == []
    assert hosts.next_round().decision is Decision.INTERRUPT
    hosts.end_round(JobInterrupted(2))
    assert drained(engine) == [JobInterrupted(2)]
    engine.close()


def test_others_wait_for_those_that_repeat_steps(hosts: Hosts) -> None:
    """Resumed jobs report the steps of their checkpoints in rounds of their own, so that all train the same epoch then."""
    engine = hosts.engine(slots=2)
    engine.start(hosts.job(0).resumed())
    engine.start(hosts.job(1))
    assert drained(engine) == []
    for steps in (1, 0):
        work = hosts.next_round()
        assert (work.trains, len(work.started), work.advanced) == (False, steps, (0,) * (1 - steps))
        hosts.end_round(*([started(0, steps_done=2)] * steps), StepDone(0, NO_STEP))
        assert isinstance(drained(engine)[-1], StepDone)
        engine.advance(0)
        assert drained(engine) == []
    work = hosts.next_round()
    assert (work.trains, [job.trial for job in work.started], work.advanced) == (True, [1], (0,))
    engine.close()


def test_each_gpu_has_a_host(hosts: Hosts) -> None:
    """Jobs are spread over them evenly, and each works in rounds of its own."""
    engine = hosts.engine(slots=5, gpus=("4", "7"))
    for trial in range(5):
        engine.start(hosts.job(trial))
    assert drained(engine) == []
    assert hosts.gpus == {"host 0": "4", "host 1": "7"}
    assert [[job.trial for job in hosts.next_round(name).started] for name in hosts.pipes] == [[0, 2, 4], [1, 3]]
    hosts.end_round(started(3), JobFailed(3, "why"), started(1), StepDone(1, NO_STEP), name="host 1")
    places = {event.trial: event.worker for event in drained(engine) if isinstance(event, JobStarted)}
    assert places == {1: 1, 3: 3}, "each job has a place of its own, for the timeline of a report"
    engine.advance(1)
    engine.start(hosts.job(6))
    assert drained(engine) == []
    assert [job.trial for job in hosts.next_round("host 1").started] == [6]
    engine.close()

    engine = hosts.engine(slots=4, gpus=("4", "7"))
    for trial, seed in enumerate((1, 2, 2, 1)):  # as in a confirmation
        engine.start(replace(hosts.job(trial), order_seed=None, seed=seed))
    assert drained(engine) == []
    assert [[job.seed for job in hosts.next_round(name).started] for name in hosts.pipes] == [[1, 1], [2, 2]]
    engine.close()


def test_a_trial_that_takes_too_long(hosts: Hosts) -> None:
    """It fails at the end of its round. A round that takes more than the time of all its trials ends with its host."""
    engine = hosts.engine(slots=2, timeout_s=50.0)
    for trial in range(2):
        engine.start(hosts.job(trial))
    assert drained(engine) == []
    hosts.next_round()
    assert drained(engine) == []
    [host] = engine._workers
    host.jobs[1].clock.spend(50.0)
    assert drained(engine) == []
    hosts.end_round(started(0), StepDone(0, NO_STEP), started(1), StepDone(1, NO_STEP))
    *_, first, _, second = drained(engine)
    assert isinstance(first, StepDone)
    assert second == JobFailed(1, "it took longer than the 50 s allowed for a trial")
    engine.advance(0)
    assert drained(engine) == []
    assert hosts.next_round().dropped == (1,)
    assert drained(engine) == []
    host.jobs[0].clock.spend(50.0)
    assert drained(engine) == [JobFailed(0, "it took longer than the 50 s allowed for a trial")]
    assert not engine._workers
    engine.close()


def test_the_one_to_blame_shows(hosts: Hosts) -> None:
    """A host that trains several is lost because of job 1. Only that one is blamed, and the others train together again."""
    engine = hosts.engine(slots=3, gpus=("4",))
    for trial in range(3):
        engine.start(hosts.job(trial))
    trained, blamed = [], []
    while trained[-3:] != [[0, 2]] * 3 and len(trained) < 20:
        for event in drained(engine):
            if isinstance(event, WorkerLost):
                assert event.shares_device
                blamed += [] if event.with_others else [event.trial]
                if blamed.count(1) < 2 or event.trial != 1:
                    engine.start(hosts.job(event.trial).resumed())
            elif isinstance(event, StepDone):
                engine.advance(event.trial)
        assert drained(engine) == []
        work = hosts.next_round()
        trials = sorted([*work.advanced, *(job.trial for job in work.started)])
        if work.trains:
            trained.append(trials)
        if work.trains and 1 in trials:
            hosts.pipes["host 0"].send(WorkerBroken("why"))
        else:
            begun = [started(job.trial) for job in work.started]
            hosts.end_round(*begun, *(StepDone(trial, NO_STEP) for trial in trials if work.trains))
    assert blamed == [1, 1]
    assert trained == [[0, 1, 2], [0, 1, 2], [0], [1], [0, 2], [1], *[[0, 2]] * 3]
    texts = [event.text for event in hosts.said if isinstance(event, Notice)]
    both = "trials 0, 2 lost their worker (why, on GPU 4) and resume from their checkpoints"
    all_three = both.replace("0,", "0, 1,")
    apart = "; from now on each trains in rounds of its own, which shows the one to blame"
    assert texts == [all_three, all_three + apart, both, both]
    engine.close()


@pytest.mark.slow
def test_a_killed_host(tiny: Path, tmp_path: Path) -> None:
    """All its trials go on from their checkpoints in a fresh one, with the same numbers."""
    jobs = [job_of(trial, tmp_path) for trial in range(3)]
    expected = Driver(tiny, tmp_path / "expected", width=3)
    for job in jobs:
        (job.folder / "checkpoint.safetensors").unlink(missing_ok=True)
    expected.train(*jobs)
    records: dict[int, dict[int, EpochRecord]] = {job.trial: {} for job in jobs}
    lost, done = [], set()
    with engine_of("lockstep", trial_clips_of(tiny, tmp_path / "runs"), tmp_path / "runs", lambda: None, workers=3) as engine:
        for job in jobs:
            engine.start(job)
        while len(done) < 3:
            match engine.next_event(LIMIT_S):
                case StepDone(trial=trial, step=step):
                    records[trial][step.records[0].epoch] = step.records[0]
                    if not lost and trial == 2 and step.records[0].epoch == 2:
                        workers_of("lockstep")[0].kill()
                    engine.advance(trial)
                case WorkerLost(trial=trial):
                    lost.append(trial)
                    engine.start(jobs[trial].resumed())
                case JobDone(trial=trial):
                    done.add(trial)
                case JobFailed() as event:
                    raise AssertionError(event)
    assert lost == [0, 1, 2]
    found = {trial: [(one.train_loss, one.val_loss) for one in by_epoch.values()] for trial, by_epoch in records.items()}
    assert found == {
        trial: [(one.train_loss, one.val_loss) for one in of_trial] for trial, of_trial in expected.records.items()
    }  # fmt: skip
