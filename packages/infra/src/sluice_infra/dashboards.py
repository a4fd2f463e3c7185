"""Dashboards are files, in CloudWatch's own JSON with ``${Placeholders}``, and serve every stage.

An SRE can paste one into the console, edit it there and paste it back. What there is of external executors differs
from stage to stage: their dashboard is written for all of them, and cut to those that a stage has.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


def cut(body: str, known: Collection[str]) -> str:
    """Return a dashboard without what names a thing that a stage does not have.

    A widget loses such metrics and alarms, and goes if it has none left: what may go as a whole is at the bottom.
    The text stays as it is if all is known.

    Parameters
    ----------
    body : str
        The dashboard, in CloudWatch's JSON.
    known : collection of str
        The placeholders that the stage fills.

    """
    if _is_known(body, known):
        return body
    dashboard = json.loads(body)
    dashboard["widgets"] = [widget for widget in dashboard["widgets"] if _cut_widget(widget, known)]
    return json.dumps(dashboard)


def _is_known(part: object, known: Collection[str]) -> bool:
    text = part if isinstance(part, str) else json.dumps(part)
    return all(name in known for name in _PLACEHOLDER.findall(text))


def _cut_widget(widget: dict[str, Any], known: Collection[str]) -> bool:
    """Take out of a widget what is not known, and say whether anything is left of it."""
    properties = widget["properties"]
    if widget["type"] == "alarm":
        properties["alarms"] = [alarm for alarm in properties["alarms"] if _is_known(alarm, known)]
    elif widget["type"] == "metric":
        properties["metrics"] = list(_known_rows(properties["metrics"], known))
    return _is_known(properties, known) and properties.get("alarms") != [] and properties.get("metrics") != []


def _known_rows(rows: list[list[Any]], known: Collection[str]) -> Iterator[list[Any]]:
    """Yield the metrics that are known, and the expressions that need no others."""
    gone = {row[-1].get("id") for row in rows if not _is_known(row, known)} - {None}
    for row in rows:
        asked = set(re.findall(r"\w+", row[-1].get("expression", "")))
        if _is_known(row, known) and not asked & gone:
            yield row
