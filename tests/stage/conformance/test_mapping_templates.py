"""Mapping templates render as API Gateway renders them, and overrides and selection patterns apply."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from stage.conformance import apis

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine


def test_context_names_the_request_as_the_client_made_it(engine: Engine) -> None:
    # given an API that answers with its $context
    names = ("requestId", "stage", "path", "resourcePath", "httpMethod", "domainName", "accountId", "apiId")
    more = ("requestTimeEpoch", "identity.sourceIp", "identity.userAgent", "extendedRequestId")
    fields = ", ".join(f'"{name}": "$context.{name}"' for name in (*names, *more))
    api = apis.deploy(engine, apis.mock("{" + fields + "}"))

    # when it is called
    response = api.post({}, headers={"User-Agent": "tester/1"})

    # then every value is this request's
    found = response.json()
    assert found["requestId"] == response.headers["x-amzn-requestid"]
    assert found["path"] == f"{api.path}/jobs/7"
    assert found["resourcePath"] == "/jobs/{id}"
    assert (found["stage"], found["httpMethod"], found["accountId"]) == ("prod", "POST", "000000000000")
    assert found["domainName"] == engine.url.removeprefix("http://")
    assert found["identity.userAgent"] == "tester/1"
    assert found["identity.sourceIp"] == "127.0.0.1"
    assert re.fullmatch(r"\d{13}", found["requestTimeEpoch"])


# Each template and what API Gateway makes of it, called with ?q=a%20b, X-One: 1 and BODY.
BODY = {"a": {"b": [1, 2]}, "t": "it's"}
OF_THE_REQUEST = {
    "$input.json('$.a')": '{"b":[1,2]}',
    "$input.json('$.no')": '""',
    "[$input.path('$.no')]": "[]",
    "$input.path('$.a.b[1]')": "2",
    "$input.path('$')": "{a={b=[1, 2]}, t=it's}",
    "$util.escapeJavaScript($input.path('$.t'))": r"it\'s",
    r"""$util.escapeJavaScript($input.path('$.t')).replaceAll("\\'","'")""": "it's",
    "#foreach($i in $input.path('$.a.b'))$i#if($foreach.hasNext),#end#end": "1,2",
    "$util.parseJson($input.body).a.b.size()": "2",
}
OF_THE_RESPONSE = {
    "[$context.authorizer.nothing$input.params('nothing')$stageVariables.nothing$context.nothing.at.all]": "[]",
    "$nobody $!nobody|": "$nobody |",
    # A name takes a hyphen, so this reads the variable "stage-x": braces end it.
    "$context.stage-x|${context.stage}-x": "|prod-x",
    "$input.params('id')|$input.params('q')|$input.params('X-ONE')": "7|a b|1",
    "$input.params().header.get('x-ONE')|$input.params().header.X-Forwarded-Proto": "1|http",
    "$input.params().path.id|$input.params().querystring.keySet()": "7|[q]",
    "$util.urlEncode('a b&c=~é/*-._')": "a+b%26c%3D%7E%C3%A9%2F*-._",
    "$util.urlDecode('a+b%26')|$util.base64Decode($util.base64Encode('é'))": "a b&|é",
    "$util.parseJson('{\"k\": true}').k": "true",
    "#if($context.stage == 'dev')d#elseif($context.stage.startsWith('p'))p#{else}e#end": "p",
    "#set($a = 'a.b.c')$a.replaceFirst('[.]', '-')|$a.split('[.]').size()|$a.substring(2,3)": "a-b.c|3|b",
    "#set($b = 'Ab')$b.toLowerCase()|$b.contains('b')|$b.matches('A')|$b.indexOf('b')": "ab|true|false|1",
    "#set($c = 'x')$c.equals('x')|$c.isEmpty()|$c.length()|$c.endsWith('y')": "true|false|1|false",
    '#set($d = \'x\')#set($e = "$d.concat(\'y\') ""z""")$e': 'xy "z"',
    "#set($f = '2024-01')$f.replaceAll('(\\d+)-(\\d+)', '$2/$1')": "01/2024",
}
CUT = "~~~~~"  # no newline: a directive swallows the one that follows it


@pytest.fixture(scope="module")
def response_texts(engine: Engine) -> dict[str, str]:
    api = apis.deploy(engine, apis.mock(CUT.join(OF_THE_RESPONSE)))
    answer = api.post(BODY, params={"q": "a b"}, headers={"X-One": "1"})
    return dict(zip(OF_THE_RESPONSE, answer.text.split(CUT), strict=True))


@pytest.fixture(scope="module")
def request_texts(engine: Engine) -> dict[str, str]:
    queue = apis.new_queue(engine)
    template = f"Action=SendMessage&MessageBody={CUT.join(OF_THE_REQUEST)}"
    apis.deploy(engine, apis.to_queue(queue, template), extra=apis.sender(queue)).post(BODY)
    (message,) = apis.received(engine, queue)
    return dict(zip(OF_THE_REQUEST, message["Body"].split(CUT), strict=True))


@pytest.mark.parametrize("template", OF_THE_RESPONSE)
def test_response_templates_render_as_in_aws(response_texts: dict[str, str], template: str) -> None:
    # given an API that answers with this template, when it is called, then the text is API Gateway's
    assert response_texts[template] == OF_THE_RESPONSE[template]


@pytest.mark.parametrize("template", OF_THE_REQUEST)
def test_request_templates_render_as_in_aws(request_texts: dict[str, str], template: str) -> None:
    # given an API that sends this template's text to a queue, when a body is posted, then it is API Gateway's
    assert request_texts[template] == OF_THE_REQUEST[template]


def test_overrides_apply_and_the_request_override_reaches_the_response(engine: Engine) -> None:
    # given a request template that keeps a value in a request override, and a response template that uses it
    request = '#set($context.requestOverride.header.X-Job = "job-$context.requestId"){"statusCode": 200}'
    response = (
        "#set($context.responseOverride.status = 202)"
        '#set($context.responseOverride.header.Location = "$context.path/$context.requestOverride.header.X-Job")'
        "#set($context.responseOverride.header['Retry-After'] = '1')"
        '{"id": "$context.requestOverride.header.X-Job"}'
    )
    api = apis.deploy(engine, apis.mock(response, request))

    # when it is called
    answer = api.post()

    # then status, headers and body come from the overrides
    job = f"job-{answer.headers['x-amzn-requestid']}"
    assert answer.status_code == 202
    assert answer.json() == {"id": job}
    assert answer.headers["location"] == f"{api.path}/jobs/7/{job}"
    assert answer.headers["retry-after"] == "1"


def test_a_second_override_of_one_parameter_is_an_error(engine: Engine) -> None:
    # given a template that overrides the status twice
    twice = "#set($context.responseOverride.status = 201)#set($context.responseOverride.status = 202)"

    # when it is called, then the gateway fails, as AWS does
    assert apis.deploy(engine, apis.mock(twice)).post().status_code == 500


def test_response_parameters_take_values_from_the_context(engine: Engine) -> None:
    # given an integration response that maps the request id to a header
    integration = apis.mock("{}")
    integration["IntegrationResponses"][0]["ResponseParameters"] = {
        "method.response.header.X-Id": "context.requestId",
        "method.response.header.X-Fixed": "'fixed'",
    }

    # when the API is called
    answer = apis.deploy(engine, integration).post()

    # then the headers hold the values
    assert answer.headers["x-id"] == answer.headers["x-amzn-requestid"]
    assert answer.headers["x-fixed"] == "fixed"


@pytest.mark.parametrize("body", ['{"a": 1}', ' {"a" :\n"&MessageAttribute.2.Name=x é~+%41"} ', "{}"])
def test_a_body_reaches_the_queue_byte_for_byte(engine: Engine, body: str) -> None:
    # given an API in front of a queue
    queue = apis.new_queue(engine)
    api = apis.deploy(engine, apis.to_queue(queue), extra=apis.sender(queue))

    # when a body is posted
    answer = api.post(body.encode())

    # then it is accepted, and the message is that body with the gateway's attributes alone
    assert answer.status_code == 202, answer.text
    (message,) = apis.received(engine, queue)
    assert message["Body"] == body
    assert message["MessageAttributes"] == {
        "requestId": {"StringValue": answer.headers["x-amzn-requestid"], "DataType": "String"}
    }


def test_an_empty_body_maps_as_an_empty_object(engine: Engine) -> None:
    # given an API in front of a queue
    queue = apis.new_queue(engine)
    api = apis.deploy(engine, apis.to_queue(queue), extra=apis.sender(queue))

    # when nothing is posted, then SQS gets an object, not an empty message that it would refuse
    assert api.post("").status_code == 202
    assert apis.received(engine, queue)[0]["Body"] == "{}"


def test_a_deleted_queue_answers_through_the_default_response(engine: Engine) -> None:
    # given an API in front of a queue that is gone
    queue = apis.unique("gone")
    api = apis.deploy(engine, apis.to_queue(queue), extra=apis.sender(queue))

    # when a job is posted
    answer = api.post("{}")

    # then the default response answers, with SQS's code
    assert answer.status_code == 500
    assert answer.json() == {"code": "AWS.SimpleQueueService.NonExistentQueue"}


def test_a_message_over_one_mebibyte_is_refused_by_sqs(engine: Engine) -> None:
    # given an API in front of a queue, which answers with SQS's error
    queue = apis.new_queue(engine)
    integration = apis.to_queue(queue)
    template = '{"text": "$input.path(\'$.Error.Message\')"}'
    integration["IntegrationResponses"].append(
        {"StatusCode": "413", "SelectionPattern": "400", "ResponseTemplates": {"application/json": template}}
    )
    api = apis.deploy(engine, integration, extra=apis.sender(queue))

    # when a body of exactly the limit and one above it are posted
    fits, too_long = api.post("x" * 1048576), api.post("x" * 1048577)

    # then only the second is refused, by the pattern on SQS's status
    assert fits.status_code == 202
    assert too_long.status_code == 413
    assert "Message must be shorter than 1048576 bytes" in too_long.json()["text"]


def test_the_query_protocol_needs_its_content_type(engine: Engine) -> None:
    # given an integration that does not say that its payload is a form
    queue = apis.new_queue(engine)
    api = apis.deploy(engine, apis.to_queue(queue, RequestParameters={}), extra=apis.sender(queue))

    # when a job is posted, then SQS does not know the operation, and nothing is queued
    assert api.post("{}").status_code == 500
    assert apis.received(engine, queue) == []


def test_the_json_protocol_works_too(engine: Engine) -> None:
    # given an integration that speaks SQS's JSON protocol
    queue = apis.new_queue(engine)
    headers = {
        "integration.request.header.Content-Type": "'application/x-amz-json-1.0'",
        "integration.request.header.X-Amz-Target": "'AmazonSQS.SendMessage'",
    }
    integration = apis.to_queue(queue, '{"QueueUrl": "x", "MessageBody": "hi"}', RequestParameters=headers)
    api = apis.deploy(engine, integration, extra=apis.sender(queue))

    # when a job is posted, then it is queued
    assert api.post("{}").status_code == 202
    assert apis.received(engine, queue)[0]["Body"] == "hi"


FUNCTION = """
def handler(event, context):
    if event["fail"]:
        raise ValueError("no such job")
    return {"got": event}
"""


def test_a_function_gets_the_template_and_is_chosen_by_its_error(engine: Engine) -> None:
    # given a Lambda integration with templates, and a response for one error message
    response = {"application/json": "$input.json('$.got.id')"}
    error = {"application/json": '{"why": "$input.path(\'$.errorMessage\')"}'}
    integration = {
        "Type": "AWS",
        "IntegrationHttpMethod": "POST",
        "Uri": apis.invocation(),
        "RequestTemplates": {
            "application/json": '{"id": "$input.params(\'id\')", "fail": $input.json(\'$.fail\')}'
        },
        "IntegrationResponses": [
            {"StatusCode": "200", "ResponseTemplates": response},
            {"StatusCode": "404", "SelectionPattern": "no such .*", "ResponseTemplates": error},
        ],
    }
    api = apis.deploy(engine, integration, extra=apis.function(FUNCTION))

    # when the function succeeds and when it fails, then the response is chosen by its error message
    assert api.post({"fail": False}).text == '"7"'
    failed = api.post({"fail": True})
    assert (failed.status_code, failed.json()) == (404, {"why": "no such job"})
