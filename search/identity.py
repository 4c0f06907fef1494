"""What makes a study the question it is. A study is only ever continued with the same question.

The identity is a flat mapping of text, stored with the study, so that a difference can be told in words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from data_utils.splits import Split
from search.definition import StudyDefinition
from search.errors import DefinitionError
from search.settings import settings

if TYPE_CHECKING:
    import optuna

_ATTRIBUTE = "identity"


def identity(definition: StudyDefinition, split: Split, fingerprint: str) -> dict[str, str]:
    """Objective, space, baseline, every fixed setting (defaults too), data, split and seed."""
    searched = {dim.setting.key: dim for dim in definition.space}
    lines = {"objective": f"{definition.objective.direction} {definition.objective.metric}", "seed": str(definition.seed)}
    for key, setting in settings().items():
        if key in searched:
            lines[f"space: {searched[key].name}"] = searched[key].domain.text()
            lines[f"baseline: {searched[key].name}"] = str(definition.baseline[searched[key].name])
        else:
            lines[f"fixed: {key}"] = str(definition.fixed.get(key, setting.default))
    for part, signers in split.parts().items():
        lines[f"data: {part} signers"] = " ".join(signers) or "none"
    lines["data: fingerprint"] = fingerprint
    return lines


def store_identity(study: optuna.Study, lines: Mapping[str, str]) -> None:
    """Keeps the identity with a new study."""
    study.set_user_attr(_ATTRIBUTE, json.dumps(lines, ensure_ascii=False))


def is_described(study: optuna.Study) -> bool:
    """Whether the study says what question it asks."""
    return _ATTRIBUTE in study.user_attrs


def require_ours(study: optuna.Study) -> None:
    """Refuses a study that another program has made.

    Raises:
        DefinitionError: see above.
    """
    if not is_described(study):
        raise DefinitionError(
            f"the study `{study.study_name}` was not made by this tool", hint="start a study of your own with `--as NAME`"
        )


def require_same(study: optuna.Study, lines: Mapping[str, str]) -> None:
    """Refuses to go on with another question.

    Raises:
        DefinitionError: it differs; every difference is listed.
    """
    require_ours(study)
    stored = json.loads(study.user_attrs[_ATTRIBUTE])
    changed = [
        f"{key}: {stored.get(key, 'not there')} -> {lines.get(key, 'not there')}"
        for key in sorted(stored.keys() | lines.keys())
        if stored.get(key) != lines.get(key)
    ]
    if changed:
        raise DefinitionError(
            f"the study `{study.study_name}` was started with another question",
            got="\n     ".join(changed),
            expected="the same objective, space, settings, data, split and seed",
            hint="run with the old settings, or start a new study with `--as NAME`",
        )
