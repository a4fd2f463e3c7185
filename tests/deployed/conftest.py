"""Tests of a stage that is deployed, wherever it is: ``--stage NAME`` is the one of ``build/stages/NAME.json``.

They use that file, HTTP and boto3, and are safe where others work: a dozen small jobs of two users of their own,
who are taken away afterwards. Without ``--stage`` they run on the local stage of all the other tests.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from botocore.exceptions import ClientError
from deployed.documented import complaints, openapi
from sluice_harness.client import temporary_users
from sluice_harness.deploy.target import TargetError, of_stage
from sluice_harness.description import load
from stage.recorded_calls import actions, noted
from stage.running import signed_in
from unit.sessions import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sluice_harness.deploy.target import Target
    from sluice_harness.description import StageDescription
    from stage.running import Person, RunningStage


_ALARM_TYPES = ("MetricAlarm", "CompositeAlarm")


@dataclass(frozen=True)
class Site:
    """A deployed stage: what it says of itself, and AWS's APIs there with the caller's credentials."""

    description: StageDescription
    calls: set[str] = field(default_factory=set, compare=False)

    @cached_property
    def target(self) -> Target:
        return of_stage(self.description)

    def client(self, service: str) -> Any:
        """Return a boto3 client whose calls are noted."""
        return noted(self.target.client(service), self.calls)

    @property
    def _alarm_prefix(self) -> str:
        return f"sluice-{self.description.stage}-"

    def alarm_states(self) -> dict[str, str]:
        """Return how the stage's alarms stand."""
        pages = (
            self.client("cloudwatch")
            .get_paginator("describe_alarms")
            .paginate(AlarmNamePrefix=self._alarm_prefix, AlarmTypes=_ALARM_TYPES)
        )
        alarms = [alarm for page in pages for alarm in (*page["MetricAlarms"], *page["CompositeAlarms"])]
        return {alarm["AlarmName"]: alarm["StateValue"] for alarm in alarms}

    def alarms_fired(self, since: float) -> set[str]:
        """Return which of the stage's alarms have gone into ALARM since then, also those that have left it again.

        Parameters
        ----------
        since : float
            The stage's time, in epoch seconds.

        """
        pages = (
            self.client("cloudwatch")
            .get_paginator("describe_alarm_history")
            .paginate(
                AlarmTypes=_ALARM_TYPES,
                HistoryItemType="StateUpdate",
                StartDate=datetime.fromtimestamp(since, UTC),
                EndDate=datetime.fromtimestamp(self.description.clock.now(), UTC),
            )
        )
        return {
            item["AlarmName"]
            for page in pages
            for item in page["AlarmHistoryItems"]
            if item["AlarmName"].startswith(self._alarm_prefix)
            if json.loads(item["HistoryData"])["newState"]["stateValue"] == "ALARM"
        }


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stage", dest="deployed_stage", metavar="NAME", help="a deployed stage, of build/stages")


def pytest_configure(config: pytest.Config) -> None:
    """Say in one line what is wrong with the stage, before any test fails of it."""
    if name := named(config):
        reach(name)


def pytest_report_header(config: pytest.Config) -> str:
    """Say where they run."""
    name = named(config)
    where = f"{name}, {load(name).apiUrl}" if name else "a local one of its own; another with --stage NAME"
    return f"stage: {where}"


def named(config: pytest.Config) -> str | None:
    """Return the stage that was named; where these tests are among all the others, none can be."""
    name: str | None = config.getoption("deployed_stage", None)
    return name


def reach(name: str) -> Site:
    """Return a stage that is there, as far as its API and the caller's credentials tell."""
    try:
        site = Site(load(name))
        site.target  # noqa: B018 - it asks whose the credentials are
        httpx.get(f"{site.description.apiUrl}/job-status", timeout=30)
    except FileNotFoundError:
        wrong = f"no stage describes itself in build/stages/{name}.json"
    except (TargetError, ValueError) as error:
        raise pytest.UsageError(str(error)) from None
    except httpx.HTTPError as error:
        wrong = f"stage {name} does not answer at {site.description.apiUrl}: {error}"
    else:
        return site
    raise pytest.UsageError(f"{wrong}; if it is deployed: uvx nox -s describe -- --stage {name}")


@pytest.fixture(scope="session")
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    if name := named(request.config):
        found = reach(name)
    else:
        stage: RunningStage = request.getfixturevalue("stage")
        found = Site(stage.description)
    yield found

    # In the end they have taken the actions that pipelines grant, and all of them unless some tests did not run.
    taken = actions(found.calls)
    assert taken <= ACTIONS["integration"], "grant these to whoever runs `nox -s integration`"
    if not request.session.testsfailed and runs_all(request.session, "test_operations.py"):
        assert taken == ACTIONS["integration"], "nobody needs the others"


def runs_all(session: pytest.Session, file: str) -> bool:
    """Whether every test of a file was chosen."""
    chosen = [item for item in session.items if isinstance(item, pytest.Function) and item.path.name == file]
    every = {name for item in chosen for name in vars(item.module) if name.startswith("test_")}
    return bool(chosen) and every == {item.originalname for item in chosen}


def assert_documented(api_url: str, answer: httpx.Response) -> None:
    """Hold every answer that a test gets against the API's document."""
    answer.read()
    assert complaints(answer, api_url, openapi()) == []


@pytest.fixture(scope="session")
def alarms_before(site: Site) -> dict[str, str]:
    """How the stage's alarms stood before anybody of this run called it."""
    return site.alarm_states()


@pytest.fixture(scope="session")
def began(site: Site, alarms_before: dict[str, str]) -> float:  # noqa: ARG001 - first
    """When this run began to call the stage: the stage's time, in epoch seconds."""
    return site.description.clock.now()


@pytest.fixture(scope="session")
def people(site: Site, began: float) -> Iterator[tuple[Person, Person]]:  # noqa: ARG001 - first
    """Two users made for this run."""
    names, cognito = [f"integration-{secrets.token_hex(6)}" for _ in range(2)], site.client("cognito-idp")
    with contextlib.ExitStack() as run:
        try:
            users = run.enter_context(temporary_users(cognito, site.description.userPoolId, names))
            ann, ben = (run.enter_context(signed_in(site.description, user)) for user in users)
            for person in (ann, ben):
                person.http.event_hooks = {"response": [partial(assert_documented, site.description.apiUrl)]}
        except ClientError as error:
            pytest.exit(f"no users could be made for this run, or sign in: {error}", pytest.ExitCode.USAGE_ERROR)
        yield ann, ben


@pytest.fixture(scope="session")
def ann(people: tuple[Person, Person]) -> Person:
    return people[0]


@pytest.fixture(scope="session")
def ben(people: tuple[Person, Person]) -> Person:
    return people[1]
