"""A warning about a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from data_utils.errors import ExplainedError

MAX_SIGNERS = 10
"""Signers that a warning names."""


class WarningRecord(TypedDict):
    """A warning as plain values."""

    what: str
    where: str | None
    got: str | None
    hint: str | None
    clips: list[str]
    """The places of all clips that it is about; empty if it is not about single clips."""


class DataWarning(ExplainedError):
    """A warning: what is unusual, where, and what can be done."""

    label = "warning"

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        got: str | None = None,
        hint: str | None = None,
        clips: Sequence[str] = (),
    ) -> None:
        """`clips`: the places of all clips that it is about, of which `got` names the first few."""
        super().__init__(what, where=where, got=got, hint=hint)
        self.clips = clips

    def record(self) -> WarningRecord:
        """The warning as plain values."""
        return WarningRecord(what=self.what, where=self.where, got=self.got, hint=self.hint, clips=list(self.clips))
