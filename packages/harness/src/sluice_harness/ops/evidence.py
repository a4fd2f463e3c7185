"""What an audit goes by: the table's rows, the bucket's objects, the queues' depths and the dead letters.

A busy stage changes while it is looked at, and nothing gives a picture of all of it at one moment. So the order
matters (depths, rows, objects, dead letters, depths again), and what looks wrong is looked at a second time:
see `Evidence.look_again`.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from sluice_core.jobs import JobKey, JobStatus

from sluice_harness.ops import letters, records
from sluice_harness.ops.stage import CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef
    from sluice_core.jobs import Job, StoredResult

    from sluice_harness.ops.letters import Letter
    from sluice_harness.ops.stage import Access

    GetObject = Callable[..., GetObjectOutputTypeDef]
    Progress = Callable[[str], None]

_QUEUE_FACTS = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
    "VisibilityTimeout",
    "MessageRetentionPeriod",
)
_TELL_EVERY = 200
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue: how many messages it holds, hidden and delayed ones included, and its settings in ms."""

    messages: int
    visibility_ms: int
    retention_ms: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of the result bucket.

    Attributes
    ----------
    job : JobKey or None
        Whose it is by its key, or None if it lies where nothing does that we store.
    is_result : bool
        Whether it is a result, and not what an external executor's job needs on the way to it.

    """

    object_key: str
    modified_at: int
    job: JobKey | None
    is_result: bool = True


@dataclass(slots=True)
class Evidence:
    """All that an audit knows. Times are epoch milliseconds.

    Attributes
    ----------
    queues : dict
        The fuller of two looks at each source queue, one before all else and one after.
    unseen_letters : dict
        By source queue, how many dead letters another reader hid.
    faults : dict
        What is wrong with the object of a COMPLETED job: "" if nothing is, None if it is not there.
    expiry_ms : int or None
        After how long the bucket's objects expire.

    """

    access: Access
    accepted: frozenset[JobKey]
    now: int = 0
    queues: dict[str, QueueState] = field(default_factory=dict)
    rows: dict[JobKey, Job] = field(default_factory=dict)
    objects: dict[JobKey | None, list[StoredObject]] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    unseen_letters: dict[str, int] = field(default_factory=dict)
    faults: dict[JobKey, str | None] = field(default_factory=dict)
    expiry_ms: int | None = None

    @property
    def dead(self) -> set[JobKey]:
        """The jobs that have a dead letter; an execution's end is none of theirs, for the reconciler finds it."""
        return {one.key for one in self.letters if one.key is not None and one.queue != letters.COMPLETION}

    @property
    def work_queues(self) -> dict[str, QueueState]:
        """The queues in which jobs wait for their executors."""
        return {name: one for name, one in self.queues.items() if name not in ("request", letters.COMPLETION)}

    def work_queue(self, job: Job) -> QueueState:
        """Return the queue in which a job waits for its executor."""
        return self.queues.get(job.executor) or self.queues["work"]

    def look(self, progress: Progress) -> None:
        """Gather it all."""
        progress("counting messages")
        before = self._queue_states()
        progress("scanning the job table")
        table = self.access.stage.jobTable
        self.rows = {job.key: job for job in records.scan(self.access.dynamodb, table)}
        progress("listing the result bucket")
        self.expiry_ms = self._expiry()
        self._add(self._list(self.access.s3, ""))
        progress("reading the dead-letter queues")
        self._read_letters()
        after = self._queue_states()
        self.queues = {name: max(before[name], after[name], key=lambda state: state.messages) for name in before}
        self.now = now_ms()
        completed = [key for key, job in self.rows.items() if job.status is JobStatus.COMPLETED]
        self._check_objects(completed, progress)

    def look_again(self, suspects: Collection[JobKey], strays: bool) -> None:
        """See what has become of these jobs since, of their objects and letters, and of objects that are no job's.

        What was on its way at the first look has arrived by now, and what was being tidied up is gone.
        """
        again = self.access.ledger.get_many(suspects, consistent=True)
        for key in suspects:
            self.rows.pop(key, None)
            self.objects.pop(key, None)
        self.rows.update(again)
        s3 = self.access.s3  # made here, not by several threads at once
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for found in pool.map(lambda key: self._list(s3, folder(key)), suspects):
                self._add(found)
        if strays:
            before = {one.object_key for one in self.objects.pop(None, [])}
            self._add(one for one in self._list(s3, "") if one.object_key in before)
        self._read_letters()
        completed = [key for key, job in again.items() if job.status is JobStatus.COMPLETED]
        self._check_objects(completed, lambda _: None)

    def _queue_states(self) -> dict[str, QueueState]:
        return {name: self._queue_state(queue.url) for name, queue in self.access.queues().items()}

    def _queue_state(self, url: str) -> QueueState:
        answer = self.access.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        facts: dict[str, str] = dict(answer["Attributes"].items())
        *counts, visibility_s, retention_s = (int(facts[name]) for name in _QUEUE_FACTS)
        return QueueState(sum(counts), 1000 * visibility_s, 1000 * retention_s)

    def _read_letters(self) -> None:
        readings = letters.read_all(self.access)
        self.letters = [letter for reading in readings for letter in reading.letters]
        self.unseen_letters = {reading.queue: reading.unseen for reading in readings}

    def _expiry(self) -> int | None:
        """Return after how long objects expire, by the bucket's lifecycle rules."""
        try:
            answer = self.access.s3.get_bucket_lifecycle_configuration(Bucket=self.access.stage.resultBucket)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "NoSuchLifecycleConfiguration":
                return None
            raise
        days = [rule["Expiration"]["Days"] for rule in answer["Rules"] if "Days" in rule.get("Expiration", {})]
        return min(days) * 86_400_000 if days else None

    def _list(self, s3: S3Client, prefix: str) -> list[StoredObject]:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.access.stage.resultBucket, Prefix=prefix)
        items = (item for page in pages for item in page.get("Contents", []))
        return [_stored(item["Key"], int(item["LastModified"].timestamp() * 1000)) for item in items]

    def _add(self, found: Iterable[StoredObject]) -> None:
        for one in found:
            self.objects.setdefault(one.job, []).append(one)

    def _check_objects(self, keys: Iterable[JobKey], progress: Progress) -> None:
        """Ask for each completed job's object, several at a time."""
        results = [(key, self.rows[key].result) for key in keys]
        s3 = self.access.s3  # made here, not by several threads at once
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            checks = pool.map(lambda one: _fault(s3.get_object, self.access.stage.resultBucket, one[1]), results)
            for count, ((key, _), fault) in enumerate(zip(results, checks, strict=True)):
                self.faults[key] = fault
                if count % _TELL_EVERY == 0:
                    progress(f"reading results: {count:,} of {len(results):,}")


def folder(key: JobKey) -> str:
    """Return below which key a job's objects lie; `sluice_core.results` puts them there."""
    return f"results/{key.owner}/{key.job_id}/"


def now_ms() -> int:
    """Return the time."""
    return time.time_ns() // 1_000_000


def _stored(object_key: str, modified_at: int) -> StoredObject:
    match object_key.split("/"):
        case ["results", owner, job_id, _]:
            return StoredObject(object_key, modified_at, JobKey(owner, job_id))
        case ["staged", owner, job_id, _] | ["inputs", owner, job_id]:
            key = JobKey(owner, job_id.removesuffix(".json"))
            return StoredObject(object_key, modified_at, key, is_result=False)
        case _:
            return StoredObject(object_key, modified_at, None)


def _fault(get_object: GetObject, bucket: str, result: StoredResult | None) -> str | None:
    """Say what is wrong with an object: its first byte is read, for S3 may list what it will not hand out."""
    if result is None:
        return "its row names no object"
    part = {"Range": "bytes=0-0"} if result.size else {}
    try:
        answer = get_object(Bucket=bucket, Key=result.object_key, **part)
        answer["Body"].read(1)
        answer["Body"].close()
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == _NOT_FOUND:
            return None
        return f"GetObject fails: {error}"
    except BotoCoreError as error:
        return f"GetObject fails: {error}"
    return _difference(answer, result)


def _difference(answer: GetObjectOutputTypeDef, result: StoredResult) -> str:
    size = int(answer["ContentRange"].rpartition("/")[2]) if "ContentRange" in answer else answer["ContentLength"]
    if size != result.size:
        return f"it has {size:,} bytes, not {result.size:,}"
    if answer["ContentType"] != result.content_type:
        return f"it is {answer['ContentType']}, not {result.content_type}"
    return ""
