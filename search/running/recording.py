"""Results: a trial's files, its record in the study, and what follows once that is written.

A trial that is finished in the study has its files; its checkpoint goes, and it is announced, when the study surely has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.definition.objectives import StudyObjective, primary_index
from search.errors import NegativeAnswer, os_errors
from search.events import Listener, TrialFinished
from search.running.running_trial import RunningTrial
from search.study.trials import STATE_NAMES, front_of, is_finished, num_finished, store_result
from search.trial.checkpoint import remove_checkpoint
from search.trial.files import trial_folder, write_trial
from search.trial.outcome import Outcome
from search.trial.result import result_of, values_of


@dataclass(frozen=True)
class _Recorded:
    """A result that was told to the study, and may not be written yet."""

    running: RunningTrial
    state: TrialState
    reason: str
    outcome: Outcome | None


class Recorder:
    """Tells the results of one run's trials to the study."""

    def __init__(
        self, study: optuna.Study, objectives: Sequence[StudyObjective], *, runs: Path, emit: Listener, max_failures: int
    ) -> None:
        self._study = study
        self._objectives = objectives
        self._runs = runs
        self._emit = emit
        self._max_failures = max_failures
        self._failures = 0
        self._waiting: list[_Recorded] = []

    @property
    def has_waiting(self) -> bool:
        """Whether there is a result from which nothing has followed yet."""
        return bool(self._waiting)

    def record(self, running: RunningTrial, state: TrialState, reason: str = "", outcome: Outcome | None = None) -> None:
        """Writes the trial's files, then tells its result.

        Raises:
            ResourceError: the files cannot be written.
        """
        number, curves = running.job.trial, running.curves
        settings = {"trial": number, "seed": running.job.seed, **running.job.configs.as_dict()}
        write_trial(running.job.folder, settings, curves.histories, outcome)
        if curves.steps:
            store_result(running.trial, result_of(self._objectives, curves, outcome, running.label_smoothing_used))
        if reason:
            running.trial.set_user_attr("reason", reason)
        values = None
        if state == TrialState.COMPLETE:
            values = list(values_of(self._objectives, curves, outcome).values())
        self._study.tell(running.trial, values, state)
        self._waiting.append(_Recorded(running, state, reason, outcome))

    def follow_up(self, target: int) -> None:
        """All that was told is written: sees to what follows from it.

        Raises:
            NegativeAnswer: more trials failed than `max_failures`.
            ResourceError: a checkpoint cannot be deleted.
        """
        written, self._waiting = self._waiting, []
        for recorded in written:
            _remove_checkpoint(recorded.running.job.folder)
            self._announce(recorded, target)
            if recorded.state == TrialState.FAIL:
                self._count_failure(recorded.reason)

    def forget(self, number: int) -> None:
        """Nothing follows from what was told of a trial: another program has ended it."""
        self._waiting = [recorded for recorded in self._waiting if recorded.running.job.trial != number]

    def forget_all(self) -> None:
        """Nothing follows from what was told and is not written: others have this run's trials."""
        self._waiting.clear()

    def sweep(self) -> None:
        """Deletes checkpoints that a run could not delete because it was killed just after it had told a result.

        Raises:
            ResourceError: a checkpoint cannot be deleted.
        """
        for trial in self._trials():
            folder = trial_folder(self._runs, self._study.study_name, trial.number)
            if is_finished(trial) and folder.is_dir():
                _remove_checkpoint(folder)

    def _announce(self, recorded: _Recorded, target: int) -> None:
        number, curves = recorded.running.job.trial, recorded.running.curves
        gave = recorded.state != TrialState.FAIL and curves.steps > 0
        values = values_of(self._objectives, curves, recorded.outcome) if gave else {}
        trials = self._trials()
        self._emit(
            TrialFinished(
                trial=number,
                state=STATE_NAMES[recorded.state],
                params=recorded.running.trial.params,
                value=next(iter(values.values()), None),
                values=values,
                val_top1=curves.mean_at_selected_epoch(lambda record: record.val_top1) if gave else None,
                epochs=curves.num_epochs,
                seconds=curves.seconds,
                is_best=any(trial.number == number for trial in front_of(trials, primary_index(self._objectives))),
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
                hint=f"`python -m search trials {self._study.study_name}` lists them; perhaps a range is too wide",
            )

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)


def _remove_checkpoint(folder: Path) -> None:
    with os_errors("a checkpoint cannot be deleted", where=folder, hint="is the disk read-only?"):
        remove_checkpoint(folder)
