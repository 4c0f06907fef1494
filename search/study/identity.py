"""What makes a study the question it is. A study is only ever continued with the same question.

The identity is a flat mapping of text, stored with the study, so that a difference can be told in words.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from data_utils.splits import Split
from search.definition.definition import StudyDefinition
from search.definition.ranges import Choices, Range
from search.definition.samplers import SAMPLERS
from search.definition.settings import LEGACY_DEFAULTS, settings
from search.definition.strategy import strategy_name
from search.errors import DefinitionError

if TYPE_CHECKING:
    import optuna


COPIED = "copied"
"""The attribute by which a study says that it was copied from another storage, and whether the copy is whole."""

IDENTITY = "identity"
"""The attribute that says what question a study asks. It is written last: a study that has it has all the rest."""

_WIDENED = "widened"
_SPACE = "space: "
_ABSENT = "not there"


def identity(definition: StudyDefinition, split: Split, fingerprint: str) -> dict[str, str]:
    """Objectives, repeats, space, baseline, every fixed setting (defaults too), data, split and seed."""
    searched = {dim.setting.key: dim for dim in definition.space}
    wishes = ", ".join(objective.name for objective in definition.objectives)
    lines = {"objective": f"minimize {wishes}", "repeats": str(definition.repeats), "seed": str(definition.seed)}
    if definition.plan.one_by_one:
        lines["pruner"] = "by training"  # it reports otherwise
    for key, setting in settings().items():
        if key in searched:
            dim = searched[key]
            lines[f"{_SPACE}{dim.name}"] = dim.domain.text()
            if dim.when:
                lines[f"condition: {dim.name}"] = dim.condition_text
            lines[f"baseline: {dim.name}"] = str(definition.baseline.get(dim.name, "does not apply"))
        else:
            lines[f"fixed: {key}"] = str(definition.fixed.get(key, setting.default))
    for part, signers in split.parts().items():
        lines[f"data: {part} signers"] = " ".join(signers) or "none"
    lines |= {f"data: fold {number}": " ".join(fold) for number, fold in enumerate(split.folds, 1)}
    lines["data: fingerprint"] = fingerprint
    return lines


def store_identity(study: optuna.Study, lines: Mapping[str, str]) -> None:
    """Keeps the identity with a new study."""
    study.set_user_attr(IDENTITY, json.dumps(lines, ensure_ascii=False))


def is_described(study: optuna.Study) -> bool:
    """Whether the study says what it is: which question it asks, or that it is a copy under way."""
    return IDENTITY in study.user_attrs or not is_whole(study)


def is_whole(study: optuna.Study) -> bool:
    """Whether it is not the beginning of a copy: one that was cut off, or is still under way."""
    return COPIED not in study.user_attrs or bool(study.user_attrs[COPIED].get("whole"))


def require_whole(study: optuna.Study) -> None:
    """Refuses a study that was not copied to its end.

    Raises:
        DefinitionError: see above.
    """
    if not is_whole(study):
        name, copied = study.study_name, study.user_attrs[COPIED]
        raise DefinitionError(
            f"the study `{name}` is not whole: it is being copied here, or its copy was cut off",
            got=f"copied from {copied.get('from')} since {copied.get('time')}",
            hint=f"`python -m search copy {name} --storage FROM --to HERE` makes the copy anew",
        )


def require_ours(study: optuna.Study) -> None:
    """Refuses a study that another program has made, and one that was not copied to its end.

    Raises:
        DefinitionError: see above.
    """
    require_whole(study)
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
    changed = _changes(study, lines)
    if changed:
        _refuse(study, changed)


def widen(study: optuna.Study, lines: Mapping[str, str], definition: StudyDefinition) -> list[str]:
    """Accepts ranges that hold all that they held and more, and keeps a record with the study. Says what became wider.

    Raises:
        DefinitionError: anything else differs.
    """
    require_ours(study)
    changed = _changes(study, lines)
    domains = {f"{_SPACE}{dim.name}": dim.domain for dim in definition.space}
    wider = {key: texts for key, texts in changed.items() if _is_wider(domains.get(key), texts[0])}
    if len(wider) < len(changed):
        _refuse(study, {key: texts for key, texts in changed.items() if key not in wider})
    if not wider:
        return []
    if not definition.sampler.supports_wider_ranges:
        raise DefinitionError(
            f"the sampler `{strategy_name(definition.sampler)}` cannot go on with a wider range: "
            "it would forget what it has learned",
            expected=f"one of {', '.join(name for name, kind in SAMPLERS.items() if kind.supports_wider_ranges)}",
            hint="start a new study with `--as NAME --from` this one",
        )
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    trials = len(study.get_trials(deepcopy=False))
    study.set_user_attr(_WIDENED, [*study.user_attrs.get(_WIDENED, []), {"time": now, "trials": trials, "ranges": wider}])
    store_identity(study, lines)
    return [_told(key, texts) for key, texts in wider.items()]


def _changes(study: optuna.Study, lines: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What was and what is now, by key, where they differ."""
    stored = json.loads(study.user_attrs[IDENTITY])
    both = {key: (stored.get(key, _before(key)), lines.get(key, _ABSENT)) for key in sorted(stored.keys() | lines.keys())}
    return {key: (was, now) for key, (was, now) in both.items() if was != now}


def _before(key: str) -> str:
    """What a line says that a study of an earlier version does not have: new settings stand as they acted then."""
    name = key.removeprefix("fixed: ")
    if key == "repeats":
        return "1"
    return str(LEGACY_DEFAULTS.get(name, settings()[name].default)) if name in settings() else _ABSENT


def _is_wider(domain: Range | Choices | None, was: str) -> bool:
    before = Range.from_text(was)
    return before is not None and isinstance(domain, Range) and domain.contains_range(before)


def _told(key: str, texts: tuple[str, str]) -> str:
    return f"{key}: {texts[0]} -> {texts[1]}"


def _refuse(study: optuna.Study, changed: Mapping[str, tuple[str, str]]) -> NoReturn:
    ranges = all(key.startswith(_SPACE) and _ABSENT not in texts for key, texts in changed.items())
    raise DefinitionError(
        f"the study `{study.study_name}` was started with another question",
        got="\n     ".join(_told(key, texts) for key, texts in changed.items()),
        expected="the same objective, space, settings, data, split and seed",
        hint="run with the old settings, or start a new study with `--as NAME`"
        + ("; `--allow-wider` accepts a range that holds all of the old one" if ranges else ""),
    )
