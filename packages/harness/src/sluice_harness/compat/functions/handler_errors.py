"""A function's error names its exception.

MiniStack answers every exception of a handler with the error type `Runtime.HandlerError` and no stack trace,
so that a state machine's `Catch` on the exception's name never matches.

Lambda answers with `errorMessage`, `errorType` (the exception's class), `requestId` and `stackTrace` (Lambda
Developer Guide, "Handling errors in Python Lambda functions").

Closed by the worker naming the class, and by putting it where the engine shapes the answer.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from ministack.core import lambda_runtime
from ministack.core.lambda_runtime import Worker
from ministack.services import lambda_svc

from sluice_harness.compat.patching import expect, replace_once

_ERROR = '"error": str(e), "trace": traceback.format_exc()}'
_NAMED = '"error": str(e), "type": type(e).__name__, "trace": traceback.format_exc()}'

_answer: ContextVar[dict[str, Any] | None] = ContextVar("sluice_handler_answer", default=None)


def last_answer() -> dict[str, Any] | None:
    """Return what the worker answered to the invocation that ran last in this context."""
    return _answer.get()


def apply() -> None:
    """Carry the exception's name from the worker to the answer."""
    replace_once(lambda_runtime, "_PYTHON_WORKER_SCRIPT", _ERROR, _NAMED)
    execute = expect(lambda_svc, "_execute_function_warm", "func", "event", "request_id")
    invoke = Worker.invoke

    def remember(self: Any, *arguments: Any, **context: Any) -> dict[str, Any]:
        answer: dict[str, Any] = invoke(self, *arguments, **context)
        _answer.set(answer)
        return answer

    def execute_naming_errors(func: Any, event: Any, request_id: str) -> dict[str, Any]:
        _answer.set(None)
        result: dict[str, Any] = execute(func, event, request_id)
        answer = _answer.get()
        if result.get("error") and answer and "type" in answer:
            result["body"] |= {
                "errorType": answer["type"],
                "requestId": request_id,
                # Without the heading, the worker's own frame and the message, as Lambda has it.
                "stackTrace": answer["trace"].splitlines(keepends=True)[3:-1],
            }
        return result

    Worker.invoke = remember
    lambda_svc._execute_function_warm = execute_naming_errors
