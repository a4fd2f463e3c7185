"""The chaos run's verdict: silent on a run that kept the promise, and not on any that broke it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, get_args

import pytest
from sluice_core.jobs import Job, JobKey, JobStatus
from sluice_harness.chaos.plan import PlannedJob, Role, When
from sluice_harness.chaos.traffic import Trace
from sluice_harness.chaos.verdict import judge
from sluice_harness.ops.audit import AuditReport, Finding, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

OWNER = "ann"
ENDS = {Role.POISON: JobStatus.FAILED, Role.CRASH: JobStatus.FAILED, Role.CANCELLED: JobStatus.CANCELLED}


def token(number: int) -> str:
    return f"chaos-1-{number:06d}-00000000"


@dataclass
class Run:
    """One job of each role, all ended as they should."""

    traces: list[Trace] = field(default_factory=list)
    jobs: dict[tuple[str, str], Job] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    dead: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        for number, role in enumerate(Role):
            planned = PlannedJob(number, role, 0, token(number), {}, cancel=When.AFTER)
            answer = 200 if role is Role.CANCELLED else None
            self.traces.append(Trace(planned, OWNER, accepted=True, cancel_answer=answer))
            key = JobKey(OWNER, token(number))
            self.jobs[OWNER, token(number)] = Job(key, "", ENDS.get(role, JobStatus.COMPLETED), 0, "")
        self.dead |= {trace.key for trace in self.traces if trace.job.is_poison}

    def trace(self, role: Role) -> Trace:
        return next(trace for trace in self.traces if trace.job.role is role)

    def end(self, role: Role, status: JobStatus) -> None:
        key = self.trace(role).key
        self.jobs[key] = replace(self.jobs[key], status=status)

    def breaches(self, *, drained: bool = True) -> list[str]:
        counts = {
            str(status): count for status, count in Counter(job.status for job in self.jobs.values()).items()
        }
        report = AuditReport(counts, self.findings, self.dead, self.notes)
        return [
            f"{offence.job}: {offence.what}" for offence in judge(self.traces, self.jobs, report, drained=drained)
        ]


def test_a_run_that_kept_the_promise_has_no_breach() -> None:
    assert Run().breaches() == []


def test_a_run_that_did_not_drain_did_not_prove_anything() -> None:
    assert Run().breaches(drained=False) == ["-: not drained in time: what follows may only need longer"]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_finding_of_the_audit_is_a_breach(kind: Kind) -> None:
    run = Run(findings=[Finding(kind, f"{OWNER}#{token(0)}", "why")])
    assert run.breaches() == [f"{OWNER}#{token(0)}: {kind}: why"]


def test_a_finding_without_a_job_and_what_the_audit_could_not_judge_are_breaches() -> None:
    run = Run(findings=[Finding("malformed-dead-letter", None, "why")], notes=["look again"])
    assert run.breaches() == ["-: malformed-dead-letter: why", "-: not judged: look again"]


def lose_an_answer(run: Run) -> None:
    run.trace(Role.ORDINARY).accepted = False


def lose_a_row(run: Run) -> None:
    del run.jobs[run.trace(Role.DUPLICATE).key]


def fail_a_healthy_job(run: Run) -> None:
    run.end(Role.ORDINARY, JobStatus.FAILED)


def complete_a_poison_job(run: Run) -> None:
    run.end(Role.POISON, JobStatus.COMPLETED)


def complete_what_was_cancelled(run: Run) -> None:
    run.end(Role.CANCELLED, JobStatus.COMPLETED)


def cancel_what_had_ended(run: Run) -> None:
    run.trace(Role.CANCELLED).cancel_answer = 409


def leave_a_job_open(run: Run) -> None:
    run.end(Role.CONFLICT, JobStatus.RUNNING)


def take_a_dead_letter_away(run: Run) -> None:
    run.dead.remove(run.trace(Role.CRASH).key)


def add_a_dead_letter(run: Run) -> None:
    run.dead.add(run.trace(Role.ORDINARY).key)


def answer_oddly(run: Run) -> None:
    run.trace(Role.ORDINARY).complaint = "a submission was answered with 400"


BREACHES: dict[Callable[[Run], None], tuple[Role, str]] = {
    lose_an_answer: (Role.ORDINARY, "never answered with 202"),
    lose_a_row: (Role.DUPLICATE, "not on record"),
    fail_a_healthy_job: (Role.ORDINARY, "it ended FAILED, not COMPLETED (ordinary)"),
    complete_a_poison_job: (Role.POISON, "it ended COMPLETED, not FAILED (poison)"),
    complete_what_was_cancelled: (Role.CANCELLED, "it ended COMPLETED, not CANCELLED (cancelled)"),
    cancel_what_had_ended: (Role.CANCELLED, "it ended CANCELLED, not COMPLETED (cancelled)"),
    leave_a_job_open: (Role.CONFLICT, "it ended RUNNING, not COMPLETED (conflict)"),
    take_a_dead_letter_away: (Role.CRASH, "it is poison and in no dead-letter queue"),
    add_a_dead_letter: (Role.ORDINARY, "it is in a dead-letter queue and no poison"),
    answer_oddly: (Role.ORDINARY, "a submission was answered with 400"),
}


@pytest.mark.parametrize("change", BREACHES, ids=lambda change: change.__name__)
def test_each_breach_is_found_and_names_its_job(change: Callable[[Run], None]) -> None:
    # given
    run = Run()
    role, what = BREACHES[change]

    # when
    change(run)

    # then
    named = [breach for breach in run.breaches() if breach.startswith(run.trace(role).job.token)]
    assert len(named) == 1
    assert what in named[0]


def test_jobs_that_nobody_accepted_or_that_did_not_end_make_the_sums_differ() -> None:
    # given
    run = Run()

    # when
    run.end(Role.ORDINARY, JobStatus.RUNNING)

    # then
    assert "-: 6 jobs were accepted and 5 have ended" in run.breaches()


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.CANCELLED])
def test_a_cancellation_whose_first_answer_was_lost_may_have_been_the_one(status: JobStatus) -> None:
    # given a 409 to the second call, when the first may have cancelled the job
    run = Run()
    run.trace(Role.CANCELLED).cancel_answer = 409
    run.trace(Role.CANCELLED).cancel_repeated = True

    # when
    run.end(Role.CANCELLED, status)

    # then
    assert run.breaches() == []
