"""Bodies: what the schema refuses reaches no queue; the rest arrives byte for byte and injects nothing.

The processor is stopped meanwhile, so what the gateway put into the request queue stays there to be looked at.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from stage.answers import assert_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("stage")

INJECTION = "&MessageAttribute.1.Name=owner&MessageAttribute.1.Value.DataType=String&MessageAttribute.1.Value."


@pytest.fixture(scope="module", autouse=True)
def paused(stage: RunningStage) -> Iterator[None]:
    stage.drained()
    with stage.paused():
        yield


@pytest.fixture(autouse=True)
def empty_queue(stage: RunningStage) -> None:
    """Begin with an empty queue, also after a test that failed."""
    url = stage.description.queues.request.url
    if stage.depth(url):
        stage.client("sqs").purge_queue(QueueUrl=url)


REFUSED = {
    "not-json": b"not JSON",
    "cut-off": b'{"jobType": "weather-report"',
    "two-documents": b"{}{}",
    "trailing-comma": b'{"parameters": {},}',
    "single-quotes": b"{'parameters': {}}",
    "not-a-number": b'{"parameters": {"records": NaN}}',
    "blank": b"   ",
    "array": b"[]",
    "array-of-one": b"[{}]",
    "string": b'"weather-report"',
    "null": b"null",
    "number": b"42",
    "true": b"true",
    "form": b"jobType=weather-report",
    "unknown-member": b'{"owner": "ben"}',
    "member-of-other-case": b'{"JobType": "weather-report"}',
    "parameters-null": b'{"parameters": null}',
    "parameters-array": b'{"parameters": []}',
    "parameters-string": b'{"parameters": "records=1"}',
    "type-unknown": b'{"jobType": "tea"}',
    "type-empty": b'{"jobType": ""}',
    "type-null": b'{"jobType": null}',
    "type-of-other-case": b'{"jobType": "Weather-Report"}',
    "token-empty": b'{"clientToken": ""}',
    "token-null": b'{"clientToken": null}',
    "token-number": b'{"clientToken": 1234567890123456}',
    "token-too-short": b'{"clientToken": "fifteen-letters"}',
    "token-too-long": b'{"clientToken": "' + b"x" * 65 + b'"}',
    "token-with-underscore": b'{"clientToken": "sixteen_letters_"}',
    "token-with-slash": b'{"clientToken": "../sixteen/letter"}',
    "token-with-line-break": b'{"clientToken": "sixteen-letters-\\n"}',
    "token-with-attribute": b'{"clientToken": "sixteen-letters-&MessageGroupId=ben"}',
    "token-with-other-digits": '{"clientToken": "sixteen-letters-\u0663"}'.encode(),
    "records-0": b'{"parameters": {"records": 0}}',
    "records-negative": b'{"parameters": {"records": -1}}',
    "records-10001": b'{"parameters": {"records": 10001}}',
    "records-string": b'{"parameters": {"records": "5"}}',
    "records-1.5": b'{"parameters": {"records": 1.5}}',
    "records-true": b'{"parameters": {"records": true}}',
    "records-null": b'{"parameters": {"records": null}}',
    "format-xml": b'{"parameters": {"format": "xml"}}',
    "format-of-other-case": b'{"parameters": {"format": "JSON"}}',
    "station-empty": b'{"parameters": {"station": ""}}',
    "station-too-long": b'{"parameters": {"station": "' + b"x" * 101 + b'"}}',
    "station-number": b'{"parameters": {"station": 1}}',
    "seed-too-large": b'{"parameters": {"seed": 9007199254740992}}',
}


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in REFUSED.items()])
def test_what_the_schema_refuses_is_a_400_and_reaches_no_queue(
    stage: RunningStage, ann: Person, body: bytes
) -> None:
    # Given the job table as it is
    rows = stage.rows()

    # When the body is submitted, then it is refused, and what it may have is told
    told = assert_problem(ann.post(body), 400, "invalid-body", stage)
    assert "records (an integer from 1 to 10000)" in told["detail"]

    # And no queue has it, nor has the table
    assert [stage.depth(url) for url in stage.queue_urls] == [0, 0, 0, 0]
    assert stage.rows() == rows


def note(text: str) -> bytes:
    """Put a text where the gateway takes any, unescaped as far as JSON allows."""
    return json.dumps({"parameters": {"note": text}}, ensure_ascii=False).encode()


ACCEPTED = {
    "empty": b"{}",
    "spaces-and-line-breaks": b' {\r\n\t"parameters" : { "records" : 5 } }\n',
    "ampersand": note("a&b"),
    "equals": note("a=b"),
    "percent": note("100% %41 %%"),
    "plus": note("1+1 = 2"),
    "quotes": note("\"double\" and 'single'"),
    "backslash": note("C:\\temp\\new"),
    "line-break": note("one\ntwo\r\nthree"),
    "tab": note("one\ttwo"),
    "raw-escapes": b'{"parameters": {"note": "\\u0041\\/\\b\\f\\u0000"}}',
    "emoji": note("\N{SUN BEHIND CLOUD} \N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}"),
    "other-scripts": note("Reykjav\xedk \u6771\u4eac \u0627\u0644\u0642\u0627\u0647\u0631\u0629"),
    "line-separator": note("one\u2028two\u2029three"),
    "velocity": note("$context.accountId #set($x = 1) ${x} $input.body ## #if(true)"),
    "semicolon-and-hash": note("a;b#c?d"),
    "attribute": note(f"{INJECTION}StringValue=ben"),
    "attribute-on-a-new-line": note(f"\n{INJECTION}StringValue=ben\n"),
    "attribute-in-a-key": json.dumps({"parameters": {f"{INJECTION}StringValue=ben": 1}}).encode(),
    "group": note("&MessageGroupId=ben&DelaySeconds=900&QueueUrl=https://elsewhere"),
    "action": note("&Action=DeleteQueue"),
    "markup": note("</MessageBody><script>alert(1)</script> &amp; <!--"),
    "numbers": b'{"parameters": {"note": [1e400, -0.0, 12345678901234567890, 1.10]}}',
    "repeated-member": b'{"parameters": {"note": 1, "note": 2}}',
    "200-kilobytes": note("All work and no play. " * 9_100),
    "200-kilobytes-of-ampersands": note("&" * 200_000),
    "one-mebibyte-less-one-kibibyte": note("x" * (1_048_576 - 1_024)),
}


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in ACCEPTED.items()])
def test_a_body_arrives_byte_for_byte_and_injects_nothing(stage: RunningStage, ann: Person, body: bytes) -> None:
    # When the body is submitted
    before_ms = time.time_ns() // 1_000_000
    answer = ann.post(body)
    assert answer.status_code == 202, answer.text
    message = stage.take_request()

    # Then the message is this body
    assert message["Body"].encode() == body

    # And its attributes are the gateway's four, its group the caller
    attributes = message["MessageAttributes"]
    assert attributes.keys() == {"owner", "jobId", "submittedAt", "requestId"}
    assert attributes["owner"] == {"StringValue": ann.sub, "DataType": "String"}
    assert attributes["jobId"] == {"StringValue": answer.json()["jobId"], "DataType": "String"}
    assert attributes["requestId"] == {"StringValue": answer.headers["x-amzn-RequestId"], "DataType": "String"}
    assert attributes["submittedAt"]["DataType"] == "Number"
    assert before_ms <= int(attributes["submittedAt"]["StringValue"]) <= time.time_ns() // 1_000_000
    assert message["Attributes"]["MessageGroupId"] == ann.sub

    # And it is the only one
    assert stage.depth(stage.description.queues.request.url) == 0


@pytest.mark.parametrize("header", ["owner", "X-Owner", "MessageGroupId", "X-Amzn-Authorizer-Owner"])
def test_a_header_cannot_name_another_owner(stage: RunningStage, ann: Person, ben: Person, header: str) -> None:
    # When a client says that it is another
    assert ann.post(b"{}", **{header: ben.sub}).status_code == 202

    # Then the owner is still who has signed in
    message = stage.take_request()
    assert message["MessageAttributes"]["owner"]["StringValue"] == ann.sub
    assert message["Attributes"]["MessageGroupId"] == ann.sub


def test_a_query_cannot_add_to_the_message(stage: RunningStage, ann: Person, ben: Person) -> None:
    # When a client puts message parameters into the address
    query = {"MessageAttribute.1.Name": "owner", "MessageGroupId": ben.sub, "owner": ben.sub}
    headers = {"Authorization": ann.id_token}
    assert ann.http.post(f"{ann.api_url}/submit-job", params=query, json={}, headers=headers).status_code == 202

    # Then the message is as ever
    message = stage.take_request()
    assert message["MessageAttributes"]["owner"]["StringValue"] == ann.sub
    assert message["Attributes"]["MessageGroupId"] == ann.sub
