"""Who trained what when."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import plotly.graph_objects as go
from optuna.trial import FrozenTrial

from data_utils.wording import counted
from search.reporting.facts import Facts
from search.reporting.figures.figure import Figure
from search.reporting.figures.style import BAD, GOOD, OTHER, QUIET, picture
from search.study.attempts import ATTEMPTS, read_attempts
from search.study.trials import STATE_NAMES
from search.wording import format_duration

_COLORS = {"complete": GOOD, "pruned": OTHER, "failed": BAD, "running": QUIET, "cut off": QUIET}

_MOST_BLOCKS = 600


@dataclass(frozen=True)
class _Block:
    """A worker's time on a trial, as it is drawn."""

    lane: tuple[str, int]
    trial: int
    begin: float
    end: float | None
    """None where nobody knows it: it is in training still, or its run was killed."""

    state: str


def timeline(facts: Facts) -> Figure:
    """A row a worker, a block for each trial that it trained."""
    title = "Timeline"
    blocks = [block for trial in facts.trials for block in _blocks(trial)]
    if not blocks:
        return Figure("timeline", title, "Nothing was recorded of when the trials were trained.")
    lanes = list(dict.fromkeys(block.lane for block in sorted(blocks, key=lambda block: block.begin)))
    runs = list(dict.fromkeys(run for run, _ in lanes))
    drawn = blocks[-_MOST_BLOCKS:]
    names = [f"run {runs.index(run) + 1}, worker {worker}" for run, worker in lanes]
    traces = [_bars([b for b in drawn if b.state == state], lanes, state) for state in _COLORS]
    plot = picture(
        [trace for trace in traces if len(trace.x)],
        height=140 + 26 * min(len(lanes), 24),
        barmode="overlay",
        bargap=0.25,
        xaxis={"type": "date"},
        yaxis={"tickvals": list(range(len(lanes))), "ticktext": names, "range": [len(lanes) - 0.5, -0.5]},
    )
    return Figure("timeline", title, _caption(blocks, len(lanes), len(runs), len(drawn)), plot)


def _caption(blocks: list[_Block], lanes: int, runs: int, drawn: int) -> str:
    known = [block for block in blocks if block.end is not None]
    spent = sum((block.end or 0.0) - block.begin for block in known)
    whole = max((block.end or 0.0 for block in known), default=0.0) - min(block.begin for block in blocks)
    trials = len({block.trial for block in blocks})
    who = f"{counted(lanes, 'worker')} of {counted(runs, 'run')}"
    left_out = "" if drawn == len(blocks) else f" Drawn are the last {drawn:,} blocks."
    if unknown := len(blocks) - len(known):
        many = "1 training" if unknown == 1 else f"{unknown:,} trainings"
        left_out += f" {many} without a known end, running still or killed, are not counted, and stand as thin marks."
    if not known:
        return f"{who} began {counted(trials, 'trial')} (UTC).{left_out}"
    return (
        f"{who} trained {counted(trials, 'trial')} for {format_duration(spent)} in all, within {format_duration(whole)} (UTC); "
        f"the gaps are waiting, or time in which nothing ran.{left_out}"
    )


def _blocks(trial: FrozenTrial) -> list[_Block]:
    attempts = read_attempts(trial.user_attrs.get(ATTEMPTS))
    found = []
    for number, attempt in enumerate(attempts):
        is_last = number == len(attempts) - 1
        end, state = attempt.end, STATE_NAMES[trial.state] if is_last else "cut off"
        if end is None and is_last and trial.datetime_complete is not None:
            end = trial.datetime_complete.timestamp()
        found.append(_Block((attempt.run, attempt.worker), trial.number, attempt.begin, end, state))
    return found


def _bars(blocks: list[_Block], lanes: list[tuple[str, int]], state: str) -> go.Bar:
    return go.Bar(
        orientation="h",
        base=[_utc(block.begin) for block in blocks],
        x=[round(1000 * max(_seconds(block), 0.2)) for block in blocks],
        y=[lanes.index(block.lane) for block in blocks],
        customdata=[[block.trial, format_duration(_seconds(block))] for block in blocks],
        name=state,
        marker={"color": _COLORS[state], "line": {"color": "rgba(255,255,255,0.6)", "width": 0.5}},
        hovertemplate=f"trial %{{customdata[0]}}, {state}, %{{customdata[1]}}<extra></extra>",
    )


def _seconds(block: _Block) -> float:
    return 0.0 if block.end is None else max(block.end - block.begin, 0.0)


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
