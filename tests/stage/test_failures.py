"""How jobs fail: at once, after five tries, with their workers, or unseen; and how they come back.

All of it goes on at once, since most of it is waiting: the fixture sets it off, each test looks at one end.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from stage.grants import no_results_of, role_of, without
from stage.messages import job_of, letter_of, letters, receive, receive_until, receives_of
from stage.processes import kill_workers
from stage.running import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("broken_stage")

MAX_RECEIVES = 5
STRANGE = '{"what": "is this?"}'
# A lease and its holder's message outlive their last heartbeat by this much, and whoever waits adds some jitter.
NOTICED_S = 90.0
QUICK = {"parameters": {"records": 1}}


@dataclass
class Story:
    """What the jobs are, and what mends the transient failure."""

    ann: Person
    ben: Person
    mending: ExitStack
    healthy: str = ""
    permanent: str = ""
    transient: str = ""
    vanished: str = ""
    lost: str = ""
    unrecorded: str = ""


@pytest.fixture(scope="module")
def story(altered_stage: RunningStage) -> Iterator[Story]:
    stage, queues = altered_stage, altered_stage.description.queues
    simulator = stage.description.functions.batchSimulator
    with ExitStack() as mending:
        told = Story(stage.newcomer("failing-ann"), stage.newcomer("failing-ben"), mending)
        mending.enter_context(no_results_of(stage, told.ben.sub))
        # A job whose workers have died four times: its message has been received as often, without a trace.
        with stage.unworked():
            told.lost = told.ann.accepted({"parameters": {"workSeconds": 45}})
            stage.recorded(told.ann.sub, told.lost)
            receive_until(stage, queues.work.url, told.lost, MAX_RECEIVES - 1)
        told.ann.reached(told.lost, "RUNNING")
        # A job whose worker dies for the first time, in the middle of long work: both of them at once.
        told.vanished = told.ann.accepted({"parameters": {"workSeconds": 20}})
        told.ann.reached(told.vanished, "RUNNING")
        until_renewed(stage, told.ann.sub, told.vanished)
        kill_workers(stage, simulator)
        told.unrecorded = unrecorded_request(stage, told.ann)
        told.transient = told.ben.accepted(QUICK)
        told.permanent = told.ann.accepted({"parameters": {"colour": "red"}})
        stage.client("sqs").send_message(QueueUrl=queues.request.url, MessageBody=STRANGE)
        told.healthy = told.ann.accepted(QUICK)
        yield told
    for url in (queues.request.dlqUrl, queues.work.dlqUrl):
        stage.client("sqs").purge_queue(QueueUrl=url)


@pytest.fixture(scope="module")
def stage(altered_stage: RunningStage) -> RunningStage:
    return altered_stage


def until_renewed(stage: RunningStage, owner: str, job_id: str) -> None:
    """Wait for a job's first heartbeat, which renews its lease."""
    first = stage.recorded(owner, job_id)["leaseUntil"]
    until(lambda: stage.recorded(owner, job_id)["leaseUntil"] != first, "the lease is renewed")


def unrecorded_request(stage: RunningStage, person: Person) -> str:
    """Submit a job that the processor may not record, and wait until its request has been set aside."""
    queue, processor = stage.description.queues.request, stage.description.functions.processor
    with (
        without(stage, role_of(stage, processor), "dynamodb:PartiQLInsert"),
        stage.quick_redelivery(1, queue.url),
    ):
        job_id = person.accepted(QUICK)
        assert receives_of(letter_of(stage, queue.dlqUrl, job_id)) > MAX_RECEIVES  # five, and our own
    return job_id


def attempts_of(stage: RunningStage, person: Person, job_id: str) -> int:
    return int(stage.recorded(person.sub, job_id)["attempts"]["N"])


def in_letters(stage: RunningStage, url: str, job_id: str) -> int:
    return sum(job_of(letter) == job_id for letter in letters(stage, url))


def ends_by_sweep(stage: RunningStage, person: Person, job_id: str) -> dict[str, Any]:
    """Sweep until a job has ended, and return it."""

    def look() -> dict[str, Any] | None:
        stage.sweep()
        answer = person.status(job_id)
        return None if "Retry-After" in answer.headers else answer.json()

    return until(look, f"a sweep ends job {job_id}", NOTICED_S)


# What the client can mend, and what it cannot


def test_a_permanent_failure_ends_at_once(stage: RunningStage, story: Story) -> None:
    # Given a job that can never succeed
    final = story.ann.ended(story.permanent)

    # Then it has failed, and says why
    assert final["status"] == "FAILED"
    assert final["error"]["code"] == "INVALID_PARAMETERS"
    assert "'colour'" in final["error"]["message"]

    # And it was received once, and its message is in no dead-letter queue
    assert attempts_of(stage, story.ann, story.permanent) == 1
    assert in_letters(stage, stage.description.queues.work.dlqUrl, story.permanent) == 0
    assert stage.objects(f"results/{story.ann.sub}/{story.permanent}/") == []


def test_a_request_that_is_never_recorded_becomes_a_failed_job(stage: RunningStage, story: Story) -> None:
    # Given an accepted job whose request is in the dead-letter queue, unrecorded
    dead_letters = stage.description.queues.request.dlqUrl

    # When it has been swept, then its client can see that it has failed, and when it was submitted
    final = ends_by_sweep(stage, story.ann, story.unrecorded)
    assert (final["status"], final["error"]["code"]) == ("FAILED", "NOT_PROCESSED")
    assert "submit it again" in final["error"]["message"]
    assert final["jobType"] == "weather-report"
    assert attempts_of(stage, story.ann, story.unrecorded) == 0

    # And the message is still there, once, for an operator to judge
    assert in_letters(stage, dead_letters, story.unrecorded) == 1
    stage.sweep()
    assert story.ann.ended(story.unrecorded) == final


def test_a_message_of_unknown_shape_harms_nobody(stage: RunningStage, story: Story) -> None:
    # Given a message that no gateway of ours wrote, and a job that came with it
    final = story.ann.ended(story.healthy)

    # Then the job completes at its first attempt
    assert final["status"] == "COMPLETED"
    assert attempts_of(stage, story.ann, story.healthy) == 1

    # And the message ends in the dead-letter queue after five receives, and a sweep leaves it there
    def look() -> int | None:
        return next((receives_of(one) for one in strange_letters(stage)), None)

    assert until(look, "the strange message is set aside", 120) > MAX_RECEIVES
    stage.sweep()
    assert len(strange_letters(stage)) == 1


def strange_letters(stage: RunningStage) -> list[dict[str, Any]]:
    dead_letters = stage.description.queues.request.dlqUrl
    return [letter for letter in letters(stage, dead_letters) if letter["Body"] == STRANGE]


def test_a_transient_failure_is_tried_five_times(stage: RunningStage, story: Story) -> None:
    # Given a job whose result cannot be stored
    queue = stage.description.queues.work
    final = story.ben.ended(story.transient, 120)

    # Then it fails after five attempts, and says that it may be submitted again
    assert (final["status"], final["error"]["code"]) == ("FAILED", "RETRIES_EXHAUSTED")
    assert "again" in final["error"]["message"]
    assert attempts_of(stage, story.ben, story.transient) == MAX_RECEIVES

    # And its message is in the dead-letter queue after as many receives
    assert receives_of(letter_of(stage, queue.dlqUrl, story.transient)) > MAX_RECEIVES
    assert in_letters(stage, queue.dlqUrl, story.transient) == 1

    # And all five together took less than the queue's visibility timeout, for which a plain failure would wait
    began, ended = (datetime.fromisoformat(final[name]) for name in ("submittedAt", "endedAt"))
    assert (ended - began).total_seconds() < visibility_of(stage, queue.url)


def visibility_of(stage: RunningStage, url: str) -> int:
    answer = stage.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])
    return int(answer["Attributes"]["VisibilityTimeout"])


# Workers that die


def test_a_killed_workers_job_is_taken_up_again(stage: RunningStage, story: Story) -> None:
    # Given a job whose worker was killed after a heartbeat
    # When its lease has lapsed and its message has come back, then it completes with its second attempt
    final = story.ann.ended(story.vanished, NOTICED_S + 30)
    assert final["status"] == "COMPLETED"
    assert attempts_of(stage, story.ann, story.vanished) == 2

    # And there is one result, and nothing of it among the dead letters
    assert len(stage.objects(f"results/{story.ann.sub}/{story.vanished}/")) == 1
    assert in_letters(stage, stage.description.queues.work.dlqUrl, story.vanished) == 0


def test_a_job_whose_workers_all_died_is_ended_by_the_sweeper(stage: RunningStage, story: Story) -> None:
    # Given a job whose worker was killed at its message's last receive
    dead_letters = stage.description.queues.work.dlqUrl
    assert receives_of(letter_of(stage, dead_letters, story.lost)) > MAX_RECEIVES

    # When it has been swept, then it has failed
    final = ends_by_sweep(stage, story.ann, story.lost)
    assert (final["status"], final["error"]["code"]) == ("FAILED", "WORKER_LOST")
    assert "again" in final["error"]["message"]

    # And its message is still there, once
    assert in_letters(stage, dead_letters, story.lost) == 1
    assert stage.objects(f"results/{story.ann.sub}/{story.lost}/") == []


# What an operator brings back


def redrive(stage: RunningStage, *arguments: str) -> str:
    """Run the operator's command, as an operator would."""
    command = [sys.executable, "-m", "sluice_harness.ops", "dlq", "redrive", "--stage", stage.name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_dry_run_changes_nothing(stage: RunningStage, story: Story) -> None:
    # Given a failed job with its message in the dead-letter queue
    before = story.ben.ended(story.transient, 120)

    # When an operator asks what a redrive would do, then it says so and nothing happens
    assert story.transient in redrive(stage, "--job", story.transient)
    assert story.ben.ended(story.transient) == before
    assert in_letters(stage, stage.description.queues.work.dlqUrl, story.transient) == 1


def test_a_failed_job_completes_once_the_bug_is_fixed(stage: RunningStage, story: Story) -> None:
    # Given a job that has failed for want of a grant, which is there now
    failed = story.ben.ended(story.transient, 120)
    story.mending.close()

    # When an operator redrives it
    redrive(stage, "--job", story.transient, "--yes")

    # Then it completes, and its failure is kept
    assert story.ben.reached(story.transient, "COMPLETED")
    row = stage.recorded(story.ben.sub, story.transient)
    (earlier,) = [end["M"] for end in row["history"]["L"]]
    assert earlier["error"]["M"]["code"] == {"S": failed["error"]["code"]}
    assert int(row["endedAt"]["N"]) > int(earlier["endedAt"]["N"])
    assert int(row["attempts"]["N"]) == MAX_RECEIVES + 1

    # And it has one result, and its message is gone from where it was
    assert len(stage.objects(f"results/{story.ben.sub}/{story.transient}/")) == 1
    assert in_letters(stage, stage.description.queues.work.dlqUrl, story.transient) == 0


def test_an_unrecorded_request_completes_when_it_is_redriven(stage: RunningStage, story: Story) -> None:
    # Given a request that could not be recorded, and was failed by the sweeper
    assert ends_by_sweep(stage, story.ann, story.unrecorded)["status"] == "FAILED"

    # When an operator redrives it, then the job that its client was promised completes
    redrive(stage, "--job", story.unrecorded, "--yes")
    final = story.ann.reached(story.unrecorded, "COMPLETED")
    assert "error" not in final
    assert len(stage.objects(f"results/{story.ann.sub}/{story.unrecorded}/")) == 1


def test_a_transient_failure_waits_seconds_and_then_succeeds(stage: RunningStage, story: Story) -> None:
    # Given a job of which an attempt has failed (a delay may be none, so more than one may have), and no worker
    url = stage.description.queues.work.url
    with no_results_of(stage, story.ben.sub):
        job_id = story.ben.accepted(QUICK)
        until(lambda: released(stage, story.ben.sub, job_id), "an attempt has failed")
        with stage.unworked():
            # When its message shows again, then that was soon, and each attempt had received it once
            began = time.monotonic()
            (message,) = until(lambda: receive(stage, url, hidden_s=0), "the message shows again")
            attempts = attempts_of(stage, story.ben, job_id)
            assert (job_of(message), receives_of(message)) == (job_id, attempts + 1)
            assert time.monotonic() - began < 30 < visibility_of(stage, url)

    # And once there is nothing in its way, the job completes, and no message is left
    final = story.ben.ended(job_id, NOTICED_S)
    assert final["status"] == "COMPLETED"
    until(lambda: stage.depth(url) == 0, "no message is left")
    assert in_letters(stage, stage.description.queues.work.dlqUrl, job_id) == 0


def released(stage: RunningStage, owner: str, job_id: str) -> bool:
    """Whether an attempt has given a job back."""
    row = stage.row(owner, job_id) or {}
    return row.get("status") == {"S": "SUBMITTED"} and row["attempts"] != {"N": "0"}
