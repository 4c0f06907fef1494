"""Finds a study by name or path, and loads it."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np

from data_utils.wording import closest
from search.definition.assignments import SECTIONS, apply_assignment, value_paths
from search.definition.definition import StudyDefinition
from search.definition.pruners import Pruner
from search.definition.resolve import resolve_definition
from search.definition.samplers import Sampler
from search.definition.settings import require_mapping
from search.definition.strategy import strategy_name
from search.definition.yaml_text import parse_yaml
from search.errors import DefinitionError

_STUDY_NAME = re.compile(r"\w[\w.-]*")
_MAX_NAME_BYTES = 100
_EXTENSIONS = (".yaml", ".yml")
_RESERVED_NAMES = ("prepared", "data")  # other folders in `--runs`; compared without case, as some file systems do
_MAX_FILE_BYTES = 1 << 20
_LIST_HINT = "`islr-search list` shows the known studies"


def load_definition(study: str, sets: Sequence[str] = (), *, name: str | None = None, seed: int = 0) -> StudyDefinition:
    """Loads a study by name or path, and applies each `--set KEY=VALUE` in order.

    Raises:
        DefinitionError: there is no such study, or something in it is wrong.
    """
    source, text = _find(study)
    return _definition(parse_yaml(text, source), source, sets, name or study_name(study), seed)


def definition_of(content: Mapping[str, Any], name: str, sets: Sequence[str] = (), *, seed: int = 0) -> StudyDefinition:
    """The study with this content: that of a study file, in which ranges, samplers and other parts may be dataclasses.

    Raises:
        DefinitionError: something in it is wrong.
    """
    return _definition(plain(content), "the study", sets, validate_name(name), seed)


def _definition(raw: Any, source: str, sets: Sequence[str], name: str, seed: int) -> StudyDefinition:
    """The checked definition; changes `raw` by the assignments."""
    require_mapping(raw, "the study", source, SECTIONS)
    origins = dict.fromkeys(value_paths(raw), source)
    for assignment in sets:
        assigned = apply_assignment(raw, assignment, source)
        origins = {path: origin for path, origin in origins.items() if path not in assigned} | assigned  # the latest comes last
    return replace(resolve_definition(raw, source, name, seed), origins=origins)


def plain(value: Any) -> Any:
    """A copy as a study file would have it: a sampler or pruner with its name, other dataclasses as mappings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = {"name": strategy_name(value)} if isinstance(value, Sampler | Pruner) else {}
        given = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return name | {key: plain(one) for key, one in given.items() if one is not None}
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, np.generic):
        return value.item()
    return [plain(one) for one in value] if isinstance(value, list | tuple | np.ndarray) else value


def study_name(study: str) -> str:
    """The study's name: the argument itself, or the stem of a path.

    Raises:
        DefinitionError: it is not a valid name.
    """
    return validate_name(Path(study).stem if _is_path(study) else study)


def validate_name(name: str) -> str:
    """The name in Unicode's composed form, if it is valid: it is also the name of a folder in `--runs`.

    Raises:
        DefinitionError: it is not.
    """
    name = unicodedata.normalize("NFC", name)  # macOS writes file names decomposed, keyboards composed
    if not _STUDY_NAME.fullmatch(name) or len(name.encode()) > _MAX_NAME_BYTES:
        raise DefinitionError(
            "this is not a valid study name",
            got=repr(name)[:80],
            expected=f"letters, digits, `_`, `-` and `.`, up to {_MAX_NAME_BYTES} bytes",
        )
    if name.endswith(_EXTENSIONS):
        raise DefinitionError(
            "a study name cannot end like a file: commands would look for the study of that file",
            got=name,
            expected=f"a name without {' or '.join(_EXTENSIONS)}, such as `{Path(name).stem}`",
        )
    if name.casefold() in _RESERVED_NAMES:
        raise DefinitionError(
            "this study name is reserved: a folder of this name holds data for all studies", got=name, hint="choose another"
        )
    return name


def known_studies(*, packaged_only: bool = False) -> dict[str, str]:
    """Studies that can be loaded by name, with their `about`: those in `./studies` first, then those of the package."""
    return {name: _about(entry) for name, entry in _known_files(packaged_only=packaged_only).items()}


def known_names() -> list[str]:
    """The names of the known studies. Their files are not read."""
    return list(_known_files())


def _known_files(*, packaged_only: bool = False) -> dict[str, Traversable]:
    found: dict[str, Traversable] = {}
    packaged = resources.files("studies")
    for folder in [packaged] if packaged_only else [Path("studies"), packaged]:
        if folder.is_dir():
            for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
                if entry.name.endswith(".yaml"):
                    found.setdefault(entry.name.removesuffix(".yaml"), entry)
    return found


def _about(entry: Traversable) -> str:
    try:
        raw = parse_yaml(entry.read_text(encoding="utf-8"), entry.name)
    except (OSError, UnicodeDecodeError, DefinitionError):
        return "(cannot be read)"
    return str(raw.get("about", "")) if isinstance(raw, dict) else "(not a study)"


def _is_path(study: str) -> bool:
    return study.endswith(_EXTENSIONS) or "/" in study


def _find(study: str) -> tuple[str, str]:
    """Where a study's file is, for messages, and its text."""
    try:
        if _is_path(study):
            return study, _read(Path(study))
        name = study_name(study)
        local = Path("studies") / f"{name}.yaml"
        if local.is_file():
            return str(local), _read(local)
        packaged = resources.files("studies") / f"{name}.yaml"
        if packaged.is_file():
            return f"{name}.yaml (installed)", packaged.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or not a valid path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        hint = _suggestion(study) if isinstance(error, FileNotFoundError) else _LIST_HINT
        raise DefinitionError("the study file cannot be read", where=study, got=reason, hint=hint) from error
    raise DefinitionError(
        f"there is no study `{study}`",
        expected=f"one of {', '.join(known_names()) or 'none yet'}, or a path to a YAML file",
        hint=_suggestion(study),
    )


def _suggestion(study: str) -> str:
    """The study that may have been meant: a file in the same folder, or one of the known studies."""
    near = {path.stem: str(path) for path in sorted(Path(study).parent.glob("*")) if path.suffix in _EXTENSIONS}
    known = {name: name for name in known_names()}
    names = known | near if _is_path(study) else near | known
    close = closest(Path(study).stem if _is_path(study) else study, names)
    return _LIST_HINT if close is None else f"did you mean `{names[close]}`?"


def _read(path: Path) -> str:
    """The text of a study file. Reads at most 1 MiB, since a device may have no end.

    Raises:
        DefinitionError: it is too large for a study.
        OSError, UnicodeDecodeError: it cannot be read.
    """
    with path.open("rb") as stream:
        content = stream.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise DefinitionError(
            "the study file is too large", where=str(path), got="more than 1 MiB", expected="a study of a few kilobytes"
        )
    return content.decode("utf-8")
