"""What the page of a search shows, and that of its confirmation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from optuna.trial import FrozenTrial

from search.reporting.dashboard.notes import confirmation_note, study_note, training_notes, trial_notes
from search.reporting.facts import Facts
from search.study.folder import StudyFolder

DRAWN_BY_OPTUNA = {"history", "front", "importance", "slices", "contour", "timeline"}
"""Figures that optuna-dashboard draws itself, on the page of the study or under Analytics."""

_OF_THE_CONFIRMATION = ("confirmation", "confusion", "signers", "reliability")
"""Figures about trainings with fresh seeds."""

_MAX_TRIALS = 100
"""Files are added to this many of the best trials, and to this many of the newest."""


@dataclass(frozen=True)
class Contents:
    """What one page shows. Texts are written when they are asked for: one that fails leaves the others."""

    study_id: int
    note: Callable[[Facts], str]
    trial_notes: Callable[[Facts], Mapping[int, str]]
    """By trial number."""

    trials: Sequence[FrozenTrial]
    with_files: Sequence[FrozenTrial]
    """The trials that show their files, the most interesting ones first."""

    folder: StudyFolder
    has_figure: Callable[[str], bool]
    """Whether it shows the figure of a name."""


def pages_of(facts: Facts) -> list[Contents]:
    """The page of the search and, once it is being confirmed, that of its confirmation."""
    search = Contents(
        facts.study._study_id,
        study_note,
        trial_notes,
        facts.trials,
        _selected_trials(facts),
        facts.folder,
        lambda name: name not in DRAWN_BY_OPTUNA,
    )
    if facts.companion is None or facts.fresh_folder is None:
        return [search]
    confirmation = Contents(
        facts.companion._study_id,
        confirmation_note,
        training_notes,
        facts.fresh,
        [trial for trial in reversed(facts.fresh) if trial.state.is_finished()][: 2 * _MAX_TRIALS],
        facts.fresh_folder,
        lambda name: name in _OF_THE_CONFIRMATION,
    )
    return [search, confirmation]


def _selected_trials(facts: Facts) -> list[FrozenTrial]:
    """The chosen trial, the baseline, then the best and the newest finished trials in alternation."""
    best = facts.ranked[:_MAX_TRIALS]
    newest = [trial for trial in reversed(facts.trials) if trial.state.is_finished()][:_MAX_TRIALS]
    ordered = [facts.chosen, facts.baseline, *chain.from_iterable(zip_longest(best, newest))]
    return list({trial.number: trial for trial in ordered if trial is not None}.values())
