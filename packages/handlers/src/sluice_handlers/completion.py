"""Consumes the completion queue: settles the jobs whose executions are over, as their services' events say.

Events come at least once, in any order, and late (Amazon EventBridge, "Event delivery level"); some never come.
The ledger says what each means, and the reconciler asks about those that do not come.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from sluice_core import clients, metrics
from sluice_core.configured import read_state_change
from sluice_core.executors import BATCH, ECS, STEP_FUNCTIONS
from sluice_core.requests import MalformedMessage

from sluice_handlers.batches import Batch
from sluice_handlers.pools import Pools
from sluice_handlers.settling import Settlement, Settler
from sluice_handlers.signals import Waker
from sluice_handlers.telemetry import Measurements, logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice_core.executors import Execution

# Where each executor's events come from (Amazon EventBridge Events Reference).
_SOURCES = {"aws.states": STEP_FUNCTIONS, "aws.batch": BATCH, "aws.ecs": ECS}

_pools = Pools.connect(os.environ)
_waker = Waker(clients.lambda_, os.environ["STARTER"])


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Settle one batch of executions; messages to be tried again are reported by id."""
    batch = Batch(event["Records"], _pools.sqs, os.environ["QUEUE_URL"], _pools.max_receives)
    with Measurements() as measured:
        settler = Settler(_pools, measured)
        for record in event["Records"]:
            try:
                executor, execution = _read(record["body"])
            except MalformedMessage as error:
                logger.error("malformed message", messageId=record["messageId"], reason=str(error))
                batch.fail_message(record)
                continue
            if execution is not None and settler.settle(executor, execution) is Settlement.AGAIN:
                batch.fail_message(record)
        # Before the messages are acknowledged: one that comes again finds its job settled, and frees its slot.
        _waker.wake(settler.free_slots())
        response = batch.response()
        if batch.failures:
            measured.add(metrics.BATCH_ITEM_FAILURES, batch.failures)
    return response


def _read(body: str) -> tuple[str, Execution | None]:
    """Return what an event says, and of which executor; None if it is no end, or of nothing that we started.

    Raises
    ------
    MalformedMessage
        It is no event of these services.

    """
    try:
        event = json.loads(body)
        executor = _SOURCES[event["source"]]
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedMessage("not an event of an executor's service") from error
    return executor, read_state_change(event)
