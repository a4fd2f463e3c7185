"""Users that are made for one run: gone when it is over, however it ended."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from rich.console import Console
from sluice_harness.client import temporary_users
from sluice_harness.loadtest.load import LOADTESTS
from sluice_harness.loadtest.progress import Display
from sluice_harness.loadtest.scenarios import load_scenarios
from sluice_harness.loadtest.session import Plan, Session
from unit import reviewed

if TYPE_CHECKING:
    from unit.conftest import ClientMaker


@pytest.fixture
def cognito(engine: ClientMaker) -> Any:
    return engine.client("cognito-idp")


@pytest.fixture
def pool(cognito: Any) -> str:
    """A pool with a user who is nobody's to remove."""
    made: str = cognito.create_user_pool(PoolName="users")["UserPool"]["Id"]
    cognito.admin_create_user(UserPoolId=made, Username="somebody")
    return made


def names(cognito: Any, pool: str) -> list[str]:
    return sorted(user["Username"] for user in cognito.list_users(UserPoolId=pool)["Users"])


def test_users_are_there_for_the_block(cognito: Any, pool: str) -> None:
    with temporary_users(cognito, pool, ["one", "two"]) as users:
        assert [user.username for user in users] == ["one", "two"]
        assert names(cognito, pool) == ["one", "somebody", "two"]
    assert names(cognito, pool) == ["somebody"]


def test_a_user_who_has_gone_already_is_no_error(cognito: Any, pool: str) -> None:
    with temporary_users(cognito, pool, ["one", "two"]):
        cognito.admin_delete_user(UserPoolId=pool, Username="two")
    assert names(cognito, pool) == ["somebody"]


def test_half_an_addition_leaves_nobody(cognito: Any, pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a pool that takes the second user and refuses their password
    def refuse(Username: str, **_: str) -> None:  # noqa: N803 - the API's
        if Username == "two":
            raise ClientError({"Error": {"Code": "TooManyRequestsException"}}, "AdminSetUserPassword")

    monkeypatch.setattr(cognito, "admin_set_user_password", refuse)

    # When users are added
    with pytest.raises(ClientError), temporary_users(cognito, pool, ["one", "two"]):
        pytest.fail("not reached")

    # Then neither is left
    assert names(cognito, pool) == ["somebody"]


@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_a_load_test_leaves_no_user_behind(
    cognito: Any,
    pool: str,
    end: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a load test as three users of its own
    stage = replace(reviewed.STAGE, endpointUrl=cognito.meta.endpoint_url, userPoolId=pool)
    scenarios = LOADTESTS / "scenarios.toml"
    scenario = load_scenarios(scenarios)["smoke"]
    plan = Plan(scenario, scenarios, LOADTESTS / "locustfile.py", tmp_path, stage, temporary_users=3)
    files = []

    # When its load ends before its time
    def load(_self: Session, _observer: Any, _malformed: Any, credentials: Path) -> None:
        files.append(credentials)
        signed_in_as = [user["username"] for user in json.loads(credentials.read_text())]
        assert names(cognito, pool) == sorted([*signed_in_as, "somebody"])
        assert len(signed_in_as) == 3
        raise end

    monkeypatch.setattr(Session, "_load", load)
    with Display(Console(file=io.StringIO())) as display, pytest.raises(end):
        Session(plan, display).run()

    # Then its users are gone, and the file of their passwords
    assert names(cognito, pool) == ["somebody"]
    assert [file.exists() for file in files] == [False]
