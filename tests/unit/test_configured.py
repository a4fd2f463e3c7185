from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st
from sluice_core import clients
from sluice_core.configured import configured_executors, read_state_change
from sluice_core.executors import (
    BATCH,
    ECS,
    EXTERNAL,
    STEP_FUNCTIONS,
    Execution,
    ExecutionState,
    Started,
)
from sluice_core.requests import MalformedMessage
from unit.executor_calls import SUBMISSION, described, session, stubbed
from unit.state_changes import (
    CHANGES,
    CLUSTER,
    JOB_QUEUE,
    START_TOKEN,
    STATE_MACHINE,
    as_read,
    bus_entry,
    state_change,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL = [(executor, change) for executor in EXTERNAL for change in CHANGES[executor]]
# What each event's detail resembles.
TYPES = {STEP_FUNCTIONS: "DescribeExecutionOutput", BATCH: "JobDetail", ECS: "Task"}
SETTINGS: Mapping[str, Mapping[str, str]] = {
    STEP_FUNCTIONS: {"STATE_MACHINE_ARN": STATE_MACHINE},
    BATCH: {"BATCH_JOB_QUEUE": JOB_QUEUE, "BATCH_JOB_DEFINITION": "work:3"},
    ECS: {
        "ECS_CLUSTER": CLUSTER,
        "ECS_TASK_DEFINITION": "work:3",
        "ECS_SUBNETS": "subnet-a,subnet-b",
        "ECS_SECURITY_GROUP": "sg-1",
    },
}
EVERY_SETTING = {name: value for settings in SETTINGS.values() for name, value in settings.items()}
# Its call, an answer and what of the request is of the stage; an executor is named like its service.
STARTS: Mapping[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    STEP_FUNCTIONS: (
        "start_execution",
        {"executionArn": "handle", "startDate": "2026-09-21T14:13:20Z"},
        {"stateMachineArn": STATE_MACHINE},
    ),
    BATCH: (
        "submit_job",
        {"jobName": START_TOKEN, "jobId": "handle"},
        {"jobQueue": JOB_QUEUE, "jobDefinition": "work:3"},
    ),
    ECS: (
        "run_task",
        {"tasks": [{"taskArn": "handle"}], "failures": []},
        {
            "cluster": CLUSTER,
            "taskDefinition": "work:3",
            "networkConfiguration": {
                "awsvpcConfiguration": {
                    "subnets": ["subnet-a", "subnet-b"],
                    "securityGroups": ["sg-1"],
                    "assignPublicIp": "DISABLED",
                }
            },
        },
    ),
}
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


@pytest.mark.parametrize("executor", EXTERNAL)
def test_a_stage_has_the_executors_whose_variables_are_set(executor: str) -> None:
    assert list(configured_executors(SETTINGS[executor])) == [executor]


def test_a_stage_may_have_all_or_none() -> None:
    assert tuple(configured_executors(EVERY_SETTING)) == EXTERNAL
    assert configured_executors({}) == {}
    assert configured_executors(dict.fromkeys(EVERY_SETTING, "")) == {}


@pytest.mark.parametrize(
    "missing", ["BATCH_JOB_DEFINITION", "ECS_TASK_DEFINITION", "ECS_SUBNETS", "ECS_SECURITY_GROUP"]
)
def test_half_an_executor_is_a_mistake(missing: str) -> None:
    environment = {name: value for name, value in EVERY_SETTING.items() if name != missing}

    with pytest.raises(KeyError, match=missing):
        configured_executors(environment)


@pytest.mark.parametrize("executor", EXTERNAL)
def test_a_configured_executor_asks_for_what_its_variables_name(
    monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    # given a stage's environment
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    call, answer, expected = STARTS[executor]
    requests: list[Mapping[str, Any]] = []
    with stubbed(executor) as stub:
        stub.client.meta.events.register("before-parameter-build", lambda params, **_: requests.append(params))
        monkeypatch.setattr(clients, executor, lambda: stub.client)
        stub.add_response(call, answer)

        # when its executor starts a job
        results = configured_executors(EVERY_SETTING)[executor].start([SUBMISSION])

    # then the request names the stage's resources
    assert results == [Started("handle")]
    assert {name: requests[0][name] for name in expected} == expected


def test_a_cold_start_reads_no_service_model() -> None:
    # given a process that has made the executors, and has asked none of them for anything
    code = (
        "import os, sys; opened = [];"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None);"
        "from sluice_core.configured import configured_executors;"
        "executors = configured_executors(os.environ);"
        "print(len(executors), [one for one in opened if 'service-2' in one])"
    )

    # when it is over
    environment = {**os.environ, **EVERY_SETTING}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )

    # then it has opened none of botocore's models
    assert done.stdout.split() == ["3", "[]"]


@pytest.mark.parametrize(("executor", "change"), ALL)
def test_an_event_is_read_by_what_it_is(executor: str, change: str) -> None:
    expected = as_read(executor, change)

    execution = read_state_change(state_change(executor, change))

    assert execution == (None if expected.state is ExecutionState.OPEN else expected)


@pytest.mark.parametrize(("executor", "change"), ALL)
def test_an_event_that_was_recorded_is_of_the_type_that_it_resembles(executor: str, change: str) -> None:
    # given the type in botocore's model of the service
    shape = session().get_service_model(executor).shape_for(TYPES[executor])

    # when the event's detail is held against it
    report = ParamValidator().validate(described(executor, change), shape)

    # then it has no member that the type has not, and each is of its kind
    assert report.generate_report() == ""


@pytest.mark.parametrize("executor", EXTERNAL)
def test_an_event_that_was_recorded_can_be_put_on_a_bus(executor: str) -> None:
    [change, *_] = CHANGES[executor]
    event = state_change(executor, change)
    shape = session().get_service_model("events").shape_for("PutEventsRequestEntry")

    entry = bus_entry(event)

    assert ParamValidator().validate(entry, shape).generate_report() == ""
    assert json.loads(entry["Detail"]) == event["detail"]


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"detail-type": "EC2 Instance State-change Notification", "detail": {}},
        {"detail-type": "Batch Job State Change"},
        {"detail-type": "Batch Job State Change", "detail": "text"},
        {"detail-type": ["Batch Job State Change"], "detail": {}},
        [],
    ],
)
def test_an_event_of_another_service_is_malformed(event: Any) -> None:
    with pytest.raises(MalformedMessage):
        read_state_change(event)


@pytest.mark.parametrize(
    ("executor", "member"),
    [
        (STEP_FUNCTIONS, "status"),
        (STEP_FUNCTIONS, "name"),
        (STEP_FUNCTIONS, "executionArn"),
        (BATCH, "status"),
        (BATCH, "jobId"),
        (ECS, "lastStatus"),
        (ECS, "taskArn"),
    ],
)
def test_an_event_without_what_each_has_is_malformed(executor: str, member: str) -> None:
    event = state_change(executor, "succeeded")
    del event["detail"][member]

    with pytest.raises(MalformedMessage):
        read_state_change(event)


@given(executor=st.sampled_from(EXTERNAL), detail=JSON)
def test_whatever_comes_is_read_or_malformed(executor: str, detail: Any) -> None:
    assert_read_or_malformed({**state_change(executor, "succeeded"), "detail": detail})


@given(
    change=st.sampled_from(ALL),
    member=st.integers(min_value=0),
    value=JSON,
)
def test_an_event_with_any_one_member_changed_is_read_or_malformed(
    change: tuple[str, str], member: int, value: Any
) -> None:
    event = state_change(*change)
    names = sorted(event["detail"])
    event["detail"][names[member % len(names)]] = value

    assert_read_or_malformed(event)


def assert_read_or_malformed(event: Any) -> None:
    try:
        execution = read_state_change(event)
    except MalformedMessage:
        return
    assert execution is None or isinstance(execution, Execution)
    assert execution is None or execution.state is not ExecutionState.OPEN
