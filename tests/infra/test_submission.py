"""The submission's integration: what reaches SQS, and what the client is told.

Templates are rendered by the local stage's Velocity, which `tests/stage/conformance` holds against AWS's.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest
from sluice_harness.compat.gateway import template_objects, velocity

if TYPE_CHECKING:
    from infra.assemblies import Assembly, Properties

pytestmark = pytest.mark.xdist_group("infra")

TOKEN = "0123456789abcdef"
OF_TOKEN = f'{{"clientToken": "{TOKEN}"}}'
HOSTILE = '{"parameters": {"station": "a&MessageAttribute.1.Value.StringValue=admin&b=é+%26\\n=;#$x"}}'


# It may be applied once only in a process.
fit_velocity = functools.cache(velocity.apply)


@dataclass
class Exchange:
    """What the gateway knows of a request."""

    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, list[str]] = field(default_factory=dict)
    path_params: dict[str, str] = field(default_factory=dict)
    context: dict[str, Any] = field(
        default_factory=lambda: {
            "requestId": "5b1d8a6e-0000-4000-8000-000000000000",
            "extendedRequestId": "JKJaXmPLvHcESHA=",
            "requestTimeEpoch": 1_700_000_000_123,
            "path": "/dev/submit-job",
            "domainName": "api.example",
            "xrayTraceId": "Root=1-5759e988-bd862e3fe1be46a994272793",
            "authorizer": {"owner": "owner-1", "ownerTag": "tag1"},
            "requestOverride": {"path": {}, "header": {}, "querystring": {}},
            "responseOverride": {"header": {}},
        }
    )

    def render(self, template: str, payload: str) -> str:
        fit_velocity()
        names = {"context": self.context, "input": template_objects.Input(self, payload)}  # type: ignore[arg-type]
        return velocity.render(template, {**names, "util": template_objects.UTIL, "stageVariables": {}})


@pytest.fixture
def integration(assembly: Assembly) -> Properties:
    found = assembly.submit_method["Integration"]
    assert isinstance(found, dict)
    return found


@pytest.fixture
def request_template(integration: Properties) -> str:
    (template,) = integration["RequestTemplates"].values()
    return str(template)


def response(integration: Properties, status: str) -> Properties:
    (found,) = [each for each in integration["IntegrationResponses"] if each["StatusCode"] == status]
    assert isinstance(found, dict)
    return found


def message(sent: str) -> dict[str, str]:
    """The parameters that SQS reads, none of which may come twice."""
    pairs = parse_qsl(sent, keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def test_only_mapped_content_types_pass(integration: Properties) -> None:
    assert integration["Type"] == "AWS"
    assert integration["PassthroughBehavior"] == "NEVER"
    assert list(integration["RequestTemplates"]) == ["application/json"]


def test_sqs_is_spoken_to_in_its_query_protocol(integration: Properties) -> None:
    content_type = integration["RequestParameters"]["integration.request.header.Content-Type"]
    assert content_type == "'application/x-www-form-urlencoded'"
    assert integration["IntegrationHttpMethod"] == "POST"


def test_whatever_is_not_listed_is_a_failure(integration: Properties) -> None:
    # given that a response without a pattern catches every status, success included
    defaults = [each for each in integration["IntegrationResponses"] if not each.get("SelectionPattern")]

    # then there is one, and it is a 5xx
    assert [each["StatusCode"][0] for each in defaults] == ["5"]


def test_only_success_is_accepted(integration: Properties) -> None:
    patterns = {each["StatusCode"]: each.get("SelectionPattern") for each in integration["IntegrationResponses"]}
    assert patterns["202"] == r"2\d{2}"
    assert [status for status, pattern in patterns.items() if pattern and re.fullmatch(pattern, "403")] == []


def test_every_value_is_encoded_or_the_gateways_own(request_template: str) -> None:
    # given the parameters that the template writes, directives aside
    parameters = re.sub(r"#(set|if)\(.*?\)(?=#|Action|&Message)|#(else|end)", "", request_template)
    values = [value for _, value in (pair.split("=", 1) for pair in parameters.split("&"))]

    # then each is a constant, encoded, or the number that the gateway took the time as
    assert len(values) > 10
    for value in values:
        assert re.fullmatch(r"\w+|\$util\.urlEncode\(\$[\w.]+\)|\$context\.requestTimeEpoch", value), value


def test_owner_and_time_are_the_gateways_word(request_template: str) -> None:
    # given a body that names another owner and another time
    exchange = Exchange(headers={"owner": "admin", "submittedAt": "1"})
    body = '{"owner": "admin", "submittedAt": 1}'

    # when the message is written
    sent = message(exchange.render(request_template, body))

    # then its attributes are those of the token and of the request
    attributes = {
        sent[f"MessageAttribute.{n}.Name"]: sent[f"MessageAttribute.{n}.Value.StringValue"] for n in (1, 2, 3, 4)
    }
    assert attributes["owner"] == sent["MessageGroupId"] == "owner-1"
    assert attributes["submittedAt"] == "1700000000123"
    assert attributes["requestId"] == "5b1d8a6e-0000-4000-8000-000000000000"
    assert "MessageAttribute.5.Name" not in sent


@pytest.mark.parametrize("body", [HOSTILE, '{"parameters": {}}', '{\n "parameters":\r\n {}\n}', OF_TOKEN])
def test_a_body_reaches_the_queue_as_it_came_and_adds_nothing(request_template: str, body: str) -> None:
    # given a plain submission's parameters
    plain = message(Exchange().render(request_template, "{}"))

    # when any body is written
    sent = message(Exchange().render(request_template, body))

    # then the message has the same parameters, and the body in one of them
    assert sent["MessageBody"] == body
    assert set(sent) == set(plain)
    assert sent["Action"] == "SendMessage"


def test_an_owner_with_reserved_characters_stays_one_value(request_template: str) -> None:
    exchange = Exchange()
    exchange.context["authorizer"]["owner"] = "a&MessageAttribute.1.Name=x"
    sent = message(exchange.render(request_template, "{}"))
    assert sent["MessageAttribute.1.Value.StringValue"] == "a&MessageAttribute.1.Name=x"


@pytest.mark.parametrize("body", [HOSTILE, "{}", "{\n}", OF_TOKEN])
def test_no_line_break_comes_between_parameters(request_template: str, body: str) -> None:
    exchange = Exchange()
    assert not re.search(r"\s", exchange.render(request_template, body))


def test_the_trace_s_header_is_not_overridden(request_template: str) -> None:
    # given SQS, which takes the call's own trace header unless an attribute says otherwise
    # then none does: no variable of the template's knows whether the request is sampled
    assert "SystemAttribute" not in Exchange().render(request_template, "{}")


def test_an_empty_body_is_an_empty_submission(request_template: str) -> None:
    assert message(Exchange().render(request_template, ""))["MessageBody"] == "{}"


def test_a_client_token_is_the_jobs_id(request_template: str) -> None:
    sent = message(Exchange().render(request_template, OF_TOKEN))
    assert sent["MessageAttribute.2.Value.StringValue"] == TOKEN


def test_without_a_token_the_id_starts_with_the_time(request_template: str) -> None:
    sent = message(Exchange().render(request_template, "{}"))
    assert sent["MessageAttribute.2.Value.StringValue"].startswith("1700000000123-5b1d8a6e-")


def test_the_client_is_told_where_to_ask(integration: Properties, request_template: str) -> None:
    # given a request that SQS has taken
    exchange = Exchange()
    exchange.render(request_template, OF_TOKEN)
    accepted = response(integration, "202")

    # when the answer is written
    (template,) = accepted["ResponseTemplates"].values()
    body = json.loads(exchange.render(template, '{"SendMessageResponse": {}}'))

    # then it names the job and its status page, below the stage's own path
    path = f"/dev/job-status/{TOKEN}"
    assert body == {"jobId": TOKEN, "status": "SUBMITTED", "statusUrl": f"https://api.example{path}"}
    assert exchange.context["responseOverride"]["header"] == {"Location": path}
    assert accepted["ResponseParameters"]["method.response.header.Retry-After"] == "'1'"


SQS_REFUSALS = {
    "One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes.": 413,
    "InvalidMessageContents": 400,
    "User: arn:aws:sts::123456789012:assumed-role/x is not authorized to perform: sqs:sendmessage": 503,
    "": 503,
}


@pytest.mark.parametrize(("words", "status"), SQS_REFUSALS.items())
def test_a_refusal_of_sqs_is_a_problem_in_our_words(integration: Properties, words: str, status: int) -> None:
    # given SQS's words on why it did not take the message
    exchange = Exchange()
    refused = response(integration, "503")

    # when the answer is written
    (template,) = refused["ResponseTemplates"].values()
    text = exchange.render(template, json.dumps({"Error": {"Message": words}}))

    # then it is a problem of the status that the client gets, and says nothing of SQS's own
    problem = json.loads(text)
    assert problem["status"] == exchange.context["responseOverride"].get("status", 503) == status
    assert problem["requestId"] == exchange.context["extendedRequestId"]
    assert refused["ResponseParameters"]["method.response.header.Content-Type"] == "'application/problem+json'"
    assert "arn:" not in text
