"""Folder, demo data, split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import optuna

from data_utils.errors import DataError
from data_utils.prepared import DataSet, fingerprint
from data_utils.splits import Split, split_signers
from data_utils.synthetic.synthetic import synthesize
from search.definition.definition import StudyDefinition
from search.definition.pruners import NoPruning
from search.errors import ResourceError, os_errors
from search.events import Listener, Notice
from search.storage.leases.lease import Lease
from search.study.study import study_data
from search.trial.clips import open_indexed


def open_same(study: optuna.Study, folder: Path | None, runs: Path) -> DataSet:
    """The data set of a search, in the folder where it was or in another.

    Raises:
        DataError: it is not there, or not the same.
    """
    about = study_data(study)
    data = open_indexed(folder or Path(about.folder), runs)
    if fingerprint(data) != about.fingerprint:
        raise DataError(
            f"this is not the data that `{study.study_name}` has searched on",
            file=data.folder,
            got=f"fingerprint {fingerprint(data)[:12]}...",
            expected=f"fingerprint {about.fingerprint[:12]}...",
            hint="name the folder of the search's data with --data",
        )
    return data


def _notes(definition: StudyDefinition, split: Split) -> Iterator[str]:
    """What a person should know before it starts."""
    if split.note:
        yield split.note
    if len(definition.objectives) > 1 and not isinstance(definition.pruner, NoPruning):
        names = ", ".join(objective.name for objective in definition.objectives)
        yield f"pruning is off: with several objectives ({names}) half-trained trials have no order"


def _require_alone(lease: Lease) -> None:
    if lease.observer.num_runs() > 1:
        raise ResourceError(
            f"another run is working on the study `{lease.study}`",
            hint="ranges can become wider when it has ended",
        )


def make_folder(runs: Path) -> None:
    what = "the folder of everything that is written cannot be made"
    with os_errors(what, where=runs, hint="name another with --runs"):
        runs.mkdir(parents=True, exist_ok=True)


def split_of(definition: StudyDefinition, data: DataSet) -> Split:
    """The study's parts of this data set.

    Raises:
        DataError: the wishes cannot be met, or there is only one word to tell.
    """
    if len(data.words) < 2:
        raise DataError(
            "there is nothing to tell apart", file=data.folder, got=f"1 word: {data.words[0]}", expected="2 words or more"
        )
    wishes = definition.signers
    return split_signers(
        data.words_of,
        train=wishes.train,
        validation=wishes.validation,
        test=wishes.test,
        folds=wishes.folds,
        seed=definition.seed,
    )


def demo_data(runs: Path, emit: Listener) -> Path:
    """The folder of the demo set, which is made if it is not there.

    Raises:
        ResourceError: it cannot be written.
    """
    folder = runs / "data" / "demo"
    emit(Notice(f"No --data and no SEARCH_DATA: searching on the demo set of made-up signs in {folder}"))
    if not folder.exists():
        with os_errors("the demo set cannot be written", where=folder, hint="name another place with --runs"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            synthesize(folder)
    return folder
