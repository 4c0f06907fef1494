"""What other runs mean; this run's turn."""

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


class TrialSource(Protocol):
    """Where the coordinator's trials come from."""

    @property
    def target(self) -> int:
        """How many finished trials there will be, as far as is known."""
        ...

    def take(self, count: int) -> list[RunningTrial]:
        """The next trials, so many at most; none if there are none to take now."""
        ...

    def is_over(self) -> bool:
        """Whether no trial will come any more, for a run that trains none."""
        ...


_MINUTE_S = 60.0
_TURN_LASTS_S = 2.0
"""How long a run goes on taking trials in one turn: samplers may think for long, and others want their turn."""

_TURN_S = 0.1
"""How long a run waits for its turn before it looks after its workers again."""


@dataclass(frozen=True)
class Situation:
    """What a study's trials are to a run."""

    finished: int
    mine: int
    others: list[int]
    """In the hands of other living runs."""

    orphans: list[int]
    """RUNNING, and their owner is dead."""

    waiting: list[int]

    def open_places(self, target: int) -> int:
        """How many trials may be taken, all that train now being finished some day."""
        return target - self.finished - self.mine - len(self.others)


def situation(ledger: Ledger, trials: Sequence[FrozenTrial]) -> Situation:
    """What these trials are to the run whose ledger it is."""
    running = [t for t in trials if t.state == TrialState.RUNNING]
    strange = [t for t in running if not ledger.holds(t)]
    lease, lives = ledger.lease, {}
    for who in {owner(t) for t in strange}:
        lives[who] = not lease.owns(who) and lease.is_alive(who)  # what this run lost is nobody's
    alive = {t.number for t in strange if lives[owner(t)]}
    return Situation(
        finished=num_finished(trials),
        mine=len(running) - len(strange),
        others=sorted(alive),
        orphans=[t.number for t in strange if t.number not in alive],
        waiting=[t.number for t in trials if t.state == TrialState.WAITING],
    )


class Waiting:
    """Tells a person, once, what a run waits for while others work on its study."""

    def __init__(self, emit: Listener) -> None:
        self._emit = emit
        self._told_of_others = False
        self._turn_missed = 0.0
        """Since when another run has had the turn; 0 if this one got it last time."""

        self._told_of_turn = False

    def got_turn(self) -> None:
        """The turn is this run's."""
        self._turn_missed = 0.0

    def missed_turn(self) -> None:
        """Another run takes a moment; one that takes a minute is suspended."""
        self._turn_missed = self._turn_missed or perf_counter()
        if perf_counter() - self._turn_missed > _MINUTE_S and not self._told_of_turn:
            self._emit(Notice("another run of this study holds its turn and does not let go: was it suspended (Ctrl-Z)?"))
            self._told_of_turn = True

    def for_others(self, others: Sequence[FrozenTrial]) -> None:
        """Nothing is left but what other runs train."""
        if not self._told_of_others:
            names = ", ".join(f"trial {t.number} (process {who.pid})" for t in others if (who := owner(t)) is not None)
            self._emit(Notice(f"waiting for what another run trains: {names}"))
        self._told_of_others = True


def in_turn(ledger: Ledger, waiting: Waiting, count: int, take_one: Callable[[], RunningTrial | None]) -> list[RunningTrial]:
    """What a run takes in one turn: so many at most, as long as there is one; none if it is another run's turn."""
    found: list[RunningTrial] = []
    with ledger.turn(_TURN_S) as is_mine:
        if not is_mine:
            waiting.missed_turn()
            return []
        waiting.got_turn()
        until = perf_counter() + _TURN_LASTS_S
        while len(found) < count and perf_counter() < until and (one := take_one()) is not None:
            found.append(one)
    return found
