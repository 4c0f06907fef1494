"""What must be ready before a study is opened: the runs folder, the data set, its split, the prepared clips."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import optuna

from data_utils.clip_split import possible, split_clips, why_indivisible
from data_utils.errors import DataError
from data_utils.folder import unread_files
from data_utils.prepared import DataSet, fingerprint
from data_utils.splits import Split, split_signers
from data_utils.synthetic.synthetic import synthesize
from data_utils.wording import counted
from data_utils.words import odd_words
from search.definition.checks import require_fits_data
from search.definition.definition import StudyDefinition
from search.definition.pruners import NoPruning
from search.errors import os_errors
from search.events import Listener, Notice, counting
from search.study.study import study_data
from search.trial.clips import TrialClips, count_clips, data_store, open_indexed


class ReadyClips(NamedTuple):
    """The clips of a search, and how many there are."""

    trial_clips: TrialClips
    counts: dict[str, int]
    """Clips of the training and validation parts."""


def ready_clips(definition: StudyDefinition, folder: Path | None, runs: Path, emit: Listener) -> ReadyClips:
    """Opens the data set, splits it and prepares the clips of the baseline.

    Args:
        folder: of the data set; None: the demo set under `runs`.

    Raises:
        DataError: the data set is not valid, or the requested split is impossible.
        DefinitionError: the study does not fit the data.
        ResourceError: `runs` cannot be written.
    """
    make_folder(runs)
    data = open_indexed(folder or demo_data(runs, emit), runs, emit, kind=definition.signers.split)
    split = split_of(definition, data)
    require_fits_data(definition, len(split.folds) or definition.repeats, len(data.words))
    for note in (*_data_notes(data), *_notes(definition, split)):
        emit(Notice(note))
    trial_clips = TrialClips(data, split, data_store(runs), emit)
    preprocess = definition.configs(definition.baseline).preprocess
    folds = trial_clips.folds(preprocess)
    for warning in trial_clips.warnings(preprocess):
        emit(Notice(f"the clips look wrong: {warning}; `islr-data check {shlex.quote(str(data.folder))}` tells what to do"))
    return ReadyClips(trial_clips, count_clips(folds, split))


def open_same(study: optuna.Study, folder: Path | None, runs: Path) -> DataSet:
    """Opens the data set that a study was searched on, in its own folder or in another.

    Raises:
        DataError: it is not there, or it is another data set.
    """
    about = study_data(study)
    data = open_indexed(folder or Path(about.folder), runs, kind=about.split.kind)
    if fingerprint(data) != about.fingerprint:
        raise DataError(
            f"this is not the data set that `{study.study_name}` was searched on",
            file=data.folder,
            got=f"fingerprint {fingerprint(data)[:12]}...",
            expected=f"fingerprint {about.fingerprint[:12]}...",
            hint="name the folder of the search's data with --data",
        )
    return data


def make_folder(runs: Path) -> None:
    """Creates the folder that everything is written to.

    Raises:
        ResourceError: it cannot be created.
    """
    what = "the folder for all output cannot be created"
    with os_errors(what, where=runs, hint="name another one with --runs"):
        runs.mkdir(parents=True, exist_ok=True)


def split_of(definition: StudyDefinition, data: DataSet) -> Split:
    """Splits a data set into the study's training, validation and test parts.

    Raises:
        DataError: the requested split is impossible, or the data set has only one word.
    """
    if len(data.words) < 2:
        raise DataError(
            "there is nothing to classify", file=data.folder, got=f"1 word: {data.words[0]}", expected="2 words or more"
        )
    requested = definition.signers
    if requested.split == "clips":
        assert not isinstance(requested.folds, str), "checked with the definition"
        signers = "rest" if isinstance(requested.train, str) else requested.train
        folds, seed = requested.folds or 0, definition.seed
        return split_clips(data.entries, data.words, train=signers, test=requested.test != "none", folds=folds, seed=seed)
    try:
        return split_signers(
            data.words_of,
            train=requested.train,
            validation=requested.validation,
            test=requested.test,
            folds=requested.folds,
            seed=definition.seed,
        )
    except DataError as error:
        own = [entry for entry in data.entries if not entry.file.mirrored]
        clips = [(e.file.signer, *clip) for e in own for clip in zip(e.labels, e.sessions, strict=True)]
        raise possible(error, why_indivisible(clips)) from None


def demo_data(runs: Path, emit: Listener) -> Path:
    """Returns the folder of the demo set, which is created if it does not exist.

    Raises:
        ResourceError: it cannot be written.
    """
    folder = demo_folder(runs)
    emit(Notice(f"No --data and no SEARCH_DATA: searching on the demo set of synthetic signs in {folder}"))
    if not folder.exists():
        with os_errors("the demo set cannot be written", where=folder, hint="name another folder with --runs"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            synthesize(folder, progress=counting(emit, "making the demo set"))
    return folder


def demo_folder(runs: Path) -> Path:
    """The folder of the demo set."""
    return runs / "data" / "demo"


def _data_notes(data: DataSet) -> Iterator[str]:
    """What `islr-data check` explains."""
    if unread := unread_files(data.folder):
        yield f"{counted(len(unread), 'file')} in {data.folder} not read, such as {unread[0]}: see `islr-data check`"
    if odd := odd_words(data.words):
        yield f"words that look alike, or are empty ({odd[0]}): see `islr-data check`"


def _notes(definition: StudyDefinition, split: Split) -> Iterator[str]:
    if split.note:
        yield split.note
    if len(definition.objectives) > 1 and not isinstance(definition.pruner, NoPruning):
        names = ", ".join(objective.name for objective in definition.objectives)
        yield f"pruning is off: with several objectives ({names}) half-trained trials cannot be ranked"
