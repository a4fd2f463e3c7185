"""Whoever got no 202 has no job; whoever got one has it: the queue behind the API is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from stage.answers import assert_problem
from stage.running import deployed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stage.running import Person, RunningStage

pytestmark = pytest.mark.xdist_group("broken_stage")


@pytest.fixture(scope="module")
def stage(assembly: Path) -> Iterator[RunningStage]:
    """A stage of this module's own, which works until its request queue is deleted."""
    with deployed("queueless", assembly) as running:
        ann = running.person("ann")
        assert ann.ended(ann.accepted({}))["status"] == "COMPLETED"
        running.client("sqs").delete_queue(QueueUrl=running.description.queues.request.url)
        yield running


@pytest.fixture(scope="module")
def ann(stage: RunningStage) -> Person:
    return stage.person("ann")


def test_a_submission_is_never_accepted(stage: RunningStage, ann: Person) -> None:
    for _ in range(3):
        assert_problem(ann.submit({}), 503, "unavailable", stage)


def test_nothing_is_recorded(stage: RunningStage, ann: Person) -> None:
    # Given the table and the bucket as they are
    rows, objects = stage.rows(), stage.objects()

    # When a submission with a token is refused
    assert ann.submit({"clientToken": "nobody-has-this-job"}).status_code == 503

    # Then there is no such job, and nothing else has come either
    assert_problem(ann.status("nobody-has-this-job"), 404, "not-found", stage)
    assert (stage.rows(), stage.objects()) == (rows, objects)


def test_a_bad_body_is_still_the_clients_fault(stage: RunningStage, ann: Person) -> None:
    assert_problem(ann.submit({"clientToken": "short"}), 400, "invalid-body", stage)


def test_jobs_on_record_can_still_be_read(stage: RunningStage, ann: Person) -> None:
    (row,) = stage.rows()
    answer = ann.status(row["jobKey"]["S"].partition("#")[2])
    assert (answer.status_code, answer.json()["status"]) == (200, "COMPLETED")
