"""Where in the space the good settings lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from optuna.trial import FrozenTrial

from search.definition.ranges import Choices, Range
from search.definition.space import Dimension
from search.evaluation.analysis.isolation import isolation_bins, trial_points
from search.reporting.facts import Facts
from search.reporting.figures.figure import Figure
from search.reporting.figures.style import (
    GOOD,
    OTHER,
    QUIET,
    back,
    outside_note,
    picture,
    places,
    short,
    shown,
    thin_note,
    thinned,
    trial_hover,
    value_range,
)
from search.wording import format_number, format_value

_GRID = 24
"""Points along each side of the contour."""

_MOST_SLICES = 12
_FEW = 5
"""Fewer trials in a part of a range are an anecdote."""

_MOST_DOTS = 2000
"""Of all slices together."""


def importance(facts: Facts) -> Figure:
    """How much each parameter mattered, with how sure that is."""
    title = "Which parameters mattered"
    found = facts.analysis.importance
    if found is None:
        why = facts.analysis.no_importance
        return Figure("importance", title, f"{why[:1].upper()}{why[1:]}.")
    params = list(reversed(found.params))
    bar = go.Bar(
        orientation="h",
        x=short(one.importance for one in params),
        y=list(range(len(params))),
        error_x={
            "type": "data",
            "symmetric": False,
            "array": short(max(one.high - one.importance, 0) for one in params),
            "arrayminus": short(max(one.importance - one.low, 0) for one in params),
        },
        marker={"color": GOOD},
        hovertemplate="%{x:.2f}<extra></extra>",
    )
    ticks = {"tickvals": list(range(len(params))), "ticktext": [shown(one.name) for one in params]}
    plot = picture([bar], height=110 + 34 * len(params), xaxis={"title": {"text": "share"}, "rangemode": "tozero"}, yaxis=ticks)
    first = found.params[0]
    caption = (
        f"{first.name} has mattered most, with a share of {first.importance:.2f} (nine of ten bootstrap draws: "
        f"{first.low:.2f} to {first.high:.2f}); shares by PED-ANOVA over {found.trials:,} complete trials."
    )
    return Figure("importance", title, caption, plot)


def isolation(facts: Facts) -> Figure:
    """What was reached along the parameter that the study asks about, the others at whatever suited."""
    dim = facts.studied
    title = "Isolation" if dim is None else f"The best by {dim.name}"
    having = [] if dim is None else [trial for trial in facts.complete if dim.name in trial.params]
    if dim is None or not having:
        return Figure("isolation", title, "There is nothing to draw: no trial has trained to its end.")
    points = trial_points(having, dim.name, lambda trial: trial.values[facts.primary])
    reached = [one for one in isolation_bins(points, domain=dim.domain) if one.best is not None]
    values = {trial.number: trial.values[facts.primary] for trial in having}
    drawn = thinned(having, values)
    x, axis = places(dim, [trial.params[dim.name] for trial in drawn])
    limits, outside = value_range([values[trial.number] for trial in drawn])
    dots = _dots(facts, drawn, x, values, QUIET)
    dots.update(name="trials", showlegend=True)
    middles, _ = places(dim, [_middle(dim, one.low, one.high) for one in reached])
    sure = [(at, one.confident if one.count >= _FEW else None) for at, one in zip(middles, reached, strict=True)]
    lines = [_line(middles, [one.best for one in reached], "best seen", GOOD)]
    if any(value is not None for _, value in sure):
        lines.append(_line(middles, [value for _, value in sure], "drawn anew, nine times in ten", OTHER))
    plot = picture([dots, *lines], xaxis=axis, yaxis={"title": {"text": shown(facts.objective)}, "range": limits})
    best = min(reached, key=lambda one: (one.best, one.trial))
    assert best.best is not None, "a part that was reached has a best"
    trials = "1 complete trial lies" if best.count == 1 else f"{best.count:,} complete trials lie"
    caption = (
        f"The lowest {facts.objective} seen, {format_value(best.best)}, lies at {dim.name} {best.text}, where {trials}; it is "
        "one trial's, and the other parameters differ between the points."
    )
    if len(lines) > 1:
        caption += (
            " The second line is what the best of as many trials, drawn anew from those seen, reaches nine times in ten; "
            f"parts with fewer than {_FEW} trials have none."
        )
    return Figure("isolation", title, caption + outside_note(outside) + thin_note(len(drawn), len(having)), plot)


def _middle(dim: Dimension, low: Any, high: Any) -> Any:
    if isinstance(dim.domain, Choices) or low == high:
        return low
    return float(np.sqrt(low * high)) if dim.domain.log else (low + high) / 2


def _line(x: Sequence[Any], y: Sequence[float | None], name: str, color: str) -> go.Scatter:
    return go.Scatter(
        x=list(x),
        y=short(y),
        mode="lines+markers",
        name=name,
        line={"color": color, "width": 2},
        hovertemplate="%{y:.4f}<extra></extra>",
    )


def _dots(facts: Facts, trials: Sequence[FrozenTrial], x: Sequence[Any], values: Mapping[int, float], color: Any) -> go.Scatter:
    numbers = [trial.number for trial in trials]
    return go.Scatter(
        x=list(x),
        y=short(values[n] for n in numbers),
        customdata=numbers,
        mode="markers",
        marker={"color": color, "size": 6, "opacity": 0.8},
        showlegend=False,
        hovertemplate=trial_hover(facts.objective),
    )


def slices(facts: Facts) -> Figure:
    """Values along each parameter alone."""
    title = "Slices"
    dims = facts.space[:_MOST_SLICES]
    if not facts.complete:
        return Figure("slices", title, "There is nothing to draw: no trial has trained to its end.")
    values = {trial.number: trial.values[facts.primary] for trial in facts.complete}
    drawn = thinned(facts.complete, values, _MOST_DOTS // max(len(dims), 1))
    limits, outside = value_range([values[trial.number] for trial in drawn])
    rows = -(-len(dims) // 2)
    layout: dict[str, Any] = {"height": 40 + 230 * rows, "showlegend": False}
    traces = []
    for n, dim in enumerate(dims):
        having = [trial for trial in drawn if dim.name in trial.params]
        x, axis = places(dim, [trial.params[dim.name] for trial in having])
        dots = _dots(facts, having, x, values, GOOD)
        star = [trial for trial in having if facts.chosen is not None and trial.number == facts.chosen.number]
        row, column, end = n // 2, n % 2, "" if n == 0 else str(n + 1)
        dots.update(xaxis=f"x{end}", yaxis=f"y{end}")
        traces.append(dots)
        if star:
            at, _ = places(dim, [star[0].params[dim.name]])
            best = _dots(facts, star, at, values, OTHER)
            best.update(xaxis=f"x{end}", yaxis=f"y{end}", marker={"color": OTHER, "size": 13, "symbol": "star"})
            traces.append(best)
        top = 1 - row / rows
        layout[f"xaxis{end}"] = {**axis, "domain": [0.56 * column, 0.44 + 0.56 * column], "anchor": f"y{end}"}
        layout[f"yaxis{end}"] = {
            "domain": [max(top - 0.68 / rows, 0.0), top],
            "anchor": f"x{end}",
            "range": limits,
            "title": {"text": shown(facts.objective) if column == 0 else ""},
        }
    plot = picture(traces, **layout)
    left_out = f", the first {len(dims)} of {len(facts.space)} parameters" if len(dims) < len(facts.space) else ""
    chosen = (
        ""
        if facts.chosen is None
        else f"; the star is trial {facts.chosen.number}, "
        + ", ".join(f"{name} {format_number(value)}" for name, value in facts.chosen.params.items())
    )
    caption = f"The {facts.objective} of every complete trial along each parameter{left_out}{chosen}."
    return Figure("slices", title, caption + outside_note(outside) + thin_note(len(drawn), len(facts.complete)), plot)


def contour(facts: Facts) -> Figure:
    """The value over the parameter that is studied and the learning rate, or the next number that is searched."""
    title = "Contour"
    pair = _pair(facts)
    if pair is None:
        return Figure("contour", title, "There is nothing to draw: a contour needs two searched numbers.")
    first, second = pair
    having = [t for t in facts.complete if first.name in t.params and second.name in t.params]
    values = {trial.number: trial.values[facts.primary] for trial in having}
    grid = _grid(having, first, second, values)
    if grid is None:
        few = f"{len(having)} complete {'trial does' if len(having) == 1 else 'trials do'} not span an area"
        return Figure("contour", title, f"There is nothing to draw: {few}.")
    limits, _ = value_range(list(values.values()))
    surface = go.Contour(
        **grid,
        colorscale="Viridis",
        reversescale=True,
        zmin=None if limits is None else min(values.values()),
        zmax=None if limits is None else limits[1],
        contours={"coloring": "heatmap"},
        line={"width": 0.5},
        colorbar={"title": {"text": shown(facts.objective)}, "thickness": 12},
        hovertemplate="%{z:.4f}<extra></extra>",
    )
    drawn = thinned(having, values)
    x, x_axis = places(first, [trial.params[first.name] for trial in drawn])
    y, y_axis = places(second, [trial.params[second.name] for trial in drawn])
    dots = go.Scatter(
        x=x,
        y=y,
        customdata=[[trial.number, *short([values[trial.number]])] for trial in drawn],
        mode="markers",
        marker={"color": "white", "size": 6, "line": {"color": "black", "width": 1}},
        showlegend=False,
        hovertemplate="trial %{customdata[0]}: %{customdata[1]:.4f}<extra></extra>",
    )
    best = min(having, key=lambda trial: values[trial.number])
    caption = (
        f"The {facts.objective} over {first.name} and {second.name}, between {len(having):,} complete trials (dots; the other "
        f"parameters differ between them): the lowest, {format_value(values[best.number])}, lies at "
        f"{first.name} {format_number(best.params[first.name])} and {second.name} {format_number(best.params[second.name])}."
    )
    return Figure("contour", title, caption, picture([surface, dots], height=380, xaxis=x_axis, yaxis=y_axis))


def _pair(facts: Facts) -> tuple[Dimension, Dimension] | None:
    """The two numbers that a contour is drawn over."""
    numbers = [dim for dim in facts.space if isinstance(dim.domain, Range)]
    first = next((dim for dim in numbers if dim == facts.studied), numbers[0] if numbers else None)
    others = [dim for dim in numbers if dim is not first]
    second = next((dim for dim in others if dim.setting.key == "train.lr"), others[0] if others else None)
    return None if first is None or second is None else (first, second)


def _grid(
    trials: Sequence[FrozenTrial], first: Dimension, second: Dimension, values: Mapping[int, float]
) -> dict[str, Any] | None:
    """Values between the trials, linear in each triangle of neighbours; None where they span no area."""
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import QhullError

    at = np.array([[first.position(t.params[first.name]), second.position(t.params[second.name])] for t in trials])
    z = np.array([values[trial.number] for trial in trials])
    finite = np.isfinite(z)
    if finite.sum() < 4:
        return None
    try:
        between = LinearNDInterpolator(at[finite], z[finite])
    except QhullError:
        return None
    side = np.linspace(0, 1, _GRID)
    z_GG = between(*np.meshgrid(side, side))
    return {
        "x": short(back(first, place) for place in side),
        "y": short(back(second, place) for place in side),
        "z": [short(row, 4) for row in z_GG.tolist()],
    }
