"""Where a stage is to be: the account of the caller's credentials, if it was made ready for the CDK."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws
from sluice_harness import description
from sluice_harness.deploy import removal
from sluice_harness.deploy.target import Target, TargetError, in_aws, make_ready, of_stage, on_engine, refuse_local
from unit import reviewed

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT = "123456789012"  # moto's


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account with nothing in it, and credentials for it."""
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():  # which sets credentials of its own
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "one")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "two")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "three")
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        yield


def test_the_cdk_gets_the_callers_credentials_and_region() -> None:
    target = in_aws()
    assert str(target) == f"account {ACCOUNT}, region eu-central-1"
    assert target.environment == {
        "AWS_ACCESS_KEY_ID": "one",
        "AWS_SECRET_ACCESS_KEY": "two",
        "AWS_SESSION_TOKEN": "three",
        "AWS_REGION": "eu-central-1",
    }


def test_an_account_that_is_not_bootstrapped_is_said_before_anything_is_done() -> None:
    with pytest.raises(TargetError, match=r"is not bootstrapped for the CDK.*--bootstrap"):
        make_ready(in_aws(), Path("unused"), bootstrap=False)


def test_a_bootstrapped_account_is_ready() -> None:
    # given what the CDK's bootstrap leaves in an account
    ssm = boto3.client("ssm", region_name="eu-central-1")
    ssm.put_parameter(Name="/cdk-bootstrap/hnb659fds/version", Value="30", Type="String")

    # when the account is looked at, then nothing is missing
    make_ready(in_aws(), Path("unused"), bootstrap=False)


def test_a_described_stage_is_in_its_own_region() -> None:
    stage = replace(reviewed.STAGE, account=ACCOUNT, region="eu-west-1", endpointUrl=None)
    assert str(of_stage(stage)) == f"account {ACCOUNT}, region eu-west-1"


def test_another_account_s_credentials_are_refused_with_the_next_step() -> None:
    stage = replace(reviewed.STAGE, account="210987654321", endpointUrl=None)
    with pytest.raises(TargetError, match=rf"is in account 210987654321, .* are of {ACCOUNT}; name .*AWS_PROFILE"):
        of_stage(stage)


@pytest.fixture
def cloudformation() -> Any:
    return boto3.client("cloudformation", region_name="eu-central-1")


@pytest.fixture
def assembly(tmp_path: Path) -> Path:
    """An assembly of one stack."""
    (tmp_path / "sluice-ann-auth.template.json").write_text("{}")
    return tmp_path


def test_a_stack_that_may_not_be_read_is_not_taken_for_none(assembly: Path, cloudformation: Any) -> None:
    # given credentials that may not see stacks
    with Stubber(cloudformation) as refusing:
        refusing.add_client_error("describe_stacks", "AccessDenied", "not allowed")

        # then that is said, and not that there is nothing to destroy
        with pytest.raises(TargetError, match="sluice-ann-auth cannot be read"):
            removal.stacks(assembly, cloudformation)


def test_a_stack_that_is_not_there_is_none_to_destroy(assembly: Path, cloudformation: Any) -> None:
    with Stubber(cloudformation) as without:
        without.add_client_error("describe_stacks", "ValidationError", "Stack sluice-ann-auth does not exist")
        assert removal.stacks(assembly, cloudformation) == []


@dataclass(frozen=True)
class WithClusters(Target):
    """An account whose ECS answers as told."""

    ecs: Any = None

    def client(self, service: str) -> Any:
        assert service == "ecs"
        return self.ecs


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("AccessDeniedException", r"cluster tasks are not stopped: .*Run the same command again; docs/deploying"),
        ("ClusterNotFoundException", None),  # an earlier deletion came as far as that
    ],
)
def test_containers_that_may_not_be_stopped_end_a_deletion_with_what_to_do(code: str, said: str | None) -> None:
    # given an ECS that does not list a cluster's tasks
    ecs = boto3.client("ecs", region_name="eu-central-1")
    with Stubber(ecs) as answering:
        answering.add_client_error("list_tasks", code)

        # then a cluster that is gone has none, and of another that is said
        expected = pytest.raises(TargetError, match=said) if said else nullcontext()
        with expected:
            removal._stop_tasks("tasks", WithClusters(ACCOUNT, "eu-central-1", {}, ecs=ecs))


def test_a_stage_of_this_machine_is_not_looked_for_in_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # given a stage that describes itself as one of a local stage's engine, and one of AWS
    monkeypatch.setattr(description, "_STAGES", tmp_path)
    replace(reviewed.STAGE, endpointUrl="http://127.0.0.1:1").save("mine")
    replace(reviewed.STAGE, endpointUrl=None).save("ours")

    # then the one is refused with what to add, the other and one that nobody knows are not
    with pytest.raises(TargetError, match="'mine' is on this machine: add --on local"):
        refuse_local("mine")
    refuse_local("ours")
    refuse_local("nobody-s")

    # and who names a local stage that is not up is told which is
    with pytest.raises(TargetError, match="no local stage 'lokal' is up; there is mine"):
        on_engine("lokal")
