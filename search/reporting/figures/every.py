"""All figures in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from search.reporting.figures.figure import Figure

if TYPE_CHECKING:
    from search.reporting.facts import Facts


def figures(facts: Facts) -> Iterator[Figure]:
    """All of them, in the order in which a report tells its story."""
    from search.reporting.figures import answers, curves, parallel, progress, trust, work
    from search.reporting.figures import space as place

    yield trust.confirmation(facts)
    yield place.importance(facts)
    yield place.isolation(facts)
    yield curves.learning_curves(facts)
    yield progress.history(facts)
    if (front := progress.front(facts)) is not None:
        yield front
    yield place.slices(facts)
    yield place.contour(facts)
    yield parallel.parallel(facts)
    clips, baseline = facts.clips_of(facts.chosen), facts.clips_of(facts.baseline)
    yield answers.confusion(facts, clips)
    yield answers.signers(facts, clips, baseline)
    yield answers.reliability(facts, clips)
    yield work.timeline(facts)
