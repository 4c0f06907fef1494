"""The model card of an exported model: what it is, how it was trained, what it can and cannot do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2

from data_utils.wording import counted
from search import BASELINE_TRIAL
from search.exporting.export import Exported
from search.wording import format_number

_ESCAPES = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]()#+!|<>~"})


def card_text(exported: Exported, metrics: Mapping[str, Any], folder: str) -> str:
    """The card as Markdown. `metrics` as in `metrics.json`; `folder` is the name of the model's folder."""
    loader = jinja2.PackageLoader("search.exporting")
    environment = jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters |= {"plain": _plain, "names": _names, "counted": counted}
    return environment.get_template("card.md").render(
        study=exported.study,
        about=exported.about,
        words=exported.data["words"],
        objective=metrics["objective"],
        settings={name: format_number(value) for name, value in {**exported.train, **exported.model}.items()},
        folder=folder,
        kind=metrics["kind"],
        is_baseline=exported.trial == BASELINE_TRIAL,
        mine=metrics["this_model"],
        temperature_known="temperature" in exported.recorded,
        confirmed=metrics["configuration"]["confirmed"],
        caution=exported.caution[:1].upper() + exported.caution[1:],
        rows=list(_rows(metrics, has_folds=bool(exported.data.get("folds")))),
    )


def _rows(metrics: Mapping[str, Any], *, has_folds: bool) -> Iterator[tuple[str, str, float, float]]:
    """What was measured: of which models, on whose clips, accuracy and loss."""
    mine, known = metrics["this_model"], metrics["configuration"]
    if results := mine["validation"]:
        yield "this model", _whose("validation", results), results["val_top1"], results["val_loss"]
    else:
        of = metrics.get("split", "signers")
        whose = f"training {of}, by fold" if has_folds else f"validation {of}"
        yield "in the search", whose, known["searched"]["val_top1"], known["searched"]["val_loss"]
    if results := mine["sealed"]:
        yield "this model", _whose("sealed", results), results["top1"], results["loss"]
    if results := known["sealed"]:
        clips = f"sealed: {counted(results['clips'], 'clip')}"
        yield f"mean of {counted(results['seeds'], 'seed')}", clips, results["top1"], results["loss"]


def _whose(part: str, results: Mapping[str, Any]) -> str:
    clips = f", {counted(results['clips'], 'clip')}" if "clips" in results else ""
    return f"{part}: {_names(results['signers'])}{clips}"


def _names(signers: Sequence[str]) -> str:
    return f"{counted(len(signers), 'signer')} ({', '.join(_plain(signer) for signer in signers)})"


def _plain(text: str) -> str:
    """Untrusted text on one line, escaped so that Markdown shows it as it is."""
    return " ".join(text.translate(_ESCAPES).split())
