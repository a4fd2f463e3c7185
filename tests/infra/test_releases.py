"""Releases: functions are invoked through an alias, and where a stage says so its traffic shifts by and by."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from infra.assemblies import Assembly, Properties, listed, logical_id
from infra.test_alarms import _is_name, of_releases
from infra.watched import alarm_complaints, renamings
from sluice_core import LIVE_ALIAS
from sluice_harness.cloudwatch.expressions import parse
from sluice_harness.description import ROOT
from sluice_infra.stages import stage_config

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.xdist_group("infra")

# Whatever makes Lambda run a function.
INVOKERS = (
    "AWS::ApiGateway::Authorizer",
    "AWS::ApiGateway::Method",
    "AWS::Events::Rule",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::Permission",
)
REPORT_FAILURES = {"processor", "batch_simulator", "event_publisher"}
MOST_ALARMS = 10  # of a deployment group (AWS CodeDeploy, "CodeDeploy quotas")


@pytest.fixture
def prod(synthesized: Callable[[str], Assembly]) -> Assembly:
    return synthesized("prod")


def aliases(assembly: Assembly) -> dict[str, dict[str, Any]]:
    """Every function's module with the resource that is its alias."""
    found = {
        logical_id(one["Properties"]["FunctionName"]): one
        for one in assembly.resources.values()
        if one["Type"] == "AWS::Lambda::Alias"
    }
    return {
        function["Handler"].split(".")[1]: found[name]
        for name, function in assembly.of_type("Lambda::Function").items()
    }


# --- the alias


def test_every_function_has_the_one_alias_at_the_version_that_is_published_of_it(assembly: Assembly) -> None:
    published = assembly.of_type("Lambda::Version")
    for module, alias in aliases(assembly).items():
        assert alias["Properties"]["Name"] == LIVE_ALIAS, module
        version, attribute = alias["Properties"]["FunctionVersion"]["Fn::GetAtt"]
        assert (attribute, published[version]["FunctionName"]) == ("Version", alias["Properties"]["FunctionName"])
    assert len(published) == len(aliases(assembly)) == len(assembly.of_type("Lambda::Alias"))


def test_whatever_invokes_a_function_does_so_through_the_alias(assembly: Assembly) -> None:
    # given all that invokes functions, or may
    functions = set(assembly.of_type("Lambda::Function"))
    invokers = {name: one for name, one in assembly.resources.items() if one["Type"] in INVOKERS}
    assert {one["Type"] for one in invokers.values()} == set(INVOKERS)

    # then none of it names a function, but for the settings of asynchronous invocations, which name both
    for name, one in invokers.items():
        named = {function for function in functions if f'"{function}"' in json.dumps(one["Properties"])}
        if one["Type"] == "AWS::Lambda::EventInvokeConfig":
            assert named == {assembly.invoked(one["Properties"]["Qualifier"])}, name
        else:
            assert named == set(), name


def test_a_release_of_other_settings_is_another_version(variants: dict[str, Assembly]) -> None:
    # given an app in which some functions' environments differ
    before, after = (set(variants[one].of_type("Lambda::Version")) for one in ("unchanged", "other_retention"))

    # then those functions have another version, and the others, which know nothing of it, have not
    assert {name.partition("Function")[0] for name in before & after} == {"Authorizer", "EventPublisher"}
    assert len(before) == len(after)


def test_old_versions_go_when_a_release_has_gone_through(assembly: Assembly) -> None:
    for name, resource in assembly.resources.items():
        if resource["Type"] == "AWS::Lambda::Version":
            assert "DeletionPolicy" not in resource, name


# --- the shift


def test_traffic_shifts_as_the_stage_says(assembly: Assembly) -> None:
    shift = stage_config(assembly.stage).traffic_shift
    policies = {module: alias.get("UpdatePolicy", {}) for module, alias in aliases(assembly).items()}
    if shift is None:
        assert not any(policies.values())
        assert not [one for one in assembly.resources.values() if one["Type"].startswith("AWS::CodeDeploy::")]
        return

    # given one application, and a deployment group for each alias
    (application,) = assembly.of_type("CodeDeploy::Application")
    assert assembly.only("CodeDeploy::Application")["ComputePlatform"] == "Lambda"
    updates = {module: policy["CodeDeployLambdaAliasUpdate"] for module, policy in policies.items()}
    groups = {module: logical_id(one["DeploymentGroupName"]) for module, one in updates.items()}
    assert set(groups.values()) == set(assembly.of_type("CodeDeploy::DeploymentGroup"))
    assert all(one["ApplicationName"] == {"Ref": application} for one in updates.values())

    # then each shifts as the stage says, and takes back what fails or makes an alarm fire
    for name, group in assembly.of_type("CodeDeploy::DeploymentGroup").items():
        assert group["ApplicationName"] == {"Ref": application}
        assert group["DeploymentConfigName"] == f"CodeDeployDefault.Lambda{shift}"
        assert group["AlarmConfiguration"]["Enabled"] is True
        assert "IgnorePollAlarmFailure" not in group["AlarmConfiguration"]
        rollback = {"Enabled": True, "Events": ["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM"]}
        assert group["AutoRollbackConfiguration"] == rollback, name


def test_only_production_and_staging_shift_traffic() -> None:
    shifts = {name: stage_config(name).traffic_shift for name in ("prod", "staging", "dev", "local", "ann")}
    assert shifts == {
        "prod": "Canary10Percent5Minutes",
        "staging": "Linear10PercentEvery1Minute",
        "dev": None,
        "local": None,
        "ann": None,
    }


# --- the alarms that take a release back


def watched(prod: Assembly) -> dict[str, dict[str, Properties]]:
    """By module, the alarms that its deployment group watches."""
    groups = prod.of_type("CodeDeploy::DeploymentGroup")
    found = {}
    for module, alias in aliases(prod).items():
        group = groups[logical_id(alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]["DeploymentGroupName"])]
        names = [logical_id(alarm["Name"]) for alarm in group["AlarmConfiguration"]["Alarms"]]
        assert len(names) <= MOST_ALARMS
        found[module] = {name: with_metrics(prod.resources[name]["Properties"]) for name in names}
    return found


def with_metrics(alarm: Properties) -> Properties:
    """An alarm on a single metric in the words of one on several."""
    if "Metrics" in alarm:
        return alarm
    metric = {name: alarm[name] for name in ("Namespace", "MetricName", "Dimensions")}
    stat = {"Metric": metric, "Stat": alarm["Statistic"], "Period": alarm["Period"]}
    return {**alarm, "Metrics": [{"Id": "one", "MetricStat": stat, "ReturnData": True}]}


def series(alarm: Properties) -> list[tuple[str, dict[str, Any]]]:
    """The metrics of an alarm and their dimensions."""
    stats = [query["MetricStat"]["Metric"] for query in alarm["Metrics"] if "MetricStat" in query]
    return [(one["MetricName"], {each["Name"]: each["Value"] for each in one["Dimensions"]}) for one in stats]


def test_a_function_s_release_is_taken_back_for_errors_of_its_new_version_only(prod: Assembly) -> None:
    for module, alarms in watched(prod).items():
        # given the version that the alias is to point at, and the alarm on errors
        version = aliases(prod)[module]["Properties"]["FunctionVersion"]
        ((alarm, dimensions),) = [
            (alarm, dimensions)
            for alarm in alarms.values()
            for name, dimensions in series(alarm)
            if name == "Errors"
        ]

        # then it counts those alone, and is a new alarm for each version, lest an old state stop a fix
        assert dimensions["ExecutedVersion"] == version, module
        assert dimensions["FunctionName"] == {"Ref": prod.function(module)[0]}
        assert version in alarm["AlarmName"]["Fn::Join"][1]


def test_and_for_what_a_consumer_reports_back_which_is_no_error(prod: Assembly) -> None:
    reported = {
        module: [dimensions for alarm in alarms.values() for name, dimensions in series(alarm) if "Item" in name]
        for module, alarms in watched(prod).items()
    }
    assert {module for module, found in reported.items() if found} == REPORT_FAILURES
    assert all(found in ([], [{"Stage": "prod"}]) for found in reported.values())


def test_a_refused_token_takes_no_authorizer_back(prod: Assembly) -> None:
    # given the authorizer's alarm: Lambda counts each 401 as an error
    (alarm,) = watched(prod)["authorizer"].values()
    (text,) = [query["Expression"] for query in alarm["Metrics"] if "Expression" in query]
    expression = parse(text)
    assert sorted(expression.names) == ["errors", "refused"]

    def breaches(errors: float, refused: dict[int, float]) -> bool:
        points = expression.evaluate({"errors": {60: errors}, "refused": refused}, 60, [60])
        return any(value > alarm["Threshold"] for value in points.values())

    # then as many errors as refusals are none, whoever refused, and one more is one
    assert not breaches(3, {60: 3})
    assert not breaches(1, {60: 9})
    assert breaches(4, {60: 3})
    assert breaches(1, {})


def test_release_alarms_say_what_they_do_and_to_whom_it_matters(prod: Assembly) -> None:
    for alarms in watched(prod).values():
        for name, alarm in alarms.items():
            # They tell nobody: the deployment fails, and the stage's own alarms watch the same functions.
            assert not [kind for kind in alarm if kind.endswith("Actions")], name
            assert alarm["TreatMissingData"] == "notBreaching", name
            assert alarm["AlarmDescription"].endswith(". Takes a release back. See docs/releasing.md"), name
            assert "sluice-prod-release-" in json.dumps(alarm["AlarmName"]), name
            # soon enough to be sooner than the shortest shift
            periods = {query["MetricStat"]["Period"] for query in alarm["Metrics"] if "MetricStat" in query}
            assert periods == {60}
            assert alarm["EvaluationPeriods"] <= 2, name
    assert (ROOT / "docs" / "releasing.md").is_file()


def test_no_other_alarm_is_kept_quiet_so(prod: Assembly) -> None:
    assert of_releases(prod) == {name for alarms in watched(prod).values() for name in alarms}
    assert len(of_releases(prod)) == len(aliases(prod)) + 1


def test_release_alarms_watch_metrics_that_are_sent(prod: Assembly) -> None:
    alarms = {name: alarm for each in watched(prod).values() for name, alarm in each.items()}
    for name, alarm in alarms.items():
        assert alarm_complaints(alarm, prod) == [], name
    # and with any other name in them would be found
    unnoticed = [
        f"{name}: {what}"
        for name, alarm in alarms.items()
        for what, changed in renamings(alarm["Metrics"], _is_name)
        if not alarm_complaints({"Metrics": changed}, prod)
    ]
    assert unnoticed == []


# --- CodeDeploy's role


def test_codedeploy_may_move_these_aliases_and_look_at_alarms(prod: Assembly) -> None:
    # given the role that all deployment groups are served with
    groups = prod.of_type("CodeDeploy::DeploymentGroup").values()
    (role,) = {logical_id(group["ServiceRoleArn"]) for group in groups}
    assert "ManagedPolicyArns" not in prod.resources[role]["Properties"]
    functions = [{"Fn::GetAtt": [name, "Arn"]} for name in sorted(prod.of_type("Lambda::Function"))]

    # then it may do what it does there, on these functions
    allowed = {
        action: statement["Resource"]
        for statement in prod.statements_of_role(role)
        for action in listed(statement["Action"])
    }
    versions = [{"Fn::Join": ["", [function, ":*"]]} for function in functions]
    assert allowed.pop("lambda:GetAlias") == allowed.pop("lambda:UpdateAlias") == functions
    assert allowed.pop("lambda:GetProvisionedConcurrencyConfig") == versions
    assert allowed.pop("cloudwatch:DescribeAlarms")["Fn::Join"][1][-1] == ":alarm:*"
    assert allowed == {}


def test_only_codedeploy_takes_that_role_on_and_only_for_this_application(prod: Assembly) -> None:
    (application,) = prod.of_type("CodeDeploy::Application")
    (group, *_) = prod.of_type("CodeDeploy::DeploymentGroup").values()
    role = prod.resources[logical_id(group["ServiceRoleArn"])]["Properties"]
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "codedeploy.amazonaws.com"}
    assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    source = trust["Condition"]["ArnLike"]["aws:SourceArn"]["Fn::Join"][1]
    assert source[-3:] == [":deploymentgroup:", {"Ref": application}, "/*"]
