"""Metric math: the expressions of alarms and dashboards, and queries that refer to each other."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluice_harness.cloudwatch.expression_parser import SUPPORTED, Parser, Scope, UnsupportedExpression
from sluice_harness.cloudwatch.series_math import Value, WrongKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sluice_harness.cloudwatch.definitions import Query, Series
    from sluice_harness.cloudwatch.expression_parser import Compute

__all__ = ["SUPPORTED", "Expression", "UnsupportedExpression", "check", "evaluate_queries", "order", "parse"]


@dataclass(frozen=True, slots=True)
class Expression:
    """A metric-math expression.

    Attributes
    ----------
    names : tuple of str
        The ids that it refers to, each once; what METRICS() stands for is not among them.

    """

    text: str
    names: tuple[str, ...]
    _compute: Compute

    def evaluate(
        self,
        variables: Mapping[str, Series],
        period: int,
        starts: Sequence[int],
        metrics: Sequence[str] | None = None,
    ) -> Series:
        """Return its series.

        Parameters
        ----------
        variables : Mapping[str, Series]
            The series of each id.
        period : int
            Seconds.
        starts : Sequence[int]
            When each period of the range starts, in epoch seconds, oldest first: what FILL fills, and where a
            result that is a number has its points.
        metrics : Sequence[str], optional
            The ids of metrics among the variables, for METRICS(); all of them if not given.

        Raises
        ------
        UnsupportedExpression
            If the result is an array, or a number or an array is where it cannot be.
        KeyError
            If an id is none of the variables.

        """
        return self.series(self.value(Scope(variables, metrics or tuple(variables), period, starts)), starts)

    def value(self, scope: Scope) -> Value:
        """Return what it is: a number, a series, or an array of series."""
        try:
            return self._compute(scope)
        except WrongKind as error:
            raise UnsupportedExpression(f"{error} in {self.text!r}; supported are {SUPPORTED}") from error

    def series(self, value: Value, starts: Sequence[int]) -> Series:
        """Return a value of it as a series over a range; a number has a point in each period."""
        if isinstance(value, list):
            raise UnsupportedExpression(f"{self.text!r} is an array of series, where one series should be")
        if isinstance(value, dict):
            return {start: value[start] for start in starts if start in value}
        return dict.fromkeys(starts, value)


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> Expression:
    """Read an expression.

    Raises
    ------
    UnsupportedExpression
        If it cannot be read. It names what and where, and lists what there is.

    """
    parser = Parser(text)
    compute = parser.read()
    return Expression(text, tuple(parser.names), compute)


def order(queries: Sequence[Query]) -> list[Query]:
    """Return the queries that are expressions, each after those that it refers to.

    Raises
    ------
    UnsupportedExpression
        If one cannot be read, refers to an id that is none, or to itself in the end.

    """
    known = {query.id: query for query in queries}
    ordered: list[Query] = []

    def visit(query: Query, above: tuple[str, ...]) -> None:
        if query.id in above:
            raise UnsupportedExpression(f"{' -> '.join((*above, query.id))} is a cycle")
        if query.expression is None or query in ordered:
            return
        for name in parse(query.expression).names:
            if name not in known:
                raise UnsupportedExpression(f"{query.expression!r} refers to {name}, which is not there")
            visit(known[name], (*above, query.id))
        ordered.append(query)

    for query in queries:
        visit(query, ())
    return ordered


def check(queries: Sequence[Query]) -> None:
    """Raise `UnsupportedExpression` if queries cannot be evaluated, whatever their data."""
    metrics = [query.id for query in queries if query.expression is None]
    evaluate_queries(queries, {name: {0: 2.0 + index} for index, name in enumerate(metrics)}, 1, [0])


def evaluate_queries(
    queries: Sequence[Query], series: Mapping[str, Series], period: int, starts: Sequence[int]
) -> dict[str, Series]:
    """Return the series of each query that returns data, by its id.

    Parameters
    ----------
    queries : Sequence[Query]
        In any order; expressions may refer to each other.
    series : Mapping[str, Series]
        What was fetched for those that are statistics, by their ids.
    period, starts
        See `Expression.evaluate`.

    """
    metrics = [query.id for query in queries if query.expression is None]
    values: dict[str, Value] = {name: series[name] for name in metrics}
    results: dict[str, Series] = {}
    for query in order(queries):
        expression = parse(query.expression or "")
        values[query.id] = expression.value(Scope(values, metrics, period, starts))
        if query.returns:
            results[query.id] = expression.series(values[query.id], starts)
    return {query.id: results.get(query.id) or series.get(query.id, {}) for query in queries if query.returns}
