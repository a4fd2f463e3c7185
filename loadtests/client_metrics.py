"""The clients' side of the metrics: EMF by aws-embedded-metrics, into the stage's log group for load.

The library's own sinks want an agent or Lambda's standard output; its context and serializer make the documents,
and ``PutLogEvents`` carries them, as it does for anybody who has no agent.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import boto3
from aws_embedded_metrics.logger.metrics_context import MetricsContext
from aws_embedded_metrics.serializers.log_serializer import LogSerializer
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from sluice_core import metrics
from sluice_harness.local_stage import ROOT_KEY

if TYPE_CHECKING:
    from sluice_core.metrics import Metric
    from sluice_harness.description import StageDescription

_logger = logging.getLogger(__name__)
# A stage's minute is to have several; a minute may be a few seconds there.
_EVERY_S, _STAGE_SECONDS = 5.0, 10.0
# CloudWatch Logs, "PutLogEvents": 10,000 events and 1 MiB at once, each counted with 26 bytes more.
_MOST_EVENTS, _MOST_BYTES, _OVERHEAD_BYTES = 10_000, 1_048_576, 26
# What cannot be sent now goes with the next. No second try by the SDK: what was taken without an
# answer would count twice.
_CONFIG = Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 1})


class ClientMetrics:
    """Gathers measurements and sends them; without credentials it warns once and drops them."""

    def __init__(self, stage: StageDescription) -> None:
        self._stage = stage
        self._group = stage.loadLogGroup
        self._stream = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"
        self._logs: Any = self._client()
        self._has_stream = False
        self._context = self._new_context()
        self._unsent: list[tuple[int, str]] = []
        self.interval_s = max(1.0, min(_EVERY_S, stage.clock.real_seconds(_STAGE_SECONDS)))

    def add(self, metric: Metric, value: float = 1) -> None:
        """Add one measurement, in the metric's unit."""
        if self._logs is not None:
            self._context.put_metric(metric.name, value, metric.unit.value)

    def flush(self) -> bool:
        """Send what was gathered, and what could not be sent before; return whether nothing is left."""
        if self._logs is None:
            return True
        # A new one in any case: a document's time is when its context was made.
        ended, self._context = self._context, self._new_context()
        if ended.metrics:
            # None is a number, too: a line of errors that is missing says nothing.
            ended.put_metric(metrics.CLIENT_ERRORS.name, 0, metrics.CLIENT_ERRORS.unit.value)
            at = time.time_ns() // 1_000_000
            self._unsent += [(at, text) for text in LogSerializer.serialize(_summed(ended))]
        try:
            while self._unsent:
                self._send(_batch(self._unsent))
        except (BotoCoreError, ClientError) as error:
            _logger.warning("client metrics could not be sent, and are kept: %s", error)
        return not self._unsent

    def _send(self, batch: list[tuple[int, str]]) -> None:
        if not self._has_stream:
            self._logs.create_log_stream(logGroupName=self._group, logStreamName=self._stream)
            self._has_stream = True
        self._logs.put_log_events(
            logGroupName=self._group,
            logStreamName=self._stream,
            logEvents=[{"timestamp": at, "message": text} for at, text in batch],
        )
        del self._unsent[: len(batch)]

    def _new_context(self) -> MetricsContext:
        context = MetricsContext(namespace=metrics.NAMESPACE)
        context.set_dimensions([{metrics.STAGE: self._stage.stage, metrics.SOURCE: metrics.CLIENT}])
        return context

    def _client(self) -> Any:
        session: Any = boto3.Session()
        local = {"aws_access_key_id": ROOT_KEY, "aws_secret_access_key": ROOT_KEY}
        if not self._stage.endpointUrl and session.get_credentials() is None:
            _logger.warning("no AWS credentials: this run's clients send no metrics; all else goes on")
            return None
        return session.client(
            "logs",
            endpoint_url=self._stage.endpointUrl,
            region_name=self._stage.region,
            config=_CONFIG,
            **(local if self._stage.endpointUrl else {}),
        )


def _summed(context: MetricsContext) -> MetricsContext:
    """Make one value of each count: a sum says as much, and a list may hold a hundred values only."""
    for measured in context.metrics.values():
        if measured.unit == metrics.Unit.COUNT.value:
            measured.values = [sum(measured.values)]
    return context


def _batch(events: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return the first events, as many as one call takes."""
    size = 0
    for number, (_, text) in enumerate(events[:_MOST_EVENTS]):
        size += len(text.encode()) + _OVERHEAD_BYTES
        if size > _MOST_BYTES:
            return events[:number]
    return events[:_MOST_EVENTS]
