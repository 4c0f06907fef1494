"""Errors that explain themselves.

    ExplainedError          what is wrong, where, what was found, what was expected, what to do next
    ├── DataError           a data set is invalid
    └── ResourceError       a disk, a database or a machine failed; trying again may help

`search.errors` extends this tree and assigns the exit codes.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any, ClassVar

_MAX_LINE = 1000  # characters; no useful line is longer


class ExplainedError(Exception):
    """An error that states what is wrong, where, and what to do next.

    `render` returns the text that every command prints:

        error: the label is outside the dictionary
          --> data/1001.hdf5: /1001000000/token
        got: 12
        expected: a class number from 0 to 9
        hint: ...
    """

    label: ClassVar[str] = "error"
    """First word of the rendered text."""

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        got: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.got = got
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        return self.render()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)  # pickled when a worker process raises it

    def render(self) -> str:
        """The error as lines of text, without a final newline.

        Quoted values may contain anything: control characters are escaped, and continuation lines are indented.
        """
        lines = [f"{self.label}: {escape_line(self.what)}"]
        if self.where is not None:
            lines.append(f"  --> {escape_line(self.where)}")
        for label in ("got", "expected", "hint"):
            text = getattr(self, label)
            if text is not None:
                first, *others = text.split("\n")
                lines.append(f"{label}: {escape_line(first)}")
                lines += [escape_line(line if line.startswith("  ") else f"  {line}") for line in others]
        return "\n".join(lines)


def escape_line(line: str) -> str:
    """A line that is safe to print on a terminal: control characters are escaped, and a very long line is cut."""
    line = line if len(line) <= _MAX_LINE else f"{line[:_MAX_LINE]}..."
    return "".join(f"\\u{ord(char):04x}" if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") else char for char in line)


def _rebuild(kind: type[ExplainedError], args: tuple[Any, ...], fields: dict[str, Any]) -> ExplainedError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class DataError(ExplainedError):
    """A data set, a file or a clip is invalid."""

    def __init__(
        self,
        what: str,
        *,
        file: Path | str | None = None,
        path: str | None = None,
        got: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        """`file` is the file or folder, `path` the place inside the file: an HDF5 path, or a line of a list."""
        where = None if file is None else str(file) if path is None else f"{file}: {path}"
        super().__init__(what, where=where, got=got, expected=expected, hint=hint)
        self.file = None if file is None else Path(file)
        self.path = path


def not_installed(what: str, package: str, extra: str, error: ImportError) -> DataError:
    """The error for files that need a package which is not installed. `what`: which files these are, as a clause."""
    hint = f"pip install 'islr-search[{extra}]'"
    return DataError(f"{what}, and {package} is not installed", got=str(error), expected=package, hint=hint)


class ResourceError(ExplainedError):
    """A disk, database, GPU, worker or another run is in the way. Trying again may help."""
