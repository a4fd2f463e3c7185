"""Tests of a stage that is deployed, wherever it is: ``--stage NAME`` is the one of ``build/stages/NAME.json``.

They use that file, HTTP and boto3, and are safe where others work: a dozen small jobs of two users of their own,
who are taken away afterwards. Without ``--stage`` they run on the local stage of all the other tests.
"""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from botocore.exceptions import ClientError
from deployed.documented import complaints, openapi
from sluice_harness.client import temporary_users
from sluice_harness.deploy.target import TargetError, of_stage
from sluice_harness.description import load
from stage.running import signed_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sluice_harness.deploy.target import Target
    from sluice_harness.description import StageDescription
    from stage.running import Person, RunningStage


@dataclass(frozen=True)
class Site:
    """A deployed stage: what it says of itself, and AWS's APIs there with the caller's credentials."""

    description: StageDescription

    @cached_property
    def target(self) -> Target:
        return of_stage(self.description)

    def client(self, service: str) -> Any:
        return self.target.client(service)

    def alarm_states(self) -> dict[str, str]:
        """Return how the stage's alarms stand."""
        pages = (
            self.client("cloudwatch")
            .get_paginator("describe_alarms")
            .paginate(
                AlarmNamePrefix=f"sluice-{self.description.stage}-", AlarmTypes=["MetricAlarm", "CompositeAlarm"]
            )
        )
        alarms = [alarm for page in pages for alarm in (*page["MetricAlarms"], *page["CompositeAlarms"])]
        return {alarm["AlarmName"]: alarm["StateValue"] for alarm in alarms}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stage", dest="deployed_stage", metavar="NAME", help="a deployed stage, of build/stages")


def pytest_configure(config: pytest.Config) -> None:
    """Say in one line what is wrong with the stage, before any test fails of it."""
    if name := named(config):
        reach(name)


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
def site(request: pytest.FixtureRequest) -> Site:
    if name := named(request.config):
        return reach(name)
    stage: RunningStage = request.getfixturevalue("stage")
    return Site(stage.description)


def assert_documented(api_url: str, answer: httpx.Response) -> None:
    """Hold every answer that a test gets against the API's document."""
    answer.read()
    assert complaints(answer, api_url, openapi()) == []


@pytest.fixture(scope="session")
def alarms_before(site: Site) -> dict[str, str]:
    """How the stage's alarms stood before anybody of this run called it."""
    return site.alarm_states()


@pytest.fixture(scope="session")
def people(site: Site, alarms_before: dict[str, str]) -> Iterator[tuple[Person, Person]]:  # noqa: ARG001 - first
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
