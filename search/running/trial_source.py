"""Where a run's trials come from: those that dead runs left, those that wait, and new ones from the sampler.

Several runs may work on one study. They take trials in turns, and only as many as the target still wants, so that the study
ends at exactly its target and no trial is trained twice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.definition.definition import StudyDefinition
from search.definition.space import active_dimensions, num_combinations
from search.events import Listener, TrialFinished
from search.running.criteria import ended
from search.running.ledger import Ledger
from search.running.proposal import FIXED, Tried, given_to, key_of, outside, propose, why_not
from search.running.running_trial import PRUNED_AT, RunningTrial
from search.running.turns import Waiting, in_turn, situation
from search.study.attempts import ATTEMPTS, attempts_of
from search.study.study import EXHAUSTED
from search.study.trials import STATE_NAMES, num_finished, owner
from search.trial.checkpoint import CHECKPOINT
from search.trial.files import trial_folder
from search.trial.job import Job, sampler_seed, trial_seed


class SearchTrials:
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

    def take(self, count: int) -> list[RunningTrial]:
        """The next trials, so many at most; none if there are none to take now, or another run is just taking some."""
        return in_turn(self.ledger, self._waiting, count, self._one)

    def _one(self) -> RunningTrial | None:
        """A trial, in this run's turn."""
        while True:
            trials = self._trials()
            now = situation(self.ledger, trials)
            places = now.open_places(self.target)
            enough = bool(self._enough(trials))
            if places > 0 and now.orphans:
                left = trials[now.orphans[0]]
                if not self.ledger.lease.reclaim_from(owner(left)):
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

    def _prepared(self, trial: optuna.Trial) -> RunningTrial | None:
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
        for dim in active_dimensions(self.definition.space, params):
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
            is_resumed=bool(frozen.intermediate_values) or (folder / CHECKPOINT).exists(),
        )
        trial.set_user_attr("owner", self.ledger.lease.stored())
        trial.set_user_attr("seed", job.seed)
        trial.set_user_attr("settings", json.dumps(job.configs.as_dict()))
        return RunningTrial(
            trial,
            job,
            dict(frozen.intermediate_values),
            frozen.user_attrs.get("deaths", []),
            self.ledger.lease.owner.run,
            attempts_of(frozen.user_attrs.get(ATTEMPTS)),
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
        possible = num_combinations(self.definition.space)
        return self._num_tried(trials) >= possible or bool(self.study.user_attrs.get(EXHAUSTED))

    def _num_tried(self, trials: Sequence[FrozenTrial]) -> int:
        self._tried.learn(trials)
        return len(self._tried)

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)
