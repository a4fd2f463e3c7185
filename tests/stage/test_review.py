"""The review of a stage that ran jobs: its numbers are the ledger's, and nothing that should be there is not."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from browser.reading import check, chromium
from rich.console import Console
from sluice_harness.demo import progress_bars
from sluice_harness.local_stage import LocalStage
from sluice_harness.review import local_run
from sluice_harness.review.collect import Observer
from stage.running import RunningStage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from browser.reading import Scheme
    from playwright.sync_api import Browser

pytestmark = pytest.mark.xdist_group("review")

JOBS = 60
# A stage minute takes two seconds.
SPEED = 30.0


@dataclass(frozen=True)
class Reviewed:
    """A page, what the command said, and the ledger and the alarms when it was written."""

    file: Path
    said: str
    rows: list[dict[str, Any]]
    alarms: set[str]

    @property
    def html(self) -> str:
        return self.file.read_text()

    def number(self, name: str) -> float:
        match = re.search(rf'id="summary-{name}" data-value="([^"]+)"', self.html)
        assert match, name
        return float(match[1])

    def findings(self) -> list[tuple[str, str]]:
        """Return each finding's title and detail."""
        listed = re.findall(
            r'<li class="(?:critical|warning|notice)">.*?<a [^>]*>(.*?)</a><p>(.*?)</p>', self.html, re.DOTALL
        )
        return [(unescape(title), unescape(detail)) for title, detail in listed]

    def rows_of(self, status: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["status"]["S"] == status]


@pytest.fixture(scope="module")
def reviewed(assembly: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reviewed]:
    name = f"test-review-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-{os.getpid()}"
    with LocalStage(name, speed=SPEED) as local, contextlib.ExitStack() as stack:
        stage = RunningStage(name, local.deploy(assembly), local, stack)
        # As `nox -s review` does with a stage of its own.
        local_run.run(Observer(stage.description), JOBS, progress_bars(Console(quiet=True)))
        file = tmp_path_factory.mktemp("review") / "stage.html"
        command = [sys.executable, "-m", "sluice_harness.review", "--stage", name, "--out", str(file)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"}
        )
        assert done.returncode == 0, done.stdout + done.stderr
        pages = stage.client("cloudwatch").get_paginator("describe_alarms")
        described = list(pages.paginate(AlarmTypes=["MetricAlarm", "CompositeAlarm"]))
        kinds = ("MetricAlarms", "CompositeAlarms")
        alarms = {one["AlarmName"] for page in described for kind in kinds for one in page[kind]}
        yield Reviewed(file, done.stdout, stage.rows(), alarms)


def test_its_counts_are_the_ledgers_own(reviewed: Reviewed) -> None:
    # Given the rows of the job table, counted here: the run's jobs, one that is traced and at least one cancelled
    counted = {status: len(reviewed.rows_of(status)) for status in ("COMPLETED", "FAILED", "CANCELLED")}
    assert counted["COMPLETED"] > JOBS
    assert counted["CANCELLED"] == 1
    assert sum(counted.values()) == len(reviewed.rows)

    # Then the page counts as many, though it counts metrics
    assert reviewed.number("submitted") == len(reviewed.rows)
    assert {status: reviewed.number(status.lower()) for status in counted} == counted


@pytest.mark.parametrize("percent", [50, 95, 99])
def test_its_percentiles_are_the_ledgers_own(reviewed: Reviewed, percent: int) -> None:
    # Given how long each completed job took by its row, in ms
    took = [int(row["endedAt"]["N"]) - int(row["submittedAt"]["N"]) for row in reviewed.rows_of("COMPLETED")]

    # Then the page's percentile is theirs, interpolated linearly between the closest ranks
    assert reviewed.number(f"p{percent}") == pytest.approx(
        statistics.quantiles(took, n=100, method="inclusive")[percent - 1]
    )


def test_no_widget_is_without_the_data_that_it_should_have(reviewed: Reviewed) -> None:
    blind = [(title, detail) for title, detail in reviewed.findings() if "data" in title or "drawn" in title]
    assert blind == []


def test_every_alarm_is_there_and_was_computed(reviewed: Reviewed) -> None:
    # Given the stage's alarms
    assert len(reviewed.alarms) > 40

    # Then the page has each of them by name
    shown = set(re.findall(r'<article id="alarm-([^"]+)"', reviewed.html))
    assert {f"sluice-local-{name}" for name in shown} == reviewed.alarms
    assert "Not computed" not in reviewed.html


def test_every_log_query_ran(reviewed: Reviewed) -> None:
    # Given queries, among them one of the slowest jobs and one of what happened to one of these
    assert [title for title, _ in reviewed.findings() if "query" in title] == []

    # Then they found jobs of the ledger
    ids = {row["jobKey"]["S"].partition("#")[2] for row in reviewed.rows}
    section = reviewed.html[reviewed.html.index('id="query-slowest-jobs"') :]
    slowest = re.findall(r"<tr><td>([^<]+)</td>", section[: section.index("</article>")])
    assert len(slowest) == 25
    assert set(slowest) <= ids
    history = reviewed.html[reviewed.html.index('id="query-job-history"') :]
    assert "completed" in history[: history.index("</article>")]


def test_it_says_what_it_found(reviewed: Reviewed) -> None:
    completed = len(reviewed.rows_of("COMPLETED"))
    assert f"{len(reviewed.rows)} submitted, {completed} completed, 0 failed, 1 cancelled" in reviewed.said


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_its_page_is_all_there_and_fits(browser: Browser, reviewed: Reviewed, width: int, scheme: Scheme) -> None:
    check(browser, reviewed.file, width, scheme, "stage")


def test_a_stage_that_is_not_there() -> None:
    # Given a name that no stage has, when it is reviewed, then the command says so
    command = [sys.executable, "-m", "sluice_harness.review", "--stage", "nowhere-at-all"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no stage describes itself in build/stages/nowhere-at-all.json" in done.stderr
