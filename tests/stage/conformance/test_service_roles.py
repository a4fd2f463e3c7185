"""Services act with the roles they are given: event source mappings, and what writes logs and traces."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance.functions import (
    EXECUTION_POLICIES,
    create_function,
    create_queue,
    depth,
    eventually,
    invoke,
    log_lines,
    unique,
)
from stage.conformance.tables import create_table, map_stream, printed, put
from stage.conformance.traces import ADDRESS, daemon_address, datagram, invoke_in, new_root, read, segment, send

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

QUEUE = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
STREAM = {"dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"}
LOGS = {"logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"}
ECHO = """
def handler(event, context):
    for record in (event or {}).get("Records", []):
        print("got", record.get("body") or record["dynamodb"]["Keys"]["id"]["S"])
"""


def allow(engine: Engine, function: str, actions: set[str]) -> None:
    """Let a function's role do this and nothing else."""
    iam = engine.client("iam")
    attached = iam.list_attached_role_policies(RoleName=function)["AttachedPolicies"]
    for policy in attached:
        iam.detach_role_policy(RoleName=function, PolicyArn=policy["PolicyArn"])
    statement = {"Effect": "Allow", "Action": sorted(actions), "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName=function, PolicyName="all", PolicyDocument=document)


def result_of(engine: Engine, mapping: str) -> str:
    return str(engine.client("lambda").get_event_source_mapping(UUID=mapping)["LastProcessingResult"])


def has_problem(engine: Engine, mapping: str, action: str) -> bool:
    result = result_of(engine, mapping)
    return result.startswith("PROBLEM") and action.lower() in result.lower()


def refused(call: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"
    return str(caught.value.response["Error"]["Message"])


def test_a_mapping_delivers_nothing_that_its_role_may_not_receive(engine: Engine) -> None:
    # given a mapped queue, and a role that may not receive
    function, (url, arn) = create_function(engine, ECHO), create_queue(engine)
    client = engine.client("lambda")
    mapping = client.create_event_source_mapping(FunctionName=function, EventSourceArn=arn)["UUID"]
    allow(engine, function, LOGS | QUEUE - {"sqs:ReceiveMessage"})

    # when a message comes, then it stays, and the mapping says why
    engine.client("sqs").send_message(QueueUrl=url, MessageBody="a")
    assert eventually(lambda: has_problem(engine, mapping, "sqs:ReceiveMessage"))
    assert depth(engine, url)["visible"] == 1

    # and it is delivered once the role may again
    allow(engine, function, LOGS | QUEUE)
    assert eventually(lambda: printed(engine, function, "got") == ["a"])
    assert eventually(lambda: result_of(engine, mapping) == "OK")


def test_a_mapping_deletes_nothing_that_its_role_may_not_delete(engine: Engine) -> None:
    # given a mapped queue, and a role that may not delete
    function, (url, arn) = create_function(engine, ECHO, Timeout=1), create_queue(engine, VisibilityTimeout="1")
    client = engine.client("lambda")
    mapping = client.create_event_source_mapping(FunctionName=function, EventSourceArn=arn)["UUID"]
    allow(engine, function, LOGS | QUEUE - {"sqs:DeleteMessage"})

    # when a message has been dealt with, then it comes again, and the mapping says why
    engine.client("sqs").send_message(QueueUrl=url, MessageBody="a")
    assert eventually(lambda: len(printed(engine, function, "got")) >= 2)
    assert has_problem(engine, mapping, "sqs:DeleteMessage")

    # and it is deleted once the role may again
    allow(engine, function, LOGS | QUEUE)
    assert eventually(lambda: set(depth(engine, url).values()) == {0})


def test_a_queue_s_own_policy_counts_too(engine: Engine) -> None:
    # given a mapped queue whose policy denies the function's role what the role's own allow
    function, (url, arn) = create_function(engine, ECHO), create_queue(engine)
    mapping = engine.client("lambda").create_event_source_mapping(FunctionName=function, EventSourceArn=arn)[
        "UUID"
    ]
    denial = {"Effect": "Deny", "Principal": "*", "Action": "sqs:ReceiveMessage", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [denial]})
    engine.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})

    # when a message comes, then it stays
    engine.client("sqs").send_message(QueueUrl=url, MessageBody="a")
    assert eventually(lambda: has_problem(engine, mapping, "sqs:ReceiveMessage"))


def test_a_stream_is_not_read_with_a_role_that_may_not(engine: Engine) -> None:
    # given a mapped stream, and a role that may not get its records
    function, (table, stream) = create_function(engine, ECHO), create_table(engine)
    mapping = map_stream(engine, function, stream)
    allow(engine, function, LOGS | STREAM - {"dynamodb:GetRecords"})

    # when a row is written, then the function is not told, and the mapping says why
    put(engine, table, "a")
    assert eventually(lambda: has_problem(engine, mapping, "dynamodb:GetRecords"))
    assert printed(engine, function, "got") == []

    # and it is told once the role may again
    allow(engine, function, LOGS | STREAM)
    assert eventually(lambda: printed(engine, function, "got") == ["a"])


@pytest.mark.parametrize("action", sorted(QUEUE))
def test_a_queue_is_not_mapped_for_a_role_that_may_not_poll_it(engine: Engine, action: str) -> None:
    # given a role that lacks an action, when a mapping is to be made, then Lambda refuses
    function, (_, arn) = create_function(engine, ECHO), create_queue(engine)
    allow(engine, function, QUEUE - {action})
    create = engine.client("lambda").create_event_source_mapping
    said = refused(create, FunctionName=function, EventSourceArn=arn)
    called = action.removeprefix("sqs:")
    assert said == f"The function execution role does not have permissions to call {called} on SQS"


@pytest.mark.parametrize("action", sorted(STREAM))
def test_a_stream_is_not_mapped_for_a_role_that_may_not_read_it(engine: Engine, action: str) -> None:
    function, (_, stream) = create_function(engine, ECHO), create_table(engine)
    allow(engine, function, STREAM - {action})
    create = engine.client("lambda").create_event_source_mapping
    settings = {"EventSourceArn": stream, "StartingPosition": "LATEST"}
    said = refused(create, FunctionName=function, **settings)
    assert said.startswith(f"Cannot access stream {stream}. Please ensure the role can perform the GetRecords")


def test_a_stack_fails_whose_mapping_may_not_poll(engine: Engine) -> None:
    # given a template with a mapping, and a role that may do nothing with its queue
    function, (_, arn) = create_function(engine, ECHO), create_queue(engine)
    allow(engine, function, LOGS)
    properties = {"FunctionName": function, "EventSourceArn": arn}
    template = {"Resources": {"Mapping": {"Type": "AWS::Lambda::EventSourceMapping", "Properties": properties}}}

    # when it is deployed, then that fails and says why
    cloudformation, name = engine.client("cloudformation"), unique("stack")
    cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    events = eventually(
        lambda: [
            event["ResourceStatusReason"]
            for event in cloudformation.describe_stack_events(StackName=name)["StackEvents"]
            if event["ResourceStatus"] == "CREATE_FAILED"
        ]
    )
    assert any("does not have permissions to call ReceiveMessage on SQS" in reason for reason in events)


@pytest.mark.parametrize("action", sorted(LOGS))
def test_lines_are_lost_that_a_role_may_not_log(engine: Engine, action: str) -> None:
    # given a function whose role lacks an action that its first line needs
    function = create_function(engine, "def handler(event, context):\n    print('a line')\n    return 'done'\n")
    allow(engine, function, LOGS - {action})

    # when it is invoked, then it works, and there is no line of it
    assert invoke(engine, function) == "done"
    group = f"/aws/lambda/{function}"
    found = engine.client("logs").describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert not found or log_lines(engine, group) == []

    # and with the action its next lines are there
    allow(engine, function, LOGS)
    invoke(engine, function)
    assert log_lines(engine, group).count("a line") == 1


def test_a_stream_that_exists_needs_no_grant_to_be_made(engine: Engine) -> None:
    # given a function that has logged, and whose role may do no more than that
    function = create_function(engine, "def handler(event, context): print('a line')")
    invoke(engine, function)
    allow(engine, function, {"logs:PutLogEvents"})

    # when it logs again, then the line is there
    invoke(engine, function)
    assert log_lines(engine, f"/aws/lambda/{function}").count("a line") == 2


def test_segments_are_dropped_that_a_role_may_not_put(engine: Engine) -> None:
    # given where a function sends its segments, and its role that may not put them
    function = create_function(engine, ADDRESS)
    address = daemon_address(engine, function)
    allow(engine, function, LOGS)
    dropped, taken = new_root(), new_root()
    send(address, datagram(segment(dropped)))

    # when one more is sent to where another function's go, then that is there, and the first is not
    send(daemon_address(engine), datagram(segment(taken)))
    assert eventually(lambda: read(engine, taken))
    assert read(engine, dropped) == []

    # and with the action the next one is
    allow(engine, function, {"xray:PutTraceSegments"})
    send(address, datagram(segment(dropped)))
    assert eventually(lambda: read(engine, dropped))


def test_lambda_s_own_segments_are_the_role_s_too(engine: Engine) -> None:
    # given a traced function whose role may not put segments
    function = create_function(engine, ECHO, TracingConfig={"Mode": "Active"})

    allow(engine, function, LOGS)
    left_out, written = new_root(), new_root()

    # when it is invoked in a sampled trace, then there are none
    invoke_in(engine.client("lambda"), left_out, function)
    assert read(engine, left_out) == []

    # and with the action there are both, one below the other
    allow(engine, function, {"xray:PutTraceSegments"})
    invoke_in(engine.client("lambda"), written, function)
    found = {one["origin"]: one for one in read(engine, written)}
    assert found["AWS::Lambda::Function"]["parent_id"] == found["AWS::Lambda"]["id"]


def test_a_role_s_managed_policies_and_boundary_count(engine: Engine) -> None:
    # given a function that may log by its managed policies, and a boundary that does not let it
    function = create_function(engine, "def handler(event, context): print('a line')")
    iam = engine.client("iam")
    assert len(iam.list_attached_role_policies(RoleName=function)["AttachedPolicies"]) == len(EXECUTION_POLICIES)
    statement = {"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    boundary = iam.create_policy(PolicyName=unique("boundary"), PolicyDocument=document)["Policy"]["Arn"]
    iam.put_role_permissions_boundary(RoleName=function, PermissionsBoundary=boundary)

    # when it prints, then the line is lost; without the boundary the next one is not
    invoke(engine, function)
    iam.delete_role_permissions_boundary(RoleName=function)
    invoke(engine, function)
    assert log_lines(engine, f"/aws/lambda/{function}").count("a line") == 1
