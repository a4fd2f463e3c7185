"""A worker's environment is its function's, and none survives its engine."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from stage.conformance import containers
from stage.conformance.conftest import running_engine
from stage.conformance.functions import create_function, create_queue, depth, eventually, invoke, unique, zipped

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = "import os\ndef handler(event, context): return dict(os.environ)"
WHO = """
import boto3
def handler(event, context):
    return boto3.client("sts").get_caller_identity()["Arn"]
"""
SLEEPER = """
import os, time
def handler(event, context):
    with open(event, "w") as mark:
        mark.write(str(os.getpid()))
        mark.flush()
    time.sleep(60)
"""
# With a child of its own.
CONTAINER = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path({mark!r}).write_text(str(os.getpid()) + " " + str(child.pid))
time.sleep(60)
"""
PATIENT = """
import os, time
def handler(event, context):
    open(event, "w").close()
    time.sleep(1.5)
    return os.getpid()
"""
PLACE = """
import os, time
def handler(event, context):
    time.sleep(1)
    own = os.environ["TMPDIR"]
    open(os.path.join(own, "mark"), "w").close()
    return [os.getpid(), os.path.realpath(__file__), os.path.realpath(own)]
"""
MARKER = """
import os, time
def handler(event, context):
    path = event["Records"][0]["body"]
    if path != "quick":
        with open(path, "w") as mark:
            mark.write(str(os.getpid()))
        time.sleep(20)
"""
ALLOWED = {
    "_HANDLER", "_LAMBDA_FUNCTION_ARN", "_LAMBDA_TIMEOUT", "_MINISTACK_INVOKE_DEPTH",
    "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION", "AWS_DISABLE_HOST_PREFIX_INJECTION", "AWS_ENDPOINT_URL",
    "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_REGION", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
    "AWS_XRAY_DAEMON_ADDRESS", "HOME", "LAMBDA_TASK_ROOT", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "TMPDIR", "TZ",
}  # fmt: skip


def test_a_function_sees_its_own_environment_and_not_the_engines(engine: Any) -> None:
    # given
    settings = {"Variables": {"MINE": "yes", "LOG_LEVEL": "DEBUG"}}
    name = create_function(engine, ENVIRONMENT, Environment=settings, MemorySize=512)

    # when
    seen = invoke(engine, name)

    # then
    assert set(seen) - ALLOWED == {"MINE", "LOG_LEVEL"}
    assert seen["LOG_LEVEL"] == "DEBUG"
    assert seen["AWS_ENDPOINT_URL"] == engine.url
    assert seen["AWS_REGION"] == "us-east-1"
    assert seen["AWS_LAMBDA_FUNCTION_NAME"] == name
    assert seen["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
    assert seen["AWS_LAMBDA_LOG_GROUP_NAME"] == f"/aws/lambda/{name}"
    assert seen["_HANDLER"] == "index.handler"


def test_a_function_imports_its_package_and_not_the_workspace(engine: Any) -> None:
    # given
    code = "import importlib.util\ndef handler(event, context): return bool(importlib.util.find_spec(event))"
    name = create_function(engine, code)

    # when
    found = {module: invoke(engine, name, module) for module in ("index", "boto3", "sluice_harness")}

    # then
    assert found == {"index": True, "boto3": True, "sluice_harness": False}


def test_a_function_acts_as_its_execution_role(engine: Any) -> None:
    # given
    name = create_function(engine, WHO)
    role = engine.client("lambda").get_function_configuration(FunctionName=name)["Role"]

    # when
    caller = invoke(engine, name)

    # then
    assert caller.split(":", 5)[5] == f"assumed-role/{role.rsplit('/', 1)[1]}/{name}"


def test_a_deployment_lets_a_running_invocation_end(engine: Any, tmp_path: Path) -> None:
    # given
    name = create_function(engine, PATIENT)
    mark = tmp_path / "mark"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(invoke, engine, name, str(mark))
        assert eventually(mark.exists)

        # when
        client = engine.client("lambda")
        client.update_function_code(FunctionName=name, ZipFile=zipped("def handler(event, context): return 'new'"))
        client.get_waiter("function_updated_v2").wait(FunctionName=name)
        after = invoke(engine, name)

        # then
        old_worker = running.result()
    assert after == "new"
    assert isinstance(old_worker, int)
    assert eventually(lambda: not alive(old_worker))


@pytest.mark.parametrize("ending", ["its input closes", "it is killed"])
def test_a_busy_worker_and_a_container_end_with_their_engine(tmp_path: Path, ending: str) -> None:
    # given
    mark, of_container = tmp_path / unique("mark"), tmp_path / unique("mark")
    with running_engine(tmp_path) as engine:
        name = create_function(engine, SLEEPER, Timeout=60)
        engine.client("lambda").invoke(FunctionName=name, InvocationType="Event", Payload=f'"{mark}"')
        assert eventually(lambda: mark.exists() and mark.read_text())
        worker = int(mark.read_text())
        containers.create(engine).run(CONTAINER.format(mark=str(of_container)))
        assert eventually(lambda: of_container.exists() and of_container.read_text())
        processes = [worker, *map(int, of_container.read_text().split())]
        if ending == "it is killed":
            os.kill(parent_of(worker), signal.SIGKILL)

    # then
    assert eventually(lambda: not any(map(alive, processes)), within=5)


def test_a_killed_worker_fails_its_batch_and_leaves_its_place(engine: Any, tmp_path: Path) -> None:
    # given as many messages at work as the mapping allows, each in a worker of its own
    marks = [tmp_path / "first", tmp_path / "second"]
    name = create_function(engine, MARKER, Timeout=30)
    url, arn = create_queue(engine, VisibilityTimeout="60")
    settings = {"BatchSize": 1, "ScalingConfig": {"MaximumConcurrency": 2}}
    engine.client("lambda").create_event_source_mapping(FunctionName=name, EventSourceArn=arn, **settings)
    for mark in marks:
        engine.client("sqs").send_message(QueueUrl=url, MessageBody=str(mark))
    assert eventually(lambda: all(mark.exists() and mark.read_text() for mark in marks))

    # when the workers are killed, and others come
    for mark in marks:
        os.kill(int(mark.read_text()), signal.SIGKILL)
    engine.client("sqs").send_message(QueueUrl=url, MessageBody="quick")
    engine.client("sqs").send_message(QueueUrl=url, MessageBody="quick")

    # then these are done at once, and the first wait for their visibility timeout
    assert eventually(lambda: depth(engine, url) == {"visible": 0, "in flight": 2, "delayed": 0}, within=5)


def parent_of(process: int) -> int:
    return int(ps(process, "ppid"))


def alive(process: int) -> bool:
    return ps(process, "stat") not in {"", "Z"}


def ps(process: int, column: str) -> str:
    command = ["ps", "-o", f"{column}=", "-p", str(process)]
    return subprocess.run(command, capture_output=True, check=False, text=True).stdout.strip()


def test_environments_share_their_code_and_nothing_else(engine: Any) -> None:
    # given a function, and another one of other code
    name, other = create_function(engine, PLACE), create_function(engine, PLACE + "# another")

    # when two environments of the one run at once
    with ThreadPoolExecutor(3) as pool:
        first, second, foreign = pool.map(lambda one: invoke(engine, one), [name, name, other])

    # then they are two processes with one copy of the code, and a temporary folder each
    assert first[0] != second[0]
    assert first[1] == second[1] != foreign[1]
    assert len({first[2], second[2], foreign[2]}) == 3
