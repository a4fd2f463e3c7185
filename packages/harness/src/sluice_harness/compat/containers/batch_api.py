"""The calls of AWS Batch about jobs: submit, terminate, describe and list them.

MiniStack has SubmitJob, DescribeJobs and ListJobs of its jobs that never ran, and lacks the others. A job's
definition is named by its name, which is its latest active revision, by NAME:REVISION, or by its ARN. ListJobs
lists RUNNING jobs unless it is told of a status or a filter; with a filter the status counts for nothing, and
JOB_NAME is the whole name, or its beginning before an asterisk, whatever its case; the newest jobs come first (AWS
Batch API Reference, "SubmitJob", "ListJobs", "TerminateJob", "CancelJob"). What a request asks for besides is
refused, rather than left out.

Closed in the engine's table of calls; `batch_jobs` has the jobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ministack.core.responses import error_response_json
from ministack.services import batch

from sluice_harness.compat.containers.batch_jobs import ENDED, Job, jobs
from sluice_harness.compat.patching import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    Record = dict[str, Any]

_KNOWN = frozenset({
    "jobName", "jobQueue", "jobDefinition", "parameters", "containerOverrides", "timeout", "tags", "propagateTags",
})  # fmt: skip
_BEFORE_STARTING = frozenset({"SUBMITTED", "PENDING", "RUNNABLE"})
_SUMMARY = (
    "jobArn", "jobId", "jobName", "createdAt", "status", "statusReason", "startedAt", "stoppedAt", "jobDefinition",
)  # fmt: skip
_SHORTEST_TIMEOUT_SECONDS = 60
_A_PAGE = 100


class RequestError(Exception):
    """What AWS says to a request that it does not take."""


def apply() -> None:
    """Put our calls in the place of the engine's."""
    expect(batch, "_job_queue_name_from_ref", "ref")
    expect(batch, "_compute_environment_name_from_ref", "ref")
    expect(batch, "_register_job_definition", "p")
    calls = expect(batch, "_DISPATCH")
    for name in ("_job_arn", "_now_ms", "_json", "_compute_envs", "_job_queues", "_job_definitions"):
        if not hasattr(batch, name):
            raise RuntimeError(f"the engine's Batch has no {name}: read its source and adapt {__name__}")
    ours = {
        "submitjob": _submit,
        "terminatejob": _terminate,
        "canceljob": _cancel,
        "describejobs": _describe,
        "listjobs": _list,
    }
    calls.update({f"/v1/{name}": _answering(call) for name, call in ours.items()})
    calls["/v1/registerjobdefinition"] = register


def _answering(call: Callable[[Record], Record]) -> Callable[[Record], Any]:
    def answer(request: Record) -> Any:
        try:
            return batch._json(200, call(request))
        except RequestError as error:
            return error_response_json("ClientException", str(error), 400)

    return answer


def register(wanted: Record) -> Any:
    """Register a job definition, with what the engine forgets of it."""
    status, headers, body = batch._register_job_definition(wanted)
    made = batch._job_definitions.get(wanted.get("jobDefinitionName"), [{}])[-1]
    made.update({name: wanted[name] for name in ("timeout", "platformCapabilities") if name in wanted})
    return status, headers, body


def _submit(request: Record) -> Record:
    if unknown := sorted(request.keys() - _KNOWN):
        raise RequestError(f"the local stage does not know {', '.join(unknown)}")
    if (
        request.get("timeout", {}).get("attemptDurationSeconds", _SHORTEST_TIMEOUT_SECONDS)
        < _SHORTEST_TIMEOUT_SECONDS
    ):
        raise RequestError("Error executing request, Exception : Timeout must be at least 60 seconds")
    job = Job(request, _queue(request["jobQueue"]), definition_of(request["jobDefinition"]))
    jobs[job.record["jobId"]] = job
    job.begin()
    return {name: job.record[name] for name in ("jobArn", "jobName", "jobId")}


def _queue(ref: str) -> Record:
    name, error = batch._job_queue_name_from_ref(ref)
    found: Record | None = None if error else batch._job_queues.get(name)
    if found is None:
        raise RequestError(f"JobQueue {ref} not found")
    if found["state"] != "ENABLED":
        raise RequestError(f"Error executing request, Exception : JobQueue {ref} is not enabled")
    return found


def definition_of(ref: str) -> Record:
    """Return a job definition.

    Raises
    ------
    RequestError
        There is none of this name that is active.

    """
    name, _, revision = ref.rpartition("/")[2].partition(":")
    revisions = [one for one in batch._job_definitions.get(name, []) if one["status"] == "ACTIVE"]
    found: list[Record] = [one for one in revisions if not revision or str(one["revision"]) == revision]
    if not found:
        raise RequestError(f"JobDefinition {ref} not found")
    return found[-1]


def _terminate(request: Record) -> Record:
    if not request.get("reason"):
        raise RequestError("A reason is required")
    job = jobs.get(request.get("jobId", ""))
    if job and job.record["status"] not in ENDED:  # one that has ended, or is not known, has nothing to end
        job.record["isTerminated"] = True
        job.terminate(request["reason"])
    return {}


def _cancel(request: Record) -> Record:
    job = jobs.get(request.get("jobId", ""))
    return _terminate(request) if job and job.record["status"] in _BEFORE_STARTING else {}


def _describe(request: Record) -> Record:
    return {"jobs": [jobs[one].record for one in request.get("jobs", []) if one in jobs]}


def _list(request: Record) -> Record:
    queue = _queue(request["jobQueue"])["jobQueueArn"]
    wanted = [one.record for one in reversed(list(jobs.values())) if one.record["jobQueue"] == queue]
    for condition in request.get("filters", []):
        if condition["name"] != "JOB_NAME":
            raise RequestError(f"the local stage does not know the filter {condition['name']}")
        wanted = [one for one in wanted if any(_is_named(one["jobName"], name) for name in condition["values"])]
    if not request.get("filters"):
        status = request.get("jobStatus", "RUNNING")
        wanted = [one for one in wanted if one["status"] == status]
    first, number = int(request.get("nextToken") or 0), request.get("maxResults", _A_PAGE)
    page = [_summary(one) for one in wanted[first : first + number]]
    rest = {"nextToken": str(first + number)} if len(wanted) > first + number else {}
    return {"jobSummaryList": page, **rest}


def _is_named(name: str, wanted: str) -> bool:
    if wanted.endswith("*"):
        return name.lower().startswith(wanted[:-1].lower())
    return name.lower() == wanted.lower()


def _summary(record: Record) -> Record:
    summary = {name: record[name] for name in _SUMMARY if name in record}
    kept = {name: record["container"][name] for name in ("exitCode", "reason") if name in record["container"]}
    return {**summary, "container": kept} if record["status"] in ENDED else summary
