"""Locust that ends when its owner does, however that ends: ``python -m sluice_harness.loadtest.tethered ...``.

Locust's arguments follow. Its standard input is a pipe of its owner's; once that is closed, Locust quits, as when
its time is up, and writes what it has. No signal tells it: what Python raises for one may be lost in a destructor.
"""

from __future__ import annotations

import runpy
import sys
from typing import TYPE_CHECKING, Any

import gevent
from gevent.os import tp_read
from locust import events

if TYPE_CHECKING:
    from locust.env import Environment

_STDIN = 0


def main() -> None:
    """Run Locust in this process."""
    events.init.add_listener(_watch_owner)
    sys.argv[0] = "locust"
    runpy.run_module("locust", run_name="__main__")


def _watch_owner(environment: Environment, **_: Any) -> None:
    gevent.spawn(_end_with_owner, environment)


def _end_with_owner(environment: Environment) -> None:
    while tp_read(_STDIN, 1):
        pass
    if environment.runner:
        environment.runner.quit()


if __name__ == "__main__":
    main()
