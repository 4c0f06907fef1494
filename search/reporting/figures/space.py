"""Where in the space the good settings are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from optuna.trial import FrozenTrial

from data_utils.wording import counted
from search import BASELINE_TRIAL
from search.definition.ranges import Choices, Range
from search.definition.space import Dimension
from search.evaluation.analysis.isolation import isolation_bins, trial_points
from search.reporting.facts import Facts
from search.reporting.figures.figure import Figure
from search.reporting.figures.marks import baseline_mark, baseline_value, chance_line
from search.reporting.figures.style import (
    BLUE,
    GRAY,
    GREEN,
    axis_positions,
    axis_range,
    label_text,
    rounded,
    sample,
    sample_trials,
    styled_figure,
    trial_dots,
    value_at,
)
from search.study.trials import trial_with
from search.wording import format_params, format_value, trial_name

_NO_TRIAL = "Nothing to draw: no trial has trained to its end."

_GRID = 32
"""Points along each side of the contour."""

_MAX_SLICES = 12
_MIN_TRIALS = 5
"""Sections of a range with fewer trials get no confident value."""

_MAX_DOTS = 2000
"""In all slices together."""

_DOT = {"size": 6, "opacity": 0.8}
_PANEL_PX, _GAP_PX, _AROUND_PX = 170, 72, 72
"""Of the slices: height of a panel, between two panels, and above and below all of them."""

_REACH = 0.15
"""The contour is drawn up to this distance from a trial, as a share of the ranges."""


def importance(facts: Facts) -> Figure:
    """How much each parameter mattered, with the spread of that estimate."""
    title = "Which parameters mattered"
    found = facts.analysis.importance
    if found is None:
        why = facts.analysis.no_importance
        return Figure("importance", title, f"{why[:1].upper()}{why[1:]}.")
    params = list(reversed(found.params))
    bar = go.Bar(
        orientation="h",
        x=rounded(one.importance for one in params),
        y=list(range(len(params))),
        error_x={
            "type": "data",
            "symmetric": False,
            "array": rounded(max(one.high - one.importance, 0) for one in params),
            "arrayminus": rounded(max(one.importance - one.low, 0) for one in params),
        },
        marker={"color": BLUE},
        hovertemplate="%{x:.0%}<extra></extra>",
    )
    plot = styled_figure(
        [bar],
        height=110 + 34 * len(params),
        xaxis={"title": {"text": "share of the variance"}, "rangemode": "tozero", "tickformat": ".0%"},
        yaxis={"tickvals": list(range(len(params))), "ticktext": [label_text(one.name) for one in params]},
    )
    first = found.params[0]
    caption = (
        f"{first.name} mattered most, with a share of {first.importance:.0%} (90% of bootstrap resamples: {first.low:.0%} to "
        f"{first.high:.0%}). Shares by PED-ANOVA over {found.trials:,} complete trials."
    )
    return Figure("importance", title, caption, plot)


def isolation(facts: Facts) -> Figure:
    """The values reached along the studied parameter, whatever the other parameters were."""
    dim = facts.studied
    title = "Isolation" if dim is None else f"The best by {dim.name}"
    having = [] if dim is None else [trial for trial in facts.complete if dim.name in trial.params]
    if dim is None or not having:
        return Figure("isolation", title, _NO_TRIAL)
    points = trial_points(having, dim.name, lambda trial: facts.values[trial.number])
    bins = [one for one in isolation_bins(points, domain=dim.domain) if one.best is not None]
    shown = sample(having, facts.values)
    x, axis = axis_positions(dim, [trial.params[dim.name] for trial in shown.trials])
    dots = trial_dots(shown.trials, x, facts.values, name="trials", marker={**_DOT, "color": GRAY})
    middles, _ = axis_positions(dim, [_middle(dim, one.low, one.high) for one in bins])
    confident = [one.confident if one.count >= _MIN_TRIALS else None for one in bins]
    lines = [_line(middles, [one.best for one in bins], "best", BLUE)]
    if any(value is not None for value in confident):
        lines.append(_line(middles, confident, "confident", GREEN))
    base = _baseline(facts, dim, having)
    yaxis = {"title": {"text": label_text(facts.objective)}, "range": shown.range}
    plot = styled_figure([dots, *lines, *base], xaxis=axis, yaxis=yaxis)
    values = [facts.values[trial.number] for trial in shown.trials]
    level = chance_line(plot, facts.metric, len(facts.data.words), values, shown.range)
    best = min(bins, key=lambda one: (one.best, one.trial))
    assert best.best is not None, "bins without trials are left out"
    caption = (
        f"The lowest {facts.objective}, {format_value(best.best)}, is at {dim.name} {best.text} "
        f"({counted(best.count, 'complete trial')} there). It is one trial's value; the other parameters differ between the "
        "points."
    )
    if len(lines) > 1:
        caption += (
            " Confident: 90% of bootstrap resamples of the trials reach this value or better; sections with fewer than "
            f"{_MIN_TRIALS} trials have none."
        )
    return Figure("isolation", title, caption + level + shown.note, plot)


def _baseline(facts: Facts, dim: Dimension, trials: Sequence[FrozenTrial], **look: Any) -> list[go.Scatter]:
    """The baseline's mark along a parameter, if it is among the trials."""
    trial, value = trial_with(trials, BASELINE_TRIAL), baseline_value(facts.values)
    if trial is None or value is None or dim.name not in trial.params:
        return []
    (x,), _ = axis_positions(dim, [trial.params[dim.name]])
    return [baseline_mark(x, value, **look)]


def _middle(dim: Dimension, low: Any, high: Any) -> Any:
    if isinstance(dim.domain, Choices) or low == high:
        return low
    return float(np.sqrt(low * high)) if dim.domain.log else (low + high) / 2


def _line(x: Sequence[Any], y: Sequence[float | None], name: str, color: str) -> go.Scatter:
    line, hover = {"color": color, "width": 2}, "%{y:.4f}<extra></extra>"
    return go.Scatter(x=list(x), y=rounded(y), mode="lines+markers", name=name, line=line, hovertemplate=hover)


def slices(facts: Facts) -> Figure:
    """Values along each parameter, one panel per parameter."""
    title = "Slices"
    dims = facts.space[:_MAX_SLICES]
    if not facts.complete:
        return Figure("slices", title, _NO_TRIAL)
    shown = sample(facts.complete, facts.values, _MAX_DOTS // max(len(dims), 1))
    rows = -(-len(dims) // 2)
    inner = rows * _PANEL_PX + (rows - 1) * _GAP_PX
    layout: dict[str, Any] = {"height": inner + _AROUND_PX}
    traces = []
    for n, dim in enumerate(dims):
        row, column, end = n // 2, n % 2, "" if n == 0 else str(n + 1)
        having = [trial for trial in shown.trials if dim.name in trial.params]
        stars = [trial for trial in having if facts.chosen is not None and trial.number == facts.chosen.number]
        at = {"xaxis": f"x{end}", "yaxis": f"y{end}", "showlegend": n == 0}
        stars_name = "" if facts.chosen is None else trial_name(facts.chosen.number)
        star = {"color": GREEN, "size": 13, "symbol": "star"}
        for name, trials, look in (("complete trials", having, {"color": BLUE}), (stars_name, stars, star)):
            x, axis = axis_positions(dim, [trial.params[dim.name] for trial in trials])
            traces.append(trial_dots(trials, x, facts.values, marker=_DOT | look, name=name, **at))
        traces += _baseline(facts, dim, having, **at)
        top = 1 - row * (_PANEL_PX + _GAP_PX) / inner
        layout[f"xaxis{end}"] = {**axis, "domain": [0.56 * column, 0.44 + 0.56 * column], "anchor": f"y{end}"}
        layout[f"yaxis{end}"] = {
            "domain": [max(top - _PANEL_PX / inner, 0.0), top],
            "anchor": f"x{end}",
            "range": shown.range,
            "title": {"text": label_text(facts.objective) if column == 0 else ""},
        }
    left_out = f", for the first {len(dims)} of {len(facts.space)} parameters" if len(dims) < len(facts.space) else ""
    caption = f"The {facts.objective} of every complete trial along each parameter{left_out}."
    if facts.chosen is not None:
        caption += f" The star is trial {facts.chosen.number}: {format_params(facts.chosen.params)}."
    plot = styled_figure(traces, **layout)
    values, words = list(facts.values.values()), len(facts.data.words)
    ends = ["" if n == 0 else str(n + 1) for n in range(len(dims))]
    levels = [chance_line(plot, facts.metric, words, values, shown.range, end) for end in ends]
    return Figure("slices", title, caption + "".join(levels[:1]) + shown.note, plot)


def contour(facts: Facts) -> Figure:
    """The value over the studied parameter and the learning rate, or the next searched number."""
    title = "Contour"
    pair = _pair(facts)
    if pair is None:
        return Figure("contour", title, "Nothing to draw: a contour needs two searched numbers.")
    first, second = pair
    having = [t for t in facts.complete if first.name in t.params and second.name in t.params]
    values = {trial.number: trial.values[facts.primary] for trial in having}
    grid = _grid(having, first, second, values)
    if grid is None:
        few = f"{counted(len(having), 'complete trial')} {'does' if len(having) == 1 else 'do'} not span an area"
        return Figure("contour", title, f"Nothing to draw: {few}.")
    limits, _ = axis_range(list(values.values()))
    surface = go.Contour(
        **grid,
        colorscale="Viridis",
        reversescale=True,
        zmin=None if limits is None else min(values.values()),
        zmax=None if limits is None else limits[1],
        contours={"coloring": "heatmap"},
        line={"width": 0.5},
        colorbar={"title": {"text": label_text(facts.objective)}, "thickness": 12},
        hovertemplate="%{z:.4f}<extra></extra>",
    )
    drawn = sample_trials(having, values)
    x, x_axis = axis_positions(first, [trial.params[first.name] for trial in drawn])
    y, y_axis = axis_positions(second, [trial.params[second.name] for trial in drawn])
    dots = go.Scatter(
        x=x,
        y=y,
        customdata=[[trial.number, *rounded([values[trial.number]])] for trial in drawn],
        mode="markers",
        marker={"color": "white", "size": 6, "line": {"color": "black", "width": 1}},
        name="complete trials",
        hovertemplate="trial %{customdata[0]}: %{customdata[1]:.4f}<extra></extra>",
    )
    base = trial_with(having, BASELINE_TRIAL)
    marks = []
    if base is not None:
        (base_x,), (base_y,) = (axis_positions(dim, [base.params[dim.name]])[0] for dim in pair)
        marks.append(baseline_mark(base_x, base_y, f"baseline: {format_value(values[base.number])}"))
    best = min(having, key=lambda trial: values[trial.number])
    at = format_params({dim.name: best.params[dim.name] for dim in pair})
    caption = (
        f"The {facts.objective} over {first.name} and {second.name}, interpolated between {len(having):,} complete trials "
        f"(dots; the other parameters differ between them). The lowest, {format_value(values[best.number])}, is at {at}. "
        f"Further than {_REACH:.0%} of the ranges from every trial it is left blank."
    )
    plot = styled_figure([surface, dots, *marks], height=380, xaxis=x_axis, yaxis=y_axis)
    return Figure("contour", title, caption, plot)


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
    """Values on a grid, linear in each triangle of neighboring trials and missing far from all of them.

    None if the trials span no area.
    """
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import QhullError, cKDTree

    at = np.array([[first.position(t.params[first.name]), second.position(t.params[second.name])] for t in trials])
    z = np.array([values[trial.number] for trial in trials])
    finite = np.isfinite(z)
    if finite.sum() < 4:
        return None
    try:
        interpolate = LinearNDInterpolator(at[finite], z[finite])
    except QhullError:
        return None
    side = np.linspace(0, 1, _GRID)
    x_GG, y_GG = np.meshgrid(side, side)
    distance_GG, _ = cKDTree(at[finite]).query(np.stack([x_GG, y_GG], axis=-1))
    z_GG = np.where(distance_GG <= _REACH, interpolate(x_GG, y_GG), np.nan)
    return {
        "x": rounded(value_at(first, place) for place in side),
        "y": rounded(value_at(second, place) for place in side),
        "z": [rounded(row, 4) for row in z_GG.tolist()],
    }
