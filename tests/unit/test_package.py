"""From stacks to one template with parameters: what becomes a reference, and what cannot be packaged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from sluice_harness import cdk_cli
from sluice_harness.package import __main__ as command
from sluice_harness.package import parametrize as module
from sluice_harness.package.merge import PackageError, locate_code, merge
from sluice_harness.package.parameters import PACKAGED_STAGE, Parameter, Place
from sluice_harness.package.parametrize import parametrize
from sluice_harness.package.sam import as_sam

if TYPE_CHECKING:
    from pathlib import Path

Template = dict[str, Any]
QUEUE, LOGS, TOPIC = "AWS::SQS::Queue", "AWS::Logs::LogGroup", "AWS::SNS::Topic"
TOLD: dict[str, Any] = {"group": "g", "label": "l", "description": "d"}
PARAMETERS = (
    Parameter(name="StageName", **TOLD, rules={"Type": "String"}, stand_in=PACKAGED_STAGE),
    Parameter(name="Days", **TOLD, rules={"Type": "Number"}, places=(Place(LOGS, ("Days",), owner="My"),)),
    Parameter(name="Mail", **TOLD, rules={"Type": "String"}, stand_in="mail@", nothing="", serves="Mails"),
)


@pytest.fixture(autouse=True)
def few_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARAMETERS", PARAMETERS)


def stacks() -> dict[str, Template]:
    """Two stacks; the second imports from the first, and serves every parameter."""
    exported = {"Value": {"Ref": "Queue"}, "Export": {"Name": "first:Queue"}}
    return {
        "first": {
            "Parameters": {"BootstrapVersion": {"Type": "String"}},
            "Rules": {"CheckBootstrapVersion": {}},
            "Resources": {"Queue": resource(QUEUE)},
            "Outputs": {"ExportsQueue": exported},
        },
        "second": {
            "Resources": {
                "MyLogs": resource(LOGS, Days=7, Of={"Fn::ImportValue": "first:Queue"}),
                "MailsOut": resource(TOPIC, To="mail@", From=PACKAGED_STAGE),
                "Last": resource(QUEUE),
            },
            "Outputs": {"Told": {"Value": "1"}, "RestApiEndpoint0CC88FF2": {"Value": "1"}},
        },
    }


def resource(kind: str, **properties: Any) -> Template:
    return {"Type": kind, "Properties": properties, "Metadata": {"aws:cdk:path": "a/b"}}


def packaged(folder: Path, templates: dict[str, Template]) -> Template:
    for name, template in templates.items():
        (folder / f"{name}.template.json").write_text(json.dumps(template))
    return parametrize(merge(folder))


def test_stacks_become_one_template(tmp_path: Path) -> None:
    # Given two stacks, when they are packaged
    made = packaged(tmp_path, stacks())

    # Then what one imported is a reference, values are parameters, and what serves one is conditional on it
    assert made["Resources"] == {
        "Queue": {"Type": QUEUE, "Properties": {}},
        "MyLogs": {"Type": LOGS, "Properties": {"Days": {"Ref": "Days"}, "Of": {"Ref": "Queue"}}},
        "MailsOut": {
            "Type": TOPIC,
            "Properties": {"To": {"Ref": "Mail"}, "From": {"Ref": "StageName"}},
            "Condition": "HasMail",
        },
        "Last": {"Type": QUEUE, "Properties": {}},
    }
    assert made["Parameters"]["Days"] == {"Description": "d", "Default": 7, "Type": "Number"}
    assert made["Conditions"] == {"HasMail": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Mail"}, ""]}]}}

    # And only what tells people something is put out
    assert made["Outputs"] == {"Told": {"Value": "1"}}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (PACKAGED_STAGE, {"Ref": "StageName"}),
        (f"a-{PACKAGED_STAGE}", {"Fn::Sub": "a-${StageName}"}),
        (f"${{literal}} {PACKAGED_STAGE}", {"Fn::Sub": "${!literal} ${StageName}"}),
        ({"Fn::Sub": f"${{Queue}} {PACKAGED_STAGE}"}, {"Fn::Sub": "${Queue} ${StageName}"}),
        (
            {"Fn::Sub": [f"${{A}} {PACKAGED_STAGE}", {"A": PACKAGED_STAGE}]},
            {"Fn::Sub": ["${A} ${StageName}", {"A": {"Ref": "StageName"}}]},
        ),
        (
            {"Fn::Join": ["", [f"{PACKAGED_STAGE} ${{x}} ", {"Ref": "Queue"}, {"Fn::GetAtt": ["Queue", "Arn"]}]]},
            {"Fn::Sub": "${StageName} ${!x} ${Queue}${Queue.Arn}"},
        ),
        ({"Fn::Join": [",", ["a", PACKAGED_STAGE]]}, {"Fn::Join": [",", ["a", {"Ref": "StageName"}]]}),
        (
            {"Fn::Join": ["", ["a", {"Fn::Select": [0, ["b"]]}]]},
            {"Fn::Join": ["", ["a", {"Fn::Select": [0, ["b"]]}]]},
        ),
        ("${literal}", "${literal}"),
    ],
)
def test_a_name_within_a_text_becomes_a_reference(tmp_path: Path, before: Any, after: Any) -> None:
    templates = stacks()
    templates["second"]["Resources"]["Last"]["Properties"]["Text"] = before
    assert packaged(tmp_path, templates)["Resources"]["Last"]["Properties"]["Text"] == after


def test_a_logical_id_loses_the_stage_s_name_wherever_it_is(tmp_path: Path) -> None:
    # Given a resource whose logical id has the stage's name in it, and others that refer to it
    templates = stacks()
    resources, name = templates["second"]["Resources"], f"Of{PACKAGED_STAGE}One"
    resources[name] = resource(QUEUE)
    resources["Last"] = {
        **resource(QUEUE, A={"Ref": name}, B={"Fn::GetAtt": [name, "Arn"]}, C={"Fn::Sub": f"${{{name}.Arn}}"}),
        "DependsOn": [name],
    }

    # Then it has not
    made = packaged(tmp_path, templates)["Resources"]
    assert "OfOne" in made
    assert made["Last"] == {
        "Type": QUEUE,
        "Properties": {
            "A": {"Ref": "OfOne"},
            "B": {"Fn::GetAtt": ["OfOne", "Arn"]},
            "C": {"Fn::Sub": "${OfOne.Arn}"},
        },
        "DependsOn": ["OfOne"],
    }


@pytest.mark.parametrize(
    ("section", "change", "said"),
    [
        ("Mappings", {"A": {}}, "a stack has Mappings"),
        ("Parameters", {"Mine": {"Type": "String"}}, "a stack has Mine"),
        ("Resources", {"Queue": resource(QUEUE)}, "two stacks have Queue"),
        ("Resources", {"Last": resource(QUEUE, **{PACKAGED_STAGE: 1})}, "StageName is where no reference can be"),
        ("Resources", {f"A{PACKAGED_STAGE}": resource(QUEUE), "A": resource(QUEUE)}, "logical ids are the same"),
        ("Resources", {"MyOther": resource(LOGS, Days=8)}, r"Days should stand for one value .*\[7, 8\]"),
        ("Resources", {"MyLogs": resource(LOGS)}, "Days should stand for one value"),
        ("Resources", {"MailsOut": resource(TOPIC)}, "goes nowhere"),
        (
            "Resources",
            {"Last": resource(QUEUE, Text={"Fn::Sub": [PACKAGED_STAGE, {"StageName": "another"}]})},
            "a name of its own",
        ),
    ],
)
def test_what_a_package_cannot_have_is_named(tmp_path: Path, section: str, change: Template, said: str) -> None:
    templates = stacks()
    templates["second"].setdefault(section, {}).update(change)
    with pytest.raises(PackageError, match=said):
        packaged(tmp_path, templates)


def test_nothing_that_would_serve_a_parameter_is_an_error(tmp_path: Path) -> None:
    templates = stacks()
    resources = templates["second"]["Resources"]
    resources["Else"] = resources.pop("MailsOut")
    with pytest.raises(PackageError, match="Mail has nothing that is called Mails"):
        packaged(tmp_path, templates)


@pytest.mark.parametrize("target", ["lambda", "host"])
def test_a_package_says_where_its_functions_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    # Given what is synthesized of the stage for a target
    def synthesize(_: str, folder: Path, *, on_engine: bool) -> Path:
        assert on_engine == (target == "host")
        (folder / "code").mkdir(parents=True)
        source = {"path": "code", "packaging": "zip"}
        files = {"1": {"source": source, "destinations": {"2": {"objectKey": "1.zip"}}}}
        (folder / "first.assets.json").write_text(json.dumps({"files": files}))
        for name, template in stacks().items():
            (folder / f"{name}.template.json").write_text(json.dumps(template))
        return folder

    monkeypatch.setattr(cdk_cli, "synthesize", synthesize)
    monkeypatch.setattr(command, "as_sam", lambda template, _: template)
    out = tmp_path / "dist"
    monkeypatch.setattr("sys.argv", ["package", "--target", target, "--out", str(out)])

    # When it is packaged, then the package and the command say which one it is
    command.main()
    told = (out / "VERSION").read_text().strip()
    assert told.split()[1:] == [target]
    assert f"version {told}: for " in capsys.readouterr().out


def test_code_that_is_in_no_zip_is_named() -> None:
    template = {"Resources": {"F": {"Properties": {"Code": {"S3Bucket": "b", "S3Key": "a.zip"}}}}}
    assert locate_code(template, {"a.zip": "functions/1.zip"}, {"Ref": "B"}) == {
        "Resources": {"F": {"Properties": {"Code": {"S3Bucket": {"Ref": "B"}, "S3Key": "functions/1.zip"}}}}
    }
    with pytest.raises(PackageError, match="is no zipped asset"):
        locate_code(template, {}, "bucket")


def test_a_setting_that_sam_may_have_otherwise_is_named() -> None:
    code = {"S3Bucket": "b", "S3Key": "a.zip"}
    function = resource("AWS::Lambda::Function", Code=code, ImageConfig={})
    template = {"Parameters": {"TrafficShift": {"AllowedValues": []}}, "Resources": {"F": function}}
    with pytest.raises(PackageError, match="F has ImageConfig"):
        as_sam(template, "..")
