"""Finds the files of a kind in a folder or an archive, folder by folder."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data_utils.errors import DataError

COMMANDS = {
    "import-npy": (".npy", ".npz"),
    "import-hdf5": (".hdf5", ".h5", ".hdf"),
    "import-kaggle": (".parquet",),
    "import-pose": (".pose",),
    "import-video": (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".gif", ".mpg", ".mpeg", ".wmv", ".3gp"),
}
"""What reads which files."""

_MAX_LOOKED_AT = 10_000  # names of files
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
