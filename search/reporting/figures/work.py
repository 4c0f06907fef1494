"""Which worker trained which trial when."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import plotly.graph_objects as go
from optuna.trial import FrozenTrial

from data_utils.wording import counted, format_duration
from search.definition.trial_attributes import attribute
from search.reporting.facts import Facts
from search.reporting.figures.figure import Figure
from search.reporting.figures.style import BLUE, GRAY, ORANGE, RED, styled_figure
from search.study.attempts import ATTEMPTS, read_attempts
from search.study.trials import STATE_NAMES

_INTERRUPTED = "interrupted"
_COLORS = {"complete": BLUE, "pruned": ORANGE, "failed": RED, "running": GRAY, _INTERRUPTED: GRAY}
_MAX_BLOCKS = 600

_Lane = tuple[str, int]
"""A run and the number of one of its workers."""


@dataclass(frozen=True)
class _Block:
    """A worker's time on a trial."""

    lane: _Lane
    trial: int
    begin: float
    end: float | None
    """None if unknown: the trial is still in training, or its run was killed."""

    state: str

    @property
    def seconds(self) -> float:
        """How long it lasted; 0 if unknown."""
        return 0.0 if self.end is None else max(self.end - self.begin, 0.0)


def timeline(facts: Facts) -> Figure:
    """A row per worker, with a block for each trial that it trained."""
    title = "Timeline"
    blocks = [block for trial in facts.trials for block in _blocks(trial)]
    if not blocks:
        return Figure("timeline", title, "Nothing to draw: no training times were recorded.")
    lanes = list(dict.fromkeys(block.lane for block in sorted(blocks, key=lambda block: block.begin)))
    runs = list(dict.fromkeys(run for run, _ in lanes))
    drawn = blocks[-_MAX_BLOCKS:]
    names = [f"run {runs.index(run) + 1}, worker {worker}" for run, worker in lanes]
    groups = [(state, [block for block in drawn if block.state == state]) for state in _COLORS]
    plot = styled_figure(
        [_bars(group, lanes, state) for state, group in groups if group],
        height=140 + 26 * min(len(lanes), 24),
        barmode="overlay",
        bargap=0.25,
        xaxis={"type": "date"},
        yaxis={"tickvals": list(range(len(lanes))), "ticktext": names, "range": [len(lanes) - 0.5, -0.5]},
    )
    return Figure("timeline", title, _caption(blocks, len(lanes), len(runs), len(drawn)), plot)


def _caption(blocks: list[_Block], lanes: int, runs: int, drawn: int) -> str:
    known = [block for block in blocks if block.end is not None]
    whole = max((block.end or 0.0 for block in known), default=0.0) - min(block.begin for block in blocks)
    trials = counted(len({block.trial for block in blocks}), "trial")
    workers = f"{counted(lanes, 'worker')} of {counted(runs, 'run')}"
    notes = "" if drawn == len(blocks) else f" Only the last {drawn:,} blocks are drawn."
    if unknown := len(blocks) - len(known):
        notes += f" {counted(unknown, 'training')} without a known end (still running or killed): thin marks, not counted."
    if not known:
        return f"{workers} started {trials} (UTC).{notes}"
    spent = format_duration(sum(block.end - block.begin for block in known if block.end is not None))
    return (
        f"{workers} trained {trials} for {spent} in total, within {format_duration(whole)} (UTC). In the gaps workers were "
        f"idle or nothing ran.{notes}"
    )


def _blocks(trial: FrozenTrial) -> list[_Block]:
    attempts = read_attempts(attribute(trial, ATTEMPTS))
    found = []
    for number, attempt in enumerate(attempts):
        is_last = number == len(attempts) - 1
        end, state = attempt.end, STATE_NAMES[trial.state] if is_last else _INTERRUPTED
        if end is None and is_last and trial.datetime_complete is not None:
            end = trial.datetime_complete.timestamp()
        found.append(_Block((attempt.run, attempt.worker), trial.number, attempt.begin, end, state))
    return found


def _bars(blocks: list[_Block], lanes: list[_Lane], state: str) -> go.Bar:
    return go.Bar(
        orientation="h",
        base=[_utc(block.begin) for block in blocks],
        x=[round(1000 * max(block.seconds, 0.2)) for block in blocks],
        y=[lanes.index(block.lane) for block in blocks],
        customdata=[[block.trial, format_duration(block.seconds)] for block in blocks],
        name=state,
        marker={"color": _COLORS[state], "line": {"color": "rgba(255,255,255,0.6)", "width": 0.5}},
        hovertemplate=f"trial %{{customdata[0]}}, {state}, %{{customdata[1]}}<extra></extra>",
    )


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
