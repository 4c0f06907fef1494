"""The identity of a study: all settings that must stay the same whenever it is continued.

It is a flat mapping of text, stored with the study, so that every difference can be listed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from data_utils.splits import ClipSplit, Split
from search.definition.definition import StudyDefinition
from search.definition.ranges import Choices, Range
from search.definition.samplers import SAMPLERS
from search.definition.settings import LEGACY_DEFAULTS, settings
from search.definition.space import is_same
from search.definition.strategy import strategy_name
from search.errors import DefinitionError
from search.wording import utc_now

if TYPE_CHECKING:
    import optuna


COPIED = "copied"
"""The study attribute that says where a study was copied from, and whether the copy is complete."""

IDENTITY = "identity"
"""The study attribute that holds the identity. It is written last: a study that has it has everything else."""

_WIDENED = "widened"
_SPACE = "space: "
_ABSENT = "not there"
_FINGERPRINT = "data: fingerprint"
_SPLIT = "data: split"
"""Only in the identity of a split by clip: that of a split by signer is as in earlier versions."""


def identity(definition: StudyDefinition, split: Split, fingerprint: str) -> dict[str, str]:
    """Objectives, repeats, space, baseline, every fixed setting (defaults too), data, split and seed."""
    searched = {dim.setting.key: dim for dim in definition.space}
    objectives = ", ".join(objective.name for objective in definition.objectives)
    lines = {"objective": f"minimize {objectives}", "repeats": str(definition.repeats), "seed": str(definition.seed)}
    if definition.plan.one_by_one:
        lines["pruner"] = "by training"  # trials report once per training, not once per epoch
    for key, setting in settings().items():
        if key in searched:
            dim = searched[key]
            lines[f"{_SPACE}{dim.name}"] = dim.domain.text()
            if dim.when:
                lines[f"condition: {dim.name}"] = dim.condition_text
            lines[f"baseline: {dim.name}"] = str(definition.baseline.get(dim.name, "does not apply"))
        else:
            lines[f"fixed: {key}"] = str(definition.fixed.get(key, setting.default))
    if split.clips is None:
        lines |= {f"data: {part} signers": " ".join(signers) or "none" for part, signers in split.parts().items()}
        lines |= {f"data: fold {number}": " ".join(fold) for number, fold in enumerate(split.folds, 1)}
    else:
        lines |= _lines_of_clips(split.clips)
    lines[_FINGERPRINT] = fingerprint
    return lines


def _lines_of_clips(clips: ClipSplit) -> dict[str, str]:
    """A split by clip. The digest stands for all its clips."""
    return {
        _SPLIT: "clips",
        "data: signers": " ".join(clips.signers),
        "data: folds": str(clips.folds or "none"),
        "data: test clips": f"{clips.num_test:,}, digest {clips.sealed[:12]}" if clips.test else "none",
        "data: clips": f"digest {clips.digest[:12]}",
    }


def store_identity(study: optuna.Study, lines: Mapping[str, str]) -> None:
    """Stores the identity with the study."""
    study.set_user_attr(IDENTITY, json.dumps(lines, ensure_ascii=False))


def is_ours(study: optuna.Study) -> bool:
    """Whether this tool created the study: it has an identity, or is an incomplete copy."""
    return IDENTITY in study.user_attrs or not is_complete(study)


def is_complete(study: optuna.Study) -> bool:
    """Whether the study is not an incomplete copy, that is, one that is being made or was interrupted."""
    return COPIED not in study.user_attrs or bool(study.user_attrs[COPIED].get("whole"))


def require_complete(study: optuna.Study) -> None:
    """Refuses an incomplete copy.

    Raises:
        DefinitionError: see above.
    """
    if not is_complete(study):
        name, copied = study.study_name, study.user_attrs[COPIED]
        raise DefinitionError(
            f"the study `{name}` is an incomplete copy: the copying is still running, or was interrupted",
            got=f"copied from {copied.get('from')} since {copied.get('time')}",
            hint=f"copy it again with `islr-search copy {name} --storage FROM --to HERE`",
        )


def require_usable(study: optuna.Study) -> None:
    """Refuses a study that another program created, and an incomplete copy.

    Raises:
        DefinitionError: see above.
    """
    require_complete(study)
    if not is_ours(study):
        raise DefinitionError(
            f"the study `{study.study_name}` was not created by this tool", hint="start a study of your own with `--as NAME`"
        )


def require_same(study: optuna.Study, lines: Mapping[str, str]) -> None:
    """Refuses to continue a study with a different identity.

    Raises:
        DefinitionError: it differs; every difference is listed.
    """
    require_usable(study)
    changed = _changes(study, lines)
    if changed:
        _refuse(study, changed)


def accept_wider_ranges(study: optuna.Study, lines: Mapping[str, str], definition: StudyDefinition) -> list[str]:
    """Stores the new identity if it differs only by ranges that contain the old ones. Returns what became wider, in words.

    Raises:
        DefinitionError: anything else differs, or the sampler cannot continue with a wider range.
    """
    require_usable(study)
    changed = _changes(study, lines)
    domains = {f"{_SPACE}{dim.name}": dim.domain for dim in definition.space}
    wider = {key: texts for key, texts in changed.items() if _is_wider(domains.get(key), texts[0])}
    if len(wider) < len(changed):
        _refuse(study, {key: texts for key, texts in changed.items() if key not in wider})
    if not wider:
        return []
    if not definition.sampler.supports_wider_ranges:
        raise DefinitionError(
            f"the sampler `{strategy_name(definition.sampler)}` cannot continue with a wider range: it ignores earlier trials",
            expected=f"one of {', '.join(name for name, kind in SAMPLERS.items() if kind.supports_wider_ranges)}",
            hint="start a new study with `--as NAME --from` this one",
        )
    record = {"time": utc_now(), "trials": len(study.get_trials(deepcopy=False)), "ranges": wider}
    study.set_user_attr(_WIDENED, [*study.user_attrs.get(_WIDENED, []), record])
    store_identity(study, lines)
    return [_change_text(key, texts) for key, texts in wider.items()]


def _changes(study: optuna.Study, lines: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The old and the new text of every key where they differ."""
    stored = json.loads(study.user_attrs[IDENTITY])
    missing = {_SPLIT: "signers"}
    both = {
        key: (stored.get(key, _old_text(key)), lines.get(key, missing.get(key, _ABSENT)))
        for key in sorted(stored.keys() | lines.keys())
    }
    if len(set(both.get(_SPLIT, ()))) > 1:  # all other lines of the split differ too, and mean nothing beside each other
        both = {key: texts for key, texts in both.items() if key in (_SPLIT, _FINGERPRINT) or not key.startswith("data: ")}
    return {key: (old, new) for key, (old, new) in both.items() if old != new and not is_rounding(key, old, new)}


def is_rounding(key: str, old: str, new: str) -> bool:
    """Whether a baseline only changed by a rounding error: earlier versions kept 0.30000000000000004 on steps of a tenth."""
    try:
        return key.startswith("baseline: ") and is_same(float(old), float(new))
    except ValueError:  # not numbers
        return False


def _old_text(key: str) -> str:
    """The text of a key that a study of an earlier version lacks: what the setting was before it could be chosen."""
    name = key.removeprefix("fixed: ")
    if key in (earlier := {"repeats": "1", _SPLIT: "signers"}):
        return earlier[key]
    return str(LEGACY_DEFAULTS.get(name, settings()[name].default)) if name in settings() else _ABSENT


def _is_wider(domain: Range | Choices | None, old: str) -> bool:
    before = Range.from_text(old)
    return before is not None and isinstance(domain, Range) and domain.contains_range(before)


def _change_text(key: str, texts: tuple[str, str]) -> str:
    if key == _SPLIT:
        old, new = (text.removesuffix("s") for text in texts)
        return f"the split was by {old} and is now by {new}"
    return f"{key}: {texts[0]} -> {texts[1]}"


def _refuse(study: optuna.Study, changed: Mapping[str, tuple[str, str]]) -> NoReturn:
    only_ranges = all(key.startswith(_SPACE) and _ABSENT not in texts for key, texts in changed.items())
    raise DefinitionError(
        f"the study `{study.study_name}` already exists with different settings",
        got="\n     ".join(_change_text(key, texts) for key, texts in changed.items()),
        expected="the same objective, space, settings, data, split and seed",
        hint="run with the old settings, or start a new study with `--as NAME`"
        + ("; `--allow-wider` accepts a range that contains the old one" if only_ranges else ""),
    )
