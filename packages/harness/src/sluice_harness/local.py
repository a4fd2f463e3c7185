"""``uvx nox -s local``: the local stage, kept up until Ctrl-C, with curl lines to paste."""

from __future__ import annotations

import argparse
import base64
import json
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from sluice_core.executors import LAMBDA, parse_executors
from sluice_core.requests import DEFAULT_JOB_TYPE

from sluice_harness.cdk_cli import CdkError
from sluice_harness.client import sign_in
from sluice_harness.description import description_path
from sluice_harness.live_functions import live
from sluice_harness.local_stage import LocalStage, StageError

if TYPE_CHECKING:
    from sluice_harness.description import StageDescription

_WEATHER = "sluice_core.weather:WeatherReport"
# Prints an answer's jobId; of one that has none, as a refusal, it prints all and is an error.
_JOB_ID = """python3 -c 'import json,sys; a=json.load(sys.stdin); print(a.get("jobId") or sys.exit(str(a)))'"""


@dataclass(frozen=True, slots=True)
class _JobType:
    """A job type of a stage: what runs it, and whether it is the weather, whose parameters are known here."""

    name: str
    executor: str
    is_weather: bool


def main() -> None:
    """Bring the stage up and wait."""
    parser = argparse.ArgumentParser(prog="nox -s local --", description=__doc__)
    parser.add_argument("--port", type=int, help="where to listen on loopback (default: a free port)")
    parser.add_argument(
        "--stage", default="local", help="local, or longwork, which has every executor (default: local)"
    )
    parser.add_argument("--name", help="names build/stages/NAME.json (default: the stage's)")
    parser.add_argument(
        "--speed", type=float, default=1.0, help="stage seconds in a second, for metrics and alarms"
    )
    options = parser.parse_args()
    console = Console(highlight=False)
    try:
        _keep_up(options, console)
    except KeyboardInterrupt:
        console.print("stopped")
    except (CdkError, StageError) as error:
        raise SystemExit(f"error: {error}") from None


def _keep_up(options: argparse.Namespace, console: Console) -> None:
    # A plain kill ends the stage in order, as Ctrl-C does, in the background too.
    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, signal.default_int_handler)
    name = options.name or options.stage

    def progress(step: str) -> None:
        console.print(f"[dim]{step} ...[/]")

    with LocalStage(name, stage=options.stage, port=options.port, progress=progress, speed=options.speed) as stage:
        description = stage.deploy()
        text = instructions(description, name, stage.client("lambda"))
        console.print(text, markup=False, soft_wrap=True)
        stage.wait()


def instructions(stage: StageDescription, name: str, lambda_: Any) -> str:
    """Return lines to paste into a shell in the repository's root: a user's jobs, and an operator's look at them.

    Parameters
    ----------
    stage : StageDescription
        A local stage that is up.
    name : str
        Of the file that describes it.
    lambda_ : client
        Boto3's, of that stage: its processor is told which job types there are, and what runs them.

    """
    user = stage.users[0]
    token = sign_in(stage, user)["IdToken"]
    types = _job_types(stage, lambda_)
    known = [one for one in types if one.is_weather] or types
    long = next((one for one in known if one.executor != LAMBDA), known[0])
    example, seconds, remark = _weather(known[0].name) if known[0].is_weather else _own(known[0].name)
    shortest = {} if DEFAULT_JOB_TYPE in [one.name for one in known] else example
    post = f"""curl -s -X POST '{stage.apiUrl}/submit-job' -H "Authorization: $TOKEN" \
-H 'Content-Type: application/json'"""
    return f"""
The local stage is up at {stage.apiUrl}
and describes itself in {description_path(name)}. Ctrl-C ends it.

# a token of user {user.username}, good for an hour, and the sub that owns this user's jobs
TOKEN={token}
OWNER={_subject(token)}

# submit a job; the answer's statusUrl says where to ask about it
{post} -i -d '{json.dumps(example)}'

# there are jobs of: {", ".join(f"{one.name} ({one.executor})" for one in types)}
# {remark}
TYPE={long.name}
JOB=$({post} -d '{{"jobType": "'$TYPE'", "parameters": {json.dumps(seconds)}}}' \
| {_JOB_ID})

# the operator's look at it
uv run --no-sync sluice-ops job show "$JOB" --owner "$OWNER" --stage {name}

# cancel it
curl -s -X POST "{stage.apiUrl}/cancel-job/$JOB" -H "Authorization: $TOKEN"

# submit, ask until there is a result, download it
JOB=$({post} -d '{json.dumps(shortest)}' \
| {_JOB_ID})
until STATUS=$(curl -s "{stage.apiUrl}/job-status/$JOB" -H "Authorization: $TOKEN"); \
echo "$STATUS"; [[ "$STATUS" == *'"endedAt"'* ]]; do sleep 1; done
echo "$STATUS" | python3 -c 'import json,sys; print(json.load(sys.stdin)["result"]["url"])' \\
| xargs curl -s | head -c 600
"""


def _weather(job_type: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return a submission, the parameters of a long job, and what to say of those."""
    example = {"jobType": job_type, "parameters": {"station": "Reykjavik", "records": 24, "format": "csv"}}
    remark = (
        "one that takes half a minute, by the weather's workSeconds (at most 45): time to look at it, to cancel"
    )
    return example, {"workSeconds": 30}, f"{remark} or kill it"


def _own(job_type: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return the same of work that is not the weather's."""
    remark = "parameters are the work's own: put them in place of {} here and below; a refusal says what it takes"
    return {"jobType": job_type, "parameters": {}}, {}, remark


def _job_types(stage: StageDescription, lambda_: Any) -> list[_JobType]:
    """Return the job types that a stage has."""
    told = lambda_.get_function_configuration(FunctionName=live(stage.functions.processor))["Environment"][
        "Variables"
    ]
    executors = parse_executors(told.get("EXECUTORS", ""))
    workloads = dict(entry.strip().split("=") for entry in told["WORKLOADS"].split(","))
    return [_JobType(name, executors.get(name, LAMBDA), work == _WEATHER) for name, work in workloads.items()]


def _subject(token: str) -> str:
    """Return whose a token is; it is ours, so nobody has to verify it."""
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(claims["sub"])


if __name__ == "__main__":
    main()
