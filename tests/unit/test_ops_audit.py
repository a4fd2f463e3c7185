"""The audit: silent on a healthy stage, however busy, and every breach of the promise named by its kind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sluice_core.jobs import JobError
from sluice_harness.ops import evidence
from sluice_harness.ops.audit import Finding, audit
from unit.lambda_events import gateway_id, job
from unit.operated import attempt, now_ms

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sluice_core.jobs import Submission
    from unit.operated import Operated

    Later = Callable[[int], None]

OWNER = job("any").key.owner
VISIBILITY_S = 360
HOUR_S = 3_600


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Have audits take place so many seconds from now."""

    def wait(seconds: int) -> None:
        now = now_ms() + 1000 * seconds
        monkeypatch.setattr(evidence, "now_ms", lambda: now)

    return wait


def kinds(operated: Operated, *accepted: Submission) -> list[tuple[str, str | None]]:
    """Audit, and return what was found, without the explanations."""
    report = audit(operated.description, [(one.key.owner, one.key.job_id) for one in accepted] or None)
    return sorted(((finding.kind, finding.job) for finding in report.findings), key=str)


def named(one: Submission) -> str:
    return str(one.key)


@pytest.mark.parametrize("seconds", [0, 30, HOUR_S])
def test_a_healthy_busy_stage_has_no_findings(operated: Operated, later: Later, seconds: int) -> None:
    # given jobs in every state, work and requests in the queues, and a failed job's dead letter
    done, _ = operated.completed("done")
    failed, cancelled = operated.failed("failed"), operated.cancelled("cancelled")
    running, lapsed, waiting = (
        operated.running("running"),
        operated.running("lapsed", 0),
        operated.submitted("new"),
    )
    for one in (running, lapsed, waiting):
        operated.queued(one)
    operated.work_letter(failed)
    queued = job("only-a-request")
    operated.queues.requests.send_request("only-a-request", {})

    # when it is audited, now or later
    later(seconds)
    accepted = [(one.key.owner, one.key.job_id) for one in (done, failed, cancelled, running, queued)]
    report = audit(operated.description, accepted)

    # then all is explained, and what could not be judged is said
    assert report.findings == []
    assert report.counts == {"CANCELLED": 1, "COMPLETED": 1, "FAILED": 1, "RUNNING": 2, "SUBMITTED": 1}
    assert report.dead_letters == {(failed.key.owner, failed.key.job_id)}
    assert [note.split(" holds")[0] for note in report.notes] == ["the request queue", "the work queue"]


def test_it_shows_its_dead_letters_again(operated: Operated) -> None:
    operated.work_letter(operated.failed("failed"))
    audit(operated.description)
    assert operated.queues.work_dlq.depth() == (1, 0)


def test_an_accepted_job_without_a_trace_is_lost(operated: Operated) -> None:
    vanished = job("vanished", at=now_ms())
    done, _ = operated.completed("done")
    assert kinds(operated, vanished, done) == [("lost", named(vanished))]


def test_an_accepted_request_may_wait_in_its_queue_but_not_longer_than_that_keeps_it(
    operated: Operated, later: Later
) -> None:
    # given a busy request queue and a job made at the gateway that is in no table
    operated.queues.requests.send_request("another", {})
    lost = (OWNER, gateway_id(OWNER, now_ms()))

    # then it may be in the queue, until the queue's retention is over
    assert audit(operated.description, [lost]).findings == []
    later(5 * 86_400)
    assert [one.kind for one in audit(operated.description, [lost]).findings] == ["lost"]


def test_an_accepted_request_among_the_dead_letters_is_not_lost(operated: Operated) -> None:
    dead = job("dead", at=now_ms())
    operated.request_letter(dead)
    assert kinds(operated, dead) == []


def test_an_open_job_that_nothing_will_end_is_found_once_it_is_settled(operated: Operated, later: Later) -> None:
    # given a job on record whose work message was never sent
    stuck = operated.submitted("stuck")

    # then a minute later nothing explains it any more
    assert kinds(operated) == []
    later(61)
    assert kinds(operated) == [("open", named(stuck))]


def test_a_held_job_waits_for_its_message(operated: Operated, later: Later) -> None:
    # given a job that was brought back and held, whose message is lost on the way
    failed = operated.failed("failed")
    seen = operated.ledger.get(failed.key)
    assert seen is not None
    operated.ledger.reopen(seen, now_ms(), now_ms() + 1000 * HOUR_S)

    # then it is found when the hold is over
    later(HOUR_S - 60)
    assert kinds(operated) == []
    later(HOUR_S + 60)
    assert kinds(operated) == [("open", named(failed))]


def test_an_open_job_older_than_any_message_is_found_on_a_busy_stage_too(operated: Operated, later: Later) -> None:
    stuck, busy = operated.submitted("stuck"), operated.submitted("busy")
    operated.queued(busy)
    later(9 * 86_400)
    assert kinds(operated) == [("open", named(busy)), ("open", named(stuck))]


def test_an_attempt_whose_message_is_gone_is_found(operated: Operated, later: Later) -> None:
    # given a worker that died with the only message, while requests keep coming
    stuck = operated.running("stuck")
    operated.queues.requests.send_request("another", {})

    # then its message may be hidden for as long as its queue hides messages, and no longer
    later(VISIBILITY_S)
    assert kinds(operated) == []
    later(VISIBILITY_S + 60)
    assert kinds(operated) == [("unfinished-attempt", named(stuck))]


def test_a_result_that_is_not_there_is_found(operated: Operated) -> None:
    done, stored = operated.completed("done")
    operated.bucket.s3.delete_object(Bucket=operated.bucket.name, Key=stored.object_key)
    assert kinds(operated) == [("missing-object", named(done))]


@pytest.mark.parametrize("body", [b"", b"40", b"43\n"])
@pytest.mark.parametrize("content_type", ["text/plain", "text/csv"])
def test_a_result_that_is_not_what_the_row_says_is_found(
    operated: Operated, body: bytes, content_type: str
) -> None:
    # given a result that was replaced
    done, stored = operated.completed("done")
    operated.bucket.s3.put_object(
        Bucket=operated.bucket.name, Key=stored.object_key, Body=body, ContentType=content_type
    )

    # then a change of size or type shows; one of content alone cannot
    is_same = len(body) == stored.size and content_type == stored.content_type
    assert kinds(operated) == ([] if is_same else [("unreadable-object", named(done))])


def test_a_second_result_is_found_once_it_should_have_been_tidied_up(operated: Operated, later: Later) -> None:
    # given a completed job and what another attempt at it has stored
    done, _ = operated.completed("done")
    operated.stored(done, "another-attempt")

    # then within a minute that may yet be deleted
    later(55)
    assert kinds(operated) == []
    later(65)
    assert kinds(operated) == [("applied-twice", named(done))]


def test_while_work_is_queued_a_message_may_come_and_tidy_up(operated: Operated, later: Later) -> None:
    done, _ = operated.completed("done")
    operated.stored(done, "another-attempt")
    operated.queued(operated.running("busy", 1000 * HOUR_S))
    later(VISIBILITY_S)
    assert kinds(operated) == []
    later(VISIBILITY_S + 65)
    assert kinds(operated) == [("applied-twice", named(done))]


def test_objects_that_no_job_completed_with_are_orphans(operated: Operated, later: Later) -> None:
    # given results of a failed and a cancelled job, of one without a row, one elsewhere, and one in the making
    failed, cancelled, running = operated.failed("failed"), operated.cancelled("gone"), operated.running("run")
    unknown = job("unknown")
    for one in (failed, cancelled, running, unknown):
        operated.stored(one)
    operated.queued(running)
    operated.bucket.s3.put_object(Bucket=operated.bucket.name, Key="stray.txt", Body=b"")

    # then all but the last are found, a minute after the work queue has had its time
    later(55)
    assert kinds(operated) == []
    later(VISIBILITY_S + 65)
    orphans = [("orphan-object", named(one)) for one in (failed, cancelled, unknown)]
    assert kinds(operated) == sorted([*orphans, ("orphan-object", None)], key=str)


def test_a_completed_job_with_only_another_attempts_object_has_none(operated: Operated, later: Later) -> None:
    done, stored = operated.completed("done")
    operated.stored(done, "another-attempt")
    operated.bucket.s3.delete_object(Bucket=operated.bucket.name, Key=stored.object_key)
    later(65)
    assert kinds(operated) == [("missing-object", named(done)), ("orphan-object", named(done))]


def test_an_object_that_is_about_to_expire_may_outlive_its_row(operated: Operated, later: Later) -> None:
    # given a bucket whose objects expire after a day, and a result whose job's row has expired
    operated.stored(job("unknown"))
    rule = {"ID": "all", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    operated.bucket.s3.put_bucket_lifecycle_configuration(
        Bucket=operated.bucket.name,
        LifecycleConfiguration={"Rules": [rule]},  # type: ignore[list-item]
    )

    # then it is an orphan by day only
    later(22 * HOUR_S)
    assert len(kinds(operated)) == 1
    later(24 * HOUR_S)
    assert kinds(operated) == []


def test_a_dead_letter_of_a_job_that_has_not_failed_is_unexplained(operated: Operated) -> None:
    done, _ = operated.completed("done")
    operated.work_letter(done)
    assert kinds(operated) == [("unexplained-dead-letter", named(done))]


def test_a_dead_letter_of_an_open_job_is_the_sweepers_for_a_while(operated: Operated, later: Later) -> None:
    # given a job whose last attempt died, and a request that could not be recorded
    running, request = operated.running("running"), job("request", at=now_ms())
    operated.work_letter(running)
    operated.request_letter(request)

    # then they are the sweeper's to end, for two minutes after they may have become dead letters
    later(VISIBILITY_S + 100)
    assert kinds(operated) == []
    later(VISIBILITY_S + 200)
    assert kinds(operated) == [
        ("unexplained-dead-letter", named(request)),
        ("unexplained-dead-letter", named(running)),
    ]


def test_a_malformed_dead_letter_is_found_and_is_nobodys(operated: Operated) -> None:
    operated.malformed_letter()
    report = audit(operated.description)
    assert [(one.kind, one.job) for one in report.findings] == [("malformed-dead-letter", None)]
    assert report.dead_letters == set()


def test_what_was_under_way_at_the_first_look_is_no_finding(
    operated: Operated, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a job that seems stuck, and whose worker ends it just after it was looked at
    late = operated.running("late", lease_ms=0)
    look_again = evidence.Evidence.look_again

    def end_it_first(self: evidence.Evidence, *args: object, **more: object) -> None:
        operated.ledger.fail([(attempt(late), JobError("LATE", "Late."))], now_ms())
        look_again(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(evidence.Evidence, "look_again", end_it_first)

    # when it is audited
    later(HOUR_S)
    report = audit(operated.description)

    # then the second look finds it ended
    assert report.findings == []
    assert report.counts == {"FAILED": 1}


def test_dead_letters_that_others_hide_are_said_and_judged_by_nobody(
    operated: Operated, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given an open job whose dead letter another reader hides
    monkeypatch.setattr("sluice_harness.ops.letters._PATIENCE_S", 0.1)
    operated.work_letter(operated.running("running"))
    operated.queues.work_dlq.receive()

    # then that it is there is known, and not whose it is
    later(HOUR_S)
    report = audit(operated.description)
    assert report.findings == []
    assert report.notes == ["1 dead letters of the work queue were hidden by another reader; audit again"]


def test_the_command_prints_findings_and_exits_with_1(
    operated: Operated, capsys: pytest.CaptureFixture[str]
) -> None:
    done, _ = operated.completed("done")
    operated.work_letter(done)
    assert operated.run("audit") == 1
    shown = capsys.readouterr().out
    assert "unexplained-dead-letter" in shown
    assert named(done) in shown
    assert "1 jobs, 1 with a dead letter, 1 findings." in shown


def test_the_command_prints_json_and_reads_accepted_jobs(
    operated: Operated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a file of jobs that were accepted, one of which is lost
    done, _ = operated.completed("done")
    vanished = job("vanished")
    accepted = tmp_path / "accepted.txt"
    accepted.write_text("".join(f"{one.key.owner} {one.key.job_id}\n" for one in (done, vanished)))

    # when it is audited
    code = operated.run("audit", "--accepted", str(accepted), "--json")

    # then standard output is one document
    assert code == 1
    document = json.loads(capsys.readouterr().out)
    assert document["counts"] == {"COMPLETED": 1}
    assert [Finding(**one).job for one in document["findings"]] == [named(vanished)]


@pytest.mark.parametrize("content", [None, "ann\n", "ann one two\n"])
def test_a_file_of_accepted_jobs_that_is_none_is_refused(
    operated: Operated, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    accepted = tmp_path / "accepted.txt"
    if content is not None:
        accepted.write_text(content)
    assert operated.run("audit", "--accepted", str(accepted)) == 2
    assert str(accepted) in capsys.readouterr().err
