"""The resolved study as rows: every key, its value, and where that came from (`run --dry-run`)."""

from __future__ import annotations

import dataclasses

from search.definition import strategy
from search.definition.definition import StudyDefinition
from search.definition.settings import settings


def definition_rows(definition: StudyDefinition) -> list[tuple[str, str, str]]:
    """Rows of key, value, origin."""
    return [*_head(definition), *_signers(definition), *_settings(definition)]


def _head(definition: StudyDefinition) -> list[tuple[str, str, str]]:
    rows = [
        ("study", definition.name, definition.source),
        ("about", definition.about, _origin(definition, "about")),
        (
            "objective",
            f"minimize {', '.join(objective.name for objective in definition.objectives)}",
            _origin(definition, "objective"),
        ),
        ("trials", str(definition.trials), _origin(definition, "trials")),
        ("time", _or_none(definition.time_s, "{:g} s"), _origin(definition, "time")),
        (
            "stagnation",
            _or_none(None if definition.stagnation is None else definition.stagnation.trials, "{} trials"),
            _origin(definition, "stagnation"),
        ),
        ("repeats", str(definition.repeats), _origin(definition, "repeats")),
        ("seed", str(definition.seed), "--seed" if definition.seed else "default"),
    ]
    for section, chosen in (("sampler", definition.sampler), ("pruner", definition.pruner)):
        rows.append((section, strategy.strategy_name(chosen), _origin(definition, f"{section}.name")))
        for name, value in dataclasses.asdict(chosen).items():  # type: ignore[call-overload]  # every strategy is a dataclass
            rows.append((f"{section}.{name}", str(value), _origin(definition, f"{section}.{name}")))
    for name, value in dataclasses.asdict(definition.resources).items():
        rows.append((f"resources.{name}", f"{value:g}", _origin(definition, f"resources.{name}")))
    return rows


def _signers(definition: StudyDefinition) -> list[tuple[str, str, str]]:
    wishes = dataclasses.asdict(definition.signers)
    return [
        (
            f"data.{part}",
            ", ".join(wish) if isinstance(wish, tuple) else str(wish or "none"),
            _origin(definition, f"data.{part}"),
        )
        for part, wish in wishes.items()
        if part != "validation" or not wishes["folds"]
    ]


def _or_none(value: float | None, form: str) -> str:
    return "no limit" if value is None else form.format(value)


def _settings(definition: StudyDefinition) -> list[tuple[str, str, str]]:
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
            value = definition.fixed.get(key, setting.default)
            rows.append((key, str(value), _origin(definition, f"fixed.{key}", f"fixed.{setting.field}")))
    return rows


def _origin(definition: StudyDefinition, *keys: str) -> str:
    """Where a key or anything below it was given last."""
    given = [
        source for path, source in definition.origins.items() if any(path == key or path.startswith(f"{key}.") for key in keys)
    ]
    return given[-1] if given else "default"
