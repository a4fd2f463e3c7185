"""The findings of a small stage, and its page: whole, offline, and deaf to what labels and log lines say."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from sluice_harness import node_packages
from sluice_harness.review import markdown, page
from sluice_harness.review.alarms import Drill
from sluice_harness.review.findings import Finding, Severity, findings
from unit.reviewed import HOSTILE, small_review

if TYPE_CHECKING:
    from pathlib import Path

    from sluice_harness.review.review import Review

_VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """What a browser would make of it: tags, attributes, ids, text by id, and whether all is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open and self.open[-1] == "script" else self.text).append(data)

    def values(self, attribute: str) -> list[str]:
        return [found for _, attributes in self.tags if (found := attributes.get(attribute)) is not None]


@pytest.fixture(scope="module")
def made() -> Review:
    return small_review()


@pytest.fixture(scope="module")
def html(made: Review) -> str:
    return page.render(made)


@pytest.fixture(scope="module")
def seen(html: str) -> Page:
    return Page(html)


def charts(html: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="chart-data">(.*?)</script>', html, re.DOTALL)
    assert match
    found: dict[str, Any] = json.loads(match[1])
    return found


# Findings


def told(review: Review) -> list[tuple[str, str]]:
    return [(str(finding.severity), finding.title) for finding in review.findings]


def test_what_executes_is_told_with_where_it_is_to_be_seen(made: Review, seen: Page) -> None:
    # Given an executor with two jobs, one of which has no handle yet, on a local stage
    told = " ".join(" ".join(seen.text).split())
    assert {"executions", "ecs"} <= {*seen.values("id"), *told.split()}
    assert "aws ecs describe-tasks --cluster" in told
    assert told.count("not started yet") == 1

    # When the stage is in AWS, then the handle leads to the console
    assert not any("console.aws" in link for link in seen.values("href"))
    in_aws = Page(page.render(replace(made, stage=replace(made.stage, endpointUrl=None))))
    (link,) = [link for link in in_aws.values("href") if "console.aws" in link]
    assert link.startswith("https://us-east-1.console.aws.amazon.com/ecs/v2/clusters/")

    # And a stage without such executors has no such part
    assert "executions" not in Page(page.render(replace(made, standings=[]))).values("id")


def test_everything_wrong_is_found_and_the_worst_comes_first(made: Review) -> None:
    # Given a stage with something wrong of each kind, then each is found once
    assert told(made) == [
        ("critical", "critical is in ALARM"),
        ("warning", "work-dead-letters is in ALARM"),
        ("warning", "One alarm has not enough data to tell"),
        ("warning", "The availability objective is missed"),
        ("warning", "The latency objective is missed"),
        ("warning", "operations: Alarms names alarms that are not there"),
        ("warning", "operations: Missing has no data"),
        ("warning", "operations: A log table could not be drawn"),
        ("warning", "A runbook is missing"),
        ("warning", "The log query broken failed"),
    ]


def test_a_widget_that_waits_for_a_fault_is_no_finding(made: Review, seen: Page) -> None:
    # Given a widget of a metric that only failures have, then nobody is told of it, but it is on the page
    assert [finding for finding in made.findings if "Quiet" in finding.title] == []
    assert "Sluice JobsFailed (Stage=local)" in seen.text


def test_one_metric_of_several_without_data_is_a_notice(made: Review) -> None:
    # Given a chart in which one of two metrics is missing
    (board,) = made.dashboards
    two_axes = board.items[2]
    lacking = replace(two_axes.content, absences=[replace(two_axes.content.absences[0], when="")])  # type: ignore[arg-type, union-attr]
    found = findings(
        [replace(board, items=[replace(two_axes, content=lacking)])], made.alarms, [], [], made.runbooks
    )

    # Then it is named
    notice = Finding(
        Severity.NOTICE,
        "operations: Two axes has metrics without data",
        "Sluice JobsRetried (Stage=local)",
        two_axes.anchor,
    )
    assert found[-1] == notice


def test_drills_that_were_left_out_or_failed_are_found() -> None:
    # Given a drill of two of the alarms, one of which did not fire
    passed = Drill(fired=True, alarm_after_s=3.0, ok_after_s=9.0, notified=True, what="letters are put there")
    failed = replace(passed, fired=False, alarm_after_s=None, what="nothing is sent")
    review = small_review({"work-dead-letters": passed, "blind": failed})

    # Then the failure is found, and the others are counted
    drilled = [finding for finding in review.findings if "drill" in finding.title]
    assert [(finding.title, finding.detail) for finding in drilled] == [
        (
            "The last drill left out 5 of 7 alarms",
            "Nobody knows whether these fire: availability-burn-5m, availability-burn-1h, latency-burn-5m, "
            "latency-burn-1h, critical",
        ),
        ("blind failed its drill", "It did not fire when nothing is sent."),
    ]
    text = " ".join(" ".join(Page(page.render(review)).text).split())
    assert "Drill passed (letters are put there): ALARM after 3 s, subscriber told , OK after 9 s".replace(
        " ,", ","
    ) in (text.replace(" ,", ","))
    assert "Drill failed (nothing is sent): did not fire" in text


def test_alarms_that_fired_and_recovered_are_noticed(made: Review) -> None:
    # Given an alarm that is OK again
    loud = made.alarms[0]
    calm = replace(loud, alarm=replace(loud.alarm, state="OK"))
    found = findings(made.dashboards, [calm], [], [], made.runbooks)

    # Then it is still worth a look
    assert ("notice", "One alarm has fired, and is OK again") in [(str(one.severity), one.title) for one in found]


def test_an_empty_stage_is_not_a_healthy_one() -> None:
    found = findings([], [], [], [], {})
    assert [one.title for one in found] == ["There are no alarms", "There are no dashboards"]


# The page


def test_the_page_is_whole(seen: Page) -> None:
    # Given the page as a parser reads it, then each element is closed, and each link and chart leads somewhere
    assert seen.open == []
    ids = seen.values("id")
    assert len(ids) == len(set(ids))
    inner = {target[1:] for target in seen.values("href") if target.startswith("#")}
    assert inner <= set(ids)
    assert {"findings", "summary", "objectives", "dashboard-operations", "alarms", "queries", "costs"} <= inner


def test_every_chart_has_its_data(html: str, seen: Page) -> None:
    # Given a page with charts of widgets, objectives and alarms
    assert set(seen.values("data-chart")) == set(charts(html))
    assert len(charts(html)) == 3 + 2 + 6


def test_numbers_are_on_the_page(seen: Page) -> None:
    values = {
        attributes["id"]: attributes["data-value"] for _, attributes in seen.tags if "data-value" in attributes
    }
    assert values == {
        "summary-submitted": "162",
        "summary-completed": "160",
        "summary-failed": "0",
        "summary-cancelled": "0",
        "summary-p50": "195.0",
        "summary-p95": "1200.0",
        "summary-p99": "1200.0",
    }


def test_hostile_text_is_text(html: str, seen: Page) -> None:
    # Given labels, job types, reasons, log lines and markdown that try to be markup
    # Then they are shown as they are, and nothing on the page came from them
    assert any(HOSTILE in text for text in seen.text)
    assert "{{7*7}}" in html
    assert [tag for tag, _ in seen.tags if tag == "img"] == []
    assert [name for _, attributes in seen.tags for name in attributes if name.startswith("on")] == []
    assert [target for target in seen.values("href") if target.startswith("javascript:")] == []
    assert len([tag for tag, _ in seen.tags if tag == "script"]) == 3
    assert charts(html)["operations-3"]["lines"][0]["label"] == HOSTILE


def test_a_script_cannot_end_itself(made: Review, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a version of the charts that has the end of a script in its text
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "echarts.min.js").write_text("const echarts = '</script><b>';")
    monkeypatch.setattr(node_packages, "install", lambda _folder, _name: tmp_path)

    # Then it is still a script to its end
    assert [tag for tag, _ in Page(page.render(made)).tags if tag == "script"] == ["script"] * 3
    assert "<b>" not in Page(page.render(made)).text


def test_nothing_is_fetched(seen: Page) -> None:
    # Given a page to be opened offline, then it loads nothing, and its policy forbids it
    assert seen.values("src") == []
    assert [attributes["href"] for tag, attributes in seen.tags if tag == "link"] == ["data:,"]
    (policy,) = [
        str(attributes["content"])
        for _, attributes in seen.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    assert "script-src 'unsafe-inline'" not in policy


def test_long_tables_are_cut(seen: Page) -> None:
    assert "job-99" in seen.text
    assert "job-100" not in seen.text
    assert "20 more are not shown." in seen.text


def test_the_time_of_a_fast_stage_is_explained(seen: Page, made: Review) -> None:
    said = " ".join(" ".join(seen.text).split())
    assert "This stage's time runs 12 times as fast as ours: one of its minutes takes 5 s." in said
    usual = replace(made, window=replace(made.window, clock=replace(made.window.clock, speed=1.0)))
    assert "This stage's time" not in page.render(usual)


def test_a_runbook_is_on_the_page_with_its_links() -> None:
    # Given a runbook that links to another, to a file that is not there offline, and to the web
    text = "# Title\n[a](severities.md) [b](../adr/1.md) [c](https://example.com/x) <b>bold</b>\n\n|x|\n|-|\n|1|\n"
    found = Page(markdown.render(text, {"severities"}))

    # Then only the first and the last lead anywhere, and markup in it is text
    assert [attributes for tag, attributes in found.tags if tag == "a"] == [
        {"href": "#runbook-severities"},
        {},
        {"href": "https://example.com/x", "rel": "noreferrer"},
    ]
    assert [tag for tag, _ in found.tags if tag in ("h4", "b", "table")] == ["h4", "table"]


def test_a_value_beyond_numbers_does_not_break_the_data(made: Review) -> None:
    # Given a series with an infinite value
    (board,) = made.dashboards
    item = board.items[2]
    lines = item.content.lines  # type: ignore[union-attr]
    endless = replace(lines[0], points={1: float("inf")})
    content = replace(item.content, lines=[endless])  # type: ignore[arg-type]
    broken = replace(made, dashboards=[replace(board, items=[replace(item, content=content)])])

    # Then the page's data is still JSON, with a gap
    assert charts(page.render(broken))["operations-3"]["lines"][0]["points"] == [[1000, None]]
