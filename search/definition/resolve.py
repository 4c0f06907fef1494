"""Turns the plain values of a study file into a `StudyDefinition`, section by section."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen

from search.definition.assignments import section_of
from search.definition.checks import require_feasible, require_usable_strategy
from search.definition.definition import Resources, SplitOptions, Stagnation, StudyDefinition
from search.definition.dimensions import parse_dimension, sort_by_conditions
from search.definition.objectives import parse_objectives
from search.definition.settings import build, find_setting, require_mapping, validate
from search.definition.space import Dimension, is_active
from search.definition.strategy import parse_pruner, parse_sampler
from search.errors import DefinitionError
from search.wording import parse_duration

_SIGNERS = Annotated[list[str | int], MinLen(1)] | Literal["rest", "none", "auto"]
_FOLDS = Annotated[int, Ge(2)] | Literal["each", "none"] | None


def resolve_definition(raw: dict[str, Any], source: str, name: str, seed: int) -> StudyDefinition:
    """The checked definition.

    Raises:
        DefinitionError: a value is wrong, or the study could not work.
    """
    fixed = _settings_in(section_of(raw, "fixed"), "fixed", source)
    space = _space(raw.get("space"), source)
    twice = sorted({dim.setting.key for dim in space} & {key for key, _ in fixed.values()})
    if twice:
        raise DefinitionError(f"`{twice[0]}` is both fixed and searched", where=source, hint="remove it from one of the two")
    objectives = parse_objectives(section_of(raw, "objective"), f"{source}: objective")
    definition = StudyDefinition(
        name=name,
        source=source,
        about=validate(str, raw.get("about", ""), "about", source),
        objectives=objectives,
        trials=validate(Annotated[int, Gt(0)], raw.get("trials", 50), "trials", source),
        time_s=_time(raw.get("time"), source),
        stagnation=_stagnation(raw.get("stagnation"), source),
        repeats=validate(Annotated[int, Gt(0)], raw.get("repeats", 1), "repeats", source),
        sampler=parse_sampler(raw.get("sampler", {"name": "gp" if len(objectives) == 1 else "tpe"}), source),
        pruner=parse_pruner(raw.get("pruner", {"name": "none"}), source),
        resources=build(Resources, section_of(raw, "resources"), "resources", source),
        signers=_split_options(section_of(raw, "data"), source),
        fixed=dict(fixed.values()),
        space=sort_by_conditions(space, dict(fixed.values()), f"{source}: space"),
        baseline={},
        seed=seed,
        origins={},
    )
    definition = replace(definition, baseline=_baseline(section_of(raw, "baseline"), definition.space, source))
    require_feasible(definition)
    require_usable_strategy(definition)
    return definition


def _time(given: Any, source: str) -> float | None:
    if given is None:
        return None
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = str(given)
    return parse_duration(validate(str, given, "time", source), f"{source}: time", positive=True)


def _stagnation(given: Any, source: str) -> Stagnation | None:
    if given is None:
        return None
    return build(Stagnation, given if isinstance(given, dict) else {"trials": given}, "stagnation", source)


def _settings_in(section: Any, key: str, source: str) -> dict[str, tuple[str, Any]]:
    """Full key and checked value of each setting in a section, by its key as written."""
    require_mapping(section, key, source)
    where = f"{source}: {key}"
    found: dict[str, tuple[str, Any]] = {}
    for name, value in section.items():
        setting = find_setting(name, where)
        _refuse_second(setting.key, [full for full, _ in found.values()], where)
        found[name] = (setting.key, validate(setting.annotation, value, name, where))
    return found


def _space(section: Any, source: str) -> tuple[Dimension, ...]:
    where = f"{source}: space"
    if not section:
        raise DefinitionError(
            "the study searches nothing", where=where, expected="at least one range, such as `lr: {low: 1e-5, high: 1e-2}`"
        )
    require_mapping(section, "space", source)
    space: list[Dimension] = []
    for name, given in section.items():
        setting = find_setting(name, where)
        _refuse_second(setting.key, [dim.setting.key for dim in space], where)
        space.append(parse_dimension(name, setting, given, where))
    return tuple(space)


def _refuse_second(key: str, seen: list[str], where: str) -> None:
    if key in seen:
        raise DefinitionError(f"`{key}` is written twice, in two spellings", where=where, hint="keep one of them")


def _split_options(section: Any, source: str) -> SplitOptions:
    require_mapping(section, "data", source, ("split", "train", "validation", "test", "folds"))
    options: dict[str, Any] = {}
    for key, given in section.items():
        if key == "split":
            options[key] = validate(Literal["signers", "clips"], given, "data.split", source, "`signers` or `clips`")
        elif key == "folds":
            folds = validate(_FOLDS, given, "data.folds", source, "2 or more, `each` or `none`")
            options[key] = None if folds == "none" else folds
        else:
            signers = "a list of signers such as [36257, 16069], or `rest`, `none` or `auto`"
            value = validate(_SIGNERS, given, f"data.{key}", source, signers)
            options[key] = tuple(map(str, value)) if isinstance(value, list) else value
    if options.get("folds") and options.get("validation", "auto") not in ("auto", "none"):
        raise DefinitionError(
            "`data.folds` and `data.validation` cannot be combined",
            where=source,
            hint="with folds every signer validates once: `--set data.validation=auto`, or `--set data.folds=none`",
        )
    found = SplitOptions(**options)
    if found.split == "clips":
        _require_clips(found, source)
    return found


def _require_clips(options: SplitOptions, source: str) -> None:
    """Refuses what a split by clip cannot do."""
    by_signer = "with `data.split: clips` the same signers are in all parts"
    allowed = {"train": ("rest",), "validation": ("auto", "none") if options.folds else ("auto",), "test": ("auto", "none")}
    for key, texts in allowed.items():
        given = getattr(options, key)
        if given not in texts and (key != "train" or isinstance(given, str)):
            names = isinstance(given, tuple)
            raise DefinitionError(
                f"{by_signer}: `data.{key}` cannot " + ("name signers" if names else f"be `{given}`"),
                where=source,
                got=", ".join(given) if names else given,
                expected=" or ".join(f"`{text}`" for text in texts) + (", or a list of signers" if key == "train" else ""),
                hint=f"`--set data.{key}={texts[0]}`; a split by signer has `data.split: signers`",
            )
    if options.folds == "each":
        raise DefinitionError(
            f"{by_signer}: `data.folds` cannot be `each`",
            where=source,
            expected="a number of folds, into which the clips are dealt",
            hint="`--set data.folds=5`; a split by signer has `data.split: signers`",
        )


def _baseline(section: Any, space: tuple[Dimension, ...], source: str) -> dict[str, Any]:
    """A value for every active dimension: as written, or the setting's default."""
    where = f"{source}: baseline"
    written = _settings_in(section, "baseline", source)
    by_key = dict(written.values())
    dims = {dim.setting.key: dim for dim in space}
    baseline: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for key, dim in dims.items():
        if is_active(dim, values):
            values[key] = baseline[dim.name] = dim.rounded(by_key.get(key, dim.setting.default))
    for name, (key, _) in written.items():
        if key not in dims:
            raise DefinitionError(
                f"`{name}` is not searched", where=where, hint=f"write it under `fixed`, or add `{name}` to `space`"
            )
        if key not in values:
            raise DefinitionError(
                f"`{name}` does not apply to the baseline",
                where=where,
                expected=dims[key].text(),
                hint=f"remove `{name}` from the baseline",
            )
    for key, dim in dims.items():
        if key in values and not dim.contains(values[key]):
            raise DefinitionError(
                f"the baseline's `{dim.name}` is outside the space",
                where=where,
                got=str(values[key]),
                expected=dim.domain.text(),
                hint=f"write `{dim.name}` under `baseline`, or widen the space",
            )
    return baseline
