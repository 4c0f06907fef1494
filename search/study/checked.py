"""A study as this tool reads it, whatever other programs have done to it.

Any program can delete, rename and change what this tool has stored. A `CheckedStudy` is a study whose attributes and trials
have the shapes that this tool writes (`shapes.py`). What is not needed is left out with a notice; an attribute that the study
cannot be used without, and a study that is gone, are errors.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from data_utils.wording import counted
from search.definition.trial_attributes import PREFIX, attribute
from search.errors import DefinitionError, ResourceError
from search.study.presence import UNREADABLE_HINT, expecting, reading
from search.study.shapes import OF_STUDY, OF_TRIAL, OPTIONAL_OF_STUDY, why_unreadable

Notify = Callable[[str], None]

_MAX_NOTICES = 5
"""Notices about trials that are read at the same time; the others are counted."""

_REQUIRED = ("data", "seed")
"""Attributes of every study that has an identity."""


class CheckedStudy(optuna.Study):
    """A study that is read with checks."""

    def __init__(
        self, name: str, storage: optuna.storages.BaseStorage, notify: Notify, required_params: Collection[str] = ()
    ) -> None:
        """`notify` gets a line about everything that is left out, once. With required parameters,
        the study is that of a confirmation, where a trial counts as evidence: one that this tool has not trained is left out.
        """
        super().__init__(study_name=name, storage=storage)
        self.notify = notify
        self._required_params = required_params
        self._noted: set[str] = set()
        self._seen: dict[int, tuple[FrozenTrial, FrozenTrial | None]] = {}
        """Trials as they are stored and as they are shown (None: not at all), by id."""

        self._last_read: dict[tuple[TrialState, ...] | None, tuple[list[FrozenTrial], list[FrozenTrial]]] = {}
        """Trials as they are stored and as they are shown, when they were last asked for, by their states."""

        self._kinds: dict[str, BaseDistribution] = {}
        """The distribution of each parameter in the first trial of this tool that has it."""

    @property
    def user_attrs(self) -> dict[str, Any]:
        """The attributes, without optional ones that cannot be read.

        Raises:
            DefinitionError: another attribute of this tool cannot be read, or is missing.
            ResourceError: the study is gone.
        """
        with self._reading():
            stored = dict(self._storage.get_study_user_attrs(self._study_id))
        for key, check in OF_STUDY.items():
            if key in stored and (why := why_unreadable(check, stored[key])):
                raise self._unreadable(key, why)
        if "identity" in stored:
            self._require_whole(stored)
        for key, check in OPTIONAL_OF_STUDY.items():
            if key in stored and (why := why_unreadable(check, stored[key])):
                del stored[key]
                self._note(
                    f"the attribute `{key}` of the study `{self.study_name}` is left out, another program wrote it: {why}"
                )
        return copy.deepcopy(stored)

    def _require_whole(self, stored: Mapping[str, Any]) -> None:
        """Refuses a search of this tool that lacks something."""
        for key in _REQUIRED:
            if key not in stored:
                raise self._unreadable(key, "it is missing")
        if self.directions != [StudyDirection.MINIMIZE] * len(stored.get("goals", [{}])):
            raise self._unreadable("goals", f"the study's directions are {[one.name.lower() for one in self.directions]}")

    def set_user_attr(self, key: str, value: Any) -> None:
        """Same as Optuna's.

        Raises:
            ResourceError: the study is gone.
        """
        with self._expecting():
            super().set_user_attr(key, value)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        """Optuna's only way to read trials."""
        wanted = None if states is None else tuple(state for state in TrialState if state in states)
        from_states = (*wanted, TrialState.COMPLETE) if wanted and TrialState.FAIL in wanted else wanted
        with self._reading():
            stored = super()._get_trials(deepcopy=False, states=from_states, use_cache=use_cache)
        known, shown = self._last_read.get(wanted, ([], []))
        if stored != known:  # compares the addresses of trials first
            missing = missing_numbers(stored) if wanted is None else []
            shown = [trial for trial in self._shown(stored, missing) if wanted is None or trial.state in wanted]
            self._last_read[wanted] = stored, shown
        return copy.deepcopy(shown) if deepcopy else list(shown)

    def trial(self, number: int) -> FrozenTrial | None:
        """One trial with its curve; None if there is none of this number. Others are read only if one was deleted."""
        with self._expecting():
            count = self._storage.get_n_trials(self._study_id)
            if self._id_of(count) is not None:
                self._get_trials(deepcopy=False)  # says which are missing
            if (trial_id := self._id_of(number)) is None:
                return None
        with self._reading():
            stored = self._storage.get_trial(trial_id)
        return next(iter(self._shown([stored])), None)

    def _id_of(self, number: int) -> int | None:
        try:
            return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        except KeyError:
            return None

    def _shown(self, stored: Sequence[FrozenTrial], missing: Sequence[int] = ()) -> list[FrozenTrial]:
        notices = [f"trial {number} is missing: another program has deleted it" for number in missing]
        if len({trial.number for trial in stored}) < len(stored):
            notices.append("several trials have the same number: another program has deleted one before them")
        shown = []
        for trial in stored:
            known, view = self._seen.get(trial._trial_id, (None, None))
            if known is not trial:
                view, problems = self._view(trial)
                self._seen[trial._trial_id] = trial, view
                notices += [f"trial {trial.number}: {problem}" for problem in problems]
            if view is not None:
                shown.append(view)
        new = [notice for notice in notices if notice not in self._noted]
        self._noted.update(new)
        for notice in new[:_MAX_NOTICES]:
            self.notify(f"study `{self.study_name}`, {notice}")
        if len(new) > _MAX_NOTICES:
            self.notify(f"study `{self.study_name}`: {len(new) - _MAX_NOTICES:,} more trials or attributes like these")
        return shown

    def _view(self, trial: FrozenTrial) -> tuple[FrozenTrial | None, list[str]]:
        """A trial without what cannot be read (None: without it all), and what that is."""
        if self._required_params and not self._is_training(trial):
            return None, ["it is no training of a confirmation, another program added it: it is left out"]
        problems: list[str] = []
        user, system, params = dict(trial.user_attrs), dict(trial.system_attrs), dict(trial.params)
        for key, check in OF_TRIAL.items():
            for attributes, name in ((user, key), (system, PREFIX + key)):
                if name in attributes and (why := why_unreadable(check, attributes[name])):
                    del attributes[name]
                    problems.append(f"its attribute `{name}` is left out, another program wrote it: {why}")
        for name, value in trial.params.items() if trial.state.is_finished() else ():  # others are checked when they are taken
            kind = self._kinds.get(name, trial.distributions[name])
            if not _is_like(value, trial.distributions[name], kind):
                del params[name]
                problems.append(f"its parameter {name} {value!r} is left out: in other trials it is of another kind")
            elif "settings" in user or f"{PREFIX}settings" in system:
                self._kinds.setdefault(name, kind)
        state: TrialState = trial.state
        if state == TrialState.COMPLETE and not self._has_values(trial):
            state, user["reason"] = TrialState.FAIL, f"another program recorded it as complete with {trial.values}"
            user.pop("result", None)
            system.pop(f"{PREFIX}result", None)
            problems.append(f"it counts as failed: {user['reason']}")
        if not problems:
            return trial, []
        view = copy.copy(trial)
        view.state, view._user_attrs, view._system_attrs, view._params = state, user, system, params
        view._distributions = {name: trial.distributions[name] for name in params}
        if state != trial.state:
            view._values = None
        return view, problems

    def _is_training(self, trial: FrozenTrial) -> bool:
        """Whether a trial has what each training of a confirmation has."""
        attributes = ["seed", "settings", *(["result"] if trial.state == TrialState.COMPLETE else [])]
        has_params = all(isinstance(trial.params.get(name), int) for name in self._required_params)
        return has_params and not any(why_unreadable(OF_TRIAL[key], attribute(trial, key)) for key in attributes)

    def _has_values(self, trial: FrozenTrial) -> bool:
        """Whether a complete trial has a finite value for each objective."""
        return len(trial.values or ()) == len(self.directions) and all(map(math.isfinite, trial.values))

    def _unreadable(self, key: str, why: str) -> DefinitionError:
        return DefinitionError(
            f"the attribute `{key}` of the study `{self.study_name}` cannot be read", got=why, hint=UNREADABLE_HINT
        )

    def _note(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self.notify(text)

    def _expecting(self) -> contextlib.AbstractContextManager[None]:
        return expecting(self._storage, self._study_id, self.study_name)

    def _reading(self) -> contextlib.AbstractContextManager[None]:
        return reading(self._storage, self._study_id, self.study_name)


def notify_of(study: optuna.Study) -> Notify:
    """Where notices about a study go."""
    return study.notify if isinstance(study, CheckedStudy) else lambda text: None


def require_numbering(name: str, trials: Sequence[FrozenTrial], known: Collection[int]) -> None:
    """Checks that the trials of a study have the numbers from 0. Optuna numbers a new trial by counting: after one was deleted,
    two trials would get the same number.

    Args:
        known: numbers of trials that there were.

    Raises:
        ResourceError: a trial was deleted, or two have the same number.
    """
    numbers = [trial.number for trial in trials]
    last = max(numbers, default=-1)
    missing = sorted(set(range(max([last, *known], default=-1) + 1)) - set(numbers))
    if not missing and len(set(numbers)) == len(numbers):
        return
    start = f"`--as NAME{'' if '/' in name else f' --from {name}'}`"
    raise ResourceError(
        f"another program has deleted {_listed(missing) if missing else 'trials'} of the study `{name}`",
        got=f"{counted(len(numbers), 'trial')}, the last one has number {last}",
        hint="run the same command again to continue without it"
        if missing and missing[0] > last
        else f"new trials would get the numbers of others: restore the database from a copy, or start a new study with {start}",
    )


def _listed(numbers: Sequence[int]) -> str:
    names = ", ".join(map(str, numbers[:_MAX_NOTICES])) + (", ..." if len(numbers) > _MAX_NOTICES else "")
    return f"trial{'s' if len(numbers) > 1 else ''} {names}"


def missing_numbers(trials: Sequence[FrozenTrial]) -> list[int]:
    """The numbers of trials that were deleted, as far as later trials show it."""
    numbers = {trial.number for trial in trials}
    return [] if len(numbers) == max(numbers, default=-1) + 1 else sorted(set(range(max(numbers))) - numbers)


def _is_like(value: Any, distribution: BaseDistribution, kind: BaseDistribution) -> bool:
    """Whether a parameter of one trial can be compared with that of another."""
    if isinstance(kind, CategoricalDistribution):
        return isinstance(distribution, CategoricalDistribution) and value in kind.choices
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(distribution) is type(kind) and is_number and (value > 0 or not getattr(kind, "log", False))
