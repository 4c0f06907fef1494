"""A study as people write it (YAML and `--set`) -> a checked `StudyDefinition`. Whoever misspells a word is told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Unit

from data_utils.splits import Folds, Wish
from model.objective import Objective
from search import strategy
from search.errors import DefinitionError
from search.feasible import require_possible, require_strategy
from search.goals import Goal, goals, leading
from search.pruners import NoPruning, Pruner
from search.resources import Resources
from search.samplers import Sampler
from search.settings import Configs, build, build_configs, checked, find_setting, require_mapping, settings
from search.space import (
    Dimension,
    applies,
    applying,
    dimension,
    in_order,
)
from search.times import seconds_of
from search.yaml_text import parse_yaml

SECTIONS = (
    "about",
    "objective",
    "trials",
    "time",
    "stagnation",
    "repeats",
    "sampler",
    "pruner",
    "resources",
    "data",
    "fixed",
    "space",
    "baseline",
)
_STUDY_NAME = re.compile(r"\w[\w.-]*")
_NAME_BYTES = 100
_TAKEN_NAMES = ("prepared", "data")  # folders that `--runs` holds beside those of the studies; some disks know no capitals
_STUDY_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Stagnation:
    """When a search that gains nothing any more ends."""

    trials: Annotated[int, Gt(0), Unit("trials")]
    """Finished trials without a gain."""

    noise: Annotated[float, Ge(0)] | None = None
    """What does not count as a gain, in the objective's unit. Empty: it is estimated from the best trial: from the spread of
    its repeats, else from how its folds differ from those of the second best, else from how its curve moves."""


@dataclass(frozen=True)
class Plan:
    """How every trial of a study trains its models."""

    objective: Objective = Objective()  # noqa: RUF009 (frozen)
    """Decides which epoch speaks for a curve."""

    repeats: int = 1
    """Trainings of each fold, with seeds of their own."""

    one_by_one: bool = False
    """Trainings run after each other; else side by side, an epoch of each in turn."""

    unit: int = 1
    """One by one: after how many trainings the pruner is asked: all repeats of a fold, or one where there are no folds."""

    wants_latency: bool = False


@dataclass(frozen=True, kw_only=True)
class SignerWishes:
    """Which signers train, validate and are sealed, as the study asks for them."""

    train: Wish = "rest"
    validation: Wish = "auto"
    test: Wish = "auto"
    folds: Folds = None
    """Instead of a validation part: so many groups of signers, each of which validates once; `each`: every signer by itself."""


@dataclass(frozen=True, kw_only=True)
class StudyDefinition:
    """A checked study."""

    name: str
    source: str
    """The file it was read from, for messages."""

    about: str
    goals: tuple[Goal, ...]
    """What is minimised. With several, a study has a front of best trials instead of one."""

    trials: int
    """How many trials are to be finished."""

    time_s: float | None
    """How long all its trials together may train; None: as long as they like."""

    stagnation: Stagnation | None
    repeats: int
    """How often each trial trains the same setting, with seeds of its own."""

    sampler: Sampler
    pruner: Pruner
    """As written. See `prunes`."""

    resources: Resources
    """What each worker asks of a cluster. No part of the question."""

    signers: SignerWishes
    fixed: Mapping[str, Any]
    """Values by full key."""

    space: tuple[Dimension, ...]
    """Each dimension behind those that its condition looks at."""

    baseline: Mapping[str, Any]
    """A value for each dimension that applies, by the dimension's name. Always trial 0."""

    seed: int
    origins: Mapping[str, str]
    """Where each key's value came from: the file, or `--set`. What is missing here is a default."""

    @property
    def prunes(self) -> bool:
        """Whether a pruner is at work: with several objectives no order of half-trained trials means anything."""
        return len(self.goals) == 1 and not isinstance(self.pruner, NoPruning)

    @property
    def plan(self) -> Plan:
        """How its trials train."""
        return Plan(
            objective=leading(self.goals),
            repeats=self.repeats,
            one_by_one=self.prunes and self.pruner.by_training,
            unit=self.repeats if self.signers.folds else 1,
            wants_latency=any(goal.metric == "latency_ms" for goal in self.goals),
        )

    @property
    def most_epochs(self) -> int:
        """The most epochs that one training can have."""
        searched = {dim.setting.key: dim for dim in self.space}
        if "train.epochs" not in searched:
            return int(self.fixed.get("train.epochs", settings()["train.epochs"].default))
        dim = searched["train.epochs"]
        return max(int(dim.highest), dim.setting.default if dim.when else 0)

    def configs(self, params: Mapping[str, Any]) -> Configs:
        """The configurations of a trial with these parameters.

        Raises:
            DefinitionError: the values do not go together.
        """
        chosen = {dim.setting.key: params[dim.name] for dim in applying(self.space, params)}
        return build_configs({**self.fixed, **chosen}, self.source)


def load_definition(study: str, sets: Sequence[str] = (), *, name: str | None = None, seed: int = 0) -> StudyDefinition:
    """Reads a study by name or path, and applies `--set KEY=VALUE` in order.

    Raises:
        DefinitionError: there is no such study, or anything in it is wrong.
    """
    source, text = _find(study)
    raw = parse_yaml(text, source)
    require_mapping(raw, "the study", source, SECTIONS)
    origins = dict.fromkeys(_paths(raw), source)
    for assignment in sets:
        given = _assign(raw, assignment, source)
        origins = {path: origin for path, origin in origins.items() if path not in given} | given  # the latest stands last
    definition = _resolve(raw, source, name or study_name(study), seed)
    return replace(definition, origins=origins)


def study_name(study: str) -> str:
    """The study's name: the argument itself, or the stem of a path.

    Raises:
        DefinitionError: it cannot be a name.
    """
    return checked_name(Path(study).stem if _is_path(study) else study)


def checked_name(name: str) -> str:
    """A name that can also be a folder's under `--runs`.

    Raises:
        DefinitionError: it cannot.
    """
    if not _STUDY_NAME.fullmatch(name) or len(name.encode()) > _NAME_BYTES:
        raise DefinitionError(
            "this cannot be a study's name",
            got=repr(name)[:80],
            expected=f"letters, digits, `_`, `-` and `.`, up to {_NAME_BYTES} bytes",
        )
    if name.casefold() in _TAKEN_NAMES:
        raise DefinitionError(
            "this cannot be a study's name: what is prepared or made up for all studies lies there",
            got=name,
            hint="call the study something else",
        )
    return name


def known_studies(*, packaged_only: bool = False) -> dict[str, str]:
    """The studies that can be named: those in `./studies` first, then those that come with the package. Name -> about."""
    found: dict[str, str] = {}
    packaged = resources.files("studies")
    for folder in [packaged] if packaged_only else [Path("studies"), packaged]:
        if folder.is_dir():
            for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
                if entry.name.endswith(".yaml"):
                    found.setdefault(entry.name.removesuffix(".yaml"), _about(entry))
    return found


def _about(entry: Traversable) -> str:
    try:
        raw = parse_yaml(entry.read_text(encoding="utf-8"), entry.name)
    except (OSError, UnicodeDecodeError, DefinitionError):
        return "(cannot be read)"
    return str(raw.get("about", "")) if isinstance(raw, dict) else "(not a study)"


def _is_path(study: str) -> bool:
    return study.endswith((".yaml", ".yml")) or "/" in study


def _find(study: str) -> tuple[str, str]:
    """Where a study's file is, for messages, and its text."""
    try:
        if _is_path(study):
            return study, _text_of(Path(study))
        name = study_name(study)
        local = Path("studies") / f"{name}.yaml"
        if local.is_file():
            return str(local), _text_of(local)
        packaged = resources.files("studies") / f"{name}.yaml"
        if packaged.is_file():
            return f"{name}.yaml (installed)", packaged.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path that cannot be one
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DefinitionError(
            "the study file cannot be read",
            where=study,
            got=reason,
            hint="`python -m search list` shows studies that can be named",
        ) from error
    raise DefinitionError(
        f"there is no study `{study}`",
        expected=f"one of {', '.join(known_studies()) or 'none yet'}, or a path to a YAML file",
        hint="`python -m search list` shows the studies",
    )


def _text_of(path: Path) -> str:
    """The text of a study's file. What never ends, such as a device, is not read to its end.

    Raises:
        DefinitionError: it is far too large for a study.
        OSError, UnicodeDecodeError: it cannot be read.
    """
    with path.open("rb") as stream:
        content = stream.read(_STUDY_BYTES + 1)
    if len(content) > _STUDY_BYTES:
        raise DefinitionError(
            "the study file is too large", where=str(path), got="more than 1 MiB", expected="a study of a few kilobytes"
        )
    return content.decode("utf-8")


def _paths(raw: Any, prefix: str = "") -> list[str]:
    """Dotted paths of the values that a mapping holds."""
    if not isinstance(raw, dict):
        return [prefix]
    return [path for key, value in raw.items() for path in _paths(value, f"{prefix}.{key}" if prefix else str(key))]


def _assign(raw: dict[str, Any], assignment: str, source: str) -> dict[str, str]:
    """Applies one `--set`, and says which paths it gave.

    A key that starts with a section's name is a place in the file; any other is a setting, which is then fixed.
    """
    key, equals, text = assignment.partition("=")
    where = f"--set {assignment}"
    if not equals or not key:
        raise DefinitionError("`--set` wants KEY=VALUE", got=assignment, hint="for example `--set train.epochs=20`")
    value = parse_yaml(text, where)
    steps = key.split(".")
    if steps[0] not in SECTIONS:
        setting = find_setting(key, where)
        for section in ("fixed", "space", "baseline"):  # no other spelling of it may stay
            written = _section(raw, section)
            require_mapping(written, section, source)
            for name in [name for name in written if find_setting(name, f"{source}: {section}") == setting]:
                del written[name]
        steps = ["fixed", setting.key]
    elif len(steps) > 2 and steps[0] in ("fixed", "space", "baseline"):
        steps = _join_setting(steps, raw)
    target = raw
    for step in steps[:-1]:
        target[step] = _section(target, step)
        target = target[step]
        require_mapping(target, step, where)
    target[steps[-1]] = value
    path = ".".join(steps)
    return {f"{path}{rest}": where for rest in [f".{p}" for p in _paths(value) if p] or [""]}


def _join_setting(steps: list[str], raw: Mapping[str, Any]) -> list[str]:
    """`space.train.lr.low` -> space, train.lr, low: a setting's dotted key is one step."""
    dotted = f"{steps[1]}.{steps[2]}"
    section = raw.get(steps[0])
    if dotted in settings():
        name = dotted if not isinstance(section, dict) or steps[2] not in section else steps[2]
        return [steps[0], name, *steps[3:]]
    return steps


def _section(raw: Mapping[str, Any], key: str) -> Any:
    """What is written under a key; an empty mapping for nothing."""
    return {} if raw.get(key) is None else raw[key]


def _resolve(raw: dict[str, Any], source: str, name: str, seed: int) -> StudyDefinition:
    require_mapping(raw, "the study", source, SECTIONS)
    fixed = _settings_in(_section(raw, "fixed"), "fixed", source)
    space = _space(raw.get("space"), source)
    twice = sorted({dim.setting.key for dim in space} & {key for key, _ in fixed.values()})
    if twice:
        raise DefinitionError(f"`{twice[0]}` is both fixed and searched", where=source, hint="take it out of one of the two")
    definition = StudyDefinition(
        name=name,
        source=source,
        about=checked(str, raw.get("about", ""), "about", source),
        goals=goals(_section(raw, "objective"), f"{source}: objective"),
        trials=checked(Annotated[int, Gt(0)], raw.get("trials", 50), "trials", source),
        time_s=_time(raw.get("time"), source),
        stagnation=_stagnation(raw.get("stagnation"), source),
        repeats=checked(Annotated[int, Gt(0)], raw.get("repeats", 1), "repeats", source),
        sampler=strategy.sampler(raw.get("sampler", {"name": "tpe"}), source),
        pruner=strategy.pruner(raw.get("pruner", {"name": "median"}), source),
        resources=build(Resources, _section(raw, "resources"), "resources", source),
        signers=_signers(_section(raw, "data"), source),
        fixed=dict(fixed.values()),
        space=in_order(space, dict(fixed.values()), f"{source}: space"),
        baseline={},
        seed=seed,
        origins={},
    )
    definition = replace(definition, baseline=_baseline(_section(raw, "baseline"), definition.space, source))
    require_possible(definition)
    require_strategy(definition)
    return definition


def _time(given: Any, source: str) -> float | None:
    if given is None:
        return None
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = str(given)
    seconds = seconds_of(checked(str, given, "time", source))
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
        found[name] = (setting.key, checked(setting.annotation, value, name, where))
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
        space.append(dimension(name, setting, given, where))
    return tuple(space)


def _refuse_second(key: str, seen: list[str], where: str) -> None:
    if key in seen:
        raise DefinitionError(f"`{key}` is written twice, in two spellings", where=where, hint="keep one of them")


def _signers(section: Any, source: str) -> SignerWishes:
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
    return SignerWishes(**wishes)


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
        if applies(dim, values):
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
