"""Embedded metric format: log events that carry metrics become metrics.

MiniStack stores such log events as text. CloudWatch Logs extracts the metrics of every event that is an EMF
document, whichever log group it is written to, and leaves one that is not valid alone ("Embedded metric format
specification"): a directive has a namespace, dimension sets and metric definitions, whose values are members of
the document's root; a value is a number or up to 100 of them, a dimension a string, and a dimension set has at
most 30. The timestamp is real time; the store makes it the stage's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ministack.services import cloudwatch_logs

from sluice_harness.compat.monitoring.metric_store import store
from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sluice_harness.compat.monitoring.metric_store import Dimensions

METRICS_A_DIRECTIVE = 100
VALUES_A_METRIC = 100
DIMENSIONS_A_SET = 30


def apply() -> None:
    """Look at every log event that is stored."""
    append = expect(cloudwatch_logs, "_append_log_events", "stream", "events")

    def append_and_extract(stream: Any, events: list[dict[str, Any]]) -> Any:
        for event in events:
            extract(event["message"])
        return append(stream, events)

    cloudwatch_logs._append_log_events = append_and_extract


def extract(message: str) -> None:
    """Record the metrics of a log event, if it is an EMF document."""
    if '"_aws"' not in message or not message.lstrip().startswith("{"):
        return
    try:
        document = json.loads(message)
        found = list(_metrics(document))
    except (ValueError, TypeError, KeyError, AttributeError):
        return  # not a document of this format: a log event like any other
    at = document["_aws"]["Timestamp"] / 1000
    for namespace, name, unit, dimensions, values in found:
        for value in values:
            store.record(namespace, name, dimensions, value, unit, at)


def _metrics(document: dict[str, Any]) -> Iterator[tuple[str, str, str, Dimensions, list[float]]]:
    metadata = document["_aws"]
    if not _is_number(metadata["Timestamp"]):
        raise TypeError
    for directive in metadata["CloudWatchMetrics"]:
        namespace, definitions = _text(directive["Namespace"]), directive["Metrics"]
        if len(definitions) > METRICS_A_DIRECTIVE:
            raise ValueError
        sets = [_dimensions(document, names) for names in directive["Dimensions"]]
        for definition in definitions:
            name = _text(definition["Name"])
            if name not in document:
                continue
            values = _values(document[name])
            for dimensions in sets:
                yield namespace, name, definition.get("Unit", "None"), dimensions, values


def _dimensions(document: dict[str, Any], names: list[str]) -> Dimensions:
    if len(names) > DIMENSIONS_A_SET:
        raise ValueError
    return tuple(sorted((_text(name), _text(document[name])) for name in names))


def _values(value: Any) -> list[float]:
    values = value if isinstance(value, list) else [value]
    if len(values) > VALUES_A_METRIC or not all(map(_is_number, values)):
        raise ValueError
    return values


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value
