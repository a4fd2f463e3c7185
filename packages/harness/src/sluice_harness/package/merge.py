"""One template from a synthesized stage: its stacks merged, and nothing of the CDK left in it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

Template = dict[str, Any]
# What the CDK adds to every stack so that its CLI can check the account (CDK Developer Guide, "Bootstrapping").
_OF_BOOTSTRAP = {"Parameters": {"BootstrapVersion"}, "Rules": {"CheckBootstrapVersion"}}
_SECTIONS = {"Description", "Parameters", "Rules", "Resources", "Outputs"}


class PackageError(Exception):
    """The stage cannot be packaged as it is; the message says what stands in the way."""


def merge(assembly: Path) -> Template:
    """Return the stacks of an assembly as one template, with resources and outputs only.

    What one stack imports from another becomes a plain reference, the exports go, and so does all that is there
    for the CDK: its bootstrap parameter and rule, and the paths in resources' metadata.

    Raises
    ------
    PackageError
        Two stacks share a name, or a stack has what one template cannot have.

    """
    templates = [json.loads(file.read_text()) for file in sorted(assembly.glob("*.template.json"))]
    for template in templates:
        _check_sections(template)
    exports = {
        output["Export"]["Name"]: output["Value"]
        for template in templates
        for output in template.get("Outputs", {}).values()
        if "Export" in output
    }
    merged = {
        "Resources": _united(template["Resources"] for template in templates),
        "Outputs": _united(_told(template.get("Outputs", {})) for template in templates),
    }
    for resource in merged["Resources"].values():
        _forget_the_cdk(resource)

    def plain(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        return exports[part["Fn::ImportValue"]] if "Fn::ImportValue" in part else _readable(part)

    plain_template: Template = rewrite(merged, plain)
    return plain_template


def locate_code(template: Template, keys: Mapping[str, str], bucket: Any) -> Template:
    """Return the template with its assets in another bucket, under other keys.

    Parameters
    ----------
    template : Template
        The template.
    keys : mapping
        The assets' new keys by those of the CDK.
    bucket : object
        The bucket: a name, or a reference to a parameter.

    Raises
    ------
    PackageError
        The template takes something from a bucket that is no asset with a new key.

    """

    def located(part: Any) -> Any:
        if not isinstance(part, dict) or not {"S3Bucket", "S3Key"} <= part.keys():
            return part
        if part["S3Key"] not in keys:
            raise PackageError(f"{part['S3Key']} is no zipped asset: a package has no place for it")
        return {"S3Bucket": bucket, "S3Key": keys[part["S3Key"]]}

    found: Template = rewrite(template, located)
    return found


def rewrite(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a copy of a part of a template in which ``change`` has had each part of it, the innermost first."""
    if isinstance(value, dict):
        value = {name: rewrite(part, change) for name, part in value.items()}
    elif isinstance(value, list):
        value = [rewrite(part, change) for part in value]
    return change(value)


def _check_sections(template: Template) -> None:
    unknown = set(template) - _SECTIONS
    for section, known in _OF_BOOTSTRAP.items():
        unknown |= set(template.get(section, {})) - known
    if unknown:
        raise PackageError(f"a stack has {', '.join(sorted(unknown))}, which a package has no place for")


def _told(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out outputs for other stacks, and those that the CDK adds by itself, whose names end in a hash."""
    return {
        name: output
        for name, output in outputs.items()
        if "Export" not in output and not re.search(r"[0-9A-F]{8}$", name)
    }


def _united(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    united: dict[str, Any] = {}
    for part in parts:
        if twice := united.keys() & part.keys():
            raise PackageError(f"two stacks have {', '.join(sorted(twice))}")
        united.update(part)
    return united


def _readable(part: dict[str, Any]) -> dict[str, Any]:
    """Return a join of names and texts, as the CDK writes every longer text, as the substitution that it is."""
    separator, parts = part.get("Fn::Join", [None, []])
    if separator != "":
        return part
    texts = [_text(one) for one in parts]
    return part if None in texts else {"Fn::Sub": "".join(filter(None, texts))}


def _text(part: Any) -> str | None:
    """Return a part of a join as Fn::Sub has it, or None if it has no such thing."""
    if isinstance(part, str):
        return part.replace("${", "${!")
    if "Ref" in part:
        return f"${{{part['Ref']}}}"
    return f"${{{'.'.join(part['Fn::GetAtt'])}}}" if "Fn::GetAtt" in part else None


def _forget_the_cdk(resource: dict[str, Any]) -> None:
    metadata = {name: value for name, value in resource.pop("Metadata", {}).items() if not name.startswith("aws:")}
    if metadata:
        resource["Metadata"] = metadata
