"""Waking the starter when there may be something for it to do, so that no job waits for its minute."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from sluice_handlers.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mypy_boto3_lambda import LambdaClient


class Waker:
    """Wakes the starter of external executors.

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
        """Have the starter look after these executors; nobody waits for it.

        A wake that is lost is no loss: the starter runs each minute all the same.
        """
        for executor in sorted(set(executors)):
            payload = json.dumps({"executor": executor})
            try:
                self._lambda.invoke(FunctionName=self._starter, InvocationType="Event", Payload=payload)
            except (ClientError, BotoCoreError) as error:
                logger.warning("starter not woken", executor=executor, error=type(error).__name__)
