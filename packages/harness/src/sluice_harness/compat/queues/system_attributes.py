"""Message system attributes: AWSTraceHeader survives the query protocol and batches.

MiniStack takes `MessageSystemAttributes` from a single JSON SendMessage only: the query protocol's
`MessageSystemAttribute.1.Name/Value` is dropped (API Gateway's integration speaks that protocol), and so is
every entry's in SendMessageBatch, whichever the protocol.

SQS takes "MessageSystemAttribute.N" and an entry's "MessageSystemAttributes" alike (SQS API reference,
"SendMessage" and "SendMessageBatchRequestEntry"); X-Ray's trace header travels in it (X-Ray Developer Guide,
"Amazon SQS and AWS X-Ray").

Closed by reading the parameters where the engine normalises a query, and by handing each batch entry whole to
the engine's own SendMessage.
"""

from __future__ import annotations

from typing import Any

from ministack.services import sqs

from sluice_harness.compat.patching import expect

BATCH_BYTES = 1_048_576
ENTRY = "SendMessageBatchRequestEntry"


def apply() -> None:
    """Replace the engine's query normalisation and SendMessageBatch."""
    normalise = expect(sqs, "_normalise", "action", "params")
    expect(sqs, "_p", "params", "key", "default")
    expect(sqs, "_act_send_message", "data", "qurl")

    def with_system_attributes(action: str, params: dict[str, Any]) -> dict[str, Any]:
        data: dict[str, Any] = normalise(action, params)
        if action == "SendMessage":
            _add(data, params, "")
        elif action == "SendMessageBatch":
            for number, entry in enumerate(data["Entries"], start=1):
                _add(entry, params, f"{ENTRY}.{number}.")
        return data

    sqs._normalise = with_system_attributes
    if sqs._HANDLERS.get("SendMessageBatch") is not expect(sqs, "_act_send_message_batch", "data", "qurl"):
        raise RuntimeError(f"the engine dispatches SendMessageBatch in another way: adapt {__name__}")
    sqs._act_send_message_batch = sqs._HANDLERS["SendMessageBatch"] = _send_batch


def _add(data: dict[str, Any], params: dict[str, Any], prefix: str) -> None:
    found = {}
    number = 1
    while name := sqs._p(params, f"{prefix}MessageSystemAttribute.{number}.Name"):
        value = f"{prefix}MessageSystemAttribute.{number}.Value."
        found[name] = {
            "DataType": sqs._p(params, value + "DataType"),
            "StringValue": sqs._p(params, value + "StringValue"),
        }
        number += 1
    if found:
        data["MessageSystemAttributes"] = found


def _send_batch(data: dict[str, Any], qurl: str) -> dict[str, Any]:
    url = data.get("QueueUrl", qurl)
    entries = data.get("Entries", [])
    sqs._get_q(url, "sqs:SendMessage")
    sqs._validate_batch_entries(entries, ENTRY)
    size = sum(len((entry.get("MessageBody") or "").encode()) for entry in entries)
    if size > BATCH_BYTES:
        raise sqs._Err(
            "BatchRequestTooLong",
            f"Batch requests cannot be longer than {BATCH_BYTES} bytes. You have sent {size} bytes.",
        )
    sent: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for entry in entries:
        try:
            sent.append({**sqs._act_send_message({**entry, "QueueUrl": url}, url), "Id": entry["Id"]})
        except sqs._Err as error:
            failed.append({"Id": entry["Id"], "Code": error.code, "Message": error.message, "SenderFault": True})
    return {"Successful": sent, "Failed": failed}
