"""What CloudWatch's prose says of alarms, told a second time and as slowly as can be.

Written from the documents, not from the code that is tested: points are letters (0 within, X breaching, - missing)
and rules are about texts of them.
"""

from __future__ import annotations

import itertools
import re


def decide(points: str, m: int, n: int, treatment: str) -> str:
    """Return the state, or "retain"."""
    real = points.replace("-", "")
    if len(real) >= n:
        return _count(real[-n:], m)
    if treatment in ("breaching", "notBreaching"):
        return _filled(points, m, n, "X" if treatment == "breaching" else "0")
    if "0" in real or real.count("X") >= m:
        return _count(real, m)
    if treatment == "ignore":
        return "retain"
    return "ALARM" if re.fullmatch(rf"-*X[X-]{{{m - 1},}}", points) else "INSUFFICIENT_DATA"


def points_at(samples: list[tuple[int, float]], now: int, period: int, count: int, threshold: float) -> str:
    """Return the letters of so many periods before a time, by the sum of the samples in each."""
    letters = ""
    for back in range(count, 0, -1):
        window = [value for at, value in samples if now - back * period <= at < now - (back - 1) * period]
        letters += "-" if not window else "X" if sum(window) > threshold else "0"
    return letters


def _count(points: str, m: int) -> str:
    return "ALARM" if points.count("X") >= m else "OK"


def _filled(points: str, m: int, n: int, letter: str) -> str:
    """Try every choice of missing points to fill in, as few as make N; all of them have to come to one state."""
    gaps = [index for index, point in enumerate(points) if point == "-"]
    wanted = n - (len(points) - len(gaps))
    states = set()
    for chosen in itertools.combinations(gaps, wanted):
        evaluated = [letter if index in chosen else point for index, point in enumerate(points)]
        states.add(_count("".join(evaluated).replace("-", ""), m))
    (state,) = states
    return state
