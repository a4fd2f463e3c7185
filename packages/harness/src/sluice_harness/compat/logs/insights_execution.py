"""Running a Logs Insights query over log events.

AWS: CloudWatch Logs User Guide, the pages "fields", "display", "stats", "sort", "limit" and "dedup" of the query
syntax: without `sort` the newest come first, without `fields` and `display` a row has `@timestamp` and `@message`,
and a field that an event has not is left out of its row. Percentiles are values of the field (nearest rank), where
AWS's may be estimates.
"""

from __future__ import annotations

import math
from functools import cmp_to_key
from typing import TYPE_CHECKING

from sluice_harness.compat.logs.insights_syntax import Dedup, Display, Fields, Filter, Limit, Sort, Stats
from sluice_harness.compat.logs.insights_values import Record, Value, compare, number, show, show_time, sort_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sluice_harness.compat.logs.insights_syntax import Aggregate, Command, Group

Row = list[dict[str, str]]
_TIMES = {"@timestamp", "@ingestionTime"}


class Execution:
    """One run.

    Attributes
    ----------
    matched : int
        How many events met the filters.
    rows : list of list of dict
        The results, in the shape of GetQueryResults.

    """

    def __init__(self, commands: Sequence[Command], events: list[Record], limit: int) -> None:
        self._records = sorted(events, key=lambda event: event.values["@timestamp"], reverse=True)
        self._shown: list[str] = []
        self._is_aggregated = False
        self.matched = len(events)
        for command in commands:
            self._apply(command)
        columns = self._shown or ["@timestamp", "@message"]
        self.rows = [self._row(record, columns) for record in self._records[:limit]]

    def _apply(self, command: Command) -> None:
        match command:
            case Filter(condition):
                self._records = [record for record in self._records if condition(record)]
                if not self._is_aggregated:
                    self.matched = len(self._records)
            case Fields(columns):
                for column in columns:
                    self._alias(column.field, column.name)
                self._shown += [column.name for column in columns if column.name not in self._shown]
            case Display(names):
                self._shown = list(names)
            case Stats():
                self._aggregate(command)
            case Sort(keys):
                for name, is_descending in reversed(keys):
                    self._sort(name, is_descending=is_descending)
            case Limit(count):
                self._records = self._records[:count]
            case Dedup(names):
                self._records = _first_of_each(self._records, names)

    def _alias(self, field: str, name: str) -> None:
        if field != name:
            for record in self._records:
                if (value := record.get(field)) is not None:
                    record.values = {**record.values, name: value}

    def _sort(self, name: str, *, is_descending: bool) -> None:
        keyed = [(value, record) for record in self._records if (value := record.get(name)) is not None]
        keyed.sort(key=lambda pair: sort_key(pair[0]), reverse=is_descending)
        self._records = [record for _, record in keyed] + [one for one in self._records if one.get(name) is None]

    def _aggregate(self, stats: Stats) -> None:
        groups: dict[tuple[Value | None, ...], list[Record]] = {}
        for record in self._records:
            groups.setdefault(tuple(_group_value(record, group) for group in stats.groups), []).append(record)
        if not stats.groups:
            groups = {(): self._records}
        self._records = [_statistics(stats, key, members) for key, members in groups.items()]
        self._shown = [*(one.name for one in stats.groups), *(one.name for one in stats.aggregates)]
        self._is_aggregated = True

    def _row(self, record: Record, columns: list[str]) -> Row:
        names = columns if self._is_aggregated or "@ptr" in columns else [*columns, "@ptr"]
        found = [(name, value) for name in names if (value := record.get(name)) is not None]
        return [{"field": name, "value": _shown(name, value)} for name, value in found]


def _shown(name: str, value: Value) -> str:
    return show_time(value) if name in _TIMES and isinstance(value, int | float) else show(value)


def _group_value(record: Record, group: Group) -> Value | None:
    value = record.get(group.field)
    if not group.bin_ms or not isinstance(value, int | float):
        return value
    return show_time(value // group.bin_ms * group.bin_ms)


def _statistics(stats: Stats, key: tuple[Value | None, ...], members: list[Record]) -> Record:
    values = {group.name: value for group, value in zip(stats.groups, key, strict=True) if value is not None}
    for aggregate in stats.aggregates:
        found = _statistic(aggregate, members)
        if found is not None:
            values[aggregate.name] = found
    return Record(values)


def _statistic(aggregate: Aggregate, members: list[Record]) -> Value | None:
    if aggregate.field is None:
        return len(members)
    present = [value for record in members if (value := record.get(aggregate.field)) is not None]
    return _FUNCTIONS[aggregate.function](present, aggregate.percent)


def _numbers(values: list[Value]) -> list[float]:
    return [found for value in values if (found := number(value)) is not None]


def _average(values: list[Value], _: float) -> float | None:
    numbers = _numbers(values)
    return sum(numbers) / len(numbers) if numbers else None


def _sum(values: list[Value], _: float) -> float | None:
    numbers = _numbers(values)
    return sum(numbers) if numbers else None


def _percentile(values: list[Value], percent: float) -> float | None:
    ordered = sorted(_numbers(values))
    rank = max(1, math.ceil(percent / 100 * len(ordered)))
    return ordered[rank - 1] if ordered else None


_ORDER = cmp_to_key(compare)
_FUNCTIONS: dict[str, Callable[[list[Value], float], Value | None]] = {
    "count": lambda values, _: len(values),
    "count_distinct": lambda values, _: len(set(map(show, values))),
    "sum": _sum,
    "avg": _average,
    "min": lambda values, _: min(values, key=_ORDER, default=None),
    "max": lambda values, _: max(values, key=_ORDER, default=None),
    "pct": _percentile,
}


def _first_of_each(records: list[Record], names: list[str]) -> list[Record]:
    seen: set[tuple[str, ...]] = set()
    kept = []
    for record in records:
        values = [value for name in names if (value := record.get(name)) is not None]
        key = tuple(map(show, values))
        if key not in seen:
            kept.append(record)
        # "Null values are not considered duplicates": events without one of the fields all stay.
        if len(values) == len(names):
            seen.add(key)
    return kept
