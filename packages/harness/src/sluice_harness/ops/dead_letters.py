"""``sluice-ops dlq list`` and ``dlq show``: what lies in the dead-letter queues; never a payload unasked."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from sluice_harness.ops.jobs import describe, fields
from sluice_harness.ops.letters import read_all
from sluice_harness.ops.output import age, bar, iso, moment, say, show_fields, show_json, show_table
from sluice_harness.ops.stage import Failure

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from sluice_core.jobs import Job, JobKey

    from sluice_harness.ops.letters import Letter, Reading
    from sluice_harness.ops.stage import Access

_COLUMNS = ("queue", "job", "owner", "type", "status", "error", "attempts", "age", "message")


def list_letters(access: Access, options: argparse.Namespace) -> int:
    """Print the queues' depths and a row for each message."""
    readings, rows = _read(access, options.queue)
    letters = [letter for reading in readings for letter in reading.letters]
    now = time.time_ns() // 1_000_000
    if options.json:
        queues = [_queue_document(reading, now) for reading in readings]
        show_json({"queues": queues, "letters": [_document(one, rows, now) for one in letters]})
        return 0
    show_table(("dead letters", "depth", "oldest"), [_queue_row(reading, now) for reading in readings])
    for reading in readings:
        if reading.unseen:
            say(
                f"{reading.unseen} of the {reading.queue} queue's are hidden for two minutes at most "
                "by another reader, such as the sweeper: list again"
            )
    if letters:
        say("")
        show_table(_COLUMNS, [_row(letter, rows, now) for letter in letters])
    return 0


def show_letter(access: Access, options: argparse.Namespace) -> int:
    """Print what is known of a job's or a message's dead letters, and of their jobs."""
    readings, rows = _read(access, None)
    letters = [one for reading in readings for one in reading.letters if options.id in _names(one)]
    if not letters:
        raise Failure(
            f"no dead letter has the id {options.id} or is of a job with it; "
            "`sluice-ops dlq list` shows what there is, `sluice-ops job show` a job without a dead letter"
        )
    now = time.time_ns() // 1_000_000
    if options.json:
        show_json([_document(one, rows, now) | _payload_document(one, options.payload) for one in letters])
        return 0
    for letter in letters:
        show_fields(_letter_fields(letter, now))
        job = rows.get(letter.key) if letter.key else None
        say("")
        if job is not None:
            show_fields(fields(job, now))
        elif letter.key is not None:
            say("its job has no row")
        if options.payload:
            say("")
            say("payload, as it was sent:")
            say(_readable(letter.message.body))
    return 0


def _read(access: Access, queue: str | None) -> tuple[list[Reading], Mapping[JobKey, Job]]:
    with bar("reading the dead-letter queues"):
        readings = read_all(access, queue)
        keys = [one.key for reading in readings for one in reading.letters if one.key is not None]
        return readings, access.ledger.get_many(keys, consistent=True)


def _names(letter: Letter) -> set[str]:
    return {letter.message.message_id, letter.key.job_id if letter.key else ""}


def _queue_row(reading: Reading, now: int) -> tuple[object, ...]:
    oldest = age(now - reading.letters[0].message.sent_at) if reading.letters else ""
    return reading.queue, len(reading.letters) + reading.unseen, oldest


def _row(letter: Letter, rows: Mapping[JobKey, Job], now: int) -> Sequence[object]:
    old = age(now - letter.message.sent_at)
    if letter.key is None:
        return letter.queue, f"malformed: {letter.complaint}", "", "", "", "", "", old, letter.message.message_id
    job = rows.get(letter.key)
    return (
        letter.queue,
        letter.key.job_id,
        letter.key.owner,
        letter.job_type,
        job.status if job else "no row",
        job.error.code if job and job.error else "",
        job.attempts if job else "",
        old,
        letter.message.message_id,
    )


def _queue_document(reading: Reading, now: int) -> dict[str, Any]:
    return {
        "name": reading.queue,
        "depth": len(reading.letters) + reading.unseen,
        "unseen": reading.unseen,
        "oldestAgeSeconds": (now - reading.letters[0].message.sent_at) // 1000 if reading.letters else None,
    }


def _document(letter: Letter, rows: Mapping[JobKey, Job], now: int) -> dict[str, Any]:
    job = rows.get(letter.key) if letter.key else None
    return {
        "queue": letter.queue,
        "messageId": letter.message.message_id,
        "owner": letter.key.owner if letter.key else None,
        "jobId": letter.key.job_id if letter.key else None,
        "jobType": letter.job_type or None,
        "malformed": letter.complaint or None,
        "sentAt": iso(letter.message.sent_at),
        "ageSeconds": (now - letter.message.sent_at) // 1000,
        "receives": letter.receives,
        "job": describe(job) if job else None,
    }


def _payload_document(letter: Letter, wanted: bool) -> dict[str, str]:
    return {"payload": letter.message.body} if wanted else {}


def _letter_fields(letter: Letter, now: int) -> list[tuple[str, object]]:
    shown = {"SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"}
    rest = [(name, value) for name, value in sorted(letter.attributes.items()) if name not in shown]
    return [
        ("message", letter.message.message_id),
        ("queue", f"the {letter.queue} queue's dead letters"),
        ("malformed", letter.complaint),
        ("sent", moment(letter.message.sent_at, now)),
        ("first received", moment(letter.first_received_at, now)),
        ("received", f"{letter.receives} times, readers of this queue included"),
        ("bytes", len(letter.message.body.encode())),
        *rest,
    ]


def _readable(body: str) -> str:
    """Return a payload without anything that could steer a terminal."""
    try:
        return json.dumps(json.loads(body))
    except (ValueError, RecursionError):
        return body
