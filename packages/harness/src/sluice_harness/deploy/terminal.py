"""How commands that change an account speak with whoever runs them: one question, one message when they fail."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import TYPE_CHECKING

from sluice_harness import cdk_cli
from sluice_harness.cdk_cli import CdkError
from sluice_harness.deploy.smoke import SmokeError
from sluice_harness.deploy.target import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console


class Refused(Exception):  # noqa: N818 - named for what it is
    """Whoever was asked said no, or nobody could be asked; nothing was changed."""


@contextlib.contextmanager
def failing_in_one_message() -> Iterator[None]:
    """Make of what can go wrong a message with the next step, and a non-zero exit code."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit("interrupted: CloudFormation finishes what it has begun; run it again") from None
    except CdkError as error:
        raise SystemExit(f"error: {cdk_cli.explain(str(error))}") from None
    except (TargetError, SmokeError, Refused, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


def demand_an_answer(*, yes: bool) -> None:
    """See, before anything takes time, that there is an answer or somebody to ask.

    Raises
    ------
    Refused
        There is neither.

    """
    if not yes and not sys.stdin.isatty():
        raise Refused("nobody can be asked here: run it in a terminal, or with --yes")


def show_changes(diff: str, console: Console) -> None:
    """Show what would change; of what is all new, what it consists of, for there is nothing to compare."""
    console.print(cdk_cli.new_by_type(diff) if cdk_cli.is_all_new(diff) else diff, markup=False, soft_wrap=True)
    console.print(cdk_cli.summary(diff), markup=False, soft_wrap=True)


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless the answer was given beforehand.

    Raises
    ------
    Refused
        The answer was no, or nobody could be asked.

    """
    demand_an_answer(yes=yes)
    if yes:
        return
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise Refused("nothing was changed")


def shown(update: Callable[[str], None]) -> Callable[[str], None]:
    """Show how far the CDK CLI is: stack, count and what it is about, of an event; else its last line."""

    def show(line: str) -> None:
        event = re.match(r"(\S+) \| +(\S+) \| .*\| (\S+)", line)
        if line:
            update((f"{event[1]} {event[2]} {event[3]}" if event else line)[:75].replace("[", r"\["))

    return show
