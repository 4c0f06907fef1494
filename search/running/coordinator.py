"""The main path: take a trial, hand it out, report epochs, prune, tell the result, until the target is met.

The coordinator is the only writer of the study in its run. It knows no screen (it emits events) and no worker (it talks to an
engine). Other runs may work on the same study: they take turns when they take trials, and leave each other's alone.

What is reported gathers in the ledger, where pruners see it at once, and is written in batches; what follows from a result that
is written (its checkpoint goes, it is announced) waits until it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from time import perf_counter

import optuna
from optuna.trial import TrialState

from data_utils.errors import DataError
from search.definition.objectives import StudyObjective
from search.engines.engine import Engine, EngineEvent, JobDone, JobFailed, JobInterrupted, JobStarted, StepDone, WorkerLost
from search.errors import ResourceError
from search.events import Listener, Notice
from search.running.ledger import Ledger
from search.running.outage import GATHER_S, Access, Outage
from search.running.recording import Recorder
from search.running.running_trial import RunningTrial
from search.running.signals import StopRequest
from search.running.turns import TrialSource
from search.storage.errors import is_database_error
from search.trial.outcome import Outcome
from search.trial.result import why_invalid

_POLL_S = 0.5
"""How often the study is looked at while other runs have its last trials, and a wish to stop is noticed while workers train."""

_AT_ONCE = 16
"""Trials that are taken in one turn at most: others want theirs too."""

_SLOTS_AHEAD = 32
"""For so many workers one trial is asked for ahead."""


class Coordinator:
    """One run of a study on its way to its target."""

    def __init__(
        self,
        study: optuna.Study,
        ledger: Ledger,
        outage: Outage,
        objectives: Sequence[StudyObjective],
        trial_source: TrialSource,
        engine: Engine,
        *,
        recorder: Recorder,
        num_words: int,
        emit: Listener,
        stop: StopRequest,
        max_restarts: int,
    ) -> None:
        """`study` is on the ledger, and has its pruner set."""
        self.study = study
        self.ledger = ledger
        self.outage = outage
        self.access = Access(ledger, outage, self._let_go)
        self.objectives = objectives
        self.trial_source = trial_source
        self.engine = engine
        self.recorder = recorder
        self.num_words = num_words
        self.emit = emit
        self.stop = stop
        self.max_restarts = max_restarts
        self.running: dict[int, RunningTrial] = {}
        self.ahead: list[RunningTrial] = []
        """The next trials, asked for while all workers are busy."""

        self.handed_out = 0.0
        """When free slots were last looked at."""

        self.ask_from = 0.0
        """When it is worth asking for one more trial, after there was none. A trial that ends may change the answer at once."""

    def run(self) -> None:
        """Trains until the target is met, there is nothing more to train, or it is asked to stop.

        Trials cut short stay RUNNING; the next run goes on with them.

        Raises:
            NegativeAnswer: more trials failed than may.
            ResourceError: disk, database or data are gone.
        """
        with self._whatever_happens():
            self.recorder.sweep()
            event: EngineEvent | None = None
            while True:
                if self._must_end():
                    self.engine.interrupt_jobs()
                elif event is None or not self.running or perf_counter() - self.handed_out >= GATHER_S:
                    self._hand_out()
                if not self.running and (self._must_end() or self._is_over()):
                    break
                is_busy = self._may_ask_ahead() or self.access.has_to_write
                event = self.engine.next_event(0.0 if is_busy else _POLL_S)
                if event is not None:
                    self._handle(event)
                elif self._may_ask_ahead():
                    self.ahead = self._take(self._wanted_ahead)
                self.access.write(at_once=event is None or self.engine.slots <= 1)
                self._follow_up()
            self.access.write_rest(self.emit)
            self._follow_up()
            if self.outage.verdict is not None:
                raise self.outage.verdict

    def _handle(self, event: EngineEvent) -> None:
        running = self.running[event.trial]
        self.access.look()
        try:
            match event:
                case JobStarted():
                    running.begin(event, self.emit)
                case StepDone(step=step):
                    if running.goes_on(step, self.emit, is_judged=len(self.objectives) == 1):
                        self.engine.advance(event.trial)
                    else:
                        self._finish(running, TrialState.PRUNED)
                        self.engine.cancel(event.trial)
                case JobDone(outcome=outcome):
                    self._finish(running, TrialState.COMPLETE, outcome)
                case JobFailed(reason=reason):
                    self._record(running, TrialState.FAIL, reason)
                case WorkerLost(reason=reason, machine_lost=is_innocent):
                    allowed = self.max_restarts
                    if too_often := running.lose_worker(reason, self.emit, counts=not is_innocent, allowed=allowed):
                        self._record(running, TrialState.FAIL, too_often)
                    else:
                        self.engine.start(running.job)
                case JobInterrupted():
                    running.put_aside()
                    del self.running[event.trial]
        except optuna.exceptions.UpdateFinishedTrialError:
            self.ledger.ended_elsewhere.append(event.trial)

    def _finish(self, running: RunningTrial, state: TrialState, outcome: Outcome | None = None) -> None:
        """A trial has trained to its end, or is stopped. What cannot be true does not count."""
        reason = why_invalid(running.job.configs.train, self.num_words, running.curves.histories, running.label_smoothing_used)
        self._record(running, TrialState.FAIL if reason else state, reason, outcome)

    def _record(self, running: RunningTrial, state: TrialState, reason: str = "", outcome: Outcome | None = None) -> None:
        del self.running[running.job.trial]
        self.ask_from = 0.0
        self.recorder.record(running, state, reason, outcome)

    def _follow_up(self) -> None:
        """Sees to what follows from results that are written, and from what other programs have done."""
        gone, self.ledger.ended_elsewhere = self.ledger.ended_elsewhere, []
        for number in gone:
            if self.running.pop(number, None) is not None:
                self.engine.cancel(number)
            self.recorder.forget(number)
            self.emit(Notice(f"trial {number} was ended by another program; its training ends too"))
        if self.recorder.has_waiting and not self.ledger.waiting_s:
            self.recorder.follow_up(self.trial_source.target)

    def _hand_out(self) -> None:
        """A trial for every free slot, as far as the target wants them; many are handed out bit by bit.

        Taking one takes longer than answering an epoch: while events wait, this is done now and then.
        """
        self.handed_out = perf_counter()
        free = self.engine.slots - len(self.running)
        if free > 0 and not self.ahead:
            self.ahead = self._take(min(free, _AT_ONCE))
        for running in self.ahead[: max(free, 0)]:
            self.running[running.job.trial] = running
            self.engine.start(running.job)
        del self.ahead[: max(free, 0)]

    @property
    def _wanted_ahead(self) -> int:
        """How many trials to have at hand. A single worker's are asked for when its sampler knows the last result."""
        return -(-self.engine.slots // _SLOTS_AHEAD) if self.engine.slots > 1 else 0

    def _may_ask_ahead(self) -> bool:
        """Whether the next trials are to be asked for now."""
        return self._wanted_ahead > 0 and not self.ahead and not self._must_end() and perf_counter() >= self.ask_from

    def _take(self, count: int) -> list[RunningTrial]:
        if perf_counter() < self.ask_from:
            return []
        none: list[RunningTrial] = []
        running = self.access.attempt(partial(self.trial_source.take, count), none)
        if not running:
            self.ask_from = perf_counter() + _POLL_S
        return running

    def _is_over(self) -> bool:
        return not self.ahead and self.access.attempt(self.trial_source.is_over, False)

    def _must_end(self) -> bool:
        return bool(self.stop.reason) or self.outage.verdict is not None

    def _let_go(self) -> None:
        """Others thought this run dead and have its trials, as their checkpoints have them: it goes on with other trials."""
        numbers = ", ".join(map(str, sorted(self.running))) or "none"
        for trial in self.running:
            self.engine.cancel(trial)
        self.running.clear()
        self.recorder.forget_all()
        self.ahead.clear()
        self.emit(
            Notice(f"this run was silent for so long that others have taken its trials ({numbers}): it goes on with new ones")
        )

    @contextlib.contextmanager
    def _whatever_happens(self) -> Iterator[None]:
        """What was told is kept, whatever ends the search; then all workers end."""
        try:
            yield
        except Exception as error:
            if not is_database_error(error):
                with contextlib.suppress(Exception):
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
