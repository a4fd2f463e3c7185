"""The operator tools on a stage with external executors: what runs, what waits, dead letters, the audit."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from sluice_core.executors import MAX_START_S, Retry
from sluice_core.jobs import JobError, JobStatus
from sluice_core.ledger import Attempt, JobLedger, Start
from sluice_harness.description import Executors, Queue, StageDescription
from sluice_harness.ops import evidence
from sluice_harness.ops.audit import audit
from sluice_harness.ops.stage import Access, Limits
from unit.external_stage import CAP, EXECUTORS, TIMEOUT_S
from unit.lambda_events import job
from unit.operated import STAGE, now_ms
from unit.state_changes import CLUSTER, STATE_MACHINE, state_change

if TYPE_CHECKING:
    from sluice_core.jobs import Job, Submission
    from unit.conftest import MakeQueue
    from unit.external_stage import ExternalStage
    from unit.operated import Operated
    from unit.resources import WorkQueue

    Capture = pytest.CaptureFixture[str]

HOUR_S = 3_600
LOST = JobError("WORKER_LOST", "No worker lived.")


@dataclass(frozen=True)
class Site:
    """A stage with external executors, as its operator reaches it."""

    operated: Operated
    external: ExternalStage
    description: StageDescription
    completion_letters: WorkQueue

    def json(self, capture: Capture, *command: str) -> Any:
        """Run a command that is to succeed, and return what it prints for machines."""
        capture.readouterr()  # what functions have printed
        assert self.operated.run(*command, "--json") == 0
        return json.loads(capture.readouterr().out)

    def running(self, *names: str) -> list[Job]:
        """Have containers run jobs."""
        rows = self.external.started(*(job(name, at=now_ms()) for name in names))
        for row in rows:
            self.external.claim(row, now_ms())
        return [self.external.row(row) for row in rows]

    def letter(self, one: Submission, executor: str = "ecs") -> None:
        """Put a job's message among an executor's dead letters."""
        queue = self.external.dead_letters[executor]
        message = {"owner": one.key.owner, "jobId": one.key.job_id, "jobType": one.job_type, "parameters": {}}
        body = json.dumps({**message, "submittedAt": one.submitted_at})
        queue.sqs.send_message(QueueUrl=queue.url, MessageBody=body, MessageGroupId=one.key.owner)

    def end_letter(self, row: Job) -> None:
        """Put the event that a job's task has stopped among the dead letters of completions."""
        event = state_change("ecs", "succeeded", key=row.key, start_token=row.start_token, handle=row.handle)
        queue = self.completion_letters
        queue.sqs.send_message(QueueUrl=queue.url, MessageBody=json.dumps(event))

    def failed(self, name: str) -> tuple[Submission, Job]:
        """Have a job started that then failed, its execution not closed."""
        one = job(name, at=now_ms())
        [row] = self.external.started(one)
        start = Start(row.key, row.start_token, "ecs")
        [write] = self.operated.ledger.fail_started([(start, LOST)], now_ms())
        assert write.is_written
        return one, self.external.row(row)


@pytest.fixture
def site(
    operated: Operated, external: ExternalStage, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> Site:
    letters = make_queue("completions-dlq")
    queues = replace(
        operated.description.queues,
        completion=Queue(external.completions.url, letters.url),
        **{name: Queue(external.queues[name].url, external.dead_letters[name].url) for name in EXECUTORS},
    )
    executors = Executors(external.slots._table, stateMachine=STATE_MACHINE, ecsCluster=CLUSTER)
    description = replace(operated.description, queues=queues, executors=executors)
    description.save(STAGE)
    # What is read of functions, which are not here.
    monkeypatch.setattr(Access, "limits", dict.fromkeys(EXECUTORS, Limits(CAP, TIMEOUT_S)))
    monkeypatch.setattr(Access, "worker_logs", "/worker")
    return Site(operated, external, description, letters)


# executions


def test_what_runs_and_what_waits_is_listed(site: Site, capsys: Capture) -> None:
    # given as many jobs as there are slots, of which one runs, two for which there is none, and one of `lambda`
    site.operated.submitted("by-lambda")
    jobs = [job(f"job-{number}", at=now_ms() + number) for number in range(CAP + 2)]
    site.external.queue(*jobs)
    site.external.start()
    begun = [row for one in jobs if (row := site.external.row(one)).executing]
    site.external.claim(begun[0], now_ms())

    # when executions are listed
    told = site.json(capsys, "executions", "--waiting")

    # then each executor is told, and each job by where it is
    standings = {
        one["executor"]: (one["waiting"], one["slotsTaken"], one["executing"]) for one in told["executors"]
    }
    assert standings == {"stepfunctions": (0, 0, 0), "ecs": (2, CAP, CAP)}
    assert {one["maxRunning"] for one in told["executors"]} == {CAP}
    assert {one["jobId"]: (one["status"], one["handle"]) for one in told["executing"]} == {
        row.key.job_id: ("RUNNING" if row == begun[0] else "SUBMITTED", row.handle) for row in begun
    }
    waiting = {one.key.job_id for one in jobs} - {row.key.job_id for row in begun}
    assert {one["jobId"] for one in told["waiting"]} == waiting
    assert {(one["handle"], one["executor"]) for one in told["waiting"]} == {(None, "ecs")}
    assert all(one["command"].startswith("aws ecs describe-tasks ") for one in told["executing"])


def test_what_the_index_still_has_and_the_row_has_not_is_left_out(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    # given an index that lags: it still has an execution that is closed
    runs, over = site.running("runs", "over")
    site.external.lose(over)
    monkeypatch.setattr(JobLedger, "executing", lambda *_: {over.key: 1, runs.key: 2})

    # then the row is believed
    told = site.json(capsys, "executions", "--executor", "ecs")
    assert [one["jobId"] for one in told["executing"]] == [runs.key.job_id]


def test_one_executor_is_told_for_people(site: Site, capsys: Capture) -> None:
    # given a running job, and one whose start is not noted
    [row] = site.running("runs")
    site.external.services["ecs"].answers.append(Retry("RESOURCE:CPU"))
    site.external.queue(waits := job("put-off", at=now_ms()))
    site.external.start()

    # when the executor is looked at
    assert site.operated.run("executions", "--executor", "ecs") == 0

    # then its slots and both jobs are told, and no other executor
    shown = capsys.readouterr().out
    assert f"2 of {CAP}" in shown
    lines = {line.split()[1]: line for line in shown.splitlines() if line.startswith("ecs ")}
    assert row.handle in lines[row.key.job_id]
    assert "not noted yet" in lines[waits.key.job_id]
    assert "stepfunctions" not in shown


def test_what_a_stage_does_not_have_is_said(
    site: Site, operated: Operated, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    assert operated.run("executions", "--executor", "batch") == 2
    assert "has no executor batch; it has stepfunctions, ecs" in capsys.readouterr().err
    assert operated.run("dlq", "list", "--queue", "batch") == 2
    assert "has no batch queue" in capsys.readouterr().err
    monkeypatch.setattr(Access, "limits", {})
    assert operated.run("executions") == 2
    assert "has no external executor" in capsys.readouterr().err
    assert site.description.queues.batch is None


def test_a_job_says_which_executor_has_it_and_how_to_look_at_it(site: Site, capsys: Capture) -> None:
    [row] = site.running("runs")
    assert site.operated.run("job", "show", row.key.job_id, "--owner", row.key.owner) == 0
    shown = capsys.readouterr().out
    assert f"aws ecs describe-tasks --cluster {CLUSTER} --tasks {row.handle}" in shown
    told = site.json(capsys, "job", "show", row.key.job_id, "--owner", row.key.owner)["job"]
    assert (told["executor"], told["handle"], told["starts"]) == ("ecs", row.handle, 1)
    assert told["startToken"] == row.start_token
    # and one of `lambda` how to find its lines
    one = site.operated.submitted("by-lambda")
    site.operated.ledger.claim([Attempt(one.key, "attempt")], now_ms(), now_ms() + 1_000, handle="request-7")
    told = site.json(capsys, "job", "show", one.key.job_id, "--owner", one.key.owner)["job"]
    assert told["command"] == (
        f"aws logs filter-log-events --log-group-name /worker --start-time {one.submitted_at} "
        f"--filter-pattern '\"{one.key.job_id}\"'"
    )


@pytest.mark.parametrize("columns", ["20", "300"])
def test_handles_and_commands_are_whole_lines_to_paste(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: Capture, columns: str
) -> None:
    # given a running job, and a terminal that is narrower than its handle, or wider than all that there is to say
    monkeypatch.setenv("COLUMNS", columns)
    [row] = site.running("runs")
    capsys.readouterr()  # what functions have printed

    # when it is shown, and listed
    assert site.operated.run("job", "show", row.key.job_id, "--owner", row.key.owner) == 0
    shown = capsys.readouterr().out.splitlines()
    assert site.operated.run("executions", "--executor", "ecs") == 0
    listed = capsys.readouterr().out.splitlines()

    # then handle and command are on a line each, with nothing behind them
    told = dict(line.split(maxsplit=1) for line in shown)
    assert told["handle"] == row.handle
    assert told["command"] == f"aws ecs describe-tasks --cluster {CLUSTER} --tasks {row.handle}"
    assert [line.split()[-1] for line in listed if row.key.job_id in line] == [row.handle]
    assert "sluice-ops job show JOB --owner OWNER" in listed[-1]
    assert [line for line in (*shown, *listed) if line != line.rstrip()] == []


# dead letters


def test_dead_letters_of_executors_and_of_completions_are_listed(site: Site, capsys: Capture) -> None:
    # given the message of a job that never began, the end of another, and an event of something else
    one = job("never-began", at=now_ms())
    site.external.queue(one)
    site.letter(one)
    [row] = site.running("told-in-vain")
    site.end_letter(row)
    site.completion_letters.sqs.send_message(QueueUrl=site.completion_letters.url, MessageBody='{"detail": 1}')

    # when dead letters are listed, then each is its job's, by its queue
    told = site.json(capsys, "dlq", "list")
    assert {one["name"]: one["depth"] for one in told["queues"]} == {
        "request": 0,
        "work": 0,
        "stepfunctions": 0,
        "ecs": 1,
        "completion": 2,
    }
    letters = {one["jobId"]: (one["queue"], one["malformed"]) for one in told["letters"]}
    assert letters == {
        one.key.job_id: ("ecs", None),
        row.key.job_id: ("completion", None),
        None: ("completion", "not a state change of an executor's service"),
    }


def test_jobs_and_ends_are_brought_back_but_not_what_may_still_run(site: Site) -> None:
    # given a failed job whose execution is over, one whose is not, and an end that could not be settled
    over, row = site.failed("over")
    site.external.lose(row)
    open_, still = site.failed("still-runs")
    for one in (over, open_):
        site.letter(one)
    [running] = site.running("ended")
    site.external.forget(running)  # whoever settles it drops it, and frees its slot
    site.end_letter(running)
    before = site.external.completions.depth()[0]

    # when all is redriven
    assert site.operated.run("dlq", "redrive", "--all", "--rate", "500", "--yes") == 0

    # then the one job waits for its executor again, and the end is to be settled
    assert site.external.row(over).status is JobStatus.SUBMITTED
    assert site.external.queues["ecs"].job_ids() == [over.key.job_id]
    assert site.external.completions.depth()[0] == before + 1
    # and the other is left as it is
    assert site.external.row(open_) == still
    assert site.external.dead_letters["ecs"].depth() == (1, 0)
    assert sum(site.completion_letters.depth()) == 0


# audit


def test_what_executes_waits_or_is_on_its_way_breaks_no_promise(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a job that runs, with its input, one that waits, and the end of a third, which could not be settled
    [running, ended] = site.running("runs", "ended")
    site.external.queue(job("waits", at=now_ms()))
    site.end_letter(ended)
    at(monkeypatch, HOUR_S)

    # when the stage is audited an hour later, when no lease holds any more
    report = audit(site.description)

    # then there is nothing to find, and it is said what is still executing
    assert report.findings == []
    assert "2 on ecs" in " ".join(report.notes)
    assert site.external.row(running).executing == "ecs"


@pytest.mark.parametrize(("is_claimed", "may_s"), [(True, TIMEOUT_S), (False, MAX_START_S)])
def test_what_executes_for_longer_than_it_may_is_found(
    site: Site, monkeypatch: pytest.MonkeyPatch, *, is_claimed: bool, may_s: int
) -> None:
    # given a job whose container works, or one that its service does not start
    if is_claimed:
        [row] = site.running("runs")
    else:
        site.external.services["ecs"].answers.append(Retry("RESOURCE:MEMORY"))
        site.external.queue(one := job("waits", at=now_ms()))
        site.external.start()
        row = site.external.row(one)

    # then it is let be for as long as that may take, and not longer
    at(monkeypatch, may_s)
    assert audit(site.description).findings == []
    at(monkeypatch, may_s + HOUR_S)
    [finding] = audit(site.description).findings
    assert (finding.kind, finding.job) == ("unfinished-attempt", str(row.key))
    assert "ecs has had it for" in finding.detail


def test_what_waits_for_its_host_may_do_so_for_days(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.external.started(job("waits", at=now_ms()))
    at(monkeypatch, 3 * 24 * HOUR_S)
    assert audit(site.description).findings == []


def test_a_job_whose_message_is_gone_is_found_by_its_executor_s_queue(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a job whose last start was lost, and no message to start it again, while another executor has some
    one = job("forgotten", at=now_ms())
    [row] = site.external.started(one)
    site.external.lose(row)
    site.external.queue(job("waits", at=now_ms()), executor="stepfunctions")
    # and the end of that start, which nobody could settle, and which brings nothing back
    site.end_letter(row)
    at(monkeypatch, HOUR_S)

    # then it is open for good
    assert [(found.kind, found.job) for found in audit(site.description).findings] == [("open", str(one.key))]


def test_inputs_and_drafts_that_are_left_are_told_and_no_breach(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a job that has ended, its execution closed, and what it needed on the way still there
    one, row = site.failed("over")
    site.external.lose(row)
    key = one.key
    site.operated.bucket.s3.put_object(
        Bucket=site.operated.bucket.name, Key=f"staged/{key.owner}/{key.job_id}/{row.start_token}", Body=b"draft"
    )
    kept = site.operated.bucket.keys()
    assert f"inputs/{key.owner}/{key.job_id}.json" in kept
    at(monkeypatch, HOUR_S)

    # then it is told
    report = audit(site.description)
    assert report.findings == []
    assert [note for note in report.notes if note.startswith("2 inputs and drafts of jobs that have ended")]


def at(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    """Have audits take place so many seconds from now."""
    now = now_ms() + 1000 * seconds
    monkeypatch.setattr(evidence, "now_ms", lambda: now)
