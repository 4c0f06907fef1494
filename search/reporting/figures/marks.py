"""Marks that several figures share: the baseline, and the line of chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from search import BASELINE_TRIAL
from search.reporting.figures.style import GRAY, INK, ORANGE, rounded

_NEAR = 0.6
"""Chance is drawn if it exceeds the top of the values by less than this share of their span."""


def chance(metric: str, words: int) -> tuple[float, str] | None:
    """What a model reaches that finds all K words equally likely, with its name; None for a cost or fewer than two words.

    A loss of ln K, the entropy of K equally likely words; the share 1/K of the clips right on average.
    """
    if words < 2:
        return None
    if metric in ("val_loss", "val_loss_ts"):
        return math.log(words), f"ln {words}"
    known = {"val_error": (1 - 1 / words, f"1 - 1/{words}"), "val_top1": (1 / words, f"1/{words}")}
    return known.get(metric)


def chance_line(
    plot: go.Figure, metric: str, words: int, values: Sequence[float], limits: Sequence[float] | None = None, panel: str = ""
) -> str:
    """Draws the line of chance over a panel's width, and returns a sentence about it for the caption.

    Far above all values it is left out, and the sentence says so. `panel` is the number at the end of the axes' names.
    """
    known = [value for value in values if math.isfinite(value)]
    found = chance(metric, words)
    if found is None or not known:
        return ""
    level, name = found
    low, high = min(known), max(known) if limits is None else limits[1]
    meaning = f"chance, {name} = {level:.3f}"
    if level > high + _NEAR * (high - low):
        return f" Not shown: {meaning}, lies above the axis."
    if limits is not None and level > high:
        plot.update_layout({f"yaxis{panel}": {"range": [limits[0], level + 0.05 * (level - low)]}})
    at = {"xref": f"x{panel} domain", "yref": f"y{panel}"}
    plot.add_shape(type="line", x0=0, x1=1, y0=level, y1=level, line={"color": INK, "width": 1.5, "dash": "dot"}, **at)
    look = {"showarrow": False, "xanchor": "right", "yanchor": "bottom", "font": {"size": 11}}
    plot.add_annotation(x=1, y=level, text=f"chance: {name} = {level:.3f}", **look, **at)
    return f" The dotted line is {meaning}."


def baseline_mark(x: Any, value: float, hover: str = "baseline: %{y:.4f}", **look: Any) -> go.Scatter:
    """The baseline at its value."""
    marker = {"color": ORANGE, "symbol": "square", "size": 11, "line": {"color": "white", "width": 1}}
    return go.Scatter(
        x=[x],
        y=rounded([value]),
        mode="markers",
        name="baseline",
        marker=marker,
        hovertemplate=f"{hover}<extra></extra>",
        **look,
    )


def training_dots(points: Sequence[tuple[int, float]]) -> go.Scatter:
    """A dot for each training of a setting, left of the setting's place, to which a mean belongs."""
    return go.Scatter(
        x=[place - 0.12 for place, _ in points],
        y=rounded(value for _, value in points),
        mode="markers",
        name="one training",
        marker={"color": GRAY, "size": 7, "opacity": 0.7},
        hovertemplate="%{y:.4f}<extra></extra>",
    )


def mean_mark(place: int, mean: float, low: float | None, high: float | None, **look: Any) -> go.Scatter:
    """A setting's mean with its interval, right of the setting's place."""
    error = None
    if low is not None and high is not None:
        ends = {"array": rounded([high - mean]), "arrayminus": rounded([mean - low])}
        error = {"type": "data", "symmetric": False, **ends}
    marker = {"size": 11, "symbol": "diamond", **look.pop("marker", {})}
    hover = f"{look.get('name', 'mean')}: %{{y:.4f}}<extra></extra>"
    return go.Scatter(
        x=[place + 0.12], y=rounded([mean]), mode="markers", error_y=error, hovertemplate=hover, marker=marker, **look
    )


def baseline_value(values: Mapping[int, float]) -> float | None:
    """The baseline's value, if it has one that can be drawn."""
    value = values.get(BASELINE_TRIAL)
    return value if value is not None and math.isfinite(value) else None


def panel_title(plot: go.Figure, text: str, panel: str = "") -> None:
    """Writes the name of a panel's vertical axis above it, where it can be taken for no other panel's."""
    at = {"xref": f"x{panel} domain", "yref": f"y{panel} domain", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom"}
    plot.add_annotation(text=text, showarrow=False, font={"size": 12}, **at)
