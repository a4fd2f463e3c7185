"""What is told to others and may go unheard: the starter to wake up, an execution to stop.

Nobody waits for either, and each has somebody who comes by: the starter runs each minute, and the reconciler stops
what runs on.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from sluice_core.external import error_code

from sluice_handlers.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mypy_boto3_lambda import LambdaClient
    from sluice_core.executors import ExternalExecutor
    from sluice_core.jobs import JobKey


class Waker:
    """Wakes the starter.

    Parameters
    ----------
    client : Callable
        Makes the client, on first use: it costs a cold start.
    starter : str
        The ARN of the starter's alias.

    """

    def __init__(self, client: Callable[[], LambdaClient], starter: str) -> None:
        self._client = client
        self._starter = starter

    @cached_property
    def _lambda(self) -> LambdaClient:
        return self._client()

    def wake(self, executors: Iterable[str]) -> None:
        """Have the starter look after these executors, if it can be reached."""
        for executor in sorted(set(executors)):
            payload = json.dumps({"executor": executor})
            try:
                self._lambda.invoke(FunctionName=self._starter, InvocationType="Event", Payload=payload)
            except (ClientError, BotoCoreError) as error:
                logger.warning("starter not woken", executor=executor, error=error_code(error))


def stop(service: ExternalExecutor, executor: str, key: JobKey, handle: str, reason: str) -> None:
    """Stop an execution, if that can be done; that it has stopped is for its event to say."""
    try:
        service.stop(handle, reason)
    except (ClientError, BotoCoreError) as error:
        logger.warning("not stopped", jobId=key.job_id, executor=executor, error=error_code(error))
    else:
        logger.info("stopped", jobId=key.job_id, executor=executor, handle=handle, reason=reason)
