"""A container's entry point: ``python -m sluice_core.run_job`` runs one job and ends.

Which job, and on which stage, is in the environment. What became of it is in the ledger, and as much of that as
whoever started the container needs to know in its exit code.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sluice_core import clients
from sluice_core.container_run import ENDED, ContainerRun, Task, logger
from sluice_core.external import TRY_AGAIN
from sluice_core.inputs import InputStore
from sluice_core.jobs import JobKey
from sluice_core.ledger import JobLedger
from sluice_core.results import ResultWriter
from sluice_core.workloads import load_workloads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MISCONFIGURED, CRASHED = os.EX_CONFIG, 1

OF_THE_STAGE = {
    "JOB_TABLE": "the name of the job table",
    "RESULT_BUCKET": "the name of the bucket that holds inputs and results",
    "RETENTION_SECONDS": "how long a row is kept, in seconds",
    "WORKLOADS": "job-type=package.module:Class, entries separated by commas",
    "WORK_TIMEOUT_SECONDS": "how long the work may take, in seconds, before the job fails with TIMED_OUT",
    "AWS_DEFAULT_REGION": "the region, which ECS sets by itself",
}
OF_THE_JOB = {
    "SLUICE_OWNER": "whose job it is",
    "SLUICE_JOB_ID": "its id",
    "SLUICE_START_TOKEN": "the start that this is: startToken in the job's row",
}
EXIT_CODES = {
    ENDED: "the job has ended, or is not this container's to run",
    TRY_AGAIN: "the attempt has failed or was stopped, and the job is free for another (EX_TEMPFAIL)",
    MISCONFIGURED: "a setting is missing or wrong, and nothing was done (EX_CONFIG)",
    CRASHED: "or any other: it crashed, and when the lease has lapsed the job is free for another",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job that the environment names; return the exit code."""
    _parser().parse_args(arguments)
    try:
        run = configured_run(os.environ)
    except ValueError as error:
        print(f"run_job: {error}", file=sys.stderr)
        return MISCONFIGURED
    signal.signal(signal.SIGTERM, lambda *_: run.terminate())
    _log_as_json()
    try:
        return run.run()
    except Exception:
        fields = {"outcome": "crashed", "trace": traceback.format_exc()}
        logger.exception("the container crashed", exc_info=False, extra={"fields": fields})
        return CRASHED


def _parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog="python -m sluice_core.run_job",
        description=__doc__,
        epilog="\n\n".join([_list("settings", OF_THE_STAGE | OF_THE_JOB), _list("exit codes", EXIT_CODES)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _list(title: str, meanings: Mapping[Any, str]) -> str:
    return "\n  ".join([f"{title}:", *(f"{name:<20}  {meaning}" for name, meaning in meanings.items())])


def configured_run(environment: Mapping[str, str]) -> ContainerRun:
    """Return what the environment asks for.

    Raises
    ------
    ValueError
        A setting is missing or wrong; the text says which, and what to do.

    """
    missing = [name for name in (*OF_THE_STAGE, *OF_THE_JOB) if not environment.get(name)]
    if missing:
        raise ValueError(
            f"not set: {', '.join(missing)}. A stage's job definition or task definition sets"
            f" {', '.join(OF_THE_STAGE)}, and whatever starts a job sets {', '.join(OF_THE_JOB)}."
            " See --help for what they are, and docs/containers.md for how to run a job by hand"
        )
    task = Task(
        key=JobKey(environment["SLUICE_OWNER"], environment["SLUICE_JOB_ID"]),
        start_token=environment["SLUICE_START_TOKEN"],
        timeout_s=_seconds(environment, "WORK_TIMEOUT_SECONDS"),
        workloads=load_workloads(environment["WORKLOADS"]),
    )
    retention_s = _seconds(environment, "RETENTION_SECONDS")
    ledger = JobLedger(clients.dynamodb(), environment["JOB_TABLE"], retention_s)
    s3, bucket = clients.s3(), environment["RESULT_BUCKET"]
    return ContainerRun(task, ledger, InputStore(s3, bucket), ResultWriter(s3, bucket))


def _seconds(environment: Mapping[str, str], name: str) -> int:
    if not environment[name].isdecimal():
        raise ValueError(f"{name} must be a whole number of seconds")
    return int(environment[name])


class _JsonLines(logging.Formatter):
    """The form of the functions' lines, which saved queries read, without Powertools."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"level": record.levelname, "message": record.getMessage(), "timestamp": at, "service": "sluice"}
        return json.dumps({**line, **getattr(record, "fields", {})})


def _log_as_json() -> None:
    """Write our lines, and others' warnings, to standard output, one JSON document a line."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logger.setLevel(logging.INFO)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Not sys.exit, which waits for threads that the work may have left.
    os._exit(code)
