"""The API as a synthesized template has it: methods, the gateway's own answers, the model, the throttle."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Properties = dict[str, Any]
_HEADER = "gatewayresponse.header."
# A problem in a mapping template; it has no object within.
_PROBLEM = re.compile(r'\{"type": "urn:[^}]*\}')
# API Gateway Developer Guide, "Gateway response types for API Gateway". The default stands for several statuses:
# the gateway's own failures are 500, those of a function 502.
_ANY_METHOD = ("UNAUTHORIZED", "ACCESS_DENIED", "THROTTLED", "AUTHORIZER_FAILURE", "INTEGRATION_TIMEOUT")
_ERROR, _BAD_GATEWAY = 500, 502


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as the gateway answers it.

    Attributes
    ----------
    status : int
        Its status code.
    problem : dict
        Its body; the request's id is still a variable.
    headers : mapping
        What it has besides its content type.

    """

    status: int
    problem: dict[str, Any]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Api:
    """The API.

    Attributes
    ----------
    methods : mapping
        The properties of each method by its verb and path: ``("POST", "/submit-job")``.
    request_schema : dict
        What a submission may hold, in JSON schema, draft 4.
    rate, burst : int
        Requests a second, and at once, of the whole API.

    """

    methods: Mapping[tuple[str, str], Properties]
    request_schema: dict[str, Any]
    rate: int
    burst: int
    gateway_responses: Mapping[str, Properties]

    def refusals(self, method: Properties) -> Iterator[Refusal]:
        """Yield what the gateway, and an integration without a function, answer to a method's failing requests."""
        integration = method["Integration"]
        kinds = [*_ANY_METHOD]
        if "RequestValidatorId" in method:
            kinds.append("BAD_REQUEST_BODY")
        if integration.get("PassthroughBehavior") == "NEVER":
            kinds += ["REQUEST_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"]
        yield self._answered("DEFAULT_5XX", _ERROR)
        for kind in kinds:
            yield self._answered(kind)
        if integration["Type"] == "AWS_PROXY":
            yield self._answered("DEFAULT_5XX", _BAD_GATEWAY)
        for response in integration.get("IntegrationResponses", []):
            for text in _PROBLEM.findall(response["ResponseTemplates"]["application/json"]):
                problem = json.loads(text)
                yield Refusal(problem["status"], problem, {})

    def _answered(self, kind: str, status: int | None = None) -> Refusal:
        response = self.gateway_responses[kind]
        headers = {
            name.removeprefix(_HEADER): value.strip("'")
            for name, value in response["ResponseParameters"].items()
            if name != f"{_HEADER}Content-Type"
        }
        problem = json.loads(response["ResponseTemplates"]["application/json"])
        return Refusal(status or int(response["StatusCode"]), problem, headers)


def read_api(assembly: Path) -> Api:
    """Read the API of an assembly."""
    templates = [json.loads(path.read_text()) for path in sorted(assembly.glob("*.template.json"))]
    resources = {name: one for template in templates for name, one in template["Resources"].items()}

    def of_type(kind: str) -> list[Properties]:
        return [one["Properties"] for one in resources.values() if one["Type"] == f"AWS::ApiGateway::{kind}"]

    (model,) = of_type("Model")
    (stage,) = of_type("Stage")
    (settings,) = stage["MethodSettings"]
    return Api(
        methods={(one["HttpMethod"], _path(one["ResourceId"], resources)): one for one in of_type("Method")},
        request_schema=model["Schema"],
        rate=settings["ThrottlingRateLimit"],
        burst=settings["ThrottlingBurstLimit"],
        gateway_responses={one["ResponseType"]: one for one in of_type("GatewayResponse")},
    )


def _path(reference: Properties, resources: Mapping[str, Any]) -> str:
    """Return a resource's path, by way of its parents; the root is an attribute of the API, and no resource."""
    if "Ref" not in reference:
        return ""
    found = resources[reference["Ref"]]["Properties"]
    return f"{_path(found['ParentId'], resources)}/{found['PathPart']}"
