"""How figures look: colours that read on white and on black, few words, small data."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from optuna.trial import FrozenTrial
from plotly.colors import sample_colorscale

from search.definition.ranges import Choices, Range
from search.definition.space import Dimension
from search.wording import format_number

INK, GRID = "#808080", "rgba(128,128,128,0.25)"
GOOD, OTHER, BAD, QUIET = "#2f7ed8", "#e08e2b", "#d9475c", "#9a9a9a"
"""The recommended and the complete; the baseline and the pruned; the failed; what stands back."""

MOST_POINTS = 1000
"""Trials that a figure shows at most."""

_LONGEST_LABEL = 24
_FAR = 3.0
"""Values further above the median than so many times its distance from the best are left outside the picture."""


def picture(traces: Sequence[Any], *, height: int = 320, **layout: Any) -> go.Figure:
    """A figure in the house style: nothing behind it, a legend below it, no title of its own."""
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
    dress = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "automargin": True}
    plot.update_layout(**layout)
    plot.update_xaxes(**dress)
    plot.update_yaxes(**dress)
    return plot


def shown(text: Any) -> str:
    """A label of other people as a figure may show it: short, and never markup."""
    whole = format_number(text)
    return html.escape(whole if len(whole) <= _LONGEST_LABEL else whole[: _LONGEST_LABEL - 1] + "…", quote=False)


def short(values: Iterable[float | None], digits: int = 5) -> list[float | None]:
    """Numbers with as many digits as a picture needs."""
    return [None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}") for value in values]


def band_colors(count: int) -> list[str]:
    """Colours in order, for the parts of one range."""
    places = [0.5] if count == 1 else [0.08 + 0.84 * n / (count - 1) for n in range(count)]
    return list(sample_colorscale("Turbo", places))


def thinned(trials: Sequence[FrozenTrial], value: Mapping[int, float], most: int = MOST_POINTS) -> list[FrozenTrial]:
    """At most so many: half of them the best, the others an even choice of the rest. In their order."""
    if len(trials) <= most:
        return list(trials)
    best = sorted(trials, key=lambda trial: value.get(trial.number, math.inf))[: most // 2]
    kept = {trial.number for trial in best}
    rest = [trial for trial in trials if trial.number not in kept]
    step = -(-len(rest) // (most - len(best)))
    kept |= {trial.number for trial in rest[::step]}
    return [trial for trial in trials if trial.number in kept]


def thin_note(drawn: int, there: int) -> str:
    """Says what is left out."""
    return (
        ""
        if drawn == there
        else f" Drawn are {drawn:,} of {there:,} trials: the best half of them, and an even choice of the others."
    )


def value_range(values: Iterable[float | None]) -> tuple[list[float] | None, int]:
    """The range of an axis that shows what matters, and how many values lie above it; None: all of them fit."""
    known = np.array([value for value in values if value is not None and math.isfinite(value)])
    if len(known) < 4:
        return None, 0
    low, middle, high = float(known.min()), float(np.median(known)), float(known.max())
    top = middle + _FAR * (middle - low)
    if top <= low or high <= top:
        return None, 0
    pad = 0.05 * (top - low)
    return [float(f"{low - pad:.5g}"), float(f"{top:.5g}")], int((known > top).sum())


def outside_note(count: int) -> str:
    """Says what an axis leaves out."""
    return "" if not count else f" {count:,} {'value lies' if count == 1 else 'values lie'} above the picture."


def places(dim: Dimension, values: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Values of a parameter as places on an axis, and the axis. Choices stand in their order, whatever they are."""
    if isinstance(dim.domain, Choices):
        order = list(dim.domain.choices)
        names = [shown(choice) for choice in order]
        steps = {"tickvals": list(range(len(order))), "ticktext": names, "range": [-0.5, len(order) - 0.5]}
        return [order.index(value) if value in order else None for value in values], {
            **steps,
            "title": {"text": shown(dim.name)},
        }
    low, high = float(dim.domain.low), float(dim.domain.high)
    axis: dict[str, Any] = {"title": {"text": shown(dim.name)}}
    if dim.domain.log:
        pad = 0.03 * math.log10(high / low)
        ticks = _log_ticks(low, high)
        axis |= {"type": "log", "range": [math.log10(low) - pad, math.log10(high) + pad]}
        axis |= {"tickvals": ticks, "ticktext": [format_number(tick) for tick in ticks]}
    else:
        axis["range"] = [low - 0.03 * (high - low), high + 0.03 * (high - low)]
    return short(values), axis


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every power of ten, or over many powers 1 alone."""
    steps = (1, 2, 5) if high / low < 100 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{step}e{power}") for power in powers for step in steps]
    return [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)] or [low, high]


def back(dim: Dimension, place: float) -> float:
    """The number at a place between the ends of a range, the inverse of `Dimension.place`."""
    assert isinstance(dim.domain, Range), "only numbers lie on a line"
    low, high = dim.domain.low, dim.domain.high
    return float(low * (high / low) ** place if dim.domain.log else low + place * (high - low))


def trial_hover(name: str) -> str:
    """What is told of a point: its trial and its value."""
    return f"trial %{{customdata}}<br>{shown(name)} %{{y:.4f}}<extra></extra>"
