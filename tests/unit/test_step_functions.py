from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from sluice_core.executors import CANCELLED, STEP_FUNCTIONS, ExecutionState, Refused, Retry, Started
from sluice_core.jobs import NOT_STARTED, JobError
from sluice_core.step_functions import StepFunctionsExecutor, read_event
from unit.executor_calls import (
    SUBMISSION,
    client,
    described,
    make_state_machine,
    maker,
    moto,
    stubbed,
    submissions,
)
from unit.state_changes import (
    CHANGES,
    HANDLES,
    KEY,
    RESULT,
    SECRET,
    START_TOKEN,
    STATE_MACHINE,
    as_read,
    lambda_cause,
    output,
    state_change,
    without_cause,
)
from unit.wire_faults import Fault, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.stub import Stubber

HANDLE = HANDLES[STEP_FUNCTIONS]
STARTED_AT = 1_790_000_000
INPUT = json.dumps({"owner": KEY.owner, "jobId": KEY.job_id, "startToken": START_TOKEN})
REQUEST = {"stateMachineArn": STATE_MACHINE, "name": START_TOKEN, "input": INPUT}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with stubbed("stepfunctions") as stub:
        yield stub


@pytest.fixture
def executor(stub: Stubber) -> StepFunctionsExecutor:
    return StepFunctionsExecutor(maker(stub), STATE_MACHINE)


def detail(change: str, **members: Any) -> dict[str, Any]:
    found: dict[str, Any] = state_change(STEP_FUNCTIONS, change, **members)["detail"]
    return found


def test_a_start_names_the_execution_and_says_which_job(stub: Stubber, executor: StepFunctionsExecutor) -> None:
    # given a service that takes exactly this: no parameters, no type, nothing of the client's
    stub.add_response("start_execution", {"executionArn": HANDLE, "startDate": STARTED_AT}, REQUEST)

    # when a job is started, then the execution's ARN is its handle
    assert executor.start([SUBMISSION]) == [Started(HANDLE)]


def test_the_trace_of_the_job_goes_on_in_its_workflow(stub: Stubber, executor: StepFunctionsExecutor) -> None:
    header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    traced = replace(SUBMISSION, trace_header=header)
    answer = {"executionArn": HANDLE, "startDate": STARTED_AT}
    stub.add_response("start_execution", answer, {**REQUEST, "traceHeader": header})

    assert executor.start([traced]) == [Started(HANDLE)]


@pytest.mark.parametrize("state_machine", [STATE_MACHINE, f"{STATE_MACHINE}:live", f"{STATE_MACHINE}:3"])
def test_a_start_whose_execution_has_ended_finds_it(stub: Stubber, state_machine: str) -> None:
    # given an execution of this name that is closed
    stub.add_client_error("start_execution", "ExecutionAlreadyExists", http_status_code=400)

    # when the start is repeated, then it has the handle that the first had
    executor = StepFunctionsExecutor(maker(stub), state_machine)
    assert executor.start([SUBMISSION]) == [Started(HANDLE)]


def test_one_start_is_one_execution_however_often_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with moto():
        executor = StepFunctionsExecutor(lambda: client("stepfunctions"), make_state_machine())

        # when a job is started, again while it runs, and again when it was stopped
        [first], [second] = executor.start([SUBMISSION]), executor.start([SUBMISSION])
        assert isinstance(first, Started)
        [running] = executor.look([first.handle]).values()
        executor.stop(first.handle, CANCELLED)
        [third] = executor.start([SUBMISSION])

        # then there is one execution, of this job and this start
        assert first == second == third
        assert running is not None
        assert (running.key, running.start_token, running.state) == (KEY, START_TOKEN, ExecutionState.OPEN)
        [stopped] = executor.look([first.handle]).values()
        assert stopped is not None
        assert stopped.state is ExecutionState.STOPPED


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ExecutionLimitExceeded", 400),
        ("ThrottlingException", 400),
        ("ServiceUnavailable", 503),
        # The stage's fault, and not the job's.
        ("StateMachineDoesNotExist", 400),
        ("ValidationException", 400),
        ("AccessDeniedException", 400),
    ],
)
def test_a_start_that_fails_is_put_off(
    stub: Stubber, executor: StepFunctionsExecutor, code: str, status: int
) -> None:
    stub.add_client_error("start_execution", code, SECRET, http_status_code=status)

    assert executor.start([SUBMISSION]) == [Retry(code)]


@pytest.mark.parametrize("code", ["InvalidExecutionInput", "InvalidName"])
def test_what_step_functions_says_of_the_job_itself_is_for_good(
    stub: Stubber, executor: StepFunctionsExecutor, code: str
) -> None:
    stub.add_client_error("start_execution", code, SECRET, http_status_code=400)

    assert executor.start([SUBMISSION]) == [Refused(NOT_STARTED)]


def test_a_start_that_is_not_answered_is_put_off() -> None:
    wire = Wire()
    wire.strike(Fault.NO_ANSWER, "StartExecution")
    executor = StepFunctionsExecutor(lambda: wire.tap(client("stepfunctions")), STATE_MACHINE)

    assert executor.start([SUBMISSION]) == [Retry("ReadTimeoutError")]


def test_each_job_has_its_own_result_in_order(stub: Stubber, executor: StepFunctionsExecutor) -> None:
    # given a service that takes the first and the fourth
    stub.add_response("start_execution", {"executionArn": f"{HANDLE}-1", "startDate": STARTED_AT})
    stub.add_client_error("start_execution", "ThrottlingException")
    stub.add_client_error("start_execution", "InvalidName")
    stub.add_response("start_execution", {"executionArn": f"{HANDLE}-4", "startDate": STARTED_AT})

    results = executor.start(submissions("1", "2", "3", "4"))

    retry = Retry("ThrottlingException")
    assert results == [Started(f"{HANDLE}-1"), retry, Refused(NOT_STARTED), Started(f"{HANDLE}-4")]
    assert executor.start([]) == []


def test_a_stop_says_why(stub: Stubber, executor: StepFunctionsExecutor) -> None:
    stub.add_response("stop_execution", {"stopDate": STARTED_AT}, {"executionArn": HANDLE, "cause": CANCELLED})

    executor.stop(HANDLE, CANCELLED)


def test_a_stop_of_what_there_is_not_is_no_error(stub: Stubber, executor: StepFunctionsExecutor) -> None:
    stub.add_client_error("stop_execution", "ExecutionDoesNotExist")

    executor.stop(HANDLE, CANCELLED)


@pytest.mark.parametrize("call", ["stop_execution", "describe_execution"])
def test_a_refused_stop_or_look_raises(stub: Stubber, executor: StepFunctionsExecutor, call: str) -> None:
    stub.add_client_error(call, "AccessDeniedException")

    with pytest.raises(ClientError, match="AccessDenied"):
        executor.stop(HANDLE, CANCELLED) if call == "stop_execution" else executor.look([HANDLE])


@pytest.mark.parametrize("change", CHANGES[STEP_FUNCTIONS])
def test_a_look_reads_what_the_service_says(stub: Stubber, executor: StepFunctionsExecutor, change: str) -> None:
    stub.add_response("describe_execution", described(STEP_FUNCTIONS, change), {"executionArn": HANDLE})

    assert executor.look([HANDLE]) == {HANDLE: as_read(STEP_FUNCTIONS, change)}


def test_a_look_at_what_the_service_does_not_know(stub: Stubber, executor: StepFunctionsExecutor) -> None:
    stub.add_client_error("describe_execution", "ExecutionDoesNotExist")
    stub.add_response("describe_execution", described(STEP_FUNCTIONS, "running"), {"executionArn": HANDLE})

    assert executor.look(["gone", HANDLE]) == {"gone": None, HANDLE: as_read(STEP_FUNCTIONS, "running")}


def test_a_redriven_execution_is_open(stub: Stubber, executor: StepFunctionsExecutor) -> None:
    stub.add_response("describe_execution", described(STEP_FUNCTIONS, "failed", status="PENDING_REDRIVE"))

    assert executor.look([HANDLE]) == {HANDLE: as_read(STEP_FUNCTIONS, "running")}


@pytest.mark.parametrize("change", CHANGES[STEP_FUNCTIONS])
def test_an_event_is_read_if_it_is_of_an_end(change: str) -> None:
    expected = as_read(STEP_FUNCTIONS, change)

    assert read_event(detail(change)) == (None if expected.state is ExecutionState.OPEN else expected)


@pytest.mark.parametrize("change", ["failed", "refused", "stopped", "overdue"])
def test_an_event_without_error_and_cause_is_not_complete(change: str) -> None:
    # given the event as it is documented: the cause tells more than its status
    execution = read_event(without_cause(state_change(STEP_FUNCTIONS, change))["detail"])

    assert execution is not None
    assert not execution.is_complete


@pytest.mark.parametrize("change", ["succeeded", "timed out"])
def test_an_event_whose_status_tells_all_needs_no_cause(change: str) -> None:
    execution = read_event(without_cause(state_change(STEP_FUNCTIONS, change))["detail"])

    assert execution == as_read(STEP_FUNCTIONS, change)


def test_an_event_that_does_not_say_whether_it_has_the_output_has_it() -> None:
    # given the event as it was documented before there was a way to say so
    execution = read_event(detail("succeeded", outputDetails=None))

    assert execution == as_read(STEP_FUNCTIONS, "succeeded")


def test_an_event_whose_output_was_left_out_is_not_complete() -> None:
    execution = read_event(detail("succeeded", output=None, outputDetails={"included": False}))

    assert execution is not None
    assert execution.result is None
    assert not execution.is_complete


@pytest.mark.parametrize(
    "members",
    [
        {"input": "{}"},
        {"input": "[]"},
        {"input": "not JSON"},
        {"input": None, "inputDetails": {"included": False}},
        {"input": json.dumps({"owner": KEY.owner, "jobId": KEY.job_id, "startToken": 1})},
        {"name": "a-copy-by-hand"},
    ],
)
def test_an_execution_that_we_did_not_start_is_none_of_ours(members: dict[str, Any]) -> None:
    assert read_event(detail("succeeded", **members)) is None


@pytest.mark.parametrize(
    "text",
    [None, "", "{}", "[1]", output(RESULT)[:-1], output(replace(RESULT, size="1"))],  # type: ignore[arg-type]
)
def test_a_workflow_without_a_result_has_none(text: str | None) -> None:
    execution = read_event(detail("succeeded", output=text))

    assert execution is not None
    assert (execution.state, execution.result) == (ExecutionState.SUCCEEDED, None)


def refusal(code: Any, message: Any) -> str:
    return lambda_cause(json.dumps({"code": code, "message": message}), "WorkRefused")


@given(st.text(), st.text())
def test_a_refusal_is_the_workloads_own_words(code: str, message: str) -> None:
    execution = read_event(detail("refused", cause=refusal(code, message)))

    assert execution is not None
    assert execution.error == JobError(code, message)


@given(st.text(), st.one_of(st.text(), st.builds(refusal, st.text(), st.text())))
def test_no_other_errors_cause_reaches_a_client(error: str, cause: str) -> None:
    execution = read_event(detail("failed", error=error, cause=cause))

    assert execution is not None
    assert execution.error is None


@given(st.one_of(st.text(), st.builds(refusal, st.integers(), st.text()), st.just(refusal("A", "b")[:-3])))
def test_no_other_cause_of_a_refusal_reaches_a_client(cause: str) -> None:
    execution = read_event(detail("refused", cause=cause))

    assert execution is not None
    assert execution.error is None
