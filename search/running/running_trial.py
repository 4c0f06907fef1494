"""One trial of this run: its reports, the pruner's decision, and the loss of its worker."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace

import optuna

from search.definition.trial_attributes import set_attribute
from search.engines.engine import JobStarted, StepDone, WorkerLost
from search.events import EpochFinished, Listener, Notice, TrialStarted, WorkerDied
from search.running.ledger import Ledger
from search.running.machine_failures import with_advice
from search.study.attempts import ATTEMPTS, Attempt, end_attempt, start_attempt, stored_attempts
from search.study.order import FIRST_ORDER, STACK
from search.trial.curves import Curves, Step
from search.trial.job import Job

PRUNED_AT = "pruned_at"
"""Attribute that keeps a pruner's decision until the trial is recorded: some pruners decide otherwise when called again."""

_DEVICE_FAILURES = 1
"""How many failures of the device do not fail a trial."""


@dataclass
class RunningTrial:
    """A trial that this run has taken."""

    trial: optuna.Trial
    job: Job
    reported: dict[int, float]
    """Values that the study has already, by step. A resumed trial repeats those steps; they are not reported again."""

    deaths: list[str]
    """Why workers that trained it died."""

    run: str
    """Name of this run."""

    attempts: list[Attempt]
    """Which worker trained it when."""

    label_smoothing_used: float = math.nan
    """The label smoothing that its loss function was found to use; NaN until it has started."""

    done: int = 0
    """Steps that it had trained before it was resumed; they were announced then."""

    pruned_at: int | None = None
    """The step at which an earlier run had decided to prune it."""

    stack: int | None = None
    """The width of the stacks that trained it so far; see `STACK`."""

    gpu: str | None = None
    """The GPU of its last worker; see `JobStarted.gpu`."""

    is_baseline: bool = False
    """Whether it trains the baseline, which always trains to its end and is never lost to the machine."""

    curves: Curves = field(init=False)
    _has_started: bool = field(init=False, default=False)
    _last_report: int = field(init=False)
    """The last step that it reported since it was given to its worker; -1 if there is none."""

    _num_deaths: int = field(init=False)
    """Deaths that count: for the baseline those of this run."""

    _num_device_failures: int = field(init=False, default=0)
    """In this run."""

    def __post_init__(self) -> None:
        self._num_deaths = 0 if self.is_baseline else len(self.deaths)
        self._reset_curves()

    def start(self, event: JobStarted, emit: Listener) -> None:
        """Notes that its worker is ready for the next step."""
        self.label_smoothing_used, self.done = event.label_smoothing, event.steps_done
        self.gpu = event.gpu
        set_attribute(self.trial, "made_with", json.dumps(dict(event.made_with)))
        if event.first_order is not None and event.first_order != self.job.first_order:
            self.job = replace(self.job, first_order=event.first_order)
            set_attribute(self.trial, FIRST_ORDER, event.first_order)
        self._has_started = True
        self._store_attempts(start_attempt(self.attempts, self.run, event.worker))
        emit(TrialStarted(event.trial, self.trial.params, event.max_steps, event.steps_done, event.resume_note))

    def end_attempt(self) -> None:
        """Notes that its worker, if it had started, has stopped training it."""
        if self._has_started:
            self._has_started = False
            self._store_attempts(end_attempt(self.attempts))

    def report(self, event: StepDone, emit: Listener, *, prunes: bool) -> bool:
        """Adds a step to its curves and reports it to the study. Returns whether the trial continues.

        Args:
            prunes: whether the pruner decides.
        """
        step = event.step
        if event.stack != self.stack:
            self.stack = event.stack
            set_attribute(self.trial, STACK, event.stack)
        self.curves.add(step)
        report = self.curves.report(step) if prunes else None
        if report is None:  # several objectives, or one of several trainings is not over: nothing to decide
            if self.curves.steps > self.done:
                self._announce(step, emit)
            return True
        number, value = report
        known = self.reported.get(number)
        self._last_report = number
        if known != value:
            if known is not None:  # it started over with other versions, or trains on a GPU: its old reports are wrong
                self._drop_reports(number - 1)
            self._announce(step, emit)
            self.trial.report(value, number)
            self.reported[number] = value
        elif number != max(self.reported):
            return True  # the pruner decided before the interruption
        if not self._should_prune(number) or step.is_last:
            return True  # pruning at the last step saves nothing
        set_attribute(self.trial, PRUNED_AT, number)
        return False

    def lose_worker(self, lost: WorkerLost, emit: Listener, *, allowed: int) -> str:
        """Notes that it lost its worker. Returns why the machine fails the trial; empty if it is tried again.

        Args:
            allowed: deaths of workers that do not fail the trial.
        """
        self.end_attempt()
        if lost.machine_lost:
            emit(Notice(f"{self.job.name} lost its machine ({lost.text}): it resumes from its checkpoint"))
        elif not lost.with_others and (failed := self._count_death(lost, emit, allowed)):
            return failed
        self._reset_curves()
        self.job = self.job.resumed()
        return ""

    def _count_death(self, lost: WorkerLost, emit: Listener, allowed: int) -> str:
        self.deaths = [*self.deaths, lost.text]
        set_attribute(self.trial, "deaths", self.deaths)
        if lost.device_failed:
            self._num_device_failures += 1
            count, allowed = self._num_device_failures, _DEVICE_FAILURES
        else:
            self._num_deaths += 1
            count = self._num_deaths
        if count <= allowed:
            emit(WorkerDied(self.job.trial, lost.text, count, allowed, lost.device_failed))
            return ""
        if lost.device_failed:
            return with_advice(lost)
        times = "its worker died" if count == 1 else f"its worker died {count} times; the last time"
        return f"{times}: {lost.text}"

    def drop_stale_reports(self) -> None:
        """At its end: deletes reports of an earlier, longer training, which this one repeated from the start."""
        if max(self.reported, default=-1) > self._last_report:
            self._drop_reports(self._last_report)

    def _reset_curves(self) -> None:
        plan = self.job.plan
        self._last_report = -1
        self.curves = Curves(plan.objective, plan.one_by_one, plan.repeats, plan.unit)

    def _store_attempts(self, attempts: list[Attempt]) -> None:
        self.attempts = attempts
        set_attribute(self.trial, ATTEMPTS, stored_attempts(attempts))

    def _announce(self, step: Step, emit: Listener) -> None:
        emit(EpochFinished(self.job.trial, self.curves.shown(step), self.curves.steps))

    def _drop_reports(self, after: int) -> None:
        trial = self.trial
        assert isinstance(trial.storage, Ledger), "a run writes through its ledger"
        trial.storage.drop_reports(trial._trial_id, after)
        self.trial = optuna.Trial(trial.study, trial._trial_id)
        self.reported = {number: value for number, value in self.reported.items() if number <= after}
        self.pruned_at = None

    def _should_prune(self, number: int) -> bool:
        """The pruner's decision. The baseline is compared like any other trial, but always trains to its end."""
        prune = self.pruned_at == number or self.trial.should_prune()
        return prune and not self.is_baseline
