"""The compatibility layer: one module per gap between MiniStack and AWS.

Every module named in ``_PATCHES`` has ``apply()``, asserts on the symbol it replaces and has a conformance test in
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
    "gateway.exchange",
    "gateway.request_validation",
    "gateway.passthrough",
    "gateway.mapping_templates",
    "gateway.integration_credentials",
    "gateway.gateway_responses",
    "gateway.access_logs",
    "tracing.daemon",
    "tracing.api",
    "tracing.sampling_rules",
    "tracing.function_traces",
    "tracing.function_segments",
    "tracing.gateway_segments",
    "tracing.queue_headers",
    "logs.insights",
    "access.secure_transport",
    "access.batch_authorization",
    "access.policy_documents",
    "access.service_roles",
    "access.mapping_roles",
    "access.function_policies",
    "access.role_trust",
    "access.call_resources",
    "access.missing_objects",
    "events.aws_sources",
    "events.queue_targets",
    "queues.queue_index",
    "queues.system_attributes",
    "queues.trace_header",
    "queues.event_source_mapping",
    "tables.prepared_statements",
    "tables.partiql_records",
    "tables.stream_mapping",
    "tables.key_conditions",
    "functions.aliases",
    "functions.log_streams",
    "functions.log_wait",
    "functions.handler_errors",
    "functions.shared_code",
    "functions.worker_lifetime",
    "functions.worker_environment",
    "functions.worker_retirement",
    "functions.environment_starts",
    "functions.throttles",
    "states.endings",
    "states.starts",
    "states.status_events",
    "states.lambda_tasks",
    "states.retries",
    "states.execution_logs",
    "states.execution_traces",
    "containers.awslogs",
    "containers.task_role",
    "containers.ecs_tasks",
    "containers.batch_api",
    "containers.batch_resources",
    "containers.network",
    "sam_transform",
    "stack_waits",
    "monitoring.cbor",
    "monitoring.api",
    "monitoring.cloudformation",
    "monitoring.saved_queries",
    "functions.code_deploy",
    "monitoring.scheduled_rules",
    "monitoring.embedded_metrics",
    "monitoring.gateway_metrics",
    "monitoring.queue_metrics",
    "monitoring.function_metrics",
    "monitoring.mapping_metrics",
    "monitoring.table_metrics",
    "monitoring.topic_metrics",
    "monitoring.rule_metrics",
    "monitoring.workflow_metrics",
    "monitoring.running_evaluator",
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
