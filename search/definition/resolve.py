"""Plain values -> a checked definition."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from annotated_types import Gt

from data_utils.splits import Folds
from search.definition import strategy
from search.definition.assignments import SECTIONS, _section
from search.definition.checks import require_feasible, require_usable_strategy
from search.definition.definition import Resources, SplitOptions, Stagnation, StudyDefinition
from search.definition.dimensions import parse_dimension, sort_by_conditions
from search.definition.objectives import parse_objectives
from search.definition.settings import build, find_setting, require_mapping, validate
from search.definition.space import Dimension, is_active
from search.errors import DefinitionError
from search.wording import parse_duration


def resolve_definition(raw: dict[str, Any], source: str, name: str, seed: int) -> StudyDefinition:
    require_mapping(raw, "the study", source, SECTIONS)
    fixed = _settings_in(_section(raw, "fixed"), "fixed", source)
    space = _space(raw.get("space"), source)
    twice = sorted({dim.setting.key for dim in space} & {key for key, _ in fixed.values()})
    if twice:
        raise DefinitionError(f"`{twice[0]}` is both fixed and searched", where=source, hint="take it out of one of the two")
    definition = StudyDefinition(
        name=name,
        source=source,
        about=validate(str, raw.get("about", ""), "about", source),
        objectives=parse_objectives(_section(raw, "objective"), f"{source}: objective"),
        trials=validate(Annotated[int, Gt(0)], raw.get("trials", 50), "trials", source),
        time_s=_time(raw.get("time"), source),
        stagnation=_stagnation(raw.get("stagnation"), source),
        repeats=validate(Annotated[int, Gt(0)], raw.get("repeats", 1), "repeats", source),
        sampler=strategy.sampler(raw.get("sampler", {"name": "tpe"}), source),
        pruner=strategy.pruner(raw.get("pruner", {"name": "median"}), source),
        resources=build(Resources, _section(raw, "resources"), "resources", source),
        signers=_signers(_section(raw, "data"), source),
        fixed=dict(fixed.values()),
        space=sort_by_conditions(space, dict(fixed.values()), f"{source}: space"),
        baseline={},
        seed=seed,
        origins={},
    )
    definition = replace(definition, baseline=_baseline(_section(raw, "baseline"), definition.space, source))
    require_feasible(definition)
    require_usable_strategy(definition)
    return definition


def _time(given: Any, source: str) -> float | None:
    if given is None:
        return None
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = str(given)
    seconds = parse_duration(validate(str, given, "time", source))
    if seconds <= 0:
        raise DefinitionError("`time` has a wrong value", where=source, got=str(given), expected="more than no time")
    return seconds


def _stagnation(given: Any, source: str) -> Stagnation | None:
    if given is None:
        return None
    return build(Stagnation, {"trials": given} if isinstance(given, int) else given, "stagnation", source)


def _settings_in(section: Any, key: str, source: str) -> dict[str, tuple[str, Any]]:
    """What is written -> (full key, checked value). One setting in two spellings is an error."""
    require_mapping(section, key, source)
    where = f"{source}: {key}"
    found: dict[str, tuple[str, Any]] = {}
    for name, value in section.items():
        setting = find_setting(name, where)
        _refuse_second(setting.key, [full for full, _ in found.values()], where)
        found[name] = (setting.key, validate(setting.annotation, value, name, where))
    return found


def _space(section: Any, source: str) -> tuple[Dimension, ...]:
    if not section:
        raise DefinitionError(
            "the study searches nothing",
            where=f"{source}: space",
            expected="one range or more, such as `lr: {low: 1e-5, high: 1e-2}`",
        )
    require_mapping(section, "space", source)
    where = f"{source}: space"
    space: list[Dimension] = []
    for name, given in section.items():
        setting = find_setting(name, where)
        _refuse_second(setting.key, [dim.setting.key for dim in space], where)
        space.append(parse_dimension(name, setting, given, where))
    return tuple(space)


def _refuse_second(key: str, seen: list[str], where: str) -> None:
    if key in seen:
        raise DefinitionError(f"`{key}` is written twice, in two spellings", where=where, hint="keep one of them")


def _signers(section: Any, source: str) -> SplitOptions:
    require_mapping(section, "data", source, ("train", "validation", "test", "folds"))
    wishes: dict[str, Any] = {}
    for part, wish in section.items():
        if part == "folds":
            wishes[part] = _folds(wish, source)
        elif wish in ("rest", "none", "auto"):
            wishes[part] = wish
        elif isinstance(wish, list) and wish and all(type(s) in (str, int) for s in wish):
            wishes[part] = tuple(str(s) for s in wish)
        else:
            raise DefinitionError(
                f"`data.{part}` does not name signers",
                where=source,
                got=repr(wish),
                expected="a list such as [36257, 16069], or `rest`, `none` or `auto`",
            )
    if wishes.get("folds") and wishes.get("validation", "auto") not in ("auto", "none"):
        raise DefinitionError(
            "`data.folds` and `data.validation` cannot be given together",
            where=source,
            hint="with folds every signer validates once; take one of them away",
        )
    return SplitOptions(**wishes)


def _folds(wish: Any, source: str) -> Folds:
    if wish is None or wish == "none":
        return None
    if wish == "each":
        return "each"
    if type(wish) is int and wish >= 2:
        return wish
    raise DefinitionError(
        "`data.folds` has a wrong value", where=source, got=repr(wish)[:80], expected="2 or more, `each` or `none`"
    )


def _baseline(section: Any, space: tuple[Dimension, ...], source: str) -> dict[str, Any]:
    """A value for every dimension that applies: as written, else the setting's default."""
    where = f"{source}: baseline"
    written = _settings_in(section, "baseline", source)
    by_key = dict(written.values())
    baseline: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for dim in space:
        if is_active(dim, values):
            values[dim.setting.key] = baseline[dim.name] = by_key.get(dim.setting.key, dim.setting.default)
    for name, (key, _) in written.items():
        if key not in {dim.setting.key for dim in space}:
            raise DefinitionError(
                f"`{name}` is not searched", where=where, hint=f"write it under `fixed`, or `{name}` under `space`"
            )
        if key not in values:
            raise DefinitionError(
                f"`{name}` does not apply to the baseline",
                where=where,
                expected=next(dim.text() for dim in space if dim.setting.key == key),
                hint=f"take `{name}` out of the baseline",
            )
    for dim in space:
        if dim.name in baseline and not dim.contains(baseline[dim.name]):
            raise DefinitionError(
                f"the baseline's `{dim.name}` is outside the space",
                where=where,
                got=str(baseline[dim.name]),
                expected=dim.domain.text(),
                hint=f"write `{dim.name}` under `baseline`, or widen the space",
            )
    return baseline
