"""The compatibility layer: one module per gap between MiniStack and AWS.

Every module has ``apply()``, asserts on the symbol it replaces and has a conformance test in
``tests/stage/conformance/`` on the AWS behaviour it restores, so that an upgrade of the engine says at once
what changed.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

ENGINE_VERSION = "1.5.33"
# One gap each, in the order in which they are closed.
_PATCHES = [
    "exchange",
    "request_validation",
    "passthrough",
    "mapping_templates",
    "integration_credentials",
    "gateway_responses",
    "access_logs",
    "secure_transport",
    "batch_authorization",
    "queue_index",
    "system_attributes",
    "trace_header",
    "event_source_mapping",
    "log_streams",
    "log_wait",
    "handler_errors",
    "worker_lifetime",
    "worker_environment",
    "worker_retirement",
]


def apply(app: Any) -> Any:
    """Patch the imported engine and return the ASGI application to serve.

    Raises:
        RuntimeError: the installed engine is not the version these patches were written against.

    """
    found = version("ministack")
    if found != ENGINE_VERSION:
        raise RuntimeError(f"the compatibility layer is for ministack {ENGINE_VERSION}, not {found}: install that")
    for name in _PATCHES:
        import_module(f"{__name__}.{name}").apply()
    return app
