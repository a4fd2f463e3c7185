"""A queue as every queue here is: encrypted, TLS-only, with a dead-letter queue that outlasts it."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_sqs as sqs
from constructs import Construct

RETENTION = cdk.Duration.days(4)
# The longest that there is, and longer than any source's: a message keeps its age when it moves (Amazon SQS,
# "Dead-letter queues").
DLQ_RETENTION = cdk.Duration.days(14)
# AWS advises at least five, so that a throttled consumer does not set healthy messages aside.
MAX_RECEIVES = 5


class RedrivenQueue(Construct):
    """A standard queue and its dead-letter queue.

    Parameters
    ----------
    consumer_timeout_s : int
        The consumer's timeout in seconds. Visibility is six times that (AWS Lambda, "Using Lambda with Amazon
        SQS"); the batching window, which would be added, is zero.
    retention : Duration, optional
        How long the queue keeps a message; then it is gone, and its job is nobody's.

    """

    def __init__(
        self, scope: Construct, name: str, *, consumer_timeout_s: int, retention: cdk.Duration = RETENTION
    ) -> None:
        super().__init__(scope, name)
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            retention_period=DLQ_RETENTION,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
        )
        self.queue = sqs.Queue(
            self,
            "Queue",
            retention_period=retention,
            visibility_timeout=cdk.Duration.seconds(6 * consumer_timeout_s),
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=MAX_RECEIVES),
        )
