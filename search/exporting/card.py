"""The model card of an exported model: what it is, what it was trained on, what it can do and what it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2

from data_utils.wording import counted
from search import BASELINE_TRIAL
from search.exporting.export import Exported
from search.wording import format_number

_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]()#+!|<>~"})


def card_text(exported: Exported, metrics: Mapping[str, Any], folder: str) -> str:
    """The card as Markdown. `metrics` as in `metrics.json`; `folder` is what the model's folder is called."""
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
        rows=list(_rows(metrics, in_turn=bool(exported.data.get("folds")))),
    )


def _rows(metrics: Mapping[str, Any], *, in_turn: bool) -> Iterator[tuple[str, str, float, float]]:
    """What was measured: of what, on whose clips, accuracy, loss. `in_turn`: the search validated on folds."""
    mine, known = metrics["this_model"], metrics["configuration"]
    if found := mine["validation"]:
        yield "this model", _whose("validation", found), found["val_top1"], found["val_loss"]
    else:
        whose = "training signers in turn" if in_turn else "validation signers"
        yield "in the search", whose, known["searched"]["val_top1"], known["searched"]["val_loss"]
    if found := mine["sealed"]:
        yield "this model", _whose("sealed", found), found["top1"], found["loss"]
    if found := known["sealed"]:
        clips = f"sealed: {counted(found['clips'], 'clip')}"
        yield f"mean of {counted(found['seeds'], 'seed')}", clips, found["top1"], found["loss"]


def _whose(part: str, found: Mapping[str, Any]) -> str:
    clips = f", {counted(found['clips'], 'clip')}" if "clips" in found else ""
    return f"{part}: {_names(found['signers'])}{clips}"


def _names(signers: Sequence[str]) -> str:
    return f"{counted(len(signers), 'signer')} ({', '.join(_plain(signer) for signer in signers)})"


def _plain(text: str) -> str:
    """Text of other people that Markdown leaves as it is, on one line."""
    return " ".join(text.translate(_MARKS).split())
