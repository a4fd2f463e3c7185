"""The review of a small recorded stage in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser.reading import check, chromium, opened
from sluice_harness.review import page
from unit.reviewed import HOSTILE, small_review

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from browser.reading import Scheme
    from playwright.sync_api import Browser

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("review") / "small.html"
    page.write(small_review(), path)
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_all_there_and_fits(browser: Browser, file: Path, width: int, scheme: Scheme) -> None:
    check(browser, file, width, scheme, "small")


def test_the_grid_is_the_dashboards_and_one_column_on_a_phone(browser: Browser, file: Path) -> None:
    # Given two widgets side by side in the dashboard
    places = (
        "() => ['operations-3', 'operations-4'].map(id => document.getElementById(id).getBoundingClientRect())"
    )

    # When the screen is wide, then they are, each half of it
    with opened(browser, file, 1280, "light") as wide:
        left, right = wide.page.evaluate(places)
        assert left["y"] == right["y"]
        assert left["width"] == pytest.approx(right["width"], abs=1)
        assert right["x"] > left["x"] + left["width"]

    # And when it is narrow, one is below the other
    with opened(browser, file, 390, "light") as narrow:
        left, right = narrow.page.evaluate(places)
        assert left["x"] == right["x"]
        assert right["y"] >= left["y"] + left["height"]


def test_charts_are_drawn_when_they_come_near_and_all_of_them_for_paper(browser: Browser, file: Path) -> None:
    # Given a page that has just been opened
    with opened(browser, file, 1280, "light") as page_:
        page_.page.wait_for_selector("[data-drawn]")
        undrawn = "document.querySelectorAll('[data-chart]:not([data-drawn])').length"
        assert page_.page.evaluate(undrawn) > 0

        # When it is printed, then nothing is left out
        page_.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page_.page.evaluate(undrawn) == 0


def test_a_change_of_the_colour_scheme_redraws(browser: Browser, file: Path) -> None:
    # Given a drawn chart in light colours
    with opened(browser, file, 1280, "light") as page_:
        page_.scroll_through()
        inked = "document.querySelector('[data-chart] svg').outerHTML"
        light = page_.page.evaluate(inked)

        # When the system turns dark, then the chart does
        page_.page.emulate_media(color_scheme="dark")
        page_.page.wait_for_function(f"light => {inked} !== light", arg=light)


def test_a_tooltip_shows_hostile_labels_as_text(browser: Browser, file: Path) -> None:
    # Given a chart whose lines are called like markup
    with opened(browser, file, 1280, "light") as page_:
        page_.scroll_through()
        chart = page_.page.locator("[data-chart=operations-4]")
        chart.scroll_into_view_if_needed()

        # When the pointer is on it
        chart.hover()
        tooltip = chart.locator("div", has_text="weather-report").last
        tooltip.wait_for()

        # Then the label is text there, too, and no policy was broken
        assert HOSTILE in chart.inner_text()
        assert page_.page.locator("img").count() == 0
        assert page_.troubles == []


def test_a_link_to_an_alarm_leads_there(browser: Browser, file: Path) -> None:
    # Given a finding
    with opened(browser, file, 390, "light") as page_:
        # When it is followed, from the keyboard
        page_.page.get_by_role("link", name="work-dead-letters is in ALARM").focus()
        page_.page.keyboard.press("Enter")

        # Then the alarm is in sight
        top = "document.getElementById('alarm-work-dead-letters').getBoundingClientRect().top"
        page_.page.wait_for_function(f"{top} >= 0 && {top} < innerHeight")


def test_the_contents_and_folded_parts_are_reached_from_the_keyboard(browser: Browser, file: Path) -> None:
    # Given a page with a runbook folded away
    with opened(browser, file, 1280, "light") as page_:
        # The first stop of the keyboard is the way past the contents.
        page_.page.keyboard.press("Tab")
        assert page_.page.evaluate("document.activeElement.className") == "skip"
        runbook = page_.page.locator("details.runbook").first
        assert not runbook.locator("div").first.is_visible()

        # When its line is focused and Enter pressed, then it unfolds
        runbook.locator("summary").focus()
        page_.page.keyboard.press("Enter")
        assert runbook.locator("div").first.is_visible()
