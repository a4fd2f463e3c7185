"""``sluice-ops executions``: which jobs run on which external executor, and which wait for it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluice_core.executors import EXTERNAL
from sluice_core.slots import Slots

from sluice_harness.consoles import command, page
from sluice_harness.ops import records
from sluice_harness.ops.letters import depths
from sluice_harness.ops.output import age, bar, iso, say, show_json, show_table
from sluice_harness.ops.stage import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from sluice_core.jobs import Job

    from sluice_harness.ops.stage import Access, Limits

_MOST_SHOWN = 100
_COLUMNS = ("executor", "job", "owner", "type", "status", "starts", "for", "handle")


@dataclass(frozen=True, slots=True)
class Standing:
    """How one executor stands.

    Attributes
    ----------
    waiting, in_flight : int
        Messages of its work queue: those to be had, and those that the starter has taken.
    slots : int
        How many of its slots are taken.
    executing : list of Job
        The jobs whose executions are not yet known to be over, the oldest first.

    """

    executor: str
    limits: Limits
    waiting: int
    in_flight: int
    slots: int
    executing: list[Job]

    @property
    def running(self) -> int:
        """How many executions are not yet known to be over."""
        return len(self.executing)


def standings(access: Access, only: Sequence[str] | None = None) -> list[Standing]:
    """Return how the stage's external executors stand, or some of them; nothing for a stage that has none."""
    return [_standing(access, name) for name in (access.limits if only is None else only)]


def list_executions(access: Access, options: argparse.Namespace) -> int:
    """Print how each executor stands, and a row for each job that it has; with --waiting also those it has not."""
    with bar("reading slots, queues and rows"):
        executors = _executors(access, options.executor)
        found = standings(access, executors)
        waiting = _waiting(access, executors) if options.waiting else []
    now = time.time_ns() // 1_000_000
    if options.json:
        jobs = [job for one in found for job in one.executing]
        show_json(
            {
                "executors": [_document(one) for one in found],
                "executing": [_job_document(access, job) for job in jobs],
                "waiting": [_job_document(access, job) for job in waiting],
            }
        )
        return 0
    columns = ("executor", "jobs that wait", "being started", "slots taken", "executing", "longest")
    show_table(columns, [_row(one, now) for one in found])
    _show_jobs([job for one in found for job in one.executing], now)
    _show_jobs(waiting, now)
    if waiting or any(one.executing for one in found):
        say("")
        say("The command that shows a job's execution: sluice-ops job show JOB --owner OWNER")
    return 0


def _executors(access: Access, only: str | None) -> list[str]:
    there = list(access.limits)
    if not there:
        raise UsageError(
            f"stage {access.stage.stage} has no external executor: lambda runs all of its jobs; `job show` has "
            "one of them. `executors` in stages.py gives them others (docs/configuring.md)"
        )
    if only is None:
        return there
    if only not in there:
        raise UsageError(f"stage {access.stage.stage} has no executor {only}; it has {', '.join(there)}")
    return [only]


def _standing(access: Access, executor: str) -> Standing:
    since = access.ledger.executing(executor)
    rows = access.ledger.get_many(since)
    # The index lags behind the table: a row says itself whether it is still in it.
    executing = [rows[key] for key in since if key in rows and rows[key].executing]
    visible, hidden = depths(access.sqs, access.queues(executor)[executor].url)
    slots = len(Slots(access.dynamodb, access.stage.executors.slotsTable).held(executor))
    return Standing(executor, access.limits[executor], visible, hidden, slots, executing)


def _waiting(access: Access, executors: Sequence[str]) -> list[Job]:
    """Return the open jobs that no execution has begun of, by scanning the table."""
    rows: Iterable[Job] = records.scan(access.dynamodb, access.stage.jobTable)
    waiting = [job for job in rows if job.status.is_open and not job.executing and job.executor in executors]
    return sorted(waiting, key=lambda job: (EXTERNAL.index(job.executor), job.submitted_at))


def _row(one: Standing, now: int) -> tuple[object, ...]:
    longest = age(now - (one.executing[0].executing_since or now)) if one.executing else ""
    taken = f"{one.slots} of {one.limits.running}"
    return one.executor, one.waiting, one.in_flight, taken, one.running, longest


def _show_jobs(jobs: Sequence[Job], now: int) -> None:
    if not jobs:
        return
    say("")
    show_table(_COLUMNS, [_job_row(job, now) for job in jobs[:_MOST_SHOWN]])
    if len(jobs) > _MOST_SHOWN:
        say(f"... and {len(jobs) - _MOST_SHOWN} more; --json has all")


def _job_row(job: Job, now: int) -> tuple[object, ...]:
    since = age(now - (job.executing_since or job.submitted_at))
    handle = job.handle or ("not noted yet" if job.executing else "waits")
    return job.executor, job.key.job_id, job.key.owner, job.job_type, job.status, job.starts, since, handle


def _document(one: Standing) -> dict[str, Any]:
    return {
        "executor": one.executor,
        "waiting": one.waiting,
        "inFlight": one.in_flight,
        "slotsTaken": one.slots,
        "maxRunning": one.limits.running,
        "executing": one.running,
    }


def _job_document(access: Access, job: Job) -> dict[str, Any]:
    return {
        "executor": job.executor,
        "owner": job.key.owner,
        "jobId": job.key.job_id,
        "type": job.job_type,
        "status": str(job.status),
        "starts": job.starts,
        "submittedAt": iso(job.submitted_at),
        "executingSince": iso(job.executing_since),
        "handle": job.handle or None,
        "console": page(access.stage, job) or None,
        "command": command(access.stage, job) or None,
    }
