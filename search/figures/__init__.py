"""What is drawn of a study: each figure made once, for the report and for the dashboard alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from search.figures.facts import Facts


@dataclass(frozen=True)
class Figure:
    """A picture and what it shows."""

    name: str
    """Fixed, lower case: by it the dashboard replaces the picture, and the page finds it."""

    title: str
    caption: str
    """One sentence on what it shows in this very study, or why there is nothing to draw."""

    plot: go.Figure | None = None
    """None where there is nothing to draw."""


def figures(facts: Facts) -> Iterator[Figure]:
    """All of them, in the order in which a report tells its story."""
    from search.figures import answers, curves, parallel, place, progress, trust, work

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
