"""A function that is invoked through an alias runs the version behind it, and knows by what it was invoked."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance.functions import (
    RUNTIME,
    create_function,
    create_queue,
    depth,
    eventually,
    invoke,
    log_lines,
)
from stage.conformance.metrics import reaches, total
from stage.conformance.test_cloudwatch_cloudformation import Stack
from stage.conformance.test_worker_processes import alive

pytestmark = pytest.mark.xdist_group("fast_engine")

LAMBDA = "AWS/Lambda"
ALIAS = "live"
WHO = """
import json, os
def handler(event, context):
    if event.get("raise"):
        raise RuntimeError("as asked")
    who = {"arn": context.invoked_function_arn, "version": context.function_version,
           "release": os.environ["RELEASE"], "pid": os.getpid()}
    print(json.dumps(who))
    return who
"""


@pytest.fixture
def function(fast_engine: Any) -> str:
    """A function, released once: its version 1 is behind the alias."""
    name = create_function(fast_engine, WHO, Environment={"Variables": {"RELEASE": "one"}})
    client = fast_engine.client("lambda")
    version = client.publish_version(FunctionName=name)["Version"]
    client.create_alias(FunctionName=name, Name=ALIAS, FunctionVersion=version)
    return name


def publish(engine: Any, name: str, release: str) -> str:
    """Publish another version and return its number; nobody is given it yet."""
    client = engine.client("lambda")
    client.update_function_configuration(FunctionName=name, Environment={"Variables": {"RELEASE": release}})
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0.02})
    return str(client.publish_version(FunctionName=name)["Version"])


def arn_of(engine: Any, name: str) -> str:
    return str(engine.client("lambda").get_alias(FunctionName=name, Name=ALIAS)["AliasArn"])


def follow(engine: Any, name: str) -> str:
    """Let the alias consume a new queue and return the queue's URL."""
    url, arn = create_queue(engine)
    engine.client("lambda").create_event_source_mapping(FunctionName=f"{name}:{ALIAS}", EventSourceArn=arn)
    return url


def seen_by(engine: Any, name: str, url: str) -> dict[str, Any]:
    """Send a message to the alias's queue, and return what the function says of itself."""
    engine.client("sqs").send_message(QueueUrl=url, MessageBody="{}")
    return said(engine, name, url)[0]


def said(engine: Any, name: str, url: str) -> list[dict[str, Any]]:
    """Wait until a queue is empty, and return what the function has said of itself."""
    assert eventually(lambda: not any(depth(engine, url).values()))
    lines = log_lines(engine, f"/aws/lambda/{name}")
    return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.mark.parametrize("by", ["the API", "a queue"])
def test_a_function_is_told_the_arn_that_was_invoked(fast_engine: Any, function: str, by: str) -> None:
    # given an unpublished change besides
    publish(fast_engine, function, "two")

    # when the alias is invoked
    if by == "the API":
        who = invoke(fast_engine, f"{function}:{ALIAS}", {})
    else:
        who = seen_by(fast_engine, function, follow(fast_engine, function))

    # then its version runs, and knows by what name it was called
    assert (who["version"], who["release"]) == ("1", "one")
    assert who["arn"] == arn_of(fast_engine, function)


def test_a_queue_s_next_message_is_the_new_version_s(fast_engine: Any, function: str) -> None:
    # given an alias with a queue, that is pointed at another version
    url = follow(fast_engine, function)
    version = publish(fast_engine, function, "two")
    fast_engine.client("lambda").update_alias(FunctionName=function, Name=ALIAS, FunctionVersion=version)

    # when a message comes, then that version has it
    assert seen_by(fast_engine, function, url)["release"] == "two"


@pytest.mark.parametrize("by", ["the API", "a queue"])
def test_an_alias_shares_its_invocations_out_by_weight(fast_engine: Any, function: str, by: str) -> None:
    # given an alias that gives half of them to another version
    version = publish(fast_engine, function, "two")
    fast_engine.client("lambda").update_alias(
        FunctionName=function, Name=ALIAS, RoutingConfig={"AdditionalVersionWeights": {version: 0.5}}
    )

    # when there are many, then both versions have some
    if by == "the API":
        answers = [invoke(fast_engine, f"{function}:{ALIAS}", {}) for _ in range(40)]
        assert {one["arn"] for one in answers} == {arn_of(fast_engine, function)}
        releases = Counter(one["release"] for one in answers)
    else:
        url = follow(fast_engine, function)
        for _ in range(40):
            fast_engine.client("sqs").send_message(QueueUrl=url, MessageBody="{}")
        releases = Counter(one["release"] for one in said(fast_engine, function, url))
    assert set(releases) == {"one", "two"}, releases


def test_the_answer_says_which_version_ran(fast_engine: Any, function: str) -> None:
    answer = fast_engine.client("lambda").invoke(FunctionName=function, Qualifier=ALIAS, Payload=b"{}")
    assert answer["ExecutedVersion"] == json.load(answer["Payload"])["version"] == "1"


def test_reserved_concurrency_is_the_whole_function_s(fast_engine: Any, function: str) -> None:
    # given a function that may not run at all
    client = fast_engine.client("lambda")
    client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)

    # then neither may its alias or its version
    for qualifier in (ALIAS, "1"):
        with pytest.raises(ClientError, match="TooManyRequestsException"):
            client.invoke(FunctionName=function, Qualifier=qualifier, Payload=b"{}")


def test_an_alias_has_its_own_number_of_retries(fast_engine: Any, function: str) -> None:
    # given an alias whose failed asynchronous invocations are not tried again
    client = fast_engine.client("lambda")
    client.put_function_event_invoke_config(FunctionName=function, Qualifier=ALIAS, MaximumRetryAttempts=0)

    # when it is invoked so, and fails; and the function itself, which is tried again
    for invoked in (f"{function}:{ALIAS}", function):
        client.invoke(FunctionName=invoked, InvocationType="Event", Payload=b'{"raise": true}')

    # then there was one attempt of the one, and there were more of the other
    assert reaches(fast_engine, 4, LAMBDA, "Errors", FunctionName=function) == 4
    assert total(fast_engine, LAMBDA, "Errors", FunctionName=function, Resource=f"{function}:{ALIAS}") == 1


def test_what_ran_is_counted_by_alias_and_by_version(fast_engine: Any, function: str) -> None:
    # given an invocation of the function, and of its alias before and after a release
    named = f"{function}:{ALIAS}"
    invoke(fast_engine, function, {})
    invoke(fast_engine, named, {})
    version = publish(fast_engine, function, "two")
    fast_engine.client("lambda").update_alias(FunctionName=function, Name=ALIAS, FunctionVersion=version)
    invoke(fast_engine, named, {"raise": True})

    # then all are the function's, two the alias's, and one each that of a version behind it
    def counted(metric: str, **more: str) -> float | None:
        return total(fast_engine, LAMBDA, metric, FunctionName=function, **more)

    assert reaches(fast_engine, 3, LAMBDA, "Invocations", FunctionName=function) == 3
    assert counted("Invocations", Resource=named) == 2
    assert counted("Invocations", Resource=named, ExecutedVersion="1") == 1
    assert counted("Errors", Resource=named, ExecutedVersion="1") == 0
    assert counted("Errors", Resource=named, ExecutedVersion=version) == 1


def test_a_release_by_cloudformation_replaces_the_environments(fast_engine: Any, function: str) -> None:
    # given a stack with a function, a version and an alias, whose environment is up
    role = fast_engine.client("lambda").get_function_configuration(FunctionName=function)["Role"]
    stack = Stack(fast_engine, **released(role, "one"))
    named = f"{stack.physical('Function')}:{ALIAS}"
    first = invoke(fast_engine, named, {})
    assert first["release"] == "one"

    # when another version takes its place
    stack.update(**released(role, "two"))

    # then that serves, and the process of the one before is gone
    second = invoke(fast_engine, named, {})
    assert (second["release"], second["version"]) == ("two", "2")
    assert eventually(lambda: not alive(first["pid"]))
    stack.delete()


def released(role: str, release: str) -> dict[str, Any]:
    """A function, the version of a release and the alias that points there, as CDK writes them."""
    version = f"Version{release.capitalize()}"
    runs = {"Runtime": RUNTIME, "Handler": "index.handler", "Role": role, "Code": {"ZipFile": WHO}}
    environment = {"Variables": {"RELEASE": release}}
    points = {"Name": ALIAS, "FunctionVersion": {"Fn::GetAtt": [version, "Version"]}}
    return {
        "Function": ("AWS::Lambda::Function", {**runs, "Environment": environment}),
        version: ("AWS::Lambda::Version", {"FunctionName": {"Ref": "Function"}}),
        "Alias": ("AWS::Lambda::Alias", {"FunctionName": {"Ref": "Function"}, **points}),
    }
