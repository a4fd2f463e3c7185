"""AWS/States: what state machines say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from stage.conformance.metrics import reaches, statistic, total

if TYPE_CHECKING:
    from stage.conformance.machines import Machines

STATES = "AWS/States"
ENDS = ("ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut", "ExecutionsAborted")
WAIT: dict[str, Any] = {"Type": "Wait", "Seconds": 60, "End": True}


@pytest.mark.parametrize(
    ("state", "fields", "end"),
    [
        ({"Type": "Succeed"}, {}, "ExecutionsSucceeded"),
        ({"Type": "Fail", "Error": "Refused"}, {}, "ExecutionsFailed"),
        (WAIT, {"TimeoutSeconds": 1}, "ExecutionsTimedOut"),
        (WAIT, {}, "ExecutionsAborted"),
    ],
)
def test_executions_are_counted_as_they_start_and_end(
    machines: Machines, state: dict[str, Any], fields: dict[str, Any], end: str
) -> None:
    # given a state machine whose executions end so
    engine, arn = machines.engine, machines.machine({"Only": state}, **fields)

    # when two are started, and stopped if nothing else ends them
    started = [machines.start(arn) for _ in range(2)]
    if end == "ExecutionsAborted":
        for execution in started:
            machines.client.stop_execution(executionArn=execution)

    # then both are counted, under this end and no other, with their times
    assert reaches(engine, 2, STATES, end, StateMachineArn=arn) == 2
    assert total(engine, STATES, "ExecutionsStarted", StateMachineArn=arn) == 2
    others = [total(engine, STATES, one, StateMachineArn=arn) for one in ENDS if one != end]
    assert others == [None] * 3
    assert statistic(engine, STATES, "ExecutionTime", "SampleCount", StateMachineArn=arn) == 2
    shortest = 1_000 if end == "ExecutionsTimedOut" else 0
    assert (statistic(engine, STATES, "ExecutionTime", "Minimum", StateMachineArn=arn) or 0) >= shortest
