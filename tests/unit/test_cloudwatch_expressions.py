"""Metric math: AWS's own examples, random trees against a second evaluator, and clear refusals."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_harness.cloudwatch.definitions import Metric, MetricStat, Query, Series
from sluice_harness.cloudwatch.expressions import UnsupportedExpression, evaluate_queries, parse
from unit import expression_reference
from unit.expression_reference import STARTS, Tree

MINUTE = 60


def points(*values: float | None) -> Series:
    """Return a series with these points, one a minute; None is none."""
    return {start: value for start, value in zip(STARTS, values, strict=False) if value is not None}


def computed(text: str, **variables: Series) -> list[float | None]:
    """Return the points of an expression over the five minutes that the examples have."""
    series = parse(text).evaluate(variables, MINUTE, STARTS[:5])
    return [series.get(start) for start in STARTS[:5]]


def stat(query_id: str) -> Query:
    return Query(query_id, stat=MetricStat(Metric("Sluice", query_id), "Sum", MINUTE), returns=False)


@given(expression_reference.trees, expression_reference.variables)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_expression_is_what_the_reference_makes_of_it(tree: Tree, variables: dict[str, Series]) -> None:
    expression = parse(expression_reference.text(tree))
    found = expression.evaluate(variables, MINUTE, STARTS)
    assert found == pytest.approx(expression_reference.evaluate(tree, variables))


@given(st.lists(st.tuples(st.sampled_from(["+", "-", "*", "/"]), st.integers(1, 9)), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_operators_bind_as_in_arithmetic(chain: list[tuple[str, int]]) -> None:
    text = "7" + "".join(f" {operator} {number}" for operator, number in chain)
    assert parse(text).evaluate({}, MINUTE, [0]) == pytest.approx({0: eval(text)})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 1 == 2 AND 3 > 2", 1),
        ("0 AND 0 OR 1", 1),
        ("0 && (0 || 1)", 0),
        ("1 < 2 == 1", 1),
        ("-2 * -3", 6),
        ("--2", 2),
        ("2 - -3", 5),
        (".5 + 1e1", 10.5),
    ],
)
def test_operators_bind_as_documented(text: str, expected: float) -> None:
    assert parse(text).evaluate({}, MINUTE, [0]) == {0: expected}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metric1 < metric2", [0, 0, 1, 0]),
        ("metric1 >= 30", [1, 0, 0, 0]),
        ("metric1 > 15 AND metric2 > 15", [1, 0, 0, 0]),
    ],
)
def test_comparisons_are_those_of_the_published_table(text: str, expected: list[float]) -> None:
    found = computed(text, metric1=points(30, 20, 0, 0), metric2=points(20, None, 20, None))
    assert found[:4] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("IF(metric1, metric2, metric3)", [30, 0, 20, None, None]),
        ("IF(metric1, 5, metric3)", [5, 5, 20, None, None]),
        ("IF(metric1, metric2, 5)", [30, 0, 5, 5, None]),
        ("IF(metric1, metric2)", [30, 0, None, None, None]),
        ("IF(1, metric2, metric3)", [30, None, 0, 0, 30]),
        ("IF(0, metric2)", [None] * 5),
    ],
)
def test_conditions_are_those_of_the_published_tables(text: str, expected: list[float | None]) -> None:
    series = {
        "metric1": points(1, 1, 0, 0),
        "metric2": points(30, None, 0, 0, 30),
        "metric3": points(0, 0, 20, None, 20),
    }
    assert computed(text, **series) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("m1 + m2", [5, None, 4, None, None]),
        ("m1 / m2", [1.5, None, 0, None, None]),
        ("m2 / m1", [2 / 3, None, None, None, None]),
        ("100 / m1", [100 / 3, None, None, 50, None]),
        ("FILL(m1, 0) + FILL(m2, 0)", [5, 0, 4, 2, 0]),
        ("FILL(m1, REPEAT)", [3, 3, 0, 2, 2]),
        ("FILL(m3, REPEAT)", [None, None, None, 9, 9]),
        ("SUM([m1, m2])", [5, None, 4, 2, None]),
        ("AVG([m1, m2])", [2.5, None, 2, 2, None]),
        ("MIN([m1, m2])", [2, None, 0, 2, None]),
        ("MAX(METRICS())", [3, None, 4, 9, None]),
        ('SUM(METRICS("1"))', [3, None, 0, 2, None]),
        ('SUM([METRICS("1"), METRICS("2")])', [5, None, 4, 2, None]),
        ("SUM(FILL(METRICS(), 1))", [7, 4, 6, 13, 4]),
        ("SUM(100 / [m1, m2])", [100 / 3 + 50, None, 25, 50, None]),
        ("m1 - AVG(m1)", [3 - 5 / 3, None, -5 / 3, 1 / 3, None]),
        ("m1 / PERIOD(m1)", [0.05, None, 0, 2 / 60, None]),
        ("RATE(m1)", [None, None, -3 / 120, 2 / 60, None]),
        ("SUM(m4) + m1", [None] * 5),
        ("m1 / 0", [None] * 5),
        ("1 / 0 + m1", [None] * 5),
        ("7", [7] * 5),
    ],
)
def test_missing_points_and_division_by_zero(text: str, expected: list[float | None]) -> None:
    # given series with gaps, one whose 0 divides, and one without any point
    series = {"m1": points(3, None, 0, 2), "m2": points(2, None, 4), "m3": points(None, None, None, 9), "m4": {}}
    found = computed(text, **series)
    # then there is a point only where there can be one
    assert found == pytest.approx(expected)


def test_an_expression_names_what_it_needs() -> None:
    assert parse("IF(b > 1, FILL(a, 0), PERIOD(c)) + b").names == ("b", "a", "c")


def test_expressions_may_refer_to_each_other_in_any_order() -> None:
    # given queries of which the first needs the last, and one is only a number
    queries = [
        Query("share", expression="100 * failed / all"),
        stat("m1"),
        stat("m2"),
        Query("all", expression="SUM(METRICS()) + none", returns=False),
        Query("failed", expression="m1", returns=False),
        Query("none", expression="SUM(m2) - SUM(m2)", returns=False),
    ]
    series = {"m1": points(1, 1), "m2": points(3, 1)}
    # when they are evaluated
    found = evaluate_queries(queries, series, MINUTE, STARTS[:2])
    # then only what returns data is there, and METRICS() is the metrics alone
    assert found == {"share": points(25, 50)}


def test_a_metric_that_returns_data_is_its_own_result() -> None:
    query = Query("m1", stat=MetricStat(Metric("Sluice", "m1"), "Sum", MINUTE))
    assert evaluate_queries([query], {"m1": points(1)}, MINUTE, STARTS) == {"m1": points(1)}


@pytest.mark.parametrize(
    ("expressions", "complaint"),
    [
        ({"a": "b + 1", "b": "c", "c": "a"}, "a -> b -> c -> a is a cycle"),
        ({"a": "a"}, "a -> a is a cycle"),
        ({"a": "m9"}, "'m9' refers to m9, which is not there"),
    ],
)
def test_references_that_lead_nowhere_are_refused(expressions: dict[str, str], complaint: str) -> None:
    queries = [Query(name, expression=text) for name, text in expressions.items()]
    with pytest.raises(UnsupportedExpression, match=complaint):
        evaluate_queries(queries, {}, MINUTE, STARTS)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("m1 ^ 2", r"'\^' is not supported at character 4 "),
        ("m1 + STDDEV(m1)", "STDDEV is not supported at character 6 "),
        ("FILL(m1, LINEAR)", "LINEAR is not supported at character 10 "),
        ("SEARCH('x')", "SEARCH is not supported at character 1 "),
        ("ANOMALY_DETECTION_BAND(m1)", "ANOMALY_DETECTION_BAND is not supported at character 1 "),
        ("m1 +", "it ends early at character 5 "),
        ("", "it ends early at character 1 "),
        ("(m1", r"'\)' is expected at character 4 "),
        ("m1 m2", "'m2' is not expected at character 4 "),
        ("SUM(m1, m2)", "SUM does not take 2 arguments at character 1 "),
        ("IF(m1)", "IF does not take 1 arguments at character 1 "),
        ("PERIOD(m1 + m2)", r"'\)' is expected at character 11 "),
        ("PERIOD(1)", "PERIOD takes the id of a metric at character 8 "),
        ('m1 + "m2"', "'\"m2\"' is not expected at character 6 "),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place_and_what_there_is(text: str, complaint: str) -> None:
    with pytest.raises(UnsupportedExpression, match=complaint) as refused:
        parse(text)
    assert "supported are + - * /" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("METRICS()", "is an array of series, where one series should be"),
        ("[m1] + [m1]", r"\+ between two arrays"),
        ("SUM(5)", "SUM of a number"),
        ("RATE(5)", "RATE of a number"),
        ("FILL(5, 0)", "FILL of a number"),
        ("FILL(m1, m1)", "FILL with a series"),
        ("SUM([m1, 5])", "a number in an array"),
        ("IF([m1], 1, 0)", "IF of an array"),
    ],
)
def test_what_cannot_be_computed_is_told(text: str, complaint: str) -> None:
    with pytest.raises(UnsupportedExpression, match=complaint):
        parse(text).evaluate({"m1": points(1)}, MINUTE, STARTS)
