"""`search run`: from what was typed to a coordinator at work."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import optuna
from optuna.trial import FrozenTrial

from data_utils.errors import DataError
from data_utils.prepared import DataSet, fingerprint
from data_utils.splits import Split, split_signers
from data_utils.synthetic import synthesize
from search import BASELINE_TRIAL
from search.coordinator import Coordinator
from search.definition import StudyDefinition
from search.ending import noise_of
from search.engines.choice import Workers
from search.errors import ResourceError, os_errors
from search.events import Listener, Notice, RunFinished, RunStarted
from search.feasible import require_fits
from search.goals import lead_of
from search.leases import Lease
from search.leases.choice import LEASE_S, lease_of
from search.logs import RunLog
from search.outage import PATIENCE_S, Outage
from search.parts import Parts, count_clips, data_store, open_indexed
from search.pruners import NoPruning
from search.resources import RESOURCES
from search.sealed.record import opened_before
from search.space import applying
from search.stopping import StopSignals
from search.storage import database_errors, load_study, open_storage, place_of, shown_url
from search.storage.ledger import Ledger
from search.study import (
    baseline_summary,
    best_trial,
    count_states,
    front_of,
    num_finished,
    open_study,
    summary,
)
from search.supply import Supply
from search.telling import Teller
from search.warm import require_source, warm_start
from search.wording import storage_word


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What `search run` was asked for, beside the study itself."""

    data: Path | None
    """The data set's folder; None: the demo set under `runs`."""

    storage: str
    runs: Path
    more: int | None
    """Finished trials beyond those there are, instead of the study's target; None: the study's target."""

    by: Workers
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
    place = place_of(options.storage)  # a wrong URL is told before anything is made
    device = options.by.used_device()
    make_folder(options.runs)
    folder = options.data or demo_data(options.runs, emit)
    data = open_indexed(folder, options.runs)
    split = split_of(definition, data)
    trainings = len(split.turns()) * definition.repeats
    require_fits(definition, len(split.folds) or definition.repeats, len(data.words))
    for note in _notes(definition, split):
        emit(Notice(note))
    parts = Parts(data, split, data_store(options.runs), emit)
    turns = parts.turns(definition.configs(definition.baseline).preprocess)
    with database_errors(options.storage):
        storage = open_storage(options.storage, create=True)
        source = None if options.source is None else load_study(storage, options.source)
        if source is not None:
            require_source(source, split)
        with lease_of(options.storage, definition.name, lease_s=options.lease_s) as lease:
            with lease.patient_turn():
                if options.allow_wider:
                    _require_alone(lease)
                study, wider = open_study(storage, definition, data, split, fingerprint(data), wider=options.allow_wider)
            with RunLog(options.runs, definition.name, lease.owner.run) as log, database_errors(options.storage):
                emit = log.beside(emit)
                if source is not None:
                    with lease.patient_turn():
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
                        clips=count_clips(turns),
                        device=device,
                        workers=options.by.workers,
                        storage=place.shown,
                        runs=str(options.runs),
                        finished=finished,
                        target=target,
                        epochs=definition.most_epochs,
                        space={dim.name: dim.text() for dim in definition.space},
                        objectives=tuple(goal.name for goal in definition.goals),
                        folds=len(split.folds),
                        trainings=trainings,
                        run=lease.owner.run,
                        best=summary(best_trial(study.get_trials(deepcopy=False), lead_of(definition.goals))),
                    )
                )
                ledger = Ledger(storage, definition.name, lease)
                study = ledger.open()
                supply = Supply(
                    study,
                    ledger,
                    definition,
                    target=target,
                    more=options.more is not None,
                    device=device,
                    runs=options.runs,
                    emit=emit,
                )
                study.pruner = definition.pruner.make(definition.most_epochs)
                began = perf_counter()
                Coordinator(
                    study,
                    ledger,
                    Outage(options.storage, emit, patience_s=options.patience_s),
                    definition.goals,
                    supply,
                    options.by.hire(replace(parts, emit=emit), options.runs, definition.resources),
                    teller=Teller(study, definition.goals, runs=options.runs, emit=emit, max_failures=options.max_failures),
                    num_words=len(data.words),
                    emit=emit,
                    stop=stop,
                    max_restarts=options.max_restarts,
                ).run()
                result = _finished(study, definition, supply, perf_counter() - began, stop.reason)
                emit(result)
                return result


def _finished(study: optuna.Study, definition: StudyDefinition, supply: Supply, seconds: float, stopped_by: str) -> RunFinished:
    trials = study.get_trials(deepcopy=False)
    lead, several = lead_of(definition.goals), len(definition.goals) > 1
    best = best_trial(trials, lead)
    return RunFinished(
        study=definition.name,
        finished=num_finished(trials),
        target=supply.target,
        counts=count_states(trials),
        best=summary(best),
        baseline=baseline_summary(trials),
        front=tuple(filter(None, map(summary, front_of(trials, lead)))) if several else (),
        edges=() if several else _edges(best, definition),
        noise=None if several else _noise(trials, best),
        seconds=seconds,
        stopped_by=stopped_by,
        ended_by=supply.ended_by,
    )


def _noise(trials: Sequence[FrozenTrial], best: FrozenTrial | None) -> float | None:
    if best is None:
        return None
    second = best_trial([trial for trial in trials if trial.number != best.number])
    noise = noise_of(best, second)
    return noise if 0 < noise < float("inf") else None


def _edges(best: FrozenTrial | None, definition: StudyDefinition) -> tuple[str, ...]:
    if best is None or best.number == BASELINE_TRIAL:
        return ()
    return tuple(
        f"{dim.name} {best.params[dim.name]:.3g} lies at the {end} edge of its range {dim.domain.text()}"
        for dim in applying(definition.space, best.params)
        if dim.name in best.params and (end := dim.edge(best.params[dim.name]))
    )


def _notes(definition: StudyDefinition, split: Split) -> Iterator[str]:
    """What a person should know before it starts."""
    if split.note:
        yield split.note
    if len(definition.goals) > 1 and not isinstance(definition.pruner, NoPruning):
        names = ", ".join(goal.name for goal in definition.goals)
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
    return typed_again(words)


def typed_again(arguments: Sequence[str]) -> str:
    """The command with these words for a shell. Where one of them is an URL with a password, its variable stands instead."""
    return " ".join(_typed(word) for word in ["python", "-m", "search", *arguments])


def _typed(word: str) -> str:
    option, equals, url = word.partition("=") if word.startswith("--storage=") else ("", "", word)
    return f"{option}{equals}{storage_word(shown_url(url))}" if shown_url(url) != url else shlex.quote(word)
