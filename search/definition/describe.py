"""The resolved study as rows for `run --dry-run`: every key, its value and where that came from."""

from __future__ import annotations

import dataclasses

from data_utils.wording import caution_of
from search.definition.definition import StudyDefinition
from search.definition.settings import settings
from search.definition.strategy import strategy_name

Row = tuple[str, str, str]


def definition_rows(definition: StudyDefinition) -> list[Row]:
    """Rows of key, value, origin."""
    return [*_sections(definition), *_strategies(definition), *_signers(definition), *_settings(definition)]


def _sections(definition: StudyDefinition) -> list[Row]:
    stagnation = definition.stagnation
    sections = {
        "about": definition.about,
        "objective": f"minimize {', '.join(objective.name for objective in definition.objectives)}",
        "trials": str(definition.trials),
        "time": "no limit" if definition.time_s is None else f"{definition.time_s:g} s",
        "stagnation": "no limit" if stagnation is None else f"{stagnation.trials} trials",
        "repeats": str(definition.repeats),
    }
    return [
        ("study", definition.name, definition.source),
        *((key, value, _origin(definition, key)) for key, value in sections.items()),
        ("seed", str(definition.seed), "--seed" if definition.seed else "default"),
    ]


def _strategies(definition: StudyDefinition) -> list[Row]:
    rows = {}
    for section, chosen in (("sampler", definition.sampler), ("pruner", definition.pruner)):
        rows[section] = strategy_name(chosen)
        rows |= {f"{section}.{name}": str(value) for name, value in dataclasses.asdict(chosen).items()}
    rows |= {f"resources.{name}": f"{value:g}" for name, value in definition.resources.stored().items()}
    return [(key, value, _origin(definition, key if "." in key else f"{key}.name")) for key, value in rows.items()]


def _signers(definition: StudyDefinition) -> list[Row]:
    options = dataclasses.asdict(definition.signers)
    if options["folds"]:
        del options["validation"]
    texts = {key: ", ".join(value) if isinstance(value, tuple) else str(value or "none") for key, value in options.items()}
    texts["split"] += f" ({caution})" if (caution := caution_of(definition.signers.split)) else ""
    return [(f"data.{key}", text, _origin(definition, f"data.{key}")) for key, text in texts.items()]


def _settings(definition: StudyDefinition) -> list[Row]:
    searched = {dim.setting.key: dim for dim in definition.space}
    rows = []
    for key, setting in settings().items():
        if key in searched:
            dim = searched[key]
            rows.append((key, f"searched ({dim.role}): {dim.text()}", _origin(definition, f"space.{dim.name}")))
            baseline = _origin(definition, f"baseline.{key}", f"baseline.{setting.field}")
            value = str(definition.baseline.get(dim.name, f"{setting.default} (does not apply)"))
            rows.append((f"{key} of the baseline", value, baseline))
        else:
            value = str(definition.fixed.get(key, setting.default))
            rows.append((key, value, _origin(definition, f"fixed.{key}", f"fixed.{setting.field}")))
    return rows


def _origin(definition: StudyDefinition, *keys: str) -> str:
    """Where one of the keys, or anything below it, was set last."""
    origins = [
        source for path, source in definition.origins.items() if any(path == key or path.startswith(f"{key}.") for key in keys)
    ]
    return origins[-1] if origins else "default"
