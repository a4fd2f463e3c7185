"""A dashboard's JSON is read as CloudWatch reads it, and what is not drawn says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sluice_harness.cloudwatch.definitions import Metric, MetricStat
from sluice_harness.review.absences import OCCASIONAL, appears_when
from sluice_harness.review.widgets import (
    AlarmWidget,
    Axis,
    MetricWidget,
    Rule,
    TextWidget,
    Widget,
    read_widgets,
)
from unit.reviewed import STAGE, metric, own, widget

DASHBOARDS = Path(__file__).parents[2] / "dashboards"


def read(*widgets: dict[str, Any], known: list[Metric] | None = None) -> list[Widget]:
    return read_widgets({"widgets": widgets}, lambda _namespace, _name: known or [])


def read_metric(known: list[Metric] | None = None, **properties: Any) -> MetricWidget:
    (found,) = read(widget("metric", (0, 0, 6, 6), **properties), known=known)
    assert isinstance(found, MetricWidget), found.problem
    return found


def search(terms: str, stat: str = "Sum") -> list[Any]:
    return [{"expression": f"SEARCH('{{Sluice,Stage,JobType}} {terms}', '{stat}')", "label": "", "id": "types"}]


def test_widgets_are_in_the_order_in_which_they_are_seen() -> None:
    # Given widgets in any order
    lower, right, left = (
        widget("text", place, markdown=str(place)) for place in ((0, 9, 3, 1), (12, 0, 3, 1), (0, 0, 3, 1))
    )

    # When they are read, then they go from the top left to the bottom right
    assert [found.markdown for found in read(lower, right, left) if isinstance(found, TextWidget)] == [
        "(0, 0, 3, 1)",
        "(12, 0, 3, 1)",
        "(0, 9, 3, 1)",
    ]


def test_a_metric_takes_what_it_does_not_say_from_the_widget_and_that_from_the_console() -> None:
    # Given a widget that says how, and a metric that says otherwise
    found = read_metric(stat="p90", period=300, metrics=[["A", "x"], ["A", "y", {"stat": "Sum", "period": 60}]])

    # Then each is as it says, and without a word as the console does it
    stats = [line.query.stat for line in found.lines]
    assert stats == [MetricStat(Metric("A", "x"), "p90", 300), MetricStat(Metric("A", "y"), "Sum", 60)]
    (silent,) = read_metric(metrics=[["A", "x"]]).lines
    assert silent.query.stat == MetricStat(Metric("A", "x"), "Average", 300)
    assert (silent.label, silent.right, silent.colour, silent.query.returns) == ("x", False, "", True)


def test_dots_repeat_the_metric_before() -> None:
    # Given the two short forms
    entries = [
        ["AWS/SQS", "Sent", "QueueName", "a", "Stage", "s"],
        [".", "Deleted", ".", "b", ".", "."],
        ["...", "t"],
        [".", "Sent", "...", "u"],
    ]

    # When they are read, then each part is that of the metric before
    assert [line.query.stat.metric for line in read_metric(metrics=entries).lines if line.query.stat] == [
        metric("AWS/SQS", "Sent", QueueName="a", Stage="s"),
        metric("AWS/SQS", "Deleted", QueueName="b", Stage="s"),
        metric("AWS/SQS", "Deleted", QueueName="b", Stage="t"),
        metric("AWS/SQS", "Sent", QueueName="b", Stage="u"),
    ]


def test_what_a_line_looks_like() -> None:
    # Given settings of lines, axes and annotations
    found = read_metric(
        title="Times",
        stacked=True,
        metrics=[["A", "x", {"id": "m1", "visible": False}], [{"expression": "m1 * 2", "yAxis": "right"}]],
        yAxis={"left": {"label": "ms", "min": 0}, "right": {"max": 5}},
        annotations={"horizontal": [{"label": "slow", "value": 3, "color": "#abcdef", "yAxis": "right"}]},
    )

    # Then they are the widget's
    hidden, shown = found.lines
    assert (hidden.query.id, hidden.query.returns) == ("m1", False)
    assert (shown.query.expression, shown.label, shown.right) == ("m1 * 2", "m1 * 2", True)
    assert (found.left, found.right) == (Axis("ms", 0, None), Axis("", None, 5))
    assert found.rules == (Rule("slow", 3, "#abcdef", True),)
    assert (found.title, found.stacked, found.single_value) == ("Times", True, False)


def test_a_colour_is_one_or_is_left_out() -> None:
    # Given a colour that would be style, and one that is a colour
    wrong, right = ({"color": colour} for colour in ("red;background:url(x)", "#12aBef"))

    # Then only the latter reaches the page
    assert [line.colour for line in read_metric(metrics=[["A", "x", wrong], ["A", "y", right]]).lines] == [
        "",
        "#12aBef",
    ]


def test_a_single_value_over_all_of_the_time_shown() -> None:
    found = read_metric(view="singleValue", setPeriodToTimeRange=True, metrics=[["A", "x"]])
    assert (found.single_value, found.whole_range) == (True, True)
    assert not read_metric(setPeriodToTimeRange=True, metrics=[["A", "x"]]).whole_range


def test_a_search_draws_every_value_of_what_it_leaves_open() -> None:
    # Given metrics of two types, of another stage, of another name and by another dimension
    known = [
        metric("Sluice", "Done", Stage="local", JobType="b"),
        metric("Sluice", "Done", Stage="local", JobType="a"),
        metric("Sluice", "Done", Stage="other", JobType="c"),
        metric("Sluice", "Lost", Stage="local", JobType="d"),
        metric("Sluice", "Done", Stage="local"),
    ]

    # When a widget searches for one stage's
    found = read_metric(known, period=60, metrics=[search('MetricName="Done" Stage="local"', "p95")])

    # Then there is a line for each type
    assert [(line.label, line.query.stat) for line in found.lines] == [
        ("a", MetricStat(known[1], "p95", 60)),
        ("b", MetricStat(known[0], "p95", 60)),
    ]


def test_a_search_that_finds_nothing_stays_a_line() -> None:
    (line,) = read_metric([], metrics=[search('MetricName="Done" Stage="local"')]).lines
    assert line.label == "Done"
    assert line.query.stat
    assert line.query.stat.metric == metric("Sluice", "Done", Stage="local", JobType="*")


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (widget("log", (0, 0, 6, 6), query="x"), "widgets of type log"),
        (widget("metric", (0, 0, 6, 6), view="pie", metrics=[]), "the view pie"),
        (widget("metric", (0, 0, 6, 6), metrics=[["A", "x", "Dimension"]]), "a dimension without a value"),
        (widget("metric", (0, 0, 6, 6), metrics=[["A", "x", {"stat": "median"}]]), "'median'"),
        (widget("metric", (0, 0, 6, 6), metrics=[["A"]]), "malformed"),
        (widget("metric", (0, 0, 6, 6), metrics=[["A", "x", {"period": 10}]]), "a period of 10 s"),
        (widget("metric", (0, 0, 6, 6)), "malformed"),
        (widget("metric", (0, 0, 6, 6), metrics=[], annotations={"vertical": []}), "vertical annotations"),
        (widget("metric", (0, 0, 6, 6), metrics=[], annotations={"horizontal": [[{"value": 1}]]}), "bands"),
        (widget("metric", (0, 0, 6, 6), metrics=[search("Done")]), "SEARCH"),
        (widget("metric", (0, 0, 6, 6), metrics=[search('Stage="local"')]), "SEARCH"),
        (widget("metric", (0, 0, 6, 6), metrics=[[{"expression": "SUM(SEARCH('{A} x', 'Sum'))"}]]), "SEARCH"),
        ({"type": "alarm", "x": 1, "y": 2}, "malformed"),
    ],
)
def test_what_cannot_be_drawn_says_why(broken: dict[str, Any], problem: str) -> None:
    # Given a widget that is not drawn here, beside one that is
    rest = widget("alarm", (0, 9, 6, 6), title="t", alarms=["a"])

    # When both are read, then the one says why, and the other is as it was
    found, other = read(broken, rest)
    assert problem in found.problem
    assert other == AlarmWidget(place=other.place, title="t", arns=("a",))


@pytest.mark.parametrize("file", sorted(DASHBOARDS.glob("*.json")), ids=lambda file: file.stem)
def test_our_own_dashboards_are_drawn_whole(file: Path) -> None:
    # Given a dashboard with its placeholders as values
    text = file.read_text().replace("PR(:${LatencyMs})", "PR(:1000)")
    found = read_widgets(json.loads(text), lambda _namespace, _name: [])

    # Then no widget of it is beyond the review
    assert found
    assert [one.problem for one in found if one.problem] == []


def test_only_metrics_that_are_looked_at_may_be_absent_for_a_reason() -> None:
    # Given all metrics of the dashboards
    text = "".join(file.read_text() for file in DASHBOARDS.glob("*.json"))

    # Then the table of those that need a fault has none beside them
    assert [name for _, name in OCCASIONAL if f'"{name}"' not in text] == []


def test_when_a_metric_appears() -> None:
    assert appears_when(own("JobsRetried"), STAGE.functions) == "an attempt fails"
    assert appears_when(own("JobsCompleted"), STAGE.functions) == ""
    # What cancels jobs does nothing until somebody cancels one; others are never idle.
    cancel, status = (
        metric("AWS/Lambda", "Duration", FunctionName=f"fn-{name}") for name in ("cancelJob", "jobStatus")
    )
    assert appears_when(cancel, STAGE.functions) == "a job is cancelled"
    assert appears_when(status, STAGE.functions) == ""
