"""The same package as an application of AWS SAM: functions from the zips beside it, published under an alias."""

from __future__ import annotations

import re
from typing import Any

from sluice_harness.package.merge import PackageError, Template, rewrite
from sluice_harness.package.parameters import ALL_AT_ONCE, BUCKET, SHIFT

Resources = dict[str, dict[str, Any]]
_FUNCTION, _VERSION, _ALIAS = "AWS::Lambda::Function", "AWS::Lambda::Version", "AWS::Lambda::Alias"
_APPLICATION, _GROUP = "AWS::CodeDeploy::Application", "AWS::CodeDeploy::DeploymentGroup"
_POLICY = "AWS::IAM::Policy"
# What SAM calls as CloudFormation does (AWS SAM Developer Guide, "AWS::Serverless::Function").
_SAME = {
    *("Architectures", "Description", "Environment", "EphemeralStorage", "Handler", "LoggingConfig", "MemorySize"),
    *("ReservedConcurrentExecutions", "Role", "Runtime", "Timeout", "VpcConfig"),
}
# Whether SAM is to make what CodeDeploy needs has to be a parameter or in a mapping (the same page,
# "DeploymentPreference"): a condition is decided later than SAM needs to know.
_MAPPING, _KEY = "IsGradual", "Enabled"
_SECTIONS = [
    *("AWSTemplateFormatVersion", "Transform", "Description", "Metadata"),
    *("Parameters", "Mappings", "Conditions", "Resources", "Outputs"),
]
_REFERENCE = re.compile(r"\$\{([^!}]+)\}")


def as_sam(template: Template, folder: str) -> Template:
    """Return a packaged template in SAM's terms.

    Functions become SAM's, which makes their versions and aliases, and whatever CodeDeploy needs. Event source
    mappings, permissions and roles stay as they are: they are exact, and dashboards refer to them.

    Parameters
    ----------
    template : Template
        The template, whose functions' code has keys that are names of zips.
    folder : str
        Where the zips are, seen from the template's own folder.

    Raises
    ------
    PackageError
        A function has a setting that is not known to be the same in SAM.

    """
    resources: Resources = template["Resources"]
    published = {
        _function_of(one): _publication(one, resources) for one in resources.values() if one["Type"] == _ALIAS
    }
    gone = _made_by_sam(resources)
    converted = {
        name: _function(name, one, folder, published.get(name, {})) if one["Type"] == _FUNCTION else one
        for name, one in resources.items()
        if name not in gone
    }
    aliases = {
        name: f"{_function_of(one)}Alias{one['Properties']['Name']}"
        for name, one in resources.items()
        if one["Type"] == _ALIAS
    }
    converted = {name: _after(one, aliases) for name, one in converted.items()}
    names = {
        name: f"{_function_of(one)}.{one['Type'].rpartition(':')[2]}"
        for name, one in resources.items()
        if one["Type"] in (_VERSION, _ALIAS)
    }
    shifts = template["Parameters"][SHIFT]["AllowedValues"]
    gradual = {shift: {_KEY: "false" if shift == ALL_AT_ONCE else "true"} for shift in shifts}
    sections = {
        **rewrite(template, _without_bucket),
        "Transform": "AWS::Serverless-2016-10-31",
        "Mappings": {_MAPPING: gradual},
        "Resources": rewrite(converted, lambda part: _renamed(part, names)),
    }
    return {section: sections[section] for section in _SECTIONS}


def _function_of(version_or_alias: dict[str, Any]) -> str:
    return str(version_or_alias["Properties"]["FunctionName"]["Ref"])


def _made_by_sam(resources: Resources) -> set[str]:
    """Return what SAM makes itself, for functions with an alias and a deployment preference."""
    kinds = (_VERSION, _ALIAS, _APPLICATION, _GROUP)
    roles = {
        one["Properties"]["ServiceRoleArn"]["Fn::GetAtt"][0] for one in resources.values() if one["Type"] == _GROUP
    }
    policies = {
        name
        for name, one in resources.items()
        if one["Type"] == _POLICY and {role["Ref"] for role in one["Properties"]["Roles"]} <= roles
    }
    return {name for name, one in resources.items() if one["Type"] in kinds} | roles | policies


def _publication(alias: dict[str, Any], resources: Resources) -> dict[str, Any]:
    """Return what publishes a function as an alias of the template does."""
    # For a changed setting as well as for changed code, as the CDK does.
    told = {"AutoPublishAlias": alias["Properties"]["Name"], "AutoPublishAliasAllProperties": True}
    if "UpdatePolicy" not in alias:
        return told
    condition, policy, none = alias["UpdatePolicy"]["Fn::If"]
    group = resources[policy["CodeDeployLambdaAliasUpdate"]["DeploymentGroupName"]["Ref"]]
    alarms = [alarm["Name"] for alarm in group["Properties"]["AlarmConfiguration"]["Alarms"]]
    preference = {
        "Enabled": {"Fn::FindInMap": [_MAPPING, {"Ref": SHIFT}, _KEY]},
        "Type": {"Ref": SHIFT},
        "Alarms": {"Fn::If": [condition, alarms, [none]]},
    }
    return {**told, "DeploymentPreference": preference}


def _function(name: str, resource: dict[str, Any], folder: str, publication: dict[str, Any]) -> dict[str, Any]:
    properties = dict(resource["Properties"])
    converted = {"CodeUri": f"{folder}/{properties.pop('Code')['S3Key']}", **publication}
    if tracing := properties.pop("TracingConfig", None):
        converted["Tracing"] = tracing["Mode"]
    if tags := properties.pop("Tags", None):
        converted["Tags"] = {tag["Key"]: tag["Value"] for tag in tags}
    if unknown := properties.keys() - _SAME:
        raise PackageError(f"{name} has {', '.join(sorted(unknown))}, which may be another thing in SAM")
    return {**resource, "Type": "AWS::Serverless::Function", "Properties": {**properties, **converted}}


def _after(resource: dict[str, Any], aliases: dict[str, str]) -> dict[str, Any]:
    """Let a resource wait for the aliases that SAM makes, by their logical ids (SAM, "Generated resources")."""
    wanted = resource.get("DependsOn", [])
    if not aliases.keys() & set(wanted):
        return resource
    known = {"cfn-lint": {"config": {"ignore_checks": ["E3005"]}}}  # it knows no such id
    return {**resource, "DependsOn": [aliases.get(name, name) for name in wanted], "Metadata": known}


def _renamed(part: Any, names: dict[str, str]) -> Any:
    """Refer to versions and aliases as SAM calls them: ``Function.Version`` (SAM, "Generated resources")."""
    if not isinstance(part, dict):
        return part
    if "Ref" in part:
        return {"Ref": names.get(part["Ref"], part["Ref"])}
    if "Fn::GetAtt" in part:
        of, attribute = part["Fn::GetAtt"]
        return {"Fn::GetAtt": [names.get(of, of), attribute]}
    if isinstance(text := part.get("Fn::Sub"), str):
        # By names of their own: within a text, cfn-lint does not know SAM's.
        values = {}
        for reference in _REFERENCE.findall(text):
            of, _, attribute = reference.partition(".")
            if of in names:
                name = f"{names[of]}{attribute}".replace(".", "")
                values[name] = {"Fn::GetAtt": [names[of], attribute]} if attribute else {"Ref": names[of]}
                text = text.replace(f"${{{reference}}}", f"${{{name}}}")
        return {"Fn::Sub": [text, values]} if values else part
    return part


def _without_bucket(part: Any) -> Any:
    """Take the parameter for the bucket away: SAM says itself where it has put the code."""
    if isinstance(part, list):
        return [one for one in part if one != BUCKET]
    return {name: one for name, one in part.items() if name != BUCKET} if isinstance(part, dict) else part
