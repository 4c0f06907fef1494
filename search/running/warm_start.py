"""A warm start: the best trials of another study are tried first, where the new study's space allows them."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial

from data_utils.splits import Split
from data_utils.wording import counted
from search.definition.definition import StudyDefinition
from search.definition.objectives import primary_index
from search.definition.space import is_active
from search.errors import DefinitionError
from search.events import Listener, Notice
from search.running.proposal import fixed_params, key_of, why_rejected
from search.study.identity import require_usable
from search.study.openings import openings
from search.study.study import study_data, study_objectives
from search.study.trials import complete_trials, pareto_front, trial_settings

_ATTRIBUTE = "warm_start"


def require_source(source: optuna.Study, split: Split) -> None:
    """Checks that a study can be the source of a warm start.

    Raises:
        DefinitionError: `source` has no complete trial, or has used or opened signers or clips that are sealed here.
    """
    require_usable(source)
    seen = sorted(_seen_by(source, split) & set(split.test))
    if seen and (opened := _opened_again(source, split)):
        raise DefinitionError(
            f"the study `{source.study_name}` has opened what is sealed here",
            got=f"{opened}, opened by `islr-search test`: its trials may have been chosen with the result",
            hint="start without --from; or `--set data.test=none` seals nothing",
        )
    if seen:
        what = "signers that are sealed here"
        same = "give this study the same test signers, with `--set data.test=[...]`"
        if split.clips is not None:
            what = "signers of whom clips are sealed here"
            same = "`--set data.test=none` seals none; with the same data, `--seed` and `data.train` both seal the same clips"
        raise DefinitionError(
            f"the study `{source.study_name}` chose its best trials with {what}",
            got=", ".join(seen),
            hint=same,
        )
    if not _ranked(source):
        raise DefinitionError(f"no trial of `{source.study_name}` is complete", hint="name another study with --from")


def warm_start(study: optuna.Study, source: optuna.Study, definition: StudyDefinition, *, best: int, emit: Listener) -> None:
    """Enqueues the settings of the best trials of `source`, once, and emits which.

    Each dimension takes the value that the trial was trained with, whether it was searched or fixed there.
    """
    if study.user_attrs.get(_ATTRIBUTE):
        return
    split = study_data(study).split
    trials = study.get_trials(deepcopy=False)
    known = {key_of(fixed_params(trial, definition)) for trial in trials}
    numbers: list[int] = []
    for trial in _ranked(source):
        if len(numbers) == best:
            break
        params = translated_params(trial, definition)
        reason = why_rejected(params, definition)
        if reason:
            emit(Notice(f"trial {trial.number} of {source.study_name} is not tried here: {reason}"))
        elif key_of(params) not in known:
            known.add(key_of(params))
            numbers.append(trial.number)
            study.enqueue_trial(params, user_attrs={"from": f"{source.study_name} trial {trial.number}"})
    study.set_user_attr(_ATTRIBUTE, {"study": source.study_name, "trials": numbers, "seen": sorted(_seen_by(source, split))})
    tried = f"trial {', '.join(map(str, numbers))}" if numbers else "none"
    emit(Notice(f"tried first, from the best of {source.study_name}: {tried}"))


def _seen_by(study: optuna.Study, split: Split) -> set[str]:
    """Signers that a study trained or validated on, opened test signers, and those that its own source used.

    Those whose clips it divided as `split` does are left out: it has not seen the clips that are sealed there.
    """
    own, earlier = study_data(study).split, study.user_attrs.get(_ATTRIBUTE, {}).get("seen", [])
    if own.clips is not None and split.clips is not None and own.clips.sealed == split.clips.sealed and not openings(study):
        return set(earlier)
    return {*own.train, *own.validation, *(own.test if openings(study) else ()), *earlier}


def _opened_again(source: optuna.Study, split: Split) -> str:
    """The test part of the source if it was opened, and a study with `split` seals the same; else empty."""
    own = study_data(source).split
    if not openings(source):
        return ""
    if own.clips is not None and split.clips is not None:
        same = own.clips.sealed == split.clips.sealed
        return f"{counted(own.clips.num_test, 'clip')} of {', '.join(own.test)}" if same else ""
    return ", ".join(own.test) if own.kind == split.kind and set(own.test) == set(split.test) else ""


def translated_params(trial: FrozenTrial, definition: StudyDefinition) -> dict[str, object]:
    """The settings that a trial was trained with, as parameters of another space. Values may lie outside it."""
    settings = trial_settings(trial)
    values: dict[str, object] = {}
    params = {}
    for dim in definition.space:
        if is_active(dim, values):
            value = dim.rounded(settings[dim.setting.group][dim.setting.field])
            params[dim.name] = values[dim.setting.key] = value
    return params


def _ranked(source: optuna.Study) -> list[FrozenTrial]:
    """Complete trials, best first; with several objectives the Pareto front first."""
    trials, primary = source.get_trials(deepcopy=False), primary_index(study_objectives(source))
    front = pareto_front(trials, primary)
    rest = sorted((t for t in complete_trials(trials) if t not in front), key=lambda t: (t.values[primary], t.number))
    return [*front, *rest]
