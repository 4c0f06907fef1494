"""A trial that this run trains: what is reported of it, whether it goes on, and what the death of its worker means."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import optuna

from search import BASELINE_TRIAL
from search.engines.engine import JobStarted
from search.events import EpochFinished, Listener, Notice, TrialStarted, WorkerDied
from search.study.attempts import ATTEMPTS, Attempt, as_stored, begun, ended
from search.trial.curves import Curves, Step
from search.trial.job import Job

PRUNED_AT = "pruned_at"
"""Where the verdict of a pruner is kept until the trial's result is told: some pruners judge otherwise when asked again."""


@dataclass
class RunningTrial:
    """A trial that this run has taken."""

    trial: optuna.Trial
    job: Job
    told: dict[int, float]
    """What the study knows already, by step. Those steps come again, and are not reported twice."""

    deaths: list[str]
    """How workers died that trained it."""

    run: str
    """The name of this run."""

    attempts: list[Attempt]
    """Who has trained it when."""

    label_smoothing_used: float = math.nan
    """What its loss function was found to use; NaN until it has started."""

    done: int = 0
    """Steps that it had done when it was begun again; they were announced then."""

    pruned_at: int | None = None
    """The step at which a run was about to stop it, before it died."""

    curves: Curves = field(init=False)

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """It starts again, and all its steps come anew."""
        plan = self.job.plan
        self.curves = Curves(plan.objective, plan.one_by_one, plan.repeats, plan.unit)

    def begin(self, event: JobStarted, emit: Listener) -> None:
        """Its worker is ready for the next step."""
        self.label_smoothing_used, self.done = event.label_smoothing, event.steps_done
        self.trial.set_user_attr("made_with", json.dumps(dict(event.made_with)))
        self._keep(begun(self.attempts, self.run, event.worker))
        emit(TrialStarted(event.trial, self.trial.params, event.max_steps, event.steps_done, event.resume_note))

    def put_aside(self) -> None:
        """Its worker does not go on with it."""
        self._keep(ended(self.attempts))

    def goes_on(self, step: Step, emit: Listener, *, is_judged: bool) -> bool:
        """Takes a step in and reports it: whether the trial goes on. `is_judged`: a pruner has a say."""
        self.curves.add(step)
        report = self.curves.report(step) if is_judged else None
        if report is None:  # several objectives, or a training that goes on: nothing to judge
            if self.curves.steps > self.done:
                self._show(step, emit)
            return True
        number, value = report
        known = self.told.get(number)
        is_last_known = number == max(self.told, default=0)
        if known is None:
            self._show(step, emit)
        if known != value:
            self._report(number, value)
        elif not is_last_known:
            return True  # it was judged before the cut
        if not self._should_be_pruned(number) or step.is_last:
            return True  # at its end nothing is left to save
        self.trial.set_user_attr(PRUNED_AT, number)
        return False

    def lose_worker(self, reason: str, emit: Listener, *, counts: bool, allowed: int) -> str:
        """Its worker is gone. Why it fails for that; empty if another worker is to go on from its checkpoint."""
        self.put_aside()
        if counts:
            self.deaths = [*self.deaths, reason]
            self.trial.set_user_attr("deaths", self.deaths)
            deaths = len(self.deaths)
            if deaths > allowed:
                many = "its worker died" if deaths == 1 else f"its worker died {deaths} times; the last time"
                return f"{many}: {reason}"
            emit(WorkerDied(self.job.trial, reason, deaths, allowed))
        else:
            emit(Notice(f"trial {self.job.trial} has lost its machine ({reason}): it goes on from its checkpoint"))
        self.forget()
        self.job = self.job.resumed()
        return ""

    def _keep(self, attempts: list[Attempt]) -> None:
        self.attempts = attempts
        self.trial.set_user_attr(ATTEMPTS, as_stored(attempts))

    def _show(self, step: Step, emit: Listener) -> None:
        emit(EpochFinished(self.job.trial, self.curves.shown(step), self.curves.steps))

    def _report(self, number: int, value: float) -> None:
        if number in self.told:  # it starts over with other versions, or on a GPU: what was reported is no longer true
            trial = self.trial
            trial.storage.set_trial_intermediate_value(trial._trial_id, number, value)
            self.trial = optuna.Trial(trial.study, trial._trial_id)
        else:
            self.trial.report(value, number)
        self.told[number] = value

    def _should_be_pruned(self, number: int) -> bool:
        """What the pruner says. The baseline takes part in its races, but trains to its end: all others are seen against it."""
        says = self.pruned_at == number or self.trial.should_prune()
        return says and self.job.trial != BASELINE_TRIAL
