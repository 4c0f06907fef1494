"""All errors that a user may see, and their exit codes.

    ExplainedError                    (data_utils.errors: what, where, got, expected, hint)
    ├── DataError               2     a data set is missing or faulty; nothing was started
    ├── ResourceError           3     (data_utils.errors) disk, database, GPU, workers; a retry may help
    └── SearchError
        ├── DefinitionError     2     a study file, a setting or a flag is wrong; nothing was started
        └── NegativeAnswer      1     it ran, and the answer is no

Any other exception is a bug of this program: exit code 4.
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
    "require_in_range",
]


class ExitCode(enum.IntEnum):
    """Exit codes of the process."""

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
    """The command ran, and the answer is no: no trial finished, too many failed, a number was not reproduced."""

    exit_code = ExitCode.NO


@contextlib.contextmanager
def os_errors(what: str, *, where: Path | str, hint: str) -> Iterator[None]:
    """Converts an `OSError` in the block into a `ResourceError`."""
    try:
        yield
    except OSError as error:
        raise ResourceError(what, where=str(where), got=error.strerror, hint=hint) from error


def exit_code_of(error: ExplainedError) -> ExitCode:
    """The exit code for an error."""
    if isinstance(error, SearchError):
        return error.exit_code
    if isinstance(error, DataError):
        return ExitCode.WRONG_INPUT
    return ExitCode.RESOURCE if isinstance(error, ResourceError) else ExitCode.BUG


def require_in_range(name: str, value: float, low: int, high: int = 10**9) -> None:
    """Refuses the value of an option that is not between `low` and `high`.

    Raises:
        DefinitionError: see above.
    """
    if not low <= value <= high:
        limit = f"at least {low:,}" if value < low else f"at most {high:,}"
        raise DefinitionError(f"`{name}` is out of its range", got=str(value), expected=limit)
