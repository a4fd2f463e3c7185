"""AWS/ApiGateway: how often a REST API was asked, with what outcome, and how long it took.

MiniStack publishes none of it. API Gateway publishes Count, 4XXError, 5XXError, Latency and IntegrationLatency by
ApiName and by ApiName and Stage, and also by Method and Resource where the stage's settings for a method turn on
detailed metrics. An error metric is 0 or 1 for each request, so that its average is the error rate ("Amazon API
Gateway dimensions and metrics", "REST API metrics"). Closed by an observer of finished exchanges.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ministack.services import apigateway_v1 as gateway

from sluice_harness.compat.gateway import exchange
from sluice_harness.compat.monitoring.metric_store import dimensions, store
from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sluice_harness.compat.gateway.exchange import Exchange, Response
    from sluice_harness.compat.monitoring.metric_store import Dimensions

NAMESPACE = "AWS/ApiGateway"
_CLIENT_ERROR, _SERVER_ERROR, _END = 400, 500, 600


def apply() -> None:
    """Measure every request that reaches a stage."""
    expect(gateway, "_rest_apis")
    exchange.finished.append(_measure)


def _measure(this: Exchange, response: Response) -> None:
    api = gateway._rest_apis.get(this.context["apiId"])
    if api is None or not this.stage:
        return
    status = response[0]
    values = [
        ("Count", 1, "Count"),
        ("4XXError", int(_CLIENT_ERROR <= status < _SERVER_ERROR), "Count"),
        ("5XXError", int(_SERVER_ERROR <= status < _END), "Count"),
        ("Latency", round((time.perf_counter() - this.started) * 1000), "Milliseconds"),
    ]
    if "latency" in this.integration:
        values.append(("IntegrationLatency", this.integration["latency"], "Milliseconds"))
    at = time.time()
    for where in _dimension_sets(this, api["name"]):
        for name, value, unit in values:
            store.record(NAMESPACE, name, where, value, unit, at)


def _dimension_sets(this: Exchange, api: str) -> Iterator[Dimensions]:
    stage, resource, method = (str(this.context.get(name)) for name in ("stage", "resourcePath", "httpMethod"))
    yield dimensions(ApiName=api)
    yield dimensions(ApiName=api, Stage=stage)
    if this.context.get("resourcePath") and _is_detailed(this.stage.get("methodSettings") or {}, resource, method):
        yield dimensions(ApiName=api, Stage=stage, Method=method, Resource=resource)


def _is_detailed(settings: dict[str, dict[str, object]], resource: str, method: str) -> bool:
    """Whether detailed metrics are on: a method's own setting goes before that of the whole stage."""
    bare = resource.lstrip("/")
    for key in (f"/{bare}/{method}", f"{bare}/{method}", "*/*"):
        if key in settings:
            return bool(settings[key].get("metricsEnabled"))
    return False
