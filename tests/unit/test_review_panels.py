"""Widgets are filled with the right series, and what is not there is told apart from what is missing."""

from __future__ import annotations

from typing import Any

import pytest
from sluice_harness.review.charts import panel_chart
from sluice_harness.review.panels import Absence, Panel, draw, wanted
from sluice_harness.review.series import SeriesReader
from sluice_harness.review.widgets import MetricWidget, read_widgets
from sluice_harness.review.window import Window, spoken
from sluice_harness.stage_clock import StageClock
from unit.reviewed import MINUTES, STAGE, START, Recorded, metric, own, widget, window

DONE = ["Sluice", "JobsCompleted", "Stage", "local"]


def drawn(source: Recorded, over: Window | None = None, **properties: Any) -> Panel:
    (read,) = read_widgets({"widgets": [widget("metric", (0, 0, 6, 6), **properties)]}, lambda *_: [])
    assert isinstance(read, MetricWidget), read.problem
    return draw(read, over or window(), SeriesReader(source), STAGE.functions)


def done(*minutes: int, samples: int = 1) -> Recorded:
    source = Recorded()
    for minute in minutes:
        source.add(own("JobsCompleted"), minute, *[1.0] * samples)
    return source


def test_each_line_has_its_own_statistic_and_period() -> None:
    # Given samples in three minutes
    source = done(0, 1, 4, samples=2)

    # When one line counts by the minute and one by five
    panel = drawn(source, stat="Sum", period=60, metrics=[DONE, [*DONE, {"period": 300, "stat": "SampleCount"}]])

    # Then both are of the window, by their own periods
    assert [line.points for line in panel.lines] == [
        {START: 2, START + 60: 2, START + 240: 2},
        {START: 6},
    ]
    assert (panel.absences, panel.is_empty, panel.problem) == ([], False, "")


def test_expressions_see_hidden_metrics_and_are_seen() -> None:
    # Given a hidden metric and an expression over it
    entries = [
        [*DONE, {"id": "done", "visible": False}],
        [{"expression": "done * 10", "id": "tens", "label": "tens"}],
    ]
    panel = drawn(done(3), stat="Sum", period=60, metrics=entries)

    # Then only the expression is a line
    assert [(line.line.label, line.points) for line in panel.lines] == [("tens", {START + 180: 10})]


def test_a_single_value_is_of_the_whole_window() -> None:
    # Given samples all over the window, and outside it
    source = done(-1, 0, 9, 10)
    panel = drawn(source, view="singleValue", setPeriodToTimeRange=True, stat="Sum", metrics=[DONE])

    # Then there is one number, of those in it
    assert [line.points for line in panel.lines] == [{START: 2}]


def test_what_should_be_there_is_missing_and_what_needs_a_fault_is_not() -> None:
    # Given a widget of three metrics of which one has data
    retried = ["Sluice", "JobsRetried", "Stage", "local"]
    panel = drawn(done(1), period=60, stat="Sum", metrics=[DONE, retried, ["AWS/SQS", "Gone", "QueueName", "q"]])

    # Then the two without are told apart
    assert panel.absences == [
        Absence("Sluice JobsRetried (Stage=local)", "an attempt fails"),
        Absence("AWS/SQS Gone (QueueName=q)", ""),
    ]
    assert [absence.metric for absence in panel.missing] == ["AWS/SQS Gone (QueueName=q)"]
    assert not panel.is_empty


def test_a_hidden_operand_without_data_is_an_absence_too() -> None:
    # Given an expression that fills what is missing
    entries = [
        ["AWS/SQS", "Gone", {"id": "gone", "visible": False}],
        [{"expression": "FILL(gone, 0)", "id": "filled"}],
    ]
    panel = drawn(Recorded(), period=60, metrics=entries)

    # Then it draws zeros, and the operand is missing all the same
    assert [len(line.points) for line in panel.lines] == [MINUTES]
    assert [absence.metric for absence in panel.missing] == ["AWS/SQS Gone"]


@pytest.mark.parametrize(
    ("operand", "when"),
    [(["AWS/SQS", "Gone"], ""), (["Sluice", "JobsRetried", "Stage", "local"], "an attempt fails")],
)
def test_an_expression_is_empty_for_the_reason_of_its_operand(operand: list[Any], when: str) -> None:
    entries = [[*operand, {"id": "none", "visible": False}], [{"expression": "none + 1", "id": "more"}]]
    (line,) = drawn(Recorded(), period=60, metrics=entries).lines
    assert line.absence == Absence("none + 1", when)


def test_an_expression_that_divides_by_nothing_has_no_value() -> None:
    entries = [[*DONE, {"id": "done", "visible": False}], [{"expression": "done / (done - done)", "id": "x"}]]
    (line,) = drawn(done(1), period=60, stat="Sum", metrics=entries).lines
    assert line.absence == Absence("done / (done - done)", "its operands give a value")


def test_an_expression_beyond_our_mathematics_is_a_problem_and_no_crash() -> None:
    panel = drawn(done(1), period=60, metrics=[[{"expression": "ANOMALY_DETECTION_BAND(m1)", "id": "x"}]])
    assert "supported are" in panel.problem
    assert panel.lines == []


def test_all_widgets_are_read_in_one_call() -> None:
    # Given two widgets of different statistics
    source = done(1)
    (read,) = read_widgets({"widgets": [widget("metric", (0, 0, 6, 6), metrics=[DONE, DONE])]}, lambda *_: [])
    assert isinstance(read, MetricWidget)
    reader = SeriesReader(source)

    # When they are asked for before they are drawn
    reader.prefetch(wanted(read, window()))
    draw(read, window(), reader, STAGE.functions)

    # Then the source was asked once
    assert source.calls == 1


def test_a_long_window_has_longer_periods() -> None:
    # Given two days
    long = Window(START, START + 2 * 86_400, StageClock())
    panel = drawn(done(0, 1, 2), long, period=60, stat="Sum", metrics=[DONE])

    # Then no line has more points than a chart can show
    assert panel.period == 120
    assert [line.points for line in panel.lines] == [{START: 2, START + 120: 1}]


def test_gaps_stay_gaps() -> None:
    # Given a line with data in two stretches
    chart = panel_chart(drawn(done(0, 1, 4), period=60, stat="Sum", metrics=[DONE]), window())

    # Then nothing is drawn through what is missing
    (line,) = chart["lines"]
    at = 1_000 * START
    assert line["points"] == [(at, 1.0), (at + 60_000, 1.0), (at + 120_000, None), (at + 240_000, 1.0)]
    assert (chart["start"], chart["end"]) == (at, at + MINUTES * 60_000)


@pytest.mark.parametrize(("stat", "nothing"), [("Sum", 0.0), ("Average", None)])
def test_stacked_lines_have_a_point_at_each_time(stat: str, nothing: float | None) -> None:
    # Given a stack in which one minute has data; what is counted is nothing where there is none
    chart = panel_chart(drawn(done(1), period=60, stat=stat, stacked=True, metrics=[DONE]), window())
    assert [value for _, value in chart["lines"][0]["points"]] == [nothing, 1.0, *[nothing] * (MINUTES - 2)]


def test_a_line_on_the_right_makes_a_right_axis() -> None:
    # Given a widget that describes a right axis that one line is on, and one that none is on
    axis = {"right": {"label": "s"}}
    with_it = drawn(done(1), metrics=[[*DONE, {"yAxis": "right"}]], yAxis=axis)
    without = drawn(done(1), metrics=[DONE], yAxis=axis)

    # Then the axis is there only where it means something
    assert panel_chart(with_it, window())["right"]["label"] == "s"
    assert "right" not in panel_chart(without, window())


def test_the_window_in_both_times() -> None:
    # Given a stage whose time runs twelve times as fast
    clock = StageClock(12.0, START)

    # When 100 real seconds have passed, and 15 minutes are looked back on
    found = Window.back(15, clock, since=START, now=START + 100.0)

    # Then the window ends with the running minute of its time, and is this long in ours
    assert (found.start - START, found.end - START) == (6 * 60, 21 * 60)
    assert (found.real_start - START, found.real_end - START) == (30, 105)
    assert Window.back(600, clock, since=START, now=START + 100.0).start == START


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (60, "1 min"), (5_400, "1 h 30 min"), (90_061, "1 d 1 h"), (61, "1 min 1 s")]
)
def test_durations_in_words(seconds: int, text: str) -> None:
    assert spoken(seconds) == text


def test_a_metric_without_dimensions_reads_as_its_name() -> None:
    panel = drawn(Recorded(), metrics=[["AWS/Lambda", "ConcurrentExecutions"]])
    assert [absence.metric for absence in panel.absences] == ["AWS/Lambda ConcurrentExecutions"]
    assert metric("AWS/Lambda", "ConcurrentExecutions").dimensions == ()
