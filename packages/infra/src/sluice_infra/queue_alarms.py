"""The alarms of queues: one function a kind, for every queue there is.

A queue is called as its placeholders begin: ``work`` has ``WorkQueue``, ``WorkDlq`` and, for a function reads it,
``WorkMapping``.
"""

from __future__ import annotations

from sluice_infra.alarm_specs import MINUTE, AlarmSpec, Severity, of_mapping, of_queue

# What the backlog's drain is said to take when it does not drain at all; longer than any queue keeps messages.
_NEVER_S = 14 * 86_400
# Fewer messages than this are no backlog, and neither are those of a minute.
_FEWEST = 100
# Sooner than the age of all: fair queues let these go first, so nothing but too few consumers explains it.
_QUIET_MINUTES = 5


def dead_letters(queue: str) -> AlarmSpec:
    """Return the alarm on what has come to a dead-letter queue."""
    name = f"{queue.capitalize()}Dlq"
    return AlarmSpec(
        name=f"{queue}-dead-letters",
        runbook="dead-letters",
        severity=Severity.WARNING,
        means=f"There are messages in the {queue} queue's dead-letter queue.",
        # Depth and not NumberOfMessagesSent, which does not count what redrive moves; with what the sweeper or
        # an operator is just reading, for the sweeper reads once a minute, when CloudWatch counts.
        series={
            "visible": of_queue(name, "ApproximateNumberOfMessagesVisible", "Maximum"),
            "hidden": of_queue(name, "ApproximateNumberOfMessagesNotVisible", "Maximum"),
        },
        expression="visible + hidden",
    )


def age_of_oldest(queue: str, limit_s: int, minutes: int, *, runbook: str = "queue-age") -> AlarmSpec:
    """Return the alarm on how long a queue's oldest message has waited."""
    return AlarmSpec(
        name=f"{queue}-age-of-oldest",
        runbook=runbook,
        severity=Severity.CRITICAL,
        means=f"The oldest message of the {queue} queue has waited {limit_s} s, for {minutes} minutes now.",
        series={"age": of_queue(f"{queue.capitalize()}Queue", "ApproximateAgeOfOldestMessage", "Maximum")},
        comparison="GreaterThanOrEqualToThreshold",
        threshold=limit_s,
        m=minutes,
        n=minutes,
    )


def age_in_quiet_groups(queue: str, limit_s: int, *, runbook: str = "queue-age") -> AlarmSpec:
    """Return the alarm on how long messages have waited of owners that send little."""
    name = f"{queue.capitalize()}Queue"
    return AlarmSpec(
        name=f"{queue}-age-in-quiet-groups",
        runbook=runbook,
        severity=Severity.CRITICAL,
        means=f"Owners that send little have waited {limit_s} s in the {queue} queue, "
        f"for {_QUIET_MINUTES} minutes now.",
        # The oldest message of all may be a flood's, which the others overtake: this says whether they do.
        series={"age": of_queue(name, "ApproximateAgeOfOldestMessageInQuietGroups", "Maximum")},
        comparison="GreaterThanOrEqualToThreshold",
        threshold=limit_s,
        m=_QUIET_MINUTES,
        n=_QUIET_MINUTES,
    )


def failed_invokes(queue: str) -> AlarmSpec:
    """Return the alarm on a queue's consumer, which fails."""
    mapping = f"{queue.capitalize()}Mapping"
    return AlarmSpec(
        name=f"{queue}-failed-invokes",
        runbook="failed-invokes",
        severity=Severity.CRITICAL,
        means=f"More than half of the messages that are taken off the {queue} queue fail.",
        # Single messages that were reported back count, too: a share tells a broken consumer from a bad job.
        series={
            "failed": of_mapping(mapping, "FailedInvokeEventCount", "Sum"),
            "polled": of_mapping(mapping, "PolledEventCount", "Sum"),
        },
        expression="failed / polled",
        threshold=0.5,
        m=3,
        n=5,
    )


def time_to_drain(
    queue: str,
    limit_s: int,
    *,
    runbook: str = "time-to-drain",
    period_s: int = MINUTE,
    m: int = 10,
    n: int = 15,
) -> AlarmSpec:
    """Return the alarm on a backlog that does not drain in time, by the rates of single periods."""
    name = f"{queue.capitalize()}Queue"
    backlog = "backlog of work" if queue == "work" else f"backlog of the {queue} queue"
    # All of it filled: before the stage is there, there is no backlog that does not drain.
    visible, net = "FILL(visible, 0)", "(FILL(deleted, 0) - FILL(sent, 0))"
    return AlarmSpec(
        name=f"{queue}-time-to-drain",
        runbook=runbook,
        severity=Severity.WARNING,
        means=f"At this rate the {backlog} takes more than {limit_s / MINUTE:g} minutes to drain, or does not.",
        series={
            "visible": of_queue(name, "ApproximateNumberOfMessagesVisible", "Maximum"),
            "deleted": of_queue(name, "NumberOfMessagesDeleted", "Sum"),
            "sent": of_queue(name, "NumberOfMessagesSent", "Sum"),
        },
        expression=f"IF({visible} < {_FEWEST} OR {visible} < FILL(deleted, 0), 0, "
        f"IF({net} > 0, {visible} * PERIOD(visible) / {net}, {_NEVER_S}))",
        threshold=limit_s,
        period_s=period_s,
        m=m,
        n=n,
    )
