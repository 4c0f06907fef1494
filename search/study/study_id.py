"""A study's own id, made with it and stored in it. Names can be used again; what belongs to a study carries its id."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import optuna

from search.study.presence import all_studies

ID = "id"
"""The study attribute that holds the id, and the number under which the database knew the study then."""

SHORT = 8
"""Digits of an id in the names of folders and of companions."""


def study_id(study: optuna.Study) -> str | None:
    """A study's id; None if it was made by an earlier version, or if another program has copied it from a study with an id.

    Optuna's copies carry the id of their original. Renaming a study in the dashboard is a copy too, whose original is deleted:
    so of several studies with one id, it belongs to the one that the id was made for, else to the oldest.
    """
    id, row = _stored(study.user_attrs)
    if id is None or row == study._study_id:
        return id
    rows = {}
    for one in all_studies(study._storage):
        other, original_row = _stored(one.user_attrs)
        if other == id:
            rows[one._study_id] = original_row == one._study_id
    heir = min(rows, key=lambda number: (not rows[number], number), default=study._study_id)
    return id if heir == study._study_id else None


def is_foreign_copy(study: optuna.Study) -> bool:
    """Whether another program has copied the study, with the id of the original."""
    return ID in study.user_attrs and study_id(study) is None


def assign_id(study: optuna.Study) -> None:
    """Gives a study a new id. Only in the study's turn."""
    bind_id(study, secrets.token_hex(16))


def bind_id(study: optuna.Study, id: str) -> None:
    """Records that an id is that of a study, which has another number in the database since it was renamed."""
    value = {"id": id, "row": study._study_id}
    if study.user_attrs.get(ID) != value:
        study.set_user_attr(ID, value)


def id_in(attributes: Mapping[str, Any]) -> str | None:
    """The id in a study's attributes, whether or not it is the study's own; None if there is none that can be read."""
    return _stored(attributes)[0]


def _stored(attributes: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """The id in a study's attributes and the number it was made for."""
    stored = attributes.get(ID)
    if not isinstance(stored, dict) or not isinstance(stored.get("id"), str):
        return None, None
    return stored["id"], stored.get("row")
