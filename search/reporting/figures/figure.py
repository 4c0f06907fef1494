"""What is drawn of a study: each figure made once, for the report and for the dashboard alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Figure:
    """A picture and what it shows."""

    name: str
    """Fixed, lower case: by it the dashboard replaces the picture, and the page finds it."""

    title: str
    caption: str
    """One sentence on what it shows in this very study, or why there is nothing to draw."""

    plot: go.Figure | None = None
    """None where there is nothing to draw."""
