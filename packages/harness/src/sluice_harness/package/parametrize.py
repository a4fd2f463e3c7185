"""Puts the parameters into a merged template."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sluice_harness.package.merge import PackageError, Template
from sluice_harness.package.parameters import PACKAGED_STAGE, PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sluice_harness.package.parameters import Parameter, Place


def parametrize(template: Template) -> Template:
    """Return a merged template with its parameters, at what the stage has as defaults.

    Raises
    ------
    PackageError
        A parameter goes nowhere, its places differ, or a stand-in is where no reference can be.

    """
    template = _with_names(json.loads(json.dumps(template)))
    definitions = {one.name: _define(one, template) for one in PARAMETERS}
    optional = [one for one in PARAMETERS if one.nothing is not None]
    for one in optional:
        _make_conditional(one, template)
    return {
        "Metadata": {"AWS::CloudFormation::Interface": _interface()},
        "Parameters": definitions,
        "Conditions": {
            one.condition: {"Fn::Not": [{"Fn::Equals": [{"Ref": one.name}, one.nothing]}]} for one in optional
        },
        **template,
    }


def _define(parameter: Parameter, template: Template) -> dict[str, Any]:
    """Put a parameter into its places, and return its definition."""
    defaults = []
    for place in parameter.places:
        for holder, key in _spots(template, place):
            value = holder[key]
            defaults.append(value.removeprefix(place.prefix) if place.prefix else value)
            longer = {"Fn::Sub": f"{place.prefix}${{{parameter.name}}}"}
            holder[key] = longer if place.prefix else {"Ref": parameter.name}
    if parameter.places and len(set(defaults)) != 1:
        raise PackageError(f"{parameter.name} should stand for one value and stands for {defaults}")
    default = {"Default": defaults[0]} if defaults else {}
    return {"Description": parameter.description, **default, **parameter.rules}


def _spots(template: Template, place: Place) -> Iterator[tuple[Any, str]]:
    """Yield what holds each property of a place, and its key there."""
    for name, resource in template["Resources"].items():
        if resource["Type"] == place.kind and name.startswith(place.owner):
            yield from _ends(resource["Properties"], place.path)


def _ends(part: Any, path: Sequence[str]) -> Iterator[tuple[Any, str]]:
    step, *rest = path
    if step == "*":
        for one in part:
            yield from _ends(one, rest)
    elif step in part and rest:
        yield from _ends(part[step], rest)
    elif step in part:
        yield part, step


def _with_names(template: Template) -> Template:
    """Put references where the stand-ins are."""
    names = {one.stand_in: one.name for one in PARAMETERS if one.stand_in}
    text = json.dumps(template)
    for stand_in, name in names.items():
        if stand_in not in text:
            raise PackageError(f"{name} goes nowhere: {stand_in} is not in the template")
    # The CDK makes logical ids, and references to them, of names, too; there the stage's name has no meaning.
    for logical_id in template["Resources"]:
        text = text.replace(logical_id, logical_id.replace(PACKAGED_STAGE, ""))
    named: Template = _referring(json.loads(text), names)
    if len(named["Resources"]) != len(template["Resources"]):
        raise PackageError("without the stage's name two logical ids are the same")
    left = json.dumps(named)
    for stand_in, name in names.items():
        if stand_in in left:
            at = left.index(stand_in)
            raise PackageError(f"{name} is where no reference can be: {left[max(0, at - 80) : at + 80]}")
    return named


def _referring(value: Any, names: dict[str, str]) -> Any:
    """Return a part of a template with references in place of the stand-ins in its texts."""
    if isinstance(value, str):
        return _reference(value, names)
    if isinstance(value, list):
        return [_referring(part, names) for part in value]
    if not isinstance(value, dict):
        return value
    if "Fn::Sub" in value:
        return {"Fn::Sub": _substituting(value["Fn::Sub"], names)}
    return {key: _referring(part, names) for key, part in value.items()}


def _reference(text: str, names: dict[str, str]) -> Any:
    if text in names:
        return {"Ref": names[text]}
    if not any(stand_in in text for stand_in in names):
        return text
    return {"Fn::Sub": _replaced(text.replace("${", "${!"), names)}


def _substituting(argument: Any, names: dict[str, str]) -> Any:
    """Return the argument of an Fn::Sub, whose text substitutes already."""
    if isinstance(argument, str):
        return _replaced(argument, names)
    text, values = argument
    replaced = _replaced(text, names)
    if replaced != text and set(values) & set(names.values()):
        raise PackageError(f"an Fn::Sub has a name of its own that is a parameter's: {', '.join(values)}")
    return [replaced, _referring(values, names)]


def _replaced(text: str, names: dict[str, str]) -> str:
    for stand_in, name in names.items():
        text = text.replace(stand_in, f"${{{name}}}")
    return text


def _make_conditional(parameter: Parameter, template: Template) -> None:
    """Let what serves a parameter be there only if the parameter has a value, and others do without it if not."""
    resources = template["Resources"]
    serving = [name for name in resources if name.startswith(parameter.serves)]
    if not serving:
        raise PackageError(f"{parameter.name} has nothing that is called {parameter.serves}")
    for name in serving:
        resources[name]["Condition"] = parameter.condition
    for resource in resources.values():
        if resource.get("Condition") != parameter.condition:
            _do_without(resource, serving, parameter.condition)


def _do_without(resource: dict[str, Any], others: list[str], condition: str) -> None:
    """Let a resource refer to others only if they are there, which an update policy can do and DependsOn cannot.

    CloudFormation makes what a policy refers to first anyway: SAM's aliases have nothing else.
    """
    policy = json.dumps(resource.get("UpdatePolicy"))
    if any(json.dumps({"Ref": name}) in policy for name in others):
        resource["UpdatePolicy"] = {"Fn::If": [condition, resource["UpdatePolicy"], {"Ref": "AWS::NoValue"}]}
    kept = [name for name in _listed(resource.pop("DependsOn", [])) if name not in others]
    if kept:
        resource["DependsOn"] = kept


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _interface() -> dict[str, Any]:
    """Say in which order and under which headings CloudFormation's console asks for the parameters."""
    groups: dict[str, list[str]] = {}
    for one in PARAMETERS:
        groups.setdefault(one.group, []).append(one.name)
    return {
        "ParameterGroups": [{"Label": {"default": group}, "Parameters": names} for group, names in groups.items()],
        "ParameterLabels": {one.name: {"default": one.label} for one in PARAMETERS},
    }
