"""What lies in a data folder: the signers' files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from data_utils.errors import DataError

_MIRRORED_ENDING = "_swap"


@dataclass(frozen=True)
class SignerFile:
    """One HDF5 file and whose clips it holds."""

    path: Path
    signer: str
    """The file's stem without `_swap`: the whole name, compared as a whole."""

    mirrored: bool
    """True for `<signer>_swap.hdf5`."""


def signer_files(folder: Path) -> list[SignerFile]:
    """The signers' files, sorted by name.

    Raises:
        DataError: the folder is missing, or holds no `*.hdf5`.
    """
    if not folder.is_dir():
        what = "the data set is a file, not a folder" if folder.exists() else "there is no such data folder"
        raise DataError(what, file=folder, hint="name a folder that holds one HDF5 file a signer")
    paths = sorted(p for p in folder.iterdir() if p.suffix == ".hdf5" and not p.name.startswith("."))
    if not paths:
        raise DataError(
            "the data folder holds no signer's file",
            file=folder,
            expected="files named <signer>.hdf5",
            hint="`python -m data_utils synth DIR` makes a data set to try things with",
        )
    files = []
    for path in paths:
        mirrored = path.stem.endswith(_MIRRORED_ENDING)
        files.append(SignerFile(path, path.stem.removesuffix(_MIRRORED_ENDING), mirrored))
    return files


def check_plain_file(path: Path) -> None:
    """Refuses what is no plain file (to open a pipe is to wait for ever) and a name that no text can hold.

    Raises:
        DataError: see above.
    """
    if path.exists() and not path.is_file():
        raise DataError("this is not a file", file=path, hint="move it elsewhere")
    if not is_utf8(str(path)):
        raise DataError("the file's name is not UTF-8", file=path, hint="rename it")


def is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # Python stands in for bytes that are not UTF-8 by halves of characters
        return False
    return True


def orphans(files: Iterable[SignerFile]) -> list[DataError]:
    """A fault for each file of mirrored copies whose originals are not there."""
    files = list(files)
    originals = {file.signer for file in files if not file.mirrored}
    return [
        DataError("a mirrored copy has no original", file=file.path, expected=f"{file.signer}.hdf5 beside it")
        for file in files
        if file.signer not in originals
    ]
