"""How figures look: colors that read on white and on black, short labels, little data."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from optuna.trial import FrozenTrial
from plotly.colors import sample_colorscale

from data_utils.wording import counted
from search import BASELINE_TRIAL
from search.definition.ranges import Choices, Range
from search.definition.space import Dimension
from search.wording import format_number

INK, GRID = "#808080", "rgba(128,128,128,0.25)"
BLUE, ORANGE, RED, GREEN, GRAY = "#2f7ed8", "#e08e2b", "#d9475c", "#2e9b6b", "#9a9a9a"
"""Blue: complete trials. Orange: pruned trials and the baseline. Green: what is recommended. Red: failed trials.
Gray: background."""

MAX_POINTS = 1000
"""Trials that one figure shows at most."""

_MAX_LABEL = 24
_OUTLIER_FACTOR = 3.0
"""A value is off the axis if it exceeds the median by more than this times the distance between median and minimum."""


def styled_figure(traces: Sequence[Any], *, height: int = 320, **layout: Any) -> go.Figure:
    """A Plotly figure in the house style: transparent, with its legend on top and without a title."""
    plot = go.Figure(list(traces))
    plot.update_layout(
        template=go.layout.Template(),
        height=height,
        margin={"l": 56, "r": 16, "t": 16, "b": 56},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 12},
        hovermode="closest",
        hoverlabel={"bgcolor": "#30363d", "font": {"color": "#ffffff"}},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    plot.update_layout(**layout)
    axes = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "automargin": True}
    plot.update_xaxes(**axes)
    plot.update_yaxes(**axes)
    return plot


def label_text(text: Any) -> str:
    """A user's text as a label: shortened, and escaped so that it is never markup."""
    whole = format_number(text)
    return html.escape(whole if len(whole) <= _MAX_LABEL else whole[: _MAX_LABEL - 1] + "…", quote=False)


def rounded(values: Iterable[float | None], digits: int = 5) -> list[float | None]:
    """Numbers rounded to the digits that a figure needs; None for those that are not finite."""
    return [None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}") for value in values]


def band_colors(count: int) -> list[str]:
    """Colors in order, for the sections of one range."""
    positions = [0.5] if count == 1 else [0.08 + 0.84 * n / (count - 1) for n in range(count)]
    return list(sample_colorscale("Turbo", positions))


def sample_trials(trials: Sequence[FrozenTrial], value: Mapping[int, float], most: int = MAX_POINTS) -> list[FrozenTrial]:
    """At most `most` trials in their order: one half are the best, the other half an even sample of the rest.

    The baseline is always among them.
    """
    if len(trials) <= most:
        return list(trials)
    best = sorted(trials, key=lambda trial: value.get(trial.number, math.inf))[: most // 2]
    kept = {trial.number for trial in best} | {BASELINE_TRIAL}
    rest = [trial for trial in trials if trial.number not in kept]
    step = -(-len(rest) // (most - len(kept)))
    kept |= {trial.number for trial in rest[::step]}
    return [trial for trial in trials if trial.number in kept]


@dataclass(frozen=True)
class Sample:
    """The trials that a figure shows, and the range of its value axis."""

    trials: Sequence[FrozenTrial]
    range: list[float] | None
    """None if all values fit; see `axis_range`."""

    note: str
    """Sentences on what is left out, to follow a caption; empty if everything is shown."""


def sample(trials: Sequence[FrozenTrial], value: Mapping[int, float], most: int = MAX_POINTS) -> Sample:
    """At most `most` trials, with a range for the values of those that are shown."""
    drawn = sample_trials(trials, value, most)
    limits, outside = axis_range([value[trial.number] for trial in drawn], value.get(BASELINE_TRIAL))
    return Sample(drawn, limits, outlier_note(outside) + sample_note(len(drawn), len(trials)))


def sample_note(drawn: int, total: int) -> str:
    """A sentence on how many trials are drawn, if not all are."""
    return "" if drawn == total else f" {drawn:,} of {total:,} trials are drawn: the best, and an even sample of the others."


def axis_range(values: Iterable[float | None], kept: float | None = None) -> tuple[list[float] | None, int]:
    """A range without outliers, and how many values exceed it; None if all values fit. `kept` is inside in any case."""
    known = np.array([value for value in values if value is not None and math.isfinite(value)])
    if len(known) < 4:
        return None, 0
    low, middle, high = float(known.min()), float(np.median(known)), float(known.max())
    top = middle + _OUTLIER_FACTOR * (middle - low)
    if kept is not None and math.isfinite(kept) and kept > top:
        top = kept + 0.05 * (kept - low)
    if top <= low or high <= top:
        return None, 0
    pad = 0.05 * (top - low)
    return [float(f"{low - pad:.5g}"), float(f"{top:.5g}")], int((known > top).sum())


def outlier_note(count: int) -> str:
    """A sentence on the values that the axis leaves out, if any."""
    return f" Not shown: {counted(count, 'value')} above the top of the axis." if count else ""


def axis_positions(dim: Dimension, values: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Positions of a parameter's values on an axis, and the axis. Choices have the positions 0, 1, ... in their order."""
    axis: dict[str, Any] = {"title": {"text": label_text(dim.name)}}
    if isinstance(dim.domain, Choices):
        order = list(dim.domain.choices)
        axis |= {"tickvals": list(range(len(order))), "ticktext": [label_text(choice) for choice in order]}
        axis["range"] = [-0.5, len(order) - 0.5]
        return [order.index(value) if value in order else None for value in values], axis
    low, high = float(dim.domain.low), float(dim.domain.high)
    if dim.domain.log:
        pad = 0.03 * math.log10(high / low)
        ticks = _log_ticks(low, high)
        axis |= {"type": "log", "range": [math.log10(low) - pad, math.log10(high) + pad]}
        axis |= {"tickvals": ticks, "ticktext": [format_number(tick) for tick in ticks]}
    else:
        axis["range"] = [low - 0.03 * (high - low), high + 0.03 * (high - low)]
    return rounded(values), axis


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times every power of ten; only the powers of ten if the range spans two of them or more."""
    steps = (1, 2, 5) if high / low < 100 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{step}e{power}") for power in powers for step in steps]
    return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)] or [low, high]


def value_at(dim: Dimension, place: float) -> float:
    """The value at a position between the ends of a range (0..1), the inverse of `Dimension.position`."""
    assert isinstance(dim.domain, Range), "choices have no order"
    low, high = dim.domain.low, dim.domain.high
    return float(low * (high / low) ** place if dim.domain.log else low + place * (high - low))


def trial_dots(trials: Sequence[FrozenTrial], x: Sequence[Any], value: Mapping[int, float], **look: Any) -> go.Scatter:
    """A marker per trial at its value; hovering over it shows its number and its value."""
    numbers = [trial.number for trial in trials]
    return go.Scatter(
        x=list(x),
        y=rounded(value[n] for n in numbers),
        customdata=numbers,
        mode="markers",
        hovertemplate="trial %{customdata}: %{y:.4f}<extra></extra>",
        **look,
    )
