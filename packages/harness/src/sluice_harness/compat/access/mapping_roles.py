"""An event source mapping polls with its function's role, and is not made for a role that may not.

MiniStack makes any mapping. AWS asks for the permissions before it makes one, and the pollers need them all the
time: to receive and delete messages and to read their queue's attributes, or to find a stream and read its records
(AWS Lambda Developer Guide, "Using Lambda with Amazon SQS", "Process DynamoDB records with Lambda", both under
"execution role permissions"). What a mapping that may no longer says of itself is not documented but for its first
word, PROBLEM.

Closed where mappings are made, by the API and by CloudFormation; the pollers of `queues.event_source_mapping` and
`tables.stream_mapping` ask here.
"""

from __future__ import annotations

import functools
from typing import Any

from ministack.services import lambda_svc
from ministack.services.cloudformation import provisioners

from sluice_harness.compat.access import service_roles
from sluice_harness.compat.patching import expect

RECEIVE = ("sqs:ReceiveMessage", "sqs:GetQueueAttributes")
DELETE = ("sqs:DeleteMessage",)
READ = ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams")
# It takes no resource (AWS, Service Authorization Reference).
_LIST = "dynamodb:ListStreams"
_TYPE = "AWS::Lambda::EventSourceMapping"


def apply() -> None:
    """Ask the role where a mapping is made."""
    create = expect(lambda_svc, "_create_esm", "data")
    provision = expect(provisioners, "_lambda_esm_create", "logical_id", "props", "stack_name")
    expect(lambda_svc, "_resolve_name_and_qualifier", "name_or_arn")
    expect(lambda_svc, "_get_func_record_for_qualifier", "name", "qualifier")
    expect(lambda_svc, "_invalid_parameter_value", "message")

    @functools.wraps(create)
    def create_if_allowed(data: dict[str, Any]) -> Any:
        complaint = _complaint(data)
        return lambda_svc._invalid_parameter_value(complaint) if complaint else create(data)

    @functools.wraps(provision)
    def provision_if_allowed(logical_id: str, props: dict[str, Any], stack_name: str) -> Any:
        if complaint := _complaint(props):
            raise ValueError(complaint)
        return provision(logical_id, props, stack_name)

    lambda_svc._create_esm = create_if_allowed
    provisioners._lambda_esm_create = provision_if_allowed  # which an update that replaces calls
    provisioners._RESOURCE_HANDLERS[_TYPE]["create"] = provision_if_allowed


def refused(config: dict[str, Any], source: str, actions: tuple[str, ...]) -> str | None:
    """Why a function's role may not do one of these with an event source, by its ARN; None where it may."""
    asked = ((action, "*" if action == _LIST else source) for action in actions)
    return next(filter(None, (service_roles.of_function(config, *one) for one in asked)), None)


def _complaint(mapping: dict[str, Any]) -> str | None:
    """Return what AWS says to a mapping that it does not make."""
    name, qualifier = lambda_svc._resolve_name_and_qualifier(mapping.get("FunctionName", ""))
    config = lambda_svc._get_func_record_for_qualifier(name, qualifier)[1]
    source = str(mapping.get("EventSourceArn", ""))
    if config is None:
        return None  # the engine's own complaint
    if ":sqs:" in source:
        for action in (*RECEIVE, *DELETE):
            if refused(config, source, (action,)):
                called = action.removeprefix("sqs:")
                return f"The function execution role does not have permissions to call {called} on SQS"
    if ":dynamodb:" in source and refused(config, source, READ):
        return (
            f"Cannot access stream {source}. Please ensure the role can perform the GetRecords, GetShardIterator, "
            "DescribeStream, and ListStreams Actions on your stream in IAM."
        )
    return None
