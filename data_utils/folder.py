"""The files of a data folder: one HDF5 file per signer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_utils.errors import DataError

_MIRRORED_SUFFIX = "_swap"


@dataclass(frozen=True)
class SignerFile:
    """One HDF5 file and the signer whose clips it contains."""

    path: Path
    signer: str
    """The file's stem without `_swap`. Signers are compared by this whole name."""

    mirrored: bool
    """True for `<signer>_swap.hdf5`."""


def signer_files(folder: Path) -> list[SignerFile]:
    """The signers' files, sorted by file name.

    Raises:
        DataError: the folder does not exist, or contains no `*.hdf5`.
    """
    if not folder.is_dir():
        what = "the data set is a file, not a folder" if folder.exists() else "there is no such data folder"
        raise DataError(what, file=folder, hint="name a folder with one HDF5 file per signer")
    paths = sorted(p for p in folder.iterdir() if p.suffix == ".hdf5" and not p.name.startswith("."))
    if not paths:
        raise DataError(
            "the data folder contains no signer's file",
            file=folder,
            expected="files named <signer>.hdf5",
            hint="`islr-data synth DIR` creates a data set to try things with",
        )
    files = []
    for path in paths:
        mirrored = path.stem.endswith(_MIRRORED_SUFFIX)
        files.append(SignerFile(path, path.stem.removesuffix(_MIRRORED_SUFFIX), mirrored))
    return files


def check_plain_file(path: Path) -> None:
    """Rejects a path that is not a regular file (opening a pipe would block forever), or whose name is not UTF-8.

    Raises:
        DataError: it is one of these. A missing file is accepted.
    """
    if path.exists() and not path.is_file():
        raise DataError("this is not a file", file=path, hint="move it elsewhere")
    if not is_utf8(str(path)):
        raise DataError("the file's name is not UTF-8", file=path, hint="rename it")


def is_utf8(text: str) -> bool:
    """Whether a text can be encoded. Python represents bytes that are not UTF-8 as surrogates, which cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def missing_originals(files: Sequence[SignerFile]) -> list[DataError]:
    """An error for each file of mirrored copies without a file of originals."""
    originals = {file.signer for file in files if not file.mirrored}
    return [
        DataError("a mirrored copy has no original", file=file.path, expected=f"{file.signer}.hdf5 beside it")
        for file in files
        if file.signer not in originals
    ]
