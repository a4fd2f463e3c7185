"""Whoever asks for a stack under way is answered when it has ended, so that nobody waits to ask again."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
from sluice_harness.compat.stack_waits import HOLD_SECONDS
from stage.conformance.functions import unique

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

# A stack that is under way until somebody signals.
TEMPLATE = json.dumps(
    {
        "Resources": {
            "Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
            "Signal": {
                "Type": "AWS::CloudFormation::WaitCondition",
                "Properties": {"Handle": {"Ref": "Handle"}, "Timeout": "20", "Count": 1},
            },
        }
    }
)
SIGNAL = json.dumps({"Status": "SUCCESS", "UniqueId": "1", "Data": "", "Reason": ""}).encode()


def status(client: Any, name: str) -> str:
    (stack,) = client.describe_stacks(StackName=name)["Stacks"]
    return str(stack["StackStatus"])


def test_a_stack_under_way_is_told_of_when_it_has_ended(engine: Engine) -> None:
    # given a stack under way, and somebody who asks for it
    client, name = engine.client("cloudformation"), unique("stack")
    client.create_stack(StackName=name, TemplateBody=TEMPLATE)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(status, client, name)

        # when somebody else asks for all stacks, then they are told at once that it is under way
        listed = {stack["StackName"]: stack["StackStatus"] for stack in client.describe_stacks()["Stacks"]}
        assert listed[name] == "CREATE_IN_PROGRESS"
        assert not asked.done()

        # and when it ends, the first is told that it is there
        handle = client.describe_stack_resource(StackName=name, LogicalResourceId="Handle")
        httpx.put(handle["StackResourceDetail"]["PhysicalResourceId"], content=SIGNAL).raise_for_status()
        assert asked.result() == "CREATE_COMPLETE"
    client.delete_stack(StackName=name)


def test_a_stack_that_waits_for_its_first_change_set_is_not_under_way(engine: Engine) -> None:
    # given a stack of which there is but a change set
    client, name = engine.client("cloudformation"), unique("stack")
    change = {"StackName": name, "ChangeSetName": "first", "ChangeSetType": "CREATE"}
    client.create_change_set(TemplateBody=TEMPLATE, **change)

    # when it is asked for, then it is told of at once
    began = time.monotonic()
    assert status(client, name) == "REVIEW_IN_PROGRESS"
    assert time.monotonic() - began < HOLD_SECONDS
    client.delete_stack(StackName=name)
