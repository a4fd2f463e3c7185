"""The drills: what is broken, which alarms have to fire for it, and how it is mended.

In the order in which they are run. Each alarm is in the drill that breaks what it is for; what else fires beside
it is none of that drill's business, but for the alarms that must stay quiet.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluice_harness.drill.site import dynamodb_fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from sluice_harness.drill.site import Site
    from sluice_harness.drill.watch import Watch

# Those without which the others still have work: behind a processor or an authorizer that fails, nobody is called.
_BUSY = ("batch-simulator", "sweeper", "job-status", "cancel-job")
# Cancelled jobs make events even where the processor does nothing.
_FIRST_AND_LAST = ("processor", "event-publisher")
_ALL = ("authorizer", *_FIRST_AND_LAST, *_BUSY)
_AGES = (
    *("request-age-of-oldest", "work-age-of-oldest"),
    *("request-age-in-quiet-groups", "work-age-in-quiet-groups"),
)
# Slower than a tenth of each timeout, which is where the local stage's alarms are.
_SLOW = {
    "authorizer": 2.6,
    "processor": 3.5,
    "batch_simulator": 6.5,
    "job_status": 2.6,
    "cancel_job": 2.6,
    "sweeper": 6.5,
    "event_publisher": 3.5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One drill.

    Attributes
    ----------
    what : str
        What is broken, for people.
    alarms : tuple of str
        Which alarms have to fire, by their names without the stage.
    breaks, mends : callable
        Do so; breaking may take its time, and may watch alarms meanwhile.
    quiet : tuple of str
        Which alarms must not fire.
    untold : tuple of str
        Which alarms fire beside it and tell nobody, for another suppresses them.
    fires_when_mended : tuple of str
        Which of them fire only as it is being mended.

    """

    name: str
    what: str
    alarms: tuple[str, ...]
    breaks: Callable[[Site, Watch], object]
    mends: Callable[[Site, Watch], object]
    quiet: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    fires_when_mended: tuple[str, ...] = ()


def each(kind: str, functions: tuple[str, ...]) -> tuple[str, ...]:
    """Return the alarms of a kind on these functions."""
    return tuple(f"{kind}-{function}" for function in functions)


def _stop_consumers(site: Site, watch: Watch) -> None:
    """Let work pile up first: once the processor stands still, no more of it comes."""
    site.set_consumers("batch-simulator", enabled=False)
    # The usual load is one owner's, and noisy: the quiet one is another.
    site.load.extra = {"submit": 26.0, "submit-other": 1.0}
    time.sleep(6)
    site.set_consumers("processor", enabled=False)
    time.sleep(2)
    site.load.extra = {}
    watch.until_alarm("work-time-to-drain", *_AGES)


def _start_consumers_slowly(site: Site, watch: Watch) -> None:
    """Drain what has waited so long that its first attempts come over some minutes of the stage."""
    site.slow(processor=1.0, batch_simulator=1.0)
    site.set_consumers("processor", "batch-simulator", enabled=True)
    watch.until_alarm("request-age-of-first-attempt", "work-age-of-first-attempt", "latency-fast-burn")
    watch.until_alarm("latency-slow-burn")
    site.fault()


def _fail_table(site: Site, watch: Watch) -> None:
    site.empty_dead_letters()
    watch.until_calm("request-dead-letters")
    site.fault(dynamodb_fault("InternalServerError", 500))
    watch.until_alarm("table-system-errors", "request-dead-letters")
    # The sweeper can end them only once the table is back.
    site.fault()


def _set_silent(site: Site, *, silent: bool) -> None:
    site.set_schedule("sweeper", enabled=not silent)
    site.set_consumers("event-publisher", enabled=not silent)


def _fail_a_subscriber(site: Site, watch: Watch) -> None:
    watch.add_failing_subscriber()
    # As one tests a pager: by hand.
    site.stage.client("cloudwatch").set_alarm_state(
        AlarmName=watch.full_name("jobs-swept"), StateValue="ALARM", StateReason="a drill of the notifications"
    )


def _crowd(site: Site, _watch: Watch) -> None:
    site.slow(job_status=2.0)
    site.load.extra = {"status": 4.0}


def _uncrowd(site: Site, _watch: Watch) -> None:
    site.load.extra = {}
    site.fault()


DRILLS = (
    Drill(
        name="hostile-client",
        what="a client with wrong tokens sends half of the requests",
        alarms=("api-4xx", "warning"),
        quiet=("function-errors-authorizer", "api-5xx", "critical"),
        breaks=lambda site, _: site.load.extra.update({"wrong-token": 10.0}),
        mends=lambda site, _: site.load.extra.clear(),
    ),
    Drill(
        name="deleted-queue",
        what="the request queue is deleted, so that submissions are refused",
        alarms=(
            *("availability-fast-burn", "availability-burn-1h", "availability-burn-5m"),
            *("availability-slow-burn", "availability-burn-6h", "availability-burn-30m"),
        ),
        breaks=lambda site, _: site.delete_request_queue(),
        mends=lambda site, _: site.restore_request_queue(),
    ),
    Drill(
        name="stopped-consumers",
        what="nobody reads the queues for half a minute, and then slowly",
        alarms=(
            *_AGES,
            "work-time-to-drain",
            *("request-age-of-first-attempt", "work-age-of-first-attempt"),
            *("latency-fast-burn", "latency-burn-1h", "latency-burn-5m"),
            *("latency-slow-burn", "latency-burn-6h", "latency-burn-30m"),
        ),
        fires_when_mended=(
            *("request-age-of-first-attempt", "work-age-of-first-attempt"),
            *("latency-fast-burn", "latency-burn-1h", "latency-burn-5m"),
            *("latency-slow-burn", "latency-burn-6h", "latency-burn-30m"),
        ),
        breaks=_stop_consumers,
        mends=_start_consumers_slowly,
    ),
    Drill(
        name="crashing-functions",
        what="most functions are deployed with a handler that fails",
        alarms=(*each("function-errors", _BUSY), "work-failed-invokes", "api-5xx", "critical"),
        untold=("warning",),
        breaks=lambda site, _: site.break_handlers(_BUSY),
        mends=lambda site, _: site.mend_handlers(_BUSY),
    ),
    Drill(
        name="crashing-processor",
        what="processor and event publisher are deployed with a handler that fails",
        alarms=(*each("function-errors", _FIRST_AND_LAST), "request-failed-invokes"),
        breaks=lambda site, _: site.break_handlers(_FIRST_AND_LAST),
        mends=lambda site, _: site.mend_handlers(_FIRST_AND_LAST),
    ),
    Drill(
        name="crashing-authorizer",
        what="the authorizer is deployed with a handler that fails",
        alarms=("function-errors-authorizer",),
        breaks=lambda site, _: site.break_handlers(["authorizer"]),
        mends=lambda site, _: site.mend_handlers(["authorizer"]),
    ),
    Drill(
        name="throttled-functions",
        what="no concurrency is left for most functions",
        alarms=each("function-throttles", _BUSY),
        breaks=lambda site, _: site.throttle(_BUSY),
        mends=lambda site, _: site.unthrottle(_BUSY),
    ),
    Drill(
        name="throttled-processor",
        what="no concurrency is left for the processor and the event publisher",
        alarms=each("function-throttles", _FIRST_AND_LAST),
        breaks=lambda site, _: site.throttle(_FIRST_AND_LAST),
        mends=lambda site, _: site.unthrottle(_FIRST_AND_LAST),
    ),
    Drill(
        name="throttled-authorizer",
        what="no concurrency is left for the authorizer",
        alarms=("function-throttles-authorizer",),
        breaks=lambda site, _: site.throttle(["authorizer"]),
        mends=lambda site, _: site.unthrottle(["authorizer"]),
    ),
    Drill(
        name="slow-functions",
        what="every invocation takes seconds",
        alarms=(*each("function-duration", _ALL), "api-latency"),
        breaks=lambda site, _: site.slow(**_SLOW),
        mends=lambda site, _: site.fault(),
    ),
    Drill(
        name="throttled-table",
        what="DynamoDB throttles every call",
        alarms=("table-read-throttles", "table-write-throttles"),
        breaks=lambda site, _: site.fault(dynamodb_fault("ProvisionedThroughputExceededException", 400)),
        mends=lambda site, _: site.fault(),
    ),
    Drill(
        name="failing-table",
        what="DynamoDB fails, until requests are dead letters that the sweeper has to end",
        alarms=("table-system-errors", "jobs-swept"),
        breaks=_fail_table,
        mends=lambda site, _: site.empty_dead_letters(),
    ),
    Drill(
        name="poison-burst",
        what="messages that nobody can read are put on both queues",
        alarms=("batch-item-failures", "request-dead-letters", "work-dead-letters"),
        quiet=("function-errors-processor", "function-errors-batch-simulator"),
        breaks=lambda site, _: site.poison(200, "request", "work"),
        mends=lambda site, _: site.empty_dead_letters(),
    ),
    Drill(
        name="silence",
        what="the sweeper's schedule and the event publisher's stream are switched off",
        alarms=("sweeper-silent", "events-silent"),
        breaks=lambda site, _: _set_silent(site, silent=True),
        mends=lambda site, _: _set_silent(site, silent=False),
    ),
    Drill(
        name="failing-bus",
        what="EventBridge refuses the job events",
        alarms=("events-late",),
        breaks=lambda site, _: site.fault(
            {
                "service": "events",
                "actions": ["PutEvents"],
                # Refused and not failed: the SDK tries the latter again for longer than a stage's minute.
                "error": {"status": 400, "code": "AccessDeniedException"},
            }
        ),
        mends=lambda site, _: site.fault(),
    ),
    Drill(
        name="crowded-account",
        what="slow reads use up the account's concurrency",
        alarms=("account-concurrency",),
        breaks=_crowd,
        mends=_uncrowd,
    ),
    Drill(
        name="failing-subscriber",
        what="a subscriber of the alarms answers with errors",
        alarms=("notifications-failed",),
        breaks=_fail_a_subscriber,
        mends=lambda _, watch: watch.remove_failing_subscriber(),
    ),
)
