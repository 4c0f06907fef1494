"""A warning about a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from data_utils.errors import ExplainedError

MAX_NAMED = 3
"""Clips, files or words that a warning names."""

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


def some(texts: Sequence[str], most: int = MAX_NAMED) -> str:
    """The first few of some texts, and how many more there are."""
    rest = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {rest:,} more" if rest > 0 else "")
