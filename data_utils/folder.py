"""The files of a data folder: one HDF5 file per signer."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_utils.errors import DataError

MIRRORED_SUFFIX = "_swap"
"""Of the name of a file of mirrored copies."""

_ENDINGS = (".hdf5", ".h5", ".hdf")  # in any case
_OTHER_DATA = (
    *(".npy", ".npz", ".parquet", ".pose", ".mat", ".pkl", ".pickle"),
    *(".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"),
)


@dataclass(frozen=True)
class SignerFile:
    """One HDF5 file and the signer whose clips it contains."""

    path: Path
    signer: str
    """The file's stem without `_swap`, in Unicode form NFC. Signers are compared by this whole name."""

    mirrored: bool
    """True for `<signer>_swap.hdf5`."""


def signer_files(folder: Path) -> list[SignerFile]:
    """The signers' files, sorted by file name.

    Raises:
        DataError: the folder does not exist, contains no HDF5 file, or two files of one signer.
    """
    if not folder.is_dir():
        what = "the data set is a file, not a folder" if folder.exists() else "there is no such data folder"
        raise DataError(what, file=folder, hint="name a folder with one HDF5 file per signer")
    paths = sorted(p for p in folder.iterdir() if _is_signer_file(p))
    if not paths:
        raise DataError(
            "the data folder contains no signer's file",
            file=folder,
            expected="files named <signer>.hdf5",
            hint="`islr-data synth DIR` creates a data set to try things with",
        )
    files: dict[str, SignerFile] = {}
    for path in paths:
        name = unicodedata.normalize("NFC", path.stem)
        file = SignerFile(path, name.removesuffix(MIRRORED_SUFFIX), name.endswith(MIRRORED_SUFFIX))
        if known := files.get(name):
            got = f"{known.path.name} and {path.name}"
            raise DataError("two files of one signer", file=folder, got=got, hint="move one of them elsewhere")
        files[name] = file
    return list(files.values())


def unread_files(folder: Path) -> list[str]:
    """Files and folders of a data folder that look like data but are not read, sorted by name.

    They are files of other formats, HDF5 files under another ending, such as `1001.hdf5.bak`, and folders with HDF5 files.
    """
    return sorted(
        f"{path.name}/" if path.is_dir() else path.name
        for path in folder.iterdir()
        if not path.name.startswith(".") and (_has_signer_file(path) if path.is_dir() else _is_unread(path))
    )


def _is_signer_file(path: Path) -> bool:
    return path.suffix.lower() in _ENDINGS and not path.name.startswith(".")


def _has_signer_file(folder: Path) -> bool:
    try:
        return any(_is_signer_file(path) for path in folder.iterdir())
    except OSError:
        return False


def _is_unread(path: Path) -> bool:
    endings = [ending.lower() for ending in path.suffixes]
    return not _is_signer_file(path) and any(ending.startswith(_ENDINGS) or ending in _OTHER_DATA for ending in endings)


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
