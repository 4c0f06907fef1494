"""Every error that a person may meet, and the exit code it ends in.

    ExplainedError                    (data_utils.errors: what, where, got, expected, hint)
    ├── DataError               2     a data set is not what it should be; nothing was started
    ├── ResourceError           3     (data_utils.errors) disk, database, GPU, workers; trying again may help
    └── SearchError
        ├── DefinitionError     2     a study file, a setting or a flag is wrong; nothing was started
        └── NegativeAnswer      1     it ran, and the answer is no

Anything else is a fault of this program: exit code 4.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from pathlib import Path

from data_utils.errors import DataError, ExplainedError, ResourceError

__all__ = [
    "DefinitionError",
    "ExitCode",
    "NegativeAnswer",
    "ResourceError",
    "SearchError",
    "exit_code_of",
    "os_errors",
]


class ExitCode(enum.IntEnum):
    """What the process answers."""

    DONE = 0
    NO = 1
    WRONG_INPUT = 2
    RESOURCE = 3
    BUG = 4
    INTERRUPTED = 130
    TERMINATED = 143


class SearchError(ExplainedError):
    """An error of the search tool with an exit code of its own."""

    exit_code = ExitCode.BUG


class DefinitionError(SearchError):
    """A study file, a setting or a flag is wrong. Nothing was started."""

    exit_code = ExitCode.WRONG_INPUT


class NegativeAnswer(SearchError):
    """It ran, and the answer is no: no trial finished, too many failed, a number did not come back."""

    exit_code = ExitCode.NO


@contextlib.contextmanager
def os_errors(what: str, *, where: Path | str, hint: str) -> Iterator[None]:
    """Turns an `OSError` inside the block into a `ResourceError`."""
    try:
        yield
    except OSError as error:
        raise ResourceError(what, where=str(where), got=error.strerror, hint=hint) from error


def exit_code_of(error: ExplainedError) -> ExitCode:
    """The exit code that an error ends in."""
    if isinstance(error, SearchError):
        return error.exit_code
    kinds = {DataError: ExitCode.WRONG_INPUT, ResourceError: ExitCode.RESOURCE}
    return next((code for kind, code in kinds.items() if isinstance(error, kind)), ExitCode.BUG)
