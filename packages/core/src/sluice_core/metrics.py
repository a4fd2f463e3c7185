"""The metric catalogue: the one place that says what Sluice's own metrics are called and mean.

Dimensions are ``Stage`` and ``JobType`` only; ids go into EMF properties, never into dimensions, where each
value would be a metric of its own at USD 0.30 a month.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

NAMESPACE = "Sluice"


class Unit(StrEnum):
    """CloudWatch's own unit names that the catalogue uses."""

    COUNT = "Count"
    MILLISECONDS = "Milliseconds"
    BYTES = "Bytes"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name in CloudWatch, its unit and what one datapoint means."""

    name: str
    unit: Unit
    meaning: str


SUBMISSIONS_RECORDED = Metric("SubmissionsRecorded", Unit.COUNT, "jobs newly entered in the ledger")
SUBMISSIONS_DUPLICATE = Metric("SubmissionsDuplicate", Unit.COUNT, "submissions of a job already on record")
SUBMISSIONS_REJECTED = Metric("SubmissionsRejected", Unit.COUNT, "submissions that ended FAILED unstarted")
SUBMISSIONS_CONFLICTING = Metric(
    "SubmissionsConflicting", Unit.COUNT, "submissions under a used clientToken that asked for something else"
)
JOBS_COMPLETED = Metric("JobsCompleted", Unit.COUNT, "jobs that ended COMPLETED")
JOBS_FAILED = Metric("JobsFailed", Unit.COUNT, "jobs that ended FAILED")
JOBS_CANCELLED = Metric("JobsCancelled", Unit.COUNT, "jobs that ended CANCELLED")
JOBS_SWEPT = Metric("JobsSwept", Unit.COUNT, "jobs that ended FAILED because nobody else would end them")
JOBS_RETRIED = Metric("JobsRetried", Unit.COUNT, "attempts given back to be tried again")
BATCH_ITEM_FAILURES = Metric("BatchItemFailures", Unit.COUNT, "messages reported back to SQS as failed")
QUEUE_WAIT = Metric("QueueWait", Unit.MILLISECONDS, "from submission to the start of the work")
RUN_TIME = Metric("RunTime", Unit.MILLISECONDS, "from the start of the work to its end")
END_TO_END = Metric("EndToEnd", Unit.MILLISECONDS, "from submission to COMPLETED")
RESULTS_DISCARDED = Metric("ResultsDiscarded", Unit.COUNT, "results deleted because they came too late")
EVENTS_PUBLISHED = Metric("EventsPublished", Unit.COUNT, "end states published to the event bus")
RESULT_BYTES = Metric("ResultBytes", Unit.BYTES, "size of one stored result")
STATUS_READS = Metric("StatusReads", Unit.COUNT, "answered reads of a job's status")
AUTHORIZER_DENIALS = Metric("AuthorizerDenials", Unit.COUNT, "tokens that were refused")
