"""The best configuration as a file that trains again anywhere."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.definition import dump_yaml, parse_yaml
from search.errors import DefinitionError
from search.settings import Configs, build, build_configs, require_mapping
from search.study import MEASURED, STATE_NAMES, baseline_summary, study_data, trial_result, trial_settings

EXPORT_SCHEMA = 1
_EXPORT_HINT = "`python -m search export --output FILE` writes one"


@dataclass(frozen=True, kw_only=True)
class ExportedData:
    """The data of an exported configuration."""

    folder: str
    """Where it lay; `retrain --data` names another place."""

    fingerprint: str
    words: list[str]
    train: list[str]
    validation: list[str]
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
    model: dict[str, Any]
    train: dict[str, Any]
    preprocess: dict[str, Any]
    data: dict[str, Any]
    made_with: dict[str, Any]


def export_text(study: optuna.Study, trial: FrozenTrial) -> str:
    """A trial's configuration as YAML: settings used, seed, data fingerprint, split, versions, and what it gave.

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
    content = {
        "schema": EXPORT_SCHEMA,
        "study": study.study_name,
        "about": study.user_attrs["about"],
        "trial": trial.number,
        "exported": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seed": trial.user_attrs["seed"],
        "recorded": {name: result[name] for name in MEASURED},
        "baseline": {} if baseline is None else {"val_loss": baseline.value, "val_top1": baseline.val_top1},
        **trial_settings(trial),
        "data": {
            "folder": data.folder,
            "fingerprint": data.fingerprint,
            "words": list(data.words),
            **{part: list(signers) for part, signers in data.split.parts().items()},
        },
        "made_with": json.loads(trial.user_attrs["made_with"]),
    }
    return (
        f"# The configuration of trial {trial.number} of the study {study.study_name}. "
        f"Train it again: python -m search retrain FILE\n{dump_yaml(content)}"
    )


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
        raise DefinitionError(
            "the exported configuration cannot be read", where=where, got=reason, hint=_EXPORT_HINT
        ) from error
    raw = parse_yaml(text, where)
    exported = build(Exported, raw, "the exported configuration", where)
    if exported.schema != EXPORT_SCHEMA:
        raise DefinitionError("the file has another schema", where=where, got=str(exported.schema), expected=str(EXPORT_SCHEMA))
    build(ExportedData, exported.data, "data", where)
    groups = {"model": exported.model, "train": exported.train, "preprocess": exported.preprocess}
    values: dict[str, Any] = {}
    for group, fields in groups.items():
        require_mapping(fields, group, where)
        values |= {f"{group}.{name}": value for name, value in fields.items()}
    if "val_loss" not in exported.recorded:
        raise DefinitionError("the file records no val_loss to compare with", where=where, hint=_EXPORT_HINT)
    return exported, build_configs(values, where)
