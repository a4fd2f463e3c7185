"""The package on an engine, by its own script and as a SAM application: deployed, used, changed and deleted."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sluice_harness.deploy.describing import describe
from sluice_harness.deploy.target import Target
from sluice_harness.description import ROOT, forget
from sluice_harness.engine import ACCOUNT, REGION
from sluice_harness.local_stage import LocalStage, engine_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("package")

# The tests of infra have the CDK check its templates.
UNCHECKED = {"CDK_VALIDATION": "false"}
NOWHERE = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
BIN = os.path.dirname(sys.executable)  # noqa: PTH120 - the environment's own, not what its python links to
# None is a default, and none is another's. How traffic shifts is the default: a first deployment shifts nothing.
SIZES = {
    "ThrottleRate": "501",
    "ThrottleBurst": "502",
    "ProcessorConcurrency": "2",
    "WorkConcurrency": "3",
    "LogDays": "14",
    "AlarmEmail": "ann@example.com",
}
Run = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with functions for this machine."""
    folder = tmp_path_factory.mktemp("package") / "dist"
    made = run(sys.executable, "-m", "sluice_harness.package", "--target", "host", "--out", str(folder))
    assert made.returncode == 0, made.stderr
    assert f"next: {folder}/deploy.sh --help" in made.stdout
    return folder


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalStage]:
    """An engine with nothing on it."""
    name = f"test-package-{os.getpid()}"
    with LocalStage(name) as running:
        yield running
    log = ROOT / "build" / "logs" / f"{name}.log"
    if not log.stat().st_size:  # what the engine had to say is kept
        log.unlink()


def run(*command: str, cwd: Path = ROOT, environment: Mapping[str, str] = NOWHERE) -> Run:
    """Run a command as somebody in a shell of their own does: nothing of this test's AWS settings reaches it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=cwd,
        env={**kept, "PATH": path, **UNCHECKED, "AWS_EC2_METADATA_DISABLED": "true", **NOWHERE, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def deploy_sh(package: Path, cwd: Path, environment: Mapping[str, str], *arguments: str) -> Run:
    return run(str(package / "deploy.sh"), *arguments, cwd=cwd, environment=environment)


def stage_name() -> str:
    return f"p{secrets.token_hex(4)}"


def keeps_the_contract(name: str, engine: LocalStage, outputs: Mapping[str, str], scratch: Path) -> None:
    """Describe a stage for as long as the tests of the API's contract run against it."""
    url = engine.endpoint_url
    tests = ("tests/deployed/test_contract.py", "--stage", name)
    try:
        describe(name, Target(ACCOUNT, REGION, engine_environment(url), url), outputs).save(name)
        done = run(sys.executable, "-m", "pytest", "-q", *tests, "-p", "no:cacheprovider", f"--basetemp={scratch}")
    finally:
        forget(name)
    assert done.returncode == 0, done.stdout[-3_000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 30


def sizes(engine: LocalStage, outputs: Mapping[str, str]) -> dict[str, Any]:
    """Return what a stage's parameters have come to, as AWS's own APIs tell it."""
    lambda_, name = engine.client("lambda"), outputs["EventBus"].removeprefix("sluice-")
    gateway = engine.client("apigateway").get_stage(restApiId=outputs["ApiId"], stageName=name)
    every_method = gateway["methodSettings"]["*/*"]
    mappings = {
        function: lambda_.list_event_source_mappings(FunctionName=f"{outputs[function]}:live")[
            "EventSourceMappings"
        ]
        for function in ("ProcessorFunction", "BatchSimulatorFunction")
    }
    concurrency = {name: one["ScalingConfig"]["MaximumConcurrency"] for name, (one,) in mappings.items()}
    prefix = f"/aws/cloudformation/sluice-{name}/"
    groups = engine.client("logs").describe_log_groups(logGroupNamePrefix=prefix)["logGroups"]
    pages = (
        engine.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=f"sluice-{name}")
    )
    kinds = {one["ResourceType"] for page in pages for one in page["StackResourceSummaries"]}
    told = engine.client("sns").list_subscriptions_by_topic(TopicArn=outputs["AlarmTopicArn"])["Subscriptions"]
    return {
        "ThrottleRate": every_method["throttlingRateLimit"],
        "ThrottleBurst": every_method["throttlingBurstLimit"],
        "ProcessorConcurrency": concurrency["ProcessorFunction"],
        "WorkConcurrency": concurrency["BatchSimulatorFunction"],
        "LogDays": {group["retentionInDays"] for group in groups},
        "AlarmEmail": [one["Endpoint"] for one in told],
        "TrafficShift": "AWS::CodeDeploy::DeploymentGroup" in kinds,
    }


def live_versions(engine: LocalStage, outputs: Mapping[str, str]) -> dict[str, str]:
    """Return the version that serves, by function."""
    lambda_ = engine.client("lambda")
    functions = [value for key, value in outputs.items() if key.endswith("Function")]
    return {name: lambda_.get_alias(FunctionName=name, Name="live")["FunctionVersion"] for name in functions}


def test_the_script_deploys_changes_and_deletes_a_stage(package: Path, engine: LocalStage, tmp_path: Path) -> None:
    # Given an account with nothing of ours, when the script deploys a stage with settings of its own
    name, place = stage_name(), engine_environment(engine.endpoint_url)
    settings = [part for key, value in SIZES.items() for part in ("--set", f"{key}={value}")]
    done = deploy_sh(package, tmp_path, place, "--stage", name, "--yes", *settings)

    # Then it says where, and what is there now
    assert done.returncode == 0, done.stderr
    assert (
        f"{name}: to be deployed to account {ACCOUNT}, region {REGION}, as the stack sluice-{name}" in done.stdout
    )
    outputs = json.loads((tmp_path / f"sluice-{name}.json").read_text())
    assert (outputs["Stage"], outputs["Account"], outputs["Region"]) == (name, ACCOUNT, REGION)
    assert f"ApiUrl\t{outputs['ApiUrl']}" in done.stdout
    assert f"UserPoolId\t{outputs['UserPoolId']}" in done.stdout

    # And the bucket with the code is closed
    s3, bucket = engine.client("s3"), f"sluice-code-{ACCOUNT}-{REGION}"
    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    assert s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    (rule,) = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    assert (rule["Effect"], rule["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})

    # And the settings are those, and the API keeps its contract
    expected = {
        "ThrottleRate": 501.0,
        "ThrottleBurst": 502,
        "ProcessorConcurrency": 2,
        "WorkConcurrency": 3,
        "LogDays": {14},
        "AlarmEmail": ["ann@example.com"],
        "TrafficShift": True,
    }
    assert sizes(engine, outputs) == expected
    versions = live_versions(engine, outputs)
    keeps_the_contract(name, engine, outputs, tmp_path / "contract")

    # When it is run again for other settings, then only those have changed, and no code was uploaded again
    others = ("--set", "LogDays=7", "--set", "TrafficShift=AllAtOnce")
    again = deploy_sh(package, tmp_path, place, "--stage", name, "--yes", *others)
    assert again.returncode == 0, again.stderr
    assert sizes(engine, outputs) == {**expected, "LogDays": {7}, "TrafficShift": False}
    assert live_versions(engine, outputs) == versions
    assert json.loads((tmp_path / f"sluice-{name}.json").read_text()) == outputs
    assert "uploading" not in again.stdout

    # When a setting cannot be, then it is refused with the reason
    refused = deploy_sh(package, tmp_path, place, "--stage", name, "--yes", "--set", "LogDays=8")
    assert refused.returncode != 0
    assert "LogDays" in refused.stderr
    assert f"error: sluice-{name} was not deployed" in refused.stderr

    # When nobody can be asked, then it is not deleted; when somebody says yes, it is
    assert "with --yes" in deploy_sh(package, tmp_path, place, "--stage", name, "--delete").stderr
    deleted = deploy_sh(package, tmp_path, place, "--stage", name, "--delete", "--yes")
    assert deleted.returncode == 0, deleted.stderr
    assert outputs["ApiId"] not in {api["id"] for api in engine.client("apigateway").get_rest_apis()["items"]}

    # And what it held is still there, and the way to delete it is told
    assert outputs["JobTable"] in engine.client("dynamodb").list_tables()["TableNames"]
    for command in (
        f"aws dynamodb delete-table --table-name {outputs['JobTable']}",
        f"aws s3 rb --force s3://{outputs['ResultBucket']}",
        f"aws cognito-idp delete-user-pool --user-pool-id {outputs['UserPoolId']}",
    ):
        assert command in deleted.stdout

    # And once more there is nothing to delete
    nothing = deploy_sh(package, tmp_path, place, "--stage", name, "--delete", "--yes")
    assert nothing.returncode != 0
    assert nothing.stderr.strip() == f"error: there is no stage {name} in account {ACCOUNT}, region {REGION}"


def test_the_sam_application_is_such_a_stage_too(package: Path, engine: LocalStage, tmp_path: Path) -> None:
    # Given a bucket for code, and the AWS CLI's own way to deploy what SAM's transform expands
    name, bucket, stack = stage_name(), f"code-{secrets.token_hex(4)}", engine.client("cloudformation")
    engine.client("s3").create_bucket(Bucket=bucket)
    place = {**engine_environment(engine.endpoint_url), "AWS_DEFAULT_REGION": REGION}
    packaged, form = str(tmp_path / "packaged.yaml"), str(package / "sam" / "template.yaml")
    settings = {"StageName": name, **SIZES}
    overrides = [f"{key}={value}" for key, value in settings.items()]

    # When it is deployed
    for command in (
        ("package", "--template-file", form, "--s3-bucket", bucket, "--output-template-file", packaged),
        (
            *("deploy", "--template-file", packaged, "--stack-name", f"sluice-{name}", "--s3-bucket", bucket),
            *("--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND", "--parameter-overrides", *overrides),
        ),
    ):
        done = run(f"{BIN}/aws", "cloudformation", *command, environment=place)
        assert done.returncode == 0, done.stderr

    # Then its functions are invoked through their alias, its settings are those, and the API keeps its contract
    (deployed,) = stack.describe_stacks(StackName=f"sluice-{name}")["Stacks"]
    outputs = {one["OutputKey"]: one["OutputValue"] for one in deployed["Outputs"]}
    found = sizes(engine, outputs)
    assert (found["WorkConcurrency"], found["TrafficShift"]) == (3, True)
    keeps_the_contract(name, engine, outputs, tmp_path / "contract")


KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("--stage", "Ann"), {}, "--stage wants 1 to 20 lower-case letters"),
        (("--stage",), {}, "--stage wants a value"),
        (("--force",), {}, "--force is not known; see --help"),
        (("--stage", "ann"), {"PATH": "/usr/bin:/bin"}, "the AWS CLI is not there; install it"),
        (("--stage", "ann"), KEYS, "no region; name one: AWS_REGION=eu-central-1 ./deploy.sh --stage ann"),
        (("--stage", "ann"), {"AWS_REGION": REGION}, "Unable to locate credentials"),
    ],
)
def test_what_is_missing_is_said_in_one_line_with_the_next_step(
    package: Path, tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    done = deploy_sh(package, tmp_path, environment, *arguments)
    assert done.returncode != 0
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_help_needs_nothing(package: Path, tmp_path: Path) -> None:
    done = deploy_sh(package, tmp_path, {"PATH": "/usr/bin:/bin"}, "--help")
    assert done.returncode == 0, done.stderr
    assert "--set PARAMETER=VALUE" in done.stdout
