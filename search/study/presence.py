"""Whether a study is still there and can be read, although other programs may delete, rename and change it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import optuna
from optuna.study._frozen import FrozenStudy

from search.errors import DefinitionError, ResourceError
from search.storage.tables import uncached

UNREADABLE_HINT = (
    "another program or another version wrote it; restore the database from a copy, or start a new study with `--as NAME`"
)


def gone_error(name: str) -> ResourceError:
    """The error for a study that is not there any more, even if another one has got its name or its number."""
    return ResourceError(
        f"the study `{name}` was deleted or renamed by another program while it was in use",
        hint="`islr-search list` shows the studies that there are",
    )


def why_gone(storage: optuna.storages.BaseStorage, study_id: int, name: str) -> ResourceError | None:
    """The error for a study that was deleted or renamed since it was opened; None if it is still there."""
    try:
        now = uncached(storage).get_study_name_from_id(study_id)
    except KeyError:
        return gone_error(name)
    if now == name:
        return None
    return ResourceError(
        f"the study `{name}` was renamed to `{now}` by another program while it was in use",
        hint=f"rename it back, or continue with `--as {now}`",
    )


def require_present(study: optuna.Study) -> None:
    """Checks that a study was neither deleted nor renamed since it was opened.

    Raises:
        ResourceError: it was.
    """
    if (gone := why_gone(study._storage, study._study_id, study.study_name)) is not None:
        raise gone


@contextlib.contextmanager
def expecting(storage: optuna.storages.BaseStorage, study_id: int, name: str) -> Iterator[None]:
    """Explains an error inside the block that comes from a study that is gone.

    Raises:
        ResourceError: the study was deleted or renamed.
    """
    try:
        yield
    except Exception as error:
        gone = None
        with contextlib.suppress(Exception):  # if the database does not answer, the error is the database's
            gone = why_gone(storage, study_id, name)
        if gone is not None:
            raise gone from error
        raise


@contextlib.contextmanager
def readable(what: str) -> Iterator[None]:
    """Explains an error inside a block that only reads with Optuna's calls: wrong values come from the database.

    Raises:
        DefinitionError: a row cannot be read.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError) as error:
        raise DefinitionError(
            f"the database holds something in {what} that cannot be read",
            got=f"{type(error).__name__}: {error}".splitlines()[0],
            hint=UNREADABLE_HINT,
        ) from error


@contextlib.contextmanager
def reading(storage: optuna.storages.BaseStorage, study_id: int, name: str) -> Iterator[None]:
    """Same as `readable`, for one study.

    Raises:
        ResourceError: the study was deleted or renamed.
        DefinitionError: a row cannot be read.
    """
    with readable(f"the study `{name}`"), expecting(storage, study_id, name):
        yield


def all_studies(storage: optuna.storages.BaseStorage) -> list[FrozenStudy]:
    """The studies of a storage with their attributes, unchecked.

    Raises:
        DefinitionError: a row cannot be read.
    """
    with readable("its studies"):
        return storage.get_all_studies()


def study_names(storage: optuna.storages.BaseStorage) -> list[str]:
    """The names of all studies. Raises: same as `all_studies`."""
    return [study.study_name for study in all_studies(storage)]
