"""X-Ray as boto3 and an instrumented function see it: the daemon's port, and X-Ray's API."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from stage.conformance.apis import unique
from stage.conformance.functions import eventually
from stage.conformance.traces import (
    awaited,
    daemon_address,
    datagram,
    new_id,
    new_root,
    put,
    read,
    segment,
    send,
    summaries,
)

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine


@pytest.fixture(scope="module")
def address(engine: Engine) -> tuple[str, int]:
    return daemon_address(engine)


def test_a_segment_sent_to_the_daemon_is_found_by_its_annotation(engine: Engine, address: tuple[str, int]) -> None:
    # given a function's segment, when it is sent as the X-Ray SDK sends it
    root, job = new_root(), unique("job")
    sent = segment(root, annotations={"jobId": job, "attempt": 2})
    send(address, datagram(sent))

    # then X-Ray finds the trace by it
    (summary,) = eventually(lambda: summaries(engine, f'annotation.jobId = "{job}"'))
    assert summary["Id"] == root
    assert summary["Duration"] == summary["ResponseTime"] == pytest.approx(1, abs=0.01)
    assert summary["Annotations"]["jobId"][0]["AnnotationValue"] == {"StringValue": job}
    assert summary["Annotations"]["attempt"][0]["AnnotationValue"] == {"NumberValue": 2.0}
    assert summary["EntryPoint"]["Name"] == "worker"
    assert (summary["HasFault"], summary["HasError"], summary["IsPartial"]) == (False, False, False)

    # and gives it out as it was sent
    assert read(engine, root) == [sent]


def test_what_the_daemon_cannot_read_does_no_harm(engine: Engine, address: tuple[str, int]) -> None:
    # given datagrams of another protocol, without a document, and too large, when a good one follows
    root = new_root()
    huge = datagram(segment(new_root(), metadata={"x": "y" * 65_200}))
    bad = [b"", b"\xff\xfe", b"{}\n{}", b'{"format": "json", "version": 1}\n', huge[:65_500]]
    send(address, *bad, datagram(segment(root)))

    # then that one arrives
    awaited(engine, root)


def test_a_subsegment_sent_by_itself_is_put_where_it_belongs(engine: Engine) -> None:
    # given a segment with a subsegment, and one below that which is sent by itself, before them
    root = new_root()
    inner = {"id": new_id(), "name": "DynamoDB", "start_time": time.time() - 1, "end_time": time.time()}
    whole = segment(root, subsegments=[inner])
    late = segment(root, "PutItem", type="subsegment", parent_id=inner["id"])
    orphan = segment(root, "orphan", type="subsegment", parent_id=new_id())
    assert put(engine, late, whole, orphan) == []

    # when the trace is read, then it is in its parent, and one without a parent stays by itself
    found = {one["name"]: one for one in read(engine, root)}
    assert set(found) == {"worker", "orphan"}
    (below,) = found["worker"]["subsegments"][0]["subsegments"]
    assert below["id"] == late["id"]


def test_a_segment_is_replaced_by_its_end(engine: Engine) -> None:
    # given a segment in progress
    root, name = new_root(), unique("service")
    began = time.time() - 2
    begun = {"trace_id": root, "id": new_id(), "name": name, "start_time": began, "in_progress": True}
    put(engine, begun)
    (summary,) = summaries(engine, f'service("{name}")')
    assert (summary["IsPartial"], summary.get("ResponseTime")) == (True, None)

    # when it is sent again with its end, then that counts
    ended = {**begun, "end_time": began + 2}
    del ended["in_progress"]
    put(engine, ended)
    (summary,) = summaries(engine, f'service("{name}")')
    assert (summary["IsPartial"], summary["ResponseTime"]) == (False, 2)
    assert len(read(engine, root)) == 1


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("MissingId", {"id": ...}),
    ("InvalidId", {"id": "1234"}),
    ("MissingName", {"name": ...}),
    ("InvalidName", {"name": "x" * 201}),
    ("MissingTraceId", {"trace_id": ...}),
    ("InvalidTraceId", {"trace_id": "1-5759e988-zz"}),
    ("InvalidStartTime", {"start_time": "now"}),
    ("InvalidEndTime", {"end_time": ...}),
    ("InvalidParentId", {"type": "subsegment"}),
    ("InvalidSubsegments", {"subsegments": [{"name": "x"}]}),
    ("InvalidDocument", {"annotations": []}),
    ("DocumentSizeExceeded", {"metadata": {"x": "y" * 65_536}}),
]


@pytest.mark.parametrize(("code", "change"), REFUSED, ids=[code for code, _ in REFUSED])
def test_a_segment_that_is_none_is_refused_and_the_others_are_taken(
    engine: Engine, code: str, change: dict[str, Any]
) -> None:
    good = segment(new_root())
    bad = {name: value for name, value in {**segment(new_root()), **change}.items() if value is not ...}
    (refused,) = put(engine, bad, good)
    assert refused["ErrorCode"] == code
    assert read(engine, good["trace_id"]) == [good]


def test_what_is_no_json_is_refused(engine: Engine) -> None:
    (refused,) = put(engine, "{")
    assert refused["ErrorCode"] == "ParseError"


MATCHING = [
    'annotation.jobId = "{job}"',
    'annotation[jobId]="{job}"',
    'annotation[jobId] = "{job}" AND annotation.jobType = "x" AND annotation.attempt = 2',
    'service("{name}")',
    'annotation.jobId = "{job}" and responsetime > 0.5 AND duration < 5',
    'annotation.jobId = "{job}" AND fault',
    'annotation.jobId = "{job}" AND throttle AND error',
]
OTHERS = [
    'annotation.jobId = "{job}" AND annotation.jobType = "y"',
    'annotation.jobId = "{job}" AND responsetime > 5',
    'annotation.jobId = "{job}" AND service("other")',
    'annotation.attempt = "{job}"',
    'annotation.other = "{job}"',
]


@pytest.fixture(scope="module")
def sought(engine: Engine) -> dict[str, str]:
    job, name, root = unique("job"), unique("service"), new_root()
    annotations = {"jobId": job, "jobType": "x", "attempt": 2}
    failed = segment(root, name, annotations=annotations, fault=True, error=True)
    # called by the other, though by its own clock it began before it
    early = {"id": "0" * 16, "start_time": failed["start_time"] - 1}
    throttled = segment(root, "other-service", parent_id=failed["id"], throttle=True, **early)
    # of this moment too, and with the same keys
    neighbour = segment(new_root(), annotations={"jobId": "someone-else", "jobType": "x"})
    assert put(engine, failed, throttled, neighbour) == []
    return {"job": job, "name": name, "root": root}


@pytest.mark.parametrize("expression", MATCHING)
def test_a_filter_expression_finds_what_it_asks_for(
    engine: Engine, sought: dict[str, str], expression: str
) -> None:
    found = summaries(engine, expression.format(**sought))
    assert [one["Id"] for one in found] == [sought["root"]]
    assert found[0]["HasThrottle"] is True


@pytest.mark.parametrize("expression", OTHERS)
def test_a_filter_expression_finds_nothing_else(engine: Engine, sought: dict[str, str], expression: str) -> None:
    assert summaries(engine, expression.format(**sought)) == []


@pytest.mark.parametrize(
    "expression",
    [
        "http.status = 200",
        'annotation.jobId != "x"',
        "fault = false",
        'a = "1" OR fault',
        "fault AND",
        "!fault",
        "ok",
    ],
)
def test_an_expression_that_is_not_supported_is_refused_by_name(engine: Engine, expression: str) -> None:
    with pytest.raises(ClientError, match="Supported are annotation") as refused:
        summaries(engine, expression)
    assert refused.value.response["Error"]["Code"] == "InvalidRequestException"


def test_summaries_are_of_their_time(engine: Engine) -> None:
    # given a trace that began two hours ago
    name, began = unique("service"), time.time() - 7200
    put(engine, segment(new_root(), name, start_time=began, end_time=began + 1))

    # then the last hour has none by its start, and one by its arrival
    assert summaries(engine, f'service("{name}")') == []
    assert len(summaries(engine, f'service("{name}")', TimeRangeType="Event")) == 1
    assert len(summaries(engine, f'service("{name}")', StartTime=began - 1, EndTime=began + 1)) == 1


@pytest.mark.parametrize(("start", "end"), [(-86_500, 0), (0, -1)], ids=["more than a day", "backwards"])
def test_a_time_range_that_x_ray_does_not_take_is_refused(engine: Engine, start: int, end: int) -> None:
    now = time.time()
    with pytest.raises(ClientError, match="at most 24 hours"):
        engine.client("xray").get_trace_summaries(StartTime=now + start, EndTime=now + end)


def test_many_summaries_come_in_pages(engine: Engine) -> None:
    # given more traces than a page holds
    name = unique("service")
    sent = [segment(new_root(), name) for _ in range(130)]
    for first in range(0, 130, 50):
        assert put(engine, *sent[first : first + 50]) == []

    # then each is in one of the pages
    found = [one["Id"] for one in summaries(engine, f'service("{name}")')]
    assert sorted(found) == sorted(one["trace_id"] for one in sent)


def test_traces_are_given_out_five_a_call(engine: Engine) -> None:
    xray = engine.client("xray")
    known = segment(new_root())
    put(engine, known)
    answer = xray.batch_get_traces(TraceIds=[known["trace_id"], new_root()])
    assert [trace["Id"] for trace in answer["Traces"]] == [known["trace_id"]]
    assert answer["Traces"][0]["LimitExceeded"] is False
    with pytest.raises(ClientError, match="1 to 5 entries"):
        xray.batch_get_traces(TraceIds=[new_root() for _ in range(6)])
    with pytest.raises(ClientError, match="A trace id is"):
        xray.batch_get_traces(TraceIds=["1-2-3"])


def test_x_ray_asks_for_permission(engine: Engine) -> None:
    # given a user who may write traces and not read them
    iam, user = engine.client("iam"), unique("user")
    iam.create_user(UserName=user)
    allowed = {"Effect": "Allow", "Action": "xray:PutTraceSegments", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_user_policy(UserName=user, PolicyName="p", PolicyDocument=policy)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    xray = engine.client("xray", key["AccessKeyId"], key["SecretAccessKey"])

    # then that is what they may do
    xray.put_trace_segments(TraceSegmentDocuments=[json.dumps(segment(new_root()))])
    with pytest.raises(ClientError, match="not authorized to perform: xray:BatchGetTraces"):
        xray.batch_get_traces(TraceIds=[new_root()])
