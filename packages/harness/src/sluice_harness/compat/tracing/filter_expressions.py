"""X-Ray's filter expressions, as far as our tools ask them.

AWS has a language of keywords, functions and boolean operators (X-Ray Developer Guide, "Using filter
expressions"). Here: ``annotation.KEY = "VALUE"`` or ``annotation[KEY] = "VALUE"``, ``service("NAME")``,
``error``, ``fault``, ``throttle``, and ``responsetime`` or ``duration`` compared with a number, joined by
``AND``. Everything else is refused by name: to match nothing, or all, would be a wrong answer that looks right.
"""

from __future__ import annotations

import json
import operator
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Summary = dict[str, Any]
    Predicate = Callable[[Summary], bool]

SUPPORTED = (
    'annotation.KEY = "VALUE", annotation[KEY] = "VALUE", service("NAME"), error, fault, throttle, '
    "responsetime or duration compared with a number, joined by AND"
)
_STRING = r'"(?:[^"\\]|\\.)*"'
_COMPARE = {"=": operator.eq, ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le}
_TERM = re.compile(
    rf"""\s*(?:
        annotation(?:\.(?P<key>[A-Za-z0-9_]+)|\[(?P<bracketed>[\w.:-]+)\])\s*=\s*
            (?:(?P<text>{_STRING})|(?P<value>-?\d+(?:\.\d+)?|true|false)(?![\w.]))
      | service\(\s*(?P<service>{_STRING})\s*\)
      | (?P<measure>responsetime|duration)\s*(?P<comparison>>=|<=|=|>|<)\s*(?P<number>\d+(?:\.\d+)?)
      | (?P<flag>error|fault|throttle)\b
    )\s*""",
    re.VERBOSE | re.IGNORECASE,
)
_AND = re.compile(r"AND\b", re.IGNORECASE)
_FLAGS = {"error": "HasError", "fault": "HasFault", "throttle": "HasThrottle"}
_MEASURES = {"responsetime": "ResponseTime", "duration": "Duration"}


class InvalidExpressionError(Exception):
    """The expression is not one of those supported; the message names what it met and what there is."""


def compile_expression(text: str) -> Predicate:
    """Return what decides whether a trace's summary matches.

    Raises
    ------
    InvalidExpressionError
        It uses more of the language than there is here, or is none.

    """
    terms = []
    position = 0
    while True:
        term = _TERM.match(text, position)
        if not term:
            raise _refused(text, position)
        terms.append(_predicate(term))
        position = term.end()
        if position == len(text):
            return lambda summary: all(matches(summary) for matches in terms)
        joint = _AND.match(text, position)
        if not joint:
            raise _refused(text, position)
        position = joint.end()


def _refused(text: str, position: int) -> InvalidExpressionError:
    rest = text[position:].strip() or "the end of the expression"
    return InvalidExpressionError(f"Invalid filter expression at: {rest}. Supported are {SUPPORTED}.")


def _predicate(term: re.Match[str]) -> Predicate:
    found = term.groupdict()
    if found["flag"]:
        flag = _FLAGS[found["flag"].lower()]
        return lambda summary: bool(summary[flag])
    if found["measure"]:
        measure, compare = _MEASURES[found["measure"].lower()], _COMPARE[found["comparison"]]
        limit = float(found["number"])
        return lambda summary: summary[measure] is not None and compare(summary[measure], limit)
    if found["service"]:
        name = json.loads(found["service"])
        return lambda summary: any(one["Name"] == name for one in summary["ServiceIds"])
    key, wanted = found["key"] or found["bracketed"], json.loads(found["text"] or found["value"].lower())
    return lambda summary: any(
        wanted in one["AnnotationValue"].values() for one in summary["Annotations"].get(key, [])
    )
