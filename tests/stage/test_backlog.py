"""A backlog of 5,000 jobs: taken in without slowing down, and worked off without losing or repeating one."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from sluice_harness.bench.posting import post_many
from stage.running import RunningStage, deployed, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stage.running import Person

pytestmark = pytest.mark.xdist_group("backlog")

BACKLOG = 5_000
ROUND = 250
BODY = b'{"parameters": {"records": 1}}'
DRAIN_S = 300.0


@pytest.fixture(scope="module")
def stage(assembly: Path) -> Iterator[RunningStage]:
    with deployed("backlog", assembly) as running:
        yield running


@pytest.fixture(scope="module")
def ann(stage: RunningStage) -> Person:
    """Ann, whose token the authorizer knows already."""
    person = stage.person("ann")
    assert person.ended(person.accepted({}))["status"] == "COMPLETED"
    return person


@pytest.fixture(scope="module")
def idle(assembly: Path) -> Iterator[RunningStage]:
    """A second stage, to compare with at the same moments: this machine has other work to do."""
    with deployed("idle", assembly) as running:
        yield running


@dataclass(frozen=True)
class Backlog:
    """What was queued, and how many submissions a second a deep and an empty queue took meanwhile."""

    job_ids: list[str]
    deep: list[float]
    empty: list[float]


@pytest.fixture(scope="module")
def backlog(stage: RunningStage, ann: Person, idle: RunningStage) -> Backlog:
    """Queue the backlog at once, then post to both stages in turn, the one deep and the other empty."""
    other = idle.person("ann")
    other.ended(other.accepted({}))
    deep, empty = [], []
    with stage.paused(), idle.paused():
        job_ids = post_many(ann.api_url, ann.id_token, BODY, BACKLOG).job_ids
        assert stage.depth(stage.description.queues.request.url) == BACKLOG
        for _ in range(5):
            posted = post_many(ann.api_url, ann.id_token, BODY, ROUND)
            job_ids += posted.job_ids
            deep.append(posted.rate)
            idle.client("sqs").purge_queue(QueueUrl=idle.description.queues.request.url)
            empty.append(post_many(other.api_url, other.id_token, BODY, ROUND).rate)
    return Backlog(job_ids, deep, empty)


def test_a_deep_queue_takes_requests_in_as_fast_as_an_empty_one(backlog: Backlog) -> None:
    # At least half as many a second: what a queue that is searched from its beginning falls far below
    assert statistics.median(backlog.deep) >= statistics.median(backlog.empty) / 2, backlog


def test_every_job_of_the_backlog_completes_once(stage: RunningStage, ann: Person, backlog: Backlog) -> None:
    # Given a backlog and more that was queued at once, each with an id of its own
    wanted = set(backlog.job_ids)
    assert len(wanted) == len(backlog.job_ids) >= BACKLOG

    # When they have been worked off
    until(lambda: stage.depth(stage.description.queues.request.url) == 0, "all requests are taken", DRAIN_S)
    stage.drained(DRAIN_S)

    # Then none is lost, and each ran once
    rows = {row["jobKey"]["S"].partition("#")[2]: row for row in stage.rows()}
    assert wanted <= rows.keys()
    ended = Counter((rows[job_id]["status"]["S"], rows[job_id]["attempts"]["N"]) for job_id in wanted)
    assert ended == {("COMPLETED", "1"): len(wanted)}
    objects = Counter(key.split("/")[2] for key in stage.objects(f"results/{ann.sub}/"))
    assert {objects[job_id] for job_id in wanted} == {1}

    # And there is nothing else but the job that warmed the stage up
    assert len(rows) == objects.total() == len(wanted) + 1
