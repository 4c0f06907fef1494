"""`search confirm`: trains the best trials of a study and its baseline again with fresh seeds, and compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from data_utils.wording import caution_of
from model.config import MAY_DIFFER_IN_A_STACK
from search import BASELINE_TRIAL
from search.definition.definition import stored_resources
from search.definition.objectives import primary_index
from search.definition.trial_attributes import attribute
from search.engines.lockstep.sizing import largest_network
from search.engines.placement import Placement, Work
from search.errors import require_in_range
from search.evaluation.confirm.allocation import Allocation, most_competing
from search.evaluation.confirm.candidates import trials_to_confirm
from search.evaluation.confirm.evidence import compare_candidates
from search.evaluation.confirm.signers import signer_spread
from search.evaluation.confirm.trial_source import ConfirmTrials, fresh_split
from search.events import ConfirmFinished, Listener, Notice, RunStarted, Working
from search.running.preparing import make_folder, open_same
from search.running.refused import nothing_left_if_refused
from search.running.session import Session, SessionOptions, open_session
from search.running.signals import StopSignals
from search.storage.errors import database_errors
from search.storage.leases.choice import lease_of
from search.storage.leases.lease import Lease
from search.storage.opening import opened_storage
from search.storage.url import redact_url
from search.study.belief import Belief, believe
from search.study.claiming import claim
from search.study.companion import CANDIDATE, SEED, companion_to_write, complete_trainings, link_companion
from search.study.confirmed import Candidate, Confirmation, Confirmed, SignerSpread, store_confirmed
from search.study.folder import claim_folder, trial_folder
from search.study.identity import require_usable
from search.study.making import name_objectives
from search.study.opening_record import describe_openings
from search.study.searched_space import study_space
from search.study.study import load_study, study_data, study_objectives, study_plan
from search.study.trials import complete_trials, num_finished, trial_configs, trial_result
from search.trial.clips import TrialClips, count_clips, data_store
from search.trial.files import read_rows
from search.trial.job import fresh_seed
from search.trial.outcome import SignerScore
from search.wording import utc_now


@dataclass(frozen=True, kw_only=True)
class ConfirmOptions(SessionOptions):
    """The options of `search confirm`."""

    study: str
    top: int
    """The most trials that are trained again."""

    seeds: int
    """The most fresh seeds that each is trained with."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_in_range("top", self.top, 1)
        require_in_range("seeds", self.seeds, 2, 1000)


def confirm(options: ConfirmOptions, emit: Listener, stop: StopSignals) -> Confirmed | None:
    """Starts or resumes a confirmation, and returns when it ends; None if it was stopped.

    Raises:
        ExplainedError: anything that a person should put right; see `search.errors`.
    """
    device = options.engine.resolve_device()
    if device != "cpu" and options.engine.engine != "ray":
        emit(Working("trying the GPU"))
    gpus = options.engine.working_gpus(device)
    with database_errors(options.storage), opened_storage(options.storage, create=False) as storage:
        study = load_study(storage, options.study, lambda text: emit(Notice(text)))
        require_usable(study)
        emit(Working("choosing the candidates"))
        chosen = trials_to_confirm(study, options.top)
        finished = num_finished(study.get_trials(deepcopy=False))  # trials that finish meanwhile are not candidates
        with nothing_left_if_refused(options.runs):
            make_folder(options.runs)
            data = open_same(study, options.data, options.runs)
        with lease_of(options.storage, study.study_name, lease_s=options.lease_s) as study_lease, study_lease.wait_for_turn():
            claimed = claim(study, storage, options.runs, options.storage)
            name, taken = companion_to_write(study, storage)
        with lease_of(options.storage, name, lease_s=options.lease_s) as lease:
            with lease.wait_for_turn():
                companion = _companion(storage, study, name)
                folder, more = claim_folder(options.runs, companion, options.storage)
            with open_session(options, storage, companion.study_name, folder, lease, emit) as session:
                for text in (*claimed.notices, *taken, *more):
                    session.emit(Notice(text))
                trial_clips = TrialClips(data, study_data(study).split, data_store(options.runs), session.emit)
                if opened := describe_openings(study, storage, options.runs):
                    session.emit(Notice(f"{opened}: what is recommended from now on can no longer be tested on them fairly"))
                trial_source = _trial_source(session, options, study, chosen, trial_clips, device)
                placement = session.place(device, gpus, _work(trial_source, trial_clips))
                session.emit(_started(options, study, trial_source, trial_clips, placement, lease))
                seconds = session.work(
                    trial_source,
                    study_objectives(study),
                    trial_clips,
                    placement,
                    resources=stored_resources(study.user_attrs),
                    max_failures=len(chosen) * options.seeds,  # a failed candidate only leaves the race
                    marks_best=False,  # what counts is the mean over the seeds
                    stop=stop,
                )
                if stop.reason:
                    return None
                session.emit(Working("comparing the candidates"))
                confirmed = _compare_and_store(study, session.study, trial_source, finished)
                session.emit(ConfirmFinished(study.study_name, confirmed, seconds))
                return confirmed


def _trial_source(
    session: Session,
    options: ConfirmOptions,
    study: optuna.Study,
    chosen: Sequence[FrozenTrial],
    trial_clips: TrialClips,
    device: str,
) -> ConfirmTrials:
    seeds = {number: fresh_seed(study.user_attrs["seed"], number) for number in range(1, options.seeds + 1)}
    session.study.pruner = optuna.pruners.NopPruner()
    return ConfirmTrials(
        study=session.study,
        source=study,
        ledger=session.ledger,
        configs={trial.number: trial_configs(trial) for trial in chosen},
        allocation=_allocation(options, study, chosen),
        primary=primary_index(study_objectives(study)),
        plan=study_plan(study),
        seeds=seeds,
        splits={number: fresh_split(trial_clips.split, trial_clips.data, seed) for number, seed in seeds.items()},
        device=device,
        folder=session.folder,
        emit=session.emit,
    )


def _allocation(options: ConfirmOptions, study: optuna.Study, chosen: Sequence[FrozenTrial]) -> Allocation:
    space, primary = study_space(study), primary_index(study_objectives(study))
    trials = study.get_trials(deepcopy=False)
    evidence = list(
        {trial.number: trial for trial in [*chosen, *complete_trials(trials)]}.values()
    )  # and a baseline that failed

    def believe_with(fresh: Mapping[int, Sequence[float]], of: Sequence[int]) -> Belief | None:
        return believe(evidence, space, primary, fresh=fresh, of=of)

    candidates = [
        Candidate(
            trial=trial.number,
            params=trial.params,
            searched=trial.values[primary] if trial in complete_trials([trial]) else None,
            parameters=trial_result(trial).get("parameters"),
        )
        for trial in chosen
    ]
    limit = most_competing(num_finished(trials), options.seeds)
    return Allocation(candidates=candidates, seeds=options.seeds, limit=limit, believe=believe_with)


def _companion(storage: optuna.storages.BaseStorage, study: optuna.Study, name: str) -> optuna.Study:
    companion = optuna.create_study(storage=storage, study_name=name, directions=study.directions, load_if_exists=True)
    link_companion(companion, study)
    name_objectives(companion, study_objectives(study))
    companion.set_user_attr("about", f"the best trials of {study.study_name} and its baseline, trained with fresh seeds")
    return companion


def _work(trial_source: ConfirmTrials, trial_clips: TrialClips) -> Work:
    settings = [configs.as_dict() for configs in trial_source.configs.values()]

    def highest(key: str) -> float:
        group, _, name = key.partition(".")
        return max(float(values[group][name]) for values in settings)

    network = largest_network(highest)
    plan, left = trial_source.plan, trial_source.left
    apart, alike = _apart(settings), len(settings)  # the candidates, with one seed
    return Work.of(
        trial_clips,
        plan,
        network,
        left=left,
        planned=None,
        shares_order=True,
        apart=apart,
        alike=alike,
        unit=trial_source.unit,
    )


def _apart(settings: Sequence[Mapping[str, Mapping[str, Any]]]) -> tuple[str, ...]:
    """The settings in which candidates differ, and which keep their trainings out of one stack."""
    keys = [(group, name) for group, values in settings[0].items() for name in values]
    differing = [f"{group}.{name}" for group, name in keys if len({one[group][name] for one in settings}) > 1]
    return tuple(key for key in differing if key not in MAY_DIFFER_IN_A_STACK)


def _started(
    options: ConfirmOptions,
    study: optuna.Study,
    trial_source: ConfirmTrials,
    trial_clips: TrialClips,
    placement: Placement,
    lease: Lease,
) -> RunStarted:
    configs, plan = list(trial_source.configs.values()), study_plan(study)
    folds = trial_clips.folds(configs[0].preprocess)
    target, left = trial_source.target, trial_source.left
    return RunStarted(
        study=trial_source.study.study_name,
        about=f"{len(configs) - 1} candidates of {study.study_name} and its baseline, at most {options.seeds} fresh seeds each",
        data=str(trial_clips.data.folder),
        words=len(trial_clips.data.words),
        parts=trial_clips.split.parts(),
        clips=count_clips(folds, trial_clips.split),
        device=placement.device,
        workers=placement.workers,
        place=placement.text(),
        storage=redact_url(options.storage),
        runs=str(options.runs),
        finished=target - left,
        target=target,
        epochs=max(one.train.epochs for one in configs),
        space={CANDIDATE: ", ".join(map(str, trial_source.configs)), SEED: f"1 .. {options.seeds}"},
        objectives=tuple(objective.name for objective in study_objectives(study)),
        folds=len(trial_clips.split.folds),
        trainings=len(folds) * plan.repeats,
        run=lease.owner.run,
        unit=trial_source.unit,
        caution=caution_of(trial_clips.split.kind),
    )


def _compare_and_store(study: optuna.Study, companion: optuna.Study, trial_source: ConfirmTrials, finished: int) -> Confirmed:
    objective, seeds = study_objectives(study)[trial_source.primary], trial_source.seeds
    split = study_data(study).split
    trained = companion.get_trials(deepcopy=False)
    values = {
        number: {seed: value for seed, value in by_seed.items() if seed in seeds}
        for number, by_seed in trial_source.values(trained).items()
        if number in trial_source.configs
    }
    reasons = {t.params[CANDIDATE]: attribute(t, "reason", "") for t in trained if t.state == TrialState.FAIL}
    candidates = [replace(one, reason=reasons.get(one.trial, "")) for one in trial_source.allocation.candidates]
    found = compare_candidates(candidates, values, len(seeds), trial_source.decide(trained))
    confirmed = Confirmed(
        time=utc_now(),
        trials=finished,
        objective=objective.name,
        sealed=len(split.test),
        split=split.kind,
        signers=_signer_spread(objective.metric, found, trained, trial_source.folder),
        found=found,
    )
    store_confirmed(study, confirmed)
    return confirmed


def _signer_spread(metric: str, found: Confirmation, trained: Sequence[FrozenTrial], folder: Path) -> SignerSpread | None:
    """By the seeds that measure the recommended setting and the baseline."""

    def scores(candidate: int) -> list[list[SignerScore]]:
        measuring = [one for one in complete_trainings(trained, candidate) if found.choosing < one.params[SEED] <= found.seeds]
        return [read_rows(SignerScore, trial_folder(folder, one.number) / "signers.csv") for one in measuring]

    row = next((row for row in found.rows if row.trial == found.recommended), None)
    if row is None:
        return None
    return signer_spread(metric, scores(row.trial), None if row.trial == BASELINE_TRIAL else scores(BASELINE_TRIAL), row.sd)
