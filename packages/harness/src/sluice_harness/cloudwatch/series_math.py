"""What metric math computes: numbers, series, and arrays of series.

Alarms in an account are evaluated by AWS, those of a local stage here, so the two have to agree on what becomes of
points that are missing. After "Using math expressions with CloudWatch metrics":

* Comparisons and logic between two series have a point where either has one; the other counts as 0.
* IF has a point where its condition has one. A missing value is 0 where the condition is true, and no point where
  it is false.
* SUM, MIN and MAX of an array take those series that have a point at that time; of one series they are a number.
* What divides by zero is no point.

In two cases that document says that a missing value counts as 0, while this leaves it out: arithmetic between two
series has a point only where both have one, and AVG of an array divides by how many series have one. With FILL the
two readings are one: write it wherever a point may be missing.
"""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sluice_harness.cloudwatch.definitions import Series

    Binary: TypeAlias = Callable[[float, float], float]

_Series: TypeAlias = dict[int, float]
Value: TypeAlias = float | _Series | list[_Series]
"""A number, a series, or an array of series. An empty series stands for a number that could not be computed."""

ARITHMETIC: Final[dict[str, Binary]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
LOGIC: Final[dict[str, Binary]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "AND": lambda left, right: bool(left) and bool(right),
    "OR": lambda left, right: bool(left) or bool(right),
}
AGGREGATES: Final[dict[str, Callable[[Sequence[float]], float]]] = {
    "SUM": sum,
    "MIN": min,
    "MAX": max,
    "AVG": lambda values: sum(values) / len(values),
}


class WrongKind(TypeError):  # noqa: N818 - the expression's error names it
    """A number, a series or an array where that kind cannot be."""


def binary(name: str, left: Value, right: Value) -> Value:
    """Apply an operator; to each series of an array, if one of the two is one."""
    if isinstance(left, list):
        return [_series(binary(name, one, _no_array(name, right))) for one in left]
    if isinstance(right, list):
        return [_series(binary(name, left, one)) for one in right]
    if name in LOGIC:
        return _logic(LOGIC[name], left, right)
    return _arithmetic(ARITHMETIC[name], left, right)


def negative(value: Value) -> Value:
    """Return a value with its sign turned."""
    return binary("*", value, -1.0)


def aggregate(name: str, value: Value) -> Value:
    """Return an array's aggregate at each time, or a series' over all its points."""
    combine = AGGREGATES[name]
    if isinstance(value, list):
        times = sorted({time for series in value for time in series})
        return {time: float(combine([one[time] for one in value if time in one])) for time in times}
    if isinstance(value, dict):
        return float(combine(list(value.values()))) if value else {}
    raise WrongKind(f"{name} of a number")


def choose(condition: Value, yes: Value, no: Value) -> Value:
    """Return IF; its ``no`` is an empty series if it was left out."""
    if isinstance(condition, list) or isinstance(yes, list) or isinstance(no, list):
        raise WrongKind("IF of an array")
    if not isinstance(condition, dict):
        return yes if condition else no
    chosen: Series = {}
    for time, met in condition.items():
        point = _at(yes, time, 0.0) if met else _at(no, time, None)
        if point is not None:
            chosen[time] = point
    return chosen


def fill(value: Value, filler: Value | None, starts: Sequence[int]) -> Value:
    """Return a series, or each of an array, with a point in each period; without a filler the last is repeated."""
    if isinstance(value, list):
        return [_series(fill(one, filler, starts)) for one in value]
    if not isinstance(value, dict):
        raise WrongKind("FILL of a number")
    if isinstance(filler, list) or (isinstance(filler, dict) and filler):
        raise WrongKind("FILL with a series, where a number or REPEAT could be")
    if isinstance(filler, dict):
        return value
    return {**_repeated(value, starts), **value} if filler is None else {**dict.fromkeys(starts, filler), **value}


def rate(value: Value) -> Value:
    """Return by how much a series, or each of an array, changes in a second from the point before."""
    if isinstance(value, list):
        return [_series(rate(one)) for one in value]
    if not isinstance(value, dict):
        raise WrongKind("RATE of a number")
    times = sorted(value)
    return {time: (value[time] - value[before]) / (time - before) for before, time in itertools.pairwise(times)}


def array(values: Sequence[Value]) -> list[Series]:
    """Return one array of all; arrays in it are opened."""
    return [one for value in values for one in (value if isinstance(value, list) else [_series(value)])]


def _arithmetic(combine: Binary, left: float | Series, right: float | Series) -> float | Series:
    if not isinstance(left, dict) and not isinstance(right, dict):
        try:
            return combine(left, right)
        except ZeroDivisionError:
            return {}
    times = _times(left, right, set.intersection)
    combined: Series = {}
    for time in times:
        try:
            combined[time] = combine(_point(left, time), _point(right, time))
        except ZeroDivisionError:
            continue
    return combined


def _logic(combine: Binary, left: float | Series, right: float | Series) -> float | Series:
    if not isinstance(left, dict) and not isinstance(right, dict):
        return float(combine(left, right))
    times = _times(left, right, set.union)
    return {time: float(combine(_point(left, time), _point(right, time))) for time in times}


def _times(left: float | Series, right: float | Series, join: Callable[..., set[int]]) -> list[int]:
    return sorted(join(*(set(one) for one in (left, right) if isinstance(one, dict))))


def _point(value: float | Series, time: int) -> float:
    return value.get(time, 0.0) if isinstance(value, dict) else value


def _at(value: float | Series, time: int, otherwise: float | None) -> float | None:
    return value.get(time, otherwise) if isinstance(value, dict) else value


def _repeated(value: Series, starts: Sequence[int]) -> Series:
    last: float | None = None
    repeated: Series = {}
    for start in starts:
        last = value.get(start, last)
        if last is not None:
            repeated[start] = last
    return repeated


def _series(value: Value) -> Series:
    if isinstance(value, dict):
        return value
    raise WrongKind("a number in an array, where only series can be")


def _no_array(name: str, value: Value) -> Value:
    if isinstance(value, list):
        raise WrongKind(f"{name} between two arrays")
    return value
