"""What is wrong with an EMF document: by AWS's schema, by the rules that it cannot express, by our catalogue."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonschema import Draft7Validator  # type: ignore[import-untyped]
from sluice_core import metrics
from sluice_core.metrics import EXECUTOR, JOB_TYPE, NAMESPACE, STAGE, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CATALOGUE = {one.name: one for one in vars(metrics).values() if isinstance(one, Metric)}
_SCHEMA = Draft7Validator(json.loads(Path(__file__).with_name("emf_schema.json").read_text()))
# Amazon CloudWatch User Guide, "Specification: Embedded metric format"; MetricDatum, CloudWatch API Reference.
_MOST_METRICS, _MOST_VALUES, _LONGEST_DIMENSION = 100, 100, 1_024
_JOB_TYPE = re.compile(r"[a-z]+(-[a-z]+)*")


def complaints(document: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with a document, in a sentence each."""
    wrong = [error.message for error in _SCHEMA.iter_errors(document)]
    return wrong or [*_against_the_specification(document), *_against_the_catalogue(document)]


def _against_the_specification(document: Mapping[str, Any]) -> Iterator[str]:
    for directive in document["_aws"]["CloudWatchMetrics"]:
        if not 0 < len(directive["Metrics"]) <= _MOST_METRICS:
            yield f"{len(directive['Metrics'])} metrics in a directive"
        for metric in directive["Metrics"]:
            values = document.get(metric["Name"])
            values = values if isinstance(values, list) else [values]
            if not 0 < len(values) <= _MOST_VALUES:
                yield f"{len(values)} values of {metric['Name']}"
            if not all(isinstance(value, (int, float)) for value in values):
                yield f"{metric['Name']} is no number"
        for name in {name for names in directive["Dimensions"] for name in names}:
            value = document.get(name)
            if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_DIMENSION:
                yield f"the dimension {name} is {value!r}"


def _against_the_catalogue(document: Mapping[str, Any]) -> Iterator[str]:
    [directive] = document["_aws"]["CloudWatchMetrics"]
    if directive["Namespace"] != NAMESPACE:
        yield f"the namespace is {directive['Namespace']}"
    names = {metric["Name"] for metric in directive["Metrics"]}
    dimensions = {name for one in directive["Dimensions"] for name in one}
    if others := document.keys() - names - dimensions - {"_aws"}:
        yield f"{sorted(others)} are beside the metrics"
    # An alarm watches all job types together, so that is always there; it watches each executor for itself.
    if [STAGE] not in directive["Dimensions"] and EXECUTOR not in document:
        yield f"the dimensions are {directive['Dimensions']}, without the stage alone"
    for metric in directive["Metrics"]:
        known = CATALOGUE.get(metric["Name"])
        if known is None:
            yield f"{metric['Name']} is not in the catalogue"
        elif metric["Unit"] != known.unit:
            yield f"{metric['Name']} is in {metric['Unit']}"
        elif not {frozenset(one) for one in directive["Dimensions"]} <= set(map(frozenset, known.dimension_sets)):
            yield f"{metric['Name']} has the dimensions {directive['Dimensions']}"
    if not _JOB_TYPE.fullmatch(document.get(JOB_TYPE, "none")):
        yield f"the job type is {document[JOB_TYPE]!r}: an id?"
