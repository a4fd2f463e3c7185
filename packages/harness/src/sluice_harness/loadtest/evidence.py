"""What a load test is judged by: what its clients wrote down, and what the stage says of the same time.

`loadtests/records.py` and `loadtests/collector.py` write the clients' files; times are epoch ms, real time.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sluice_core.jobs import JobKey, JobStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sluice_core.jobs import Job

    from sluice_harness.loadtest.scenarios import Scenario
    from sluice_harness.review.alarms import AlarmState
    from sluice_harness.review.window import Window

BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class ClientJob:
    """A submission that was answered with a 202, as its client saw it; epoch ms, None for what it did not see.

    Attributes
    ----------
    is_quiet : bool
        Whether its owner is not the noisy one.
    phase : str
        ``baseline`` or ``load``.
    intended_at : float
        When the schedule wanted it sent.
    visible_ms : float or None
        From the 202 to the first answer that knew the job.
    status : JobStatus or None
        The last that the client saw.
    complaint : str or None
        What the client has against the answers that it got.

    """

    key: JobKey
    kind: str
    is_quiet: bool
    phase: str
    expected: JobStatus
    intended_at: float
    accepted_at: float
    visible_ms: float | None = None
    status: JobStatus | None = None
    end_seen_at: float | None = None
    download_ms: float | None = None
    complaint: str | None = None


@dataclass(frozen=True, slots=True)
class RequestSecond:
    """The requests of one name that ended in one second; `at` is that epoch second, `errors` counts by kind."""

    at: int
    name: str
    count: int
    p50_ms: float
    p95_ms: float
    errors: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Run:
    """What the load generator says of itself at its end; times in epoch seconds.

    Attributes
    ----------
    requests : mapping
        By name, how many there were and how many of them failed.
    exceptions : sequence of str
        What was raised in the load generator itself.
    is_complete : bool
        Whether every process of it handed over all that it saw.

    """

    started_at: float
    ended_at: float
    workers: int
    is_complete: bool
    requests: Mapping[str, tuple[int, int]]
    refused: Mapping[str, int]
    rejections: Mapping[str, int]
    exceptions: Sequence[str]


@dataclass(frozen=True, slots=True)
class ClientSide:
    """All that the load generator left behind.

    Attributes
    ----------
    exit_code : int or None
        Locust's; None if it was ended by us.
    run : Run or None
        None if it died before it could say.
    problems : sequence of str
        What could not be read.

    """

    exit_code: int | None
    jobs: Sequence[ClientJob] = ()
    seconds: Sequence[RequestSecond] = ()
    run: Run | None = None
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: its queue, whose it is, and whether this session put it there."""

    queue: str
    key: JobKey | None
    is_ours: bool


@dataclass(frozen=True, slots=True)
class MetricCount:
    """One count, three times: as metrics add it up, as the ledger has it, and as the clients have it.

    Attributes
    ----------
    summed : float or None
        The metric's sum over the window; None if there was no data.
    client : int or None
        None for what clients cannot count.
    edge : int
        How many jobs of others lie so near the window's ends that nobody knows on which side they were counted.

    """

    name: str
    summed: float | None
    ledger: int
    client: int | None = None
    edge: int = 0


@dataclass(frozen=True, slots=True)
class StageSide:
    """What the stage says.

    Attributes
    ----------
    rows : mapping
        The run's jobs that are on record.
    results : mapping
        By job, the keys of its objects in the result bucket.
    left : mapping
        By queue, how many messages were left in it.
    letters : sequence of Letter
        What is in the dead-letter queues and is of this run.
    window : Window
        Whole minutes of the stage's time; all counts are over it.
    counts : sequence of MetricCount
    retried : int
        Attempts that were given back to be tried again, by metrics.
    alarms : sequence of AlarmState
        With their transitions since the run began.
    blind : sequence of (str, str)
        The widgets of the operations dashboard that have no data, and what is missing.
    widgets : int
        How many widgets that dashboard has.
    is_local : bool
        Whether it is a stage on the local engine.

    """

    name: str
    prefix: str
    window: Window
    rows: Mapping[JobKey, Job] = field(default_factory=dict)
    results: Mapping[JobKey, Sequence[str]] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)
    letters: Sequence[Letter] = ()
    counts: Sequence[MetricCount] = ()
    retried: int = 0
    alarms: Sequence[AlarmState] = ()
    blind: Sequence[tuple[str, str]] = ()
    widgets: int = 0
    is_local: bool = True


@dataclass(frozen=True, slots=True)
class Evidence:
    """Both sides.

    Attributes
    ----------
    asked : int
        How many submissions had to be accepted.
    malformed : int
        How many malformed messages this session has put into each queue.
    interrupted : bool
        Whether somebody ended the session before its time.

    """

    scenario: Scenario
    asked: int
    client: ClientSide
    stage: StageSide
    malformed: int = 0
    interrupted: bool = False


def read_client(folder: Path, exit_code: int | None) -> ClientSide:
    """Read what the load generator wrote into a folder; what is not there or makes no sense is a problem."""
    problems: list[str] = []

    def lines(name: str) -> list[Any]:
        try:
            return [json.loads(line) for line in (folder / name).read_text().splitlines()]
        except (OSError, ValueError) as error:
            problems.append(f"{name}: {error}")
            return []

    jobs, seconds, run = [], [], None
    try:
        jobs = [_job(one) for one in lines("jobs.jsonl")]
        seconds = [_second(one) for one in lines("requests.jsonl")]
        run = _run(json.loads((folder / "run.json").read_text()))
    except OSError:
        problems.append("run.json is not there: the load generator died, see locust.log")
    except (KeyError, TypeError, ValueError) as error:
        problems.append(f"what the load generator wrote makes no sense: {error!r}")
    return ClientSide(exit_code, jobs, seconds, run, problems)


def _job(one: Mapping[str, Any]) -> ClientJob:
    return ClientJob(
        key=JobKey(one["owner"], one["jobId"]),
        kind=one["kind"],
        is_quiet=one["isQuiet"],
        phase=one["phase"],
        expected=JobStatus(one["expected"]),
        intended_at=one["intendedAt"],
        accepted_at=one["acceptedAt"],
        visible_ms=one["visibleMs"],
        status=JobStatus(one["status"]) if one["status"] else None,
        end_seen_at=one["endSeenAt"],
        download_ms=one["downloadMs"],
        complaint=one["complaint"],
    )


def _second(one: Mapping[str, Any]) -> RequestSecond:
    return RequestSecond(one["at"], one["name"], one["count"], one["p50Ms"], one["p95Ms"], one["errors"])


def _run(one: Mapping[str, Any]) -> Run:
    return Run(
        started_at=one["startedAt"],
        ended_at=one["endedAt"],
        workers=one["workers"],
        is_complete=one["isComplete"],
        requests={name: (said["count"], said["failures"]) for name, said in one["requests"].items()},
        refused=one["refused"],
        rejections=one["rejections"],
        exceptions=[f"{said['message']} ({said['count']} times)" for said in one["exceptions"]],
    )


def errors_by_kind(seconds: Sequence[RequestSecond]) -> Counter[str]:
    """Return how many requests failed, by kind."""
    found: Counter[str] = Counter()
    for second in seconds:
        found.update(second.errors)
    return found
