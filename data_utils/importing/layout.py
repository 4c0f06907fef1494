"""Where the clips of whom are in a folder of files: a pattern of paths such as `{word}/{signer}_{clip}.npy`.

{signer} {word} {clip} {session} {any}      some text without a slash
{frame}                                     a frame's number: each file holds one frame
{signer:[^_]+}                              what matches a regular expression, here a text without underscores
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_utils.errors import DataError
from data_utils.wording import suggest

COMMANDS = {
    "import-npy": (".npy", ".npz"),
    "import-hdf5": (".hdf5", ".h5", ".hdf"),
    "import-kaggle": (".parquet",),
    "import-pose": (".pose",),
    "import-video": (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".gif", ".mpg", ".mpeg", ".wmv", ".3gp"),
}
"""What reads which files."""

_MAX_LOOKED_AT = 10_000  # names of files
_FIELDS = ("signer", "word", "clip", "session", "frame", "any")
_FIELD = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")
_FOREIGN_FOLDERS = frozenset({"__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})


@dataclass(frozen=True)
class Kind:
    """A kind of files."""

    noun: str
    suffixes: tuple[str, ...]
    """Endings in lower case, the usual one first. In names, they may have any case."""

    name_clips: bool = False
    """Whether a clip is named after its file if nothing else names it."""

    def has(self, name: str) -> bool:
        """Whether a file of this name is of the kind, and not hidden."""
        return name.lower().endswith(self.suffixes) and not name.startswith(".")


@dataclass(frozen=True)
class Found:
    """A folder of the source."""

    kind: Kind
    """Of the files that are searched."""

    names: tuple[str, ...]
    """Of the folders from the source to this one, as on the disk."""

    files: int
    """Number of these files directly in it."""

    first: str
    """The first of them by name; empty if there is none."""

    others: int
    """Number of files of other kinds in it, without hidden ones."""

    listed: tuple[str, ...] | None = None
    """Names of the files that are searched, if the folder is in an archive."""

    @property
    def path(self) -> str:
        """Its path within the source."""
        return "/".join(self.names)

    def file_names(self, source: Path) -> list[str]:
        """Names of the files that are searched, sorted."""
        return file_names(source / self.path, self.kind) if self.listed is None else list(self.listed)


@dataclass(frozen=True)
class Layout:
    """A pattern of paths, compiled."""

    text: str
    patterns: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]
    """The first pair that matches a path tells its fields: one pattern with the shortest texts, one with the longest. In the
    first pair, a clip is a number: thank_you_1 is clip 1 of thank_you."""

    levels: int
    """Number of names in a path."""

    frames: bool
    """Whether each file holds one frame."""

    frames_fill_folders: bool
    """Whether all frames in a folder belong to one clip."""

    def fields(self, path: str) -> dict[str, str] | None:
        """The texts of a path's fields; None for another path. `any` has all texts of its fields, joined by two underscores.

        Raises:
            DataError: the path can be read in more than one way.
        """
        path = unicodedata.normalize("NFC", path)
        both = [[one.fullmatch(path) for one in pair] for pair in self.patterns if path.count("/") == self.levels - 1]
        shortest, longest = next(
            ([one.groupdict() for one in pair if one is not None] for pair in both if None not in pair), ({}, {})
        )
        if not shortest:
            return None
        found = shortest
        if differing := [name for name in shortest if shortest[name] != longest[name] and not name.startswith("any")]:
            raise self._two_ways(path, shortest, longest, differing)
        anything = [found.pop(name) for name in sorted(found) if name.startswith("any")]
        return {**found, "any": "__".join(anything)}

    def clip_key(self, fields: Mapping[str, str]) -> tuple[str, ...]:
        """What the frames of one clip have in common."""
        return tuple(sorted(f"{name}={text}" for name, text in fields.items() if name != "frame"))

    def has(self, field: str) -> bool:
        """Whether it has a field."""
        return field in (name for name, _ in _FIELD.findall(self.text))

    def _two_ways(self, path: str, one: Mapping[str, str], other: Mapping[str, str], differing: Sequence[str]) -> DataError:
        told = ["; ".join([path, *(f"{name} {way[name]}" for name in differing)]) for way in (one, other)]
        field = min(differing, key=lambda name: (name == "word", _FIELDS.index(name)))
        letter = next((char for char in "_- ." if char in one[field] + other[field]), "")
        narrow = f"{{{field}:[^{letter}]+}}" if letter else f"{{{field}:[a-z]+}}"
        which = f"without `{letter}`" if letter else "of letters only"
        return DataError(
            "--layout: a path can be read in two ways",
            got="\n".join(told),
            expected="one way for every path",
            hint=f"say what a field may hold, such as {{{field}:[0-9]+}} for numbers, "
            f"or --layout {shlex.quote(self.text.replace(f'{{{field}}}', narrow))} for every {field} {which}",
        )


@functools.cache
def parse_layout(text: str, kind: Kind) -> Layout:
    """Compiles a pattern of paths. Without an ending, all endings of the kind are meant.

    Raises:
        DataError: it has an unknown field or a wrong expression, or lacks the word.
    """
    example = f"for example --layout '{{word}}/{{signer}}_{{clip}}{kind.suffixes[0]}'"
    plain = unicodedata.normalize("NFC", text.strip().removeprefix("./"))
    names = [name for name, _ in _FIELD.findall(plain)]
    for name, inside in _FIELD.findall(plain):
        if "/" in inside or not _is_expression(inside):
            raise DataError("--layout: a field has a wrong regular expression", got=inside, hint="for example {signer:[^_]+}")
        if name not in _FIELDS:
            known = " ".join(f"{{{field}}}" for field in _FIELDS)
            raise DataError(f"--layout: there is no field `{{{name}}}`", got=text, expected=known, hint=suggest(name, _FIELDS))
    if "word" not in names:
        raise DataError("--layout does not tell the word", got=text, expected="a pattern with {word}", hint=example)
    if plain.startswith("/") or ".." in plain.split("/"):
        raise DataError("--layout is not a path within the source", got=text, hint=example)
    fill = {name for name, _ in _FIELD.findall(plain.rsplit("/", 1)[-1])} == {"frame"}
    texts = {"frame": "[^/]+" if fill else "[0-9]+"}
    patterns = tuple(
        (_pattern(plain, fixed, kind, "?"), _pattern(plain, fixed, kind, "")) for fixed in ({**texts, "clip": "[0-9]+"}, texts)
    )
    return Layout(plain, patterns, plain.count("/") + 1, "frame" in names, fill)


def _is_expression(text: str) -> bool:
    if "(?P" in text:  # the names of groups are fields
        return False
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _pattern(layout: str, texts: Mapping[str, str], kind: Kind, lazy: str) -> re.Pattern[str]:
    """The pattern of a layout.

    Args:
        layout: the layout.
        texts: patterns of fields that are not any text.
        kind: of files.
        lazy: `?` for the shortest texts of all fields, or empty.
    """
    expression = ""
    seen: list[str] = []
    for piece in re.split(r"(\{[^{}]*\})", layout):
        field = _FIELD.fullmatch(piece)
        name, inside = field.groups() if field else ("", None)
        if not name:
            expression += re.escape(piece)
        elif name == "any":
            expression += f"(?P<any{len(seen)}>{inside or '[^/]*' + lazy})"
        elif name in seen:
            expression += f"(?P={name})"
        else:
            expression += f"(?P<{name}>{inside or texts.get(name, '[^/]+') + lazy})"
        seen.append(name)
    if not layout.lower().endswith(kind.suffixes):
        expression += f"(?:{'|'.join(map(re.escape, kind.suffixes))})"
    return re.compile(expression, re.IGNORECASE)


def scan(source: Path, kind: Kind) -> list[Found]:
    """All folders of the source and the source itself, sorted, without hidden ones and those of systems, such as `__MACOSX`.

    Raises:
        DataError: there is no such folder, or no file of the kind in it.
    """
    expected = f"a folder with {kind.noun}s: {', '.join(kind.suffixes)}"
    if not source.is_dir():
        what = "the source is a file, not a folder" if source.exists() else "there is no such folder"
        raise DataError(what, file=source, expected=expected)
    found = list(_scan(source, kind))
    if not any(folder.files for folder in found):
        raise DataError(f"the folder contains no {kind.noun}", file=source, expected=expected, hint=_other_command(source))
    return found


def scan_archive(archive: Path, paths: Iterable[str], kind: Kind) -> list[Found]:
    """All folders of an archive, as `scan` finds them in a folder.

    Args:
        archive: its file.
        paths: of the files in it.
        kind: of the files that are searched.

    Raises:
        DataError: no file of the kind is in it.
    """
    files: dict[tuple[str, ...], list[str]] = {(): []}
    for path in paths:
        *folders, file = path.split("/")
        if not any(name == "" or name.startswith(".") or name in _FOREIGN_FOLDERS for name in folders):
            for depth in range(len(folders)):
                files.setdefault(tuple(folders[:depth]), [])
            files.setdefault(tuple(folders), []).append(file)
    found = []
    for names, inside in sorted(files.items()):
        listed = tuple(sorted(filter(kind.has, inside)))
        others = sum(_counts(name) for name in inside) - len(listed)
        found.append(Found(kind, names, len(listed), listed[0] if listed else "", others, listed))
    if not any(folder.files for folder in found):
        raise DataError(f"the archive contains no {kind.noun}", file=archive, expected=f"{', '.join(kind.suffixes)} files")
    return found


def _counts(name: str) -> bool:
    """Whether a file is one that a person put there."""
    return not name.startswith(".") and name not in ("Thumbs.db", "desktop.ini")


def _other_command(source: Path) -> str | None:
    """The command that reads what is in a folder instead, if there is one."""
    names = (name.lower() for _, _, names in os.walk(source) for name in names if not name.startswith("."))
    for name in itertools.islice(names, _MAX_LOOKED_AT):
        for command, suffixes in COMMANDS.items():
            if name.endswith(suffixes):
                return f"{Path(name).suffix} files are read by islr-data {command}"
    return None


def file_names(folder: Path, kind: Kind) -> list[str]:
    """Names of the files of a kind in a folder, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if kind.has(entry.name) and not entry.is_dir())


def _scan(source: Path, kind: Kind) -> Iterator[Found]:
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        names = waiting.pop()
        folder = source.joinpath(*names)
        first, files, others = "", 0, 0
        deeper = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if kind.has(entry.name) and not entry.is_dir():
                    files += 1
                    first = min(first, entry.name) if first else entry.name
                elif entry.is_dir():
                    if entry.name not in _FOREIGN_FOLDERS and not (entry.is_symlink() and _is_above(entry.path, folder)):
                        deeper.append(entry.name)
                else:
                    others += _counts(entry.name)
        yield Found(kind, names, files, first, others)
        waiting += [(*names, name) for name in sorted(deeper, reverse=True)]


def _is_above(link: str, folder: Path) -> bool:
    """Whether a link leads to the folder that contains it, or to one above: its files would be found without an end."""
    return folder.resolve().is_relative_to(os.path.realpath(link))
