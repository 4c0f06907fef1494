"""Learning curves, colored by the section of the studied parameter's range. The article's figure 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import plotly.graph_objects as go

from data_utils.wording import counted
from model.record import EpochRecord, mean_record
from search.reporting.facts import Band, Facts
from search.reporting.figures.figure import Figure
from search.reporting.figures.marks import chance_line, panel_title
from search.reporting.figures.style import INK, axis_range, band_colors, label_text, outlier_note, rounded, styled_figure
from search.wording import format_value

_TITLE = "Learning curves"
_METRICS = {"val_loss": "val_loss", "val_top1": "accuracy"}
"""The metric of each panel, and its name there."""

_MAX_POINTS = 25
"""Points per thin line."""

_Curve = Sequence[EpochRecord]
_Curves = Sequence[tuple[Band, Sequence[_Curve]]]


def learning_curves(facts: Facts) -> Figure:
    """Validation loss and accuracy by epoch: a thin line per trial, a thick one for the median of each band."""
    dim = facts.studied
    read = [(band, [_mean(facts.curves(trial)) for trial in facts.sampled_trials(band)]) for band in facts.bands]
    curves = [(band, found) for band, every in read if (found := [curve for curve in every if curve])]
    if dim is None or not curves:
        why = "no trial has trained to its end" if not facts.complete else "the files of the trials are missing"
        return Figure("learning-curves", _TITLE, f"Nothing to draw: {why}.")
    base = [] if facts.baseline is None else _mean(facts.curves(facts.baseline))
    losses = [record.val_loss for _, found in curves for curve in found for record in curve]
    limits, outside = axis_range(losses)
    plot = styled_figure(
        [trace for n, metric in enumerate(_METRICS) for trace in _panel(curves, base, metric, n)],
        height=420,
        xaxis={"domain": [0, 0.45], "title": {"text": "epoch"}},
        xaxis2={"domain": [0.55, 1], "title": {"text": "epoch"}, "anchor": "y2"},
        yaxis={"range": limits},
        yaxis2={"anchor": "x2", "rangemode": "tozero"},
        legend={"y": 1.08},
    )
    for n, name in enumerate(_METRICS.values()):
        panel_title(plot, name, str(n + 1) if n else "")
    words = len(facts.data.words)
    level = chance_line(plot, "val_loss", words, losses, limits)
    accuracies = [record.val_top1 for _, found in curves for curve in found for record in curve]
    chance_line(plot, "val_top1", words, accuracies, panel="2")
    return Figure("learning-curves", _TITLE, _caption(dim.name, curves) + level + outlier_note(outside), plot)


def _mean(trainings: Sequence[_Curve]) -> list[EpochRecord]:
    """A trial's curve: the mean of its trainings over the epochs that all of them have."""
    if len(trainings) < 2:
        return list(trainings[0]) if trainings else []
    return [mean_record(list(records)) for records in zip(*trainings, strict=False)]


def _panel(curves: _Curves, base: _Curve, metric: str, n: int) -> Iterator[go.Scatter]:
    colors = band_colors(len(curves))
    axes = {"xaxis": f"x{n + 1}", "yaxis": f"y{n + 1}"} if n else {}
    for (band, found), color in zip(curves, colors, strict=True):
        x: list[int | None] = []
        y: list[float | None] = []
        for curve in map(_sampled, found):
            x += [*(record.epoch for record in curve), None]
            y += [*rounded((getattr(record, metric) for record in curve), 4), None]
        look = {"line": {"color": color, "width": 0.8}, "opacity": 0.35, "hoverinfo": "skip", "showlegend": False}
        yield go.Scatter(x=x, y=y, mode="lines", legendgroup=band.text, **look, **axes)
    for (band, found), color in zip(curves, colors, strict=True):
        epochs, medians = _median(found, metric)
        yield go.Scatter(
            x=epochs,
            y=rounded(medians, 4),
            mode="lines+markers" if len(epochs) == 1 else "lines",
            line={"color": color, "width": 2.6},
            name=f"{label_text(band.text)} ({len(found)})",
            showlegend=n == 0,
            legendgroup=band.text,
            hovertemplate=f"{label_text(band.text)}, epoch %{{x}}: %{{y:.4f}}<extra></extra>",
            **axes,
        )
    if base:
        yield go.Scatter(
            x=[record.epoch for record in base],
            y=rounded((getattr(record, metric) for record in base), 4),
            mode="lines",
            line={"color": INK, "width": 2, "dash": "dash"},
            name="baseline",
            showlegend=n == 0,
            legendgroup="baseline",
            hovertemplate="baseline, epoch %{x}: %{y:.4f}<extra></extra>",
            **axes,
        )


def _sampled(curve: _Curve) -> _Curve:
    """Every n-th epoch, and the last one."""
    step = -(-len(curve) // _MAX_POINTS)
    return [*curve[:-1:step], curve[-1]]


def _median(found: Sequence[_Curve], metric: str) -> tuple[list[int], list[float]]:
    """Epochs and medians over the trials that reached them, as long as at least half of the trials did."""
    epochs = [record.epoch for record in max(found, key=len)]
    rows = [[getattr(curve[n], metric) for curve in found if n < len(curve)] for n in range(len(epochs))]
    kept = [(epoch, float(np.median(row))) for epoch, row in zip(epochs, rows, strict=True) if 2 * len(row) >= len(found)]
    return [epoch for epoch, _ in kept], [value for _, value in kept]


def _caption(name: str, curves: _Curves) -> str:
    value, text, count = min((min(_median(found, "val_loss")[1]), band.text, len(found)) for band, found in curves)
    total, drawn = sum(len(band.trials) for band, _ in curves), sum(len(found) for _, found in curves)
    trials = counted(drawn, "complete trial")
    start = f"Validation loss (never smoothed, so all trials are comparable) and accuracy by epoch of {trials}"
    if drawn < total:
        start += f", an even sample of {total:,}"
    if len(curves) == 1:
        return f"{start}, all with {name} {text}. The thick line is their median; its lowest loss is {format_value(value)}."
    return (
        f"{start}, colored by {name}. Thick lines are medians; the lowest, {format_value(value)}, is at {name} {text} "
        f"({counted(count, 'trial')}). The other parameters differ between the colors."
    )
