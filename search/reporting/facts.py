"""Everything that the report and the dashboard show of one study, read once from its database and its trials' files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from data_utils.wording import caution_of
from model.record import EpochRecord
from search import BASELINE_TRIAL
from search.definition.objectives import StudyObjective, primary_index
from search.definition.space import Dimension
from search.evaluation.analysis.analyze import Analysis, analyze
from search.evaluation.analysis.isolation import segments, trial_points
from search.storage.url import redact_url
from search.study.companion import CANDIDATE, find_companion
from search.study.confirmed import Confirmed, load_confirmed
from search.study.folder import StudyFolder, find_folder
from search.study.opening_record import RecordedOpening, openings_of_signers
from search.study.openings import Opening, openings
from search.study.recommendation import Choice, Recommendation, chosen_trial
from search.study.searched_space import study_space
from search.study.study import StudyData, study_data, study_objectives
from search.study.study_id import study_id
from search.study.trials import FINISHED_STATES, best_trial, complete_trials, trial_result, trial_with
from search.trial.files import Row, read_curves, read_rows
from search.trial.outcome import AnswerCount, Confidence, SignerScore

_TRAININGS_PER_FOLDER = 10_000
_MAX_CURVES = 40
"""Curves drawn per band; more would hide each other."""


@dataclass(frozen=True)
class Band:
    """A section of the studied parameter's range, and the complete trials in it."""

    text: str
    trials: tuple[FrozenTrial, ...]


@dataclass(frozen=True)
class ModelAnswers:
    """What the models of one setting answer to the validation clips."""

    trial: int
    models: int
    """Trainings whose answers are added up: those of a confirmation with fresh seeds if there are any, else the trial's own."""

    confirmed: bool
    answers: tuple[AnswerCount, ...]
    confidences: tuple[Confidence, ...]
    signers: tuple[SignerScore, ...]


class Facts:
    """One study as the report and the dashboard show it. Values that take time are computed on first use."""

    def __init__(self, study: optuna.Study, storage: optuna.storages.BaseStorage, *, url: str, runs: Path) -> None:
        """Reads the study and its confirmation. `url` is the storage's URL; the files of trials are under `runs`."""
        self.study = study
        self.name = study.study_name
        self.id = study_id(study) or ""
        self.storage = redact_url(url)
        self.about: str = study.user_attrs.get("about", "")
        self.runs = runs
        self.trials: list[FrozenTrial] = study.get_trials(deepcopy=False)
        self.folder: StudyFolder = find_folder(runs, study)
        self.companion = companion = find_companion(study, storage)
        self.fresh: list[FrozenTrial] = [] if companion is None else companion.get_trials(deepcopy=False)
        self.fresh_folder = None if companion is None else find_folder(runs, companion)
        self.objectives: tuple[StudyObjective, ...] = study_objectives(study)
        self.primary = primary_index(self.objectives)
        self.space: tuple[Dimension, ...] = study_space(study)
        self.data: StudyData = study_data(study)
        self.held_out = self.data.split.kind
        """What is held out: `signers` or `clips`."""

        self.caution = caution_of(self.held_out)
        self.seed: int = study.user_attrs.get("seed", 0)
        self.target: int = study.user_attrs.get("target", 0)
        self.confirmed: Confirmed | None = load_confirmed(study)
        self.openings: Sequence[Opening] = openings(study)
        self.all_openings: Sequence[RecordedOpening] = openings_of_signers(study, storage, runs)
        self.choice: Choice | None = chosen_trial(study)
        self.analysis: Analysis = analyze(study, storage)

    @property
    def objective(self) -> str:
        """The name of the primary objective."""
        return self.objectives[self.primary].name

    @property
    def metric(self) -> str:
        """The metric of the primary objective."""
        return self.objectives[self.primary].metric

    @cached_property
    def complete(self) -> list[FrozenTrial]:
        """The trials that trained to their end."""
        return complete_trials(self.trials)

    @cached_property
    def best(self) -> FrozenTrial | None:
        """The complete trial with the lowest value of the primary objective."""
        return best_trial(self.trials, self.primary)

    @cached_property
    def values(self) -> dict[int, float]:
        """The values of the complete trials by trial number."""
        return {trial.number: trial.values[self.primary] for trial in self.complete}

    @cached_property
    def ranked(self) -> list[FrozenTrial]:
        """The complete trials, the best first."""
        return sorted(self.complete, key=lambda trial: (self.values[trial.number], trial.number))

    @property
    def baseline(self) -> FrozenTrial | None:
        """The trial of the baseline setting, once it has finished."""
        baseline = trial_with(self.trials, BASELINE_TRIAL)
        return baseline if baseline is not None and baseline.state in FINISHED_STATES else None

    @property
    def chosen(self) -> FrozenTrial | None:
        """The trial to use (see `chosen_trial`)."""
        return None if self.choice is None else self.choice.trial

    @property
    def believed(self) -> Recommendation | None:
        """What a model of the search recommends; None without a model, and where a confirmation has decided."""
        return None if self.choice is None else self.choice.believed

    @property
    def studied(self) -> Dimension | None:
        """The parameter that the study is about: the first scientific one, else the first."""
        scientific = [dim for dim in self.space if dim.role == "scientific"]
        return next(iter([*scientific, *self.space]), None)

    @property
    def last_opening(self) -> tuple[int, Opening] | None:
        """The last completed evaluation on the sealed test signers, with its index in `openings`."""
        return next(((n, one) for n, one in reversed(list(enumerate(self.openings))) if one.scores), None)

    def trials_in_state(self, state: TrialState) -> list[FrozenTrial]:
        """The trials in one state."""
        return [trial for trial in self.trials if trial.state == state]

    def value(self, trial: FrozenTrial) -> float | None:
        """A trial's value of the primary objective; a pruned trial's value when it was stopped; None without a result."""
        result = trial_result(trial)
        if not result:
            return None
        values = result.get("values") or {"val_loss": result["val_loss"]}
        found: float | None = values.get(self.objective)
        return found

    @cached_property
    def bands(self) -> tuple[Band, ...]:
        """The complete trials by section of the studied parameter's range; sections without trials are left out."""
        dim = self.studied
        if dim is None:
            return ()
        points = trial_points(self.complete, dim.name, lambda trial: trial.values[self.primary])
        parts = segments(points, domain=dim.domain)
        trials = {trial.number: trial for trial in self.complete}
        return tuple(Band(part.text, tuple(trials[p.trial] for p in part.points)) for part in parts if part.points)

    def curves(self, trial: FrozenTrial) -> list[list[EpochRecord]]:
        """The epochs of each training of a trial; empty if its files are missing."""
        return list(read_curves(self.folder.of_trial(trial) / "curve.csv").values())

    def num_answers(self, trial: FrozenTrial) -> int | None:
        """How many answers to validation clips the accuracy of a trial counts; None if its files are missing."""
        return sum(row.clips for row in read_rows(SignerScore, self.folder.of_trial(trial) / "signers.csv")) or None

    def sampled_trials(self, band: Band) -> tuple[FrozenTrial, ...]:
        """The trials of a band whose curves are drawn: all of them, or every n-th of many."""
        step = max(1, -(-len(band.trials) // _MAX_CURVES))
        return band.trials[::step]

    def model_answers(self, trial: FrozenTrial | None) -> ModelAnswers | None:
        """What the models of a trial's setting answer to the validation clips; None if no answers were kept."""
        if trial is None:
            return None
        fresh = [one for one in self.fresh if one.params.get(CANDIDATE) == trial.number and one.state == TrialState.COMPLETE]
        confirmed = self.confirmed is not None and bool(fresh) and self.fresh_folder is not None
        folders = [self.folder.of_trial(trial)]
        if confirmed and self.fresh_folder is not None:
            folders = [self.fresh_folder.of_trial(one) for one in fresh]
        answers = tuple(_read_all(AnswerCount, folders, "answers.csv"))
        if not answers:
            return None
        return ModelAnswers(
            trial=trial.number,
            models=len({row.training for row in answers}),
            confirmed=confirmed,
            answers=answers,
            confidences=tuple(_read_all(Confidence, folders, "confidence.csv")),
            signers=tuple(_read_all(SignerScore, folders, "signers.csv")),
        )


def _read_all(kind: type[Row], folders: Sequence[Path], name: str) -> Iterator[Row]:
    """The rows of one file in every folder, with training numbers that are unique across the folders."""
    for n, folder in enumerate(folders):
        for row in read_rows(kind, folder / name):
            yield replace(row, training=n * _TRAININGS_PER_FOLDER + row.training)
