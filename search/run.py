"""`search run`: from what was typed to a coordinator at work."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch

from data_utils.errors import DataError
from data_utils.prepared import DataSet, fingerprint
from data_utils.splits import Split, split_signers
from data_utils.synthetic import synthesize
from search.coordinator import Coordinator
from search.definition import StudyDefinition
from search.engines import Engine
from search.engines.inline import InlineEngine
from search.engines.processes import ProcessEngine, visible_gpus
from search.engines.worker import Setup
from search.errors import DefinitionError, ResourceError, os_errors
from search.events import Listener, Notice, RunFinished, RunStarted
from search.feasible import require_fits
from search.leases import Lease, num_runs
from search.logs import RunLog
from search.machine import resolve_device
from search.parts import Parts, data_store, open_indexed
from search.pruners import NoPruning
from search.stopping import StopSignals
from search.storage import database_errors, database_path, load_study, open_storage
from search.study import num_finished, open_study
from search.supply import Supply
from search.warm import require_source, warm_start

EngineName = Literal["inline", "processes"]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What `search run` was asked for, beside the study itself."""

    data: Path | None
    """The data set's folder; None: the demo set under `runs`."""

    storage: str
    runs: Path
    more: int | None
    """Finished trials beyond those there are, instead of the study's target; None: the study's target."""

    device: str
    max_failures: int = 10
    max_restarts: int = 3
    """Workers that may die on one trial."""

    workers: int = 1
    engine: EngineName | None = None
    """None: `inline` for one worker, if no time limit of a trial has to be kept from outside."""

    trial_timeout_s: float | None = None
    """What a trial may take, all its epochs together."""

    allow_wider: bool = False
    """Ranges of a study that exists may be wider than they were."""

    source: str | None = None
    """A study of the same storage whose best trials are tried first."""

    source_best: int = 5
    """How many of them."""


def run(definition: StudyDefinition, options: RunOptions, emit: Listener, stop: StopSignals) -> RunFinished:
    """Starts or resumes a search and stays with it until it ends.

    Raises:
        ExplainedError: anything that a person should put right; see `search.errors`.
    """
    device = checked_device(options.device)
    database = database_path(options.storage)  # a wrong URL is told before anything is made
    kind = _engine_kind(options)
    _make_folder(options.runs)
    folder = options.data or demo_data(options.runs, emit)
    data = open_indexed(folder, options.runs)
    split = split_of(definition, data)
    trainings = len(split.turns()) * definition.repeats
    require_fits(definition, len(split.folds) or definition.repeats, len(data.words))
    for note in _notes(definition, split):
        emit(Notice(note))
    parts = Parts(data, split, data_store(options.runs), emit)
    turns = parts.turns(definition.configs(definition.baseline).preprocess)
    clips = {"train": len(turns[0].train), "validation": len(turns[0].validation)}
    if split.folds:
        clips = {"train": sum(len(turn.validation) for turn in turns), "validation": 0}
    with database_errors(options.storage):
        storage = open_storage(options.storage, create=True)
        source = None if options.source is None else load_study(storage, options.source)
        if source is not None:
            require_source(source, split)
        with Lease(database, definition.name) as lease:
            with lease.patient_turn():
                if options.allow_wider:
                    _require_alone(database, definition.name)
                study, wider = open_study(storage, definition, data, split, fingerprint(data), wider=options.allow_wider)
            with RunLog(options.runs, definition.name, lease.owner.run) as log, database_errors(options.storage):
                emit = log.beside(emit)
                if source is not None:
                    with lease.patient_turn():
                        warm_start(study, source, definition, best=options.source_best, emit=emit)
                for change in wider:
                    emit(Notice(f"the study goes on with a wider range: {change}"))
                finished = num_finished(study.get_trials(deepcopy=False))
                target = finished + options.more if options.more is not None else definition.trials
                study.set_user_attr("target", target)
                emit(
                    RunStarted(
                        study=definition.name,
                        about=definition.about,
                        data=str(folder),
                        words=len(data.words),
                        parts=split.parts(),
                        clips=clips,
                        device=device,
                        workers=options.workers,
                        storage=options.storage,
                        finished=finished,
                        target=target,
                        epochs=definition.most_epochs,
                        space={dim.name: dim.text() for dim in definition.space},
                        objectives=tuple(goal.name for goal in definition.goals),
                        folds=len(split.folds),
                        trainings=trainings,
                        run=lease.owner.run,
                    )
                )
                return Coordinator(
                    study,
                    definition,
                    Supply(
                        study,
                        definition,
                        lease,
                        target=target,
                        more=options.more is not None,
                        device=device,
                        runs=options.runs,
                        emit=emit,
                    ),
                    _engine(kind, options, parts, emit, device),
                    target=target,
                    num_words=len(data.words),
                    runs=options.runs,
                    emit=emit,
                    stop=stop,
                    max_failures=options.max_failures,
                    max_restarts=options.max_restarts,
                ).run()


def _notes(definition: StudyDefinition, split: Split) -> Iterator[str]:
    """What a person should know before it starts."""
    if split.note:
        yield split.note
    if len(definition.goals) > 1 and not isinstance(definition.pruner, NoPruning):
        names = ", ".join(goal.name for goal in definition.goals)
        yield f"pruning is off: with several objectives ({names}) half-trained trials have no order"


def checked_engine(name: str | None) -> EngineName | None:
    """The engine that is meant; None if none was named.

    Raises:
        DefinitionError: there is no such engine.
    """
    if name is None:
        return None
    for known in get_args(EngineName):
        if name == known:
            return known
    raise DefinitionError("there is no such engine", got=name, expected=" or ".join(get_args(EngineName)))


def _engine_kind(options: RunOptions) -> EngineName:
    """Which engine is meant.

    Raises:
        DefinitionError: the one that was named cannot do what else was asked for.
    """
    needs_processes = "--workers" if options.workers > 1 else "--trial-timeout" if options.trial_timeout_s is not None else ""
    if options.engine == "inline" and needs_processes:
        raise DefinitionError(
            f"the engine `inline` trains in this process: {needs_processes} is not for it",
            expected="--engine processes, or none named",
        )
    return options.engine or ("processes" if needs_processes else "inline")


def _engine(kind: EngineName, options: RunOptions, parts: Parts, emit: Listener, device: str) -> Engine:
    if kind == "inline":
        return InlineEngine(replace(parts, emit=emit))
    return ProcessEngine(
        Setup(parts.data.folder, options.runs, parts.split, fingerprint(parts.data), gpu=None),
        slots=options.workers,
        gpus=visible_gpus(device, torch.cuda.device_count()),
        trial_timeout_s=math.inf if options.trial_timeout_s is None else options.trial_timeout_s,
        emit=emit,
    )


def _require_alone(database: Path, study: str) -> None:
    if num_runs(database, study) > 1:
        raise ResourceError(
            f"another run is working on the study `{study}`",
            where=str(database),
            hint="ranges can become wider when it has ended",
        )


def _make_folder(runs: Path) -> None:
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


def checked_device(wish: str) -> str:
    """The device that is meant.

    Raises:
        DefinitionError: there is no such device.
    """
    try:
        return resolve_device(wish)
    except ValueError as error:
        raise DefinitionError(
            f"the device `{wish}` cannot be used", got=str(error), hint="`--device auto` takes what is there"
        ) from error


def resume_command(arguments: Sequence[str], target: int) -> str:
    """The command that goes on: the same words, with `--more` turned into the target that it meant."""
    words: list[str] = []
    skip = False
    for word in arguments:
        if skip or word.startswith("--more="):
            skip = False
        elif word == "--more":
            skip = True
        else:
            words.append(word)
    if len(words) < len(arguments):
        words += ["--trials", str(target)]
    return shlex.join(["python", "-m", "search", *words])
