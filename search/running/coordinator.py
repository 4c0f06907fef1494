"""The main path: hand out trials, handle their events, report, prune, record, until the target is met.

The coordinator is the only writer of the study in its run. It emits events instead of printing, and starts jobs on an engine
instead of on workers. Several runs may work on one study: they take trials in turns, and leave each other's trials alone.

Reports gather on the ledger, where pruners see them at once, and are written in batches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from time import perf_counter

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from data_utils.errors import DataError
from search.engines.engine import Engine, EngineEvent, JobDone, JobFailed, JobInterrupted, JobStarted, StepDone, WorkerLost
from search.errors import ResourceError
from search.events import Listener, Notice
from search.running.ledger import Ledger
from search.running.machine_failures import MachineFailures
from search.running.outage import GATHER_S, Outage, StudyAccess
from search.running.recording import Recorder
from search.running.running_trial import RunningTrial
from search.running.signals import StopRequest
from search.running.turns import TrialSource
from search.storage.errors import is_database_error
from search.trial.outcome import Outcome

_POLL_S = 0.5
"""How long the coordinator waits for an event before it checks for other runs' trials and for a request to stop."""

_MAX_TAKEN = 16
"""Trials taken in one turn at most, so that other runs get theirs."""

_SLOTS_PER_TRIAL_AHEAD = 32
"""One trial is prepared ahead for this many workers."""


class Coordinator:
    """One run of a study on its way to its target."""

    def __init__(
        self,
        ledger: Ledger,
        outage: Outage,
        trial_source: TrialSource,
        engine: Engine,
        recorder: Recorder,
        *,
        prunes: bool,
        emit: Listener,
        stop: StopRequest,
        max_restarts: int,
    ) -> None:
        """`prunes`: whether the study's pruner decides about trials after each report."""
        self.ledger = ledger
        self.outage = outage
        self.access = StudyAccess(ledger, outage, on_lost=self._give_up_trials)
        self.trial_source = trial_source
        self.engine = engine
        self.recorder = recorder
        self.prunes = prunes
        self.emit = emit
        self.stop = stop
        self.max_restarts = max_restarts
        self.machine_failures = MachineFailures(trial_source.unit)
        self.verdict: ResourceError | None = None
        """Why the run ends, although trials are left; None if it goes on."""

        self.running: dict[int, RunningTrial] = {}
        self.ahead: list[RunningTrial] = []
        """Trials taken while all workers were busy, ready for the next free slots."""

        self.handed_out_at = 0.0
        self.path_notes_shown: set[str] = set()
        """Notes on the paths of trials that were shown: each is shown once."""

        self.take_from = 0.0
        """When it is worth asking for a trial again, after there was none. A trial that ends resets it."""

    def run(self) -> None:
        """Trains until the target is met, there is nothing more to train, or it is asked to stop.

        Interrupted trials stay RUNNING; the next run resumes them.

        Raises:
            NegativeAnswer: too many trials failed.
            ResourceError: disk, database or data are gone, or the machine fails one trial after the other, or the baseline.
        """
        with self._flushed_and_closed():
            self.recorder.remove_stale_checkpoints()
            event: EngineEvent | None = None
            while True:
                if self._must_stop():
                    self.engine.interrupt_jobs()
                elif event is None or not self.running or perf_counter() - self.handed_out_at >= GATHER_S:
                    self._hand_out()
                if not self.running and (self._must_stop() or self._is_over()):
                    break
                event = self._next_event()
                if event is not None:
                    self._handle(event)
                elif self._wants_trials_ahead():
                    self.ahead = self._take(self._num_ahead)
                self.access.write(at_once=event is None or self.engine.slots <= 1)
                self._follow_up()
            self.access.write_rest(self.emit)
            self._follow_up()
            if verdict := self.outage.verdict or self.verdict:
                raise verdict

    def _hand_out(self) -> None:
        """Starts a trial on every free slot, as far as the target allows."""
        if not self.engine.takes_jobs:
            return
        self.handed_out_at = perf_counter()
        num_free = max(self.engine.slots - len(self.running), 0)
        if num_free and not self.ahead:
            self.ahead = self._take(min(num_free, _MAX_TAKEN))
        for running in self.ahead[:num_free]:
            self.running[running.job.trial] = running
            self.engine.start(running.job)
        del self.ahead[:num_free]

    def _next_event(self) -> EngineEvent | None:
        has_other_work = self._wants_trials_ahead() or self.access.has_to_write
        return self.engine.next_event(0.0 if has_other_work else _POLL_S)

    def _handle(self, event: EngineEvent) -> None:
        running = self.running[event.trial]
        self.access.look()
        try:
            match event:
                case JobStarted(path_note=note):
                    self.machine_failures.start(event.trial, event.gpu)
                    running.start(event, self.emit)
                    if note and note not in self.path_notes_shown:
                        self.path_notes_shown.add(note)
                        self.emit(Notice(note))
                case StepDone():
                    if running.report(event, self.emit, prunes=self.prunes):
                        self.engine.advance(event.trial)
                    else:
                        self._record(running, TrialState.PRUNED)
                        self.engine.cancel(event.trial)
                case JobDone(outcome=outcome):
                    self._record(running, TrialState.COMPLETE, outcome=outcome)
                case JobFailed(reason=reason):
                    self._record(running, TrialState.FAIL, reason)
                case WorkerLost():
                    self._lose_worker(running, event)
                case JobInterrupted():
                    running.end_attempt()
                    del self.running[event.trial]
        except UpdateFinishedTrialError:
            self.ledger.ended_elsewhere.append(event.trial)

    def _lose_worker(self, running: RunningTrial, lost: WorkerLost) -> None:
        """Tries a trial once more, or records that the machine failed it. If the run stops for that, it stays to be resumed."""
        reason = running.lose_worker(lost, self.emit, allowed=self.max_restarts)
        verdict = self.machine_failures.verdict(running.job.name, lost, reason, is_baseline=running.is_baseline)
        self.verdict = self.verdict or verdict
        if self.verdict is not None:
            del self.running[lost.trial]
        elif reason:
            self._record(running, TrialState.FAIL, reason, by_machine=True)
        else:
            self.engine.start(running.job)

    def _record(
        self,
        running: RunningTrial,
        state: TrialState,
        reason: str = "",
        outcome: Outcome | None = None,
        *,
        by_machine: bool = False,
    ) -> None:
        del self.running[running.job.trial]
        self.take_from = 0.0
        self.machine_failures.end(running.gpu, state, by_machine=by_machine)
        self.recorder.record(running, state, reason=reason, outcome=outcome)

    def _follow_up(self) -> None:
        """Drops trials that other programs have ended, and announces results once they are written."""
        ended, self.ledger.ended_elsewhere = self.ledger.ended_elsewhere, []
        for number in ended:
            if self.running.pop(number, None) is not None:
                self.engine.cancel(number)
            self.recorder.forget(number)
            self.emit(Notice(f"{self.trial_source.unit} {number} was ended by another program; its training stops"))
        if self.recorder.has_unannounced and not self.ledger.waiting_s:
            self.recorder.follow_up(self.trial_source.target)

    @property
    def _num_ahead(self) -> int:
        """How many trials to take ahead. With one worker none: its sampler waits for the last result."""
        return -(-self.engine.slots // _SLOTS_PER_TRIAL_AHEAD) if self.engine.slots > 1 else 0

    def _wants_trials_ahead(self) -> bool:
        if not self._num_ahead or self.ahead or self._must_stop() or not self.engine.takes_jobs:
            return False
        return perf_counter() >= self.take_from

    def _take(self, count: int) -> list[RunningTrial]:
        if perf_counter() < self.take_from:
            return []
        none: list[RunningTrial] = []
        taken = self.access.attempt(partial(self.trial_source.take, count), none)
        if not taken:
            self.take_from = perf_counter() + _POLL_S
        return taken

    def _is_over(self) -> bool:
        return not self.ahead and self.access.attempt(self.trial_source.is_over, False)

    def _must_stop(self) -> bool:
        if self.ledger.is_asked_to_stop and not self.stop.reason:
            self.stop.request("islr-search stop")
        return bool(self.stop.reason or self.outage.verdict or self.verdict)

    def _give_up_trials(self) -> None:
        """Lets go of all trials of this run: others took it for dead, and resume them from their checkpoints."""
        numbers = ", ".join(map(str, sorted(self.running))) or "none"
        for trial in self.running:
            self.engine.cancel(trial)
        self.running.clear()
        self.recorder.forget_all()
        self.ahead.clear()
        self.emit(
            Notice(
                f"this run was silent for so long that other runs reclaimed its trials ({numbers}): it continues with new ones"
            )
        )

    @contextlib.contextmanager
    def _flushed_and_closed(self) -> Iterator[None]:
        """Writes what is recorded, however the search ends, and ends all workers."""
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
                    hint="all finished trials are kept; with the same data the same command continues",
                ) from error
            raise
        finally:
            self.engine.close()
