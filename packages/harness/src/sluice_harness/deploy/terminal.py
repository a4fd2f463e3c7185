"""How commands that change an account speak with whoever runs them: one question, one message when they fail."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from sluice_harness import cdk_cli
from sluice_harness.cdk_cli import CdkError
from sluice_harness.deploy.smoke import SmokeError
from sluice_harness.deploy.target import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless the answer was given beforehand.

    Raises
    ------
    Refused
        The answer was no, or nobody could be asked.

    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused("nobody can be asked here: run it in a terminal, or with --yes")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise Refused("nothing was changed")


def shown(update: Callable[[str], None]) -> Callable[[str], None]:
    """Show the last line that the CDK CLI wrote."""
    return lambda line: update(line[:110].replace("[", r"\[")) if line else None
