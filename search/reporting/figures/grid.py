"""The settings of a grid with repeats: every training, and each setting's mean."""

from __future__ import annotations

from search import BASELINE_TRIAL
from search.evaluation.analysis.grid import GridComparison
from search.reporting.facts import Facts
from search.reporting.figures.figure import Figure
from search.reporting.figures.marks import chance_line, mean_mark, training_dots
from search.reporting.figures.style import BLUE, ORANGE, label_text, styled_figure
from search.wording import format_params

_LOOKS = {
    True: {"name": "baseline, mean", "marker": {"color": ORANGE, "symbol": "square"}},
    False: {"name": "mean", "marker": {"color": BLUE}},
}
"""Of a mean, by whether it is the baseline's."""


def settings(facts: Facts, grid: GridComparison) -> Figure:
    """A dot for each repeat of each setting, with the setting's mean and its interval."""
    reading = grid.readings[0]
    points = [(n, value) for n, row in enumerate(reading.rows) for value in row.values]
    means = [
        mean_mark(n, row.mean or 0.0, row.low, row.high, **_LOOKS[row.trial == BASELINE_TRIAL], showlegend=n < 2)
        for n, row in enumerate(reading.rows)
    ]
    names = [label_text(", ".join(map(str, row.params.values()))) for row in reading.rows]
    plot = styled_figure(
        [training_dots(points), *means],
        xaxis={
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "range": [-0.5, len(names) - 0.5],
            "title": {"text": label_text(", ".join(reading.rows[0].params))},
        },
        yaxis={"title": {"text": label_text(reading.name)}},
    )
    level = chance_line(plot, facts.metric, len(facts.data.words), [value for _, value in points])
    lowest = min(reading.rows, key=lambda row: row.mean or 0.0)
    caption = (
        f"{reading.name} of each of the {grid.repeats} repeats, and each setting's mean with its 95% interval (Student's t "
        f"over the repeats). The lowest mean is that of {format_params(lowest.params)}."
    )
    return Figure("settings", "Settings", caption + level, plot)
