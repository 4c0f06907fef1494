"""Is it more than noise? The results with fresh seeds."""

from __future__ import annotations

import plotly.graph_objects as go

from search import BASELINE_TRIAL
from search.reporting.facts import Facts
from search.reporting.figures.figure import Figure, name_of
from search.reporting.figures.marks import chance_line
from search.reporting.figures.style import BLUE, GRAY, ORANGE, label_text, rounded, styled_figure
from search.study.confirmed import CandidateResult, Confirmed
from search.wording import format_value, study_args

_TITLE = "Fresh seeds"


def confirmation(facts: Facts) -> Figure:
    """Every training with a fresh seed, and each setting's mean with its interval."""
    confirmed = facts.confirmed
    if confirmed is None:
        command = f"islr-search confirm {study_args(facts.name, facts.storage)}"
        return Figure("confirmation", _TITLE, f"No setting has been trained with fresh seeds yet. To do it: `{command}`.")
    rows = [row for row in confirmed.found.rows if row.mean is not None]
    plot = styled_figure(
        [_seeds(rows), *(_mean(n, row, confirmed) for n, row in enumerate(rows))],
        xaxis={
            "tickvals": list(range(len(rows))),
            "ticktext": [name_of(row.trial) for row in rows],
            "range": [-0.5, len(rows) - 0.5],
        },
        yaxis={"title": {"text": label_text(confirmed.objective)}},
        showlegend=False,
    )
    values = [value for row in rows for value in row.values if value is not None]
    level = chance_line(plot, facts.metric, len(facts.data.words), values)
    return Figure("confirmation", _TITLE, _caption(confirmed) + level, plot)


def _caption(confirmed: Confirmed) -> str:
    found = confirmed.found
    best = next((row for row in found.rows if row.trial == found.recommended), None)
    start = (
        "Each dot is one training with a fresh seed, each bar a mean with its 95% interval "
        f"({confirmed.objective}, lower is better)"
    )
    if best is None or best.mean is None:
        return f"{start}. No setting is recommended: {found.why}."
    base = next((row for row in found.rows if row.trial == BASELINE_TRIAL), None)
    if found.picked_from > 1:
        start += f"; the star's interval is widened because it was chosen from {found.picked_from} candidates"
    compared = "" if base is None or base.mean is None or base is best else f", the baseline {format_value(base.mean)}"
    return f"{start}. The mean of {name_of(best.trial)} is {format_value(best.mean)}{compared}. Verdict: {found.verdict}."


def _seeds(rows: list[CandidateResult]) -> go.Scatter:
    points = [(n, value) for n, row in enumerate(rows) for value in row.values if value is not None]
    return go.Scatter(
        x=[n - 0.12 for n, _ in points],
        y=rounded(value for _, value in points),
        mode="markers",
        marker={"color": GRAY, "size": 7, "opacity": 0.7},
        hovertemplate="%{y:.4f}<extra></extra>",
    )


def _mean(n: int, row: CandidateResult, confirmed: Confirmed) -> go.Scatter:
    found = confirmed.found
    color = ORANGE if row.trial == BASELINE_TRIAL else BLUE
    assert row.mean is not None, "rows without a mean are not drawn"
    low, high = (found.low, found.high) if row.trial == found.recommended else (row.low, row.high)
    error = None
    if low is not None and high is not None:
        ends = {"array": rounded([high - row.mean]), "arrayminus": rounded([row.mean - low])}
        error = {"type": "data", "symmetric": False, **ends}
    return go.Scatter(
        x=[n + 0.12],
        y=rounded([row.mean]),
        mode="markers",
        error_y=error,
        marker={"color": color, "size": 11, "symbol": "star" if row.trial == found.recommended else "diamond"},
        hovertemplate=f"{name_of(row.trial)}: mean %{{y:.4f}}<extra></extra>",
    )
