"""Reads CSV files that list one clip per line, and finds the files that they name.

Columns are separated by commas, semicolons or tabs; each may have one of several names, in any case. Other columns are ignored.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Any

from data_utils.errors import DataError
from data_utils.importing.importing import FORBIDDEN_CHARACTERS

COPY_AGAIN = "copy or download it again"
MISSING_VALUES = frozenset({"nan", "NaN", "None", "<NA>"})
"""What pandas writes for a missing value, if it is written as text. A word may be one of these, a signer's name is not."""

_DELIMITERS = ",;\t"
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/")
_ABOVE = re.compile(r"(?:\./+)*\.\./")


def nfc(text: str) -> str:
    """A text as texts are compared: in Unicode form NFC, without spaces around it."""
    return unicodedata.normalize("NFC", text).strip()


@dataclass(frozen=True)
class Line:
    """A line of a list, or several that are one row."""

    file: Path
    """The list."""

    number: int
    """Of its last line in the file, from 1."""

    texts: Mapping[str, str]
    """By what they are; without spaces around them."""

    column: Mapping[str, str]
    """Name of the column by what it tells."""

    def text(self, what: str, *, empty: Collection[str] = (), hint: str | None = None) -> str:
        """What a column tells, in Unicode form NFC.

        Args:
            what: what it tells.
            empty: texts that mean nothing too.
            hint: what to do if it is empty.

        Raises:
            DataError: it is empty.
        """
        text = nfc(self.texts[what])
        if not text or text in empty:
            got = f"`{text}` in the column `{self.column[what]}`" if text else None
            raise self.fault(f"a line of the list has no {what}", got=got, hint=hint)
        return text

    def file_path(self) -> str:
        """The path that the column `path` tells, with slashes, in the Unicode form of the list.

        Raises:
            DataError: it is empty, or no path.
        """
        self.text("path")
        path = self.texts["path"].replace("\\", "/")
        if FORBIDDEN_CHARACTERS.search(path):
            raise self.fault("a path in the list has characters that no path has", got=repr(path))
        return path

    def fault(self, what: str, **details: Any) -> DataError:
        """An error that names this line."""
        return DataError(what, file=self.file, path=f"line {self.number}", **details)


@dataclass(frozen=True)
class ClipList:
    """A list of clips."""

    path: Path
    content: str
    header: tuple[str, ...]
    column: Mapping[str, str]
    """Name of the column by what it tells; what no column tells is left out."""

    def lines(self) -> Iterator[Line]:
        """The lines of the list, without empty ones.

        Raises:
            DataError: the list is not valid CSV, or a line has other fields than the header.
        """
        place = {what: self.header.index(name) for what, name in self.column.items()}
        rows = _rows(self.content)
        try:
            next(rows, None)
            for number, fields in rows:
                if not any(fields):
                    continue
                line = Line(self.path, number, {what: fields[i] for what, i in place.items() if i < len(fields)}, self.column)
                if len(line.texts) < len(place):
                    raise line.fault("a line of the list is cut short", hint=COPY_AGAIN)
                if any(fields[len(self.header) :]):
                    raise line.fault("a line of the list has too many fields", hint="quote fields with a comma")
                yield line
        except csv.Error as error:
            raise _not_csv(self.path, error) from error


def read_list(path: Path, data: bytes, columns: Mapping[str, tuple[str, ...]]) -> ClipList:
    """Reads the header of a list.

    Args:
        path: its file.
        data: what the file contains.
        columns: names of the columns by what they tell; the first that exists is read.

    Raises:
        DataError: it is not CSV in UTF-8, or two columns have the same name.
    """
    try:
        content = data.decode("utf-8-sig")
        header = header_of(content)
    except (csv.Error, UnicodeDecodeError) as error:
        raise _not_csv(path, error) from error
    found = find_columns(header, columns)
    for name in found.values():
        if header.count(name) > 1:
            raise DataError(
                "two columns of the list have the same name", file=path, got=", ".join(header), hint=f"rename a `{name}`"
            )
    return ClipList(path, content, header, found)


def header_of(content: str) -> tuple[str, ...]:
    """The names of the columns of a CSV file.

    Raises:
        csv.Error: it is not one.
    """
    _, header = next(_rows(content), (0, []))
    return tuple(header)


def find_columns(header: tuple[str, ...], columns: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Name of the column by what it tells."""
    known = {**{name.lower(): name for name in header}, **{name: name for name in header}}
    found = {what: next((known[name] for name in names if name in known), None) for what, names in columns.items()}
    return {what: name for what, name in found.items() if name is not None}


def _rows(content: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file with the number of their last line; fields without spaces around them."""
    stream = io.StringIO(content, newline=None)  # lines may end in a carriage return alone
    delimiter = max(_DELIMITERS, key=stream.readline().count)
    stream.seek(0)
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    for fields in reader:
        yield reader.line_num, [field.strip() for field in fields]


def _not_csv(path: Path, error: Exception) -> DataError:
    return DataError("the list is not valid CSV in UTF-8", file=path, got=str(error), hint="save it as CSV in UTF-8")


class Locator:
    """Finds the files of a list in its source.

    A path that is absolute or begins with `..` may come from another machine: then it is looked for below the source, without
    its first names. A file is also found under another Unicode form of its name, which archives made on macOS have.
    """

    def __init__(self, source: Path, exists: Callable[[Path], bool] = Path.exists) -> None:
        self._source = source
        self._exists = exists
        self._before: list[str] = []  # first names of the latest path, which the source does not have

    def __call__(self, file: str) -> str:
        """The path, relative to the source unless it is absolute and lies elsewhere on this machine."""
        if not is_absolute(file) and not _ABOVE.match(file):
            return file if file.isascii() else self._below_source(file) or file
        if is_absolute(file) and self._exists(Path(file)):
            return file
        names, known = inner_names(file), len(self._before)
        for skip in (*([known] if names[:known] == self._before else []), *range(len(names))):
            tail = "/".join(names[skip:])
            if tail and (below := self._below_source(tail)):
                self._before = names[:skip]
                return below
        return "/".join(names[-3:])  # missing: told as such, with all others

    def _below_source(self, file: str) -> str | None:
        forms = dict.fromkeys((file, *(unicodedata.normalize(form, file) for form in ("NFC", "NFD"))))
        return next((form for form in forms if self._exists(self._source / form)), None)


def is_absolute(file: str) -> bool:
    """Whether a path, with slashes, is absolute on some system."""
    return _ABSOLUTE.match(file) is not None


def inner_names(file: str) -> list[str]:
    """The names in a path without leading `..`."""
    return list(dropwhile(lambda name: name in ("", ".", ".."), file.split("/")))
