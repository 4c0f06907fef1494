"""All figures in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from search.reporting.figures.figure import Figure

if TYPE_CHECKING:
    from search.reporting.facts import Facts


def figures(facts: Facts) -> Iterator[Figure]:
    """All figures of a study, in the order of the report."""
    from search.reporting.figures import answers, curves, grid, parallel, progress, space, trust, work

    if facts.analysis.grid is not None:
        yield grid.settings(facts, facts.analysis.grid)
    yield trust.confirmation(facts)
    yield space.importance(facts)
    yield space.isolation(facts)
    yield curves.learning_curves(facts)
    yield progress.history(facts)
    if (front := progress.front(facts)) is not None:
        yield front
    yield space.slices(facts)
    yield space.contour(facts)
    yield parallel.parallel(facts)
    models, baseline = facts.model_answers(facts.chosen), facts.model_answers(facts.baseline)
    yield answers.confusion(facts, models)
    yield answers.signers(facts, models, baseline)
    yield answers.reliability(facts, models, baseline)
    yield work.timeline(facts)
