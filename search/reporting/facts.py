"""Everything that a report shows of one study, read once: from its database and from its trials' files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from model.record import EpochRecord
from search import BASELINE_TRIAL
from search.definition.objectives import StudyObjective, primary_index
from search.definition.space import Dimension
from search.evaluation.analysis.analyze import Analysis, analyze
from search.evaluation.analysis.isolation import segments, trial_points
from search.storage.url import shown_url
from search.study.companion import CANDIDATE, companion_name, fresh_trainings
from search.study.confirmed import Confirmed, load_confirmed
from search.study.openings import Opening, openings, openings_of_signers
from search.study.searched_space import study_space
from search.study.study import StudyData, study_data, study_objectives, study_plan
from search.study.trials import FINISHED_STATES, best_trial, complete_trials, trial_result
from search.trial.files import Row, read_curves, read_rows, trial_folder
from search.trial.outcome import AnswerCount, Confidence, SignerScore

_MOST_TRAININGS = 10_000
_MOST_CURVES = 40
"""Curves that are drawn of one band: more would hide each other."""


@dataclass(frozen=True)
class Band:
    """A part of the range of the parameter that is studied, and the complete trials in it."""

    text: str
    trials: tuple[FrozenTrial, ...]


@dataclass(frozen=True)
class Clips:
    """What the models of one setting do with the validation clips, clip by clip."""

    trial: int
    models: int
    """Trainings that are added up: those of a confirmation with fresh seeds if there are any, else the trial's own."""

    confirmed: bool
    answers: tuple[AnswerCount, ...]
    confidences: tuple[Confidence, ...]
    signers: tuple[SignerScore, ...]


class Facts:
    """One study. What is costly is made when it is first asked for."""

    def __init__(self, study: optuna.Study, storage: optuna.storages.BaseStorage, *, url: str, runs: Path) -> None:
        """Reads the study and its confirmation from the storage, which is at an URL; its trials' files lie under `runs`."""
        self.opened = study
        self.name = study.study_name
        self.storage = shown_url(url)
        self.about: str = study.user_attrs.get("about", "")
        self.runs = runs
        self.trials: list[FrozenTrial] = study.get_trials(deepcopy=False)
        self.fresh: list[FrozenTrial] = fresh_trainings(study, storage)
        self.objectives: tuple[StudyObjective, ...] = study_objectives(study)
        self.primary = primary_index(self.objectives)
        self.plan = study_plan(study)
        self.space: tuple[Dimension, ...] = study_space(study)
        self.data: StudyData = study_data(study)
        self.seed: int = study.user_attrs.get("seed", 0)
        self.target: int = study.user_attrs.get("target", 0)
        self.confirmed: Confirmed | None = load_confirmed(study)
        self.openings: Sequence[Opening] = openings(study)
        self.looks: Sequence[tuple[str, Opening]] = openings_of_signers(study, storage)
        self.analysis: Analysis = analyze(study, storage)

    @property
    def objective(self) -> str:
        """What values are: the primary objective's name."""
        return self.objectives[self.primary].name

    @cached_property
    def complete(self) -> list[FrozenTrial]:
        """Trials that have trained to their end."""
        return complete_trials(self.trials)

    @cached_property
    def best(self) -> FrozenTrial | None:
        """The complete trial with the lowest value."""
        return best_trial(self.trials, self.primary)

    @property
    def baseline(self) -> FrozenTrial | None:
        """The setting that all others are seen against, once it has ended."""
        ended = [trial for trial in self.trials[: BASELINE_TRIAL + 1] if trial.state in FINISHED_STATES]
        return ended[0] if ended else None

    @property
    def chosen(self) -> FrozenTrial | None:
        """What to use: the confirmed trial, else the best."""
        return None if self.analysis.chosen is None else self.trials[self.analysis.chosen]

    @property
    def studied(self) -> Dimension | None:
        """The parameter that the study asks about: the first scientific one, else the first."""
        scientific = [dim for dim in self.space if dim.role == "scientific"]
        return next(iter([*scientific, *self.space]), None)

    @property
    def opening(self) -> tuple[int, Opening] | None:
        """The last look at the sealed signers that came to its end, with its place among all of the study."""
        return next(((n, one) for n, one in reversed(list(enumerate(self.openings))) if one.scores), None)

    def of_state(self, state: TrialState) -> list[FrozenTrial]:
        """The trials in one state."""
        return [trial for trial in self.trials if trial.state == state]

    def value(self, trial: FrozenTrial) -> float | None:
        """The primary objective's value; of a pruned trial what it had reached; None for one that gave nothing."""
        result = trial_result(trial)
        if not result:
            return None
        values = result.get("values") or {"val_loss": result["val_loss"]}
        found: float | None = values.get(self.objective)
        return found

    @cached_property
    def bands(self) -> tuple[Band, ...]:
        """The complete trials by where they lie on the parameter that is studied. Bands without trials are left out."""
        dim = self.studied
        if dim is None:
            return ()
        points = trial_points(self.complete, dim.name, lambda trial: trial.values[self.primary])
        parts = segments(points, domain=dim.domain)
        return tuple(Band(part.text, tuple(self.trials[p.trial] for p in part.points)) for part in parts if part.points)

    def curves(self, trial: FrozenTrial) -> list[list[EpochRecord]]:
        """The epochs of each of a trial's trainings; none if its files are gone."""
        return list(read_curves(trial_folder(self.runs, self.name, trial.number) / "curve.csv").values())

    def drawn(self, band: Band) -> tuple[FrozenTrial, ...]:
        """The trials of a band whose curves are drawn: all, or an even choice."""
        step = max(1, -(-len(band.trials) // _MOST_CURVES))
        return band.trials[::step]

    def clips_of(self, trial: FrozenTrial | None) -> Clips | None:
        """What a setting's models do with the validation clips; None if nothing was kept of that."""
        if trial is None:
            return None
        fresh = [one for one in self.fresh if one.params.get(CANDIDATE) == trial.number and one.state == TrialState.COMPLETE]
        places = [(self.name, trial.number)]
        if self.confirmed is not None and fresh:
            places = [(companion_name(self.name), one.number) for one in fresh]
        folders = [trial_folder(self.runs, study, number) for study, number in places]
        answers = tuple(_all(AnswerCount, folders, "answers.csv"))
        if not answers:
            return None
        return Clips(
            trial=trial.number,
            models=len({row.training for row in answers}),
            confirmed=places[0][0] != self.name,
            answers=answers,
            confidences=tuple(_all(Confidence, folders, "confidence.csv")),
            signers=tuple(_all(SignerScore, folders, "signers.csv")),
        )


def _all(kind: type[Row], folders: Sequence[Path], name: str) -> Iterator[Row]:
    """The rows of all folders; trainings are numbered anew, so that no two have the same number."""
    for n, folder in enumerate(folders):
        for row in read_rows(kind, folder / name):
            yield replace(row, training=n * _MOST_TRAININGS + row.training)
