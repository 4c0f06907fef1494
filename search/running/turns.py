"""What the trials of other runs mean to this run, and this run's turn to take trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from optuna.trial import FrozenTrial, TrialState

from search.events import Listener, Notice
from search.running.ledger import Ledger
from search.running.running_trial import RunningTrial
from search.study.trials import num_finished, owner

_TURN_WAIT_S = 0.1
"""How long a run waits for its turn before it serves its workers again."""

_MAX_TURN_S = 2.0
"""How long a run goes on taking trials in one turn: samplers can be slow, and other runs need their turn."""

_REPORT_MISSED_TURNS_S = 60.0


class TrialSource(Protocol):
    """Where the coordinator's trials come from."""

    @property
    def unit(self) -> str:
        """What a trial is called: `trial`, or in a confirmation `training`."""
        ...

    @property
    def target(self) -> int:
        """How many finished trials there will be, as far as is known."""
        ...

    def take(self, count: int) -> list[RunningTrial]:
        """Takes up to `count` trials; none if there are none to take now."""
        ...

    def is_over(self) -> bool:
        """Whether no more trials will come, given that this run trains none."""
        ...


@dataclass(frozen=True)
class Situation:
    """The trials of a study from the point of view of one run."""

    finished: int
    mine: int
    others: list[int]
    """Numbers of trials that other live runs hold."""

    orphans: list[int]
    """Numbers of RUNNING trials whose owner is dead."""

    waiting: list[int]
    """Numbers of enqueued trials."""

    def open_places(self, target: int) -> int:
        """How many more trials may be taken, if all running ones finish."""
        return target - self.finished - self.mine - len(self.others)


def situation(ledger: Ledger, trials: Sequence[FrozenTrial]) -> Situation:
    """Sorts a study's trials for the run that writes this ledger."""
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    foreign = [trial for trial in running if not ledger.holds(trial)]
    lease, is_alive = ledger.lease, {}
    for who in {owner(trial) for trial in foreign}:
        is_alive[who] = not lease.owns(who) and lease.is_alive(who)  # trials that this run lost have no live owner
    others = {trial.number for trial in foreign if is_alive[owner(trial)]}
    return Situation(
        finished=num_finished(trials),
        mine=len(running) - len(foreign),
        others=sorted(others),
        orphans=[trial.number for trial in foreign if trial.number not in others],
        waiting=[trial.number for trial in trials if trial.state == TrialState.WAITING],
    )


class WaitNotices:
    """Notifies, once, that this run waits for other runs."""

    def __init__(self, emit: Listener, unit: str = "trial") -> None:
        """`unit`: what a trial is called."""
        self._emit = emit
        self._unit = unit
        self._has_named_others = False
        self._missed_since = 0.0
        """Since when another run has had the turn; 0 if this run got its last one."""

        self._has_reported_turn = False

    def got_turn(self) -> None:
        """Notes that this run has the turn."""
        self._missed_since = 0.0

    def missed_turn(self) -> None:
        """Notes that another run has the turn. It needs a moment; one that holds it for a minute is suspended."""
        self._missed_since = self._missed_since or perf_counter()
        if perf_counter() - self._missed_since > _REPORT_MISSED_TURNS_S and not self._has_reported_turn:
            self._emit(Notice("another run of this study blocks all others: was it suspended (Ctrl-Z)?"))
            self._has_reported_turn = True

    def wait_for(self, others: Sequence[FrozenTrial]) -> None:
        """Notes that only trials of other runs are left."""
        if not self._has_named_others:
            owned = [(t.number, who.pid) for t in others if (who := owner(t)) is not None]
            names = ", ".join(f"{self._unit} {number} (process {pid})" for number, pid in owned)
            self._emit(Notice(f"waiting for {self._unit}s of another run: {names}"))
        self._has_named_others = True


def take_in_turn(
    ledger: Ledger, notices: WaitNotices, count: int, take_one: Callable[[], RunningTrial | None]
) -> list[RunningTrial]:
    """Takes up to `count` trials in one turn; none while another run has the turn.

    Args:
        take_one: takes one trial, or returns None if there are no more.
    """
    taken: list[RunningTrial] = []
    with ledger.turn(_TURN_WAIT_S) as is_mine:
        if not is_mine:
            notices.missed_turn()
            return []
        notices.got_turn()
        until = perf_counter() + _MAX_TURN_S
        while len(taken) < count and perf_counter() < until and (running := take_one()) is not None:
            taken.append(running)
    return taken
