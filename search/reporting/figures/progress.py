"""How the search went, trial by trial."""

from __future__ import annotations

import plotly.graph_objects as go
from optuna.trial import FrozenTrial, TrialState

from data_utils.wording import counted
from search.reporting.facts import Facts
from search.reporting.figures.figure import Figure
from search.reporting.figures.style import (
    BAD,
    GOOD,
    OTHER,
    QUIET,
    outside_note,
    picture,
    short,
    shown,
    thin_note,
    thinned,
    trial_hover,
    value_range,
)
from search.study.trials import pareto_front
from search.wording import format_value

_MARKS = {TrialState.COMPLETE: ("complete", GOOD, "circle"), TrialState.PRUNED: ("pruned", OTHER, "x-thin-open")}


def history(facts: Facts) -> Figure:
    """Values by trial, pruned ones at what they had reached, and the best so far."""
    title = "History"
    values = {trial.number: value for trial in facts.trials if (value := facts.value(trial)) is not None}
    having = [trial for trial in facts.trials if trial.number in values and trial.state in _MARKS]
    failed = [trial.number for trial in facts.of_state(TrialState.FAIL)]
    if not having:
        return Figure("history", title, f"No trial has a value yet: {len(failed):,} of {len(facts.trials):,} failed.")
    drawn = thinned(having, values)
    limits, outside = value_range([values[trial.number] for trial in drawn])
    traces = [_points(facts, [t for t in drawn if t.state == state], values, state) for state in _MARKS]
    traces = [trace for trace in traces if len(trace.x)]
    if facts.complete:
        traces.append(_best_so_far(facts, values))
    if failed:
        floor = limits[0] if limits else min(values.values())
        marks = failed[-200:]
        traces.append(
            go.Scatter(
                x=marks,
                y=short([floor] * len(marks)),
                mode="markers",
                name="failed",
                marker={"color": BAD, "symbol": "x", "size": 7},
                hovertemplate="trial %{x} failed<extra></extra>",
            )
        )
    plot = picture(
        traces, xaxis={"title": {"text": "trial"}}, yaxis={"title": {"text": shown(facts.objective)}, "range": limits}
    )
    caption = _history_caption(facts, len(failed)) + outside_note(outside) + thin_note(len(drawn), len(having))
    return Figure("history", title, caption, plot)


def _points(facts: Facts, trials: list[FrozenTrial], values: dict[int, float], state: TrialState) -> go.Scatter:
    name, color, symbol = _MARKS[state]
    numbers = [trial.number for trial in trials]
    return go.Scatter(
        x=numbers,
        y=short(values[n] for n in numbers),
        customdata=numbers,
        mode="markers",
        name=name,
        marker={"color": color, "symbol": symbol, "size": 7, "opacity": 0.85, "line": {"width": 1.5, "color": color}},
        hovertemplate=trial_hover(facts.objective),
    )


def _best_so_far(facts: Facts, values: dict[int, float]) -> go.Scatter:
    x: list[int] = []
    y: list[float] = []
    for trial in facts.complete:
        if not y or values[trial.number] < y[-1]:
            x.append(trial.number)
            y.append(values[trial.number])
    x.append(len(facts.trials) - 1)
    y.append(y[-1])
    return go.Scatter(
        x=x, y=short(y), mode="lines", name="best so far", line={"color": GOOD, "width": 2, "shape": "hv"}, hoverinfo="skip"
    )


def _history_caption(facts: Facts, failed: int) -> str:
    pruned = len(facts.of_state(TrialState.PRUNED))
    stands = "; a pruned trial stands at what it had reached" if pruned else ""
    counts = f"{len(facts.complete):,} complete, {pruned:,} pruned, {failed:,} failed"
    if facts.best is None:
        return f"Of {counted(len(facts.trials), 'trial')} none has trained to its end ({counts}){stands}."
    value = facts.value(facts.best)
    assert value is not None, "a complete trial has a value"
    return (
        f"Of {counted(len(facts.trials), 'trial')} ({counts}) number {facts.best.number} has the lowest {facts.objective}, "
        f"{format_value(value)}{stands}."
    )


def front(facts: Facts) -> Figure | None:
    """With several objectives, the trials that no other beats in everything. None with one objective."""
    if len(facts.objectives) < 2:
        return None
    title = "Trade-off"
    if not facts.complete:
        return Figure("front", title, "No trial has trained to its end: there is nothing to weigh.")
    other = next(n for n in range(len(facts.objectives)) if n != facts.primary)
    best = pareto_front(facts.trials, facts.primary)
    on_front = {trial.number for trial in best}
    drawn = thinned(facts.complete, {trial.number: trial.values[facts.primary] for trial in facts.complete})
    names = f"{shown(facts.objective)} %{{y:.4f}}<br>{shown(facts.objectives[other].name)} %{{x:,}}"
    hover = f"trial %{{customdata}}<br>{names}<extra></extra>"
    groups = [("beaten", QUIET, [t for t in drawn if t.number not in on_front]), ("not beaten", GOOD, best)]
    traces = [
        go.Scatter(
            x=short(trial.values[other] for trial in trials),
            y=short(trial.values[facts.primary] for trial in trials),
            customdata=[trial.number for trial in trials],
            mode="markers",
            name=name,
            marker={"color": color, "size": 8},
            hovertemplate=hover,
        )
        for name, color, trials in groups
        if trials
    ]
    all_names = " and ".join(objective.name for objective in facts.objectives)
    plot = picture(
        traces,
        xaxis={"title": {"text": shown(facts.objectives[other].name)}},
        yaxis={"title": {"text": shown(facts.objective)}},
    )
    limits, outside = value_range([trial.values[facts.primary] for trial in drawn])
    plot.update_yaxes(range=limits)
    caption = (
        f"For {counted(len(best), 'trial')} no other is at least as good in all of {all_names}; here against "
        f"{facts.objectives[other].name}."
    )
    if len(facts.objectives) > 2:
        caption += " In a picture of two objectives a trial may look beaten that is not."
    caption += outside_note(outside)
    return Figure("front", title, caption + thin_note(len(drawn), len(facts.complete)), plot)
