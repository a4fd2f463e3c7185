"""Batch calls are authorized by what they do: IAM knows most of them under another name.

MiniStack checks ``dynamodb:BatchExecuteStatement`` on ``*`` and ``sqs:SendMessageBatch``. Neither is an IAM
action. AWS checks ``dynamodb:PartiQLInsert``, ``PartiQLUpdate``, ``PartiQLDelete`` or ``PartiQLSelect`` on each
statement's table (Amazon DynamoDB Developer Guide, "IAM security policies with PartiQL"), and a queue's batch
calls as the single ones (Amazon SQS Developer Guide, "Amazon SQS API permissions"). PartiQL statements join the
engine's own per-item checks of transactions, whose rule is the same. A refusal fails the whole call here; AWS
fails the one statement.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ministack.core import iam_actions

from sluice_harness.compat.patching import expect

_SQS_BATCHES = {
    f"sqs:{action}Batch": f"sqs:{action}" for action in ("SendMessage", "DeleteMessage", "ChangeMessageVisibility")
}
_PARTIQL_CALLS = {"dynamodb:ExecuteStatement", "dynamodb:BatchExecuteStatement"}
STATEMENT = re.compile(
    r'\s*(?P<verb>INSERT\s+INTO|UPDATE|DELETE\s+FROM|SELECT\b.*?\bFROM)\s+"?(?P<table>[A-Za-z0-9_.-]+)"?',
    re.IGNORECASE | re.DOTALL,
)


def apply() -> None:
    """Rename SQS's batch actions and add PartiQL calls to the per-item checks."""
    _rename_queue_batches()
    _check_statements()


def _rename_queue_batches() -> None:
    extract = expect(
        iam_actions, "extract_iam_action", "service", "method", "path", "headers", "body", "query_params"
    )

    def extract_iam_action(*request: Any) -> str | None:
        action: str | None = extract(*request)
        return _SQS_BATCHES.get(action, action) if action else None

    iam_actions.extract_iam_action = extract_iam_action


def _check_statements() -> None:
    transaction_checks = expect(
        iam_actions, "dynamodb_transaction_checks", "iam_action", "body", "region", "account_id"
    )
    table_arn = expect(iam_actions, "_dynamodb_table_arn", "table", "region", "account_id")

    def checks(iam_action: str, body: bytes, region: str, account_id: str) -> list[tuple[str, str]]:
        if iam_action not in _PARTIQL_CALLS:
            return list(transaction_checks(iam_action, body, region, account_id))
        found = {_action_and_table(statement) for statement in _statements(json.loads(body or b"{}"))}
        return [(action, table_arn(table, region, account_id)) for action, table in sorted(found)]

    iam_actions.dynamodb_transaction_checks = checks


def _statements(call: dict[str, Any]) -> list[str]:
    batch = call.get("Statements", [call])
    return [str(one.get("Statement", "")) for one in batch]


def _action_and_table(statement: str) -> tuple[str, str]:
    """Return the IAM action and table; an unreadable statement asks for what nobody is granted."""
    found = STATEMENT.match(statement)
    if not found:
        return "dynamodb:PartiQLUnreadable", "*"
    return f"dynamodb:PartiQL{found['verb'].split()[0].capitalize()}", found["table"]
