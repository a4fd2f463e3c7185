from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from sluice_core.requests import (
    InvalidRequest,
    MalformedMessage,
    SubmissionParser,
    request_schema,
    schema_in_words,
)
from sluice_core.workloads import DEFAULT_WORKLOADS, WorkResult, load_workloads
from unit.lambda_events import ANN, request_record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from threading import Event

    from sluice_core.jobs import Submission

NOW = 1_790_000_000_000
TOKEN = "my-client-token-0001"
SECRET = "hunter2-secret"


class Copy:
    parameters_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"lines": {"type": "integer"}},
        "required": ["lines"],
        "additionalProperties": False,
    }

    def run(self, job_id: str, parameters: Mapping[str, Any], stop: Event) -> WorkResult:
        return WorkResult(f"{job_id} {dict(parameters)} {stop}".encode(), "text/plain", "txt")


WEATHER = load_workloads(DEFAULT_WORKLOADS)
BOTH = {**WEATHER, "copy": Copy()}
ONLY_COPY = {"copy": Copy()}


def parse(body: Any, workloads: Any = WEATHER) -> Submission:
    return SubmissionParser(workloads).parse(request_record(TOKEN, body))


def refusal(body: Any, workloads: Any = WEATHER) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(body, workloads)
    return caught.value


def test_a_whole_request() -> None:
    body = {"jobType": "weather-report", "parameters": {"records": 3, "station": "Åre"}, "clientToken": TOKEN}

    submission = parse(body)

    assert (submission.key.owner, submission.key.job_id) == (ANN, TOKEN)
    assert submission.job_type == "weather-report"
    assert submission.parameters == {"records": 3, "station": "Åre"}
    assert submission.submitted_at == NOW
    assert submission.request_id == "request-1"


def test_the_request_s_id_is_no_part_of_what_was_asked_for() -> None:
    first, second = (
        SubmissionParser(WEATHER).parse(request_record(TOKEN, {}, request_id=request_id)) for request_id in "ab"
    )

    assert (first.request_id, second.request_id) == ("a", "b")
    assert first.digest == second.digest


def test_a_request_of_a_gateway_that_names_no_id_is_taken_all_the_same() -> None:
    record = request_record(TOKEN, {})
    del record["messageAttributes"]["requestId"]

    assert SubmissionParser(WEATHER).parse(record).request_id == ""


@pytest.mark.parametrize("body", [{}, {"parameters": {}}, {"jobType": "weather-report"}, {"clientToken": TOKEN}])
def test_every_member_may_be_left_out(body: dict[str, Any]) -> None:
    submission = parse(body)

    assert (submission.job_type, submission.parameters) == ("weather-report", {})


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (f'{{"parameters": {SECRET}}}', "not JSON"),
        ("9" * 5000, "not JSON"),
        ("null", "data breaks the rule 'type'"),
        ("7", "data breaks the rule 'type'"),
        ([SECRET], "data breaks the rule 'type'"),
        ({SECRET: 1}, "data breaks the rule 'additionalProperties'"),
        ({"jobType": SECRET}, "data.jobType breaks the rule 'enum'"),
        ({"jobType": 5}, "data.jobType breaks the rule 'type'"),
        ({"jobType": None}, "data.jobType breaks the rule 'type'"),
        ({"parameters": [SECRET]}, "data.parameters breaks the rule 'type'"),
        ({"parameters": {"records": SECRET}}, "data.parameters.records breaks the rule 'type'"),
        ({"parameters": {"records": 0}}, "data.parameters.records breaks the rule 'minimum'"),
        ({"parameters": {"records": 10_001}}, "data.parameters.records breaks the rule 'maximum'"),
        ({"parameters": {"records": float("nan")}}, "the body is not JSON"),
        ({"parameters": {"format": SECRET}}, "data.parameters.format breaks the rule 'enum'"),
        ({"clientToken": "too-short"}, "data.clientToken breaks the rule 'pattern'"),
        ({"clientToken": "x" * 65}, "data.clientToken breaks the rule 'pattern'"),
        ({"clientToken": "under_scored_token_1"}, "data.clientToken breaks the rule 'pattern'"),
        ({"clientToken": f"{TOKEN}\n"}, "data.clientToken breaks the rule 'pattern'"),
        ({"clientToken": 1234567890123456}, "data.clientToken breaks the rule 'type'"),
    ],
)
def test_a_refusal_names_the_rule_and_never_the_value(body: Any, complaint: str) -> None:
    refused = refusal(body)

    assert complaint in str(refused)
    assert SECRET not in str(refused)
    # What is left is enough to record the failure, without the payload
    assert (refused.submission.key.owner, refused.submission.key.job_id) == (ANN, TOKEN)
    assert refused.submission.submitted_at == NOW
    assert refused.submission.request_id == "request-1"
    assert refused.submission.job_type == "weather-report"
    assert refused.submission.parameters == {}


@pytest.mark.parametrize("depth", [101, 900, 200_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_bottomless_nesting_is_a_refusal_and_not_a_crash(depth: int, opening: str, closing: str) -> None:
    # Python's recursion limit would otherwise be hit here or later, and fail every message of the batch
    nested = opening * depth + "1" + closing * depth

    refused = refusal(f'{{"parameters": {{"a": {nested}}}}}')

    assert str(refused) == "the body is nested deeper than 100 levels"


def test_reasonable_nesting_passes() -> None:
    nested = "[" * 98 + "1" + "]" * 98  # two levels more are the body and its parameters

    assert parse(f'{{"parameters": {{"a": {nested}}}}}').digest


@pytest.mark.parametrize(
    ("body", "job_type"),
    [
        ({}, "weather-report"),
        ({"parameters": {"records": 5}}, "weather-report"),
        ({"jobType": "weather-report", "parameters": {"records": 5}}, "weather-report"),
        ({"jobType": "copy", "parameters": {"lines": 5}}, "copy"),
    ],
)
def test_of_several_workloads_each_has_its_own_parameters(body: Any, job_type: str) -> None:
    assert parse(body, BOTH).job_type == job_type


@pytest.mark.parametrize(
    "body",
    [
        {"jobType": "copy", "parameters": {"records": 5}},
        {"jobType": "copy", "parameters": {"lines": SECRET}},
        {"jobType": "copy", "parameters": {"lines": 1, SECRET: 1}},
        {"jobType": "weather-report", "parameters": {"records": SECRET}},
        {"parameters": {"records": SECRET}},
        {"jobType": "paste"},
        {"jobType": "copy", SECRET: 1},
    ],
)
def test_of_several_workloads_none_takes_another_s_parameters(body: Any) -> None:
    assert SECRET not in str(refusal(body, BOTH))


def test_where_none_is_the_default_the_job_type_must_be_named() -> None:
    neither = {"copy": Copy(), "paste": Copy()}

    assert parse({"jobType": "paste", "parameters": {"lines": 1}}, neither).job_type == "paste"
    refusal({}, neither)


def test_the_only_workload_there_is_needs_no_name() -> None:
    # Given a stage whose weather report was replaced
    assert parse({"parameters": {"lines": 1}}, ONLY_COPY).job_type == "copy"
    assert refusal({"parameters": {}}, ONLY_COPY).submission.job_type == "copy"


@pytest.mark.parametrize("workloads", [BOTH, ONLY_COPY, {"copy": Copy(), "paste": Copy()}])
def test_parameters_that_a_workload_demands_cannot_be_left_out(workloads: Any) -> None:
    # Given a workload that could only fail without them, and would do so as often as there are tries
    refusal({"jobType": "copy"}, workloads)
    refusal({"jobType": "copy", "parameters": {}}, workloads)

    # Then one with them is taken
    assert parse({"jobType": "copy", "parameters": {"lines": 1}}, workloads).parameters == {"lines": 1}


def test_the_schema_in_words_has_every_member_and_what_it_may_be() -> None:
    # given two types with the same parameters, and one whose schema describes none
    told = schema_in_words({**BOTH, "weather-task": WEATHER["weather-report"]})

    # then all are told, and what is the same but once
    assert "jobType (copy, weather-report, weather-task), clientToken (16 to 64 letters" in told
    assert "those of copy are lines; those of weather-report and weather-task are station (" in told
    properties = WEATHER["weather-report"].parameters_schema["properties"]
    assert [name for name, one in properties.items() if f"{name} ({one['description']})" not in told] == []


@pytest.mark.parametrize("workloads", [WEATHER, BOTH, ONLY_COPY])
def test_the_schema_is_plain_json_that_the_gateway_accepts(workloads: Any) -> None:
    schema = request_schema(workloads)

    assert json.loads(json.dumps(schema)) == schema
    assert schema["$schema"] == "http://json-schema.org/draft-04/schema#"
    assert "$ref" not in json.dumps(schema).replace("$schema", "")
    assert "\n" not in schema["title"]


@pytest.mark.parametrize("missing", ["owner", "jobId", "submittedAt"])
def test_a_message_without_the_gateway_s_attributes_is_malformed(missing: str) -> None:
    record = request_record(TOKEN, {})
    del record["messageAttributes"][missing]

    with pytest.raises(MalformedMessage):
        SubmissionParser(WEATHER).parse(record)


@pytest.mark.parametrize("value", [{"binaryValue": "AA=="}, {"stringValue": "soon"}, {"stringValue": None}, None])
def test_a_message_with_a_wrong_attribute_is_malformed(value: Any) -> None:
    record = request_record(TOKEN, {})
    record["messageAttributes"]["submittedAt"] = value

    with pytest.raises(MalformedMessage):
        SubmissionParser(WEATHER).parse(record)


def test_the_body_cannot_say_whose_job_it_is() -> None:
    refused = refusal({"owner": "someone-else"})

    assert refused.submission.key.owner == ANN


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_only_python_takes_for_a_number_is_not_json(number: str) -> None:
    with pytest.raises(InvalidRequest, match="the body is not JSON"):
        SubmissionParser(WEATHER).parse(request_record("a-job", f'{{"parameters": {{"workSeconds": {number}}}}}'))
