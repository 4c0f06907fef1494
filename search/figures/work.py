"""Who trained what when."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import plotly.graph_objects as go
from optuna.trial import FrozenTrial, TrialState

from search.figures import Figure
from search.figures.facts import Facts
from search.figures.style import BAD, GOOD, OTHER, QUIET, picture
from search.stints import STINTS, stints_of
from search.study import STATE_NAMES
from search.wording import duration

_COLORS = {"complete": GOOD, "pruned": OTHER, "failed": BAD, "running": QUIET, "cut off": QUIET}

_MOST_BLOCKS = 600


@dataclass(frozen=True)
class _Block:
    """A worker's time on a trial, as it is drawn."""

    lane: tuple[str, int]
    trial: int
    begin: float
    end: float
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
    spent = sum(block.end - block.begin for block in blocks)
    whole = max(block.end for block in blocks) - min(block.begin for block in blocks)
    trials = len({block.trial for block in blocks})
    who = f"{lanes:,} {'worker' if lanes == 1 else 'workers'} of {runs:,} {'run' if runs == 1 else 'runs'}"
    left_out = "" if drawn == len(blocks) else f" Drawn are the last {drawn:,} blocks."
    many = f"{trials:,} {'trial' if trials == 1 else 'trials'}"
    return (
        f"{who} trained {many} for {duration(spent)} in all, within {duration(whole)} (UTC); "
        f"the gaps are waiting, or time in which nothing ran.{left_out}"
    )


def _blocks(trial: FrozenTrial) -> list[_Block]:
    stints = stints_of(trial.user_attrs.get(STINTS))
    found = []
    for number, stint in enumerate(stints):
        is_last = number == len(stints) - 1
        end, state = stint.end, STATE_NAMES[trial.state] if is_last else "cut off"
        if end is None and is_last and trial.datetime_complete is not None:
            end = trial.datetime_complete.timestamp()
        if end is None:  # it trains still, or its run was killed: nobody knows when
            end, state = stint.begin, "running" if is_last and trial.state == TrialState.RUNNING else "cut off"
        found.append(_Block((stint.run, stint.worker), trial.number, stint.begin, max(end, stint.begin), state))
    return found


def _bars(blocks: list[_Block], lanes: list[tuple[str, int]], state: str) -> go.Bar:
    return go.Bar(
        orientation="h",
        base=[_utc(block.begin) for block in blocks],
        x=[round(1000 * max(block.end - block.begin, 0.2)) for block in blocks],
        y=[lanes.index(block.lane) for block in blocks],
        customdata=[[block.trial, duration(block.end - block.begin)] for block in blocks],
        name=state,
        marker={"color": _COLORS[state], "line": {"color": "rgba(255,255,255,0.6)", "width": 0.5}},
        hovertemplate=f"trial %{{customdata[0]}}, {state}, %{{customdata[1]}}<extra></extra>",
    )


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
