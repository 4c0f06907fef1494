"""Several jobs at once in one process, round by round: their numbers, and what happens to one does not touch the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_engine_contract import SMALL, trial_clips_of

from model.record import EpochRecord
from model.training import Diverged, Training
from search.definition.definition import Plan
from search.definition.settings import build_configs
from search.engines.engine import EngineEvent, JobFailed, JobStarted, StepDone, WorkerLost
from search.engines.job_run import Decision
from search.engines.lockstep import host as module
from search.engines.lockstep.host import Host, Round
from search.events import Event, Notice
from search.trial.job import Job

SEED = 5
"""Of the order that all jobs share."""


def job_of(trial: int, runs: Path, *, epochs: int = 3, order_seed: int | None = SEED, **settings: Any) -> Job:
    """A small trial that PyTorch trains."""
    values = {**SMALL, "train.kernel": "torch", "train.epochs": epochs, "train.lr": 1e-3 * (trial + 1)}
    values |= {name.replace("__", "."): value for name, value in settings.items()}
    folder = runs / "study" / f"{trial:04d}"
    return Job(trial, build_configs(values, "a test"), 7 + trial, Plan(), "cpu", folder, order_seed=order_seed)


class Driver:
    """A host, and the numbers that its jobs report."""

    def __init__(self, data: Path, runs: Path, width: int) -> None:
        self.said: list[Event] = []
        self.host = Host(trial_clips_of(data, runs), width, self.said.append)
        self.advanced: tuple[int, ...] = ()
        self.records: dict[int, list[EpochRecord]] = {}
        self.first_orders: dict[int, int | None] = {}
        self.stacks: dict[int, int | None] = {}

    def round(self, *started: Job, dropped: Sequence[int] = (), trains: bool = True) -> list[EngineEvent]:
        """One round: all jobs advance, and some start."""
        advanced = tuple(trial for trial in self.advanced if trial not in dropped)
        work = Round(
            dropped=tuple(dropped), advanced=advanced, decision=Decision.CONTINUE, started=started, trains=trains
        )  # fmt: skip
        events = self.host.run(work)
        for event in events:
            if isinstance(event, JobStarted):
                self.first_orders[event.trial] = event.first_order
            elif isinstance(event, StepDone):
                self.stacks[event.trial] = event.stack
                self.records.setdefault(event.trial, []).append(replace(event.step.records[0], seconds=0.0))
        ended = {event.trial for event in events if not isinstance(event, JobStarted | StepDone)}
        self.advanced = tuple(trial for trial in (*advanced, *(job.trial for job in started)) if trial not in ended)
        return events

    def train(self, *jobs: Job) -> dict[int, list[EpochRecord]]:
        """Trains jobs to their ends; the records of each."""
        self.round(*jobs)
        while self.advanced:
            self.round()
        return self.records


@pytest.fixture
def drive(tiny: Path, tmp_path: Path) -> Callable[[int], Driver]:
    """Makes a host of some width."""
    return lambda width: Driver(tiny, tmp_path / "runs", width)


def largest_difference(found: Sequence[EpochRecord], expected: Sequence[EpochRecord]) -> float:
    """Of the losses of two trainings."""
    pairs = [(one, other) for one, other in zip(found, expected, strict=True)]
    return max(max(abs(one.train_loss - other.train_loss), abs(one.val_loss - other.val_loss)) for one, other in pairs)


@pytest.fixture
def alone(drive: Callable[[int], Driver], tmp_path: Path) -> Callable[[Job], list[EpochRecord]]:
    """The records of a job that trains alone."""
    return lambda job: drive(1).train(replace(job, folder=tmp_path / "alone" / job.name))[job.trial]


def test_jobs_at_once_and_one_that_joins(
    drive: Callable[[int], Driver], alone: Callable[[Job], list[EpochRecord]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has the numbers that it has alone, up to rounding. One that starts later joins the stack. Bit for bit each time."""
    sizes: list[int] = []
    real = module.run_epochs

    def watched(trainings: Sequence[Training], width: int) -> list[EpochRecord | Diverged]:
        sizes.append(len(trainings))
        return real(trainings, width)

    monkeypatch.setattr(module, "run_epochs", watched)
    jobs = [job_of(0, tmp_path, epochs=2), job_of(1, tmp_path), job_of(2, tmp_path)]
    found = []
    for _ in range(2):
        driver = drive(4)
        driver.round(*jobs[:2])
        driver.round(jobs[2])
        while driver.advanced:
            driver.round()
        found.append(driver.records)
    assert found[0] == found[1]
    assert sizes == [2, 3, 2, 1] * 2, "the stack is refilled without draining"
    assert (driver.first_orders, driver.stacks) == ({0: 0, 1: 0, 2: 1}, {0: 4, 1: 4, 2: 4})
    monkeypatch.setattr(module, "run_epochs", real)
    for job in jobs[:2]:
        assert largest_difference(found[0][job.trial], alone(job)) < 1e-4
    assert alone(jobs[0]) == alone(jobs[0])


def test_what_happens_to_one_does_not_touch_the_others(drive: Callable[[int], Driver], tmp_path: Path) -> None:
    """One diverges, one is canceled, one cannot even start: the others' numbers stay the same, bit for bit."""
    jobs = [job_of(trial, tmp_path) for trial in range(4)]
    expected = drive(4).train(*jobs)
    bad = replace(jobs[1], configs=job_of(1, tmp_path, train__lr=1e30).configs)
    no_room = job_of(9, tmp_path, model__ffn_width=10**12)
    driver = drive(4)
    first = driver.round(jobs[0], bad, no_room, *jobs[2:])
    ends = {event.trial: event for event in first if isinstance(event, JobFailed | WorkerLost)}
    while 1 not in ends:
        ends |= {event.trial: event for event in driver.round(dropped=[2]) if isinstance(event, JobFailed)}
    assert isinstance(ends[9], WorkerLost)
    assert ends[9].device_failed
    assert "loss became" in ends[1].reason
    while driver.advanced:
        driver.round(dropped=[2])
    assert {trial: driver.records[trial] for trial in (0, 3)} == {trial: expected[trial] for trial in (0, 3)}


def test_memory_runs_out(
    drive: Callable[[int], Driver], alone: Callable[[Job], list[EpochRecord]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stacks become narrower until they fit, and no trial is lost; one that does not even fit alone loses its worker."""
    real, most = module.run_epochs, 2

    def limited(trainings: Sequence[Training], width: int) -> list[EpochRecord | Diverged]:
        if len(trainings) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")
        return real(trainings, width)

    monkeypatch.setattr(module, "run_epochs", limited)
    driver, jobs = drive(5), [job_of(trial, tmp_path) for trial in range(5)]
    found = driver.train(*jobs)
    assert {trial: len(records) for trial, records in found.items()} == dict.fromkeys(range(5), 3)
    texts = [event.text for event in driver.said if isinstance(event, Notice)]
    out = "(out of memory on the GPU: CUDA out of memory. Tried to allocate 2.00 MiB)"
    assert texts == [
        f"stacks of 5 trainings do not fit into memory; from now on 3 {out}",
        f"stacks of 3 trainings do not fit into memory; from now on 2 {out}",
    ]
    assert set(driver.stacks.values()) == {2}, "what is recorded is what they trained with"
    for job in jobs:
        assert largest_difference(found[job.trial], alone(job)) < 1e-4

    most = 0
    events = drive(2).round(replace(jobs[0], folder=tmp_path / "other"))
    assert [type(event) for event in events] == [JobStarted, WorkerLost]
    assert events[-1].device_failed


def test_resumed_in_one_stack_again(drive: Callable[[int], Driver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are saved in the same round. Another host resumes them with the same numbers; one without a checkpoint joins them."""
    jobs = [job_of(trial, tmp_path, epochs=4) for trial in range(3)]
    expected = drive(3)
    expected.round(*jobs[:2])
    expected.round(jobs[2])
    while expected.advanced:
        expected.round()

    killed = drive(3)
    for job in jobs:
        (job.folder / "checkpoint.safetensors").unlink(missing_ok=True)
    killed.round(*jobs[:2])
    killed.round(jobs[2])  # it saves the first two
    saved = [job.trial for job in jobs if any(job.folder.glob("*"))]
    assert saved == [0, 1]
    again = drive(3)
    again.round(*[job.resumed() for job in reversed(jobs)], trains=False)
    assert {trial: len(records) for trial, records in again.records.items()} == {0: 1, 1: 1}
    while again.advanced:
        again.round()
    assert again.records == expected.records
    assert again.first_orders == {0: 0, 1: 0, 2: 1}


def test_one_that_starts_over_has_its_own_order_again(drive: Callable[[int], Driver], tmp_path: Path) -> None:
    """A job that was begun in a round of its own keeps the epoch of the study that was its first, whatever others train."""
    jobs = [job_of(trial, tmp_path, epochs=3) for trial in range(2)]
    before = drive(2)
    before.round(jobs[0])
    before.round(jobs[1])
    while before.advanced:
        before.round()
    (jobs[1].folder / "checkpoint.safetensors").unlink(missing_ok=True)
    after = drive(2)
    after.train(replace(jobs[1].resumed(), first_order=before.first_orders[1]))
    assert (after.first_orders[1], after.records[1]) == (1, before.records[1])
