"""Queues and their consumers: nothing healthy is set aside, nothing poisonous is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from infra.assemblies import Assembly, Properties, logical_id

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("infra")

# AWS's defaults, where a template leaves a property out.
VISIBILITY_S = 30
RETENTION_S = 345_600
FUNCTION_TIMEOUT_S = 3


def sources(assembly: Assembly) -> Iterator[tuple[str, Properties, Properties]]:
    """Every queue that is not itself a dead-letter queue, with its dead-letter queue."""
    queues = assembly.of_type("SQS::Queue")
    dead_letters = {dead_letter_queue(queue) for queue in queues.values() if "RedrivePolicy" in queue}
    for name, queue in queues.items():
        if name not in dead_letters:
            assert "RedrivePolicy" in queue, f"{name} has no dead-letter queue"
            yield name, queue, queues[dead_letter_queue(queue)]


def dead_letter_queue(queue: Properties) -> str:
    return logical_id(queue["RedrivePolicy"]["deadLetterTargetArn"])


def queue_mappings(assembly: Assembly) -> list[Properties]:
    queues = assembly.of_type("SQS::Queue")
    mappings = assembly.of_type("Lambda::EventSourceMapping").values()
    return [mapping for mapping in mappings if logical_id(mapping["EventSourceArn"]) in queues]


def consumers(assembly: Assembly) -> Iterator[tuple[Properties, Properties, Properties]]:
    """Every queue's event source mapping with its queue and its function."""
    for mapping in queue_mappings(assembly):
        queue = assembly.resources[logical_id(mapping["EventSourceArn"])]["Properties"]
        function = assembly.resources[assembly.invoked(mapping["FunctionName"])]["Properties"]
        yield mapping, queue, function


def test_every_queue_has_a_consumer(assembly: Assembly) -> None:
    # given the queues that take messages
    names = {name for name, *_ in sources(assembly)}

    # when the mappings are followed
    consumed = [logical_id(mapping["EventSourceArn"]) for mapping in queue_mappings(assembly)]

    # then each queue has exactly one, for two would share its messages
    assert sorted(consumed) == sorted(names)


def test_messages_stay_invisible_for_six_timeouts_and_the_batching_window(assembly: Assembly) -> None:
    for mapping, queue, function in consumers(assembly):
        # given a consumer's timeout and the longest that a batch is collected
        timeout = function.get("Timeout", FUNCTION_TIMEOUT_S)
        window = mapping.get("MaximumBatchingWindowInSeconds", 0)

        # then a message is not seen twice while its first delivery may still be at work
        assert queue.get("VisibilityTimeout", VISIBILITY_S) >= 6 * timeout + window, function["Handler"]


def test_every_queue_sets_messages_aside_only_after_five_receives(assembly: Assembly) -> None:
    for name, queue, _ in sources(assembly):
        assert queue["RedrivePolicy"]["maxReceiveCount"] >= 5, name


def test_dead_letters_outlive_the_queue_they_come_from(assembly: Assembly) -> None:
    for name, queue, dead_letters in sources(assembly):
        kept = queue.get("MessageRetentionPeriod", RETENTION_S)
        assert dead_letters.get("MessageRetentionPeriod", RETENTION_S) > kept, name


def test_consumers_know_after_how_many_receives_a_message_is_set_aside(assembly: Assembly) -> None:
    for _, queue, function in consumers(assembly):
        told = function["Environment"]["Variables"]["MAX_RECEIVES"]
        assert told == str(queue["RedrivePolicy"]["maxReceiveCount"]), function["Handler"]


@pytest.mark.parametrize("module", ["job_status", "cancel_job"])
def test_whoever_meets_unrecorded_jobs_knows_how_long_a_request_may_wait(assembly: Assembly, module: str) -> None:
    # given the queue that the gateway writes to
    (role,) = [name for name in assembly.of_type("IAM::Role") if "SubmitRole" in name]
    (statement,) = assembly.statements_of_role(role)
    requests = assembly.resources[logical_id(statement["Resource"])]["Properties"]

    # when a function is told how long an id without a row may still be waiting there
    told = assembly.function(module)[1]["Environment"]["Variables"]["REQUEST_RETENTION_SECONDS"]

    # then that is as long as the queue keeps it
    assert told == str(requests["MessageRetentionPeriod"])


def test_every_queue_is_encrypted(assembly: Assembly) -> None:
    for name, queue in assembly.of_type("SQS::Queue").items():
        assert queue.get("SqsManagedSseEnabled") is True or "KmsMasterKeyId" in queue, name


def test_every_queue_refuses_plain_http(assembly: Assembly) -> None:
    # given the queues that a policy closes to everyone who does not come over TLS
    closed = {
        logical_id(queue)
        for policy in assembly.of_type("SQS::QueuePolicy").values()
        for statement in policy["PolicyDocument"]["Statement"]
        for queue in policy["Queues"]
        if statement["Effect"] == "Deny"
        and statement["Action"] == "sqs:*"
        and statement["Principal"] in ({"AWS": "*"}, "*")
        and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        and logical_id(statement["Resource"]) == logical_id(queue)
    }

    # then those are all queues
    assert closed == set(assembly.of_type("SQS::Queue"))


def test_consumers_report_failures_message_by_message(assembly: Assembly) -> None:
    for mapping, *_ in consumers(assembly):
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_concurrency_is_capped_where_it_does_not_lose_messages(assembly: Assembly) -> None:
    for mapping, *_ in consumers(assembly):
        assert 2 <= mapping["ScalingConfig"]["MaximumConcurrency"] <= 1_000


def test_no_function_reserves_concurrency(assembly: Assembly) -> None:
    # given that a throttled consumer sends healthy messages to the dead-letter queue
    functions = assembly.of_type("Lambda::Function")

    # then no function is throttled by a reservation
    assert [name for name, function in functions.items() if "ReservedConcurrentExecutions" in function] == []


def test_consumers_know_their_queue(assembly: Assembly) -> None:
    for mapping, _, function in consumers(assembly):
        # given that delays are set on the very queue that a message came from
        told = logical_id(function["Environment"]["Variables"]["QUEUE_URL"])
        assert told == logical_id(mapping["EventSourceArn"]), function["Handler"]
