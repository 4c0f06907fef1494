"""A report in a real browser: figures, colors, widths, print, and users' text."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browser import Open, Opened, chromium, contrast, luminance, marks, open_page, parse_color
from conftest import Cli, run_in
from launch import TINY_STUDY

__all__ = ["chromium", "open_page"]  # fixtures

pytestmark = pytest.mark.slow

PAPER_WIDTH = 794
"""A4 in CSS pixels, 210 mm at 96 to the inch."""

PAPER_HEIGHT = 1024
"""The same of 297 mm, without margins of 13 mm."""

SCRIPT = "<script>window.hacked = 1</script>"
IMAGE = "<img src=x onerror=window.hacked=1>"
JAPANESE = "ありがとう"


@pytest.fixture(scope="module")
def report(once_confirmed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the confirmed study. Only to be read."""
    file = tmp_path_factory.mktemp("report") / "report.html"
    run_in(once_confirmed, "report", "tiny", "--output", str(file))
    return file


@pytest.fixture(scope="module")
def comparison(once_confirmed: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two studies side by side. Only to be read."""
    folder = tmp_path_factory.mktemp("two") / "studies"
    shutil.copytree(once_confirmed, folder)
    run_in(folder, "run", "tiny.yaml", "--as", "other", "--data", str(tiny), "--trials", "2", "--set", "epochs=1")
    run_in(folder, "report", "tiny", "other")
    return folder / "runs" / "tiny-vs-other.html"


def open_drawn(open_page: Open, file: Path, **options: Any) -> Opened:
    """Opens a report from disk and waits until all its figures are drawn."""
    opened = open_page(file.as_uri(), **options)
    opened.page.wait_for_function("document.documentElement.dataset.drawn === 'yes'")
    return opened


def background(opened: Opened) -> tuple[float, float, float, float]:
    """The background color of the page."""
    return parse_color(opened.page.evaluate("getComputedStyle(document.body).backgroundColor"))


def check_contrast(opened: Opened) -> None:
    """Text has enough contrast: 4.5 and 3 by WCAG 2.2, 1.4.3, for small and large text."""
    body = opened.page.evaluate("""[...document.querySelectorAll("h1, h2, p, td, th, li, dt, code, figcaption, summary")]
        .filter(one => !one.closest("noscript")).map(one => {
            let ground = one;
            while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)" && ground !== document.body)
                ground = ground.parentElement;
            return [getComputedStyle(one).color, getComputedStyle(ground).backgroundColor];
        })""")
    texts = opened.page.evaluate("""[...document.querySelectorAll(".canvas text")]
        .filter(one => one.textContent.trim() && !one.closest(".hoverlayer"))
        .map(one => getComputedStyle(one)).map(style => [style.fill, +style.fillOpacity * +style.opacity])""")
    assert len(body) > 30
    assert len(texts) > 50
    for ink, ground in body:
        assert contrast(parse_color(ink), parse_color(ground)) >= 4.5, (ink, ground)
    for fill, opacity in texts:
        red, green, blue, alpha = parse_color(fill)
        assert contrast((red, green, blue, alpha * opacity), background(opened)) >= 3, fill


def widths(opened: Opened, selector: str) -> list[tuple[float, float]]:
    """Left and right edge of each element, in pixels."""
    ends = (
        f"[...document.querySelectorAll('{selector}')].map(one => one.getBoundingClientRect()).map(at => [at.left, at.right])"
    )
    return [(left, right) for left, right in opened.page.evaluate(ends)]


def test_no_requests(open_page: Open, report: Path) -> None:
    """A report opened from disk requests nothing else and logs no error."""
    opened = open_drawn(open_page, report)
    assert [url for url in opened.requests if not url.startswith(("blob:", "data:"))] == [report.as_uri()]
    assert opened.errors == []


def test_every_figure_shows_its_data(open_page: Open, report: Path) -> None:
    """Each plot has visible marks of data."""
    opened = open_drawn(open_page, report)
    found = marks(opened.page, "figure.plot .canvas")
    assert list(found) == [one.get_attribute("data-figure") for one in opened.page.locator(".canvas").all()]
    assert {"confirmation", "learning-curves", "history", "slices", "confusion", "timeline"} <= set(found)
    assert [name for name, count in found.items() if count == 0] == []
    assert found["history"] >= 6, "a mark a trial"


def test_without_data_there_are_no_marks(open_page: Open, report: Path, tmp_path: Path) -> None:
    """The previous test counts data, not axes, grids or legends."""
    text = report.read_text(encoding="utf-8")
    found = re.search(r'(<script type="application/json" id="figures">)(.*?)(</script>)', text, re.DOTALL)
    assert found
    plots = json.loads(found[2])
    for plot in plots.values():
        plot["layout"].pop("shapes", None)
        for trace in plot["data"]:
            trace.update({key: [] for key in ("x", "y", "z", "base", "text", "customdata") if key in trace})
    empty = tmp_path / "empty.html"
    empty.write_text(text[: found.start(2)] + json.dumps(plots) + text[found.end(2) :], encoding="utf-8")
    counts = marks(open_drawn(open_page, empty).page, "figure.plot .canvas")
    assert counts == dict.fromkeys(plots, 0)


def test_dark(open_page: Open, report: Path) -> None:
    """In dark mode the page is dark, and text and figures are readable."""
    opened = open_drawn(open_page, report, color_scheme="dark")
    assert luminance(background(opened)) < 0.05
    assert luminance(parse_color(opened.page.evaluate("getComputedStyle(document.body).color"))) > 0.5
    check_contrast(opened)


def test_light(open_page: Open, report: Path) -> None:
    """In light mode text is dark on white."""
    opened = open_drawn(open_page, report, color_scheme="light")
    assert luminance(background(opened)) > 0.9
    assert luminance(parse_color(opened.page.evaluate("getComputedStyle(document.body).color"))) < 0.1
    check_contrast(opened)


def test_on_a_phone(open_page: Open, report: Path) -> None:
    """At a width of 360 pixels the page does not scroll sideways, and every figure fits."""
    opened = open_drawn(open_page, report, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    scroll, client = opened.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert client == 360
    assert scroll <= client
    ends = widths(opened, "figure, .canvas, .canvas .main-svg, figcaption")
    assert len(ends) > 30
    assert all(left >= 0 and right <= 360 for left, right in ends), ends
    texts = widths(opened, ".canvas .xtitle, .canvas .ytitle, .canvas .legendtext, .canvas .xtick text, .canvas .ytick text")
    assert all(left >= 0 and right <= 360 for left, right in texts), texts
    check_panel_titles(opened)
    check_wide_tables(opened)


def test_no_page_scrolls_sideways(open_page: Open, report: Path, comparison: Path) -> None:
    """The report and the comparison of two studies fit the window. Where there is room, the contents stand beside the text."""
    for file in (report, comparison):
        opened = open_drawn(open_page, file, viewport={"width": 390, "height": 800})
        for width in (390, 1280, 1920):
            opened.page.set_viewport_size({"width": width, "height": 800})
            fits = "[...document.querySelectorAll('.canvas')].every(one => one.scrollWidth <= one.clientWidth)"
            opened.page.wait_for_function(fits)  # a plot follows the window a moment later
            scroll = opened.page.evaluate("document.documentElement.scrollWidth")
            assert scroll <= width, (file.name, width)
            ((_, rail),) = widths(opened, "nav")
            sections = widths(opened, "section")
            if width > 1000:
                assert all(rail < left for left, _ in sections), "beside the text"
                assert min(right for _, right in sections) > width - 60, "the full width is used"
        aligned = opened.page.evaluate("[...document.querySelectorAll('.number')].map(one => getComputedStyle(one).textAlign)")
        assert set(aligned) == ({"right"} if file == report else set())


def check_wide_tables(opened: Opened) -> None:
    """A table that is wider than its place has a shadow on the side where there is more, and keeps its first column."""
    found = opened.page.evaluate("""[...document.querySelectorAll(".wide")].filter(one => one.scrollWidth > one.clientWidth)
        .map(one => {
            one.scrollLeft = 60;
            const style = getComputedStyle(one), name = one.querySelector("tbody th").getBoundingClientRect();
            return [style.backgroundAttachment, style.backgroundImage, name.left - one.getBoundingClientRect().left];
        })""")
    assert found
    for attachment, image, shift in found:
        assert attachment == "local, local, scroll, scroll"
        assert image.count("linear-gradient") == 4
        assert abs(shift) < 1


def check_panel_titles(opened: Opened) -> None:
    """The names of the two learning curves stand above their own panel."""
    box = "[data-figure=learning-curves]"
    for text, panel in (("val_loss", "xy"), ("accuracy", "x2y2")):
        title = opened.page.locator(f"{box} .annotation-text", has_text=text).bounding_box()
        plot = opened.page.locator(f"{box} .subplot.{panel} .gridlayer").bounding_box()
        assert title is not None
        assert plot is not None
        assert plot["x"] - 2 <= title["x"] < title["x"] + title["width"] <= plot["x"] + plot["width"] + 2
        assert title["y"] + title["height"] <= plot["y"] + 8


def test_without_javascript(open_page: Open, report: Path) -> None:
    """Without JavaScript everything but the plots is shown as text."""
    page = open_page(report.as_uri(), java_script_enabled=False).page
    assert page.locator("h1").inner_text().startswith("Use ")
    captions = page.locator("figure figcaption").all()
    assert len(captions) == page.locator("figure").count() > 8
    assert all(one.is_visible() and len(one.inner_text()) > 20 for one in captions)
    tables = page.locator("table").all()
    assert len(tables) > 4
    assert all(one.is_visible() and one.inner_text().strip() for one in tables)
    assert page.locator("figure.plot noscript").count() == page.locator("figure.plot").count() > 5
    assert page.locator(".canvas svg").count() == 0


def test_on_paper(open_page: Open, report: Path) -> None:
    """Print is dark on white even in dark mode, and no figure is wider than the paper."""
    opened = open_drawn(open_page, report, color_scheme="dark", viewport={"width": PAPER_WIDTH, "height": 1123})
    opened.page.emulate_media(media="print")
    assert background(opened) in ((255, 255, 255, 1), (0, 0, 0, 0))
    assert luminance(parse_color(opened.page.evaluate("getComputedStyle(document.body).color"))) < 0.1
    check_contrast(opened)
    ends = widths(opened, "figure, .canvas .main-svg")
    assert all(left >= 0 and right <= PAPER_WIDTH for left, right in ends), ends
    opened.page.evaluate("""addEventListener("beforeprint", () => {
        window.blocks = [...document.querySelectorAll("figure")].map(one => one.getBoundingClientRect().height);
        window.shown = document.querySelector("details").open;
    })""")
    pdf = opened.page.pdf(format="A4", print_background=True)
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 1
    assert opened.page.evaluate("window.shown"), "the configuration is open on paper"
    assert not opened.page.evaluate("document.querySelector('details').open"), "and closed again afterwards"
    blocks = opened.page.evaluate("window.blocks")
    assert len(blocks) > 8
    assert max(blocks) < PAPER_HEIGHT / 2, "what is not divided leaves no page half empty"


def test_text_of_users_is_never_markup(open_page: Open, place: Path, tiny: Path, cli: Cli) -> None:
    """Words of a data set and a study's description are shown as they are, and never executed."""
    words = [f"a {SCRIPT}", f"b {IMAGE}", f"c {JAPANESE}"]
    shutil.copytree(tiny, place / "data")
    dictionary = place / "data" / "sign_to_prediction_index_map.json"
    numbers = json.loads(dictionary.read_text(encoding="utf-8")).values()
    dictionary.write_text(json.dumps(dict(zip(words, numbers, strict=True)), ensure_ascii=False), encoding="utf-8")
    about = f"About {SCRIPT} {IMAGE} {JAPANESE}"
    (place / "tiny.yaml").write_text(TINY_STUDY.replace("A small search", json.dumps(about)), encoding="utf-8")
    assert cli("run", "tiny.yaml", "--data", "data", "--trials", 3).code == 0
    assert cli("report", "tiny").code == 0
    opened = open_drawn(open_page, place / "runs" / "tiny" / "report.html")
    assert opened.page.evaluate("typeof window.hacked") == "undefined"
    assert opened.page.locator("img").count() == 0
    assert opened.errors == []
    assert len([url for url in opened.requests if not url.startswith(("blob:", "data:"))]) == 1
    assert opened.page.get_by_text(about, exact=True).is_visible()
    shown = opened.page.locator("section table").all_inner_texts()
    for word in words:
        assert any(word in text for text in shown), word
    ticks = opened.page.locator("[data-figure=confusion] text").all_text_contents()
    assert any(text.startswith("a <script>") for text in ticks), ticks
    assert any(text.startswith("b <img") for text in ticks), ticks
    assert words[2] in ticks


class Numbers(HTMLParser):
    """Every number of a report with its source: path, all its digits, text shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        self._open: tuple[str, str] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Reads path and value."""
        named = dict(attrs)
        if tag == "data":
            self._open = str(named["data-of"]), str(named["value"])

    def handle_data(self, data: str) -> None:
        """Reads the text shown."""
        if self._open is not None:
            self.found.append((*self._open, data))
            self._open = None


def at(tree: Any, path: str) -> Any:
    """The value at a dotted path."""
    for key in path.split("."):
        tree = tree[int(key)] if isinstance(tree, list) else tree[key]
    return tree


def is_rounded(shown: str, value: float) -> bool:
    """Whether a text shows a number correctly rounded to its last digit, or a time to its last unit."""
    if found := re.fullmatch(r"([\d,]+)/([\d,]+) \((\d+%)\)", shown):
        right, of = (int(part.replace(",", "")) for part in found.groups()[:2])
        return abs(right / of - value) < 1e-6 and is_rounded(found[3], value)
    if found := re.fullmatch(r"(.*?)(%| pp)", shown):
        return is_rounded(found[1], 100 * value)
    number = re.fullmatch(r"[+-]?[\d,]+(?:\.(\d+))?(?:e([+-]\d+))?", shown)
    if number:
        last = 10.0 ** (int(number[2] or 0) - len(number[1] or ""))
        return abs(float(shown.replace(",", "")) - value) <= last / 2 * (1 + 1e-9)
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    parts = re.findall(r"(\d+)\s*([dhms])", shown)
    assert parts, shown
    assert "".join(f"{count}{unit}" for count, unit in parts) == re.sub(r"\s", "", shown), shown
    return abs(sum(int(count) * units[unit] for count, unit in parts) - value) <= units[parts[-1][1]]


def test_rounding() -> None:
    """`is_rounded` notices a wrong digit."""
    assert is_rounded("0.9516", 0.95158)
    assert is_rounded("1,235", 1234.6)
    assert is_rounded("6.3e-04", 0.000627)
    assert is_rounded("1m 20s", 80.4)
    assert is_rounded("21/27 (78%)", 21 / 27)
    assert is_rounded("+14.8 pp", 4 / 27)
    assert not is_rounded("21/27 (79%)", 21 / 27)
    assert not is_rounded("21/28 (78%)", 21 / 27)
    assert not is_rounded("+14.9 pp", 4 / 27)
    assert not is_rounded("0.9515", 0.95158)
    assert not is_rounded("6.4e-04", 0.000627)
    assert not is_rounded("1m 20s", 85)


def test_numbers_equal_those_of_commands(confirmed: Path, cli: Cli) -> None:
    """Numbers of the page equal those of `trials`, `status` and `analyze` in all digits, and are shown rounded."""
    assert cli("test", "tiny").code == 0
    assert cli("report", "tiny").code == 0
    status = json.loads(cli("status", "tiny", "--json").out)
    told = {
        "trials": [json.loads(line) for line in cli("trials", "tiny", "--format", "jsonl").out.splitlines()],
        "confirm": status["confirmed"],
        "openings": status["openings"],
        "analyze": json.loads(cli("analyze", "tiny", "--json").out),
    }
    found = Numbers((confirmed / "runs" / "tiny" / "report.html").read_text(encoding="utf-8")).found
    kinds = [place.partition(".")[0] for place, _, _ in found]
    assert {kind: kinds.count(kind) > 3 for kind in told} == dict.fromkeys(told, True)
    for place, value, shown in found:
        assert float(value) == at(told, place), place
        assert is_rounded(shown, float(value)), (place, value, shown)
