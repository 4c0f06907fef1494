"""`search report`: one self-contained HTML file that works offline."""

from __future__ import annotations

import base64
import datetime
import gzip
import html
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import plotly.offline

from data_utils.files import write_atomically
from search import __version__
from search.reporting.answer import answer_of
from search.reporting.cells import Cell, Number
from search.reporting.comparison import compare
from search.reporting.facts import Facts
from search.reporting.figures.every import figures
from search.reporting.figures.figure import Figure
from search.reporting.sections import sections
from search.study.trials import count_states
from search.wording import format_number, prose_and_code

_SMALL = re.compile(r"\d[\d.]*e-\d+")
"""A number that a browser would break at its hyphen."""


class Report:
    """A report as one HTML page that opens without a network."""

    def __init__(self, text: str) -> None:
        self.html = text

    def save(self, file: str | Path) -> Path:
        """Writes the page to a file."""
        write_atomically(Path(file), self.html.encode())
        return Path(file)

    def _repr_html_(self) -> str:
        """The page in a frame of its own, for notebooks."""
        return f'<iframe srcdoc="{html.escape(self.html)}" style="width: 100%; height: 90vh; border: 0"></iframe>'


def report_html(facts: Facts) -> str:
    """The whole page.

    Text and tables are plain HTML; plotly.js, which the page contains compressed, draws the figures from the data beside it.
    Every number that a command also prints names its source (`data-of`) and has all its digits in its `value`.
    """
    drawn: dict[str, Figure] = {figure.name: figure for figure in figures(facts)}
    answer = answer_of(facts)
    return _page(
        "report.html",
        _plots(drawn.values()),
        title=f"{facts.name}: {answer.headline}",
        facts=facts,
        counts={state: count for state, count in count_states(facts.trials).items() if count},
        answer=answer,
        sections=list(sections(facts, drawn)),
    )


def comparison_html(one: Facts, other: Facts) -> str:
    """The page that shows two studies side by side."""
    found = compare(one, other)
    return _page(
        "comparison.html",
        _plots(found.figures),
        title=f"{one.name} and {other.name}: {found.headline}",
        names=(one.name, other.name),
        comparison=found,
    )


def _plots(drawn: Iterable[Figure]) -> dict[str, Any]:
    return {figure.name: json.loads(figure.plot.to_json()) for figure in drawn if figure.plot is not None}


def _page(template: str, plots: Mapping[str, Any], **content: Any) -> str:
    """A page with plots, which its script draws."""
    return (
        _templates()
        .get_template(template)
        .render(
            plots=plots,
            plotly=_packed_plotly() if plots else "",
            made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            version=__version__,
            **content,
        )
    )


def cell_html(cell: Cell) -> markupsafe.Markup:
    """A table's cell, with text escaped."""
    if isinstance(cell, Number):
        return markupsafe.Markup('<data data-of="{}" value="{}">{}</data>').format(cell.path, repr(cell.value), cell.text)
    if isinstance(cell, str):
        return markupsafe.Markup(_SMALL.sub(r'<span class="whole">\g<0></span>', str(markupsafe.escape(cell))))
    shown = [markupsafe.Markup("&nbsp;" if part == "to" else " ") + cell_html(part) for part in cell]
    return markupsafe.Markup("").join(shown).strip()


def prose_html(text: str) -> markupsafe.Markup:
    """A sentence with text between backticks as code; everything is escaped."""
    parts = [str(markupsafe.escape(part)) for part in prose_and_code(text)]
    return markupsafe.Markup("".join(f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts)))


@cache
def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("search.reporting", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.undefined = jinja2.StrictUndefined
    environment.filters |= {"cell": cell_html, "prose": prose_html, "parameter": format_number}
    return environment


@cache
def _packed_plotly() -> str:
    """plotly.js as gzip in base64, a third of its size; the page's script unpacks it."""
    return base64.b64encode(gzip.compress(plotly.offline.get_plotlyjs().encode(), mtime=0)).decode()
