"""The best configuration as a file that trains again anywhere."""

from __future__ import annotations

import dataclasses
import datetime
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import optuna
from annotated_types import Gt
from optuna.trial import FrozenTrial, TrialState

from model.objective import Objective
from search import BASELINE_TRIAL
from search.definition.definition import Plan
from search.definition.objectives import StudyObjective, primary_index
from search.definition.settings import GROUPS, LEGACY_DEFAULTS, Configs, build, build_configs, require_mapping
from search.definition.yaml_text import dump_yaml, parse_yaml
from search.errors import DefinitionError, NegativeAnswer
from search.running.summary import baseline_summary
from search.study.confirmed import stored_confirmed
from search.study.openings import openings
from search.study.study import require_best, study_data, study_objectives, study_plan
from search.study.trials import STATE_NAMES, front_of, num_finished, trial_result, trial_settings
from search.trial.result import MEASURED

EXPORT_SCHEMA = 2
_READ = (1, EXPORT_SCHEMA)
"""Schemas that are read. Files of schema 1 lack newer settings."""

EXPORT_HINT = "`python -m search export --output FILE` writes one"


@dataclass(frozen=True, kw_only=True)
class ExportedData:
    """The data of an exported configuration."""

    folder: str
    """Where it lay; `retrain --data` names another place."""

    fingerprint: str
    words: list[str]
    train: list[str]
    validation: list[str]
    folds: list[list[str]] = field(default_factory=list)
    """Groups of training signers that validate in turn; none: the validation part does."""

    test: list[str]
    """Sealed: never read by search or retrain."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported configuration."""

    schema: int
    study: str
    about: str
    trial: int
    exported: str
    seed: int
    recorded: dict[str, int | float]
    baseline: dict[str, int | float] = field(default_factory=dict)
    front: list[dict[str, int | float]] = field(default_factory=list)
    """With several objectives: all trials that no other beats in everything, with their values."""

    confirmed: dict[str, Any] = field(default_factory=dict)
    """What fresh seeds gave; empty if the trial was not confirmed."""

    sealed: dict[str, Any] = field(default_factory=dict)
    """What the sealed signers gave; empty if they were not asked."""

    objective: dict[str, str] = field(default_factory=dict)
    """Which number is compared, and how a curve becomes one."""

    repeats: Annotated[int, Gt(0)] = 1
    """Trainings of each fold, with seeds of their own."""

    model: dict[str, Any]
    train: dict[str, Any]
    preprocess: dict[str, Any]
    augment: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any]
    made_with: dict[str, Any]


def choose(study: optuna.Study, named: FrozenTrial | None, *, searched: bool) -> tuple[FrozenTrial, str]:
    """The trial to export, and why it is that one, in words: the one that is named, what a confirmation recommends, the best.

    Raises:
        NegativeAnswer: no trial has trained to its end.
    """
    if named is not None:
        return named, f"this is trial {named.number}, as asked for"
    best, confirmed = require_best(study), stored_confirmed(study)
    if searched:
        return best, f"this is trial {best.number}, the best of the search: its number is partly luck"
    if confirmed is None or confirmed.found.recommended is None:
        hint = f"`python -m search confirm {study.study_name}` tells how much of its number is luck"
        return best, f"this is trial {best.number}, the best of the search, not confirmed: {hint}"
    trials = study.get_trials(deepcopy=False)
    found = trials[confirmed.found.recommended]
    if found.state != TrialState.COMPLETE:
        raise NegativeAnswer(
            f"the confirmation recommends the baseline, which failed in the search of `{study.study_name}`",
            got=str(found.user_attrs.get("reason", "no reason was recorded")),
            hint="there is no recorded number that it could train back to; `--searched` writes the best of the search",
        )
    text = (
        f"this is trial {found.number}{' (the baseline)' if found.number == BASELINE_TRIAL else ''}, confirmed with fresh seeds"
    )
    since = num_finished(trials) - confirmed.trials
    if since:
        more = "1 trial was" if since == 1 else f"{since} trials were"
        text += f"; {more} finished since, which `python -m search confirm {study.study_name}` would weigh too"
    return found, text


def exported_of(study: optuna.Study, trial: FrozenTrial) -> Exported:
    """A trial's configuration: settings used, seed, data fingerprint, split, versions, and what it gave.

    Raises:
        DefinitionError: the trial has not trained to its end, so that nothing could be compared.
    """
    if trial.state != TrialState.COMPLETE:
        raise DefinitionError(
            f"trial {trial.number} has not trained to its end",
            where=f"study {study.study_name}",
            got=STATE_NAMES[trial.state],
            expected="a complete trial",
            hint=f"`python -m search trials {study.study_name}` lists them",
        )
    data = study_data(study)
    baseline = baseline_summary(study.get_trials(deepcopy=False))
    result = trial_result(trial)
    plan = study_plan(study)
    objectives = study_objectives(study)
    front = front_of(study.get_trials(deepcopy=False), primary_index(objectives)) if len(objectives) > 1 else []
    return Exported(
        schema=EXPORT_SCHEMA,
        study=study.study_name,
        about=study.user_attrs["about"],
        trial=trial.number,
        exported=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seed=trial.user_attrs["seed"],
        recorded={**{name: result[name] for name in MEASURED if name in result}, **_compared(plan, result)},
        baseline={} if baseline is None else {**baseline.values, "val_top1": baseline.val_top1},
        front=[{"trial": t.number, **trial_result(t)["values"]} for t in front],
        confirmed=_confirmed(study, trial),
        sealed=_sealed(study, trial),
        objective=dataclasses.asdict(plan.objective),
        repeats=plan.repeats,
        **trial_settings(trial),
        data={
            "folder": data.folder,
            "fingerprint": data.fingerprint,
            "words": list(data.words),
            **{part: list(signers) for part, signers in data.split.parts().items()},
            "folds": [list(fold) for fold in data.split.folds],
        },
        made_with=json.loads(trial.user_attrs["made_with"]),
    )


def export_text(exported: Exported) -> str:
    """An exported configuration as YAML, which `read_export` reads."""
    content = {name: value for name, value in dataclasses.asdict(exported).items() if name != "front" or value}
    return (
        f"# The configuration of trial {exported.trial} of the study {exported.study}. "
        f"Train it again: python -m search retrain FILE\n{dump_yaml(content)}"
    )


def _confirmed(study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
    """What a confirmation says of the trial; empty if it has not trained it again."""
    confirmed = stored_confirmed(study)
    row = None if confirmed is None else next((r for r in confirmed.found.rows if r.trial == trial.number), None)
    if confirmed is None or row is None:
        return {}
    is_chosen = confirmed.found.recommended == trial.number
    ends = confirmed.found if is_chosen else row  # wider where it was picked from several
    numbers = {
        "mean": row.mean,
        "sd": row.sd,
        "low": ends.low,
        "high": ends.high,
        "change": row.change,
        "change_low": ends.change_low,
        "change_high": ends.change_high,
        "better_than_baseline": row.better,
    }
    about = {"objective": confirmed.objective, "seeds": len(row.values) - row.values.count(None)}
    recommended = {"recommended": is_chosen, "time": confirmed.time}
    numbers["dropped_after"] = row.dropped_after
    return {**about, **{name: value for name, value in numbers.items() if value is not None}, **recommended}


def _sealed(study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
    """What the sealed signers said of the trial, the last time that they were asked; empty if never."""
    for look in reversed(openings(study)):
        for score in look.scores:
            if score.trial == trial.number:
                numbers = {"top1": score.top1, "top1_sd": score.top1_sd, "loss": score.loss, "temperature": score.temperature}
                return {**numbers, "seeds": score.seeds, "clips": look.clips, "opened": look.count, "time": look.time}
    return {}


def read_export(path: Path) -> tuple[Exported, Configs]:
    """An exported configuration, checked like a study.

    Raises:
        DefinitionError: the file is not one, or was changed into something that cannot be trained.
    """
    where = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DefinitionError("the exported configuration cannot be read", where=where, got=reason, hint=EXPORT_HINT) from error
    raw = parse_yaml(text, where)
    exported = build(Exported, raw, "the exported configuration", where)
    if exported.schema not in _READ:
        raise DefinitionError("the file has another schema", where=where, got=str(exported.schema), expected=str(EXPORT_SCHEMA))
    name = compared_name(build(Objective, exported.objective, "objective", where))
    build(ExportedData, exported.data, "data", where)
    groups = {name: getattr(exported, name) for name in GROUPS}
    values: dict[str, Any] = dict(LEGACY_DEFAULTS) if exported.schema == 1 else {}
    for group, fields in groups.items():
        require_mapping(fields, group, where)
        values |= {f"{group}.{name}": value for name, value in fields.items()}
    if name not in exported.recorded:
        raise DefinitionError(f"the file records no {name} to compare with", where=where, hint=EXPORT_HINT)
    return exported, build_configs(values, where)


def compared_name(objective: Objective) -> str:
    """What the number is called that training again is to give."""
    return StudyObjective(metric=objective.metric, reduce=objective.reduce).name


def _compared(plan: Plan, result: dict[str, Any]) -> dict[str, float]:
    value = result.get("all_values", {}).get(f"{plan.objective.metric}_{plan.objective.reduce}", result["val_loss"])
    return {compared_name(plan.objective): value}
