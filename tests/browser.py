"""A real browser for the tests of pages: Chromium, driven by Playwright.

A test file imports the fixtures that it needs. Without Chromium or Playwright its tests are skipped, with the reason.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Names of Chromium on the PATH; the first that exists is used."""

TIMEOUT_MS = 60_000
"""Generous, for a busy machine."""

ARGUMENTS = (
    "--no-sandbox",  # the sandbox does not start for root
    "--disable-gpu",
    "--disable-dev-shm-usage",  # small in containers
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-sync",
    "--disable-features=OptimizationHints,MediaRouter,Translate,DialMediaRouteProvider,AutofillServerCommunication",
    "--metrics-recording-only",
    "--no-pings",
    "--no-proxy-server",  # no look-up of the network's proxy
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no DNS
)


@dataclass
class Opened:
    """A page with its requests and the errors that it logged."""

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One Chromium per test file: while it runs, nothing else in this process can use asyncio."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS), timeout=TIMEOUT_MS)
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Open]:
    """Opens an address in a new window, with options of Playwright's `new_context`. The window is closed after the test."""
    contexts = []

    def opened(address: str, **options: Any) -> Opened:
        context = chromium.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        one = Opened(context.new_page())
        one.page.on("request", lambda request: one.requests.append(request.url))
        one.page.on("console", lambda line: one.errors.append(line.text) if line.type == "error" else None)
        one.page.on("pageerror", lambda error: one.errors.append(str(error)))
        one.page.goto(address)
        return one

    yield opened
    for context in contexts:
        context.close()


MARKS = """canvas => {
    const box = canvas.getBoundingClientRect();
    const layers = ".scatterlayer .trace path, .barlayer .point path, .boxlayer path, .violinlayer path, .contourlayer path";
    const marks = canvas.querySelectorAll(layers + ", .heatmaplayer image");
    const seen = mark => {
        const style = getComputedStyle(mark), at = mark.getBoundingClientRect();
        const painted = [style.fill, style.stroke].some(colour => !["none", "rgba(0, 0, 0, 0)"].includes(colour));
        return Math.max(at.width, at.height) > 1 && at.right > box.left && at.left < box.right && at.bottom > box.top
            && at.top < box.bottom && style.visibility === "visible" && style.display !== "none" && +style.opacity > 0
            && (painted || mark.tagName === "image");
    };
    return [...marks].filter(seen).length;
}"""
"""Counts the visible marks of data in a plot: points, lines, bars, heatmap cells; neither axes nor text."""


def marks(page: Page, selector: str) -> dict[str, int]:
    """The number of marks of each plot, by its `data-figure` or its index."""
    found = page.locator(selector).all()
    return {one.get_attribute("data-figure") or str(number): one.evaluate(MARKS) for number, one in enumerate(found)}


Color = tuple[float, float, float, float]


def parse_color(css: str) -> Color:
    """A computed color: red, green, blue (0 to 255) and opacity (0 to 1)."""
    kind, _, rest = css.partition("(")
    assert kind in ("rgb", "rgba"), css
    parts = [float(part) for part in rest.rstrip(")").split(",")]
    return parts[0], parts[1], parts[2], parts[3] if len(parts) == 4 else 1.0


def luminance(one: Color) -> float:
    """Relative luminance, WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in (part / 255 for part in one[:3])]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(text: Color, background: Color) -> float:
    """Contrast ratio of text on an opaque background, 1 to 21, WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    mixed = tuple(t * text[3] + p * (1 - text[3]) for t, p in zip(text[:3], background[:3], strict=True))
    light, dark = sorted((luminance((*mixed, 1.0)), luminance(background)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
