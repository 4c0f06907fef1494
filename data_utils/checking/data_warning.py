"""A warning about a data set."""

from __future__ import annotations

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


class DataWarning(ExplainedError):
    """A warning: what is unusual, where, and what can be done."""

    label = "warning"

    def record(self) -> WarningRecord:
        """The warning as plain values."""
        return WarningRecord(what=self.what, where=self.where, got=self.got, hint=self.hint)
