"""Points become states as in CloudWatch's published tables, and as a second telling of its prose has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_harness.cloudwatch import evaluation
from sluice_harness.cloudwatch.definitions import MissingData, State
from sluice_harness.cloudwatch.evaluator import Evaluator
from unit import alarm_reference
from unit.alarms import NOW, Samples, math_alarm, metric_alarm, stat_entry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_harness.cloudwatch.definitions import Series

TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")
OK, ALARM, NO_DATA, RETAIN = "OK", "ALARM", "INSUFFICIENT_DATA", "retain"
# "How alarm state is evaluated when data is missing", both tables, columns as in `TREATMENTS`.
THREE_OF_THREE = {
    "0-X-X": (OK, OK, OK, OK),
    "0----": (OK, OK, OK, OK),
    "-----": (NO_DATA, RETAIN, ALARM, OK),
    "0XX-X": (ALARM, ALARM, ALARM, ALARM),
    "----X": (NO_DATA, RETAIN, ALARM, OK),
    "X----": (ALARM, RETAIN, ALARM, OK),
}
TWO_OF_THREE = {
    "0-X-X": (ALARM, ALARM, ALARM, ALARM),
    "00X0X": (ALARM, ALARM, ALARM, ALARM),
    "0-X--": (OK, OK, ALARM, OK),
    "----0": (OK, OK, ALARM, OK),
    "----X": (NO_DATA, RETAIN, ALARM, OK),
}
# "Avoiding premature transitions to alarm state".
PREMATURE = {
    (3, "----X"): NO_DATA,
    (3, "---X-"): NO_DATA,
    (3, "---X0"): OK,
    (3, "--X-0"): OK,
    (3, "--X--"): ALARM,
    (2, "---X-"): ALARM,
}
THREE_OF_FIVE = [
    ("0X0X0X0", OK, "the newest five have two"),
    ("X0X0X0X", ALARM, "the newest five have three"),
    ("X0-X-0X", ALARM, "gaps reach back to the oldest of five points"),
    ("-X--0-X", OK, "two of three points"),
    ("XX--0-X", ALARM, "three of four points"),
    ("XXX--00", ALARM, "five points, gaps between"),
]


def cells(table: Mapping[str, tuple[str, ...]], m: int) -> list[tuple[str, int, str, str]]:
    return [
        (points, m, treatment, state)
        for points, row in table.items()
        for treatment, state in zip(TREATMENTS, row, strict=True)
    ]


def decide(points: str, m: int, n: int, treatment: str) -> str:
    breaching = [{"0": False, "X": True, "-": None}[point] for point in points]
    state = evaluation.decide(breaching, m, n, MissingData(treatment))
    return RETAIN if state is None else str(state)


def series(points: str, end: int = NOW) -> Series:
    """Return a minute's series that ends so: a breaching point is 1."""
    starts = range(end - 60 * len(points), end, 60)
    return {start: float(point == "X") for start, point in zip(starts, points, strict=True) if point != "-"}


def state_of(source: Samples, now: float = NOW, **changes: Any) -> State:
    """Return the state in which one step leaves an alarm that was in ALARM."""
    evaluator = Evaluator(source)
    evaluator.put(metric_alarm(**changes))
    evaluator.set_state("errors", State.ALARM, "by hand", now)
    evaluator.step(now)
    return evaluator.states["errors"]


@pytest.mark.parametrize(
    ("points", "m", "treatment", "state"), [*cells(THREE_OF_THREE, 3), *cells(TWO_OF_THREE, 2)]
)
def test_the_published_tables_hold(points: str, m: int, treatment: str, state: str) -> None:
    assert decide(points, m, 3, treatment) == state


@pytest.mark.parametrize(("points", "m", "treatment", "state"), cells(THREE_OF_THREE, 3))
@pytest.mark.parametrize("before", list(State))
def test_the_published_table_holds_for_an_alarm_in_any_state(
    points: str, m: int, treatment: str, state: str, before: State
) -> None:
    # given an alarm that is in some state, and a metric with these points
    source = Samples()
    for start, value in series(points).items():
        source.add(start + 30, value)
    evaluator = Evaluator(source)
    evaluator.put(metric_alarm(DatapointsToAlarm=m, TreatMissingData=treatment))
    evaluator.set_state("errors", before, "by hand", NOW)
    # when it is evaluated
    evaluator.step(NOW)
    # then it is in the published state, or still in its own
    assert evaluator.states["errors"] == (before if state == RETAIN else state)


@pytest.mark.parametrize(("m", "points"), PREMATURE)
def test_an_alarm_is_neither_premature_nor_stuck(m: int, points: str) -> None:
    assert decide(points, m, 3, "missing") == PREMATURE[m, points]


@pytest.mark.parametrize(("points", "state", "why"), THREE_OF_FIVE)
@pytest.mark.parametrize("treatment", ["missing", "ignore", "notBreaching"])
def test_three_of_five_with_gaps(points: str, state: str, why: str, treatment: str) -> None:
    assert decide(points, 3, 5, treatment) == state, why


@given(
    st.integers(1, 6).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))),
    st.text("0X-", min_size=8, max_size=8),
    st.sampled_from(TREATMENTS),
)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_states_are_those_of_the_reference(m_of_n: tuple[int, int], points: str, treatment: str) -> None:
    m, n = m_of_n
    points = points[: n + evaluation.EXTRA_PERIODS]
    assert decide(points, m, n, treatment) == alarm_reference.decide(points, m, n, treatment)


@given(
    st.lists(st.tuples(st.integers(-1800, 600), st.sampled_from([0.0, 1.0, 2.0])), max_size=12),
    st.sampled_from([60, 120, 300]),
    st.integers(1, 4).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))),
    st.sampled_from(TREATMENTS),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_an_alarm_goes_the_way_of_the_reference_minute_by_minute(
    samples: list[tuple[int, float]], period: int, m_of_n: tuple[int, int], treatment: str
) -> None:
    # given any samples, and an alarm of any shape
    m, n = m_of_n
    source = Samples({"Errors": [(NOW + at, value) for at, value in samples]})
    shape: dict[str, Any] = {"Period": period, "EvaluationPeriods": n, "DatapointsToAlarm": m}
    evaluator = Evaluator(source)
    evaluator.put(metric_alarm(**shape, Threshold=1, TreatMissingData=treatment))
    expected = "INSUFFICIENT_DATA"
    for now in range(NOW, NOW + 900, 60):
        # when it is evaluated in the middle of a minute
        evaluator.step(now + 29.5)
        # then it is in the state that counting its windows back from the full minute gives
        points = alarm_reference.points_at(source.samples["Errors"], now, period, n + 2, 1)
        decided = alarm_reference.decide(points, m, n, treatment)
        expected = expected if decided == RETAIN else decided
        assert evaluator.states["errors"] == expected


def test_an_hour_is_the_last_sixty_minutes_at_any_minute() -> None:
    alarm = metric_alarm(Period=3600, EvaluationPeriods=1)
    assert list(evaluation.evaluation_range(alarm, NOW + 7 * 60 + 59)) == [
        NOW + 7 * 60 - hours * 3600 for hours in (3, 2, 1)
    ]


@pytest.mark.parametrize(
    ("comparison", "states"),
    [
        ("GreaterThanThreshold", [OK, OK, ALARM]),
        ("GreaterThanOrEqualToThreshold", [OK, ALARM, ALARM]),
        ("LessThanThreshold", [ALARM, OK, OK]),
        ("LessThanOrEqualToThreshold", [ALARM, ALARM, OK]),
    ],
)
def test_a_point_breaches_as_its_operator_says(comparison: str, states: list[str]) -> None:
    for value, state in zip((4.0, 5.0, 6.0), states, strict=True):
        source = Samples()
        source.add(NOW - 30, value)
        shape: dict[str, Any] = {"EvaluationPeriods": 1, "Threshold": 5, "ComparisonOperator": comparison}
        assert state_of(source, **shape) == state


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_an_alarm_on_a_metric_of_dynamodb_keeps_its_state_without_data(treatment: str) -> None:
    assert state_of(Samples(), Namespace="AWS/DynamoDB", TreatMissingData=treatment) is State.ALARM
    assert state_of(Samples(), Namespace="Sluice", TreatMissingData="notBreaching") is State.OK


@pytest.mark.parametrize(("namespace", "state"), [("AWS/DynamoDB", ALARM), ("AWS/SQS", OK)])
def test_so_does_one_on_math_over_metrics_of_dynamodb(namespace: str, state: str) -> None:
    # given an alarm on a sum of which one metric is of that namespace, and no data
    entries = [
        stat_entry("m1", "Throttles", namespace=namespace),
        stat_entry("m2", "Errors"),
        {"Id": "e1", "Expression": "m1 + m2"},
    ]
    evaluator = Evaluator(Samples())
    evaluator.put(math_alarm("errors", metrics=entries, TreatMissingData="notBreaching"))
    evaluator.set_state("errors", State.ALARM, "by hand", NOW)
    # when it is evaluated
    evaluator.step(NOW)
    # then DynamoDB's is ignored as missing, the other's is not
    assert evaluator.states["errors"] == state


@pytest.mark.parametrize(
    ("stat", "count", "choice", "state"),
    [
        ("p90", 99, "ignore", ALARM),
        ("p90", 100, "ignore", OK),
        ("p90", 1, "evaluate", OK),
        ("p90", 1, None, OK),
        ("p50", 19, "ignore", ALARM),
        ("p50", 20, "ignore", OK),
        ("p10", 99, "ignore", ALARM),
        ("p10", 100, "ignore", OK),
        ("p100", 1, "ignore", OK),
    ],
)
def test_a_percentile_of_few_samples_keeps_the_state_if_told_to(
    stat: str, count: int, choice: str | None, state: str
) -> None:
    # given so many samples in the last period, all within the threshold, and an alarm in ALARM
    source = Samples()
    source.add(NOW - 30, *[0.0] * count)
    shape: dict[str, Any] = {"ExtendedStatistic": stat, "Statistic": None, "EvaluationPeriods": 1}
    # when it is evaluated, then it is OK only if there were enough
    assert state_of(source, **shape, EvaluateLowSampleCountPercentile=choice) == state


def test_one_evaluated_point_of_few_samples_is_enough_to_keep_the_state() -> None:
    source = Samples()
    for back, count in ((3, 20), (2, 19), (1, 20)):
        source.add(NOW - 60 * back, *[0.0] * count)
    shape: dict[str, Any] = {
        "ExtendedStatistic": "p50",
        "Statistic": None,
        "EvaluateLowSampleCountPercentile": "ignore",
    }
    assert state_of(source, **shape) is State.ALARM
    assert state_of(source, **shape, EvaluationPeriods=1) is State.OK


def test_a_result_that_is_a_number_is_evaluated_in_each_period() -> None:
    evaluator = Evaluator(Samples())
    entries = [stat_entry("m1", "Errors"), {"Id": "e1", "Expression": "PERIOD(m1) / 60"}]
    evaluator.put(math_alarm(metrics=entries))
    evaluator.step(NOW)
    assert evaluator.states["rate"] is State.ALARM
