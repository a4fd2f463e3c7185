"""`docs/openapi.yaml` itself: its schemas, its examples, and how an answer that differs from it is seen."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from deployed.documented import complaints, openapi
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from sluice_core import problems
from sluice_core.jobs import CLIENT_TOKEN_PATTERN, JobStatus
from sluice_core.problems import Problem
from sluice_core.requests import request_schema
from sluice_core.weather import WeatherReport
from sluice_core.workloads import DEFAULT_WORKLOADS, load_workloads
from sluice_harness.openapi import examples
from sluice_harness.openapi.schemas import of_draft_4, portable

if TYPE_CHECKING:
    from collections.abc import Iterator

API = "https://example.com/prod"
COMPONENTS = openapi()["components"]


def contents(part: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema with examples in the document, by its place."""
    if isinstance(part, dict):
        if "schema" in part and ("examples" in part or "example" in part):
            yield path, part
        for name, inner in part.items():
            yield from contents(inner, f"{path}/{name}")


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": COMPONENTS})


# The document


def test_it_is_openapi_3_1() -> None:
    # Not among the imports above, which each worker makes: it takes more than a second.
    definitions = importlib.import_module("schemathesis.specs.openapi.definitions")
    said = [error.message for error in Draft202012Validator(definitions.OPENAPI_31).iter_errors(openapi())]
    assert said == []


def test_every_schema_is_one_of_2020_12() -> None:
    for schema in COMPONENTS["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_example_keeps_to_its_schema() -> None:
    found = dict(contents(openapi()))
    assert len(found) > 20
    for path, part in found.items():
        shown = part.get("examples", {"example": {"value": part.get("example")}})
        assert shown, path
        for name, example in shown.items():
            assert [error.message for error in validator(part["schema"]).iter_errors(example["value"])] == [], (
                path,
                name,
            )


def test_there_is_an_example_of_every_job_type_status_and_problem() -> None:
    operations = openapi()["paths"]
    submit = operations["/submit-job"]["post"]["requestBody"]["content"]["application/json"]
    job_types = COMPONENTS["schemas"]["Submission"]["properties"]["jobType"]["enum"]
    assert set(job_types) <= {example["value"].get("jobType") for example in submit["examples"].values()}
    job = operations["/job-status/{job-id}"]["get"]["responses"]["200"]["content"]["application/json"]
    assert set(JobStatus) <= {example["value"]["status"] for example in job["examples"].values()}
    text = json.dumps(openapi())
    unshown = {
        problem.name
        for problem in vars(problems).values()
        if isinstance(problem, Problem) and f'"{problem.name}": {{"value"' not in text
    }
    assert unshown == {"bad-request"}  # the gateway's default, for what it has no name for


def test_there_is_an_example_of_the_weather_in_every_format() -> None:
    reports = examples.submissions(request_schema(load_workloads(DEFAULT_WORKLOADS))).values()
    shown = {report["value"].get("parameters", {}).get("format") for report in reports}
    assert set(WeatherReport.parameters_schema["properties"]["format"]["enum"]) <= shown


def test_a_stage_with_other_work_is_shown_nothing_that_it_refuses() -> None:
    # Given stages whose jobs are not the weather, and whose parameters may be demanded
    free = {"properties": {"jobType": {"enum": ["invoice"]}}}
    strict = {**free, "required": ["parameters"]}

    # Then the weather's examples are left out, and so are those without parameters
    assert examples.submissions(free).keys() == {"defaults", "repeatable"}
    assert examples.submissions(strict) == {}


# Draft 4 in 2020-12


def test_a_schema_of_draft_4_is_said_in_2020_12() -> None:
    # Given what the two say differently, and members that are called like it
    older = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "id": "urn:sluice:test",
        "type": "object",
        "properties": {
            "minimum": {"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 9},
            "maximum": {"type": "number", "maximum": 9, "exclusiveMaximum": True, "exclusiveMinimum": False},
            "pattern": {"type": "string", "pattern": CLIENT_TOKEN_PATTERN},
            "id": {"enum": [{"id": 1}]},
        },
        "anyOf": [{"required": ["id"]}, {"properties": {"minimum": {"minimum": 5, "exclusiveMinimum": True}}}],
    }

    # Then only that is changed
    assert of_draft_4(older) == {
        "$id": "urn:sluice:test",
        "type": "object",
        "properties": {
            "minimum": {"type": "number", "exclusiveMinimum": 0, "maximum": 9},
            "maximum": {"type": "number", "exclusiveMaximum": 9},
            "pattern": {"type": "string", "pattern": "^[A-Za-z0-9-]{16,64}$"},
            "id": {"enum": [{"id": 1}]},
        },
        "anyOf": [{"required": ["id"]}, {"properties": {"minimum": {"exclusiveMinimum": 5}}}],
    }


def test_what_is_not_translated_is_named() -> None:
    with pytest.raises(ValueError, match="dependencies of draft 4"):
        of_draft_4({"properties": {"a": {"dependencies": {"b": ["c"]}}}})


def test_no_pattern_has_what_other_dialects_lack() -> None:
    assert portable(CLIENT_TOKEN_PATTERN) != CLIENT_TOKEN_PATTERN
    assert "(?" not in json.dumps(COMPONENTS["schemas"])


# An answer that is not as it was promised


def answer(status: int, body: dict[str, Any], **headers: str) -> httpx.Response:
    """An answer to the question where a job stands, right but for what is given."""
    every = {
        "Content-Type": "application/json" if status == 200 else problems.MEDIA_TYPE,
        "Cache-Control": "no-store",
        "x-amzn-RequestId": "an-id",
        "x-amz-apigw-id": "another",
        **headers,
    }
    sent = {name: value for name, value in every.items() if value}
    request = httpx.Request("GET", f"{API}/job-status/{examples.JOB_ID}?owner=ann")
    return httpx.Response(status, json=body, headers=sent, request=request)


RUNNING, COMPLETED = examples.job(JobStatus.RUNNING), examples.job(JobStatus.COMPLETED)
UNKNOWN = {**json.loads(problems.NOT_FOUND.body()), "requestId": "another"}
UNAUTHORIZED = {**json.loads(problems.UNAUTHORIZED.body()), "requestId": "another"}


@pytest.mark.parametrize(
    "right",
    [
        pytest.param(answer(200, RUNNING, **{"Retry-After": "1"}), id="open"),
        pytest.param(answer(200, COMPLETED), id="ended"),
        pytest.param(answer(404, UNKNOWN), id="problem"),
        pytest.param(answer(401, UNAUTHORIZED, **{"WWW-Authenticate": "Bearer"}), id="header"),
    ],
)
def test_an_answer_as_promised_is_right(right: httpx.Response) -> None:
    assert complaints(right, API, openapi()) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        pytest.param(answer(418, {}), "getJob may not answer 418", id="status"),
        pytest.param(answer(200, {**RUNNING, "owner": "ann"}), "owner", id="member-more"),
        pytest.param(
            answer(200, {**RUNNING, "result": COMPLETED["result"]}), "result", id="member-of-another-status"
        ),
        pytest.param(answer(200, {**RUNNING, "startedAt": "yesterday"}), "yesterday", id="form"),
        pytest.param(answer(200, {**COMPLETED, "result": {}}), "result", id="member-less"),
        pytest.param(answer(200, RUNNING, **{"Retry-After": "0"}), "Retry-After: $: 0", id="header-wrong"),
        pytest.param(
            answer(200, RUNNING, **{"Retry-After": "soon"}), "Retry-After: $: 'soon'", id="header-no-number"
        ),
        pytest.param(answer(200, RUNNING, **{"Cache-Control": ""}), "200 lacks Cache-Control", id="header-less"),
        pytest.param(answer(401, UNAUTHORIZED), "401 lacks WWW-Authenticate", id="header-of-a-problem"),
        pytest.param(answer(404, UNAUTHORIZED), "urn:sluice:problem:unauthorized", id="another-problem"),
        pytest.param(answer(404, {**UNKNOWN, "arn": "arn:aws"}), "arn", id="problem-says-more"),
        pytest.param(
            answer(404, UNKNOWN, **{"Content-Type": "application/json"}),
            "404 is application/json",
            id="media-type",
        ),
    ],
)
def test_an_answer_that_is_not_as_promised_is_seen(wrong: httpx.Response, said: str) -> None:
    assert said in "\n".join(complaints(wrong, API, openapi()))


def test_a_submission_without_retry_after_is_seen() -> None:
    accepted = examples.accepted()["made-id"]["value"]
    headers = {"Location": "/a", "x-amzn-RequestId": "a", "x-amz-apigw-id": "b"}
    given = httpx.Response(202, json=accepted, headers=headers, request=httpx.Request("POST", f"{API}/submit-job"))
    assert complaints(given, API, openapi()) == ["202 lacks Retry-After"]


def test_what_is_no_call_of_the_api_is_not_judged() -> None:
    nowhere = httpx.Response(404, request=httpx.Request("GET", f"{API}/nowhere"))
    assert complaints(nowhere, API, openapi()) == []
