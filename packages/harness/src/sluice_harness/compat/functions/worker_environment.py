"""A worker sees a function's environment, not the engine's.

MiniStack starts workers with its own environment below the function's: its settings leak (its `LOG_LEVEL`
would silence Powertools' logger, `AUTH` and the like are none of a function's business), `HOME` and the
temporary folder are shared, and `_HANDLER`, `AWS_EXECUTION_ENV`, `AWS_LAMBDA_INITIALIZATION_TYPE`,
`AWS_LAMBDA_LOG_GROUP_NAME` and `TZ` are missing. Packages that the engine's interpreter has in editable form
can be imported, so that a deployment package without them works here and fails in AWS.

Lambda sets these and nothing else besides the function's own (Lambda Developer Guide, "Working with Lambda
environment variables", "Defined runtime environment variables"), and each environment has a `/tmp` to itself.

Closed in the worker before it imports the handler, and where the engine computes its credentials.
"""

from __future__ import annotations

import os
from typing import Any

from ministack.core import lambda_runtime

from sluice_harness.compat.functions import log_streams
from sluice_harness.compat.patching import expect, replace_once
from sluice_harness.compat.tracing import daemon

# What a process needs to run, and what the engine's owner passes on to functions on purpose.
KEPT = ("PATH", "LANG", "LC_ALL", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")

_FUNCTION_VARIABLES = "    os.environ.update(env)\n"
_SCRUB = """    for _ms_name in {names}:
        os.environ.pop(_ms_name, None)
    _ms_tmp = os.path.join(os.path.dirname(code_dir), "tmp")
    os.makedirs(_ms_tmp, exist_ok=True)
    os.environ.update(TMPDIR=_ms_tmp, HOME=_ms_tmp, TZ=":UTC")
    time.tzset()
    _ms_python = (sys.prefix, sys.base_prefix, os.path.dirname(code_dir))
    sys.path[:] = [_ms_path for _ms_path in sys.path if _ms_path.startswith(_ms_python)]
"""


def apply() -> None:
    """Scrub the environment of Python workers and add the variables that Lambda sets."""
    credentials = expect(lambda_runtime, "execution_credentials", "config")
    leaked = sorted(set(os.environ) - set(KEPT))
    script = _SCRUB.format(names=leaked)
    replace_once(lambda_runtime, "_PYTHON_WORKER_SCRIPT", _FUNCTION_VARIABLES, script + _FUNCTION_VARIABLES)

    def with_runtime_variables(config: dict[str, Any]) -> dict[str, str]:
        return {**credentials(config), **_runtime_variables(config)}

    lambda_runtime.execution_credentials = with_runtime_variables


def _runtime_variables(config: dict[str, Any]) -> dict[str, str]:
    group = (config.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{config.get('FunctionName')}"
    stream = log_streams.current()
    return {
        **({"AWS_LAMBDA_LOG_STREAM_NAME": stream} if stream else {}),
        daemon.ADDRESS_VARIABLE: daemon.address(config),
        "_HANDLER": config.get("Handler", ""),
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{config.get('Runtime', '')}",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": group,
    }
