"""Alarms: each fires, tells someone, says what to do, and watches a metric that is really sent."""

from __future__ import annotations

import operator
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from infra.assemblies import Assembly, Properties, logical_id
from infra.watched import STAGES, alarm_complaints, operands, renamings, resolved, table_operations
from sluice_core.executors import EXTERNAL
from sluice_harness.cloudwatch.expressions import parse
from sluice_harness.description import ROOT
from sluice_harness.drill.drills import DRILLS
from sluice_harness.drill.executor_drills import EXECUTOR_DRILLS, NOT_RAISED
from sluice_infra.alarms import alarm_specs
from sluice_infra.stages import stage_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.watched import Path

pytestmark = pytest.mark.xdist_group("infra")

SEVERITIES = ("critical", "warning")
# Of what comes by schedule.
SILENCE = ("sweeper-silent", "reconciler-silent")
HOUR_S, DAY_S = 3_600, 86_400
LONGEST_RULE = 10_240  # PutCompositeAlarm, CloudWatch API Reference
SAYS = re.compile(
    r"(?P<means>[A-Z].+\.) Severity: (?P<severity>critical|warning)\. Runbook: (?P<page>docs/runbooks/[\w-]+\.md)"
)


@pytest.fixture(scope="session", params=STAGES)
def assembly(request: pytest.FixtureRequest, synthesized: Callable[[str], Assembly]) -> Assembly:
    return synthesized(request.param)


def metric_alarms(assembly: Assembly) -> dict[str, Properties]:
    """Every metric alarm, by its name without the stage."""
    return _by_name(assembly, "CloudWatch::Alarm")


def composites(assembly: Assembly) -> dict[str, Properties]:
    return _by_name(assembly, "CloudWatch::CompositeAlarm")


def every_alarm(assembly: Assembly) -> dict[str, Properties]:
    return metric_alarms(assembly) | composites(assembly)


def of_releases(assembly: Assembly) -> set[str]:
    """The logical ids of the alarms that take releases back and tell nobody: `test_releases` has their rules."""
    groups = [one for one in assembly.resources.values() if one["Type"] == "AWS::CodeDeploy::DeploymentGroup"]
    watched = [alarm for one in groups for alarm in one["Properties"]["AlarmConfiguration"]["Alarms"]]
    return {logical_id(alarm["Name"]) for alarm in watched}


def _by_name(assembly: Assembly, kind: str) -> dict[str, Properties]:
    found = [alarm for name, alarm in assembly.of_type(kind).items() if name not in of_releases(assembly)]
    prefix = f"sluice-{assembly.stage}-"
    assert all(alarm["AlarmName"].startswith(prefix) for alarm in found)
    named = {alarm["AlarmName"].removeprefix(prefix): alarm for alarm in found}
    assert len(named) == len(found), "two alarms have one name"
    return named


def notifies(alarm: Properties) -> bool:
    return "AlarmActions" in alarm


def children(assembly: Assembly, alarm: Properties) -> list[str]:
    """The alarms of a composite's rule, which has nothing in it but these, all joined in one way."""
    names: list[str] = re.findall(r'ALARM\("([\w-]+)"\)', alarm["AlarmRule"])
    rest = re.sub(r'ALARM\("[\w-]+"\)', "", alarm["AlarmRule"]).split()
    assert set(rest) in ({"AND"}, {"OR"})
    return [name.removeprefix(f"sluice-{assembly.stage}-") for name in names]


def said(alarm: Properties) -> dict[str, str]:
    """What an alarm's description says."""
    found = SAYS.fullmatch(alarm["AlarmDescription"])
    assert found, alarm["AlarmDescription"]
    return found.groupdict()


# --- what an alarm says, and to whom


def test_every_alarm_has_a_severity_and_a_runbook_that_is_there(assembly: Assembly) -> None:
    for name, alarm in every_alarm(assembly).items():
        page = ROOT / said(alarm)["page"]
        assert page.is_file(), name
        # and the page is about it, by its name or by that of its kind
        of_a_function = re.sub(r"^(function-\w+)-.+", r"\1-FUNCTION", name)
        of_a_window = re.sub(r".+-burn(-\d+[mh])$", r"`\1`", name)
        of_an_executor = re.sub(rf"^({'|'.join(EXTERNAL)})-", "EXECUTOR-", name)
        assert any(one in page.read_text() for one in (name, of_a_function, of_a_window, of_an_executor)), name


def test_no_two_alarms_of_a_stage_share_a_name(assembly: Assembly) -> None:
    metric, composite = metric_alarms(assembly), composites(assembly)
    assert len(metric) >= 40
    assert not metric.keys() & composite.keys()


def test_alarm_and_ok_notify_the_topic(assembly: Assembly) -> None:
    (topic,) = assembly.of_type("SNS::Topic")
    for name, alarm in every_alarm(assembly).items():
        actions = {kind: alarm[kind] for kind in alarm if kind.endswith("Actions")}
        expected = [{"Ref": topic}]
        assert actions in ({"AlarmActions": expected, "OKActions": expected}, {}), name


def test_only_windows_notify_nobody_and_a_composite_does_it_for_them(assembly: Assembly) -> None:
    # given the alarms without actions
    silent = {name for name, alarm in metric_alarms(assembly).items() if not notifies(alarm)}

    # then each is a window of a burn rate, and a child of a composite that notifies while all of its children fire
    assert all(re.fullmatch(r"(availability|latency)-burn-\w+", name) for name in silent)
    pairs = [one for one in composites(assembly).values() if " AND " in one["AlarmRule"]]
    assert all(notifies(one) for one in composites(assembly).values())
    assert sorted(silent) == sorted(name for one in pairs for name in children(assembly, one))
    assert {len(children(assembly, one)) for one in pairs} == {2}


def test_each_alarm_that_notifies_is_in_the_composite_of_its_severity_and_no_other(assembly: Assembly) -> None:
    known = composites(assembly)
    for severity in SEVERITIES:
        listed = children(assembly, known[severity])
        assert " AND " not in known[severity]["AlarmRule"]
        assert sorted(listed) == sorted(
            name
            for name, alarm in every_alarm(assembly).items()
            if name not in SEVERITIES and notifies(alarm) and said(alarm)["severity"] == severity
        )
        assert said(known[severity])["severity"] == severity


def test_composites_are_of_alarms_that_are_created_before_them(assembly: Assembly) -> None:
    prefix = f"sluice-{assembly.stage}-"
    ids = {
        resource["Properties"]["AlarmName"].removeprefix(prefix): name
        for name, resource in assembly.resources.items()
        if resource["Type"] in ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
        and name not in of_releases(assembly)
    }
    for name, alarm in composites(assembly).items():
        assert len(alarm["AlarmRule"]) <= LONGEST_RULE
        # CloudFormation sees no reference in a rule's text
        needed = {ids[child] for child in children(assembly, alarm)}
        assert needed <= set(assembly.resources[ids[name]]["DependsOn"]), name


def test_warnings_are_suppressed_while_a_critical_alarm_fires(assembly: Assembly) -> None:
    suppressed = {name: alarm for name, alarm in composites(assembly).items() if "ActionsSuppressor" in alarm}
    assert list(suppressed) == ["warning"]
    suppressor = logical_id(suppressed["warning"]["ActionsSuppressor"])
    assert assembly.resources[suppressor]["Properties"]["AlarmName"] == f"sluice-{assembly.stage}-critical"
    assert suppressed["warning"]["ActionsSuppressorWaitPeriod"] > 0
    assert suppressed["warning"]["ActionsSuppressorExtensionPeriod"] > 0


def test_every_alarm_has_a_drill_or_a_reason_to_have_none(synthesized: Callable[[str], Assembly]) -> None:
    drilled = {alarm for drill in DRILLS for alarm in drill.alarms}
    assert set(every_alarm(synthesized("local"))) == drilled
    # and of those that external executors bring, each once
    more = [alarm for drill in EXECUTOR_DRILLS for alarm in drill.alarms] + list(NOT_RAISED)
    assert sorted(more) == sorted(set(every_alarm(synthesized("longwork"))) - drilled)


# --- how it is evaluated


def test_missing_data_are_treated_explicitly(assembly: Assembly) -> None:
    treatments = {name: alarm["TreatMissingData"] for name, alarm in metric_alarms(assembly).items()}
    # A stage may be idle, and most of what is watched is sent only when something happens. Late events are an
    # exception: a publisher that stands still sends nothing, and has not caught up because of that.
    assert {name: one for name, one in treatments.items() if one != "notBreaching"} == {"events-late": "ignore"}


def test_silence_of_what_comes_by_schedule_is_a_fault_once_the_stage_is_there(assembly: Assembly) -> None:
    # given the series of a function's invocations and of a queue, in which only the queue has data
    silent_ones = {name: alarm for name, alarm in metric_alarms(assembly).items() if name in SILENCE}
    assert set(silent_ones) == (set(SILENCE) if external(assembly) else {"sweeper-silent"})
    for alarm in silent_ones.values():
        (expression,) = [parse(query["Expression"]) for query in alarm["Metrics"] if "Expression" in query]
        assert sorted(expression.names) == ["alive", "invocations"]
        silent = expression.evaluate({"invocations": {}, "alive": {300: 5.0, 600: 5.0}}, 300, [0, 300, 600])

        # then there is silence since the queue has been there, and not before
        assert silent == {300: 0.0, 600: 0.0}
        assert expression.evaluate({"invocations": {300: 5.0}, "alive": {300: 5.0}}, 300, [300]) == {300: 5.0}
        assert alarm["ComparisonOperator"] == "LessThanThreshold"


def test_m_of_n_periods_that_cloudwatch_takes(assembly: Assembly) -> None:
    for name, alarm in metric_alarms(assembly).items():
        periods = {query["MetricStat"]["Period"] for query in alarm["Metrics"] if "MetricStat" in query}
        assert len(periods) == 1, name
        (period,) = periods
        assert 1 <= alarm["DatapointsToAlarm"] <= alarm["EvaluationPeriods"], name
        assert period % 60 == 0, name
        assert alarm["EvaluationPeriods"] * period <= DAY_S, name


def test_alarms_on_dynamodb_never_have_missing_data(assembly: Assembly) -> None:
    # given that such alarms ignore missing data whatever they say, and would stay as they are
    for name, alarm in metric_alarms(assembly).items():
        if any(use.namespace == "AWS/DynamoDB" for use in operands(alarm)):
            (expression,) = [query["Expression"] for query in alarm["Metrics"] if "Expression" in query]
            # then the sum of those that are there is filled, all of them counted
            ids = [query["Id"] for query in alarm["Metrics"] if "MetricStat" in query]
            assert expression == f"FILL(SUM([{', '.join(ids)}]), 0)", name


# --- what it watches


def test_every_alarm_watches_a_metric_that_is_sent(assembly: Assembly) -> None:
    for name, alarm in metric_alarms(assembly).items():
        assert alarm_complaints(alarm, assembly) == [], name


def test_an_alarm_with_any_other_name_in_it_would_be_found(assembly: Assembly) -> None:
    # given every alarm with one metric, namespace, dimension, value, statistic or id in it renamed
    renamed = [
        (f"{name}: {what}", changed)
        for name, alarm in metric_alarms(assembly).items()
        for what, changed in renamings(alarm["Metrics"], _is_name)
    ]
    assert len(renamed) > 8 * len(metric_alarms(assembly))

    # then there is something to say of each
    unnoticed = [what for what, changed in renamed if not alarm_complaints({"Metrics": changed}, assembly)]
    assert unnoticed == []


def _is_name(path: Path) -> bool:
    named = {"MetricName", "Namespace", "Stat", "Expression", "Name", "Value", "Fn::ImportValue"}
    return path[-1] in named


def test_a_metric_of_a_class_of_functions_that_nobody_counts_would_be_found(assembly: Assembly) -> None:
    # given the alarm on a mapping whose events are not counted
    alarm = metric_alarms(assembly)["work-failed-invokes"]
    (mapping,) = operands(alarm)[0].dimensions.values()
    resource = assembly.resources[logical_id(resolved(mapping, assembly))]
    counted = resource["Properties"].pop("MetricsConfig")
    try:
        assert alarm_complaints(alarm, assembly) != []
    finally:
        resource["Properties"]["MetricsConfig"] = counted


def watched_things(assembly: Assembly) -> dict[tuple[str, str], set[str]]:
    """By metric and resource, the alarms that watch it."""
    found: dict[tuple[str, str], set[str]] = {}
    for name, alarm in metric_alarms(assembly).items():
        for use in operands(alarm):
            for value in use.dimensions.values():
                if isinstance(value, dict):
                    thing = logical_id(resolved(value, assembly))
                    found.setdefault((use.name, thing), set()).add(name)
    return found


def test_every_function_is_watched_by_alarms_of_its_name(assembly: Assembly) -> None:
    watched = watched_things(assembly)
    for function, properties in assembly.of_type("Lambda::Function").items():
        name = properties["Handler"].split(".")[1].replace("_", "-")
        for metric in ("Errors", "Throttles", "Duration"):
            assert f"function-{metric.lower()}-{name}" in watched[metric, function]


def test_every_queue_is_watched_by_alarms_of_its_name(assembly: Assembly) -> None:
    # given all queues but the dead-letter queues, and what reads them
    watched = watched_things(assembly)
    mappings = assembly.of_type("Lambda::EventSourceMapping")
    queues = {name for name, one in assembly.of_type("SQS::Queue").items() if "RedrivePolicy" in one}
    kinds = {assembly.outputs[f"{kind.capitalize()}QueueUrl"]["Ref"]: kind for kind in kinds_of_queues(assembly)}
    assert set(kinds) == queues

    # then the age of each and its dead letters have an alarm
    for queue, kind in kinds.items():
        dlq = assembly.outputs[f"{kind.capitalize()}DlqUrl"]["Ref"]
        assert f"{kind}-age-of-oldest" in watched["ApproximateAgeOfOldestMessage", queue]
        assert f"{kind}-dead-letters" in watched["ApproximateNumberOfMessagesVisible", dlq]
        assert f"{kind}-dead-letters" in watched["ApproximateNumberOfMessagesNotVisible", dlq]  # being read
        # and the owners' if messages have some, the consumer if a mapping feeds it, and a backlog of work
        if kind != "completion":
            quiet = watched["ApproximateAgeOfOldestMessageInQuietGroups", queue]
            assert f"{kind}-age-in-quiet-groups" in quiet
        if kind in ("work", *EXTERNAL):
            assert f"{kind}-time-to-drain" in watched["NumberOfMessagesDeleted", queue]
        for name, mapping in mappings.items():
            if logical_id(mapping["EventSourceArn"]) == queue:
                assert f"{kind}-failed-invokes" in watched["FailedInvokeEventCount", name]


def kinds_of_queues(assembly: Assembly) -> list[str]:
    there = external(assembly)
    return ["request", "work", *there, *(["completion"] if there else [])]


def external(assembly: Assembly) -> tuple[str, ...]:
    """The external executors of the stage."""
    return stage_config(assembly.stage).external_executors


def test_alarms_of_external_executors_are_where_there_are_some_and_nowhere_else(assembly: Assembly) -> None:
    # given the alarms of a stage that has no external executor
    others = {spec.name for spec in alarm_specs(replace(stage_config(assembly.stage), executors=""))}

    # then those that such a stage has besides are all about them
    more = set(metric_alarms(assembly)) - others
    assert bool(more) == bool(external(assembly))
    assert others <= set(metric_alarms(assembly))
    kinds = (*EXTERNAL, "completions?", "executions", "workflows", "reconciler", "function-[a-z]+")
    about = re.compile(rf"({'|'.join(kinds)})-.+")
    assert [name for name in more if not about.fullmatch(name)] == []


def test_the_alarm_on_dynamodb_s_own_errors_watches_every_operation_that_a_function_may_call(
    assembly: Assembly,
) -> None:
    watched: dict[str, list[Any]] = {}
    for use in operands(metric_alarms(assembly)["table-system-errors"]):
        table = logical_id(resolved(use.dimensions["TableName"], assembly))
        watched.setdefault(table, []).append(use.dimensions["Operation"])
    assert set(watched) == set(assembly.of_type("DynamoDB::Table"))
    for table, operations in watched.items():
        assert sorted(operations) == sorted(table_operations(assembly, table))


def test_a_function_is_slow_before_lambda_ends_it(assembly: Assembly) -> None:
    alarms = metric_alarms(assembly)
    for properties in assembly.of_type("Lambda::Function").values():
        name = properties["Handler"].split(".")[1].replace("_", "-")
        assert 0 < alarms[f"function-duration-{name}"]["Threshold"] < 1_000 * properties["Timeout"]


def test_a_queue_s_age_fires_days_before_its_retention_ends(assembly: Assembly) -> None:
    retention_s = {queue["MessageRetentionPeriod"] for queue in assembly.of_type("SQS::Queue").values()}
    alarms = metric_alarms(assembly)
    for kind in kinds_of_queues(assembly):
        assert alarms[f"{kind}-age-of-oldest"]["Threshold"] < min(retention_s) - 2 * DAY_S
    # and that of job events, hours before the stream's
    assert alarms["events-late"]["Threshold"] < 1_000 * DAY_S / 4


# --- what it says when nothing has happened

BREACHES = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


def test_a_stage_without_any_data_fires_no_alarm(assembly: Assembly) -> None:
    # given a stage that has just been deployed: none of its series has a point, and before it there was nothing
    for name, alarm in metric_alarms(assembly).items():
        assert alarm["TreatMissingData"] != "breaching", name
        (query,) = [query for query in alarm["Metrics"] if query["ReturnData"]]
        if "Expression" not in query:
            continue
        expression = parse(query["Expression"])
        (period,) = {one["MetricStat"]["Period"] for one in alarm["Metrics"] if "MetricStat" in one}

        # when it is evaluated, then no point of it breaches
        points = expression.evaluate({one: {} for one in expression.names}, period, [0, period, 2 * period])
        breaches = BREACHES[alarm["ComparisonOperator"]]
        assert not [value for value in points.values() if breaches(value, alarm["Threshold"])], name
