"""What a stage's operators rely on: alarms, dashboards, traces, logs."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from infra.watched import sent_as, widget_uses
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deployed.conftest import Site
    from infra.watched import Use
    from stage.running import Person

pytestmark = pytest.mark.xdist_group("stage")

# CloudWatch and X-Ray show what has happened within a minute, as a rule (AWS X-Ray Developer Guide, "Concepts").
PATIENCE_S = 120.0


# Dashboards


@pytest.fixture(scope="module")
def uses(site: Site) -> list[Use]:
    """The metrics that the stage's dashboards draw or calculate with."""
    cloudwatch = site.client("cloudwatch")
    names = site.description.dashboards
    bodies = {name: cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"] for name in names}
    assert [name for name, body in bodies.items() if "${" in body] == []
    return [
        use
        for body in bodies.values()
        for widget in json.loads(body)["widgets"]
        if widget["type"] == "metric"
        for use in widget_uses(widget, {})
    ]


def test_dashboards_draw_metrics_that_are_sent(uses: list[Use]) -> None:
    assert uses
    unknown = [
        use for use in uses if not (sent := sent_as(use)) or frozenset(use.dimensions) not in sent.dimension_sets
    ]
    assert unknown == []


def test_dashboards_draw_this_stage_and_no_other(site: Site, uses: list[Use]) -> None:
    # Given what the stage consists of
    described = site.description
    mappings = site.client("lambda").get_paginator("list_event_source_mappings").paginate()
    functions = set(described.functions.by_handler().values())
    ours = {
        "ApiName": {f"sluice-{described.stage}"},
        "Stage": {described.stage},
        "FunctionName": functions,
        "EventSourceMappingUUID": {
            mapping["UUID"]
            for page in mappings
            for mapping in page["EventSourceMappings"]
            if mapping["FunctionArn"].partition(":function:")[2].partition(":")[0] in functions
        },
        "QueueName": {
            url.rpartition("/")[2]
            for queue in described.queues.by_name().values()
            for url in (queue.url, queue.dlqUrl)
        },
        "TableName": {described.jobTable, described.executors.slotsTable} - {""},
        "TopicName": {described.alarmTopic.rpartition(":")[2]},
    }

    # Then whatever a dashboard names of these kinds is one of them, and none is forgotten
    for kind, names in ours.items():
        drawn = {use.dimensions[kind] for use in uses if kind in use.dimensions}
        assert drawn == names, kind


# Traces


def test_a_sampled_job_s_trace_is_found(site: Site, ann: Person) -> None:
    # Given a job whose client asks for a trace
    trace_id = f"1-{int(time.time()):08x}-{os.urandom(12).hex()}"
    answer = ann.post(b"{}", **{"X-Amzn-Trace-Id": f"Root={trace_id};Sampled=1"})
    assert answer.status_code == 202, answer.text
    ann.ended(answer.json()["jobId"], PATIENCE_S)

    # When it is asked for, then it has the API's part, the queues' and the functions'
    xray = site.client("xray")

    def segments() -> list[dict[str, Any]] | None:
        found = xray.batch_get_traces(TraceIds=[trace_id])["Traces"]
        documents = [json.loads(segment["Document"]) for trace in found for segment in trace["Segments"]]
        ours = {"request-queue", "sluice-processor", "work-queue", "sluice-batch-simulator"}
        return documents if ours <= {document["name"] for document in documents} else None

    found = until(segments, f"trace {trace_id} is whole", PATIENCE_S)
    assert "AWS::ApiGateway::Stage" in {segment.get("origin") for segment in found}
    assert {segment["trace_id"] for segment in found} == {trace_id}


# Logs


def log_groups(site: Site) -> Iterator[str]:
    """The log groups of every function, of the API's access log and of load tests."""
    lambda_, described = site.client("lambda"), site.description
    for function in described.functions.by_handler().values():
        yield lambda_.get_function_configuration(FunctionName=function)["LoggingConfig"]["LogGroup"]
    gateway = site.client("apigateway")
    pages = gateway.get_paginator("get_rest_apis").paginate()
    (api,) = [one for page in pages for one in page["items"] if one["name"] == f"sluice-{described.stage}"]
    settings = gateway.get_stage(restApiId=api["id"], stageName=described.stage)["accessLogSettings"]
    yield settings["destinationArn"].partition(":log-group:")[2].removesuffix(":*")
    yield described.loadLogGroup


def test_every_log_is_kept_for_a_while_and_not_for_ever(site: Site) -> None:
    logs, groups = site.client("logs"), list(log_groups(site))
    found = [
        group
        for name in groups
        for group in logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        if group["logGroupName"] == name
    ]
    assert [group["logGroupName"] for group in found] == groups
    assert [group["logGroupName"] for group in found if "retentionInDays" not in group] == []


# Alarms; last, when all the jobs are done


def test_no_alarm_has_fired_so_far(site: Site, alarms_before: dict[str, str], began: float) -> None:
    """Sees what fires within this run, be it for a moment.

    That is little: most alarms look at several minutes, and this run takes one or two. Those that fire later are
    the load test's to see, which waits for them.
    """
    states = site.alarm_states()
    assert states
    assert {name for name, state in states.items() if state == "ALARM" != alarms_before.get(name)} == set()
    assert site.alarms_fired(began) == set()
