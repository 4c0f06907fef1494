"""Where the clips of whom are in a folder of files: a pattern of paths such as `{word}/{signer}_{clip}.npy`.

{signer} {word} {clip} {session} {any}      some text without a slash
{frame}                                     a frame's number: each file holds one frame
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from data_utils.errors import DataError
from data_utils.wording import suggest

_COMMANDS = {
    "import-npy": (".npy", ".npz"),
    "import-hdf5": (".hdf5", ".h5", ".hdf"),
    "import-kaggle": (".parquet",),
    "import-pose": (".pose",),
    "import-video": (".mp4", ".mov", ".avi", ".mkv", ".webm"),
}
_MAX_LOOKED_AT = 10_000  # names of files
_FIELDS = ("signer", "word", "clip", "session", "frame", "any")
_FIELD = re.compile(r"\{([^{}]*)\}")
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
    patterns: tuple[re.Pattern[str], ...]
    """The first that matches a path tells its fields. In the first, a clip is a number: thank_you_1 is clip 1 of thank_you."""

    levels: int
    """Number of names in a path."""

    frames: bool
    """Whether each file holds one frame."""

    frames_fill_folders: bool
    """Whether all frames in a folder belong to one clip."""

    def fields(self, path: str) -> dict[str, str] | None:
        """The texts of a path's fields; None for another path. `any` has all texts of its fields, joined by two underscores."""
        path = unicodedata.normalize("NFC", path)
        match = next(filter(None, (pattern.fullmatch(path) for pattern in self.patterns)), None)
        if match is None:
            return None
        found = match.groupdict()
        anything = [found.pop(name) for name in sorted(found) if name.startswith("any")]
        return {**found, "any": "__".join(anything)}

    def clip_key(self, fields: Mapping[str, str]) -> tuple[str, ...]:
        """What the frames of one clip have in common."""
        return tuple(sorted(f"{name}={text}" for name, text in fields.items() if name != "frame"))

    def has(self, field: str) -> bool:
        """Whether it has a field."""
        return f"{{{field}}}" in self.text


@functools.cache
def parse_layout(text: str, kind: Kind) -> Layout:
    """Compiles a pattern of paths. Without an ending, all endings of the kind are meant.

    Raises:
        DataError: it has an unknown field, or lacks the word.
    """
    example = f"for example --layout '{{word}}/{{signer}}_{{clip}}{kind.suffixes[0]}'"
    plain = unicodedata.normalize("NFC", text.strip().removeprefix("./"))
    names = _FIELD.findall(plain)
    for name in names:
        if name not in _FIELDS:
            known = " ".join(f"{{{field}}}" for field in _FIELDS)
            raise DataError(f"--layout: there is no field `{{{name}}}`", got=text, expected=known, hint=suggest(name, _FIELDS))
    if "word" not in names:
        raise DataError("--layout does not tell the word", got=text, expected="a pattern with {word}", hint=example)
    if plain.startswith("/") or ".." in plain.split("/"):
        raise DataError("--layout is not a path within the source", got=text, hint=example)
    fill = set(_FIELD.findall(plain.rsplit("/", 1)[-1])) == {"frame"}
    texts = {"frame": "[^/]+?" if fill else "[0-9]+"}
    patterns = (_pattern(plain, {**texts, "clip": "[0-9]+"}, kind), _pattern(plain, texts, kind))
    return Layout(plain, patterns, plain.count("/") + 1, "frame" in names, fill)


def _pattern(layout: str, texts: Mapping[str, str], kind: Kind) -> re.Pattern[str]:
    """The pattern of a layout. `texts`: patterns of fields that are not any text."""
    expression = ""
    seen: list[str] = []
    for piece in re.split(r"(\{[^{}]*\})", layout):
        name = piece[1:-1] if _FIELD.fullmatch(piece) else ""
        if not name:
            expression += re.escape(piece)
        elif name == "any":
            expression += f"(?P<any{len(seen)}>[^/]*?)"
        elif name in seen:
            expression += f"(?P={name})"
        else:
            expression += f"(?P<{name}>{texts.get(name, '[^/]+?')})"
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
    found = list(_scan(source, (), kind))
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
        for command, suffixes in _COMMANDS.items():
            if name.endswith(suffixes):
                return f"{Path(name).suffix} files are read by islr-data {command}"
    return None


def file_names(folder: Path, kind: Kind) -> list[str]:
    """Names of the files of a kind in a folder, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if kind.has(entry.name) and not entry.is_dir())


def _scan(folder: Path, names: tuple[str, ...], kind: Kind) -> Iterator[Found]:
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
                deeper.append(entry.name)
            else:
                others += _counts(entry.name)
    yield Found(kind, names, files, first, others)
    for name in sorted(deeper):
        if name not in _FOREIGN_FOLDERS:
            yield from _scan(folder / name, (*names, name), kind)
