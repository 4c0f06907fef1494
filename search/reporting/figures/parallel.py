"""Every trial as a line over all parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from optuna.trial import FrozenTrial

from data_utils.wording import counted
from search import BASELINE_TRIAL
from search.definition.ranges import Choices
from search.definition.space import Dimension
from search.reporting.facts import Facts
from search.reporting.figures.figure import Figure
from search.reporting.figures.style import (
    BLUE,
    GRAY,
    ORANGE,
    axis_range,
    label_text,
    outlier_note,
    rounded,
    sample_note,
    sample_trials,
    styled_figure,
)
from search.wording import format_number, format_value

_MAX_LINES = 300
_MAX_AXES = 12
_QUARTERS = (
    ("worst quarter", GRAY, 0.8),
    ("third quarter", "#8fa3ba", 0.9),
    ("second quarter", "#6b9bd1", 1.1),
    ("best quarter", BLUE, 2.0),
)
"""Name, color and line width, from the worst to the best."""


def parallel(facts: Facts) -> Figure:
    """A line per complete trial; the last axis is the value."""
    title = "Parallel coordinates"
    if not facts.complete:
        return Figure("parallel", title, "Nothing to draw: no trial has trained to its end.")
    values = facts.values
    drawn = sample_trials(facts.complete, values, _MAX_LINES)
    ranked = sorted(drawn, key=lambda trial: -values[trial.number])
    groups = np.array_split(np.arange(len(ranked)), 4) if len(ranked) >= 4 else [np.arange(len(ranked))]
    limits, outside = axis_range(list(values.values()), values.get(BASELINE_TRIAL))
    top = max(values.values()) if limits is None else limits[1]
    dims = facts.space[:_MAX_AXES]
    traces = [
        _lines(dims, [ranked[n] for n in group], values, top, *look)
        for group, look in zip(groups, _QUARTERS[-len(groups) :], strict=True)
    ]
    if base := [trial for trial in ranked if trial.number == BASELINE_TRIAL]:
        traces.append(_lines(dims, base, values, top, "baseline", ORANGE, 2.4).update(line={"dash": "dash"}, opacity=1))
    ends = [_axis_ends(dim) for dim in dims] + [(format_value(min(values.values())), format_value(top))]
    names = [label_text(name) for name in (*(dim.name for dim in dims), facts.objective)]
    plot = styled_figure(
        traces,
        height=360,
        showlegend=len(traces) > 1,
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
        f"Each line is a complete trial over {counted(len(dims), 'parameter')} and its {facts.objective}. Lines that end lower "
        f"are better; the best is trial {best.number} with {format_value(values[best.number])}."
    )
    return Figure("parallel", title, caption + outlier_note(outside) + sample_note(len(drawn), len(facts.complete)), plot)


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
        y += [*rounded([*(_height(dim, trial.params.get(dim.name)) for dim in dims), last], 3), None]
    line = {"color": color, "width": width}
    return go.Scatter(x=x, y=y, mode="lines", name=name, line=line, opacity=0.75, hoverinfo="skip")


def _height(dim: Dimension, value: Any) -> float | None:
    """A value's position on its axis, 0..1; None for a parameter that the trial did not have."""
    if value is None:
        return None
    if not isinstance(dim.domain, Choices):
        return dim.position(value)
    order = list(dim.domain.choices)
    return dim.position(value) / (len(order) - 1) if value in order and len(order) > 1 else 0.5


def _axis_ends(dim: Dimension) -> tuple[str, str]:
    """The labels at the bottom and at the top of an axis."""
    if isinstance(dim.domain, Choices):
        order = list(dim.domain.choices)
        return label_text(order[0]), label_text(order[-1])
    return format_number(dim.domain.low), format_number(dim.domain.high)
