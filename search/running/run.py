"""`search run`: prepare the data, open the study, search, sum up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_utils.prepared import fingerprint
from data_utils.wording import caution_of
from model.config import MAY_DIFFER_IN_A_STACK
from search.definition.definition import RESOURCES, StudyDefinition
from search.definition.objectives import primary_index
from search.definition.strategy import strategy_name
from search.engines.lockstep.sizing import largest_network
from search.engines.placement import Placement, Work
from search.errors import DefinitionError, ResourceError, require_in_range
from search.events import Listener, Notice, RunFinished, RunStarted, Working
from search.running.machine_failures import lost_baseline
from search.running.preparing import ReadyClips, ready_clips
from search.running.refused import nothing_left_if_refused
from search.running.session import Session, SessionOptions, open_session
from search.running.signals import StopSignals
from search.running.summary import run_finished, trial_summary
from search.running.trial_source import SearchTrials
from search.running.warm_start import require_source, warm_start
from search.storage.errors import database_errors
from search.storage.leases.choice import lease_of
from search.storage.leases.lease import Lease
from search.storage.opening import has_studies, no_studies, opened_storage
from search.storage.url import parse_url
from search.study.claiming import claim
from search.study.folder import require_free_folder
from search.study.making import open_study
from search.study.opening_record import describe_openings
from search.study.order import ORDER_SEED
from search.study.study import SHARES_SEEDS, STRATEGY, load_study
from search.study.trials import best_trial, num_finished
from search.trial.gpus import Gpu, why_not_used
from search.trial.job import order_seed

if TYPE_CHECKING:
    import optuna

_FIRST_DEFAULT = "sampler tpe, pruner median"
"""Those of version 0.1 where a study file names none."""


@dataclass(frozen=True, kw_only=True)
class RunOptions(SessionOptions):
    """The options of `search run`, apart from the study itself."""

    more: int | None
    """Finished trials beyond those that exist, instead of the study's target; None: the study's target."""

    max_failures: int = 10
    allow_wider: bool = False
    """Accept wider ranges than an existing study began with."""

    source: str | None = None
    """A study in the same storage whose best trials are tried first."""

    source_best: int = 5
    """How many of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_in_range("more", 1 if self.more is None else self.more, 1)
        require_in_range("max_failures", self.max_failures, 0)
        require_in_range("source_best", self.source_best, 1)


def run(definition: StudyDefinition, options: RunOptions, emit: Listener, stop: StopSignals) -> RunFinished:
    """Starts or resumes a search, and returns when it ends.

    Raises:
        ExplainedError: anything that a person should put right; see `search.errors`.
    """
    require_free_folder(options.runs, definition.name, parse_url(options.storage).path)
    if options.source == definition.name:
        hint = "give the new study another name: --as NAME"
        raise DefinitionError("a study cannot start from itself", got=options.source, hint=hint)
    if options.engine.engine == "ray":
        emit(Working("connecting to Ray"))
    device = options.engine.resolve_device()
    if options.engine.device == "auto" and options.engine.engine != "ray" and (reason := why_not_used()):
        emit(Notice(f"there is an NVIDIA driver here, but trials train on the CPU: {reason}"))
    if device != "cpu" and options.engine.engine != "ray":
        emit(Working("trying the GPU"))
    gpus = options.engine.working_gpus(device)
    for precision in definition.texts_of("train.precision"):
        options.engine.require_precision(precision, device)
    lease = lease_of(options.storage, definition.name, lease_s=options.lease_s)
    with database_errors(options.storage), contextlib.ExitStack() as stack:
        with nothing_left_if_refused(options.runs, makes_demo=options.data is None):
            storage, source, clips = _opened(definition, options, stack, emit)
            stack.enter_context(lease)
            with lease.wait_for_turn():
                if options.allow_wider:
                    _require_only_run(lease)
                data, split = clips.trial_clips.data, clips.trial_clips.split
                study, wider = open_study(
                    *(storage, definition, data, split, fingerprint(data)),
                    wider=options.allow_wider,
                    order_seed=order_seed(definition.seed) if options.engine.shares_order(device, _apart(definition)) else None,
                )
                claimed = claim(study, storage, options.runs, options.storage)
        with open_session(options, storage, study.study_name, claimed.folder, lease, emit) as session:
            for text in (*claimed.notices, *_order_notes(study, shares=options.engine.engine == "lockstep")):
                session.emit(Notice(text))
            if source is not None:
                with lease.wait_for_turn():
                    session.ledger.refresh()
                    warm_start(session.study, source, definition, best=options.source_best, emit=session.emit)
            if lost := lost_baseline(study.study_name, study.get_trials(deepcopy=False)):
                session.emit(Notice(lost))
            if opened := describe_openings(study, storage, options.runs):
                session.emit(Notice(f"{opened}: what is found from now on can no longer be tested on them fairly"))
            return _search(session, definition, options, clips, (device, gpus), wider, stop)


def _apart(definition: StudyDefinition) -> tuple[str, ...]:
    """The searched settings that keep trials out of one stack."""
    return tuple(dim.name for dim in definition.space if dim.setting.key not in MAY_DIFFER_IN_A_STACK)


def _shares_order(study: optuna.Study) -> bool:
    return ORDER_SEED in study.user_attrs or bool(study.user_attrs.get(SHARES_SEEDS))


def _order_notes(study: optuna.Study, *, shares: bool) -> Iterator[str]:
    """What is surprising when a study continues that was made with another engine."""
    if shares and not _shares_order(study):
        yield (
            "this study was made with another engine, so each of its trials has an order of the clips of its own and trains by "
            "itself, not in lockstep. `--engine processes` trains them as fast; a new study (`--as NAME`) shares an order"
        )


def _opened(
    definition: StudyDefinition, options: RunOptions, stack: contextlib.ExitStack, emit: Listener
) -> tuple[optuna.storages.BaseStorage, optuna.Study | None, ReadyClips]:
    """The storage, the source of a warm start, and the clips. A storage that is not there yet is made last.

    Raises:
        ExplainedError: the run is refused.
    """

    def opened() -> optuna.storages.BaseStorage:
        return stack.enter_context(opened_storage(options.storage, create=True))

    source, known = None, has_studies(options.storage)
    if options.source is not None and not known:
        raise no_studies(parse_url(options.storage))
    storage = opened() if known else None
    if storage is not None and options.source is not None:
        source = load_study(storage, options.source, lambda text: emit(Notice(text)))
    clips = ready_clips(definition, options.data, options.runs, emit)
    if source is not None:
        require_source(source, clips.trial_clips.split)
    return storage or opened(), source, clips


def _search(
    session: Session,
    definition: StudyDefinition,
    options: RunOptions,
    clips: ReadyClips,
    devices: tuple[str, tuple[Gpu, ...]],
    wider: Sequence[str],
    stop: StopSignals,
) -> RunFinished:
    """`devices`: see `EngineOptions.place`."""
    study, emit = session.study, session.emit
    session.ledger.refresh()
    for change in wider:
        emit(Notice(f"the study continues with a wider range: {change}"))
    finished = num_finished(study.get_trials(deepcopy=False))
    target = finished + options.more if options.more is not None else definition.trials
    study.set_user_attr("target", target)
    study.set_user_attr(RESOURCES, definition.resources.stored())
    _note_strategy(study, definition, finished, emit)
    study.pruner = definition.pruner.make(definition.max_epochs)
    work = Work.of(
        clips.trial_clips,
        definition.plan,
        largest_network(definition.highest),
        left=max(target - finished, 0),
        planned=target,
        shares_order=_shares_order(study),
        apart=_apart(definition),
        repeats_share=ORDER_SEED in study.user_attrs,
    )
    placement = session.place(*devices, work)
    emit(_run_started(session, definition, options, clips, placement, finished, target))
    trial_source = SearchTrials(
        study,
        session.ledger,
        definition,
        target=target,
        more=options.more is not None,
        device=placement.device,
        folder=session.folder,
        emit=emit,
    )
    seconds = session.work(
        trial_source,
        definition.objectives,
        clips.trial_clips,
        placement,
        resources=definition.resources,
        max_failures=options.max_failures,
        marks_best=True,
        stop=stop,
    )
    emit(Working("summing up the trials"))
    result = run_finished(study, definition, trial_source, seconds, stop.reason)
    emit(result)
    return result


def _note_strategy(study: optuna.Study, definition: StudyDefinition, finished: int, emit: Listener) -> None:
    """Records the sampler and the pruner; says so if the search goes on with others than it has had."""
    now = f"sampler {strategy_name(definition.sampler)}, pruner {strategy_name(definition.pruner)}"
    is_named = any(key.split(".")[0] in ("sampler", "pruner") for key in definition.origins)
    before = study.user_attrs.get(STRATEGY, _FIRST_DEFAULT if finished and not is_named else now)
    if before != now:
        emit(Notice(f"the search goes on with {now}; until now it had {before} (`--set sampler.name=...` chooses)"))
    study.set_user_attr(STRATEGY, now)


def _run_started(
    session: Session,
    definition: StudyDefinition,
    options: RunOptions,
    clips: ReadyClips,
    placement: Placement,
    finished: int,
    target: int,
) -> RunStarted:
    data, split = clips.trial_clips.data, clips.trial_clips.split
    return RunStarted(
        study=definition.name,
        about=definition.about,
        data=str(data.folder),
        words=len(data.words),
        parts=split.parts(),
        clips=clips.counts,
        device=placement.device,
        workers=placement.workers,
        place=placement.text(),
        storage=parse_url(options.storage).redacted,
        runs=str(options.runs),
        finished=finished,
        target=target,
        epochs=definition.max_epochs,
        space={dim.name: dim.text() for dim in definition.space},
        objectives=tuple(objective.name for objective in definition.objectives),
        folds=len(split.folds),
        trainings=len(split.train_validation_pairs()) * definition.repeats,
        run=session.run,
        caution=caution_of(split.kind),
        best=trial_summary(best_trial(session.study.get_trials(deepcopy=False), primary_index(definition.objectives))),
    )


def _require_only_run(lease: Lease) -> None:
    if lease.observer.num_runs() > 1:
        raise ResourceError(
            f"another run is working on the study `{lease.study}`",
            hint="widen the ranges when it has ended",
        )
