"""`deploy`, `diff` and `destroy` as an engineer runs them, with a stage of their own beside the local one."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sluice_harness import cdk_cli
from sluice_harness.cdk_cli import CdkError
from sluice_harness.deploy import __main__ as deploying
from sluice_harness.description import ROOT, description_path, load
from sluice_harness.engine import ACCOUNT, REGION
from sluice_harness.local_stage import LocalStage, engine_environment
from stage.processes import command, working_in
from stage.recorded_calls import RecordedCalls
from stage.running import RunningStage, deployed, until
from unit.sessions import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sluice_harness.description import StageDescription

    Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.xdist_group("deploy")

# The tests of infra have the CDK check its templates.
UNCHECKED = {"CDK_VALIDATION": "false"}
NO_ACCOUNT = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


@pytest.fixture(scope="module")
def host(assembly: Path) -> Iterator[RunningStage]:
    """The local stage that the others are deployed beside."""
    with deployed("host", assembly) as running:
        yield running


def run(command: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, "-m", "sluice_harness.deploy", command, *arguments],
        env={
            **kept,
            **UNCHECKED,
            "AWS_EC2_METADATA_DISABLED": "true",
            "COLUMNS": "200",
            **NO_ACCOUNT,
            **environment,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def recorded(folder: Path, command: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run a command, and return with it which actions it took."""
    with pytest.MonkeyPatch.context() as environment:
        calls = RecordedCalls(folder / command, environment)
        return run(command, *arguments), calls.actions


def colleagues_stage(host: RunningStage, name: str) -> StageDescription:
    """Deploy another personal stage, without a word."""
    done = run("deploy", "--stage", name, "--on", host.name, "--yes")
    assert done.returncode == 0, done.stderr
    return load(name)


def resources(stage: StageDescription) -> set[str]:
    """What could be meant by mistake for another stage's."""
    queues = (stage.queues.request, stage.queues.work)
    named = {stage.apiUrl, stage.userPoolId, stage.jobTable, stage.resultBucket, stage.eventBus, stage.alarmTopic}
    return (
        named
        | {stage.loadLogGroup, *stage.dashboards}
        | {url for queue in queues for url in (queue.url, queue.dlqUrl)}
        | set(stage.functions.by_handler().values())
    )


@pytest.fixture
def names() -> Iterator[list[str]]:
    """The names of two engineers' stages."""
    two = [f"{engineer}-{secrets.token_hex(4)}" for engineer in ("kim", "lee")]
    yield two
    for name in two:
        description_path(name).unlink(missing_ok=True)
        shutil.rmtree(ROOT / "build" / "cdk.out" / name, ignore_errors=True)


def test_personal_stages_live_and_end_beside_each_other(
    host: RunningStage, names: list[str], tmp_path: Path
) -> None:
    # given a colleague's stage, and a name that no stage has, when that is deployed to where the other is
    theirs = colleagues_stage(host, names[1])
    name = names[0]
    on = ("--stage", name, "--on", host.name)
    done = run("deploy", *on, "--yes")

    # then that is shown before it is done, and a job has run on it
    assert done.returncode == 0, done.stderr
    assert f"{name}: to be deployed to account {host.description.account}, region" in done.stdout
    assert "AWS::DynamoDB::Table" in done.stdout
    assert "is COMPLETED, and its result was downloaded" in done.stdout

    # and it is described, has nothing in common with the other, and leaves no user of the smoke test behind
    mine = load(name)
    assert resources(mine) & (resources(theirs) | resources(host.description)) == set()
    assert host.client("cognito-idp").list_users(UserPoolId=mine.userPoolId)["Users"] == []
    assert run("smoke", "--stage", names[1], "--on", host.name).returncode == 0
    assert host.client("dynamodb").scan(TableName=mine.jobTable)["Count"] == 1

    # when somebody describes it who has not deployed it, then all of that is found again, by what pipelines grant
    description_path(name).unlink()
    described, taken = recorded(tmp_path, "describe", *on)
    assert described.returncode == 0, described.stderr
    assert load(name) == mine
    assert taken == ACTIONS["describe"]

    # when another job is to be run there, then it is, by what pipelines grant, and its user has gone again
    smoked, taken = recorded(tmp_path, "smoke", *on)
    assert smoked.returncode == 0, smoked.stderr
    assert "is COMPLETED, and its result was downloaded" in smoked.stdout
    assert taken == ACTIONS["smoke"]
    assert host.client("cognito-idp").list_users(UserPoolId=mine.userPoolId)["Users"] == []

    # when it is compared with what is deployed, then there is no difference
    compared = run("diff", *on)
    assert compared.returncode == 0, compared.stderr
    assert "Number of stacks with differences: 0" in compared.stdout

    # when it is to be destroyed where nobody can be asked, then it is not
    refused = run("destroy", *on)
    assert refused.returncode != 0
    assert "with --yes" in refused.stderr
    assert "Traceback" not in refused.stderr

    # when somebody says yes, then all of it is gone, its result and its description too, and the other is there
    destroyed = run("destroy", *on, "--yes")
    assert destroyed.returncode == 0, destroyed.stderr
    assert not description_path(name).exists()
    assert mine.resultBucket not in {bucket["Name"] for bucket in host.client("s3").list_buckets()["Buckets"]}
    assert mine.jobTable not in host.client("dynamodb").list_tables()["TableNames"]
    assert run("smoke", "--stage", names[1], "--on", host.name).returncode == 0

    # and once more there is nothing to destroy
    again = run("destroy", *on, "--yes")
    assert again.returncode != 0
    assert f"there is no stage {name}" in again.stderr


def containers(stage: RunningStage) -> list[int]:
    """The processes of a stage's jobs in containers."""
    return [pid for pid in working_in(stage.description.jobTable) if "sluice_core.run_job" in command(pid)]


def test_a_stage_whose_executors_are_at_work_is_destroyed_all_the_same(
    assemblies: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    # given a stage with a long job on each executor, two of which are containers
    forgotten: list[str] = []
    monkeypatch.setattr(deploying, "forget", forgotten.append)  # a file of this name may be an engineer's
    monkeypatch.setenv(cdk_cli.ASSEMBLIES, str(tmp_path))
    shutil.copytree(assemblies("longwork"), tmp_path / "longwork")  # which goes with its stage
    with deployed("destroyed", assemblies("longwork"), stage="longwork") as host:
        ann = host.person("ann")
        for kind in ("weather-workflow", "weather-batch", "weather-task"):
            ann.reached(ann.accepted({"jobType": kind, "parameters": {"workSeconds": 45}}), "RUNNING")
        assert len(containers(host)) == 2

        # when it is destroyed
        monkeypatch.setattr("sys.argv", ["nox", "destroy", "--stage", "longwork", "--on", host.name, "--yes"])
        deploying.main()

        # then what will be stopped was said before
        said = capsys.readouterr().out
        assert "will be stopped: 1 on stepfunctions, 1 on batch, 1 on ecs" in said
        assert "longwork is gone" in said
        assert forgotten == ["longwork"]

        # and all of it is gone, the containers, too
        stacks = host.client("cloudformation").describe_stacks()["Stacks"]
        assert [one["StackName"] for one in stacks if one["StackName"].startswith("sluice-longwork-")] == []
        until(lambda: not containers(host), "no container of the stage is left", 30)


def test_a_template_that_was_tampered_with_is_refused_with_the_next_step(assembly: Path, tmp_path: Path) -> None:
    # given an assembly whose first stack has a resource that no CloudFormation knows
    tampered = tmp_path / "tampered"
    shutil.copytree(assembly, tampered, copy_function=os.link)
    path = tampered / "sluice-local-auth.template.json"
    template = json.loads(path.read_text())
    template["Resources"]["Nothing"] = {"Type": "AWS::No::Such"}
    path.unlink()  # it is the other assembly's file, too
    path.write_text(json.dumps(template))

    # when it is deployed to an engine that has nothing yet
    with LocalStage(f"test-tampered-{os.getpid()}") as engine:
        environment = engine_environment(engine.endpoint_url)
        cdk_cli.bootstrap(tampered, environment, ACCOUNT, REGION)
        with pytest.raises(CdkError) as refused:
            cdk_cli.deploy(tampered, environment)

    # then a few lines name the resource's type and say what to do
    told = cdk_cli.explain(str(refused.value))
    assert "AWS::No::Such" in told
    assert "next: the template cannot be deployed as it is" in told
    assert len(told.splitlines()) <= 4


@pytest.mark.parametrize(
    ("command", "arguments", "environment", "said"),
    [
        ("deploy", (), {}, "no AWS credentials; sign in"),
        ("diff", (), {"AWS_PROFILE": "nobody"}, "aws configure list-profiles"),
        ("destroy", (), {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, "no region; name one"),
        (
            "deploy",
            (),
            {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-centrl-1"},
            "AWS has no region 'eu-centrl-1'",
        ),
        ("deploy", ("--on", "nowhere"), {}, "no local stage 'nowhere' is up"),
    ],
)
def test_what_is_missing_is_said_in_one_line_with_the_next_step(
    command: str, arguments: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    done = run(command, "--stage", "ann", *arguments, **environment)
    assert done.returncode != 0
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
