"""A stage under measurement: its mappings, its queues, its rows, and what it counts, as any client could ask."""

from __future__ import annotations

import json
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sluice_core.rows import EXECUTION_INDEX, LIST_INDEX

from sluice_harness import live_functions
from sluice_harness.bench import processes
from sluice_harness.client import sign_in
from sluice_harness.cloudwatch.definitions import Metric, MetricStat
from sluice_harness.cloudwatch.sources import AccountSource
from sluice_harness.local_stage import StageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sluice_harness.description import StageDescription
    from sluice_harness.local_stage import LocalStage

_POLL_S = 0.25
_PATIENCE_S = 900.0
_MINUTE = 60
_DEPTHS = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
# An ordinary job: the defaults, 100 records as JSON.
BODY = "{}"


class BenchSite:
    """A local stage and its description."""

    def __init__(self, stage: LocalStage, description: StageDescription) -> None:
        self.stage = stage
        self.description = description
        self.engine = processes.engine_of(stage.state)
        self._clients: dict[str, Any] = {}
        self.functions = description.functions.by_handler()
        self._began = int(description.clock.now()) // _MINUTE * _MINUTE - _MINUTE

    def client(self, service: str) -> Any:
        """Return the boto3 client of the stage for a service."""
        if service not in self._clients:
            self._clients[service] = self.stage.client(service)
        return self._clients[service]

    @cached_property
    def source(self) -> AccountSource:
        """Where its metrics come from."""
        return AccountSource(self.client("cloudwatch"))

    @cached_property
    def token(self) -> str:
        """The first user's ID token; one token, so that the gateway caches what the authorizer said."""
        return sign_in(self.description, self.description.users[0])["IdToken"]

    def credentials(self, role_arn: str) -> dict[str, str]:
        """Return a session of a function's own role, as variables; the account is trusted with it first."""
        iam, name = self.client("iam"), role_arn.rpartition("/")[2]
        trust = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
        account = {"AWS": f"arn:aws:iam::{self.description.account}:root"}
        trust["Statement"].append({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": account})
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
        session = self.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="bench")["Credentials"]
        return {
            "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
            "AWS_SESSION_TOKEN": session["SessionToken"],
        }

    def set_mappings(self, *names: str, enabled: bool) -> None:
        """Stop or start what takes messages off the queues for these functions, and wait until it has."""
        for name in names:
            for mapping in live_functions.mappings(self.client("lambda"), self.functions[name]):
                self.client("lambda").update_event_source_mapping(UUID=mapping, Enabled=enabled)
                self._await_state(mapping, "Enabled" if enabled else "Disabled")

    def _await_state(self, mapping: str, wanted: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while self.client("lambda").get_event_source_mapping(UUID=mapping)["State"] != wanted:
            if time.monotonic() > deadline:
                raise StageError(f"mapping {mapping} did not become {wanted}")
            time.sleep(_POLL_S)

    def depth(self) -> int:
        """Return how many messages are in both queues, those in flight included."""
        queues = self.description.queues
        depth = 0
        for url in (queues.request.url, queues.work.url):
            said = self.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=list(_DEPTHS))[
                "Attributes"
            ]
            depth += sum(int(said[name]) for name in _DEPTHS)
        return depth

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the table's rows by job id."""
        pages = self.client("dynamodb").get_paginator("scan").paginate(TableName=self.description.jobTable)
        items = (item for page in pages for item in page["Items"])
        return {item["jobKey"]["S"].partition("#")[2]: item for item in items}

    # What it counts

    def counters(self) -> dict[str, float]:
        """Return what the stage's metrics have counted since it came up: sums, by service and what they count."""
        wanted = dict(self._counted())
        end = (int(self.description.clock.now()) // _MINUTE + 2) * _MINUTE
        length = end - self._began
        stats = [MetricStat(metric, "Sum", length) for metric in wanted.values()]
        series = self.source.fetch(stats, self._began, end)
        return {name: sum(each.values()) for name, each in zip(wanted, series, strict=True)}

    def _counted(self) -> Iterator[tuple[str, Metric]]:
        for name, physical in self.functions.items():
            function = (("FunctionName", physical),)
            yield f"invocations {name}", Metric("AWS/Lambda", "Invocations", function)
            yield f"duration {name}", Metric("AWS/Lambda", "Duration", function)
        table: tuple[tuple[str, str], ...] = (("TableName", self.description.jobTable),)
        # Dimensions of a metric are sorted by name.
        index, executing = ((("GlobalSecondaryIndexName", name), *table) for name in (LIST_INDEX, EXECUTION_INDEX))
        places = {"table": table, "index": index}
        if slots := self.description.executors.slotsTable:
            places |= {"executing": executing, "slots": (("TableName", slots),)}
        for kind in ("Write", "Read"):
            for name, where in places.items():
                yield f"{kind.lower()} units {name}", Metric("AWS/DynamoDB", f"Consumed{kind}CapacityUnits", where)
        for name, queue in self.description.queues.by_name().items():
            named = (("QueueName", queue.url.rpartition("/")[2]),)
            yield f"sent {name}", Metric("AWS/SQS", "NumberOfMessagesSent", named)
        own = (("Stage", self.description.stage),)
        for name in ("JobsCompleted", "EventsPublished", "StatusReads"):
            yield name, Metric("Sluice", name, own)

    def settle(
        self,
        jobs: float,
        since: Mapping[str, float],
        *,
        events: bool = True,
        left: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Wait until both queues are empty and, unless told not to, each of so many jobs' end is published.

        ``left`` is told how many messages there still are.

        Raises
        ------
        StageError
            That was not so in time.

        """
        deadline = time.monotonic() + _PATIENCE_S
        while depth := self.depth():
            left(depth)
            _pause(deadline, "the queues did not become empty")
        while events and self.counters()["EventsPublished"] - since["EventsPublished"] < jobs:
            _pause(deadline, f"the ends of {jobs:.0f} jobs were not published")

    def cpu_ms(self) -> dict[str, float]:
        """Return the CPU time of the stage's processes so far, by what they are."""
        return processes.cpu_ms(self.engine, {physical: name for name, physical in self.functions.items()})


def _pause(deadline: float, complaint: str) -> None:
    if time.monotonic() > deadline:
        raise StageError(complaint)
    time.sleep(_POLL_S)
