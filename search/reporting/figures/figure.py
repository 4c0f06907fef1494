"""A figure of a study. Each is made once, for the report and for the dashboard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from search import BASELINE_TRIAL

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Figure:
    """A plot and its caption."""

    name: str
    """Fixed and in lower case: the dashboard replaces a plot by its name, and the report's script finds it by its name."""

    title: str
    caption: str
    """What the plot shows in this study, or why there is nothing to draw."""

    plot: go.Figure | None = None
    """None if there is nothing to draw."""


def name_of(trial: int) -> str:
    """A trial's name in figures and tables: `baseline` or `trial 8`."""
    return "baseline" if trial == BASELINE_TRIAL else f"trial {trial}"
