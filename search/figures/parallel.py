"""Every trial as a line over all parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from optuna.trial import FrozenTrial

from search.figures import Figure
from search.figures.facts import Facts
from search.figures.style import GOOD, OTHER, QUIET, picture, short, shown, thin_note, thinned, unit
from search.space import Choices, Dimension
from search.wording import number, value_text

_MOST_LINES = 300
_QUARTERS = (
    ("worst quarter", QUIET, 0.8),
    ("third quarter", "#b58f6a", 0.9),
    ("second quarter", OTHER, 1.1),
    ("best quarter", GOOD, 2.0),
)
"""From the worst: name, colour and width of their lines."""


def parallel(facts: Facts) -> Figure:
    """A line a complete trial; the last axis is the value."""
    title = "Parallel coordinates"
    if not facts.complete:
        return Figure("parallel", title, "There is nothing to draw: no trial has trained to its end.")
    values = {trial.number: trial.values[facts.lead] for trial in facts.complete}
    drawn = thinned(facts.complete, values, _MOST_LINES)
    ranked = sorted(drawn, key=lambda trial: -values[trial.number])
    parts = np.array_split(np.arange(len(ranked)), 4) if len(ranked) >= 4 else [np.arange(len(ranked))]
    traces = [
        _lines(facts, [ranked[n] for n in part], values, *look)
        for part, look in zip(parts, _QUARTERS[-len(parts) :], strict=True)
    ]
    ends = [_ends(dim) for dim in facts.space] + [(value_text(min(values.values())), value_text(max(values.values())))]
    names = [shown(name) for name in (*(dim.name for dim in facts.space), facts.objective)]
    plot = picture(
        traces,
        height=360,
        showlegend=len(parts) > 1,
        xaxis={
            "tickvals": list(range(len(names))),
            "ticktext": [f"{name}<br>{low}" for name, (low, _) in zip(names, ends, strict=True)],
            "range": [-0.3, len(names) - 0.7],
        },
        yaxis={"showticklabels": False, "range": [-0.03, 1.1]},
        annotations=[{"x": n, "y": 1.06, "text": high, "showarrow": False} for n, (_, high) in enumerate(ends)],
    )
    best = ranked[-1]
    caption = (
        f"Each line is a complete trial over all {len(facts.space)} parameters and its {facts.objective}; those that end "
        f"lowest are the best, first of them trial {best.number} with {value_text(values[best.number])}."
    )
    return Figure("parallel", title, caption + thin_note(len(drawn), len(facts.complete)), plot)


def _lines(
    facts: Facts, trials: Sequence[FrozenTrial], values: Mapping[int, float], name: str, color: str, width: float
) -> go.Scatter:
    lowest, highest = min(values.values()), max(values.values())
    x: list[int | None] = []
    y: list[float | None] = []
    for trial in trials:
        last = (values[trial.number] - lowest) / (highest - lowest) if highest > lowest else 0.5
        x += [*range(len(facts.space) + 1), None]
        y += [*short([*(_height(dim, trial.params.get(dim.name)) for dim in facts.space), last], 3), None]
    line = {"color": color, "width": width}
    return go.Scatter(x=x, y=y, mode="lines", name=name, line=line, opacity=0.75, hoverinfo="skip")


def _height(dim: Dimension, value: Any) -> float | None:
    """Where a value stands on its axis, 0..1; None for a parameter that the trial did not have."""
    if value is None:
        return None
    if isinstance(dim.domain, Choices):
        order = list(dim.domain.choices)
        return order.index(value) / (len(order) - 1) if value in order and len(order) > 1 else 0.5
    return unit(dim, value)


def _ends(dim: Dimension) -> tuple[str, str]:
    """What stands at the foot and at the head of an axis."""
    if isinstance(dim.domain, Choices):
        order = list(dim.domain.choices)
        return shown(order[0]), shown(order[-1])
    return number(dim.domain.low), number(dim.domain.high)
