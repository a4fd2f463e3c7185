"""A policy is read once, and a caller looked up once, however many requests it decides.

MiniStack parses every policy of the caller's role anew for each request, twice, the first time only to learn the
caller's name. On a stage that enforces IAM that takes a tenth of the engine's CPU.

Closed by keeping what a document's text was parsed to (a changed policy has another text), and by taking the
caller's name from its credential alone.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ministack.core import iam_evaluator, responses, router

from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST = 1_024


def apply() -> None:
    """Keep parsed policies, and name callers without their policies."""
    parse = expect(iam_evaluator, "parse_policy_document", "doc")
    expect(iam_evaluator, "request_caller_arn", "headers", "query_params")
    expect(iam_evaluator, "resolve_credential", "access_key_id", "account_id", "session_token")
    expect(responses, "_account_from_sts_session", "access_key_id")
    iam_evaluator.parse_policy_document = _keeping(parse)
    iam_evaluator.request_caller_arn = _request_caller_arn


def _keeping(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    kept = lru_cache(_MOST)(parse)

    def parse_policy_document(doc: Any) -> Any:
        return kept(doc) if isinstance(doc, str) else parse(doc)

    return parse_policy_document


def _request_caller_arn(headers: dict[str, str], query_params: Any = None) -> str:
    """Return who makes a request; whoever cannot be told counts as the account's root, as in the engine."""
    account = responses.get_account_id()
    fallback = f"arn:aws:iam::{account}:root"
    access_key = router.extract_access_key_id(headers or {}, query_params or {})
    if not access_key:
        return fallback
    account = responses._account_from_sts_session(access_key) or account
    caller = iam_evaluator.resolve_credential(access_key, account)
    return getattr(caller, "principal_arn", "") or fallback
