"""A synthesized stage, read as the tests need it: resources by type, properties, references."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STAGES = ("dev", "staging", "prod", "local")
Properties = dict[str, Any]


@dataclass(frozen=True)
class Assembly:
    """The cloud assembly of one stage; logical ids are unique over its stacks."""

    stage: str
    folder: Path

    @cached_property
    def template_files(self) -> list[Path]:
        return sorted(self.folder.glob("*.template.json"))

    @cached_property
    def _templates(self) -> list[dict[str, Any]]:
        return [json.loads(file.read_text()) for file in self.template_files]

    @cached_property
    def resources(self) -> dict[str, dict[str, Any]]:
        every = [entry for template in self._templates for entry in template["Resources"].items()]
        assert len(dict(every)) == len(every), "two stacks share a logical id"
        return dict(every)

    @cached_property
    def outputs(self) -> dict[str, Any]:
        return {
            name: output["Value"]
            for template in self._templates
            for name, output in template.get("Outputs", {}).items()
        }

    def of_type(self, kind: str) -> dict[str, Properties]:
        """The properties of every ``AWS::<kind>``, by logical id; at least one, lest a test pass on nothing."""
        found = {
            name: resource.get("Properties", {})
            for name, resource in self.resources.items()
            if resource["Type"] == f"AWS::{kind}"
        }
        assert found, f"stage {self.stage} has no AWS::{kind}"
        return found

    def only(self, kind: str) -> Properties:
        """The properties of the one resource of this type."""
        (properties,) = self.of_type(kind).values()
        return properties

    @cached_property
    def submit_method(self) -> Properties:
        """The method that takes submissions: the one with an integration of SQS, not of a function."""
        methods = self.of_type("ApiGateway::Method").values()
        (found,) = [method for method in methods if method["Integration"].get("Type") == "AWS"]
        return found

    def function(self, module: str) -> tuple[str, Properties]:
        """The logical id and properties of the function with this entry point."""
        functions = self.of_type("Lambda::Function").items()
        (found,) = [one for one in functions if one[1]["Handler"] == f"sluice_handlers.{module}.handler"]
        return found

    def invoked(self, reference: Any) -> str:
        """The logical id of the function that is invoked through the alias in a reference, however it is put."""
        aliases = self.of_type("Lambda::Alias")
        (alias,) = set(re.findall(r'"Ref": "(\w+)"', json.dumps(reference))) & set(aliases)
        return logical_id(aliases[alias]["FunctionName"])

    def allowed(self, module: str) -> dict[str, list[Any]]:
        """What a function may do, by action: the resources."""
        role = logical_id(self.function(module)[1]["Role"])
        grants: dict[str, list[Any]] = {}
        for statement in self.statements_of_role(role):
            assert statement["Effect"] == "Allow"
            for action in listed(statement["Action"]):
                grants.setdefault(action, []).extend(listed(statement["Resource"]))
        return grants

    def statements(self) -> Iterator[tuple[str, Properties]]:
        """Every policy statement in the assembly, inline, managed or on a resource, with its owner's id."""
        for name, resource in self.resources.items():
            for document in _documents(resource.get("Properties", {})):
                for statement in document["Statement"]:
                    yield name, statement

    def statements_of_role(self, role: str) -> list[Properties]:
        """What a role, given by logical id, is allowed through its policies."""
        properties = self.resources[role]["Properties"]
        assert not properties.get("Policies"), f"{role} has inline policies, which this does not read"
        return [
            statement
            for policy in self.of_type("IAM::Policy").values()
            if {"Ref": role} in policy["Roles"]
            for statement in policy["PolicyDocument"]["Statement"]
        ]


def _documents(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "Statement" in value:
            yield value
        for part in value.values():
            yield from _documents(part)
    elif isinstance(value, list):
        for part in value:
            yield from _documents(part)


def listed(value: Any) -> list[Any]:
    """IAM's one-or-many as a list."""
    return value if isinstance(value, list) else [value]


def logical_id(reference: Any) -> str:
    """The resource that a ``Ref`` or a ``Fn::GetAtt`` names."""
    if "Ref" in reference:
        return str(reference["Ref"])
    return str(reference["Fn::GetAtt"][0])


def short(name: str) -> str:
    """A logical id without the CDK's hash."""
    return re.sub(r"[0-9A-F]{8}$", "", name)
