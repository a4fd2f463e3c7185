"""The stages' settings: what each stage has, what a personal one has, and what none can have."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import pytest
from infra.assemblies import Assembly, logical_id
from infra.variants import IMAGE
from sluice_harness.deploy import removal
from sluice_harness.description import ROOT
from sluice_infra import stages
from sluice_infra.executor_settings import Containers, Workflows
from sluice_infra.stages import LOG_RETENTIONS, Domain, StageConfig, Thresholds, stage_config

pytestmark = pytest.mark.xdist_group("infra")

WORKERS = {f"sluice_handlers.{module}.handler" for module in ("batch_simulator", "workflow_step")}
CERTIFICATE = "arn:aws:acm:us-east-1:000000000000:certificate/one"


def test_a_personal_stage_is_dev_under_a_name_of_its_own() -> None:
    assert stage_config("ann-2") == replace(stage_config("dev"), name="ann-2")


def test_what_is_deployed_to_the_engine_has_the_local_stage_s_sizes_and_runs_what_is_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given a stage whose every setting is another than the local one's
    own = replace(
        stage_config("dev"),
        name="ann",
        protected=True,
        bundle_target="lambda",
        traffic_shift="Canary10Percent5Minutes",
        throttle_rate=5,
        throttle_burst=5,
        processor_concurrency=7,
        work_concurrency=7,
        memory_mib=256,
        work_memory_mib=2_048,
        trace_rate=1,
        log_level="DEBUG",
        workloads="report=sluice_core.weather:WeatherReport,video=sluice_core.weather:WeatherReport",
        executors="video=batch",
        stepfunctions=Workflows(timeout_s=90),
        batch=Containers(image=IMAGE, max_running=4, timeout_s=70),
        ecs=Containers(image=IMAGE, timeout_s=80),
        draining=("ecs",),
        thresholds=Thresholds(drain_s=1),
        domain=Domain(name="jobs.example.com", certificate_arn=CERTIFICATE, hosted_zone_id="Z1"),
        web_acl_arn="arn:aws:wafv2:us-east-1:000000000000:regional/webacl/one/two",
        alarm_emails=("ann@example.com",),
        runbooks="https://runbooks.example.com",
    )
    local = stage_config("local")
    assert [one.name for one in fields(own) if getattr(own, one.name) == getattr(local, one.name)] == []
    monkeypatch.setitem(stages._STAGES, "ann", own)

    # when it is deployed to the engine
    there = stage_config("ann", on_engine=True)

    # then sizes and what is in no account are local's, and all that says what it is and what runs is its own
    locals_ = {
        *("protected", "bundle_target", "traffic_shift", "throttle_rate", "throttle_burst"),
        *("processor_concurrency", "work_concurrency", "thresholds", "domain", "web_acl_arn", "alarm_emails"),
    }
    assert {one.name for one in fields(own) if getattr(there, one.name) != getattr(own, one.name)} == locals_
    assert {one.name for one in fields(own) if getattr(there, one.name) == getattr(local, one.name)} == locals_


def test_only_production_keeps_what_it_holds_when_it_is_deleted() -> None:
    assert [name for name in ("local", "dev", "staging", "prod") if stage_config(name).protected] == ["prod"]


@pytest.mark.parametrize("name", ["", "Ann", "1st", "ann-", "-ann", "ann_2", "a" * 21, "../prod", "ann\n"])
def test_a_name_that_cannot_be_part_of_a_stack_s_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name must be 1 to 20 lower-case letters"):
        stage_config(name)


@pytest.mark.parametrize("name", ["staging-ingestion", "prod-auth", "ann-observability"])
def test_a_name_that_reads_like_another_stage_s_stack_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name must be another: that is how a stack of a stage ends"):
        stage_config(name)


@pytest.mark.parametrize(
    ("setting", "value", "wanted"),
    [
        ("processor_concurrency", 1, "2-1,000"),
        ("work_concurrency", 1_001, "2-1,000"),
        ("memory_mib", 127, "128-10,240"),
        ("work_memory_mib", 10_241, "128-10,240"),
        ("throttle_rate", 0, "more than 0"),
        ("throttle_burst", 999, "at least throttle_rate"),
        ("trace_rate", -0.1, "0-1"),
        ("trace_rate", 1.1, "0-1"),
        ("log_level", "WARN", "DEBUG or INFO"),
        ("log_days", 8, "one of 7, 14, 30, 90, 365"),
        ("result_days", 0, "more than 0"),
        ("traffic_shift", "AllAtOnce", "None or one of Canary10Percent5Minutes, "),
        ("domain", Domain(name="jobs", certificate_arn=CERTIFICATE, hosted_zone_id="Z1"), "a domain name"),
        ("domain", Domain(name="a.example.com", certificate_arn="one", hosted_zone_id="Z1"), "a domain name"),
        ("web_acl_arn", "arn:aws:wafv2:us-east-1:000000000000:global/webacl/one/two", "the ARN of a regional"),
        ("alarm_emails", ("ann@example.com", "ben"), "addresses of mail"),
        ("workloads", "report=sluice_core.nothing:Report", "what can be loaded .*sluice_core.nothing"),
        ("workloads", "report", "what can be loaded .*expected 'job-type=package.module:Class'"),
        # other types than they have
        ("alarm_emails", "ann@example.com", "a tuple, whose last entry has a comma, too"),
        ("result_days", "7", "of type int"),
        ("trace_rate", None, "of type float"),
        ("executors", {"weather-report": "batch"}, "of type str"),
        ("domain", "jobs.example.com", "of type .*Domain"),
        ("stepfunctions", Containers(), "of type Workflows"),
    ],
)
def test_a_wrong_setting_is_named_with_its_stage_and_what_it_may_be(setting: str, value: Any, wanted: str) -> None:
    with pytest.raises(ValueError, match=f"^stage prod: {setting} must be {wanted}.*, not "):
        replace(stage_config("prod"), **{setting: value}).check()


def test_a_wrong_setting_within_another_is_named_too() -> None:
    with pytest.raises(ValueError, match=r"^stage prod: ecs\.vcpu must be of type float, not '4'"):
        replace(stage_config("prod"), ecs=Containers(vcpu="4")).check()  # type: ignore[arg-type]


# The app, with a stage that cannot be.
WRONG = """
from dataclasses import replace
from sluice_infra import app, stages
stages._STAGES["ann"] = replace(stages._STAGES["dev"], name="ann", result_days=0)
app.main()
"""


def test_a_wrong_setting_is_one_line_and_no_trace() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRONG],
        env={**os.environ, "CDK_CONTEXT_JSON": json.dumps({"stage": "ann"})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    # What is above it is of Node.js, if this machine's is an old one.
    assert done.stderr.splitlines()[-1] == "error: stage ann: result_days must be more than 0, not 0"


def test_a_wrong_setting_is_no_other_stage_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stages._STAGES, "ann", replace(stage_config("dev"), name="ann", result_days=0))
    with pytest.raises(ValueError, match="result_days"):
        stage_config("ann")
    for name in ("local", "dev", "staging", "prod", "ben"):
        assert stage_config(name).name == name


def test_a_stage_s_line_has_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stages._STAGES, "ann", replace(stage_config("dev"), result_days=5))
    with pytest.raises(ValueError, match="stage ann: name must be 'ann' in its line, too, not 'dev'"):
        stage_config("ann")


def test_logs_are_kept_as_long_as_the_stage_says(assembly: Assembly) -> None:
    days = stage_config(assembly.stage).log_days
    assert days in LOG_RETENTIONS
    assert {group["RetentionInDays"] for group in assembly.of_type("Logs::LogGroup").values()} == {days}


def test_functions_have_the_stage_s_memory_and_log_level(assembly: Assembly) -> None:
    config = stage_config(assembly.stage)
    for name, function in assembly.of_type("Lambda::Function").items():
        does_the_work = function["Handler"] in WORKERS
        assert function["MemorySize"] == (config.work_memory_mib if does_the_work else config.memory_mib), name
        assert function["LoggingConfig"]["ApplicationLogLevel"] == config.log_level, name


def test_a_stage_may_have_a_domain_name_with_its_record(variants: dict[str, Assembly]) -> None:
    # given a stage with a domain name
    stage = variants["with_front_door"]

    # then the name leads to the API's stage, over TLS 1.2 and by a certificate of its region
    domain = stage.only("ApiGateway::DomainName")
    assert (domain["DomainName"], domain["SecurityPolicy"]) == ("jobs.example.com", "TLS_1_2")
    assert domain["RegionalCertificateArn"] == CERTIFICATE
    mapping = stage.only("ApiGateway::BasePathMapping")
    assert logical_id(mapping["Stage"]) in stage.of_type("ApiGateway::Stage")
    assert "BasePath" not in mapping

    # and its zone points there, and clients are told of it
    record = stage.only("Route53::RecordSet")
    assert (record["Name"], record["HostedZoneId"]) == ("jobs.example.com", "Z0123456789")
    assert stage.outputs["ApiUrl"] == "https://jobs.example.com/"


def test_a_stage_may_have_a_web_acl_before_its_api(variants: dict[str, Assembly]) -> None:
    stage = variants["with_front_door"]
    association = stage.only("WAFv2::WebACLAssociation")
    (name,) = stage.of_type("ApiGateway::Stage")
    assert name in json.dumps(association["ResourceArn"])
    assert association["WebACLArn"].startswith("arn:aws:wafv2:us-east-1:")


def test_a_stage_that_names_none_pays_for_none(assembly: Assembly) -> None:
    kinds = {resource["Type"] for resource in assembly.resources.values()}
    assert not kinds & {"AWS::ApiGateway::DomainName", "AWS::Route53::RecordSet", "AWS::WAFv2::WebACLAssociation"}


def test_what_holds_data_stays_where_the_stage_is_protected(assembly: Assembly) -> None:
    kinds = ["AWS::Cognito::UserPool", "AWS::DynamoDB::Table", "AWS::S3::Bucket"]
    assert removal.protected(assembly.folder) == (kinds if stage_config(assembly.stage).protected else [])


def test_every_setting_is_explained() -> None:
    told = (ROOT / "docs" / "configuring.md").read_text()
    settings = {one.name for one in fields(StageConfig)} - {"name", "bundle_target"}
    assert {setting for setting in settings if f"`{setting}`" not in told} == set()


# Their names have to be unique within the API, function, pool or role that they belong to, not in the account.
_WITHIN_ANOTHER = {
    *("ApiGateway::Authorizer", "ApiGateway::Model", "ApiGateway::Stage"),
    *("Cognito::UserPoolGroup", "Cognito::UserPoolResourceServer", "IAM::Policy", "Lambda::Alias"),
}


def test_a_name_that_is_given_has_the_stage_s_in_it(assembly: Assembly) -> None:
    # given all that is named by the template and not by CloudFormation, and could meet another stage's
    named = {
        logical_id: name
        for logical_id, resource in assembly.resources.items()
        if (kind := resource["Type"].removeprefix("AWS::")) not in _WITHIN_ANOTHER
        for setting, name in resource.get("Properties", {}).items()
        if setting in {"Name", "AlarmName", f"{kind.rpartition('::')[2]}Name"}
    }
    assert len(named) > 50

    # then no other stage in the account has the same
    own = re.compile(rf"\bsluice-{assembly.stage}\b")
    assert [one for one, name in named.items() if not own.search(json.dumps(name))] == []
