"""Every key of a study file as a page: `python -m search.definition.keys > studies/README.md`. Made from the configuration classes."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, Unit

from search.definition.definition import Resources, Stagnation
from search.definition.objectives import StudyObjective
from search.definition.pruners import PRUNERS
from search.definition.samplers import SAMPLERS
from search.definition.settings import GROUPS
from search.definition.study_file import known_studies

_HEAD = """\
# Studies

A study is a question, written down as a YAML file. `python -m search run NAME` asks it, `--dry-run` shows every key with its
value and where that came from, `--set KEY=VALUE` changes one key for once. Whoever misspells a key is told.

This page is made from the program (`python -m search.definition.keys > studies/README.md`), and a test compares the two.

## Studies that come with it

{studies}

## A study of your own

```yaml
about: Do wider models want more dropout?
trials: 40
fixed: {{epochs: 60, label_smoothing: 0.1}}        # any setting below, with its value
space:                                           # any setting below, with the values that it may have
  width:        {{choices: [32, 64, 128], role: scientific}}
  dropout:      {{low: 0.0, high: 0.6, role: scientific}}
  lr:           {{low: 1e-4, high: 1e-2, log: true}}
  optimizer:    {{choices: [adam, adamw]}}
  weight_decay: {{low: 1e-4, high: 0.1, log: true, when: {{optimizer: adamw}}}}
baseline: {{width: 64, lr: 3e-4, dropout: 0.1}}    # trial 0
```

Save it as `studies/wide.yaml` and run `python -m search run wide`.

## Keys of a study file

{sections}

A setting's key is its dotted path (`train.lr`) or its bare name (`lr`) where only one group has it. The same setting under `fixed` and
under `space`, or in two spellings, is an error. Numbers may be written `1e-4`.

## Dimensions: what stands under `space`

{dimensions}

What does not go together (a width that the heads do not divide, a warm-up longer than the training) is never proposed, and no
setting is tried twice. A space in which nothing goes together, a grid larger than `trials`, a range upside down, a condition that can
never hold: all are told before anything starts.

## `objective`

One mapping, or a list of them for several objectives: then a study has a front of trials instead of a best one, and nothing is
pruned. Whatever a study minimises, every trial records the three losses and errors in all three readings.

{objective}

## `stagnation`

A number of trials, or a mapping:

{stagnation}

## `sampler`

`sampler: {{name: tpe, startup: 10}}`

{samplers}

## `pruner`

`pruner: {{name: median, warmup_epochs: 10}}`. With folds or repeats a trial trains several models. They run side by side, and the
pruner sees the mean of their curves, epoch by epoch; `wilcoxon` sees them one by one, each with its value.

{pruners}

## `resources`

`resources: {{cpus: 1, gpus: 0.5}}`. For `--engine ray` alone, and no part of the question: a study goes on with others.

{resources}

## Settings

{settings}
"""

_SECTIONS = [
    ("about", "text", "empty", "", "The question, for people."),
    ("objective", "mapping or list", "val_loss, best", "", "What is minimised; see below."),
    ("trials", "whole number > 0", "50", "trials", "Finished trials that end the study. `--trials` and `--more` on the command line."),
    ("time", "text such as 90m", "no limit", "h, m, s", "Training time, all trials of the study together, that ends it."),
    ("stagnation", "number or mapping", "off", "trials", "Ends the study when nothing is gained any more; see below."),
    ("repeats", "whole number > 0", "1", "trainings", "How often a trial trains its setting, with other seeds; its value is the mean."),
    ("sampler", "mapping", "tpe", "", "What is tried next; see below."),
    ("pruner", "mapping", "median", "", "What is not worth going on with; see below."),
    ("resources", "mapping", "1 CPU, 1 GPU", "", "What each worker reserves on a Ray cluster; see below."),
    ("data.train", "signers or `rest`", "rest", "", "Who trains."),
    ("data.validation", "signers, `auto`, `rest`", "auto", "", "Who validates. `auto`: a fifth of the signers, by seed, every word left in training."),
    ("data.test", "signers, `auto`, `none`", "auto", "", "Who is sealed."),
    ("data.folds", "2 or more, `each`, `none`", "none", "groups", "Instead of a validation part: groups of signers that validate in turn, one model each; a trial's value is the mean. `each`: every signer by itself."),
    ("fixed", "settings", "none", "", "Settings with one value."),
    ("space", "dimensions", "needed", "", "Settings that are searched."),
    ("baseline", "settings", "the defaults", "", "Values of the searched settings for trial 0, against which all others are seen."),
]  # fmt: skip
_DIMENSIONS = [
    ("low, high", "numbers", "needed", "", "The range, both ends included."),
    ("log", "true, false", "false", "", "Evenly over the logarithm: for rates."),
    ("step", "number", "none", "", "Only `low`, `low + step`, ... Whole numbers have a step of 1."),
    ("choices", "list", "instead of a range", "", "One of these."),
    ("role", "scientific, nuisance", "nuisance", "", "Whether its effect is the question, or it is tuned so that the comparison is fair."),
    ("when", "{setting: value or list}", "always", "", "Applies only while another dimension has this value, or one of these. Else its setting keeps its default."),
]  # fmt: skip


def page() -> str:
    """The whole page as Markdown."""
    studies = [("study", "question"), *((f"`{name}`", about) for name, about in sorted(_shipped().items()))]
    return _HEAD.format(
        studies=_table(studies),
        sections=_keys(_SECTIONS),
        dimensions=_keys(_DIMENSIONS),
        objective=_keys(_fields(StudyObjective)),
        stagnation=_keys(_fields(Stagnation)),
        samplers=_kinds(SAMPLERS),
        pruners=_kinds(PRUNERS),
        resources=_keys(_fields(Resources)),
        settings="\n\n".join(
            f"### `{group}`\n\n{_doc(kind)}\n\n{_keys(_fields(kind, f'{group}.'))}" for group, kind in GROUPS.items()
        ),
    )


def _shipped() -> dict[str, str]:
    return known_studies(packaged_only=True)


def _kinds(kinds: Mapping[str, type]) -> str:
    parts = []
    for name, kind in kinds.items():
        rows = list(_fields(kind))
        parts.append(f"**`{name}`** {_doc(kind)}" + (f"\n\n{_keys(rows)}" if rows else ""))
    return "\n\n".join(parts)


def _doc(kind: type) -> str:
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split())


def _keys(rows: Any) -> str:
    return _table([("key", "values", "default", "unit", "meaning"), *((f"`{row[0]}`", *row[1:]) for row in rows)])


def _table(rows: list[Any]) -> str:
    lines = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _fields(kind: type, prefix: str = "") -> Iterator[tuple[str, str, str, str, str]]:
    """Key, values, default, unit and meaning of each field of a configuration."""
    hints, docs = get_type_hints(kind, include_extras=True), field_docs(kind)
    for field in dataclasses.fields(kind):
        values, unit = values_text(hints[field.name])
        default = "needed" if field.default is dataclasses.MISSING else _default(field.default)
        yield f"{prefix}{field.name}", values, default, unit, docs.get(field.name, "")


def _default(value: Any) -> str:
    return "empty" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def field_docs(kind: type) -> dict[str, str]:
    """The text beneath each field in the class's source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            docs[field.target.id] = " ".join(str(after.value.value).split())  # type: ignore[attr-defined]  # is_text
    return docs


def values_text(annotation: Any) -> tuple[str, str]:
    """What an annotated type allows, as people write it, and its unit."""
    if get_origin(annotation) in (Union, types.UnionType):
        options = [one for one in get_args(annotation) if one is not type(None)]
        texts = [values_text(one) for one in options]
        return ", ".join(text for text, _ in texts), next((unit for _, unit in texts if unit), "")
    if get_origin(annotation) is Annotated:
        base, *metadata = get_args(annotation)
        text, unit = values_text(base)
        signs = {Gt: ">", Ge: ">=", Lt: "<", Le: "<="}
        bounds = [f"{signs[type(one)]} {_bound(one):g}" for one in metadata if type(one) in signs]
        unit = next((one.unit for one in metadata if isinstance(one, Unit)), unit)
        return " ".join([text, " and ".join(bounds)]).strip(), unit
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation)), ""
    names = {int: "whole number", float: "number", bool: "true, false", str: "text"}
    return names.get(annotation, str(annotation)), ""


def _bound(limit: Any) -> float:
    return float(next(getattr(limit, field.name) for field in dataclasses.fields(limit)))


if __name__ == "__main__":
    sys.stdout.write(page())
