"""Where the trainings of a confirmation come from: round by round, a seed for all that are still in the race.

They are the trials of a study of their own, `STUDY/confirm`, in the same database, so that they resume, share workers and end
as those of a search do. A trial there says which candidate it trained and with which seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from data_utils.errors import DataError
from data_utils.splits import Folds, Split, split_signers
from search import BASELINE_TRIAL
from search.definition.definition import Plan
from search.definition.settings import Configs
from search.evaluation.confirm.race import dropped, wanted
from search.events import Listener
from search.running.ledger import Ledger
from search.running.running_trial import RunningTrial
from search.running.turns import WaitNotices, situation, take_in_turn
from search.study.attempts import ATTEMPTS, attempts_of
from search.study.companion import CANDIDATE, SEED, SHAPES, values_of
from search.study.trials import num_finished, owner
from search.trial.checkpoint import CHECKPOINT
from search.trial.files import trial_folder
from search.trial.job import Job


class ConfirmTrials:
    """Gives one run its trainings. What comes next follows from what has been trained, whoever trained it, and when."""

    def __init__(
        self,
        study: optuna.Study,
        ledger: Ledger,
        configs: Mapping[int, Configs],
        *,
        primary: int,
        plan: Plan,
        seeds: Mapping[int, int],
        folds: Mapping[int, tuple[tuple[str, ...], ...]],
        device: str,
        runs: Path,
        emit: Listener,
    ) -> None:
        """`study` is on the ledger. Everything by number: `configs` of the baseline and of each candidate by its number in
        the search, the best first;
        `seeds` and the `folds` that go with them by the number of the seed, from 1.
        """
        self.study = study
        self.configs = configs
        self.candidates = [number for number in configs if number != BASELINE_TRIAL]
        self.ledger = ledger
        self.primary = primary
        self.plan = plan
        self.seeds = seeds
        self.folds = folds
        self.device = device
        self.runs = runs
        self._anew_before = len(self._trials())
        self._waiting = WaitNotices(emit)

    def values(self, trials: Sequence[FrozenTrial] | None = None) -> dict[int, dict[int, float | None]]:
        """What has been trained. What a machine failed before this run is tried once more."""
        trials = self._trials() if trials is None else trials
        return values_of(trials, self.primary, anew_before=self._anew_before)

    @property
    def target(self) -> int:
        """How many trainings there will be if nobody else is dropped."""
        return num_finished(self._trials()) + self.left

    @property
    def left(self) -> int:
        """How many of them are not finished."""
        values = self.values()
        lacking = wanted(self.candidates, values, len(self.seeds))
        if not lacking:
            return 0
        seed = lacking[0][1]
        racing = len(self.configs) - len(dropped(self.candidates, values, seed - 1))
        return len(lacking) + racing * (len(self.seeds) - seed)

    def take(self, count: int) -> list[RunningTrial]:
        """The next trainings, so many at most; none if there are none to take before others have ended."""
        return take_in_turn(self.ledger, self._waiting, count, self._one)

    def _one(self) -> RunningTrial | None:
        """A training, in this run's turn."""
        trials = self._trials()
        if orphans := self._ours(trials, situation(self.ledger, trials).orphans):
            if not self.ledger.lease.reclaim_from(owner(orphans[0])):
                return None  # it has come back to life
            self.ledger.refresh()
            orphan = self._trials()[orphans[0].number]
            return None if orphan.state.is_finished() else self._taken(orphan)
        running = {_key(trial) for trial in trials if trial.state == TrialState.RUNNING}
        for key in wanted(self.candidates, self.values(trials), len(self.seeds)):
            if key not in running:
                return self._begun(key)
        return None

    def is_over(self) -> bool:
        """Whether all rounds are full."""
        self.ledger.refresh()
        trials = self._trials()
        if not wanted(self.candidates, self.values(trials), len(self.seeds)):
            return True
        if others := situation(self.ledger, trials).others:
            self._waiting.wait_for([trials[number] for number in others])
        return False

    def _ours(self, trials: Sequence[FrozenTrial], numbers: Sequence[int]) -> list[FrozenTrial]:
        """Those that this run's candidates and seeds want; a run with other wishes may have left more."""
        wishes = set(wanted(self.candidates, self.values(trials), len(self.seeds)))
        return [trials[number] for number in numbers if _key(trials[number]) in wishes]

    def _begun(self, key: tuple[int, int]) -> RunningTrial:
        """A new trial, stored in one piece: a run that dies here leaves it whole, or not at all."""
        candidate, seed = key
        configs = self.configs[candidate]
        attributes = {
            "seed": self.seeds[seed],
            "settings": json.dumps(configs.as_dict()),
        }
        params = {CANDIDATE: candidate, SEED: seed}
        self.study.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=SHAPES, user_attrs=attributes))
        return self._taken(self._trials()[-1])

    def _taken(self, frozen: FrozenTrial) -> RunningTrial:
        candidate, seed = _key(frozen)
        trial = optuna.Trial(self.study, frozen._trial_id)
        trial.set_user_attr("owner", self.ledger.lease.stored())
        folder = trial_folder(self.runs, self.study.study_name, frozen.number)
        job = Job(
            trial=frozen.number,
            configs=self.configs[candidate],
            seed=self.seeds[seed],
            plan=self.plan,
            device=self.device,
            folder=folder,
            is_resumed=bool(frozen.intermediate_values) or (folder / CHECKPOINT).exists(),
            folds=self.folds[seed],
            keeps_models=True,
        )
        attributes = frozen.user_attrs
        attempts = attempts_of(attributes.get(ATTEMPTS))
        told = dict(frozen.intermediate_values)
        return RunningTrial(trial, job, told, attributes.get("deaths", []), self.ledger.lease.owner.run, attempts)

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)


def fresh_folds(split: Split, words_of: Mapping[str, frozenset[int]], seed: int) -> tuple[tuple[str, ...], ...]:
    """The training signers dealt out anew, into as many folds as the study has; none for a study without.

    The study's own folds where words are so rare that this seed finds no others.
    """
    if not split.folds:
        return ()
    folds: Folds = len(split.folds)
    try:
        return split_signers(words_of, train=split.train, test=split.test or "none", folds=folds, seed=seed).folds
    except DataError:
        return split.folds


def _key(trial: FrozenTrial) -> tuple[int, int]:
    return trial.params[CANDIDATE], trial.params[SEED]
