"""The main path: take a trial, hand it out, report epochs, prune, tell the result, until the target is met.

The coordinator is the only writer of the study in its run. It knows no screen (it emits events) and no worker (it talks to an
engine). Other runs may work on the same study: they take turns when they take trials, and leave each other's alone.

What is reported gathers in the ledger, where pruners see it at once, and is written in batches; what follows from a result that
is written (its checkpoint goes, it is announced) waits until it is.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Protocol, TypeVar

import optuna
from optuna.trial import TrialState

from data_utils.errors import DataError
from search import BASELINE_TRIAL
from search.curves import Step
from search.engines import Engine, EngineEvent, JobDone, JobFailed, JobKept, JobStarted, StepDone, WorkerLost
from search.errors import ResourceError
from search.events import EpochFinished, Listener, Notice, TrialStarted, WorkerDied
from search.goals import Goal
from search.leases import LeaseLost, TurnLost
from search.outage import Outage
from search.score import why_invalid
from search.stints import STINTS, Stint, as_stored, begun, ended
from search.storage.errors import is_away, is_of_database
from search.storage.ledger import Ledger
from search.supply import PRUNED_AT, Taken
from search.telling import Teller
from search.trial import Outcome

_POLL_S = 0.5
"""How often the study is looked at while other runs have its last trials, and a wish to stop is noticed while workers train."""

_GATHER_S = 0.1
"""How long reports of busy workers may gather before they are written, and free slots before they are filled."""

_AT_ONCE = 16
"""Trials that are taken in one turn at most: others want theirs too."""

_SLOTS_AHEAD = 32
"""For so many workers one trial is asked for ahead."""


T = TypeVar("T")


class StopRequest(Protocol):
    """Something that may ask the run to end at the next epoch."""

    @property
    def reason(self) -> str:
        """Why; empty while nobody asks."""
        ...


class Supply(Protocol):
    """Where the coordinator's trials come from."""

    @property
    def target(self) -> int:
        """How many finished trials there will be, as far as is known."""
        ...

    def take(self, count: int) -> list[Taken]:
        """The next trials, so many at most; none if there are none to take now."""
        ...

    def is_over(self) -> bool:
        """Whether no trial will come any more, for a run that trains none."""
        ...


class Coordinator:
    """One run of a study on its way to its target."""

    def __init__(
        self,
        study: optuna.Study,
        ledger: Ledger,
        outage: Outage,
        goals: Sequence[Goal],
        supply: Supply,
        engine: Engine,
        *,
        teller: Teller,
        num_words: int,
        emit: Listener,
        stop: StopRequest,
        max_restarts: int,
    ) -> None:
        """`study` is on the ledger, and has its pruner set."""
        self.study = study
        self.ledger = ledger
        self.outage = outage
        self.goals = goals
        self.supply = supply
        self.engine = engine
        self.teller = teller
        self.num_words = num_words
        self.emit = emit
        self.stop = stop
        self.max_restarts = max_restarts
        self.running: dict[int, Taken] = {}
        self.ahead: list[Taken] = []
        """The next trials, asked for while all workers are busy."""

        self.handed_out = 0.0
        """When free slots were last looked at."""

        self.ask_from = 0.0
        """When it is worth asking for one more trial, after there was none. A trial that ends may change the answer at once."""

        self.is_disowned = False
        """Others have taken this run's trials; it has no new name yet."""

    def run(self) -> None:
        """Trains until the target is met, there is nothing more to train, or it is asked to stop.

        Trials cut short stay RUNNING; the next run goes on with them.

        Raises:
            NegativeAnswer: more trials failed than may.
            ResourceError: disk, database or data are gone.
        """
        event: EngineEvent | None = None
        try:
            self.teller.sweep()
            while True:
                if self._must_end():
                    self.engine.wind_down()
                elif not self.running or event is None or perf_counter() - self.handed_out >= _GATHER_S:
                    self._hand_out()
                if not self.running and (self._must_end() or self._is_over()):
                    break
                may_ask = self._may_ask_ahead()
                event = self.engine.next_event(0.0 if may_ask or self._may_write() else _POLL_S)
                if event is not None:
                    self._handle(event)
                elif may_ask:
                    self.ahead = self._take(self._wanted_ahead)
                self._write(is_idle=event is None)
            self._write_rest()
        except Exception as error:
            if not is_of_database(error):
                with contextlib.suppress(Exception):  # what was told is kept, whatever has ended the search
                    self.ledger.flush()
            if isinstance(error, DataError):
                raise ResourceError(
                    f"the data cannot be read any more: {error.what}",
                    where=error.where,
                    got=error.got,
                    hint="all finished trials are kept; with the same data the same command goes on",
                ) from error
            raise
        finally:
            self.engine.close()

    def _is_over(self) -> bool:
        return not self.ahead and self._with_database(self.supply.is_over, False)

    def _must_end(self) -> bool:
        return bool(self.stop.reason) or self.outage.verdict is not None

    def _with_database(self, do: Callable[[], T], otherwise: T) -> T:
        """Does something that needs the database; the other answer while it cannot be reached."""
        try:
            return self.outage.attempt(partial(self._do, do), otherwise)
        except TurnLost:
            return otherwise
        except LeaseLost:
            self._let_go()
            return otherwise

    def _do(self, do: Callable[[], T]) -> T:
        if self.is_disowned:
            self.ledger.forget()
            self.ledger.lease.begin_anew()
            self.is_disowned = False
        return do()

    def _let_go(self) -> None:
        """Others thought this run dead and have its trials, as their checkpoints have them: it goes on with other trials."""
        numbers = ", ".join(map(str, sorted(self.running))) or "none"
        for trial in self.running:
            self.engine.drop(trial)
        self.running.clear()
        self.teller.forget_all()
        self.ahead.clear()
        self.is_disowned = True
        self.emit(
            Notice(f"this run was silent for so long that others have taken its trials ({numbers}): it goes on with new ones")
        )

    def _may_write(self) -> bool:
        return self.ledger.waiting_s > 0 and not self.outage.is_on

    def _write(self, *, is_idle: bool) -> None:
        """Writes what has gathered, if it is time, and sees to what follows from it. A single worker's is written at once."""
        waiting_s = self.ledger.waiting_s
        if waiting_s and (is_idle or self.engine.slots <= 1 or waiting_s >= _GATHER_S):
            self._with_database(self.ledger.flush, None)
        self._settle()

    def _write_rest(self) -> None:
        """At the end.

        Raises:
            ResourceError: the database cannot be reached. What waits is not written.
        """
        try:
            self.ledger.flush()
        except LeaseLost:
            self._let_go()
            with contextlib.suppress(Exception):  # what this run thought to have found is not the study's
                self.ledger.forget()
        except Exception as error:
            if not is_away(error):
                raise
            numbers = ", ".join(map(str, self.ledger.unwritten))
            self.emit(Notice(f"what was found since is not written (of trials {numbers}); their checkpoints are kept"))
            raise self.outage.verdict or error from error
        self._settle()
        if self.outage.verdict is not None:
            raise self.outage.verdict

    def _settle(self) -> None:
        """Sees to what follows from results that are written, and from what other programs have done."""
        gone, self.ledger.ended_elsewhere = self.ledger.ended_elsewhere, []
        for number in gone:
            if self.running.pop(number, None) is not None:
                self.engine.drop(number)
            self.teller.forget(number)
            self.emit(Notice(f"trial {number} was ended by another program; its training ends too"))
        if self.teller.has_told and not self.ledger.waiting_s:
            self.teller.follow_up(self.supply.target)

    def _hand_out(self) -> None:
        """A trial for every free slot, as far as the target wants them; many are handed out bit by bit.

        Taking one takes longer than answering an epoch: while events wait, this is done now and then.
        """
        self.handed_out = perf_counter()
        free = self.engine.slots - len(self.running)
        if free > 0 and not self.ahead:
            self.ahead = self._take(min(free, _AT_ONCE))
        for taken in self.ahead[: max(free, 0)]:
            self.running[taken.job.trial] = taken
            self.engine.start(taken.job)
        del self.ahead[: max(free, 0)]

    @property
    def _wanted_ahead(self) -> int:
        """How many trials to have at hand. A single worker's are asked for when its sampler knows the last result."""
        return -(-self.engine.slots // _SLOTS_AHEAD) if self.engine.slots > 1 else 0

    def _may_ask_ahead(self) -> bool:
        """Whether the next trials are to be asked for now."""
        return self._wanted_ahead > 0 and not self.ahead and not self._must_end() and perf_counter() >= self.ask_from

    def _take(self, count: int) -> list[Taken]:
        if perf_counter() < self.ask_from:
            return []
        none: list[Taken] = []
        taken = self._with_database(partial(self.supply.take, count), none)
        if not taken:
            self.ask_from = perf_counter() + _POLL_S
        return taken

    def _handle(self, event: EngineEvent) -> None:
        running = self.running[event.trial]
        if not self.outage.is_on:
            self._with_database(self.ledger.look, None)
        try:
            match event:
                case JobStarted():
                    self._note_start(running, event)
                case StepDone(step=step):
                    answer = self.engine.go if self._is_promising(running, step) else self.engine.drop
                    answer(event.trial)
                case JobDone(outcome=outcome):
                    self._finish(running, TrialState.COMPLETE, outcome)
                case JobFailed(reason=reason):
                    self._tell(running, TrialState.FAIL, reason)
                case WorkerLost(reason=reason, with_machine=with_machine):
                    self._start_again(running, reason, counts=not with_machine)
                case JobKept():
                    self._note_stints(running, ended(running.stints))
                    del self.running[event.trial]
        except optuna.exceptions.UpdateFinishedTrialError:
            self.ledger.ended_elsewhere.append(event.trial)

    def _note_start(self, running: Taken, event: JobStarted) -> None:
        running.label_smoothing_used, running.done = event.label_smoothing, event.done
        running.trial.set_user_attr("made_with", json.dumps(dict(event.made_with)))
        self._note_stints(running, begun(running.stints, running.run, event.worker))
        self.emit(TrialStarted(event.trial, running.trial.params, event.most, event.done, event.remark))

    def _note_stints(self, running: Taken, stints: list[Stint]) -> None:
        running.stints = stints
        running.trial.set_user_attr(STINTS, as_stored(stints))

    def _is_promising(self, running: Taken, step: Step) -> bool:
        """Takes a step in: whether the trial goes on. Tells its result if the pruner ends it."""
        running.curves.add(step)
        report = running.curves.report(step) if len(self.goals) == 1 else None
        if report is None:  # several objectives, or a training that goes on: nothing to judge
            if running.curves.steps > running.done:
                self._show(running, step)
            return True
        number, value = report
        known = running.told.get(number)
        is_last_known = number == max(running.told, default=0)
        if known is None:
            self._show(running, step)
        if known != value:
            self._report(running, number, value)
        elif not is_last_known:
            return True  # it was judged before the cut
        if not self._should_prune(running, number) or step.is_last:
            return True  # at its end nothing is left to save
        running.trial.set_user_attr(PRUNED_AT, number)
        self._finish(running, TrialState.PRUNED)
        return False

    def _should_prune(self, running: Taken, number: int) -> bool:
        """What the pruner says. The baseline takes part in its races, but trains to its end: all others are seen against it."""
        says = running.pruned_at == number or running.trial.should_prune()
        return says and running.job.trial != BASELINE_TRIAL

    def _show(self, running: Taken, step: Step) -> None:
        self.emit(EpochFinished(running.job.trial, running.curves.shown(step), running.curves.steps))

    def _report(self, running: Taken, number: int, value: float) -> None:
        if number in running.told:  # it starts over with other versions, or on a GPU: what was reported is no longer true
            trial = running.trial
            trial.storage.set_trial_intermediate_value(trial._trial_id, number, value)
            running.trial = optuna.Trial(self.study, trial._trial_id)
        else:
            running.trial.report(value, number)
        running.told[number] = value

    def _start_again(self, running: Taken, reason: str, *, counts: bool) -> None:
        """The trial's worker is gone: another goes on from the checkpoint, unless the trial has cost too many that count."""
        self._note_stints(running, ended(running.stints))
        if counts:
            running.deaths = [*running.deaths, reason]
            running.trial.set_user_attr("deaths", running.deaths)
            deaths = len(running.deaths)
            if deaths > self.max_restarts:
                many = "its worker died" if deaths == 1 else f"its worker died {deaths} times; the last time"
                self._tell(running, TrialState.FAIL, f"{many}: {reason}")
                return
            self.emit(WorkerDied(running.job.trial, reason, deaths, self.max_restarts))
        else:
            self.emit(Notice(f"trial {running.job.trial} has lost its machine ({reason}): it goes on from its checkpoint"))
        running.forget()
        running.job = running.job.once_more()
        self.engine.start(running.job)

    def _finish(self, running: Taken, state: TrialState, outcome: Outcome | None = None) -> None:
        """A trial has trained to its end, or is stopped. What cannot be true does not count."""
        reason = why_invalid(running.job.configs.train, self.num_words, running.curves.histories, running.label_smoothing_used)
        self._tell(running, TrialState.FAIL if reason else state, reason, outcome)

    def _tell(self, running: Taken, state: TrialState, reason: str = "", outcome: Outcome | None = None) -> None:
        del self.running[running.job.trial]
        self.ask_from = 0.0
        self.teller.tell(running, state, reason, outcome)
