"""An alarm's report: what it is for, what it compared, what state it was in, and what its drill showed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sluice_harness.cloudwatch.definitions import read_alarm
from sluice_harness.review.alarms import AlarmReport, AlarmState, Drill, Span, Transition, report, spans, wanted
from sluice_harness.review.charts import alarm_chart, objective_chart
from sluice_harness.review.objectives import Objective, objectives
from sluice_harness.review.series import SeriesReader
from unit.reviewed import DEPTH, START, Recorded, alarm, burn, own, query, recorded, window

PASSED = Drill(fired=True, alarm_after_s=3.0, ok_after_s=9.0, notified=True, what="the queue is deleted")


def state(described: dict[str, Any], *transitions: Transition, now: str = "OK") -> AlarmState:
    return AlarmState(read_alarm(described), now, START, "", transitions)


def reported(one: AlarmState, source: Recorded | None = None, **drills: Drill) -> AlarmReport:
    return report(one, window(), SeriesReader(source or Recorded()), "sluice-local-", drills)


def dead_letters(**more: Any) -> dict[str, Any]:
    return alarm("letters", query("depth", DEPTH, "Maximum"), threshold=1, **more)


def test_what_an_alarm_says_of_itself() -> None:
    # Given an alarm with a description as our stack writes it
    found = reported(state(dead_letters()), recorded())

    # Then its parts are told apart, and its condition is in words
    assert (found.name, found.means, found.severity) == ("letters", "It says letters.", "warning")
    assert found.runbook == "dead-letters"
    assert found.condition == (
        "ApproximateNumberOfMessagesVisible Maximum > 1 for 2 of 3 periods of 1 min; missing data: notBreaching"
    )
    assert found.watched == ["depth = AWS/SQS ApproximateNumberOfMessagesVisible (QueueName=work-dlq) Maximum"]
    assert found.series == {START + 60 * minute: 0.0 if minute < 3 else 2.0 for minute in range(1, 9)}


def test_an_alarm_of_somebody_else_is_taken_for_critical() -> None:
    found = reported(state(dead_letters(AlarmDescription="Look into it")))
    assert (found.means, found.severity, found.runbook) == ("Look into it", "critical", "")


def test_a_long_period_is_read_from_before_the_window() -> None:
    # Given an alarm on an hour, over a window of ten minutes
    long = alarm(
        "long", query("depth", DEPTH, "Maximum", 3_600), threshold=1, EvaluationPeriods=1, DatapointsToAlarm=1
    )
    end = window().end

    # When it is read, then from a whole period before the window's end
    assert [(start, stop) for _, start, stop in wanted(state(long), window())] == [(end - 3_600, end)]
    found = reported(state(long), recorded())
    assert found.series == {end - 3_600: 2.0}

    # And it is drawn over all of the window, not before it
    chart = alarm_chart(found, window())
    assert chart
    assert chart["lines"][0]["points"] == [(1_000 * START, 2.0), (1_000 * end, 2.0)]


def test_a_series_is_drawn_in_steps_with_its_gaps_and_threshold() -> None:
    # Given data in the first and the third minute
    source = Recorded()
    source.add(DEPTH, 0, 5.0)
    source.add(DEPTH, 2, 7.0)
    chart = alarm_chart(reported(state(dead_letters()), source), window())

    # Then each point lasts a minute, and the threshold says on which side it breaches
    at = 1_000 * START
    assert chart
    assert chart["lines"][0]["points"] == [
        (at, 5.0),
        (at + 60_000, 5.0),
        (at + 60_000, None),
        (at + 120_000, 7.0),
        (at + 180_000, 7.0),
    ]
    assert chart["rules"] == [{"label": "1", "value": 1, "breach": "above"}]
    below = reported(state(dead_letters(ComparisonOperator="LessThanThreshold")))
    assert (alarm_chart(below, window()) or {})["rules"][0]["breach"] == "below"


def test_the_states_of_a_window_have_no_gaps() -> None:
    # Given an alarm that fired and recovered, told in any order, and once before the window
    changes = (
        Transition(START + 400, "ALARM", "OK", ""),
        Transition(START + 100, "OK", "ALARM", ""),
        Transition(START - 50, "INSUFFICIENT_DATA", "OK", ""),
    )
    end = float(window().end)

    # Then there is a state at each time
    assert spans(state(dead_letters(), *changes), window()) == [
        Span("OK", START, START + 100),
        Span("ALARM", START + 100, START + 400),
        Span("OK", START + 400, end),
    ]
    assert spans(state(dead_letters(), changes[0]), window())[0] == Span("ALARM", START, START + 400)
    assert spans(state(dead_letters(), now="ALARM"), window()) == [Span("ALARM", START, end)]
    assert reported(state(dead_letters(), *changes)).fired == 1


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ('ALARM("sluice-local-a") OR ALARM("sluice-local-b")', "fires while any of these does"),
        ('ALARM("sluice-local-a") AND ALARM("sluice-local-b")', "fires while all of these do"),
        ('ALARM("sluice-local-a") AND NOT OK("sluice-local-b")', 'ALARM("a") AND NOT OK("b")'),
    ],
)
def test_a_composite_in_words(rule: str, said: str) -> None:
    # Given a composite with a suppressor
    described = {
        "AlarmName": "sluice-local-all",
        "AlarmDescription": "x",
        "AlarmRule": rule,
        "ActionsSuppressor": "sluice-local-critical",
        "ActionsSuppressorWaitPeriod": 1,
        "ActionsSuppressorExtensionPeriod": 1,
    }
    found = reported(state(described))

    # Then it says when it fires, and has no chart
    assert found.condition == f"{said}; notifies nobody while critical is in ALARM"
    assert found.children == ["a", "b"]
    assert alarm_chart(found, window()) is None


@pytest.mark.parametrize(
    ("drill", "described", "is_proven"),
    [
        (PASSED, dead_letters(), True),
        (replace(PASSED, fired=False), dead_letters(), False),
        (replace(PASSED, ok_after_s=None), dead_letters(), False),
        (replace(PASSED, ok_after_s=None, ok_awaited=False), dead_letters(), True),
        (replace(PASSED, notified=False), dead_letters(), False),
        # Which tells nobody in any case.
        (replace(PASSED, notified=False), dead_letters(AlarmActions=[]), True),
    ],
)
def test_a_drill_proves_an_alarm_that_does_all_it_is_for(
    drill: Drill, described: dict[str, Any], *, is_proven: bool
) -> None:
    assert reported(state(described), letters=drill).is_proven is is_proven
    assert not reported(state(described)).is_proven


# Objectives


def judged(source: Recorded, *labels: tuple[str, str, int]) -> list[Objective]:
    reader = SeriesReader(source)
    alarms = [
        report(state(burn(name, label, period)), window(), reader, "sluice-local-", {})
        for name, label, period in labels
    ]
    return objectives(alarms, window(), reader)


def test_an_objective_is_what_its_burn_alarms_divide_by() -> None:
    # Given 160 jobs of which 32 took too long, under 99 % within a second
    (found,) = judged(recorded(), ("latency", "1h", 3_600), ("latency", "5m", 300))

    # Then the share, the burn rate and what is left of the budget are these, by hand
    assert (found.name, found.means) == ("latency", "completed within 1,000 ms")
    assert found.target == pytest.approx(0.99)
    assert found.achieved == pytest.approx(128 / 160)
    assert found.rate == pytest.approx(20)
    assert (found.events, found.bad) == pytest.approx((160, 32))
    assert found.month_spent == pytest.approx(20 * 600 / (30 * 86_400))
    # The budget is 1.6 jobs; each minute takes 4.
    assert found.left[START + 60] == 1
    assert found.left[START + 120] == pytest.approx(1 - 4 / 1.6)
    assert found.left[window().end] == pytest.approx(1 - 32 / 1.6)
    assert [one.window for one in found.burns] == ["5m", "1h"]


def test_availability_is_a_share_and_not_percent() -> None:
    # Given 160 completed and two lost
    (found,) = judged(recorded(), ("availability", "1h", 3_600))
    assert found.target == pytest.approx(0.999)
    assert found.achieved == pytest.approx(160 / 162)
    assert (found.events, found.bad) == pytest.approx((162, 2))
    # Lost in the sixth minute, and not before.
    assert found.left[START + 300] == 1
    assert found.left[START + 360] == pytest.approx(1 - 2 / 0.162)
    assert objective_chart(found, window())["lines"][0]["points"][0] == (1_000 * START, 100.0)


def test_a_burn_of_the_newest_period_is_shown() -> None:
    # Given slow jobs in the newest five minutes only
    source = Recorded()
    source.add(own("EndToEnd"), 1, *[10.0] * 9)
    source.add(own("EndToEnd"), 7, 5_000.0)
    (found,) = judged(source, ("latency", "5m", 300), ("latency", "1h", 3_600))
    assert [one.rate for one in found.burns] == [100.0, pytest.approx(10)]


def test_nothing_is_judged_where_nothing_came() -> None:
    (found,) = judged(Recorded(), ("latency", "1h", 3_600))
    assert (found.rate, found.achieved, found.left) == (None, None, {})


def test_alarms_that_are_no_burn_rates_state_no_objective() -> None:
    reader = SeriesReader(Recorded())
    other = report(state(dead_letters()), window(), reader, "sluice-local-", {})
    assert objectives([other], window(), reader) == []
