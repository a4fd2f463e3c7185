"""A burst of invocations is served by the environments that have started; long ones each get their own."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from stage.conformance.functions import create_function

if TYPE_CHECKING:
    from stage.conformance.conftest import Engine

QUICK = """
import os, time
time.sleep(0.3)  # as long as it takes to import boto3
def handler(event, context): return os.getpid()
"""
SLOW = """
import os, time
def handler(event, context):
    time.sleep(3)
    return os.getpid()
"""
FAILING = """
import time
time.sleep(0.2)
raise RuntimeError("no such module")
"""


def burst(engine: Engine, name: str, count: int) -> list[str]:
    """Invoke a function so often at once, and return the answers."""
    client = boto3.client(
        "lambda",
        endpoint_url=engine.url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(max_pool_connections=count, retries={"total_max_attempts": 1}),
    )
    with ThreadPoolExecutor(count) as pool:
        answers = pool.map(lambda _: client.invoke(FunctionName=name)["Payload"].read().decode(), range(count))
        return list(answers)


def test_a_burst_of_quick_invocations_starts_a_few_environments(engine: Engine) -> None:
    # given a function that takes long to start and no time to run
    name = create_function(engine, QUICK)

    # when it is invoked 24 times at once
    processes = burst(engine, name, 24)

    # then all are answered, by a few environments
    assert len(processes) == 24
    assert len(set(processes)) <= 3 * (os.cpu_count() or 1)


def test_long_invocations_run_beside_each_other(engine: Engine) -> None:
    # given a function that runs for three seconds
    name = create_function(engine, SLOW, Timeout=20)

    # when it is invoked five times at once
    began = time.monotonic()
    processes = burst(engine, name, 5)

    # then each has an environment of its own, and none waited for another's end
    assert len(set(processes)) == 5
    assert time.monotonic() - began < 2 * 3


def test_environments_that_cannot_start_keep_nobody_waiting(engine: Engine) -> None:
    # given a function whose module cannot be imported
    name = create_function(engine, FAILING)

    # when it is invoked more often than environments may start at once
    began = time.monotonic()
    answers = burst(engine, name, 4 * (os.cpu_count() or 1))

    # then each is told so, as soon as it was tried
    assert all("no such module" in answer for answer in answers), answers
    assert time.monotonic() - began < 10
