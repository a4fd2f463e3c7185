from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from sluice_core.ecs_tasks import EcsExecutor, read_event
from sluice_core.executors import CANCELLED, ECS, ExecutionState, Retry, Started
from unit.executor_calls import (
    SUBMISSION,
    VARIABLES,
    client,
    described,
    make_cluster,
    maker,
    moto,
    stubbed,
    submissions,
)
from unit.state_changes import CHANGES, CLUSTER, HANDLES, KEY, SECRET, START_TOKEN, as_read, state_change
from unit.wire_faults import Fault, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from botocore.stub import Stubber

HANDLE = HANDLES[ECS]
DEFINITION = "work:3"
REQUEST = {
    "cluster": CLUSTER,
    "taskDefinition": DEFINITION,
    "launchType": "FARGATE",
    "count": 1,
    "clientToken": START_TOKEN,
    "startedBy": START_TOKEN,
    "networkConfiguration": {
        "awsvpcConfiguration": {
            "subnets": ("subnet-a", "subnet-b"),
            "securityGroups": ["sg-1"],
            "assignPublicIp": "DISABLED",
        }
    },
    "overrides": {"containerOverrides": [{"name": "job", "environment": VARIABLES}]},
}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with stubbed("ecs") as stub:
        yield stub


@pytest.fixture
def executor(stub: Stubber) -> EcsExecutor:
    return made(maker(stub))


def made(
    ecs: Callable[[], Any], cluster: str = CLUSTER, definition: str = DEFINITION, *subnets: str
) -> EcsExecutor:
    return EcsExecutor(
        ecs,
        cluster=cluster,
        task_definition=definition,
        subnets=subnets or ("subnet-a", "subnet-b"),
        security_group="sg-1",
    )


def ran(*handles: str, failures: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"tasks": [{"taskArn": one} for one in handles], "failures": [{"reason": one} for one in failures]}


def test_a_start_tells_the_container_which_job_and_no_more(stub: Stubber, executor: EcsExecutor) -> None:
    # given a service that takes exactly this: no parameters, no type, nothing of the client's, no public address
    stub.add_response("run_task", ran(HANDLE), REQUEST)

    # when a job is started, then the task's ARN is its handle
    assert executor.start([SUBMISSION]) == [Started(HANDLE)]


def test_a_start_whose_task_came_of_another_request_finds_it(stub: Stubber, executor: EcsExecutor) -> None:
    # given that the stage was deployed between the tries, so that their task definitions differ
    stub.add_client_error(
        "run_task", "ConflictException", http_status_code=400, modeled_fields={"resourceIds": [HANDLE]}
    )

    assert executor.start([SUBMISSION]) == [Started(HANDLE)]


def test_a_conflict_that_names_no_task_is_put_off(stub: Stubber, executor: EcsExecutor) -> None:
    stub.add_client_error("run_task", "ConflictException", http_status_code=400)

    assert executor.start([SUBMISSION]) == [Retry("ConflictException")]


@pytest.mark.parametrize(
    "reason",
    [
        "Capacity is unavailable at this time. Please try again later or in a different availability zone",
        "You've reached the limit on the number of vCPUs you can run concurrently",
        "You've reached the limit on the number of tasks you can run concurrently",
        "RESOURCE:ENI",
        "AGENT",
        "Internal error.",
        # What it asks for is not there: the next deployment mends that.
        "MISSING",
        "INACTIVE",
        "ATTRIBUTE",
        "The requested CPU configuration is above your limit.",
        "The requested MEMORY configuration is above your limit.",
    ],
)
def test_a_task_that_is_not_placed_is_put_off(stub: Stubber, executor: EcsExecutor, reason: str) -> None:
    stub.add_response("run_task", ran(failures=(reason,)))

    assert executor.start([SUBMISSION]) == [Retry(reason)]


def test_neither_a_task_nor_a_reason_is_put_off(stub: Stubber, executor: EcsExecutor) -> None:
    stub.add_response("run_task", ran())

    assert executor.start([SUBMISSION]) == [Retry("no task")]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ThrottlingException", 400),
        ("ServerException", 500),
        # A role that cannot be assumed yet, a definition that has gone, a missing grant: none is the job's fault.
        ("ClientException", 400),
        ("InvalidParameterException", 400),
        ("AccessDeniedException", 400),
        ("ClusterNotFoundException", 400),
    ],
)
def test_a_start_that_fails_is_put_off(stub: Stubber, executor: EcsExecutor, code: str, status: int) -> None:
    stub.add_client_error("run_task", code, SECRET, http_status_code=status)

    assert executor.start([SUBMISSION]) == [Retry(code)]


def test_a_start_that_is_not_answered_is_put_off() -> None:
    wire = Wire()
    wire.strike(Fault.NO_ANSWER, "RunTask")

    assert made(lambda: wire.tap(client("ecs"))).start([SUBMISSION]) == [Retry("ReadTimeoutError")]


def test_each_job_has_its_own_result_in_order(stub: Stubber, executor: EcsExecutor) -> None:
    stub.add_response("run_task", ran("1"))
    stub.add_client_error("run_task", "ThrottlingException")
    stub.add_response("run_task", ran(failures=("MISSING",)))
    stub.add_response("run_task", ran("4"))

    results = executor.start(submissions("1", "2", "3", "4"))

    assert results == [Started("1"), Retry("ThrottlingException"), Retry("MISSING"), Started("4")]
    assert executor.start([]) == []


def test_a_task_goes_from_start_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with moto():
        executor = made(lambda: client("ecs"), *make_cluster())

        # when two jobs are started and one is stopped
        first, other = executor.start([SUBMISSION, *submissions("other")])
        assert isinstance(first, Started)
        assert isinstance(other, Started)
        executor.stop(first.handle, CANCELLED)

        # then each task knows its own job and start
        executions = executor.look([first.handle, other.handle])
        assert [one and one.start_token for one in executions.values()] == [START_TOKEN, "other"]
        stopped = executions[first.handle]
        assert stopped is not None
        assert (stopped.key, stopped.handle) == (KEY, first.handle)
        assert stopped.state is not ExecutionState.OPEN


def test_a_stop_says_why(stub: Stubber, executor: EcsExecutor) -> None:
    request = {"cluster": CLUSTER, "task": HANDLE, "reason": CANCELLED}
    stub.add_response("stop_task", {"task": {"taskArn": HANDLE}}, request)

    executor.stop(HANDLE, CANCELLED)


def test_a_stop_of_what_there_is_not_is_no_error(stub: Stubber, executor: EcsExecutor) -> None:
    stub.add_client_error("stop_task", "InvalidParameterException", "The referenced task was not found.")

    executor.stop(HANDLE, CANCELLED)


@pytest.mark.parametrize("call", ["stop_task", "describe_tasks"])
def test_a_refused_stop_or_look_raises(stub: Stubber, executor: EcsExecutor, call: str) -> None:
    stub.add_client_error(call, "AccessDeniedException")

    with pytest.raises(ClientError, match="AccessDenied"):
        executor.stop(HANDLE, CANCELLED) if call == "stop_task" else executor.look([HANDLE])


@pytest.mark.parametrize("change", CHANGES[ECS])
def test_a_look_reads_what_the_service_says(stub: Stubber, executor: EcsExecutor, change: str) -> None:
    answer = {"tasks": [described(ECS, change)], "failures": []}
    stub.add_response("describe_tasks", answer, {"cluster": CLUSTER, "tasks": [HANDLE]})

    assert executor.look([HANDLE]) == {HANDLE: as_read(ECS, change)}


@pytest.mark.parametrize("status", ["PROVISIONING", "PENDING", "ACTIVATING", "DEACTIVATING", "STOPPING"])
def test_a_task_on_its_way_is_open(stub: Stubber, executor: EcsExecutor, status: str) -> None:
    stub.add_response("describe_tasks", {"tasks": [described(ECS, "crashed", lastStatus=status)], "failures": []})

    assert executor.look([HANDLE]) == {HANDLE: as_read(ECS, "running")}


def test_a_look_asks_about_a_hundred_at_a_time_and_once_each(stub: Stubber, executor: EcsExecutor) -> None:
    # given 201 tasks, of which the service has forgotten all but two
    handles = [f"task-{n}" for n in range(201)]
    known = {"task-0", "task-200"}
    for some in (handles[:100], handles[100:200], handles[200:]):
        tasks = [described(ECS, "running", handle=one) for one in some if one in known]
        failures = [{"arn": one, "reason": "MISSING"} for one in some if one not in known]
        request = {"cluster": CLUSTER, "tasks": some}
        stub.add_response("describe_tasks", {"tasks": tasks, "failures": failures}, request)

    # when they are asked about, one of them twice
    executions = executor.look([*handles, "task-7"])

    # then each has an answer
    assert list(executions) == handles
    assert {handle for handle, execution in executions.items() if execution} == known
    assert executor.look([]) == {}


@pytest.mark.parametrize("change", CHANGES[ECS])
def test_an_event_is_read_if_it_is_of_an_end(change: str) -> None:
    expected = as_read(ECS, change)

    execution = read_event(state_change(ECS, change)["detail"])

    assert execution == (None if expected.state is ExecutionState.OPEN else expected)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"containerOverrides": []},
        {"containerOverrides": [{"name": "job"}]},
        {"containerOverrides": [{"name": "job", "environment": VARIABLES[:2]}]},
        {"containerOverrides": [{"name": "another", "environment": VARIABLES}]},
    ],
)
def test_a_task_that_we_did_not_run_is_none_of_ours(overrides: dict[str, Any]) -> None:
    assert read_event(state_change(ECS, "succeeded", overrides=overrides)["detail"]) is None


def test_a_stop_without_a_reason_is_a_stop() -> None:
    execution = read_event(state_change(ECS, "stopped", stoppedReason=None)["detail"])

    assert execution == as_read(ECS, "stopped")


def test_a_task_whose_containers_never_came_up_is_lost() -> None:
    execution = read_event(state_change(ECS, "not started", containers=[])["detail"])

    assert execution == as_read(ECS, "not started")


def test_an_event_tells_of_its_own_job_only() -> None:
    other = replace(KEY, job_id="another-one-here")

    execution = read_event(state_change(ECS, "crashed", key=other, start_token="t-2", handle="h-2")["detail"])

    assert execution is not None
    assert (execution.key, execution.start_token, execution.handle) == (other, "t-2", "h-2")
