"""Warm CPU of the handlers, as a ratio to the bare calls that they make, against a local stage's own endpoint.

Real messages: posted to the API, received from the queues in tens and put into the form in which Lambda delivers
them. Each function runs in a process of its own (`warm_process`) with the code that ships and the deployed
function's settings; only that process's CPU counts, the engine's beside it is what its side of the calls takes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from sluice_harness.bench.cold import python, runtime_environment
from sluice_harness.bench.figures import paired_ratio
from sluice_harness.bench.posting import post_many
from sluice_harness.bench.site import BODY
from sluice_harness.client import sign_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sluice_harness.bench.assembly import DeployedFunction
    from sluice_harness.bench.site import BenchSite

BATCH = 10
BATCHES = 40
READS = 200
TOKENS = 40
# The first of a process import, connect and fill caches.
_WARM_UP = 3
_PROCESS = Path(__file__).with_name("warm_process.py")


@dataclass(frozen=True, slots=True)
class Warm:
    """What one unit (a job, a read, an authorization) costs, in ms of CPU; medians over the pairs.

    Attributes
    ----------
    ratio : float
        The handler's to the bare calls', the median over the pairs.
    workload_ms : float
        The part of `handler_ms` that is the job's own work, which people replace; `ratio` is with it.
    ratio_without_work : float
        The ratio of the rest.
    engine_ms : float
        The engine's side of the bare calls.
    calls : tuple of str
        The calls of one event, each a service and an operation.

    """

    handler_ms: float
    bare_ms: float
    ratio: float
    workload_ms: float
    ratio_without_work: float
    engine_ms: float
    pairs: int
    calls: tuple[str, ...]


def measure(
    site: BenchSite,
    functions: Sequence[DeployedFunction],
    *,
    batches: int = BATCHES,
    progress: Callable[[str], object] = lambda _: None,
) -> dict[str, Warm]:
    """Return the figures by name: processor, batch-simulator, job-status open and completed, authorizer.

    The mappings are off meanwhile, and are left so; what is in the queues then is the next user's to throw away.
    """
    by_name = {one.name: one for one in functions}
    site.set_mappings("processor", "batch-simulator", enabled=False)
    progress("posting and receiving")
    count = (batches + _WARM_UP) * BATCH
    token = site.token
    job_ids = post_many(site.description.apiUrl, token, BODY.encode(), count).job_ids
    requests = _received(site, site.description.queues.request.url, set(job_ids))
    figures = {}
    progress("processor")
    figures["processor"] = _run(site, by_name["processor"], "batch", events=_events(requests))
    progress("job-status, open")
    figures["job-status open"] = _run(site, by_name["job-status"], "status", events=_reads(site, job_ids))
    work = _received(site, site.description.queues.work.url, set(job_ids))
    progress("batch-simulator")
    figures["batch-simulator"] = _run(site, by_name["batch-simulator"], "work", events=_events(work))
    progress("job-status, completed")
    figures["job-status completed"] = _run(site, by_name["job-status"], "status", events=_reads(site, job_ids))
    progress("authorizer")
    figures["authorizer"] = _authorizations(site, by_name["authorizer"])
    return figures


def per_job(figures: Mapping[str, Warm]) -> tuple[float, float]:
    """Return the CPU of one whole job in its two functions, and of their bare calls, in ms."""
    both = [figures[name] for name in ("processor", "batch-simulator")]
    return sum(one.handler_ms for one in both), sum(one.bare_ms for one in both)


def _received(site: BenchSite, url: str, wanted: set[str]) -> list[dict[str, Any]]:
    """Receive so many jobs' messages as Lambda's pollers do; others, of the bare calls, are left aside."""
    found: dict[str, dict[str, Any]] = {}
    while len(found) < len(wanted):
        answer = site.client("sqs").receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=BATCH,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        )
        if not answer.get("Messages"):
            raise RuntimeError(f"{len(found)} of {len(wanted)} messages are in {url}")
        for message in answer["Messages"]:
            job_id = _job_of(message)
            if job_id in wanted:
                found[job_id] = _record(message, site.description.region)
    return [{"jobId": job_id, "record": record} for job_id, record in found.items()]


def _job_of(message: Mapping[str, Any]) -> str:
    attribute = message.get("MessageAttributes", {}).get("jobId")
    return str(attribute["StringValue"] if attribute else json.loads(message["Body"])["jobId"])


def _record(message: Mapping[str, Any], region: str) -> dict[str, Any]:
    """Return a message as Lambda delivers it (AWS Lambda Developer Guide, "Using Lambda with Amazon SQS")."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": dict(message["Attributes"]),
        "messageAttributes": {
            name: {
                "stringValue": value["StringValue"],
                "stringListValues": [],
                "binaryListValues": [],
                "dataType": value["DataType"],
            }
            for name, value in message.get("MessageAttributes", {}).items()
        },
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:{region}:000000000000:queue",
        "awsRegion": region,
    }


def _events(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    events = []
    for start in range(0, len(messages), BATCH):
        batch = messages[start : start + BATCH]
        event = {"Records": [one["record"] for one in batch]}
        events.append({"event": event, "jobIds": [one["jobId"] for one in batch]})
    return events


def _reads(site: BenchSite, job_ids: Sequence[str]) -> list[dict[str, Any]]:
    owner = site.rows()[job_ids[0]]["jobKey"]["S"].partition("#")[0]
    caller = {"principalId": owner, "owner": owner, "groups": ""}
    return [
        {
            "event": {
                "resource": "/job-status/{job-id}",
                "httpMethod": "GET",
                "headers": {"Accept": "*/*"},
                "queryStringParameters": None,
                "pathParameters": {"job-id": job_id},
                "requestContext": {"extendedRequestId": "bench", "authorizer": caller},
                "body": None,
                "isBase64Encoded": False,
            },
            "jobIds": [],
        }
        for job_id in job_ids[:READS]
    ]


def _run(site: BenchSite, function: DeployedFunction, kind: str, *, events: list[dict[str, Any]]) -> Warm:
    plan = {"module": function.module, "kind": kind, "engine": site.engine, "events": events}
    return _summary(_carry_out(site, function, plan), 1 if kind == "status" else BATCH)


def _authorizations(site: BenchSite, function: DeployedFunction) -> Warm:
    description = site.description
    users = description.users
    tokens = [sign_in(description, users[number % len(users)])["IdToken"] for number in range(TOKENS + _WARM_UP)]
    jwks = f"{description.endpointUrl}/{description.userPoolId}/.well-known/jwks.json"
    plan = {
        "module": function.module,
        "kind": "authorizer",
        "tokens": tokens,
        "keys": httpx.get(jwks).raise_for_status().json()["keys"],
        "audience": description.userPoolClientId,
        "issuer": f"https://cognito-idp.{description.region}.amazonaws.com/{description.userPoolId}",
        "methodArn": f"arn:aws:execute-api:{description.region}:{description.account}:api/local/GET/job-status",
        "otherPackages": sysconfig.get_paths()["purelib"],
    }
    return _summary(_carry_out(site, function, plan), 1)


def _carry_out(site: BenchSite, function: DeployedFunction, plan: dict[str, Any]) -> dict[str, Any]:
    settings = site.client("lambda").get_function_configuration(FunctionName=site.functions[function.name])
    environment = {
        **runtime_environment(function.code),
        **settings["Environment"]["Variables"],
        **site.credentials(settings["Role"]),
        "AWS_ENDPOINT_URL": str(site.description.endpointUrl),
    }
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        figures = Path(folder) / "figures.json"
        done = subprocess.run(
            python(str(_PROCESS)),
            input=json.dumps({**plan, "figures": str(figures)}).encode(),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{function.name}: {done.stderr.decode(errors='replace')[-2_000:]}")
        read: dict[str, Any] = json.loads(figures.read_text())
        return read


def _summary(figures: Mapping[str, Any], units: int) -> Warm:
    pairs = figures["pairs"][_WARM_UP:]
    handler = [pair["handler"]["cpuMs"] / units for pair in pairs]
    bare = [pair["bare"]["cpuMs"] / units for pair in pairs]
    work = [each / units for each in figures["workloadMs"][_WARM_UP:]] or [0.0] * len(pairs)
    return Warm(
        handler_ms=statistics.median(handler),
        bare_ms=statistics.median(bare),
        ratio=paired_ratio(handler, bare),
        workload_ms=statistics.median(work),
        ratio_without_work=paired_ratio([one - own for one, own in zip(handler, work, strict=True)], bare),
        engine_ms=statistics.fmean(pair["bare"]["engineMs"] for pair in pairs) / units,
        pairs=len(pairs),
        calls=tuple(pairs[-1]["calls"]),
    )
