"""`passthroughBehavior`: which content types an integration takes without a template.

MiniStack applies NEVER only where the integration has at least one template, and does not know
WHEN_NO_TEMPLATES. AWS answers 415 UNSUPPORTED_MEDIA_TYPE for every content type without a template under
NEVER, and under WHEN_NO_TEMPLATES as soon as one template is defined ("Method request behavior for payloads
without mapping templates for REST APIs in API Gateway"). Proxy integrations have no templates and take all.
"""

from __future__ import annotations

from typing import Any

from ministack.services import apigateway_v1 as gateway

from sluice_harness.compat.gateway.request_validation import media_type
from sluice_harness.compat.patching import expect


def apply() -> None:
    """Refuse the content types that AWS refuses."""
    expect(gateway, "_check_passthrough_behavior", "integration", "headers")
    gateway._check_passthrough_behavior = _check


def template_for(templates: dict[str, str] | None, headers: dict[str, str]) -> str | None:
    """Return the request template of the request's content type, parameters and case aside."""
    wanted = media_type(headers)
    for name, template in (templates or {}).items():
        if name.partition(";")[0].strip().lower() == wanted:
            return template
    return None


def _check(integration: dict[str, Any], headers: dict[str, str]) -> Any:
    if integration.get("type") in ("AWS_PROXY", "HTTP_PROXY"):
        return None
    behavior = (integration.get("passthroughBehavior") or "WHEN_NO_MATCH").upper()
    templates = integration.get("requestTemplates") or {}
    refuses = behavior == "NEVER" or (behavior == "WHEN_NO_TEMPLATES" and bool(templates))
    if refuses and template_for(templates, headers) is None:
        return gateway._gw_error("UNSUPPORTED_MEDIA_TYPE", "Unsupported Media Type")
    return None
