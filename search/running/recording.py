"""Finished trials: their files, their record in the study, and the clean-up once that record is written.

Every trial that is finished in the study has its files. Its checkpoint is deleted, and its result announced, only when the
database holds the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.definition.objectives import StudyObjective, primary_index
from search.definition.trial_attributes import set_attribute
from search.errors import NegativeAnswer, os_errors
from search.events import Listener, TrialFinished
from search.running.running_trial import RunningTrial
from search.study.folder import trial_folder
from search.study.trials import STATE_NAMES, is_in_front, num_finished, store_result
from search.trial.checkpoint import remove_checkpoint
from search.trial.files import write_trial
from search.trial.outcome import Outcome
from search.trial.result import result_of, values_of, why_invalid


@dataclass(frozen=True)
class _Recorded:
    """A result that is on the ledger, and perhaps not in the database yet."""

    running: RunningTrial
    state: TrialState
    reason: str
    outcome: Outcome | None


class Recorder:
    """Records the results of one run's trials in the study."""

    def __init__(
        self,
        study: optuna.Study,
        objectives: Sequence[StudyObjective],
        *,
        folder: Path,
        num_words: int,
        emit: Listener,
        max_failures: int,
        marks_best: bool,
    ) -> None:
        """`marks_best`: whether a finished trial may be announced as the best so far."""
        self._study = study
        self._objectives = objectives
        self._folder = folder
        self._num_words = num_words
        self._emit = emit
        self._max_failures = max_failures
        self._marks_best = marks_best
        self._failures = 0
        self._unannounced: list[_Recorded] = []

    @property
    def has_unannounced(self) -> bool:
        """Whether a recorded result still waits for `follow_up`."""
        return bool(self._unannounced)

    def record(self, running: RunningTrial, state: TrialState, *, reason: str = "", outcome: Outcome | None = None) -> None:
        """Writes the trial's files, then records its result. A result that cannot be true is recorded as failed.

        Args:
            reason: why the trial failed; empty if it did not.

        Raises:
            ResourceError: the files cannot be written.
        """
        number, curves, train = running.job.trial, running.curves, running.job.configs.train
        if not reason and (reason := why_invalid(train, self._num_words, curves.histories, running.label_smoothing_used)):
            state = TrialState.FAIL
        settings = {"trial": number, "seed": running.job.seed, **running.job.configs.as_dict()}
        write_trial(running.job.folder, settings, curves.histories, outcome)
        if curves.steps:
            store_result(running.trial, result_of(self._objectives, curves, outcome, running.label_smoothing_used))
        if reason:
            set_attribute(running.trial, "reason", reason)
        values = None
        if state == TrialState.COMPLETE:
            values = list(values_of(self._objectives, curves, outcome).values())
        running.drop_stale_reports()
        self._study.tell(running.trial, values, state)
        self._unannounced.append(_Recorded(running, state, reason, outcome))

    def follow_up(self, target: int) -> None:
        """Deletes checkpoints and announces results. Call it when everything on the ledger is in the database.

        Raises:
            NegativeAnswer: more trials than `max_failures` failed.
            ResourceError: a checkpoint cannot be deleted.
        """
        written, self._unannounced = self._unannounced, []
        for recorded in written:
            _remove_checkpoint(recorded.running.job.folder)
            self._announce(recorded, target)
            if recorded.state == TrialState.FAIL:
                self._count_failure(recorded.reason)

    def forget(self, number: int) -> None:
        """Drops the result of a trial that another program has ended."""
        self._unannounced = [recorded for recorded in self._unannounced if recorded.running.job.trial != number]

    def forget_all(self) -> None:
        """Drops all results that are not written: other runs have reclaimed this run's trials."""
        self._unannounced.clear()

    def remove_stale_checkpoints(self) -> None:
        """Deletes checkpoints of finished trials, left by a run that was killed just after it recorded a result.

        Raises:
            ResourceError: a checkpoint cannot be deleted.
        """
        for trial in self._trials():
            folder = trial_folder(self._folder, trial.number)
            if trial.state.is_finished() and folder.is_dir():
                _remove_checkpoint(folder)

    def _announce(self, recorded: _Recorded, target: int) -> None:
        number, curves = recorded.running.job.trial, recorded.running.curves
        has_values = recorded.state != TrialState.FAIL and curves.steps > 0
        values = values_of(self._objectives, curves, recorded.outcome) if has_values else {}
        trials = self._trials()
        may_be_best = self._marks_best and recorded.state == TrialState.COMPLETE
        self._emit(
            TrialFinished(
                trial=number,
                state=STATE_NAMES[recorded.state],
                params=recorded.running.trial.params,
                value=next(iter(values.values()), None),
                values=values,
                val_top1=curves.mean_at_kept_epoch(lambda record: record.val_top1) if has_values else None,
                epochs=curves.num_epochs,
                seconds=curves.seconds,
                is_best=may_be_best and is_in_front(trials[number], trials, primary_index(self._objectives)),
                finished=num_finished(trials),
                target=target,
                reason=recorded.reason,
            )
        )

    def _count_failure(self, reason: str) -> None:
        self._failures += 1
        if self._failures > self._max_failures:
            raise NegativeAnswer(
                f"{self._failures} trials of this run failed, more than --max-failures {self._max_failures}",
                where=f"study {self._study.study_name}",
                got=f"the last one: {reason}",
                hint=f"`islr-search trials {self._study.study_name}` lists them; perhaps a range is too wide",
            )

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)


def _remove_checkpoint(folder: Path) -> None:
    with os_errors("a checkpoint cannot be deleted", where=folder, hint="is the disk read-only?"):
        remove_checkpoint(folder)
