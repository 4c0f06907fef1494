"""Is it more than noise? The results with fresh seeds."""

from __future__ import annotations

import plotly.graph_objects as go

from search import BASELINE_TRIAL
from search.reporting.facts import Facts
from search.reporting.figures.figure import Figure, name_of
from search.reporting.figures.marks import chance_line, mean_mark, training_dots
from search.reporting.figures.style import BLUE, ORANGE, label_text, styled_figure
from search.study.confirmed import CandidateResult, Confirmation, Confirmed
from search.wording import format_value, study_args

_TITLE = "Fresh seeds"


def confirmation(facts: Facts) -> Figure:
    """Every training with a fresh seed, and each setting's mean with its interval."""
    confirmed = facts.confirmed
    if confirmed is None:
        command = f"islr-search confirm {study_args(facts.name, facts.storage)}"
        return Figure("confirmation", _TITLE, f"No setting has been trained with fresh seeds yet. To do it: `{command}`.")
    rows = [row for row in confirmed.found.rows if row.mean is not None]
    points = [(n, value) for n, row in enumerate(rows) for value in row.values if value is not None]
    plot = styled_figure(
        [training_dots(points), *(confirmed_mean(n, row, confirmed.found) for n, row in enumerate(rows))],
        xaxis={
            "tickvals": list(range(len(rows))),
            "ticktext": [name_of(row.trial) for row in rows],
            "range": [-0.5, len(rows) - 0.5],
        },
        yaxis={"title": {"text": label_text(confirmed.objective)}},
        showlegend=False,
    )
    level = chance_line(plot, facts.metric, len(facts.data.words), [value for _, value in points])
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


def confirmed_mean(place: int, row: CandidateResult, found: Confirmation, color: str = BLUE) -> go.Scatter:
    """A candidate's mean with its interval; that of the recommended one is a star, and the baseline's is orange."""
    assert row.mean is not None, "rows without a mean are not drawn"
    is_recommended = row.trial == found.recommended
    low, high = (found.low, found.high) if is_recommended else (row.low, row.high)
    marker = {"color": ORANGE if row.trial == BASELINE_TRIAL else color, "symbol": "star" if is_recommended else "diamond"}
    return mean_mark(place, row.mean, low, high, name=f"{name_of(row.trial)}: mean", marker=marker)
