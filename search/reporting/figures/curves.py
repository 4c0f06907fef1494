"""Learning curves, by the part of the range that a trial's setting lies in. The article's figure 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import plotly.graph_objects as go

from model.record import EpochRecord, mean_record
from search.reporting.facts import Band, Facts
from search.reporting.figures.figure import Figure
from search.reporting.figures.style import band_colors, outside_note, picture, short, shown, value_range
from search.wording import format_value

_TITLE = "Learning curves"
_PANELS = (("val_loss", "val_loss"), ("val_top1", "accuracy"))


def learning_curves(facts: Facts) -> Figure:
    """Validation loss and accuracy by epoch: a thin line a trial, a thick one for the median of a band."""
    dim = facts.studied
    curves = [(band, [_mean(facts.curves(trial)) for trial in facts.drawn(band)]) for band in facts.bands]
    curves = [(band, [curve for curve in found if curve]) for band, found in curves]
    curves = [(band, found) for band, found in curves if found]
    if dim is None or not curves:
        why = "no trial has trained to its end" if not facts.complete else "the files of its trials are not there"
        return Figure("learning-curves", _TITLE, f"There are no learning curves to draw: {why}.")
    losses = [record.val_loss for _, found in curves for curve in found for record in curve]
    limits, outside = value_range(losses)
    traces = [trace for n, name in enumerate(name for name, _ in _PANELS) for trace in _panel(curves, name, n)]
    plot = picture(
        traces,
        height=420,
        xaxis={"domain": [0, 0.44], "title": {"text": "epoch"}},
        xaxis2={"domain": [0.56, 1], "title": {"text": "epoch"}, "anchor": "y2"},
        yaxis={"title": {"text": "val_loss"}, "range": limits},
        yaxis2={"title": {"text": "accuracy"}, "anchor": "x2", "rangemode": "tozero"},
    )
    return Figure("learning-curves", _TITLE, _caption(dim.name, curves) + outside_note(outside), plot)


def _mean(trainings: Sequence[Sequence[EpochRecord]]) -> list[EpochRecord]:
    """A trial's curve: the mean of its trainings, as far as all of them go."""
    if len(trainings) < 2:
        return list(trainings[0]) if trainings else []
    return [mean_record(list(records)) for records in zip(*trainings, strict=False)]


def _panel(curves: Sequence[tuple[Band, Sequence[Sequence[EpochRecord]]]], name: str, n: int) -> Iterator[go.Scatter]:
    colors = band_colors(len(curves))
    axes = {"xaxis": f"x{n + 1}", "yaxis": f"y{n + 1}"} if n else {}
    for (band, found), color in zip(curves, colors, strict=True):
        thin = {"color": color, "width": 0.8}
        x: list[int | None] = []
        y: list[float | None] = []
        for curve in found:
            x += [*(record.epoch for record in _few(curve)), None]
            y += [*short((getattr(record, name) for record in _few(curve)), 4), None]
        group = {"legendgroup": band.text, **axes}
        yield go.Scatter(x=x, y=y, mode="lines", line=thin, opacity=0.35, hoverinfo="skip", showlegend=False, **group)
    for (band, found), color in zip(curves, colors, strict=True):
        epochs, middle = _median(found, name)
        yield go.Scatter(
            x=epochs,
            y=short(middle, 4),
            mode="lines+markers" if len(epochs) == 1 else "lines",
            line={"color": color, "width": 2.6},
            name=f"{shown(band.text)} ({len(found)})",
            showlegend=n == 0,
            legendgroup=band.text,
            hovertemplate=f"{shown(band.text)}, epoch %{{x}}: %{{y:.4f}}<extra></extra>",
            **axes,
        )


def _few(curve: Sequence[EpochRecord], most: int = 25) -> Sequence[EpochRecord]:
    """A thin line needs no more points; the last always stays."""
    step = -(-len(curve) // most)
    return [*curve[:-1:step], curve[-1]]


def _median(found: Sequence[Sequence[EpochRecord]], name: str) -> tuple[list[int], list[float]]:
    """By epoch, of the trials that had it; where fewer than half of them are left, it ends."""
    epochs = [record.epoch for record in max(found, key=len)]
    rows = [[getattr(curve[n], name) for curve in found if n < len(curve)] for n in range(len(epochs))]
    kept = [(epoch, float(np.median(row))) for epoch, row in zip(epochs, rows, strict=True) if 2 * len(row) >= len(found)]
    return [epoch for epoch, _ in kept], [value for _, value in kept]


def _caption(name: str, curves: Sequence[tuple[Band, Sequence[Sequence[EpochRecord]]]]) -> str:
    lowest = [(min(_median(found, "val_loss")[1]), band.text, len(found)) for band, found in curves]
    value, text, count = min(lowest)
    there, trials = sum(len(band.trials) for band, _ in curves), sum(len(found) for _, found in curves)
    many = "1 complete trial" if trials == 1 else f"{trials} complete trials"
    start = f"Validation loss (plain, so that all may be compared) and accuracy by epoch of {many}"
    if trials < there:
        start += f", an even choice of {there:,}"
    if len(curves) == 1:
        return f"{start}, all with {name} {text}; thick is their median, whose lowest loss is {format_value(value)}."
    whose = "one trial alone" if count == 1 else f"{count} trials"
    return (
        f"{start}, coloured by {name}: thick is the median of a band; the lowest, {format_value(value)}, is of {whose} "
        f"at {name} {text}, and the other parameters differ between the bands."
    )
