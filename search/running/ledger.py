"""One run's view of its study: held in memory, written in batches.

To Optuna's `Study`, samplers and pruners a `Ledger` is a storage. Reports of the run's own trials are in memory at once, where
pruners see them, and reach the database with the next `flush`, in one transaction with all other changes. `refresh` reads what
other runs and programs have written. New trials, and enqueued trials that are taken, are written at once.

While a database server cannot be reached, changes stay here in order.
"""

from __future__ import annotations

import copy
import datetime
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from search.errors import ResourceError
from search.storage.leases.lease import Lease
from search.storage.one_by_one import without_dropped, write_one
from search.storage.tables import Changes, tables_of, uncached
from search.study.checked import CheckedStudy, Notify, require_numbering
from search.study.presence import expecting, gone_error, reading, why_gone
from search.study.stopping import is_asked_to_stop
from search.study.study import checked_study

_MAX_AGE_S = 1.0
"""How old the knowledge of other runs may be when a pruner decides."""


class Ledger(optuna.storages.BaseStorage):
    """One study of a storage, as one run reads and writes it."""

    def __init__(self, storage: optuna.storages.BaseStorage, study: str, lease: Lease) -> None:
        self._storage = storage
        self._behind = uncached(storage)
        self._tables = tables_of(storage)
        if self._tables is None and lease.needs_fence:
            raise ResourceError(
                "the tables of this database have an unknown layout",
                hint="was it made by another version of Optuna? `optuna storage upgrade --storage URL` may help",
            )
        self.lease = lease
        self._study = storage.get_study_id_from_name(study)
        self._name = study
        self._mark = ""
        """Tells this study from one that gets its number and its name after it was deleted; empty if it has none."""

        if self._tables is not None:
            with self._tables.reading() as connection:
                self._mark = (self._tables.study_mark(connection, self._study) or ("", ""))[1]
        self._directions = storage.get_study_directions(self._study)
        self._trials: dict[int, FrozenTrial] = {}
        """By number, in order."""

        self._number_of: dict[int, int] = {}
        self._selections: dict[tuple[TrialState, ...], list[FrozenTrial]] = {}
        """Trials by state, as asked for before; dropped when one of them changes."""

        self._own: set[int] = set()
        """Ids of trials that this run writes: memory is ahead of the database."""

        self._unsure: set[int] = set()
        """Ids of trials of which memory may differ from the database: they are read again."""

        self.ended_elsewhere: list[int] = []
        """Numbers of this run's trials that another program has ended; the coordinator empties the list."""

        self.is_asked_to_stop = False
        self._user_attrs: dict[str, Any] | None = None
        self._system_attrs: dict[str, Any] | None = None
        """The study's attributes; None until they are read."""

        self._changes: dict[int, Changes] = {}
        self._since = 0.0
        self._read_at = 0.0
        self.refresh()

    def open(self, notify: Notify) -> CheckedStudy:
        """The study on this storage."""
        return checked_study(self, self._name, notify)

    @property
    def waiting_s(self) -> float:
        """How long the oldest change has waited to be written, in seconds; 0 if there is none."""
        return max(time.monotonic() - self._since, 1e-9) if self._changes else 0.0

    @property
    def unwritten(self) -> list[int]:
        """Numbers of trials with changes that are not written yet."""
        return sorted(self._number_of[trial] for trial in self._changes)

    def holds(self, trial: FrozenTrial) -> bool:
        """Whether the trial is this run's."""
        return trial._trial_id in self._own

    @contextmanager
    def turn(self, patience_s: float) -> Iterator[bool]:
        """This run's turn to take trials, on a fresh view of the study; taken trials are written before the turn ends.

        After an error the taken trials are given up: the run with the next turn finds them without a live owner.

        Raises: same as `Lease.turn` and `flush`.
        """
        before, ended = set(self._own), list[int]()
        try:
            with self.lease.turn(patience_s) as is_mine:
                if is_mine:
                    self.refresh()
                yield is_mine
                if is_mine and self._changes:  # by the turn's own connection: written only if the turn is still held
                    ended = self._written()
        except BaseException:
            running = self._own - before
            for trial in running:
                self._changes.pop(trial, None)
            self._own &= before
            self._unsure |= running
            raise
        if is_mine:
            self._note_written(ended)

    def look(self) -> None:
        """Reads what others have done, unless that was read a moment ago."""
        if time.monotonic() - self._read_at > _MAX_AGE_S:
            self.refresh()

    def refresh(self) -> None:
        """Reads what others have done.

        Raises:
            ResourceError: the study was deleted or renamed, or trials of it were deleted.
        """
        with reading(self._behind, self._study, self._name):
            found, count = self._found(), self._behind.get_n_trials(self._study)
            self.is_asked_to_stop |= is_asked_to_stop(self._behind, self._study, self.lease.names)
        if (gone := why_gone(self._behind, self._study, self._name)) is not None:
            raise gone
        for trial in sorted(found, key=lambda trial: trial.number):
            self._put(trial)
        if not count == len(self._trials) == max(self._trials, default=-1) + 1:
            stored = self._behind.get_all_trials(self._study, deepcopy=False)
            require_numbering(self._name, stored, self._trials)
        self._unsure = set()
        self._user_attrs = self._system_attrs = None
        self._read_at = time.monotonic()

    def _found(self) -> list[FrozenTrial]:
        """The trials that others may have changed."""
        if isinstance(self._behind, optuna.storages.RDBStorage):
            unfinished = {trial._trial_id for trial in self._in((TrialState.RUNNING, TrialState.WAITING))}
            open_ones = (unfinished | self._unsure) - self._own
            return self._behind._get_trials(self._study, None, open_ones, max(self._number_of, default=-1))
        return [t for t in self._behind.get_all_trials(self._study, deepcopy=False) if t._trial_id not in self._own]

    def flush(self) -> None:
        """Writes all changes. Trials that another program has ended stay as they are: see `ended_elsewhere`.

        Raises:
            LeaseLost: other runs have reclaimed this run's trials.
            StorageInternalError, SQLAlchemyError: the database cannot be used now; nothing is written, all changes are kept.
        """
        if not self._changes:
            return
        self._note_written(self._written())

    def _note_written(self, ended: Sequence[int]) -> None:
        self._own -= {trial for trial, change in self._changes.items() if change.state is not None or trial in ended}
        self._changes = {}
        self.ended_elsewhere += [self._number_of[trial] for trial in ended]
        self._unsure |= set(ended)
        if ended:
            self.refresh()

    def forget(self) -> None:
        """Drops unwritten changes and reads the study again: this run's trials are no longer its own."""
        self._unsure |= self._own
        self._changes, self._own = {}, set()
        self.refresh()

    def _written(self) -> list[int]:
        with expecting(self._behind, self._study, self._name):
            return self._write_all()

    def _write_all(self) -> list[int]:
        if self._tables is not None:
            with self._tables.writing(self.lease.turn_connection) as connection:
                self.lease.fence(connection)
                mark = self._tables.study_mark(connection, self._study)
                if mark is None or mark[0] != self._name or (self._mark and mark[1] != self._mark):
                    raise why_gone(self._behind, self._study, self._name) or gone_error(self._name)
                return self._tables.write(connection, self._changes)
        ended = []
        for trial, change in self._changes.items():
            try:
                write_one(self._behind, trial, change)
            except UpdateFinishedTrialError:
                ended.append(trial)
        return ended

    def _put(self, trial: FrozenTrial) -> None:
        trial = without_dropped(trial)
        changed = {trial.state, self._trials.get(trial.number, trial).state}
        self._trials[trial.number] = trial
        self._number_of[trial._trial_id] = trial.number
        for states in [states for states in self._selections if not changed.isdisjoint(states)]:
            del self._selections[states]

    def _change(self, trial_id: int, apply: Callable[[FrozenTrial], None]) -> Changes:
        """Applies a change to a trial in memory and returns the trial's changes to be written."""
        frozen = self.get_trial(trial_id)
        self.check_trial_is_updatable(trial_id, frozen.state)
        apply(frozen)
        self._put(frozen)
        self._own.add(trial_id)
        if not self._changes:
            self._since = time.monotonic()
        return self._changes.setdefault(trial_id, Changes())

    def drop_reports(self, trial_id: int, after: int) -> None:
        """Deletes the reports of a running trial after a step: they belong to a training that was given up."""

        def apply(frozen: FrozenTrial) -> None:
            for step in dropped:
                del frozen.intermediate_values[step]

        dropped = {step for step in self.get_trial(trial_id).intermediate_values if step > after}
        if dropped:
            change = self._change(trial_id, apply)
            change.dropped |= dropped
            change.reported = {step: value for step, value in change.reported.items() if step <= after}

    # The storage interface that Optuna calls.

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        def apply(trial: FrozenTrial) -> None:
            trial._params[param_name] = distribution.to_external_repr(param_value_internal)
            trial._distributions[param_name] = distribution

        self._change(trial_id, apply).params[param_name] = (param_value_internal, distribution)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._change(trial_id, lambda trial: trial._user_attrs.update({key: value})).user[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._change(trial_id, lambda trial: trial._system_attrs.update({key: value})).system[key] = value

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        change = self._change(trial_id, lambda trial: trial.intermediate_values.update({step: intermediate_value}))
        change.reported[step] = intermediate_value
        change.dropped.discard(step)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        if not state.is_finished():  # another run may take it at the same moment
            running = self._storage.set_trial_state_values(trial_id, state, values)
            self._put(self._storage.get_trial(trial_id))
            if running:
                self._own.add(trial_id)
            return running
        now = datetime.datetime.now()

        def apply(trial: FrozenTrial) -> None:
            trial.state, trial.datetime_complete = state, now
            if values is not None:
                trial._values = list(values)

        change = self._change(trial_id, apply)
        change.state, change.values, change.ended = state, values, now
        return True

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if isinstance(self._behind, optuna.storages.RDBStorage):
            trial = self._behind._create_new_trial(study_id, template_trial)
        else:
            trial = self._behind.get_trial(self._behind.create_new_trial(study_id, template_trial))
        if trial.number != len(self._trials):
            self.refresh()  # another program has added trials, or deleted some
        self._put(trial)
        if trial.state == TrialState.RUNNING:
            self._own.add(trial._trial_id)
        return trial._trial_id

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """A copy, because Optuna's trials change the object they get."""
        trial = copy.copy(self._trials[self._number_of[trial_id]])
        for part in ("_params", "_distributions", "_user_attrs", "_system_attrs", "intermediate_values"):
            setattr(trial, part, dict(getattr(trial, part)))
        return trial

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = list(self._trials.values()) if states is None else self._in(states)
        return copy.deepcopy(trials) if deepcopy else trials

    def _in(self, states: Container[TrialState]) -> list[FrozenTrial]:
        key = tuple(state for state in TrialState if state in states)
        if key not in self._selections:
            self._selections[key] = [trial for trial in self._trials.values() if trial.state in key]
        return list(self._selections[key])

    def get_n_trials(self, study_id: int, state: tuple[TrialState, ...] | TrialState | None = None) -> int:
        wanted = (state,) if isinstance(state, TrialState) else state
        return len(self._trials if wanted is None else self._in(wanted))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._directions

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._storage.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._behind.get_study_name_from_id(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        if self._user_attrs is None:
            self._user_attrs = self._storage.get_study_user_attrs(study_id)
        return dict(self._user_attrs)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        if self._system_attrs is None:
            self._system_attrs = self._storage.get_study_system_attrs(study_id)
        return dict(self._system_attrs)

    def get_all_studies(self) -> list[FrozenStudy]:
        return self._storage.get_all_studies()

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._user_attrs = None
        self._storage.set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._system_attrs = None
        self._storage.set_study_system_attr(study_id, key, value)

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        raise NotImplementedError("a ledger holds one study")

    def delete_study(self, study_id: int) -> None:
        raise NotImplementedError("a ledger holds one study")
