"""The metric catalogue: the one place that says what Sluice's own metrics are called and mean.

Handlers emit from it, alarms and dashboards refer to it, and tests hold all three against each other. Dimensions
are ``Stage`` and ``JobType`` only; ids never become dimensions, where each value would be a metric of its own at
USD 0.30 a month. What has a job type is there twice: by type, for looking, and over all types, for alarms, which
cannot add up series that they do not know. What the load generator's clients measure has the dimension ``Source``
in its place, and what counts executions ``Executor``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sluice_core import jobs

NAMESPACE = "Sluice"
STAGE = "Stage"
JOB_TYPE = "JobType"
SOURCE = "Source"
EXECUTOR = "Executor"
CLIENT = "client"


class Unit(StrEnum):
    """CloudWatch's own unit names that the catalogue uses."""

    COUNT = "Count"
    MILLISECONDS = "Milliseconds"
    BYTES = "Bytes"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name in CloudWatch, its unit and what one datapoint means.

    Attributes
    ----------
    by_job_type : bool
        Whether it is there by job type as well as for the stage as a whole.
    by_client : bool
        Whether the load generator sends it, from what its clients see, and no function does.
    by_executor : bool
        Whether it is there by external executor, and not for the stage as a whole.

    """

    name: str
    unit: Unit
    meaning: str
    by_job_type: bool = False
    by_client: bool = False
    by_executor: bool = False

    @property
    def dimension_sets(self) -> tuple[tuple[str, ...], ...]:
        """The sets of dimensions under which it is there."""
        if self.by_client:
            return ((STAGE, SOURCE),)
        if self.by_executor:
            return ((STAGE, EXECUTOR),)
        return ((STAGE,), (STAGE, JOB_TYPE)) if self.by_job_type else ((STAGE,),)


def _count(name: str, meaning: str, *, by_job_type: bool = False) -> Metric:
    return Metric(name, Unit.COUNT, meaning, by_job_type)


def _job_count(name: str, meaning: str) -> Metric:
    return _count(name, meaning, by_job_type=True)


def _job_time(name: str, meaning: str) -> Metric:
    return Metric(name, Unit.MILLISECONDS, meaning, by_job_type=True)


def _client_time(name: str, meaning: str) -> Metric:
    return Metric(name, Unit.MILLISECONDS, meaning, by_client=True)


SUBMISSIONS_RECORDED = _job_count("SubmissionsRecorded", "jobs newly entered in the ledger")
SUBMISSIONS_DUPLICATE = _job_count("SubmissionsDuplicate", "submissions of a job already on record")
SUBMISSIONS_REJECTED = _count("SubmissionsRejected", "submissions that ended FAILED unstarted, INVALID_REQUEST")
SUBMISSIONS_CONFLICTING = _count(
    "SubmissionsConflicting", "submissions under a used clientToken that asked for something else"
)

JOBS_STARTED = _job_count("JobsStarted", "attempts begun: claims of a job by a worker")
JOBS_COMPLETED = _job_count("JobsCompleted", "jobs that ended COMPLETED")
JOBS_CANCELLED = _job_count("JobsCancelled", "jobs that ended CANCELLED")
JOBS_RETRIED = _job_count("JobsRetried", "attempts given back to be tried again")
JOBS_SWEPT = _job_count("JobsSwept", "jobs that ended FAILED because nobody else would end them")
JOBS_FAILED = _job_count("JobsFailed", "jobs that ended FAILED, for whatever reason")
# By code, in names and not in a dimension: a workload's own codes are nobody's to count in advance.
JOBS_FAILED_PERMANENT = _job_count("JobsFailedPermanent", "jobs whose work said that it can never succeed")
JOBS_FAILED_RETRIES_EXHAUSTED = _job_count("JobsFailedRetriesExhausted", "jobs that failed in every attempt")
JOBS_FAILED_WORKER_LOST = _job_count("JobsFailedWorkerLost", "jobs whose workers died, the last one too")
JOBS_FAILED_NOT_PROCESSED = _job_count("JobsFailedNotProcessed", "requests that could not be processed")

JOBS_FAILED_TIMED_OUT = _job_count("JobsFailedTimedOut", "jobs whose work took longer than it may")
JOBS_FAILED_STOPPED = _job_count("JobsFailedStopped", "jobs whose execution somebody stopped")
JOBS_FAILED_NOT_STARTED = _job_count("JobsFailedNotStarted", "jobs that their executor never began")

EXECUTIONS_RUNNING = Metric(
    "ExecutionsRunning", Unit.COUNT, "executions that have begun and are not settled", by_executor=True
)
EXECUTIONS_NOT_STARTED = _count("ExecutionsNotStarted", "starts that an external executor put off")
COMPLETIONS_DROPPED = _count("CompletionsDropped", "ends of executions of unknown jobs, or of older starts")
COMPLETIONS_RECONCILED = _count("CompletionsReconciled", "executions that were settled without an event")

BATCH_ITEM_FAILURES = _count("BatchItemFailures", "messages and stream records reported back as failed")
REQUEST_AGE_OF_FIRST_ATTEMPT = _job_time(
    "RequestAgeOfFirstAttempt", "from a request's arrival in its queue to its first receive"
)
WORK_AGE_OF_FIRST_ATTEMPT = _job_time(
    "WorkAgeOfFirstAttempt", "from a work message's arrival in its queue to its first receive"
)
QUEUE_WAIT = _job_time("QueueWait", "from submission to the start of the work")
RUN_TIME = _job_time("RunTime", "from the start of the work to its end")
END_TO_END = _job_time("EndToEnd", "from submission to COMPLETED, of a job that `lambda` ran")
EXTERNAL_END_TO_END = _job_time("ExternalEndToEnd", "the same, of a job that an external executor ran")
RESULT_BYTES = Metric("ResultBytes", Unit.BYTES, "size of one stored result", by_job_type=True)
RESULTS_DISCARDED = _count("ResultsDiscarded", "results deleted because they came too late")
EVENTS_PUBLISHED = _count("EventsPublished", "end states published to the event bus")
STATUS_READS = _count("StatusReads", "answered reads of a job's status, or of a list")
AUTHORIZER_DENIALS = _count("AuthorizerDenials", "calls refused by the authorizer, with a 401 or a 403")
TOKENS_REFUSED = _count("TokensRefused", "calls refused with a 401, which Lambda counts as errors")
COLD_STARTS = _count("ColdStarts", "execution environments that served their first invocation")

# Of the load generator; times count from when its schedule wanted a submission sent.
CLIENT_SUBMISSIONS = Metric("ClientSubmissions", Unit.COUNT, "submissions answered with a 202", by_client=True)
CLIENT_ERRORS = Metric("ClientErrors", Unit.COUNT, "requests and jobs that went wrong", by_client=True)
CLIENT_SUBMIT_LATENCY = _client_time("ClientSubmitLatency", "to the 202, from when the schedule wanted it sent")
CLIENT_TIME_TO_VISIBLE = _client_time("ClientTimeToVisible", "from the 202 to the first answer that knows the job")
CLIENT_QUEUE_WAIT = _client_time("ClientQueueWait", "from submission to the start of the work, as answers tell")
CLIENT_RUN_TIME = _client_time("ClientRunTime", "from the start of the work to its end, as answers tell")
CLIENT_END_TO_END = _client_time("ClientEndToEnd", "from the schedule's moment to an answer with COMPLETED")
CLIENT_DOWNLOAD_TIME = _client_time("ClientDownloadTime", "to have a result downloaded")

_FAILURES = {
    "INVALID_REQUEST": SUBMISSIONS_REJECTED,
    jobs.RETRIES_EXHAUSTED.code: JOBS_FAILED_RETRIES_EXHAUSTED,
    jobs.WORKER_LOST.code: JOBS_FAILED_WORKER_LOST,
    jobs.NOT_PROCESSED.code: JOBS_FAILED_NOT_PROCESSED,
    jobs.TIMED_OUT.code: JOBS_FAILED_TIMED_OUT,
    jobs.STOPPED.code: JOBS_FAILED_STOPPED,
    jobs.NOT_STARTED.code: JOBS_FAILED_NOT_STARTED,
}


def failure(code: str) -> Metric:
    """Return the metric that counts the failures of an error code; a workload's own codes share one."""
    return _FAILURES.get(code, JOBS_FAILED_PERMANENT)
