"""Errors that explain themselves.

    ExplainedError          what, where, got, expected, what to do next
    ├── DataError           a data set is not what it should be
    └── ResourceError       a disk, a database or a machine stands in the way; trying again may help

`search.errors` grows the same tree further and gives each branch its exit code.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any, ClassVar

_LONGEST = 1000  # characters of a line; no path, and nothing that a person can take in, is longer


class ExplainedError(Exception):
    """An error whose text tells a person what is wrong, where, and what to do next.

    `render` gives the form that every command prints:

        error: the label is outside the dictionary
          --> data/1001.hdf5: /1001000000/token
        got: 12
        expected: a class number from 0 to 9
        hint: ...
    """

    label: ClassVar[str] = "error"
    """The first word."""

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
        return _rebuilt, (type(self), self.args, self.__dict__)  # for the way out of a worker process

    def render(self) -> str:
        """The error as lines of text, without a final newline.

        What it quotes may hold anything: control characters are written out, further lines are indented.
        """
        lines = [f"{self.label}: {escape_line(self.what)}"]
        if self.where is not None:
            lines.append(f"  --> {escape_line(self.where)}")
        for label in ("got", "expected", "hint"):
            text = getattr(self, label)
            if text is not None:
                lines.append(f"{label}: {_shown(text)}")
        return "\n".join(lines)


def _shown(text: str) -> str:
    first, *others = text.split("\n")
    return "\n".join(
        escape_line(line) for line in [first, *(line if line.startswith("  ") else f"  {line}" for line in others)]
    )


def escape_line(line: str) -> str:
    """A line that a terminal may be given: control characters are written out."""
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
    return "".join(f"\\u{ord(mark):04x}" if unicodedata.category(mark) in ("Cc", "Cs", "Zl", "Zp") else mark for mark in line)


def _rebuilt(kind: type[ExplainedError], args: tuple[Any, ...], fields: dict[str, Any]) -> ExplainedError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class DataError(ExplainedError):
    """A data set, a file or a clip is not what it should be."""

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
        """`file` is the file or folder, `path` the place inside it (an HDF5 path)."""
        where = None if file is None else str(file) if path is None else f"{file}: {path}"
        super().__init__(what, where=where, got=got, expected=expected, hint=hint)
        self.file = None if file is None else Path(file)
        self.path = path


class ResourceError(ExplainedError):
    """Disk, database, GPU, worker or another run stands in the way. Trying again may help."""
