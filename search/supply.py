"""Where a run's trials come from: those that dead runs left, those that wait, and new ones from the sampler.

Several runs may work on one study. They take trials in turns, and only as many as the target still wants, so that the study
ends at exactly its target and no trial is trained twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.curves import Curves
from search.definition import StudyDefinition
from search.ending import ended
from search.events import Listener, Notice, TrialFinished
from search.proposal import FIXED, Tried, given_to, key_of, outside, propose, why_not
from search.records import trial_folder
from search.space import applying, num_settings
from search.stints import STINTS, Stint, stints_of
from search.storage.ledger import Ledger
from search.study import EXHAUSTED, STATE_NAMES, num_finished, owner
from search.trial import CHECKPOINT, Job, sampler_seed, trial_seed

PRUNED_AT = "pruned_at"
"""Where the verdict of a pruner is kept until the trial's result is told: some pruners judge otherwise when asked again."""

_MINUTE_S = 60.0
_TURN_LASTS_S = 2.0
"""How long a run goes on taking trials in one turn: samplers may think for long, and others want their turn."""

_TURN_S = 0.1
"""How long a run waits for its turn before it looks after its workers again."""


@dataclass
class Taken:
    """A trial that this run has taken."""

    trial: optuna.Trial
    job: Job
    told: dict[int, float]
    """What the study knows already, by step. Those steps come again, and are not reported twice."""

    deaths: list[str]
    """How workers died that trained it."""

    run: str
    """The name of this run."""

    stints: list[Stint]
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


def in_turn(ledger: Ledger, waiting: Waiting, count: int, take_one: Callable[[], Taken | None]) -> list[Taken]:
    """What a run takes in one turn: so many at most, as long as there is one; none if it is another run's turn."""
    found: list[Taken] = []
    with ledger.turn(_TURN_S) as is_mine:
        if not is_mine:
            waiting.missed_turn()
            return []
        waiting.got_turn()
        until = perf_counter() + _TURN_LASTS_S
        while len(found) < count and perf_counter() < until and (one := take_one()) is not None:
            found.append(one)
    return found


class Supply:
    """Gives one run its trials."""

    def __init__(
        self,
        study: optuna.Study,
        ledger: Ledger,
        definition: StudyDefinition,
        *,
        target: int,
        more: bool = False,
        device: str,
        runs: Path,
        emit: Listener,
    ) -> None:
        """`study` is on the ledger. `more`: so many trials were asked for, whatever else would end the study."""
        self.study = study
        self.ledger = ledger
        self.definition = definition
        self.target = target
        self.more = more
        self.ended_by = ""
        """What ended the study, in words; empty while it goes on."""

        self.device = device
        self.runs = runs
        self.emit = emit
        self._waiting = Waiting(emit)
        self._tried = Tried(definition)

    def take(self, count: int) -> list[Taken]:
        """The next trials, so many at most; none if there are none to take now, or another run is just taking some."""
        return in_turn(self.ledger, self._waiting, count, self._one)

    def _one(self) -> Taken | None:
        """A trial, in this run's turn."""
        while True:
            trials = self._trials()
            now = situation(self.ledger, trials)
            places = now.open_places(self.target)
            enough = bool(self._enough(trials))
            if places > 0 and now.orphans:
                left = trials[now.orphans[0]]
                if not self.ledger.lease.bury(owner(left)):
                    return None  # it has come back to life
                self.ledger.refresh()
                trial = self._resumed(left)
            elif not enough and places > len(now.orphans) and (now.waiting or not self._is_exhausted(trials)):
                trial = self._asked(now.waiting, len(trials))
            else:
                return None
            if (taken_trial := self._prepared(trial)) is not None:
                return taken_trial

    def is_over(self) -> bool:
        """Whether no trial will come any more, for a run that trains none."""
        self.ledger.refresh()
        trials = self._trials()
        now = situation(self.ledger, trials)
        self.ended_by = self._enough(trials)
        if now.finished >= self.target:
            return True
        if now.others:
            self._waiting.for_others([trials[number] for number in now.others])
            return False
        if now.orphans:
            return False
        if self.ended_by:
            return True
        if now.waiting or not self._is_exhausted(trials):
            return False
        tried = f"{self._num_tried(trials):,} settings were tried"
        self.ended_by = f"the space is exhausted: {tried}, and no other was found that goes together"
        return True

    def _enough(self, trials: Sequence[FrozenTrial]) -> str:
        return ended(trials, self.definition, self.target, more=self.more)

    def _asked(self, waiting: Sequence[int], count: int) -> optuna.Trial:
        """A trial that waits, or a new one; its sampler's seed follows from its number."""
        self._seed_sampler(waiting[0] if waiting else count)
        return self.study.ask()

    def _resumed(self, left: FrozenTrial) -> optuna.Trial:
        self._seed_sampler(left.number)
        # The storage's own number of the trial: Optuna's way back to a trial that another process asked for.
        return optuna.Trial(self.study, left._trial_id)

    def _seed_sampler(self, number: int) -> None:
        self.study.sampler = self.definition.sampler.make(sampler_seed(self.definition.seed, number), self.definition.seed)

    def _prepared(self, trial: optuna.Trial) -> Taken | None:
        """Makes the trial this run's own, with its parameters; None if there is nothing for it to try.

        All of it happens in this run's turn: a trial without an owner was left by a run that died just here.
        """
        frozen = trial.storage.get_trial(trial._trial_id)
        if frozen.state.is_finished():
            return None  # its run told the result, and ended, after we had looked at the study
        params = self._params(trial, frozen)
        if params is None:
            return None
        # All at once, in the place of enqueued values: a run that is killed while it stores one by one draws no others.
        trial.storage.set_trial_system_attr(trial._trial_id, FIXED, params)
        for dim in applying(self.definition.space, params):
            if dim.name not in frozen.params:
                shape = dim.distribution()
                trial.storage.set_trial_param(trial._trial_id, dim.name, shape.to_internal_repr(params[dim.name]), shape)
        trial = optuna.Trial(self.study, trial._trial_id)  # it has read its parameters
        folder = trial_folder(self.runs, self.definition.name, frozen.number)
        job = Job(
            trial=frozen.number,
            configs=self.definition.configs(params),
            seed=trial_seed(self.definition.seed, frozen.number),
            plan=self.definition.plan,
            device=self.device,
            folder=folder,
            again=bool(frozen.intermediate_values) or (folder / CHECKPOINT).exists(),
        )
        trial.set_user_attr("owner", self.ledger.lease.stored())
        trial.set_user_attr("seed", job.seed)
        trial.set_user_attr("settings", json.dumps(job.configs.as_dict()))
        return Taken(
            trial,
            job,
            dict(frozen.intermediate_values),
            frozen.user_attrs.get("deaths", []),
            self.ledger.lease.owner.run,
            stints_of(frozen.user_attrs.get(STINTS)),
            pruned_at=frozen.user_attrs.get(PRUNED_AT),
        )

    def _params(self, trial: optuna.Trial, frozen: FrozenTrial) -> dict[str, Any] | None:
        """What the trial is to try; None if it cannot try anything, and has been told so."""
        given = given_to(frozen, self.definition)
        if reason := outside(given, self.definition):
            self._refuse(trial, given, reason)
            return None
        self._tried.learn(self._trials())
        seen = self._tried.before(frozen.number)
        params = propose(self.study, frozen, self.definition, seen, sampler_seed(self.definition.seed, frozen.number))
        if params is None:
            if not given:
                self.study.set_user_attr(EXHAUSTED, True)
            self._refuse(trial, given, "no settings were found that go together and were not tried")
            return None
        reason = why_not(params, self.definition)
        if key_of(params) in seen:
            reason = f"trial {self._tried.first_with(params)} had the same parameters"
        if reason:
            self._refuse(trial, params, reason)
            return None
        return params

    def _refuse(self, trial: optuna.Trial, params: dict[str, Any], reason: str) -> None:
        """Fails a trial that was never trained."""
        trial.set_user_attr("reason", reason)
        self.study.tell(trial, state=TrialState.FAIL)
        self.emit(
            TrialFinished(
                trial=trial.number,
                state=STATE_NAMES[TrialState.FAIL],
                params=params,
                finished=num_finished(self._trials()),
                target=self.target,
                reason=reason,
            )
        )

    def _is_exhausted(self, trials: Sequence[FrozenTrial]) -> bool:
        possible = num_settings(self.definition.space)
        return self._num_tried(trials) >= possible or bool(self.study.user_attrs.get(EXHAUSTED))

    def _num_tried(self, trials: Sequence[FrozenTrial]) -> int:
        self._tried.learn(trials)
        return len(self._tried)

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)
