"""Request validators: bodies are checked against the method's models.

MiniStack's CloudFormation makes a validator's id and no validator, and drops a method's `RequestValidatorId`,
so that no body is ever checked; its check then takes the `application/json` model for every content type and
an empty body for malformed JSON. AWS checks a body against the model registered for its content type, or
`$default`, skips the check where there is none ("Request validation for REST APIs in API Gateway"), reads an
empty body as `{}`, and says what was wrong in `$context.error.validationErrorString`. Closed with handlers
that write through the gateway's own store, and a check that picks the model as AWS does; the engine's
draft-04 evaluation itself is sound and stays.
"""

from __future__ import annotations

import json
from typing import Any

from ministack.services import apigateway_v1 as gateway
from ministack.services.cloudformation import provisioners

from sluice_harness.compat.gateway import exchange, schema_errors
from sluice_harness.compat.patching import expect

TYPE = "AWS::ApiGateway::RequestValidator"


def apply() -> None:
    """Provision validators from CloudFormation and check bodies as AWS does."""
    handlers = provisioners._RESOURCE_HANDLERS
    if (
        TYPE not in handlers
        or handlers["AWS::ApiGateway::Method"]["create"] is not provisioners._apigw_method_create
    ):
        raise RuntimeError(f"the CloudFormation handlers of {TYPE} and Method are not where they were")
    expect(gateway, "_put_method", "api_id", "resource_id", "http_method", "data")
    expect(provisioners, "_apigw_method_create", "logical_id", "props", "stack_name")
    expect(
        gateway, "_check_request_validation", "method_obj", "api_id", "request", "headers", "body", "query_params"
    )
    handlers[TYPE] = {"create": _create, "update": _update, "delete": _delete}
    # The update handler calls the create handler by its global name.
    provisioners._apigw_method_create = _wire_validator(provisioners._apigw_method_create)
    handlers["AWS::ApiGateway::Method"]["create"] = provisioners._apigw_method_create
    gateway._check_request_validation = _check


def _create(logical_id: str, props: dict[str, Any], stack_name: str) -> tuple[str, dict[str, Any]]:
    data = {"name": props.get("Name", ""), **_flags(props)}
    status, _headers, body = gateway._create_request_validator(props.get("RestApiId", ""), data)
    if status >= 400:  # noqa: PLR2004 - an HTTP error
        raise ValueError(f"{TYPE} {logical_id} of {stack_name} could not be created: {body!r}")
    made = json.loads(body)["id"]
    return made, {"RequestValidatorId": made}


def _update(
    physical_id: str, old_props: dict[str, Any], new_props: dict[str, Any], stack_name: str
) -> tuple[str, dict[str, Any]]:
    if any(old_props.get(name) != new_props.get(name) for name in ("RestApiId", "Name")):
        made = _create(physical_id, new_props, stack_name)
        _delete(physical_id, old_props)
        return made
    gateway._request_validators[new_props["RestApiId"]][physical_id].update(_flags(new_props))
    return physical_id, {"RequestValidatorId": physical_id}


def _delete(physical_id: str, props: dict[str, Any]) -> None:
    gateway._request_validators.get(props.get("RestApiId", ""), {}).pop(physical_id, None)


def _flags(props: dict[str, Any]) -> dict[str, bool]:
    names = ("ValidateRequestBody", "ValidateRequestParameters")
    # A template may write a boolean as a string.
    return {name[0].lower() + name[1:]: str(props.get(name, False)).lower() == "true" for name in names}


def _wire_validator(original: Any) -> Any:
    def create(logical_id: str, props: dict[str, Any], stack_name: str) -> Any:
        made = original(logical_id, props, stack_name)
        resource = gateway._resources.get(props.get("RestApiId", ""), {}).get(props.get("ResourceId", ""))
        if resource and props.get("RequestValidatorId"):
            method = resource["resourceMethods"][props.get("HttpMethod", "ANY")]
            method["requestValidatorId"] = props["RequestValidatorId"]
        return made

    return create


def _check(  # noqa: PLR0917 - the engine's signature
    method_obj: dict[str, Any],
    api_id: str,
    request: dict[str, Any],
    headers: dict[str, str],
    body: bytes,
    query_params: dict[str, list[str]],
) -> Any:
    """Return the gateway error for this request, or None where it passes."""
    validator = gateway._request_validators.get(api_id, {}).get(method_obj.get("requestValidatorId") or "")
    if not validator:
        return None
    if validator.get("validateRequestParameters"):
        missing = gateway._missing_request_parameters(method_obj, request, headers, query_params)
        if missing:
            text = f"Missing required request parameters: [{', '.join(missing)}]"
            return gateway._gw_error("BAD_REQUEST_PARAMETERS", text)
    if not validator.get("validateRequestBody"):
        return None
    schema = _schema(method_obj.get("requestModels") or {}, api_id, headers)
    return None if schema is None else _check_body(schema, body)


def _schema(models: dict[str, str], api_id: str, headers: dict[str, str]) -> Any:
    content_type = media_type(headers)
    by_type = {name.partition(";")[0].strip().lower(): model for name, model in models.items()}
    model = by_type.get(content_type) or models.get("$default")
    return gateway._model_schema(api_id, model) if model else None


def _check_body(schema: Any, body: bytes) -> Any:
    refused = gateway._gw_error("BAD_REQUEST_BODY", "Invalid request body")
    try:
        document = json.loads(body or b"{}", parse_constant=_not_json)
    except (ValueError, RecursionError):
        exchange.current().context["error"]["validationErrorString"] = "[Invalid JSON]"
        return refused
    try:
        valid = gateway._json_depth(document) <= gateway._MAX_BODY_DEPTH and gateway._json_schema_valid(
            schema, document, schema
        )
    except gateway._SchemaLoop:
        return gateway._gw_error("DEFAULT_5XX", "Internal server error")
    if valid:
        return None
    problems = f"[{', '.join(schema_errors.describe(schema, document))}]"
    # Its quotes are escaped, so that a template may put it between quotes.
    exchange.current().context["error"]["validationErrorString"] = json.dumps(problems, ensure_ascii=False)[1:-1]
    return refused


def _not_json(constant: str) -> Any:
    raise ValueError(f"{constant} is Python's, not JSON")


def media_type(headers: dict[str, str]) -> str:
    """Return the request's content type without parameters; a missing one counts as JSON, as in AWS."""
    declared = gateway._header_ci(headers, "content-type") or "application/json"
    return str(declared).partition(";")[0].strip().lower()
