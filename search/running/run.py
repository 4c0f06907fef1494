"""`search run`: from what was typed to a coordinator at work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from data_utils.prepared import fingerprint
from search.definition.checks import require_fits_data
from search.definition.definition import RESOURCES, StudyDefinition
from search.definition.objectives import primary_index
from search.engines.engine_options import EngineOptions
from search.events import Listener, Notice, RunFinished, RunStarted
from search.running.coordinator import Coordinator
from search.running.ledger import Ledger
from search.running.log import RunLog
from search.running.outage import PATIENCE_S, Outage
from search.running.preparing import _notes, _require_alone, demo_data, make_folder, split_of
from search.running.recording import Recorder
from search.running.signals import StopSignals
from search.running.summary import _finished, summary
from search.running.trial_source import SearchTrials
from search.running.warm_start import require_source, warm_start
from search.storage.errors import database_errors
from search.storage.leases.choice import LEASE_S, lease_of
from search.storage.opening import open_storage
from search.storage.url import parse_url
from search.study.making import open_study
from search.study.openings import opened_before
from search.study.study import load_study
from search.study.trials import best_trial, num_finished
from search.trial.clips import TrialClips, count_clips, data_store, open_indexed


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What `search run` was asked for, beside the study itself."""

    data: Path | None
    """The data set's folder; None: the demo set under `runs`."""

    storage: str
    runs: Path
    more: int | None
    """Finished trials beyond those there are, instead of the study's target; None: the study's target."""

    by: EngineOptions
    max_failures: int = 10
    max_restarts: int = 3
    """Workers that may die on one trial."""

    allow_wider: bool = False
    """Ranges of a study that exists may be wider than they were."""

    source: str | None = None
    """A study of the same storage whose best trials are tried first."""

    source_best: int = 5
    """How many of them."""

    lease_s: float = LEASE_S
    """How long this run may be silent before others take its trials, with a database server."""

    patience_s: float = PATIENCE_S
    """How long it goes on without its database server."""


def run(definition: StudyDefinition, options: RunOptions, emit: Listener, stop: StopSignals) -> RunFinished:
    """Starts or resumes a search and stays with it until it ends.

    Raises:
        ExplainedError: anything that a person should put right; see `search.errors`.
    """
    place = parse_url(options.storage)  # a wrong URL is told before anything is made
    device = options.by.resolve_device()
    make_folder(options.runs)
    folder = options.data or demo_data(options.runs, emit)
    data = open_indexed(folder, options.runs)
    split = split_of(definition, data)
    trainings = len(split.train_validation_pairs()) * definition.repeats
    require_fits_data(definition, len(split.folds) or definition.repeats, len(data.words))
    for note in _notes(definition, split):
        emit(Notice(note))
    trial_clips = TrialClips(data, split, data_store(options.runs), emit)
    folds = trial_clips.folds(definition.configs(definition.baseline).preprocess)
    with database_errors(options.storage):
        storage = open_storage(options.storage, create=True)
        source = None if options.source is None else load_study(storage, options.source)
        if source is not None:
            require_source(source, split)
        with lease_of(options.storage, definition.name, lease_s=options.lease_s) as lease:
            with lease.wait_for_turn():
                if options.allow_wider:
                    _require_alone(lease)
                study, wider = open_study(storage, definition, data, split, fingerprint(data), wider=options.allow_wider)
            with RunLog(options.runs, definition.name, lease.owner.run) as log, database_errors(options.storage):
                emit = log.beside(emit)
                if source is not None:
                    with lease.wait_for_turn():
                        warm_start(study, source, definition, best=options.source_best, emit=emit)
                if opened := opened_before(study, storage):
                    emit(Notice(f"{opened}: what is found from now on can no longer be tested on them fairly"))
                for change in wider:
                    emit(Notice(f"the study goes on with a wider range: {change}"))
                finished = num_finished(study.get_trials(deepcopy=False))
                target = finished + options.more if options.more is not None else definition.trials
                study.set_user_attr("target", target)
                study.set_user_attr(RESOURCES, definition.resources.stored())
                emit(
                    RunStarted(
                        study=definition.name,
                        about=definition.about,
                        data=str(folder),
                        words=len(data.words),
                        parts=split.parts(),
                        clips=count_clips(folds),
                        device=device,
                        workers=options.by.workers,
                        storage=place.shown,
                        runs=str(options.runs),
                        finished=finished,
                        target=target,
                        epochs=definition.max_epochs,
                        space={dim.name: dim.text() for dim in definition.space},
                        objectives=tuple(objective.name for objective in definition.objectives),
                        folds=len(split.folds),
                        trainings=trainings,
                        run=lease.owner.run,
                        best=summary(best_trial(study.get_trials(deepcopy=False), primary_index(definition.objectives))),
                    )
                )
                ledger = Ledger(storage, definition.name, lease)
                study = ledger.open()
                trial_source = SearchTrials(
                    study,
                    ledger,
                    definition,
                    target=target,
                    more=options.more is not None,
                    device=device,
                    runs=options.runs,
                    emit=emit,
                )
                study.pruner = definition.pruner.make(definition.max_epochs)
                began = perf_counter()
                Coordinator(
                    study,
                    ledger,
                    Outage(options.storage, emit, patience_s=options.patience_s),
                    definition.objectives,
                    trial_source,
                    options.by.create_engine(replace(trial_clips, emit=emit), options.runs, definition.resources),
                    recorder=Recorder(
                        study, definition.objectives, runs=options.runs, emit=emit, max_failures=options.max_failures
                    ),
                    num_words=len(data.words),
                    emit=emit,
                    stop=stop,
                    max_restarts=options.max_restarts,
                ).run()
                result = _finished(study, definition, trial_source, perf_counter() - began, stop.reason)
                emit(result)
                return result
