"""Opens a page as a person would: in Debian's Chromium, offline, in light and dark, wide and narrow."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    Scheme = Literal["light", "dark"]

CHROMIUM = Path("/usr/bin/chromium")
SHOTS = Path(__file__).parents[2] / "build" / "review"
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_HEIGHT = 900
# Of each chart: the size of its drawing, whether it has anything to show, and how many marks in a line's colour.
_CHARTS = """
() => {
  const style = getComputedStyle(document.documentElement);
  const data = JSON.parse(document.getElementById("chart-data").textContent);
  const palette = [...Array(8).keys()].map((number) => style.getPropertyValue(`--c${number}`).trim());
  return [...document.querySelectorAll("[data-chart]")].map((element) => {
    const lines = data[element.dataset.chart].lines;
    const colours = new Set([...palette, ...lines.map((line) => line.colour)].filter(Boolean));
    const svg = element.querySelector("svg");
    const size = svg ? svg.getBoundingClientRect() : { width: 0, height: 0 };
    const marks = [...(svg ? svg.querySelectorAll("path") : [])].filter((path) => {
      const box = path.getBBox();
      const inked = path.getAttribute("stroke-width") === "0" ? ["fill"] : ["stroke", "fill"];
      return box.width + box.height > 0 && inked.some((name) => colours.has(path.getAttribute(name)));
    });
    const full = lines.some((line) => line.points.some((point) => point[1] !== null));
    return { name: element.dataset.chart, width: size.width, height: size.height, full, marks: marks.length };
  });
}
"""
_OVERFLOW = """
() => [document.documentElement.scrollWidth, ...[...document.querySelectorAll("article, .tiles div")]
  .map((one) => one.getBoundingClientRect().right)].map((right) => right - innerWidth)
"""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser; without it a test fails, and says what to install."""
    assert CHROMIUM.exists(), (
        f"there is no {CHROMIUM}, which these tests need: apt-get install -y --no-install-recommends chromium"
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class Opened:
    """A page that is open, and what went wrong with it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.troubles: list[str] = []
        page.on("console", lambda said: self.troubles.append(f"console {said.type}: {said.text}"))
        page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        page.on("requestfailed", lambda request: self.troubles.append(f"failed: {request.url}"))
        page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:")):
            self.troubles.append(f"asked for {request.url}")

    def scroll_through(self) -> None:
        """Scroll from the top to the bottom, a screen at a time, until each chart has been near."""
        for top in range(0, self.height, _HEIGHT):
            self.page.evaluate(
                "top => new Promise(done => { scrollTo(0, top); requestAnimationFrame(done); })", top
            )
        self.page.wait_for_function("document.querySelectorAll('[data-chart]:not([data-drawn])').length === 0")

    @property
    def height(self) -> int:
        """How long the page is, in pixels."""
        height: int = self.page.evaluate("document.documentElement.scrollHeight")
        return height

    def charts(self) -> list[dict[str, Any]]:
        """Return each chart's name, size, whether it has data, and how many marks of them it has drawn."""
        found: list[dict[str, Any]] = self.page.evaluate(_CHARTS)
        return found

    def overflow(self) -> float:
        """Return by how many pixels the page, or what is on it, is wider than the screen."""
        return float(max(self.page.evaluate(_OVERFLOW)))


@contextlib.contextmanager
def opened(browser: Browser, file: Path, width: int, scheme: Scheme) -> Iterator[Opened]:
    """Open a file, without a network."""
    context = browser.new_context(viewport={"width": width, "height": _HEIGHT}, color_scheme=scheme, offline=True)
    try:
        page = Opened(context.new_page())
        page.page.goto(file.as_uri())
        yield page
    finally:
        context.close()


def check(browser: Browser, file: Path, width: int, scheme: Scheme, shot: str) -> None:
    """Check that a page is all there and fits, and keep a picture of it in ``build/review``."""
    with opened(browser, file, width, scheme) as page:
        page.scroll_through()
        charts = page.charts()
        assert any(one["full"] for one in charts)
        assert [one for one in charts if min(one["width"], one["height"]) < 100] == []
        assert [one for one in charts if one["full"] != (one["marks"] > 0)] == []
        assert page.overflow() <= 0
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.page.evaluate("scrollTo(0, 0)")
        page.page.screenshot(path=SHOTS / f"{shot}-{width}-{scheme}.png", full_page=True)
        assert page.troubles == []
