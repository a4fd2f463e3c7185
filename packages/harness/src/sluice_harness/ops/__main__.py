"""The operator tools of a stage: dead letters, jobs, executions, traces, an audit of its promise.

Commands that change something say what they would do; with --yes they do it. They exit
with 0 if all is well, with 1 if something was found or could not be done, and with 2 if
the command makes no sense.
"""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError
from sluice_core.executors import EXTERNAL

from sluice_harness.ops.audit import audit_stage
from sluice_harness.ops.dead_letters import list_letters, show_letter
from sluice_harness.ops.executions import list_executions
from sluice_harness.ops.jobs import fail_job, show_job
from sluice_harness.ops.redrive import DEFAULT_RATE, redrive
from sluice_harness.ops.stage import Access, Failure, UsageError, find_stage
from sluice_harness.ops.trace import show_traces

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    Command = Callable[[Access, argparse.Namespace], int]

_PROGRAM = "sluice-ops"
_FASTEST = 500  # StartMessageMoveTask, Amazon SQS API Reference
_FAILED, _USAGE = 1, 2
_LONGEST_MESSAGE = 500
_KEPT_HOURS = 30 * 24  # AWS X-Ray Developer Guide, "Concepts": traces are kept for 30 days
_WIDTH = 88
_OWNER = (
    "whose job: the user's sub in Cognito, a claim of their token; `nox -s local` prints it as OWNER, "
    "`sluice-ops executions` lists it with each job, `aws cognito-idp admin-get-user` tells it of a user"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(arguments)
    options.again = shlex.join([_PROGRAM, *arguments])
    command: Command = options.command
    try:
        return command(Access(find_stage(options.stage)), options)
    except UsageError as error:
        return _complain(str(error), _USAGE)
    except Failure as error:
        return _complain(str(error), _FAILED)
    except (ClientError, BotoCoreError) as error:
        return _complain(_explain(error), _FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted; messages that were being read show again within two minutes", _FAILED)


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"error: {text}\n")
    return code


def _explain(error: ClientError | BotoCoreError) -> str:
    if isinstance(error, EndpointConnectionError):
        return f"{error} Is the stage up? `uvx nox -s local` brings a local one up, in another terminal"
    if isinstance(error, NoCredentialsError):
        return f"{error}; sign in to the stage's account, for instance with AWS_PROFILE"
    return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    letters = _group(commands, "dlq", "dead letters: list, show, redrive")
    _add_list(letters)
    _add_show(letters)
    _add_redrive(letters)
    jobs = _group(commands, "job", "one job: show, fail")
    _add_job_show(jobs)
    _add_job_fail(jobs)
    _add_executions(commands)
    _add_trace(commands)
    _add_audit(commands)
    return parser


def _add_list(commands: _Commands) -> None:
    parser = _command(
        commands,
        "list",
        list_letters,
        """List the dead letters: how many each queue has, how old the oldest is, and a row for each: whose job it
        is, what has become of that, its error and attempts. Payloads are never shown. Reading hides the messages
        from other readers for a moment and changes nothing.""",
        "dlq list --queue work",
    )
    _add_queue(parser)
    _add_json(parser)


def _add_show(commands: _Commands) -> None:
    parser = _command(
        commands,
        "show",
        show_letter,
        """Show what is known of a dead letter, and its job's row. A job may have several dead letters, and several
        owners a job of the same id; all are shown. The payload, which is the client's data, is only shown with
        --payload: ask for it if the job cannot be understood without it, and mind where the output goes.""",
        "dlq show 1790000000000-5e2f0d4c-3b1a-4f60-9c8d-7e6f5a4b3c2d-0a1b2c3d",
    )
    parser.add_argument("id", metavar="JOB_OR_MESSAGE_ID", help="a job's id, or a message's")
    parser.add_argument("--payload", action="store_true", help="show the message's body too: the client's data")
    _add_json(parser)


def _add_redrive(commands: _Commands) -> None:
    parser = _command(
        commands,
        "redrive",
        redrive,
        """Bring failed jobs back, once the cause of their failure is mended. A FAILED job becomes SUBMITTED again,
        its failure kept in its history, and then its message goes back to the queue it came from. A job that is
        still open, a request that was never recorded, and the end of an execution need only be moved. Messages
        whose job is COMPLETED or CANCELLED, may still be executing, or has no row any more, and malformed ones,
        are left and named. In AWS, --all has SQS move the
        whole queue (StartMessageMoveTask) if nothing in it is to be left; otherwise messages are moved one by one.
        Ctrl-C stops between two messages; running the command again goes on. Without --yes nothing is changed.""",
        "dlq redrive --all --rate 20 --yes",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--job", metavar="ID", help="only this job's")
    which.add_argument("--all", action="store_true", help="all of them")
    parser.add_argument("--owner", metavar="SUB", help="whose job, if several owners have one of that id")
    _add_queue(parser)
    parser.add_argument(
        "--rate",
        type=_rate,
        default=DEFAULT_RATE,
        metavar="N",
        help=f"how many messages a second at most, 1 to {_FASTEST} (default {DEFAULT_RATE})",
    )
    parser.add_argument(
        "--drop-ended", action="store_true", help="delete the messages whose job is COMPLETED or CANCELLED"
    )
    _add_yes(parser)


def _add_job_show(commands: _Commands) -> None:
    parser = _command(
        commands,
        "show",
        show_job,
        """Show a job's row: status, times, attempts, lease, the failures it was brought back from, conflicts, its
        result's object, which executor has it or had it, and its message, if that lies in a dead-letter queue. The
        command that it names shows the execution in the runbooks' shell, or what `lambda` has logged of the job, a
        line for each attempt that is over; a stage in AWS names its page in the console, too. Ids are scoped to
        owners; without --owner the dead letters must tell whose job it is, and if they do not, it is said how to
        find that out.""",
        "job show nightly-report-2026-03-01 --owner 0a1b2c3d-1111-4222-8333-444455556666",
    )
    parser.add_argument("id", metavar="JOB_ID")
    parser.add_argument("--owner", metavar="SUB", help=_OWNER)
    _add_json(parser)


def _add_job_fail(commands: _Commands) -> None:
    parser = _command(
        commands,
        "fail",
        fail_job,
        """End an open job FAILED, whoever works on it. It is for jobs that `audit` calls open, and for those that
        must not go on. A result that comes later is discarded, and what an external executor runs of it is stopped
        within a minute or two. A job that has ended is refused. Without --yes nothing is changed.""",
        "job fail nightly-report-2026-03-01 \\\n    --owner 0a1b2c3d-1111-4222-8333-444455556666 "
        "\\\n    --message 'Lost in an outage; submit it again.' --yes",
    )
    parser.add_argument("id", metavar="JOB_ID")
    parser.add_argument("--owner", metavar="SUB", required=True, help=_OWNER)
    parser.add_argument(
        "--message", metavar="TEXT", type=_message, required=True, help="why, in words for the job's client"
    )
    parser.add_argument(
        "--code", type=_code, default="OPERATOR", help="why, for the client's program (default OPERATOR)"
    )
    _add_yes(parser)


def _add_executions(commands: _Commands) -> None:
    parser = _command(
        commands,
        "executions",
        list_executions,
        """List what external executors run: how many jobs wait for each, how many of its slots are taken, and a
        row for each job whose execution is not yet known to be over, with the handle by which the executor's
        service knows it. A slot without a row is that of a start under way, or one that the reconciler frees.""",
        "executions --executor batch --waiting",
    )
    parser.add_argument("--executor", choices=EXTERNAL, help="only this one (default: all that the stage has)")
    parser.add_argument(
        "--waiting", action="store_true", help="a row for each job that waits, too: this scans the whole table"
    )
    _add_json(parser)


def _add_trace(commands: _Commands) -> None:
    parser = _command(
        commands,
        "trace",
        show_traces,
        """Draw a job's trace: one row for each thing that X-Ray recorded of it, from the client's request through
        both queues to the result, on a common axis of time, with faults, errors and throttles marked. A job has a
        trace only if it was sampled: the first request each second is, and one in a hundred of the others. Several
        traces, of a token used more than once or by several owners, come one after another.""",
        "trace 1790000000000-5e2f0d4c-3b1a-4f60-9c8d-7e6f5a4b3c2d-0a1b2c3d",
    )
    parser.add_argument("id", metavar="JOB_ID")
    parser.add_argument(
        "--hours",
        type=_hours,
        default=6.0,
        metavar="N",
        help=f"how far to look back, at most {_KEPT_HOURS} (default 6)",
    )
    _add_json(parser)


def _add_audit(commands: _Commands) -> None:
    parser = _command(
        commands,
        "audit",
        audit_stage,
        """Reconcile the job table, the queues and the result bucket, and name every job that breaks the promise: a
        job accepted with 202 ends in exactly one end state, and its work is applied once. It scans the whole table
        and lists the whole bucket, which costs read units and requests; it changes nothing.

        lost                     accepted, but with no row and in no queue (needs --accepted)
        open                     open, held by nobody, and no message is left to end it
        unfinished-attempt       RUNNING, its lease long lapsed, and no message will bring it back
        missing-object           COMPLETED, but its result is not there
        unreadable-object        its result has another size or type, or cannot be read
        applied-twice            COMPLETED, with more than one result
        orphan-object            a result, older than a minute, of a job that did not complete with it
        unexplained-dead-letter  of a job that is not FAILED, and the sweeper had its time
        malformed-dead-letter    a dead letter that is nobody's""",
        "audit --accepted accepted.txt --json",
    )
    parser.add_argument(
        "--accepted",
        type=Path,
        metavar="FILE",
        help="jobs known to have been answered with 202, and younger than the results' retention: "
        "OWNER JOB_ID, one a line",
    )
    _add_json(parser)


def _group(commands: _Commands, name: str, text: str) -> _Commands:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _command(
    commands: _Commands, name: str, function: Command, description: str, example: str
) -> argparse.ArgumentParser:
    prose, _, list_ = inspect.cleandoc(description).partition("\n\n")
    text = "\n\n".join(part for part in (textwrap.fill(prose, _WIDTH), list_) if part)
    summary = re.split(r"[:.]\s", " ".join(prose.split()))[0]
    parser = commands.add_parser(
        name,
        help=summary[0].lower() + summary[1:],
        description=text,
        epilog=f"example:\n  uv run {_PROGRAM} {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=function)
    parser.add_argument(
        "--stage", metavar="NAME", help="which build/stages/NAME.json (default: the only one there is, else local)"
    )
    return parser


def _add_queue(parser: argparse.ArgumentParser) -> None:
    names = ("request", "work", *EXTERNAL, "completion")
    parser.add_argument("--queue", choices=names, help="only this queue's (default: of all that the stage has)")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")


def _add_yes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do it; without this, only say what would be done")


def _rate(text: str) -> int:
    number = int(text)
    if not 1 <= number <= _FASTEST:
        raise argparse.ArgumentTypeError(f"from 1 to {_FASTEST}")
    return number


def _hours(text: str) -> float:
    number = float(text)
    if not 0 < number <= _KEPT_HOURS:
        raise argparse.ArgumentTypeError(f"more than 0 and at most {_KEPT_HOURS}")
    return number


def _message(text: str) -> str:
    if not text.strip() or len(text) > _LONGEST_MESSAGE:
        raise argparse.ArgumentTypeError(f"from 1 to {_LONGEST_MESSAGE} characters")
    return text


def _code(text: str) -> str:
    if not re.fullmatch("[A-Z][A-Z0-9_]{0,49}", text):
        raise argparse.ArgumentTypeError("capitals, digits and underscores, as in NOT_PROCESSED")
    return text


if __name__ == "__main__":
    raise SystemExit(main())
