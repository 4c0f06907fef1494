"""A warm start: the best trials of another study are tried first, where they are legal in the new one."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial

from data_utils.splits import Split
from search.definition.definition import StudyDefinition
from search.definition.objectives import primary_index
from search.definition.space import is_active
from search.errors import DefinitionError
from search.events import Listener, Notice
from search.running.proposal import given_to, key_of, why_not
from search.study.identity import require_ours
from search.study.openings import openings
from search.study.study import study_data, study_objectives
from search.study.trials import complete_trials, front_of, trial_settings

_ATTRIBUTE = "warm_start"


def require_source(source: optuna.Study, split: Split) -> None:
    """Refuses a study to start from that has nothing to give, or that knows too much.

    Raises:
        DefinitionError: `source` has no complete trial, or has looked at signers that are sealed here.
    """
    require_ours(source)
    seen = sorted(_seen_by(source) & set(split.test))
    if seen:
        raise DefinitionError(
            f"the study `{source.study_name}` has chosen its best with signers that are sealed here",
            got=", ".join(seen),
            hint="give this study the same test signers, with `--set data.test=[...]`",
        )
    if not _ranked(source):
        raise DefinitionError(
            f"no trial of `{source.study_name}` has trained to its end", hint="name another study with --from"
        )


def warm_start(study: optuna.Study, source: optuna.Study, definition: StudyDefinition, *, best: int, emit: Listener) -> None:
    """Enqueues the settings of the best trials of `source`, once. Says what came of it.

    A dimension takes the value that the trial was trained with, whether it was searched there or fixed.
    """
    if study.user_attrs.get(_ATTRIBUTE):
        return
    trials = study.get_trials(deepcopy=False)
    running = {key_of(given_to(trial, definition)) for trial in trials}
    numbers: list[int] = []
    for trial in _ranked(source):
        if len(numbers) == best:
            break
        params = translated(trial, definition)
        reason = why_not(params, definition)
        if reason:
            emit(Notice(f"trial {trial.number} of {source.study_name} is not tried here: {reason}"))
        elif key_of(params) not in running:
            running.add(key_of(params))
            numbers.append(trial.number)
            study.enqueue_trial(params, user_attrs={"from": f"{source.study_name} trial {trial.number}"})
    about = {"study": source.study_name, "trials": numbers, "seen": sorted(_seen_by(source))}
    study.set_user_attr(_ATTRIBUTE, about)
    tried = f"trial {', '.join(map(str, numbers))}" if numbers else "none"
    emit(Notice(f"from the best of {source.study_name} are tried first: {tried}"))


def _seen_by(study: optuna.Study) -> set[str]:
    """The signers that a study has trained or validated on, the sealed ones if they were opened, and those that the study it
    started from has seen."""
    split = study_data(study).split
    opened = split.test if openings(study) else ()
    return {*split.train, *split.validation, *opened, *study.user_attrs.get(_ATTRIBUTE, {}).get("seen", [])}


def translated(trial: FrozenTrial, definition: StudyDefinition) -> dict[str, object]:
    """The settings that a trial was trained with, as parameters of another space. Some may lie outside it."""
    settings = trial_settings(trial)
    values: dict[str, object] = {}
    params = {}
    for dim in definition.space:
        if is_active(dim, values):
            value = settings[dim.setting.group][dim.setting.field]
            params[dim.name] = values[dim.setting.key] = value
    return params


def _ranked(source: optuna.Study) -> list[FrozenTrial]:
    """Complete trials, the best first; with several objectives the front before the rest."""
    trials, primary = source.get_trials(deepcopy=False), primary_index(study_objectives(source))
    front = front_of(trials, primary)
    rest = sorted((t for t in complete_trials(trials) if t not in front), key=lambda t: (t.values[primary], t.number))
    return [*front, *rest]
