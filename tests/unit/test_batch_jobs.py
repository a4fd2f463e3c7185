from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from sluice_core import clients
from sluice_core.batch_jobs import BatchExecutor, read_event
from sluice_core.executors import BATCH, CANCELLED, ExecutionState, Retry, Started
from unit.executor_calls import (
    SUBMISSION,
    VARIABLES,
    client,
    described,
    make_job_queue,
    maker,
    moto,
    stubbed,
    submissions,
)
from unit.state_changes import CHANGES, HANDLES, JOB_QUEUE, KEY, SECRET, START_TOKEN, as_read, state_change
from unit.wire_faults import Fault, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.session import Session
    from botocore.stub import Stubber

HANDLE = HANDLES[BATCH]
DEFINITION = "work:3"
REQUEST = {
    "jobName": START_TOKEN,
    "jobQueue": JOB_QUEUE,
    "jobDefinition": DEFINITION,
    "containerOverrides": {"environment": VARIABLES},
}
LOOKUP = {"jobQueue": JOB_QUEUE, "filters": [{"name": "JOB_NAME", "values": [START_TOKEN]}]}
AGAIN = replace(SUBMISSION, is_again=True)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with stubbed("batch") as stub:
        yield stub


@pytest.fixture
def executor(stub: Stubber) -> BatchExecutor:
    return BatchExecutor(maker(stub), JOB_QUEUE, DEFINITION)


def submitted(job_id: str = HANDLE) -> dict[str, str]:
    return {"jobName": START_TOKEN, "jobId": job_id}


def listed(*job_ids: str) -> dict[str, Any]:
    return {"jobSummaryList": [submitted(job_id) for job_id in job_ids]}


def test_a_start_tells_the_container_which_job_and_no_more(stub: Stubber, executor: BatchExecutor) -> None:
    # given a service that takes exactly this: no parameters, no type, nothing of the client's
    stub.add_response("submit_job", submitted(), REQUEST)

    # when a job is started, then the Batch job's id is its handle
    assert executor.start([SUBMISSION]) == [Started(HANDLE)]


def test_a_repeated_start_finds_what_the_first_submitted(stub: Stubber, executor: BatchExecutor) -> None:
    stub.add_response("list_jobs", listed(HANDLE), LOOKUP)

    assert executor.start([AGAIN]) == [Started(HANDLE)]


def test_a_repeated_start_submits_what_the_first_did_not(stub: Stubber, executor: BatchExecutor) -> None:
    stub.add_response("list_jobs", listed(), LOOKUP)
    stub.add_response("submit_job", submitted(), REQUEST)

    assert executor.start([AGAIN]) == [Started(HANDLE)]


def test_of_several_the_first_is_the_jobs_own(stub: Stubber, executor: BatchExecutor) -> None:
    # given that somebody cloned the Batch job, and an answer in pages, newest first
    stub.add_response("list_jobs", {**listed("clone-2", "clone-1"), "nextToken": "more"}, LOOKUP)
    stub.add_response("list_jobs", listed(HANDLE), {**LOOKUP, "nextToken": "more"})

    assert executor.start([AGAIN]) == [Started(HANDLE)]


def test_one_start_is_one_batch_job_however_often_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with moto():
        queue, definition = make_job_queue()
        executor = BatchExecutor(lambda: client("batch"), queue, definition)

        # when two jobs are started, and one of them again
        first, other = executor.start([SUBMISSION, *submissions("other")])
        [again] = executor.start([AGAIN])

        # then there are two Batch jobs, each of which knows its own job and start
        assert isinstance(first, Started)
        assert isinstance(other, Started)
        assert first == again != other
        executions = executor.look([first.handle, other.handle])
        assert [one and one.start_token for one in executions.values()] == [START_TOKEN, "other"]
        assert executions[first.handle] == replace(as_read(BATCH, "succeeded"), handle=first.handle)

        # and a stop finds one that has ended, and one that there is not, as it should be
        executor.stop(first.handle, CANCELLED)
        executor.stop(HANDLE, CANCELLED)
        assert executor.look([HANDLE]) == {HANDLE: None}


@pytest.mark.parametrize("call", ["list_jobs", "submit_job"])
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("TooManyRequestsException", 429),
        ("ServerException", 500),
        # The job queue is disabled, the definition deregistered, the role unknown yet: none is the job's fault.
        ("ClientException", 400),
        ("AccessDeniedException", 403),
    ],
)
def test_a_start_that_fails_is_put_off(
    stub: Stubber, executor: BatchExecutor, call: str, code: str, status: int
) -> None:
    stub.add_client_error(call, code, SECRET, http_status_code=status)

    assert executor.start([AGAIN if call == "list_jobs" else SUBMISSION]) == [Retry(code)]


def test_a_start_that_is_not_answered_is_put_off() -> None:
    wire = Wire()
    wire.strike(Fault.NO_ANSWER, "SubmitJob")
    executor = BatchExecutor(lambda: wire.tap(client("batch")), JOB_QUEUE, DEFINITION)

    assert executor.start([SUBMISSION]) == [Retry("ReadTimeoutError")]


def test_a_start_that_is_not_answered_is_not_repeated_below_us(
    monkeypatch: pytest.MonkeyPatch, sdk_session: Session
) -> None:
    # given a stage's own client, and a line on which each answer is lost
    monkeypatch.setattr(clients, "session", lambda: sdk_session)
    sent: list[str] = []

    def lose(event_name: str, **_: object) -> None:
        sent.append(event_name)
        raise ReadTimeoutError(endpoint_url="http://nowhere")

    batch = clients.batch()
    batch.meta.events.register("before-send.batch.*", lose)

    # when a job is started
    [result] = BatchExecutor(lambda: batch, JOB_QUEUE, DEFINITION).start([SUBMISSION])

    # then it is submitted once: SubmitJob has no token by which Batch would know a repetition
    assert result == Retry("ReadTimeoutError")
    assert sent == ["before-send.batch.SubmitJob"]


def test_each_job_has_its_own_result_in_order(stub: Stubber, executor: BatchExecutor) -> None:
    stub.add_response("submit_job", submitted("1"))
    stub.add_client_error("submit_job", "TooManyRequestsException")
    stub.add_client_error("submit_job", "ClientException")
    stub.add_response("submit_job", submitted("4"))

    results = executor.start(submissions("1", "2", "3", "4"))

    assert results == [Started("1"), Retry("TooManyRequestsException"), Retry("ClientException"), Started("4")]
    assert executor.start([]) == []


def test_a_stop_says_why(stub: Stubber, executor: BatchExecutor) -> None:
    stub.add_response("terminate_job", {}, {"jobId": HANDLE, "reason": CANCELLED})

    executor.stop(HANDLE, CANCELLED)


def test_a_stop_of_what_there_is_not_is_no_error(stub: Stubber, executor: BatchExecutor) -> None:
    stub.add_client_error("terminate_job", "ClientException")

    executor.stop(HANDLE, CANCELLED)


@pytest.mark.parametrize("call", ["terminate_job", "describe_jobs"])
def test_a_refused_stop_or_look_raises(stub: Stubber, executor: BatchExecutor, call: str) -> None:
    stub.add_client_error(call, "AccessDeniedException")

    with pytest.raises(ClientError, match="AccessDenied"):
        executor.stop(HANDLE, CANCELLED) if call == "terminate_job" else executor.look([HANDLE])


@pytest.mark.parametrize("change", CHANGES[BATCH])
def test_a_look_reads_what_the_service_says(stub: Stubber, executor: BatchExecutor, change: str) -> None:
    stub.add_response("describe_jobs", {"jobs": [described(BATCH, change)]}, {"jobs": [HANDLE]})

    assert executor.look([HANDLE]) == {HANDLE: as_read(BATCH, change)}


@pytest.mark.parametrize("status", ["SUBMITTED", "PENDING", "RUNNABLE", "STARTING"])
def test_a_batch_job_that_waits_is_open(stub: Stubber, executor: BatchExecutor, status: str) -> None:
    stub.add_response("describe_jobs", {"jobs": [described(BATCH, "running", status=status)]})

    assert executor.look([HANDLE]) == {HANDLE: as_read(BATCH, "waiting")}


def test_a_look_asks_about_a_hundred_at_a_time_and_once_each(stub: Stubber, executor: BatchExecutor) -> None:
    # given 201 Batch jobs, of which the service has forgotten all but two
    handles = [f"job-{n}" for n in range(201)]
    known = {"job-0", "job-200"}
    for some in (handles[:100], handles[100:200], handles[200:]):
        answer = [described(BATCH, "running", handle=one) for one in some if one in known]
        stub.add_response("describe_jobs", {"jobs": answer}, {"jobs": some})

    # when they are asked about, one of them twice
    executions = executor.look([*handles, "job-7"])

    # then each has an answer
    assert list(executions) == handles
    assert {handle for handle, execution in executions.items() if execution} == known
    assert executor.look([]) == {}


@pytest.mark.parametrize("change", CHANGES[BATCH])
def test_an_event_is_read_if_it_is_of_an_end(change: str) -> None:
    expected = as_read(BATCH, change)

    execution = read_event(state_change(BATCH, change)["detail"])

    assert execution == (None if expected.state is ExecutionState.OPEN else expected)


@pytest.mark.parametrize("change", CHANGES[BATCH])
def test_only_what_seems_lost_is_not_complete_without_who_stopped_it(change: str) -> None:
    # given the event without what the documented example has not
    detail = state_change(BATCH, change)["detail"]
    del detail["isTerminated"], detail["isCancelled"]

    execution = read_event(detail)

    if as_read(BATCH, change).state is not ExecutionState.OPEN:
        assert execution is not None
        assert execution.is_complete == (execution.state is not ExecutionState.LOST)


@pytest.mark.parametrize("missing", ["SLUICE_OWNER", "SLUICE_JOB_ID", "SLUICE_START_TOKEN"])
def test_a_batch_job_that_we_did_not_submit_is_none_of_ours(missing: str) -> None:
    detail = state_change(BATCH, "succeeded")["detail"]
    environment = detail["container"]["environment"]
    detail["container"]["environment"] = [one for one in environment if one["name"] != missing]

    assert read_event(detail) is None


@pytest.mark.parametrize("container", [None, {}, {"environment": None}, {"environment": []}])
def test_a_batch_job_of_several_containers_is_none_of_ours(container: Any) -> None:
    assert read_event(state_change(BATCH, "succeeded", container=container)["detail"]) is None


def test_an_event_tells_of_its_own_job_only() -> None:
    other = replace(KEY, job_id="another-one-here")

    execution = read_event(state_change(BATCH, "crashed", key=other, start_token="t-2", handle="h-2")["detail"])

    assert execution is not None
    assert (execution.key, execution.start_token, execution.handle) == (other, "t-2", "h-2")
