"""The report of a load test in a real browser: one that held, and one in which much went wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from browser.reading import check, chromium, opened
from sluice_core.jobs import JobStatus
from sluice_harness.loadtest import report
from sluice_harness.loadtest.evidence import RequestSecond
from sluice_harness.loadtest.verdict import judge
from unit.judged import START, alarm, client_job, client_side, evidence, key, row, scenario, stage_side

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from browser.reading import Scheme
    from playwright.sync_api import Browser
    from sluice_harness.loadtest.evidence import Evidence

pytestmark = pytest.mark.xdist_group("browser")

HOSTILE = "</script><img src=x onerror=alert(1)>'\"&{{7*7}}"


def wrong() -> Evidence:
    """Return a run with a noisy owner, failed requests, an alarm that fired, one that did not, and a lost job."""
    jobs = [
        client_job(number, is_quiet=number % 2 == 0, phase="baseline" if number < 5 else "load")
        for number in range(10)
    ]
    jobs[3] = replace(jobs[3], complaint=HOSTILE)
    rows = {**stage_side().rows, key(3): row(3, status=JobStatus.SUBMITTED, started_at=None, ended_at=None)}
    seconds = [RequestSecond(START + number, "GET", 5, 1.0, 2.0, {HOSTILE: number}) for number in range(10)]
    return evidence(
        asked=11,
        scenario=scenario(noisy_share=0.9, expected_alarms=frozenset({"quiet"}), about=HOSTILE),
        client=client_side(jobs=jobs, seconds=seconds, exit_code=1),
        stage=stage_side(rows=rows, alarms=[alarm("quiet"), alarm("loud", "ALARM", "OK", "ALARM")]),
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module", params=["held", "wrong"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = evidence() if request.param == "held" else wrong()
    path = tmp_path_factory.mktemp("loadtest") / f"{request.param}.html"
    report.write(found, judge(found), path, START + 60.0)
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_all_there_and_fits(browser: Browser, file: Path, width: int, scheme: Scheme) -> None:
    check(browser, file, width, scheme, f"loadtest-{file.stem}")


def test_every_check_is_in_the_table_with_its_result_and_measured_value(browser: Browser, file: Path) -> None:
    # given the verdict
    found = evidence() if file.stem == "held" else wrong()
    verdict = judge(found)

    # when its page is opened
    with opened(browser, file, 1280, "light") as page:
        shown = page.page.locator(".checks tr:not(.group):not(.detail) td").all_inner_texts()
        badge = page.page.locator("h1 .verdict").inner_text()

    # then it says the same
    rows = [tuple(shown[start : start + 4]) for start in range(0, len(shown), 4)]
    assert rows == [
        ("held" if one.held else "failed", one.name, one.expected, one.measured) for one in verdict.checks
    ]
    assert badge == ("held" if verdict.held else f"{len(verdict.failed)} of {len(verdict.checks)} checks failed")


def test_charts_and_alarms_share_one_time_axis(browser: Browser, tmp_path: Path) -> None:
    # given a run in which an alarm fired after 6 of 18 s, as the stage's tenfold minutes go
    found = wrong()
    path = tmp_path / "axis.html"
    report.write(found, judge(found), path, START + 60.0)

    # when it is opened
    with opened(browser, path, 1280, "light") as page:
        page.scroll_through()
        bar = page.page.locator("#alarms .band").first.bounding_box()
        first = page.page.locator("#alarms .band").nth(1).locator(".ok").first.bounding_box()
        lines = page.page.evaluate(
            """() => [...document.querySelectorAll('#rates svg path')].map((one) => one.getBoundingClientRect())
              .filter((box) => box.width > 200).map((box) => [box.left, box.right])"""
        )

    # then charts begin and end where bars do, and the alarm begins at its time
    assert bar is not None
    assert first is not None
    assert min(left for left, _ in lines) == pytest.approx(bar["x"], abs=2)
    assert max(right for _, right in lines) <= bar["x"] + bar["width"] + 2
    assert first["width"] / bar["width"] == pytest.approx(6 / 18, abs=0.02)


def test_what_clients_said_is_text(browser: Browser, file: Path) -> None:
    with opened(browser, file, 390, "light") as page:
        page.scroll_through()
        assert page.page.locator("img").count() == 0
        assert page.troubles == []
        if file.stem == "wrong":
            assert HOSTILE in page.page.locator("main").inner_text()
