"""Prints the page of all study file keys, `studies/README.md`, from the configuration classes and `templates/keys.md`.

python -m search.definition.keys > studies/README.md
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import jinja2
from annotated_types import Ge, Gt, Le, Lt, Unit

from data_utils.wording import SAME_PEOPLE
from search.definition.definition import Resources, Stagnation
from search.definition.objectives import StudyObjective
from search.definition.pruners import PRUNERS
from search.definition.samplers import SAMPLERS
from search.definition.settings import GROUPS
from search.definition.study_file import known_studies

_SIGNS = {Gt: ">", Ge: ">=", Lt: "<", Le: "<="}


def page() -> str:
    """The whole page as Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("search.definition"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"doc": _doc, "fields": _fields}
    return environment.get_template("keys.md").render(
        same_people=SAME_PEOPLE,
        studies=sorted(known_studies(packaged_only=True).items()),
        objective=StudyObjective,
        stagnation=Stagnation,
        samplers=SAMPLERS,
        pruners=PRUNERS,
        resources=Resources,
        groups=GROUPS,
    )


def _doc(kind: type) -> str:
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split())


def _fields(kind: type, prefix: str = "") -> list[tuple[str, ...]]:
    """Key, values, default, unit and meaning of each field of a configuration, escaped for a Markdown table."""
    hints, docs = get_type_hints(kind, include_extras=True), _field_docs(kind)
    rows = []
    for field in dataclasses.fields(kind):
        default = "required" if field.default is dataclasses.MISSING else _default(field.default)
        row = (f"{prefix}{field.name}", *_values(hints[field.name]), default, docs.get(field.name, ""))
        rows.append(tuple(cell.replace("|", "\\|") for cell in row))
    return rows


def _default(value: Any) -> str:
    return "empty" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _field_docs(kind: type) -> dict[str, str]:
    """The docstring below each field in the class's source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            docs[field.target.id] = " ".join(ast.literal_eval(after.value).split())
    return docs


def _values(annotation: Any) -> tuple[str, str]:
    """The values that an annotated type allows, and their unit."""
    if get_origin(annotation) in (Union, types.UnionType):
        options = [_values(one) for one in get_args(annotation) if one is not type(None)]
        return ", ".join(text for text, _ in options), next((unit for _, unit in options if unit), "")
    if get_origin(annotation) is Annotated:
        base, *metadata = get_args(annotation)
        text, unit = _values(base)
        bounds = [f"{_SIGNS[type(one)]} {dataclasses.astuple(one)[0]:g}" for one in metadata if type(one) in _SIGNS]
        unit = next((one.unit for one in metadata if isinstance(one, Unit)), unit)
        return f"{text} {' and '.join(bounds)}".strip(), unit
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation)), ""
    return {int: "whole number", float: "number", bool: "true, false", str: "text"}.get(annotation, str(annotation)), ""


if __name__ == "__main__":
    sys.stdout.write(page())
