"""Is it more than noise? What fresh seeds gave."""

from __future__ import annotations

import plotly.graph_objects as go

from search import BASELINE_TRIAL
from search.reporting.facts import Facts
from search.reporting.figures.figure import Figure
from search.reporting.figures.style import GOOD, OTHER, QUIET, picture, short, shown
from search.study.confirmed import CandidateResult, Confirmed
from search.wording import format_value, study_args

_TITLE = "Fresh seeds"


def confirmation(facts: Facts) -> Figure:
    """Every training with a fresh seed, and for each setting their mean with its interval."""
    confirmed = facts.confirmed
    if confirmed is None:
        command = f"python -m search confirm {study_args(facts.name, facts.storage)}"
        return Figure("confirmation", _TITLE, f"No setting was trained with fresh seeds yet; `{command}` does.")
    rows = [row for row in confirmed.found.rows if row.mean is not None]
    plot = picture(
        [*_seeds(rows), *(_mean(n, row, confirmed) for n, row in enumerate(rows))],
        xaxis={
            "tickvals": list(range(len(rows))),
            "ticktext": [name_of(row.trial) for row in rows],
            "range": [-0.5, len(rows) - 0.5],
        },
        yaxis={"title": {"text": shown(confirmed.objective)}},
        showlegend=False,
    )
    return Figure("confirmation", _TITLE, _caption(confirmed), plot)


def _caption(confirmed: Confirmed) -> str:
    found = confirmed.found
    best = next((row for row in found.rows if row.trial == found.recommended), None)
    start = (
        "Each dot is one training with a fresh seed, each bar a mean with its 95 % interval "
        f"({confirmed.objective}, lower is better)"
    )
    if best is None or best.mean is None:
        return f"{start}: none is recommended, {found.why}."
    base = next((row for row in found.rows if row.trial == BASELINE_TRIAL), None)
    if found.picked_from > 1:
        start += f", that of the star as the pick of {found.picked_from}"
    beside = "" if base is None or base.mean is None or base is best else f", the baseline {format_value(base.mean)}"
    return f"{start}: {name_of(best.trial)} gives {format_value(best.mean)}{beside}; the verdict is: {found.verdict}."


def name_of(trial: int) -> str:
    """A trial as figures call it."""
    return "baseline" if trial == BASELINE_TRIAL else f"trial {trial}"


def _seeds(rows: list[CandidateResult]) -> list[go.Scatter]:
    places = [(n, value) for n, row in enumerate(rows) for value in row.values if value is not None]
    return [
        go.Scatter(
            x=[n - 0.12 for n, _ in places],
            y=short(value for _, value in places),
            mode="markers",
            marker={"color": QUIET, "size": 7, "opacity": 0.7},
            hovertemplate="%{y:.4f}<extra></extra>",
        )
    ]


def _mean(n: int, row: CandidateResult, confirmed: Confirmed) -> go.Scatter:
    found = confirmed.found
    color = OTHER if row.trial == BASELINE_TRIAL else GOOD
    assert row.mean is not None, "rows without a mean are not drawn"
    low, high = (found.low, found.high) if row.trial == found.recommended else (row.low, row.high)
    error = None
    if low is not None and high is not None:
        error = {
            "type": "data",
            "symmetric": False,
            "array": short([high - row.mean]),
            "arrayminus": short([row.mean - low]),
        }
    return go.Scatter(
        x=[n + 0.12],
        y=short([row.mean]),
        mode="markers",
        error_y=error,
        marker={"color": color, "size": 11, "symbol": "star" if row.trial == found.recommended else "diamond"},
        hovertemplate=f"{name_of(row.trial)}: mean %{{y:.4f}}<extra></extra>",
    )
