"""Aliases and versions: what an invocation through one is, and what holds for all of a function.

MiniStack resolves an alias to the version that it points at and forgets the alias: the function is told another
ARN than the one that was invoked, an alias's own settings for asynchronous invocations and its weights mean
nothing, and neither does the function's reserved concurrency. A deleted version's environments stay for ever.

In AWS `invoked_function_arn` "indicates if the invoker specified a version number or alias" (Lambda Developer
Guide, "Using the Lambda context object to retrieve Python function information"); an alias with a routing
configuration gives its second version a share of the invocations, by chance ("Implement Lambda canary deployments
using a weighted alias"); asynchronous invocation is configured "on a function, version, or alias" ("Configuring
error handling settings for Lambda asynchronous invocation"); reserved concurrency "applies to the function as a
whole, including versions and aliases" ("Configuring reserved concurrency for a function").

Closed where names are resolved, where concurrency and retries are looked up, and where versions are deleted.
"""

from __future__ import annotations

import random
from contextvars import ContextVar
from typing import Any

from ministack.services import lambda_svc
from ministack.services.cloudformation import provisioners

from sluice_harness.compat.patching import expect

Record = dict[str, Any]

LATEST = "$LATEST"
_VERSION = "AWS::Lambda::Version"

# The alias through which the Invoke API was called in this context.
_invoked: ContextVar[str | None] = ContextVar("sluice_invoked_alias", default=None)


def apply() -> None:
    """Resolve aliases as Lambda does, and forget versions as it does."""
    resolve = expect(lambda_svc, "_effective_func_record_for_qualifier", "func", "qualifier")
    reserved = expect(lambda_svc, "_reserved_concurrency", "func", "config")
    invoke_later = expect(lambda_svc, "invoke_async_with_retry", "func", "event")
    expect(lambda_svc, "_event_invoke_config", "func", "qualifier")
    expect(lambda_svc, "_lambda_function_name_and_qualifier_from_arn", "value")

    def resolve_alias(func: Record | None, qualifier: str | None) -> tuple[Record | None, Record | None]:
        alias = _alias(func, qualifier)
        if alias is None:
            found: tuple[Record | None, Record | None] = resolve(func, qualifier)
            return found
        record = resolve(func, _version(alias))[0]
        if record is None:
            return None, None
        invoked = _as_invoked(record, alias["AliasArn"])
        return invoked, invoked["config"]

    def reserved_for_all(func: Record, config: Record) -> int | None:
        found: int | None = reserved(lambda_svc._functions.get(config.get("FunctionName")) or func, config)
        return found

    def invoke_later_as_configured(func: Record, event: Any) -> None:
        arn = _invoked.get() or (func.get("config") or func).get("FunctionArn", "")
        name, qualifier = lambda_svc._lambda_function_name_and_qualifier_from_arn(arn)
        whole = lambda_svc._functions.get(name)
        if qualifier and whole:
            own = lambda_svc._event_invoke_config(whole, qualifier)
            func = {**func, "event_invoke_config": own, "event_invoke_configs": {}}
        invoke_later(func, event)

    lambda_svc._effective_func_record_for_qualifier = resolve_alias
    lambda_svc._reserved_concurrency = reserved_for_all
    lambda_svc.invoke_async_with_retry = invoke_later_as_configured
    _share_out_direct_invocations()
    _forget_deleted_versions()


def _alias(func: Record | None, name: str | None) -> Record | None:
    found: Record | None = (func or {}).get("aliases", {}).get(name)
    return found


def _version(alias: Record) -> str:
    """Return the version that an alias gives its next invocation to."""
    version: str = alias.get("FunctionVersion", LATEST)
    weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    for other, weight in weights.items():  # one at most: an alias points at two versions
        if random.random() < weight:  # noqa: S311 - traffic
            return str(other)
    return version


def _as_invoked(record: Record, arn: str) -> Record:
    """Return what is to be executed as it is told that it was invoked."""
    return {**record, "config": {**(record.get("config") or record), "FunctionArn": arn}}


def _share_out_direct_invocations() -> None:
    """Let the Invoke API, which resolves aliases by itself, go by weights, too."""
    parameters = ("name", "event", "headers", "path_qualifier", "query_params")
    invoke = expect(lambda_svc, "_invoke", *parameters)
    execute = expect(lambda_svc, "_execute_function", "func", "event")
    expect(lambda_svc, "_qualifier_from_path_or_query", "path_qualifier", "query_params")

    async def invoke_version(
        name: str, event: Any, headers: Any, path_qualifier: str | None = None, query_params: Any = None
    ) -> Any:
        asked = lambda_svc._qualifier_from_path_or_query(path_qualifier, query_params)
        alias = _alias(lambda_svc._functions.get(name), asked)
        if alias is None:
            return await invoke(name, event, headers, path_qualifier, query_params)
        token = _invoked.set(alias["AliasArn"])
        try:
            return await invoke(name, event, headers, _version(alias), query_params)
        finally:
            _invoked.reset(token)

    def execute_as_invoked(func: Record, event: Any) -> Record:
        arn = _invoked.get()
        result: Record = execute(_as_invoked(func, arn) if arn else func, event)
        return result

    lambda_svc._invoke = invoke_version
    lambda_svc._execute_function = execute_as_invoked


def _forget_deleted_versions() -> None:
    handlers = provisioners._RESOURCE_HANDLERS[_VERSION]
    delete = expect(provisioners, "_lambda_version_delete", "physical_id", "props")
    expect(lambda_svc, "invalidate_worker", "func_name", "qualifier", "account", "region")
    if handlers["delete"] is not delete:
        raise RuntimeError(f"the CloudFormation handlers of {_VERSION} are not where they were")

    def delete_with_environments(physical_id: str, props: Record) -> None:
        delete(physical_id, props)
        name, version = lambda_svc._lambda_function_name_and_qualifier_from_arn(physical_id)
        lambda_svc.invalidate_worker(name, version, lambda_svc.get_account_id(), lambda_svc.get_region())

    handlers["delete"] = delete_with_environments
