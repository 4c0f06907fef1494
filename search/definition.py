"""A study as people write it (YAML and `--set`) -> a checked `StudyDefinition`. Whoever misspells a word is told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Gt

from data_utils.splits import Wish
from search import strategy
from search.errors import DefinitionError
from search.settings import Configs, build, build_configs, checked, find_setting, require_mapping, settings
from search.space import Dimension, dimension

SECTIONS = ("about", "objective", "trials", "sampler", "pruner", "data", "fixed", "space", "baseline")
_STUDY_NAME = re.compile(r"\w[\w.-]*")
_NAME_BYTES = 100
_TAKEN_NAMES = ("prepared", "data")  # folders that `--runs` holds beside those of the studies; some disks know no capitals
_STUDY_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a search minimises."""

    metric: Literal["val_loss"] = "val_loss"
    """The plain cross-entropy on the validation signers at its best epoch; never smoothed."""

    direction: Literal["minimize"] = "minimize"


@dataclass(frozen=True, kw_only=True)
class SignerWishes:
    """Which signers train, validate and are sealed, as the study asks for them."""

    train: Wish = "rest"
    validation: Wish = "auto"
    test: Wish = "auto"


@dataclass(frozen=True, kw_only=True)
class StudyDefinition:
    """A checked study."""

    name: str
    source: str
    """The file it was read from, for messages."""

    about: str
    objective: Objective
    trials: int
    """How many trials are to be finished."""

    sampler: strategy.Tpe | strategy.Random
    pruner: strategy.Median | strategy.NoPruning
    signers: SignerWishes
    fixed: Mapping[str, Any]
    """Values by full key."""

    space: tuple[Dimension, ...]
    baseline: Mapping[str, Any]
    """A value for each dimension, by the dimension's name. Always trial 0."""

    seed: int
    origins: Mapping[str, str]
    """Where each key's value came from: the file, or `--set`. What is missing here is a default."""

    def configs(self, params: Mapping[str, Any]) -> Configs:
        """The configurations of a trial with these parameters.

        Raises:
            DefinitionError: the values do not go together.
        """
        chosen = {dim.setting.key: params[dim.name] for dim in self.space}
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


def known_studies() -> dict[str, str]:
    """The studies that can be named: those in `./studies` first, then those that come with the package. Name -> about."""
    found: dict[str, str] = {}
    for folder in (Path("studies"), resources.files("studies")):
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


class _Loader(yaml.SafeLoader):
    """YAML that reads 1e-4 as the number it is, and refuses what nothing could be done with.

    That is a key given twice, references (`*name`), whole numbers that no machine word holds, and halves of characters.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):  # a value that holds itself would never end
            raise yaml.composer.ComposerError(None, None, "references are not read", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        times = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in times.items():
            if count > 1:
                raise yaml.constructor.ConstructorError(None, None, f"`{key}` is given twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text = super().construct_scalar(node)
        if any("\ud800" <= mark <= "\udfff" for mark in text):
            raise yaml.constructor.ConstructorError(None, None, "half of a character, which no file can hold", node.start_mark)
        return text

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        """A whole number of 64 bits."""
        number: int = self.construct_yaml_int(node)
        if not -(2**63) <= number < 2**63:
            raise yaml.constructor.ConstructorError(None, None, "a whole number of more than 64 bits", node.start_mark)
        return number


class _Dumper(yaml.SafeDumper):
    """Quotes the text that `_Loader` would read as a number, and writes no references."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+"),
        list("-+.0123456789"),
    )
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole_number)
_MALFORMED = (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError, OverflowError)
"""What PyYAML raises for malformed text; the last four come from values that contradict their tag, such as `!!bool maybe`."""


def dump_yaml(value: Mapping[str, Any]) -> str:
    """YAML that `parse_yaml` reads as the same values."""
    text: str = yaml.dump(dict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def parse_yaml(text: str, where: str) -> Any:
    """Plain values from YAML.

    Raises:
        DefinitionError: it is not YAML, or a key is given twice.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader: builds plain values only
    except _MALFORMED as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f": line {mark.line + 1}, column {mark.column + 1}"
        reason = getattr(error, "problem", None) or next(iter(str(error).splitlines()), type(error).__name__)
        raise DefinitionError(
            "this is not YAML", where=f"{where}{line}", got=reason, expected="lines of `key: value`"
        ) from error


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
        objective=build(Objective, _section(raw, "objective"), "objective", source),
        trials=checked(Annotated[int, Gt(0)], raw.get("trials", 50), "trials", source),
        sampler=strategy.sampler(raw.get("sampler", {"name": "tpe"}), source),
        pruner=strategy.pruner(raw.get("pruner", {"name": "median"}), source),
        signers=_signers(_section(raw, "data"), source),
        fixed=dict(fixed.values()),
        space=space,
        baseline=_baseline(_section(raw, "baseline"), space, source),
        seed=seed,
        origins={},
    )
    definition.configs(definition.baseline)  # what does not go together is found now
    return definition


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
    require_mapping(section, "data", source, ("train", "validation", "test"))
    wishes: dict[str, Wish] = {}
    for part, wish in section.items():
        if wish in ("rest", "none", "auto"):
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
    return SignerWishes(**wishes)


def _baseline(section: Any, space: tuple[Dimension, ...], source: str) -> dict[str, Any]:
    """A value for every dimension: as written, else the setting's default."""
    where = f"{source}: baseline"
    written = _settings_in(section, "baseline", source)
    by_key = dict(written.values())
    searched = {dim.setting.key for dim in space}
    for name, (key, _) in written.items():
        if key not in searched:
            raise DefinitionError(
                f"`{name}` is not searched", where=where, hint=f"write it under `fixed`, or `{name}` under `space`"
            )
    baseline = {dim.name: by_key.get(dim.setting.key, dim.setting.default) for dim in space}
    for dim in space:
        if not dim.contains(baseline[dim.name]):
            raise DefinitionError(
                f"the baseline's `{dim.name}` is outside the space",
                where=where,
                got=str(baseline[dim.name]),
                expected=dim.domain.text(),
                hint=f"write `{dim.name}` under `baseline`, or widen the space",
            )
    return baseline
