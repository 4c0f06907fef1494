"""The trainings of a confirmation as trials, in the order that `allocation.py` decides.

They are the trials of a study of their own, `STUDY/confirm`, in the same database, so that runs share, resume and end them like
those of a search. Each has its candidate and the number of its seed as parameters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from data_utils.clip_split import split_clips
from data_utils.errors import DataError
from data_utils.prepared import DataSet
from data_utils.splits import Split, split_signers
from search import BASELINE_TRIAL
from search.definition.definition import Plan
from search.definition.settings import Configs
from search.definition.trial_attributes import attribute, new_attributes, set_attribute
from search.evaluation.confirm.allocation import Allocation, Decision
from search.events import Listener
from search.running.ledger import Ledger
from search.running.running_trial import RunningTrial
from search.running.turns import WaitNotices, situation, take_in_turn
from search.study.attempts import ATTEMPTS, read_attempts
from search.study.companion import CANDIDATE, SEED, TRAINING_DISTRIBUTIONS, training_values
from search.study.folder import trial_folder
from search.study.order import STACK
from search.study.presence import require_present
from search.study.trials import num_finished, owner, require_trial
from search.trial.files import CHECKPOINT
from search.trial.job import Job


@dataclass(kw_only=True)
class ConfirmTrials:
    """The trial source of a confirmation. The next training depends only on the trainings so far, whichever run made them."""

    study: optuna.Study
    """That of the ledger."""

    source: optuna.Study
    """The search that is confirmed."""

    ledger: Ledger
    configs: Mapping[int, Configs]
    """Of the baseline and of each candidate, by number in the search."""

    allocation: Allocation

    primary: int
    """Index of the primary objective."""

    plan: Plan
    seeds: Mapping[int, int]
    """By number, from 1."""

    splits: Mapping[int, Split]
    """With the folds of each seed, by its number."""

    device: str
    folder: Path
    """The companion's, under `--runs`."""

    emit: Listener
    unit: str = "training"

    def __post_init__(self) -> None:
        self._retry_before = len(self._trials())
        self._waiting = WaitNotices(self.emit, self.unit)

    def values(self, trials: Sequence[FrozenTrial] | None = None) -> dict[int, dict[int, float | None]]:
        """The values so far. Trainings that failed because of the machine before this run are left out, and so retried."""
        trials = self._trials() if trials is None else trials
        return training_values(trials, self.primary, retry_before=self._retry_before)

    def decide(self, trials: Sequence[FrozenTrial] | None = None) -> Decision:
        """What follows from the trainings so far."""
        return self.allocation.decide(self.values(trials))

    @property
    def target(self) -> int:
        """The largest number of trainings that there can be."""
        return num_finished(self._trials()) + self.left

    @property
    def left(self) -> int:
        """How many of them are not finished."""
        return self.decide().left

    def take(self, count: int) -> list[RunningTrial]:
        """At most `count` next trainings; empty if the next ones depend on trainings that are still running."""
        return take_in_turn(self.ledger, self._waiting, count, self._take_one)

    def is_over(self) -> bool:
        """Whether no training is missing."""
        require_present(self.source)
        self.ledger.refresh()
        trials = self._trials()
        if not self.decide(trials).missing:
            return True
        if others := situation(self.ledger, trials).others:
            self._waiting.wait_for([trial for trial in trials if trial.number in others])
        return False

    def _take_one(self) -> RunningTrial | None:
        """The next training, in this run's turn: an orphaned one, else a new one."""
        require_present(self.source)
        trials = self._trials()
        missing = self.decide(trials).missing  # a run with other candidates or seeds may have left other trainings too
        numbers = situation(self.ledger, trials).orphans
        orphans = [trial for trial in trials if trial.number in numbers and _key(trial) in missing]
        if orphans:
            if not self.ledger.lease.reclaim_from(owner(orphans[0])):
                return None  # its owner is alive after all
            self.ledger.refresh()
            orphan = require_trial(self.study, self._trials(), orphans[0].number)
            return None if orphan.state.is_finished() else self._take(orphan)
        running = {_key(trial) for trial in trials if trial.state == TrialState.RUNNING}
        key = next((key for key in missing if key not in running), None)
        return None if key is None else self._start(*key)

    def _start(self, candidate: int, seed: int) -> RunningTrial:
        """A new trial, stored in a single write: a run that is killed here leaves all of it, or nothing."""
        settings = json.dumps(self.configs[candidate].as_dict())
        user, system = new_attributes({"seed": self.seeds[seed], "settings": settings})
        self.study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params={CANDIDATE: candidate, SEED: seed},
                distributions=TRAINING_DISTRIBUTIONS,
                user_attrs=user,
                system_attrs=system,
            )
        )
        return self._take(self._trials()[-1])

    def _take(self, frozen: FrozenTrial) -> RunningTrial:
        candidate, seed = _key(frozen)
        trial = optuna.Trial(self.study, frozen._trial_id)
        set_attribute(trial, "owner", self.ledger.lease.stored())
        folder = trial_folder(self.folder, frozen.number)
        job = Job(
            trial=frozen.number,
            configs=self.configs[candidate],
            seed=self.seeds[seed],
            plan=self.plan,
            device=self.device,
            folder=folder,
            is_resumed=bool(frozen.intermediate_values) or (folder / CHECKPOINT).exists(),
            split=self.splits[seed],
            keeps_models=True,
            unit=self.unit,
        )
        reported, deaths = dict(frozen.intermediate_values), attribute(frozen, "deaths", [])
        attempts = read_attempts(attribute(frozen, ATTEMPTS))
        run, is_baseline = self.ledger.lease.owner.run, candidate == BASELINE_TRIAL
        stack = attribute(frozen, STACK)
        return RunningTrial(trial, job, reported, deaths, run, attempts, stack=stack, is_baseline=is_baseline)

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)


def fresh_split(split: Split, data: DataSet, seed: int) -> Split:
    """The split with its training signers, or their clips, divided anew into as many folds; itself without folds.

    If words are so rare that this seed finds no other folds, the study's own.
    """
    folds = len(split.folds)
    if not folds:
        return split
    try:
        if (own := split.clips) is not None:
            signers, words = own.signers, data.words
            return split_clips(data.entries, words, train=signers, test=own.test, folds=folds, seed=own.seed, fold_seed=seed)
        fresh = split_signers(data.words_of, train=split.train, test=split.test or "none", folds=folds, seed=seed)
        return replace(split, folds=fresh.folds)
    except DataError:
        return split


def _key(trial: FrozenTrial) -> tuple[int, int]:
    return trial.params[CANDIDATE], trial.params[SEED]
