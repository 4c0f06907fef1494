"""The settings of a grid with repeats: every training, and each setting's mean."""

from __future__ import annotations

import plotly.graph_objects as go

from search import BASELINE_TRIAL
from search.evaluation.analysis.grid import GridComparison, SettingResult
from search.reporting.facts import Facts
from search.reporting.figures.figure import Figure
from search.reporting.figures.marks import chance_line
from search.reporting.figures.style import BLUE, GRAY, ORANGE, label_text, rounded, styled_figure
from search.wording import format_params


def settings(facts: Facts, grid: GridComparison) -> Figure:
    """A dot for each repeat of each setting, with the setting's mean and its interval."""
    reading = grid.readings[0]
    points = [(n, value) for n, row in enumerate(reading.rows) for value in row.values]
    dots = go.Scatter(
        x=[n - 0.12 for n, _ in points],
        y=rounded(value for _, value in points),
        mode="markers",
        name="one repeat",
        marker={"color": GRAY, "size": 7, "opacity": 0.7},
        hovertemplate="%{y:.4f}<extra></extra>",
    )
    base = [n for n, row in enumerate(reading.rows) if row.trial == BASELINE_TRIAL]
    others = [n for n in range(len(reading.rows)) if n not in base]
    means = [
        _means([reading.rows[n] for n in places], places, name, color)
        for places, name, color in ((base, "baseline, mean", ORANGE), (others, "mean", BLUE))
        if places
    ]
    names = [label_text(", ".join(map(str, row.params.values()))) for row in reading.rows]
    plot = styled_figure(
        [dots, *means],
        xaxis={
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "range": [-0.5, len(names) - 0.5],
            "title": {"text": label_text(", ".join(reading.rows[0].params))},
        },
        yaxis={"title": {"text": label_text(reading.name)}},
    )
    level = chance_line(plot, facts.metric, len(facts.data.words), [value for _, value in points])
    lowest = min(reading.rows, key=lambda row: row.mean or 0.0)
    caption = (
        f"{reading.name} of each of the {grid.repeats} repeats, and each setting's mean with its 95% interval (Student's t "
        f"over the repeats). The lowest mean is that of {format_params(lowest.params)}."
    )
    return Figure("settings", "Settings", caption + level, plot)


def _means(rows: list[SettingResult], places: list[int], name: str, color: str) -> go.Scatter:
    known = [row.mean or 0.0 for row in rows]
    ends = {
        "array": rounded((row.high or mean) - mean for row, mean in zip(rows, known, strict=True)),
        "arrayminus": rounded(mean - (row.low or mean) for row, mean in zip(rows, known, strict=True)),
    }
    return go.Scatter(
        x=[n + 0.12 for n in places],
        y=rounded(known),
        mode="markers",
        name=name,
        error_y={"type": "data", "symmetric": False, **ends},
        marker={"color": color, "size": 11, "symbol": "diamond" if color == BLUE else "square"},
        hovertemplate=f"{name}: %{{y:.4f}}<extra></extra>",
    )
