"""``SEARCH`` in a dashboard: all metrics of one name, whatever they are found to be dimensioned by.

Metric math here takes series and no searches, so a widget's search is answered before, from ListMetrics.
Source: CloudWatch User Guide, "Search expression syntax"; of it, as much as a dashboard needs to draw each value
of a dimension: the schema, one ``MetricName`` and exact values of dimensions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from sluice_harness.cloudwatch.definitions import Metric
from sluice_harness.cloudwatch.expressions import UnsupportedExpression

if TYPE_CHECKING:
    from collections.abc import Sequence

_SEARCH = re.compile(
    r"SEARCH\('\{(?P<schema>[^}]+)\}(?P<terms>[^']*)', *'(?P<stat>[^']+)'(?:, *(?P<period>\d+))?\)"
)
_TERM = re.compile(r'\s*([\w:]+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Search:
    """A search for the metrics of one name that have exactly these dimensions.

    Attributes
    ----------
    dimensions : tuple of str
        All that a metric must have.
    values : tuple of (str, str)
        Those of them whose values are given.

    """

    namespace: str
    name: str
    dimensions: tuple[str, ...]
    values: tuple[tuple[str, str], ...]
    stat: str
    period: int | None

    @classmethod
    def read(cls, expression: str) -> Self | None:
        """Return the search that an expression is, or None if it is none.

        Raises
        ------
        UnsupportedExpression
            It searches in a way that is not supported here.

        """
        if "SEARCH" not in expression:
            return None
        match = _SEARCH.fullmatch(expression.strip())
        terms = dict(_TERM.findall(match["terms"])) if match else {}
        if match is None or _TERM.sub("", match["terms"]).strip() or "MetricName" not in terms:
            raise UnsupportedExpression(
                f"{expression!r} is not supported: a search is the whole expression, "
                """SEARCH('{Namespace,Dimension,...} MetricName="name" Dimension="value" ...', 'statistic')"""
            )
        namespace, *dimensions = (part.strip().strip('"') for part in match["schema"].split(","))
        name = terms.pop("MetricName")
        values = tuple(sorted(terms.items()))
        period = int(match["period"]) if match["period"] else None
        return cls(namespace, name, tuple(sorted(dimensions)), values, match["stat"], period)

    @property
    def pattern(self) -> Metric:
        """The metric it looks for, with ``*`` for values that it leaves open."""
        given = dict(self.values)
        dimensions = tuple((name, given.get(name, "*")) for name in self.dimensions)
        return Metric(self.namespace, self.name, dimensions)

    def matches(self, metrics: Sequence[Metric]) -> list[Metric]:
        """Return those that it finds, in the order of their dimensions' values."""
        found = [
            metric
            for metric in metrics
            if (metric.namespace, metric.name) == (self.namespace, self.name)
            and tuple(name for name, _ in metric.dimensions) == self.dimensions
            and set(self.values) <= set(metric.dimensions)
        ]
        return sorted(found, key=lambda metric: metric.dimensions)

    def label(self, metric: Metric) -> str:
        """Return what tells one result from another: the values that the search leaves open."""
        given = dict(self.values)
        return " ".join(value for name, value in metric.dimensions if name not in given) or metric.name
