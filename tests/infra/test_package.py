"""The package: what it has of the stage that it is made of, what it leaves open, and that it stays the same."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_args

import pytest
import yaml
from cfnlint import api  # type: ignore[import-untyped]
from cfnlint.config import ManualArgs  # type: ignore[import-untyped]
from infra.test_lint import IGNORED
from samtranslator.translator.transform import transform
from sluice_harness.description import ROOT, from_outputs
from sluice_harness.package.__main__ import write
from sluice_harness.package.merge import PackageError
from sluice_harness.package.parameters import ALL_AT_ONCE, PACKAGED_STAGE
from sluice_infra.stages import TrafficShift, stage_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.assemblies import Assembly

pytestmark = pytest.mark.xdist_group("infra")

Template = dict[str, Any]
FORMS = ("template.yaml", "sam/template.yaml")
SAM_ROLE = "CodeDeployServiceRole"
STATEFUL = ("AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::Cognito::UserPool")


@pytest.fixture(scope="session")
def assembly(synthesized: Callable[[str], Assembly]) -> Assembly:
    return synthesized(PACKAGED_STAGE)


@pytest.fixture(scope="session")
def package(assembly: Assembly, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "dist"
    write(assembly.folder, folder)
    return folder


@pytest.fixture(scope="session")
def template(package: Path) -> Template:
    return read(package, "template.yaml")


def read(package: Path, form: str) -> Template:
    found: Template = yaml.safe_load((package / form).read_text())
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def used(part: Any) -> set[str]:
    """What a part of a template refers to."""
    if isinstance(part, list):
        return {name for one in part for name in used(one)}
    if not isinstance(part, dict):
        return set()
    names = {name for one in part.values() for name in used(one)}
    names |= {part["Ref"]} if "Ref" in part else set()
    if "Fn::Sub" in part:
        text, values = part["Fn::Sub"] if isinstance(part["Fn::Sub"], list) else (part["Fn::Sub"], {})
        names |= {name.partition(".")[0] for name in re.findall(r"\$\{([^!}]+)\}", text)} - values.keys()
    return names


# What is in it


def test_it_has_each_resource_of_the_stage(assembly: Assembly, template: Template) -> None:
    # Given the stage's resources, by what remains of their names without the stage's
    stage = {name.replace(PACKAGED_STAGE, ""): one["Type"] for name, one in assembly.resources.items()}

    # Then the template has these and no others
    assert {name: one["Type"] for name, one in template["Resources"].items()} == stage

    # And they keep what they hold as they do in prod
    kept = [one for one in template["Resources"].values() if one["Type"] in STATEFUL]
    assert len(kept) == len(STATEFUL)
    assert {(one["DeletionPolicy"], one["UpdateReplacePolicy"]) for one in kept} == {("Retain", "Retain")}


@pytest.mark.parametrize("form", FORMS)
def test_nothing_of_the_cdk_and_of_the_stage_s_own_name_is_left(package: Path, form: str) -> None:
    text = (package / form).read_text()
    left = [PACKAGED_STAGE, "packaged.example", "ImportValue", "Export", "ootstrap", "aws:cdk", "cdk-"]
    assert [one for one in left if one in text] == []


@pytest.mark.parametrize("form", FORMS)
def test_it_is_clean(package: Path, form: str) -> None:
    config = ManualArgs(ignore_checks=list(IGNORED), include_checks=["I"], regions=["us-east-1"])
    assert [str(finding) for finding in api.lint((package / form).read_text(), config=config)] == []


def test_a_stage_can_be_described_from_its_outputs(template: Template) -> None:
    outputs = {name: f"value of {name}" for name in template["Outputs"]}
    place = {"stage": "acme", "region": "us-east-1", "account": "000000000000", "endpointUrl": None}
    assert from_outputs(outputs, [], apiUrl=outputs["ApiUrl"], **place).jobTable == "value of JobTable"
    assert not [name for name in outputs if re.search(r"[0-9A-F]{8}$", name)]


def test_code_is_in_zips_named_by_what_is_in_them(package: Path, template: Template, assembly: Assembly) -> None:
    # Given where the functions' code is to be
    functions = [one["Properties"] for one in template["Resources"].values() if one["Type"].endswith("::Function")]
    keys = {function["Code"]["S3Key"] for function in functions}
    assert {json.dumps(function["Code"]["S3Bucket"]) for function in functions} == {'{"Ref": "CodeBucket"}'}

    # Then that is a zip of the stage's bundle, which Lambda can read, under its own digest
    (key,) = keys
    assert key == f"functions/{hashlib.sha256((package / key).read_bytes()).hexdigest()[:16]}.zip"
    bundle = files(next(assembly.folder.glob("asset.*")))
    with zipfile.ZipFile(package / key) as archive:
        assert {entry.filename: archive.read(entry) for entry in archive.infolist()} == bundle
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o644}


def test_the_sums_are_those_of_all_files(package: Path) -> None:
    found = files(package)
    sums = [line.split("  ") for line in found.pop("SHA256SUMS").decode().splitlines()]
    assert {name: digest for digest, name in sums} == {
        name: hashlib.sha256(content).hexdigest() for name, content in found.items()
    }
    assert {"README.md", "VERSION", "deploy.sh", *FORMS} < found.keys()
    assert os.access(package / "deploy.sh", os.X_OK)


def test_no_file_names_a_path_of_this_machine(package: Path) -> None:
    paths = (str(ROOT).encode(), str(package.parent).encode(), f"{Path.home()}/".encode(), b"/home/", b"/Users/")
    told = {name: content for name, content in files(package).items() if not name.endswith(".zip")}
    assert [name for name, content in told.items() if any(path in content for path in paths)] == []


def test_the_same_stage_makes_the_same_package(assembly: Assembly, package: Path, tmp_path: Path) -> None:
    # Given the same assembly in another place and written at another time
    again = shutil.copytree(assembly.folder, tmp_path / "again", copy_function=shutil.copyfile)

    # When it is packaged where an older package lies
    out = tmp_path / "dist"
    for name in ("functions/0123456789abcdef.zip", "SHA256SUMS"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("older")
    write(again, out)

    # Then it comes out the same, byte for byte, and nothing of the older one is left
    assert files(out) == files(package)


def test_no_other_folder_is_overwritten(assembly: Assembly, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(PackageError, match="is no package"):
        write(assembly.folder, tmp_path)
    assert files(tmp_path) == {"thesis.txt": b"years of work"}


# What it leaves open


def test_parameters_have_the_values_of_prod_as_defaults(template: Template) -> None:
    prod = stage_config("prod")
    defaults = {name: one.get("Default") for name, one in template["Parameters"].items()}
    assert defaults == {
        "StageName": None,
        "CodeBucket": None,
        "ThrottleRate": prod.throttle_rate,
        "ThrottleBurst": prod.throttle_burst,
        "ProcessorConcurrency": prod.processor_concurrency,
        "WorkConcurrency": prod.work_concurrency,
        "LogDays": prod.log_days,
        "TraceRate": prod.trace_rate,
        "AlarmEmail": "",
        "TrafficShift": prod.traffic_shift,
    }
    assert template["Parameters"]["TrafficShift"]["AllowedValues"] == [ALL_AT_ONCE, *get_args(TrafficShift)]


@pytest.mark.parametrize("form", FORMS)
def test_each_parameter_is_used_explained_and_asked_for(package: Path, form: str) -> None:
    content = read(package, form)
    names = set(content["Parameters"])
    assert names <= used(content)
    groups = content["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(names)
    told = (ROOT / "docs" / "package.md").read_text()
    assert [name for name in names if f"`{name}`" not in told] == []


def test_a_function_s_own_settings_depend_on_no_value_that_can_change(template: Template) -> None:
    # Given the functions, each of which runs as the version that its alias points to, whatever a parameter's value
    for name, one in template["Resources"].items():
        if one["Type"] == "AWS::Lambda::Function":
            # Then nothing but the name of the stage and the place of the code is a parameter
            assert used(one["Properties"]) & set(template["Parameters"]) == {"StageName", "CodeBucket"}, name


def test_all_that_serves_an_optional_parameter_is_conditional(template: Template) -> None:
    conditional: dict[str, set[str]] = {}
    for one in template["Resources"].values():
        conditional.setdefault(one.get("Condition", ""), set()).add(one["Type"])
    assert conditional["HasAlarmEmail"] == {"AWS::SNS::Subscription"}
    assert conditional["HasTrafficShift"] == {
        *("AWS::CodeDeploy::Application", "AWS::CodeDeploy::DeploymentGroup"),
        *("AWS::IAM::Role", "AWS::IAM::Policy", "AWS::CloudWatch::Alarm"),
    }
    assert "AWS::CodeDeploy::DeploymentGroup" not in conditional[""]
    serving = {name for name, one in template["Resources"].items() if one.get("Condition") == "HasTrafficShift"}
    others = [one for name, one in template["Resources"].items() if name not in serving]
    assert not serving & {name for one in others for name in one.get("DependsOn", [])}
    policies = [one["UpdatePolicy"] for one in template["Resources"].values() if "UpdatePolicy" in one]
    assert len(policies) == len(get_args(TrafficShift)) - 1
    assert all(policy["Fn::If"][0] == "HasTrafficShift" for policy in policies)


def test_the_script_knows_each_parameter_of_the_template(package: Path, template: Template) -> None:
    # When something is set that is no parameter, then the script names those of the template that can be set
    command = ["bash", str(package / "deploy.sh"), "--stage", "acme", "--set", "LogDay=7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    names = ", ".join(name for name in template["Parameters"] if name not in ("StageName", "CodeBucket"))
    assert done.stderr == f"error: --set LogDay: no parameter; there are {names}\n"


# The form for SAM


def ours(resources: Template) -> dict[str, Any]:
    """Return the types of what SAM does not make by itself."""
    by_sam = r"AWS::CodeDeploy::|AWS::Lambda::(Version|Alias)$"
    roles = rf"ReleasesRole|{SAM_ROLE}"
    return {
        name: one["Type"]
        for name, one in resources.items()
        if not re.match(by_sam, one["Type"]) and not re.match(roles, name)
    }


def watching(resources: Template) -> list[Any]:
    """Return the alarms that watch each group of CodeDeploy's."""
    groups = [one["Properties"] for one in resources.values() if one["Type"] == "AWS::CodeDeploy::DeploymentGroup"]
    found = [group["AlarmConfiguration"] for group in groups]
    return [one["Fn::If"][1]["Alarms"] if "Fn::If" in one else one["Alarms"] for one in found]


def count(resources: Template, kind: str) -> int:
    return [one["Type"] for one in resources.values()].count(kind)


@pytest.mark.parametrize("shift", [ALL_AT_ONCE, "Linear10PercentEvery1Minute"])
def test_the_sam_form_is_the_same(
    package: Path, template: Template, monkeypatch: pytest.MonkeyPatch, shift: str
) -> None:
    # Given the application, as `aws cloudformation package` leaves it
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    content = read(package, "sam/template.yaml")
    for one in content["Resources"].values():
        if one["Type"] == "AWS::Serverless::Function":
            assert (package / "sam" / one["Properties"]["CodeUri"]).is_file()
            one["Properties"]["CodeUri"] = "s3://bucket/key"

    # When AWS's own translator has expanded it
    expanded = transform(content, {"TrafficShift": shift}, SimpleNamespace(load=dict))

    # Then it has what the template has; only versions, aliases and what is CodeDeploy's are made by SAM
    mine, theirs = expanded["Resources"], template["Resources"]
    assert ours(mine) == ours(theirs)
    for kind in ("AWS::Lambda::Version", "AWS::Lambda::Alias"):
        assert count(mine, kind) == count(theirs, kind)
    assert watching(mine) == ([] if shift == ALL_AT_ONCE else watching(theirs))

    # And of what SAM makes, the package says what is otherwise: CodeDeploy's role, and versions that are retained
    kept = {one["DeletionPolicy"] for one in mine.values() if one["Type"] == "AWS::Lambda::Version"}
    policies = [
        str(one["Properties"]["ManagedPolicyArns"]) for name, one in mine.items() if name.startswith(SAM_ROLE)
    ]
    assert kept == {"Retain"}
    assert len(policies) == (0 if shift == ALL_AT_ONCE else 1)
    assert all("service-role/AWSCodeDeployRoleForLambda'" in one for one in policies), policies

    # And whatever one waits for is there
    assert {name for one in mine.values() for name in one.get("DependsOn", [])} <= mine.keys()
    waiting = [name for name, one in theirs.items() if "DependsOn" in one and name in mine]
    assert [len(mine[name]["DependsOn"]) for name in waiting] == [
        len(theirs[name]["DependsOn"]) for name in waiting
    ]

    # And each function has the same settings
    for name, one in theirs.items():
        if one["Type"] == "AWS::Lambda::Function":
            found = mine[name]["Properties"]
            assert {**found, "Code": None, "Tags": None} == {**one["Properties"], "Code": None, "Tags": None}
            assert {tag["Key"] for tag in found["Tags"]} == {"project", "stage", "lambda:createdBy"}


def test_sam_publishes_a_version_for_any_changed_setting(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given the application, and the same with another timeout of one function
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    def versions(**settings: Any) -> set[str]:
        content = read(package, "sam/template.yaml")
        functions = [one for one in content["Resources"].values() if one["Type"] == "AWS::Serverless::Function"]
        for one in functions:
            one["Properties"]["CodeUri"] = "s3://bucket/key"
        functions[0]["Properties"].update(settings)
        expanded = transform(content, {"TrafficShift": ALL_AT_ONCE}, SimpleNamespace(load=dict))["Resources"]
        return {name for name, one in expanded.items() if one["Type"] == "AWS::Lambda::Version"}

    # Then that function alone gets another version
    before, after = versions(), versions(Timeout=899)
    assert (len(before - after), len(after - before)) == (1, 1)
