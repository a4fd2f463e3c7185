"""What AWS does in a function's name takes the function's grants: to log, to trace, to follow queues and streams.

And a function is invoked only by what its resource policy names: the API's methods, its authorizer, the schedule.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core import LIVE_ALIAS
from sluice_harness.live_functions import live, mappings
from stage.conformance.traces import invoke_in, new_root, read
from stage.grants import FUNCTION_ROLES, logged, proves
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stage.grants import Grant
    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("broken_stage")

QUICK = {"parameters": {"records": 1}}
CONSUMERS = ("ProcessorRole", "BatchSimulatorRole")


@pytest.fixture(scope="module")
def stage(altered_stage: RunningStage) -> RunningStage:
    return altered_stage


@pytest.fixture(scope="module")
def ann(stage: RunningStage) -> Person:
    return stage.person("ann")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# Logs and traces


@pytest.fixture(scope="module")
def broken(stage: RunningStage) -> Iterator[None]:
    """Functions that fail at once when they are invoked with an empty event, which is logged and traced.

    The sweeper takes no event for its argument: it fails because a queue refuses it.
    """
    sqs, url = stage.client("sqs"), stage.description.queues.work.dlqUrl
    asked = {"QueueUrl": url, "AttributeNames": ["Policy", "QueueArn"]}
    usual = sqs.get_queue_attributes(**asked)["Attributes"]
    denial = {"Effect": "Deny", "Principal": "*", "Action": "sqs:ReceiveMessage", "Resource": usual["QueueArn"]}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [denial]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    yield
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": usual["Policy"]})


def lines_of_a_failure(stage: RunningStage, function: str) -> list[str]:
    """Invoke a function with nothing, and return what it logs."""
    since_ms = now_ms()
    answer = stage.client("lambda").invoke(FunctionName=live(function), Payload=b"{}")
    assert "FunctionError" in answer, answer["Payload"].read()
    return stage.log_lines(function, since_ms)


@pytest.mark.usefixtures("broken")
@proves(*((role, "logs:PutLogEvents") for role in FUNCTION_ROLES))
def test_a_function_that_may_not_log_runs_unseen(stage: RunningStage, grant: Grant) -> None:
    # Given a function that may not write to its log, when it has something to say, then nobody hears it
    with grant.missing():
        assert lines_of_a_failure(stage, grant.function) == []

    # And with the grant its next lines are there
    assert lines_of_a_failure(stage, grant.function)


@pytest.mark.usefixtures("broken")
@proves(*((role, "logs:CreateLogStream") for role in FUNCTION_ROLES))
def test_a_function_that_may_not_begin_a_log_runs_unseen(stage: RunningStage, grant: Grant) -> None:
    # Given a function that may not create its environment's stream, as it must when it starts
    logs, lambda_ = stage.client("logs"), stage.client("lambda")
    settings = lambda_.get_function_configuration(FunctionName=live(grant.function))
    group = {"logGroupName": settings["LoggingConfig"]["LogGroup"]}
    with grant.missing():
        for stream in logs.describe_log_streams(**group)["logStreams"]:
            logs.delete_log_stream(**group, logStreamName=stream["logStreamName"])

        # When it has something to say, then nobody hears it
        assert lines_of_a_failure(stage, grant.function) == []

    # And with the grant its next lines are there
    assert lines_of_a_failure(stage, grant.function)


@pytest.mark.usefixtures("broken")
@proves(*((role, "xray:PutTraceSegments") for role in FUNCTION_ROLES))
def test_a_function_that_may_not_trace_is_not_in_the_trace(stage: RunningStage, grant: Grant) -> None:
    # Given a function that may not write segments, when it is invoked in a sampled trace, then it is not in there
    lambda_ = stage.client("lambda")
    left_out, written = new_root(), new_root()
    with grant.missing():
        invoke_in(lambda_, left_out, live(grant.function))
    assert read(stage, left_out) == []

    # And with the grant it is
    invoke_in(lambda_, written, live(grant.function))
    assert {segment["name"] for segment in read(stage, written)} == {grant.function}


# Queues


def has_problem(stage: RunningStage, grant: Grant) -> bool:
    """Whether the mapping of the function says that its role may not do this."""
    lambda_ = stage.client("lambda")
    (mapping,) = mappings(lambda_, grant.function)
    result = str(lambda_.get_event_source_mapping(UUID=mapping)["LastProcessingResult"]).lower()
    return result.startswith("problem") and grant.action.lower() in result


def queue_of(stage: RunningStage, grant: Grant) -> str:
    queues = stage.description.queues
    return queues.request.url if grant.role == "ProcessorRole" else queues.work.url


@proves(*((role, f"sqs:{action}") for role in CONSUMERS for action in ("ReceiveMessage", "GetQueueAttributes")))
def test_a_queue_is_not_read_for_a_function_that_may_not(stage: RunningStage, ann: Person, grant: Grant) -> None:
    # Given a function whose queue Lambda may not read in its name
    with grant.missing():
        # When a job comes, then it waits in the queue, and the mapping says why
        job_id = ann.accepted(QUICK)
        until(lambda: has_problem(stage, grant), "the mapping has a problem")
        assert stage.depth(queue_of(stage, grant)) == 1

    # And when the grant is back, it completes
    assert ann.ended(job_id)["status"] == "COMPLETED"


@proves(*((role, "sqs:DeleteMessage") for role in CONSUMERS))
def test_a_queue_is_not_emptied_for_a_function_that_may_not(
    stage: RunningStage, ann: Person, grant: Grant
) -> None:
    # Given a function whose queue Lambda may not empty in its name
    url = queue_of(stage, grant)
    with stage.quick_redelivery(1, url):
        with grant.missing():
            # When a job has been dealt with, then its message is still there, and the mapping says why
            job_id = ann.accepted(QUICK)
            assert ann.ended(job_id)["status"] == "COMPLETED"
            until(lambda: has_problem(stage, grant), "the mapping has a problem")
            assert stage.depth(url) == 1

        # And when the grant is back, it goes the next time
        stage.drained()


@proves(*((role, "sqs:ChangeMessageVisibility") for role in CONSUMERS))
def test_a_function_that_may_not_set_a_delay_leaves_it_to_the_queue(stage: RunningStage, grant: Grant) -> None:
    # Given a function that may not say when a message is to come again
    sqs, url = stage.client("sqs"), queue_of(stage, grant)
    since_ms = now_ms()
    with grant.missing():
        # When it leaves one in its queue, then it says that the queue's own timeout counts
        sqs.send_message(QueueUrl=url, MessageBody="first")
        logged(stage, grant.function, since_ms, "visibility not changed")
        sqs.purge_queue(QueueUrl=url)

    # And when the grant is back, it does not with the next
    since_ms = now_ms()
    message = sqs.send_message(QueueUrl=url, MessageBody="second")["MessageId"]
    logged(stage, grant.function, since_ms, "malformed message", message)
    assert not any("visibility not changed" in line for line in stage.log_lines(grant.function, since_ms))
    sqs.purge_queue(QueueUrl=url)


# The table's stream


STREAM = ("DescribeStream", "GetShardIterator", "GetRecords", "ListStreams")


@proves(*(("EventPublisherRole", f"dynamodb:{action}") for action in STREAM))
def test_a_stream_is_not_read_for_a_function_that_may_not(stage: RunningStage, ann: Person, grant: Grant) -> None:
    # Given a function for which Lambda may not read the table's stream
    since_ms = now_ms()
    with grant.missing():
        # When a job ends, then the function is not told, and the mapping says why
        job_id = ann.accepted(QUICK)
        assert ann.ended(job_id)["status"] == "COMPLETED"
        until(lambda: has_problem(stage, grant), "the mapping has a problem")
        assert not any(job_id in line for line in stage.log_lines(grant.function, since_ms))

    # And when the grant is back, it is
    logged(stage, grant.function, since_ms, "published", job_id)


# Who may invoke a function


class Permissions:
    """The statements of a function's resource policy: who may invoke what its alias points to."""

    def __init__(self, stage: RunningStage, function: str) -> None:
        self._lambda = stage.client("lambda")
        self._of = {"FunctionName": function, "Qualifier": LIVE_ALIAS}

    def statements(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._lambda.get_policy(**self._of)["Policy"])["Statement"]
        return found

    @contextlib.contextmanager
    def without(self, statement: dict[str, Any]) -> Iterator[None]:
        """Take one away meanwhile."""
        self._lambda.remove_permission(**self._of, StatementId=statement["Sid"])
        try:
            yield
        finally:
            self._lambda.add_permission(
                **self._of,
                StatementId=statement["Sid"],
                Action=statement["Action"],
                Principal=statement["Principal"]["Service"],
                SourceArn=statement["Condition"]["ArnLike"]["AWS:SourceArn"],
            )


def test_the_api_invokes_a_function_only_by_its_permission(stage: RunningStage) -> None:
    # Given calls of the API that need the authorizer and each another permission besides
    def statuses() -> list[int]:
        fresh = stage.person("ann")  # whose token's policy is in no cache
        return [fresh.status("no-such-job").status_code, fresh.list().status_code, fresh.cancel("no").status_code]

    usual = statuses()
    assert usual == [404, 200, 404]

    # When any permission is missing, then those calls fail that need it, and no others
    functions = stage.description.functions
    failed = []
    for function in (functions.authorizer, functions.jobStatus, functions.cancelJob):
        permissions = Permissions(stage, function)
        for statement in permissions.statements():
            with permissions.without(statement):
                failed.append([status == 500 for status in statuses()])
    assert sorted(failed) == [[False, False, True], [False, True, False], [True, False, False], [True, True, True]]

    # And with all of them none does
    assert statuses() == usual


@contextlib.contextmanager
def second_target(stage: RunningStage, rule: str) -> Iterator[Callable[[], object]]:
    """Give a rule a queue for its last target meanwhile; yield what waits until an event has come to it."""
    sqs, events, name = stage.client("sqs"), stage.client("events"), f"sluice-test-grants-{os.getpid()}"
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    events.put_targets(Rule=rule, Targets=[{"Id": name, "Arn": arn}])

    def delivered() -> object:
        (message,) = until(
            lambda: sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages"), "the rule has gone"
        )
        return sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])

    try:
        yield delivered
    finally:
        events.remove_targets(Rule=rule, Ids=[name])
        sqs.delete_queue(QueueUrl=url)


def failures(stage: RunningStage, function: str, since_ms: int) -> int:
    """How many invocations Lambda has reported that failed."""
    return sum('"platform.report"' in line for line in stage.log_lines(function, since_ms))


@pytest.mark.usefixtures("broken")
def test_the_schedule_invokes_the_sweeper_only_by_its_permission(stage: RunningStage) -> None:
    # Given the schedule's rule, which goes by an event meanwhile, and a sweeper whose failures are logged
    events, sweeper = stage.client("events"), stage.description.functions.sweeper
    (rule,) = [rule for rule in events.list_rules()["Rules"] if "Sweep" in rule["Name"]]
    pattern = {"source": ["sluice-test-grants"]}
    events.put_rule(Name=rule["Name"], EventPattern=json.dumps(pattern), State="ENABLED")
    assert lines_of_a_failure(stage, sweeper)
    since_ms = now_ms()

    def fire() -> None:
        events.put_events(Entries=[{"Source": "sluice-test-grants", "DetailType": "now", "Detail": "{}"}])

    permissions = Permissions(stage, sweeper)
    (statement,) = permissions.statements()
    try:
        with second_target(stage, rule["Name"]) as delivered:
            # When the rule goes without the permission, and once more with it
            with permissions.without(statement):
                fire()
                delivered()
            with_it_ms = now_ms()
            fire()
            delivered()

        # Then the sweeper runs with it, and had not run before
        until(lambda: failures(stage, sweeper, with_it_ms), "the sweeper has failed")
        assert failures(stage, sweeper, since_ms) == 1
    finally:
        usual = {"ScheduleExpression": rule["ScheduleExpression"]}
        events.put_rule(Name=rule["Name"], State=rule["State"], **usual)
