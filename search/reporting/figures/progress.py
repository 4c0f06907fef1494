"""How the search went, trial by trial."""

from __future__ import annotations

import plotly.graph_objects as go
from optuna.trial import TrialState

from data_utils.wording import counted
from search import BASELINE_TRIAL
from search.reporting.facts import Facts
from search.reporting.figures.figure import Figure
from search.reporting.figures.marks import baseline_mark, baseline_value, chance_line
from search.reporting.figures.style import (
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    RED,
    label_text,
    rounded,
    sample,
    styled_figure,
    trial_dots,
)
from search.study.recommendation import WIDENED_FOR_CHOICE, Recommendation
from search.study.trials import STATE_NAMES, pareto_front
from search.wording import format_value

_MARKERS = {TrialState.COMPLETE: (BLUE, "circle"), TrialState.PRUNED: (ORANGE, "x-thin-open")}
_MAX_FAILED = 200


def history(facts: Facts) -> Figure:
    """Values by trial, and the best so far. A pruned trial is drawn at its value when it was stopped."""
    title = "History"
    values = {trial.number: value for trial in facts.trials if (value := facts.value(trial)) is not None}
    having = [trial for trial in facts.trials if trial.number in values and trial.state in _MARKERS]
    failed = [trial.number for trial in facts.trials_in_state(TrialState.FAIL)]
    if not having:
        return Figure("history", title, f"No trial has a value yet: {len(failed):,} of {len(facts.trials):,} failed.")
    shown = sample(having, values)
    traces = []
    for state, (color, symbol) in _MARKERS.items():
        marker = {"color": color, "symbol": symbol, "size": 7, "opacity": 0.85, "line": {"width": 1.5, "color": color}}
        if trials := [trial for trial in shown.trials if trial.state == state]:
            numbers = [trial.number for trial in trials]
            traces.append(trial_dots(trials, numbers, values, name=STATE_NAMES[state], marker=marker))
    if facts.complete:
        traces.append(_best_so_far(facts, values))
    if facts.believed is not None:
        traces.append(_believed(facts.believed))
    if failed:
        traces.append(_failed(failed[-_MAX_FAILED:], shown.range[0] if shown.range else min(values.values())))
    if (value := baseline_value(values)) is not None:
        traces.append(baseline_mark(BASELINE_TRIAL, value))
    yaxis = {"title": {"text": label_text(facts.objective)}, "range": shown.range}
    plot = styled_figure(traces, xaxis={"title": {"text": "trial"}}, yaxis=yaxis)
    level = chance_line(plot, facts.metric, len(facts.data.words), list(values.values()), shown.range)
    return Figure("history", title, _history_caption(facts, len(failed)) + level + shown.note, plot)


def _best_so_far(facts: Facts, values: dict[int, float]) -> go.Scatter:
    x: list[int] = []
    y: list[float] = []
    for trial in facts.complete:
        if not y or values[trial.number] < y[-1]:
            x.append(trial.number)
            y.append(values[trial.number])
    x.append(len(facts.trials) - 1)
    y.append(y[-1])
    line = {"color": BLUE, "width": 2, "shape": "hv"}
    return go.Scatter(x=x, y=rounded(y), mode="lines", name="best so far", line=line, hoverinfo="skip")


def _believed(believed: Recommendation) -> go.Scatter:
    """The mean over seeds of the trial that the model believes in, with its 95% interval."""
    return go.Scatter(
        x=[believed.trial],
        y=rounded([believed.mean]),
        error_y={"type": "constant", "value": believed.high - believed.mean, "color": GREEN, "thickness": 1.5},
        mode="markers",
        name="believed",
        marker={"color": GREEN, "symbol": "diamond", "size": 9},
        hovertemplate="trial %{x}, estimated mean over seeds<br>%{y:.4f}<extra></extra>",
    )


def _failed(numbers: list[int], bottom: float) -> go.Scatter:
    """Failed trials have no value: they are marked at the bottom."""
    return go.Scatter(
        x=numbers,
        y=rounded([bottom] * len(numbers)),
        mode="markers",
        name="failed",
        marker={"color": RED, "symbol": "x", "size": 7},
        hovertemplate="trial %{x} failed<extra></extra>",
    )


def _history_caption(facts: Facts, failed: int) -> str:
    pruned = len(facts.trials_in_state(TrialState.PRUNED))
    of = f"Of {counted(len(facts.trials), 'trial')} ({len(facts.complete):,} complete, {pruned:,} pruned, {failed:,} failed)"
    note = " A pruned trial is drawn at its value when it was stopped." if pruned else ""
    if facts.best is None:
        return f"{of}, none has trained to its end.{note}"
    value = facts.value(facts.best)
    assert value is not None, "a complete trial has a value"
    lowest = f"{of}, trial {facts.best.number} has the lowest {facts.objective}, {format_value(value)}."
    if facts.believed is not None:
        lowest += (
            f" The diamond is the estimated mean over seeds of trial {facts.believed.trial}, with its 95% interval, "
            f"{WIDENED_FOR_CHOICE}."
        )
    return lowest + note


def front(facts: Facts) -> Figure | None:
    """The Pareto front of several objectives. None with one objective."""
    if len(facts.objectives) < 2:
        return None
    title = "Trade-off"
    if not facts.complete:
        return Figure("front", title, "Nothing to draw: no trial has trained to its end.")
    other = next(n for n in range(len(facts.objectives)) if n != facts.primary)
    name = facts.objectives[other].name
    best = pareto_front(facts.trials, facts.primary)
    on_front = {trial.number for trial in best}
    shown = sample(facts.complete, facts.values)
    dominated = [trial for trial in shown.trials if trial.number not in on_front]
    hover = f"trial %{{customdata}}<br>{label_text(facts.objective)} %{{y:.4f}}<br>{label_text(name)} %{{x:,}}"
    traces = []
    for group, color, trials in (("dominated", GRAY, dominated), ("Pareto front", BLUE, best)):
        if trials:
            x = rounded(trial.values[other] for trial in trials)
            dots = trial_dots(trials, x, facts.values, name=group, marker={"color": color, "size": 8})
            traces.append(dots.update(hovertemplate=f"{hover}<extra></extra>"))
    base = facts.baseline
    if base is not None and base in facts.complete and (value := baseline_value(facts.values)) is not None:
        traces.append(baseline_mark(base.values[other], value, hover.replace("trial %{customdata}", "baseline")))
    yaxis = {"title": {"text": label_text(facts.objective)}, "range": shown.range}
    plot = styled_figure(traces, xaxis={"title": {"text": label_text(name)}}, yaxis=yaxis)
    level = chance_line(plot, facts.metric, len(facts.data.words), list(facts.values.values()), shown.range)
    all_names = " and ".join(objective.name for objective in facts.objectives)
    caption = (
        f"{counted(len(best), 'trial')} on the Pareto front: no other trial is at least as good in all of {all_names}. "
        f"The horizontal axis is {name}."
    )
    if len(facts.objectives) > 2:
        caption += " With more than two objectives, a trial of the front may look dominated in this plot."
    return Figure("front", title, caption + level + shown.note, plot)
