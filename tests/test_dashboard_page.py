"""A study in optuna-dashboard in a real browser: its note, its named plots, the files of a trial."""

from __future__ import annotations

import json
import re
import shutil
import signal
import urllib.parse
import urllib.request
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from browser import Open, Opened, chromium, marks, open_page
from launch import start_cli

from search.reporting.dashboard.serve import free_port

__all__ = ["chromium", "open_page"]  # fixtures

pytestmark = pytest.mark.slow

LIST_WIDTH = "document.querySelector('main .MuiList-root').getBoundingClientRect().width"
FILES = {"config.yaml", "confusion.svg", "curve.csv"}


@pytest.fixture(scope="module")
def dashboard(once_confirmed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a dashboard with the filled page of a confirmed study."""
    folder = tmp_path_factory.mktemp("dashboard") / "place"
    shutil.copytree(once_confirmed, folder)
    process = start_cli("dashboard", "tiny", "--port", str(free_port("127.0.0.1", 20_000)), cwd=folder)
    try:
        assert process.stderr is not None
        lines = list(takewhile(lambda line: not line.startswith("filled: "), process.stderr))
        found = re.match(r"optuna-dashboard on (http://\S+)/studies/1 ", lines[-1])
        assert found, lines
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=30)
        finally:
            process.kill()


def read(dashboard: str, path: str) -> bytes:
    """The server's reply."""
    with urllib.request.urlopen(urllib.parse.urljoin(dashboard, path), timeout=60) as reply:
        return bytes(reply.read())


@pytest.fixture
def number(dashboard: str) -> int:
    """The id of the study."""
    studies = json.loads(read(dashboard, "/api/studies"))["study_summaries"]
    (found,) = (study["study_id"] for study in studies if study["study_name"] == "tiny")
    return int(found)


@pytest.fixture
def study(dashboard: str, number: int) -> dict[str, Any]:
    """The study in the HTTP API."""
    return dict(json.loads(read(dashboard, f"/api/studies/{number}?after=0")))


def check(opened: Opened, dashboard: str) -> None:
    """No errors were logged, and every request went to the dashboard."""
    assert opened.errors == []
    ours = (urllib.parse.urljoin(dashboard, "/"), "data:", "blob:")
    assert [url for url in opened.requests if not url.startswith(ours)] == []


def test_the_list_names_the_study(open_page: Open, dashboard: str, number: int) -> None:
    """The first page lists the study and links to it."""
    opened = open_page(dashboard)
    opened.page.get_by_text(f"{number}. tiny", exact=True).click()
    opened.page.wait_for_url(f"{dashboard}/studies/{number}")
    opened.page.get_by_text("Study User Attributes").wait_for()
    check(opened, dashboard)


def test_the_note(open_page: Open, dashboard: str, number: int) -> None:
    """The study's note shows the question as its heading, the answer, and a table of numbers."""
    opened = open_page(f"{dashboard}/studies/{number}/note")
    page = opened.page
    page.get_by_role("heading", name="A small search").wait_for()
    assert page.get_by_text(re.compile("^Use ")).first.is_visible()
    assert page.get_by_role("cell", name="val_loss, mean of 3 fresh seeds").is_visible()
    assert "**" not in page.inner_text("body"), "Markdown is read, not shown"
    check(opened, dashboard)


def test_named_plots(open_page: Open, dashboard: str, number: int, study: dict[str, Any]) -> None:
    """The study's page shows each of our plots with its title and its data."""
    names = [plot["id"] for plot in study["plotly_graph_objects"]]
    assert {"search-confirmation", "search-learning-curves", "search-confusion"} <= set(names)
    opened = open_page(f"{dashboard}/studies/{number}")
    for name in names:
        place = f'[id="user-defined-plot:{name}"]'
        opened.page.locator(f"{place} .gtitle").wait_for()
        (count,) = marks(opened.page, place).values()
        assert count > 0, name
    title = opened.page.locator('[id="user-defined-plot:search-confirmation"] .gtitle').text_content()
    assert str(title).startswith("Fresh seeds")
    check(opened, dashboard)


def test_no_page_scrolls_sideways(open_page: Open, dashboard: str, number: int) -> None:
    """The pages of the search and of its confirmation are as wide as the window, on a phone too, and cut no attribute off."""
    pages = {"": "Study User Attributes", "/note": "Next steps", "/trials?numbers=0": "config.yaml"}
    opened = open_page("about:blank")
    for place, ready in ((f"{n}{path}", ready) for n in (number, number + 1) for path, ready in pages.items()):
        opened.page.goto(f"{dashboard}/studies/{place}")
        opened.page.get_by_text(ready, exact=True).first.wait_for()
        for width in (1280, 390):
            opened.page.set_viewport_size({"width": width, "height": 900})
            assert opened.page.evaluate("document.documentElement.scrollWidth") == width, place
            cells = "[...document.querySelectorAll('td.MuiTableCell-root')].every(one => one.scrollWidth <= one.clientWidth)"
            assert opened.page.evaluate(cells), place
            assert width == 390 or ready != "config.yaml" or opened.page.evaluate(LIST_WIDTH) == 200, "trials are legible"
    assert opened.errors == []


def test_attributes_can_be_sorted(dashboard: str, study: dict[str, Any]) -> None:
    """The dashboard can sort and plot all attributes of trials: they are numbers."""
    sortable = {one["key"]: one["sortable"] for one in study["union_user_attrs"]}
    assert {"val_top1", "val_ece", "val_loss_ts", "best_epoch", "seconds"} <= sortable.keys()
    assert all(sortable.values())


def test_the_files_of_a_trial(open_page: Open, dashboard: str, number: int) -> None:
    """Trial 0 shows its files, the image as an image, and that it is the baseline."""
    opened = open_page(f"{dashboard}/studies/{number}/trials?numbers=0")
    page = opened.page
    for name in FILES:
        page.get_by_text(name, exact=True).first.wait_for()
    page.get_by_text("The baseline").first.wait_for()
    page.wait_for_function("document.querySelector(\"img[alt='confusion.svg']\")?.naturalWidth > 100")
    address = str(page.locator("img[alt='confusion.svg']").get_attribute("src"))
    assert read(dashboard, address).startswith(b"<svg ")
    check(opened, dashboard)


def test_a_file_is_the_one_on_disk(once_confirmed: Path, dashboard: str, number: int, study: dict[str, Any]) -> None:
    """The files of trial 0 are those of its folder, byte by byte."""
    trial = study["trials"][0]
    files = {one["filename"]: one["artifact_id"] for one in trial["artifacts"]}
    assert set(files) == FILES
    for name in FILES - {"confusion.svg"}:
        there = once_confirmed / "runs" / "tiny" / "trials" / "0000" / name
        assert read(dashboard, f"/artifacts/{number}/{trial['trial_id']}/{files[name]}") == there.read_bytes()
