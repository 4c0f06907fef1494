"""Figures of two studies with the same objective."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from search import BASELINE_TRIAL
from search.reporting.facts import Facts
from search.reporting.figures.figure import Figure, name_of
from search.reporting.figures.marks import baseline_mark, baseline_value, chance_line, training_dots
from search.reporting.figures.style import BLUE, GREEN, axis_range, label_text, rounded, sample_trials, styled_figure
from search.reporting.figures.trust import confirmed_mean

_COLORS = (BLUE, GREEN)


def best_so_far(one: Facts, other: Facts) -> Figure:
    """The complete trials of both studies, and the best value so far."""
    title, traces, values = "History", [], []
    for facts, color in zip((one, other), _COLORS, strict=True):
        shown = sample_trials(facts.complete, facts.values)
        known = [trial.number for trial in facts.complete if math.isfinite(facts.values[trial.number])]
        lowest = [min(facts.values[number] for number in known[: n + 1]) for n in range(len(known))]
        values += [facts.values[number] for number in known]
        name = label_text(facts.name)
        traces.append(
            go.Scatter(
                x=[trial.number for trial in shown],
                y=rounded(facts.values[trial.number] for trial in shown),
                mode="markers",
                name=f"{name}: trials",
                marker={"color": color, "size": 6, "opacity": 0.5},
                hovertemplate=f"{name}, trial %{{x}}: %{{y:.4f}}<extra></extra>",
            )
        )
        line = {"color": color, "width": 2, "shape": "hv"}
        traces.append(go.Scatter(x=known, y=rounded(lowest), mode="lines", name=f"{name}: best so far", line=line))
        if (value := baseline_value(facts.values)) is not None:
            mark = baseline_mark(BASELINE_TRIAL, value, f"baseline of {name}: %{{y:.4f}}")
            traces.append(mark.update(name=f"{name}: baseline", marker={"line": {"color": color, "width": 2}}))
    if not values:
        return Figure("history", title, "Nothing to draw: no trial has trained to its end.")
    limits, _ = axis_range(values, max((facts.values.get(BASELINE_TRIAL, 0.0) for facts in (one, other)), default=None))
    yaxis = {"title": {"text": label_text(one.objective)}, "range": limits}
    plot = styled_figure(traces, xaxis={"title": {"text": "trial"}}, yaxis=yaxis)
    level = chance_line(plot, one.metric, len(one.data.words), values, limits)
    return Figure("history", title, f"{one.objective} of every complete trial of both studies.{level}", plot)


def fresh_seeds(one: Facts, other: Facts) -> Figure:
    """The recommended settings and the baselines of both confirmations, training by training."""
    title, traces, names, points = "Fresh seeds", [], list[str](), list[tuple[int, float]]()
    for facts, color in zip((one, other), _COLORS, strict=True):
        found = None if facts.confirmed is None else facts.confirmed.found
        for row in () if found is None else found.rows:
            if found is not None and row.mean is not None and row.trial in (found.recommended, BASELINE_TRIAL):
                traces.append(confirmed_mean(len(names), row, found, color))
                points += [(len(names), value) for value in row.values if value is not None]
                names.append(f"{label_text(facts.name)}<br>{name_of(row.trial)}")
    if not names:
        return Figure("confirmation", title, "Neither study has been confirmed with fresh seeds yet.")
    xaxis = {"tickvals": list(range(len(names))), "ticktext": names, "range": [-0.5, len(names) - 0.5]}
    yaxis = {"title": {"text": label_text(one.objective)}}
    plot = styled_figure([training_dots(points), *traces], xaxis=xaxis, yaxis=yaxis, showlegend=False)
    level = chance_line(plot, one.metric, len(one.data.words), [value for _, value in points])
    caption = (
        "Each dot is one training with a fresh seed, each bar a mean over the seeds that measure it, with its 95% interval "
        f"({one.objective}, lower is better)."
    )
    return Figure("confirmation", title, caption + level, plot)
