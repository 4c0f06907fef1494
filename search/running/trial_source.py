"""Where the trials of a search come from: orphaned by dead runs, enqueued, and new ones from the sampler.

Several runs may work on one study. They take trials in turns, and only as many as the target still needs, so that the study
ends at exactly its target and no trial is trained twice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import BASELINE_TRIAL
from search.definition.definition import StudyDefinition
from search.definition.ranges import Range
from search.definition.space import active_dimensions, num_combinations
from search.definition.trial_attributes import attribute, set_attribute
from search.events import Listener, TrialFinished
from search.running.criteria import why_ended
from search.running.ledger import Ledger
from search.running.proposal import FIXED, Tried, fixed_params, key_of, propose, why_rejected, why_unusable
from search.running.running_trial import PRUNED_AT, RunningTrial
from search.running.turns import WaitNotices, situation, take_in_turn
from search.study.attempts import ATTEMPTS, read_attempts
from search.study.folder import trial_folder
from search.study.order import FIRST_ORDER, ORDER_SEED, STACK
from search.study.study import EXHAUSTED, SHARES_SEEDS
from search.study.trials import STATE_NAMES, num_finished, owner, require_trial
from search.trial.files import CHECKPOINT
from search.trial.job import Job, sampler_seed, trial_seed


class SearchTrials:
    """The trials of one run of a search."""

    unit = "trial"

    def __init__(
        self,
        study: optuna.Study,
        ledger: Ledger,
        definition: StudyDefinition,
        *,
        target: int,
        more: bool = False,
        device: str,
        folder: Path,
        emit: Listener,
    ) -> None:
        """`study` is on the ledger. `more`: the target was asked for with --more, so only reaching it ends the study."""
        self.study = study
        self.ledger = ledger
        self.definition = definition
        self.target = target
        self.more = more
        self.ended_by = ""
        """What ended the study, in words; empty until then."""

        self.continue_with = "`--more N`"
        """What continues a study that has ended, in words."""

        self.device = device
        self.folder = folder
        self.emit = emit
        self._notices = WaitNotices(emit)
        self._tried = Tried(definition)
        self._judged: tuple[list[int], str] = ([], "")
        """How many trials had ended when it was last found out why the study ends, and the answer."""

    def take(self, count: int) -> list[RunningTrial]:
        """Takes up to `count` trials; none if there are none to take now, or another run has the turn."""
        return take_in_turn(self.ledger, self._notices, count, self._take_one)

    def _take_one(self) -> RunningTrial | None:
        while True:
            trials = self._trials()
            now = situation(self.ledger, trials)
            places = now.open_places(self.target)
            if places > 0 and now.orphans:
                orphan = require_trial(self.study, trials, now.orphans[0])
                if not self.ledger.lease.reclaim_from(owner(orphan)):
                    return None  # its owner is alive again
                self.ledger.refresh()
                trial = self._orphaned(orphan)
            elif places > len(now.orphans) and not self._why_ended(trials) and (now.waiting or not self._is_exhausted(trials)):
                trial = self._asked(now.waiting, len(trials))
            else:
                return None
            if (running := self._prepared(trial)) is not None:
                return running

    def is_over(self) -> bool:
        """Whether no more trials will come, given that this run trains none."""
        self.ledger.refresh()
        trials = self._trials()
        now = situation(self.ledger, trials)
        self.ended_by = self._why_ended(trials)
        if now.finished >= self.target:
            return True
        if now.others:
            self._notices.wait_for([trial for trial in trials if trial.number in now.others])
            return False
        if now.orphans:
            return False
        if self.ended_by:
            return True
        if now.waiting or not self._is_exhausted(trials):
            return False
        tried = f"{self._num_tried(trials):,} combinations were tried"
        self.ended_by = f"the space is exhausted: {tried}, and no other valid one was found"
        self.continue_with = _ways_out(self.definition)
        return True

    def _why_ended(self, trials: Sequence[FrozenTrial]) -> str:
        ended = [self.ledger.get_n_trials(self.study._study_id, state) for state in TrialState if state.is_finished()]
        if self._judged[0] != ended:
            self._judged = ended, why_ended(trials, self.definition, self.target, more=self.more)
        return self._judged[1]

    def _asked(self, waiting: Sequence[int], count: int) -> optuna.Trial:
        """Asks Optuna for an enqueued trial or a new one. The sampler's seed follows from the trial's number."""
        self._seed_sampler(waiting[0] if waiting else count)
        return self.study.ask()

    def _orphaned(self, orphan: FrozenTrial) -> optuna.Trial:
        self._seed_sampler(orphan.number)
        # The storage's own trial id: Optuna's way back to a trial that another process asked for.
        return optuna.Trial(self.study, orphan._trial_id)

    def _seed_sampler(self, number: int) -> None:
        seed = sampler_seed(self.definition.seed, number)
        self.study.sampler = self.definition.sampler.make_next(
            self.study.sampler, seed, self.definition.seed, self.definition.space
        )

    def _prepared(self, trial: optuna.Trial) -> RunningTrial | None:
        """Gives the trial its parameters and this run as owner; None if it has nothing to try.

        All of it happens in this run's turn: a trial without an owner was orphaned by a run that died at this point.
        """
        frozen = require_trial(self.study, self._trials(), trial.number)
        if frozen.state.is_finished():
            return None  # its run recorded the result and ended after the study was read
        params = self._params(trial, frozen)
        if params is None:
            return None
        # Stored at once, where Optuna keeps enqueued values: a run killed while it stores them one by one draws the same again.
        trial.storage.set_trial_system_attr(trial._trial_id, FIXED, params)
        for dim in active_dimensions(self.definition.space, params):
            if dim.name not in frozen.params:
                shape = dim.distribution()
                trial.storage.set_trial_param(trial._trial_id, dim.name, shape.to_internal_repr(params[dim.name]), shape)
        trial = optuna.Trial(self.study, trial._trial_id)  # reads the stored parameters
        job = self._job(frozen, params)
        set_attribute(trial, "owner", self.ledger.lease.stored())
        set_attribute(trial, "seed", job.seed)
        set_attribute(trial, "settings", json.dumps(job.configs.as_dict()))
        return RunningTrial(
            trial,
            job,
            dict(frozen.intermediate_values),
            attribute(frozen, "deaths", []),
            self.ledger.lease.owner.run,
            read_attempts(attribute(frozen, ATTEMPTS)),
            pruned_at=attribute(frozen, PRUNED_AT),
            stack=attribute(frozen, STACK),
            is_baseline=frozen.number == BASELINE_TRIAL,
        )

    def _job(self, frozen: FrozenTrial, params: dict[str, Any]) -> Job:
        folder = trial_folder(self.folder, frozen.number)
        return Job(
            trial=frozen.number,
            configs=self.definition.configs(params),
            seed=self._seed(frozen),
            plan=self.definition.plan,
            device=self.device,
            folder=folder,
            order_seed=self.study.user_attrs.get(ORDER_SEED),
            first_order=attribute(frozen, FIRST_ORDER),
            is_resumed=bool(frozen.intermediate_values) or (folder / CHECKPOINT).exists(),
        )

    def _seed(self, frozen: FrozenTrial) -> int:
        """The seed of a trial. One that was begun keeps the seed that it has."""
        begun = None if owner(frozen) is None else attribute(frozen, "seed")
        if begun is not None:
            return int(begun)
        return trial_seed(self.definition.seed, BASELINE_TRIAL if self._shares_seeds() else frozen.number)

    def _shares_seeds(self) -> bool:
        """Whether all trials train with the same seeds. A study of an earlier version goes on like its first trials."""
        recorded = self.study.user_attrs.get(SHARES_SEEDS)
        if recorded is not None:
            return bool(recorded)
        seeds = (attribute(trial, "seed") for trial in self._trials() if trial.number != BASELINE_TRIAL)
        return next((seed for seed in seeds if seed is not None), None) == trial_seed(self.definition.seed, BASELINE_TRIAL)

    def _params(self, trial: optuna.Trial, frozen: FrozenTrial) -> dict[str, Any] | None:
        """Chooses the trial's parameters. If it cannot try any, fails it and returns None."""
        fixed = fixed_params(frozen, self.definition)
        if reason := why_unusable(frozen, self.definition):
            self._fail(trial, fixed, reason)
            return None
        self._tried.add(self._trials())
        tried = self._tried.except_for(frozen.number)
        params = propose(self.study, frozen, self.definition, tried, sampler_seed(self.definition.seed, frozen.number))
        if params is None:
            if not fixed:
                self.study.set_user_attr(EXHAUSTED, True)
            self._fail(trial, fixed, "no valid untried combination of settings was found")
            return None
        reason = why_rejected(params, self.definition)
        if key_of(params) in tried:
            reason = f"trial {self._tried.first_with(params)} had the same parameters"
        if reason:
            self._fail(trial, params, reason)
            return None
        return params

    def _fail(self, trial: optuna.Trial, params: dict[str, Any], reason: str) -> None:
        """Fails a trial before it was trained."""
        set_attribute(trial, "reason", reason)
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
        self._tried.add(trials)
        return len(self._tried)

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)


def _ways_out(definition: StudyDefinition) -> str:
    """What continues a study whose space is exhausted: a range can become wider, but choices stay."""
    new_study = f"a new study that has a larger space (`--as NAME --from {definition.name}`)"
    has_range = any(isinstance(dim.domain, Range) for dim in definition.space)
    widens = has_range and definition.sampler.supports_wider_ranges
    return f"a wider range (`--allow-wider`), or {new_study}" if widens else new_study
