"""``uvx nox -s local``: the local stage, kept up until Ctrl-C, with curl lines to paste."""

from __future__ import annotations

import argparse
import signal

from rich.console import Console

from sluice_harness.cdk_cli import CdkError
from sluice_harness.client import sign_in
from sluice_harness.description import StageDescription, description_path
from sluice_harness.local_stage import LocalStage, StageError


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
        console.print(_instructions(description, name), markup=False, soft_wrap=True)
        stage.wait()


def _instructions(stage: StageDescription, name: str) -> str:
    user = stage.users[0]
    token = sign_in(stage, user)["IdToken"]
    return f"""
The local stage is up at {stage.apiUrl}
and describes itself in {description_path(name)}. Ctrl-C ends it.

# a token of user {user.username}, good for an hour
TOKEN={token}

# submit a job; the answer's statusUrl says where to ask about it
curl -s -i -X POST '{stage.apiUrl}/submit-job' -H "Authorization: $TOKEN" \
-H 'Content-Type: application/json' \
-d '{{"jobType": "weather-report", "parameters": {{"station": "Reykjavik", "records": 24, "format": "csv"}}}}'

# submit, ask until there is a result, download it
JOB=$(curl -s -X POST '{stage.apiUrl}/submit-job' -H "Authorization: $TOKEN" \
-H 'Content-Type: application/json' -d '{{}}' | python3 -c 'import json,sys; print(json.load(sys.stdin)["jobId"])')
until STATUS=$(curl -s "{stage.apiUrl}/job-status/$JOB" -H "Authorization: $TOKEN"); \
echo "$STATUS"; [[ "$STATUS" == *'"endedAt"'* ]]; do sleep 1; done
echo "$STATUS" | python3 -c 'import json,sys; print(json.load(sys.stdin)["result"]["url"])' \\
| xargs curl -s | head -c 600
"""


if __name__ == "__main__":
    main()
