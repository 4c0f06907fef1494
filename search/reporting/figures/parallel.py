"""Every trial as a line over all parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from optuna.trial import FrozenTrial

from data_utils.wording import counted
from search.definition.ranges import Choices
from search.definition.space import Dimension
from search.reporting.facts import Facts
from search.reporting.figures.figure import Figure
from search.reporting.figures.style import (
    GOOD,
    OTHER,
    QUIET,
    outside_note,
    picture,
    short,
    shown,
    thin_note,
    thinned,
    value_range,
)
from search.wording import format_number, format_value

_MOST_LINES = 300
_MOST_AXES = 12
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
    values = {trial.number: trial.values[facts.primary] for trial in facts.complete}
    drawn = thinned(facts.complete, values, _MOST_LINES)
    ranked = sorted(drawn, key=lambda trial: -values[trial.number])
    parts = np.array_split(np.arange(len(ranked)), 4) if len(ranked) >= 4 else [np.arange(len(ranked))]
    limits, outside = value_range(list(values.values()))
    top = max(values.values()) if limits is None else limits[1]
    dims = facts.space[:_MOST_AXES]
    traces = [
        _lines(dims, [ranked[n] for n in part], values, top, *look)
        for part, look in zip(parts, _QUARTERS[-len(parts) :], strict=True)
    ]
    ends = [_foot_and_head(dim) for dim in dims] + [(format_value(min(values.values())), format_value(top))]
    names = [shown(name) for name in (*(dim.name for dim in dims), facts.objective)]
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
        f"Each line is a complete trial over {counted(len(dims), 'parameter')} and its {facts.objective}; those that end "
        f"lowest are the best, first of them trial {best.number} with {format_value(values[best.number])}."
    )
    return Figure("parallel", title, caption + outside_note(outside) + thin_note(len(drawn), len(facts.complete)), plot)


def _lines(
    dims: Sequence[Dimension],
    trials: Sequence[FrozenTrial],
    values: Mapping[int, float],
    top: float,
    name: str,
    color: str,
    width: float,
) -> go.Scatter:
    lowest = min(values.values())
    x: list[int | None] = []
    y: list[float | None] = []
    for trial in trials:
        last = min((values[trial.number] - lowest) / (top - lowest), 1.05) if top > lowest else 0.5
        x += [*range(len(dims) + 1), None]
        y += [*short([*(_height(dim, trial.params.get(dim.name)) for dim in dims), last], 3), None]
    line = {"color": color, "width": width}
    return go.Scatter(x=x, y=y, mode="lines", name=name, line=line, opacity=0.75, hoverinfo="skip")


def _height(dim: Dimension, value: Any) -> float | None:
    """Where a value stands on its axis, 0..1; None for a parameter that the trial did not have."""
    if value is None:
        return None
    if not isinstance(dim.domain, Choices):
        return dim.position(value)
    order = list(dim.domain.choices)
    return dim.position(value) / (len(order) - 1) if value in order and len(order) > 1 else 0.5


def _foot_and_head(dim: Dimension) -> tuple[str, str]:
    """What stands at the foot and at the head of an axis."""
    if isinstance(dim.domain, Choices):
        order = list(dim.domain.choices)
        return shown(order[0]), shown(order[-1])
    return format_number(dim.domain.low), format_number(dim.domain.high)
