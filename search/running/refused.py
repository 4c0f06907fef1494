"""A refused command leaves nothing behind in a new `runs` folder, and takes nothing from other commands there.

Commands that prepare data hold a shared lock on a file in the folder, and each adds a byte to it. A refused command removes
what is there only if it made the folder, the lock can be made exclusive, and no byte is another's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_utils.errors import ExplainedError
from search.running.preparing import demo_folder
from search.trial.clips import data_store

_LOCK = ".preparing.lock"
_ATTEMPTS = 100
"""How often the folder is made again if refused commands remove it at that moment."""


@contextlib.contextmanager
def nothing_left_if_refused(runs: Path, *, makes_demo: bool = False) -> Iterator[None]:
    """Removes what the block makes under `runs` if it raises an error that a person should put right.

    Only prepared clips and (with `makes_demo`) the demo set are removed, which can be made again, then `runs` if it is empty.
    If `runs` was there before, or another command has used it meanwhile, everything stays.
    """
    lock, made = _enter(runs)
    is_refused = False
    try:
        yield
    except ExplainedError:
        is_refused = True
        raise
    finally:
        if lock is not None:
            with contextlib.suppress(OSError):
                _leave(lock, runs, made if is_refused else [], makes_demo=makes_demo)
            os.close(lock)


def _enter(runs: Path) -> tuple[int | None, list[Path]]:
    """Makes the folder and locks it. The lock is None if it cannot be had; what cannot be written fails later, explained.

    Returns:
        The lock, and the folders that this call made, the deepest first; none if another command was faster.
    """
    made: list[Path] = []
    for _ in range(_ATTEMPTS):
        try:
            made = _make(runs)
            lock = os.open(runs / _LOCK, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except FileNotFoundError:
            continue  # a refused command has removed a folder
        except OSError:
            return None, made
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            if _is_at(lock, runs / _LOCK):
                os.write(lock, b".")
                return lock, made if list(runs.iterdir()) == [runs / _LOCK] else []
        except OSError:  # the file system has no such locks
            os.close(lock)
            return None, made
        os.close(lock)
    return None, made


def _make(folder: Path) -> list[Path]:
    made: list[Path] = []
    for one in (*reversed(folder.parents), folder):
        if not one.exists():
            with contextlib.suppress(FileExistsError):
                one.mkdir()
                made.insert(0, one)
    return made


def _leave(lock: int, runs: Path, made: Sequence[Path], *, makes_demo: bool) -> None:
    """Deletes the lock's file if no other command holds the lock, and what a refused command has made, if all is its own.

    Args:
        made: the folders that the refused command made, the deepest first.

    Raises:
        OSError: others hold the lock, or something is left in a folder.
    """
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not _is_at(lock, runs / _LOCK):
        return
    demo = [demo_folder(runs)] if makes_demo else []
    known = {runs / _LOCK, data_store(runs), *(folder.parent for folder in demo)}
    is_own = runs in made and os.fstat(lock).st_size == 1 and known.issuperset(runs.iterdir())
    if is_own:
        for folder in (data_store(runs), *demo):
            shutil.rmtree(folder, ignore_errors=True)
    (runs / _LOCK).unlink()  # last: until then, others wait for the lock
    if is_own:
        for folder in (*(one.parent for one in demo if one.parent.exists()), *made):
            folder.rmdir()


def _is_at(lock: int, path: Path) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False
