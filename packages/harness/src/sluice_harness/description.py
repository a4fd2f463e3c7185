"""What a stage says of itself in ``build/stages/<stage>.json``, the file that every tool reads."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sluice_harness.stage_clock import StageClock

ROOT = Path(__file__).parents[4]
_STAGES = ROOT / "build" / "stages"


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue's URL and that of its dead-letter queue."""

    url: str
    dlqUrl: str  # noqa: N815 - the file's own spelling


@dataclass(frozen=True, slots=True)
class Queues:
    """The two queues of every stage, and those of the external executors that it has."""

    request: Queue
    work: Queue
    stepfunctions: Queue | None = None
    batch: Queue | None = None
    ecs: Queue | None = None
    completion: Queue | None = None

    def by_name(self) -> dict[str, Queue]:
        """Return those that there are, as alarms and dashboards call them."""
        return {one.name: queue for one in fields(self) if (queue := getattr(self, one.name))}


@dataclass(frozen=True, slots=True)
class Functions:
    """Physical names of the functions; those that only external executors need may be empty."""

    authorizer: str
    processor: str
    batchSimulator: str  # noqa: N815
    jobStatus: str  # noqa: N815
    cancelJob: str  # noqa: N815
    sweeper: str
    eventPublisher: str  # noqa: N815
    starter: str = ""
    completion: str = ""
    reconciler: str = ""
    workflowStep: str = ""  # noqa: N815

    def by_handler(self) -> dict[str, str]:
        """Return them by the names of their handlers, as alarms and dashboards have them: ``batch-simulator``."""
        return {_kebab(role): name for role, name in asdict(self).items() if name}


@dataclass(frozen=True, slots=True)
class Executors:
    """What external executors have besides queues and functions; empty where they are not there."""

    slotsTable: str = ""  # noqa: N815
    stateMachine: str = ""  # noqa: N815
    batchJobQueue: str = ""  # noqa: N815
    ecsCluster: str = ""  # noqa: N815


@dataclass(frozen=True, slots=True)
class User:
    """A user to sign in as; local stages only."""

    username: str
    password: str
    groups: list[str]


@dataclass(frozen=True, slots=True)
class StageDescription:
    """A running stage. Field names are the file's.

    Attributes
    ----------
    endpointUrl : str or None
        Where AWS's APIs are: the local engine, or None for AWS itself.
    speed : float
        Stage seconds in a second; see `clock`.
    startedAt : float
        When the stage's time began, in epoch seconds.
    loadLogGroup : str
        Where a load generator writes its clients' metrics.

    """

    stage: str
    region: str
    account: str
    endpointUrl: str | None  # noqa: N815
    apiUrl: str  # noqa: N815
    userPoolId: str  # noqa: N815
    userPoolClientId: str  # noqa: N815
    jobTable: str  # noqa: N815
    resultBucket: str  # noqa: N815
    queues: Queues
    functions: Functions
    eventBus: str  # noqa: N815
    alarmTopic: str  # noqa: N815
    dashboards: list[str]
    loadLogGroup: str  # noqa: N815
    executors: Executors = Executors()
    users: list[User] = field(default_factory=list)
    speed: float = 1.0
    startedAt: float = 0.0  # noqa: N815

    @property
    def clock(self) -> StageClock:
        """What time it is on the stage: the time of its metrics, alarms and schedules."""
        return StageClock(self.speed, self.startedAt)

    def save(self, name: str) -> Path:
        """Write ``build/stages/<name>.json``, readable by this user only, for it carries passwords."""
        path = description_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside it and then in its place: no reader sees half a file, and no older file's mode is kept.
        draft = path.with_suffix(f".{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(self), indent=2) + "\n")
        draft.replace(path)
        return path


def forget_all(endpoint_url: str) -> None:
    """Remove the descriptions of all stages that were on this engine."""
    for path in _STAGES.glob("*.json"):
        with contextlib.suppress(FileNotFoundError):  # forgotten by its own process meanwhile
            if f'"endpointUrl": "{endpoint_url}"' in path.read_text():
                path.unlink()


def forget(name: str) -> None:
    """Remove a stage's description."""
    description_path(name).unlink(missing_ok=True)


def description_path(name: str) -> Path:
    """Return where a stage's description lies."""
    return _STAGES / f"{name}.json"


def load(name: str) -> StageDescription:
    """Read ``build/stages/<name>.json``.

    Raises
    ------
    FileNotFoundError
        There is no such stage.
    ValueError
        The file is not of this version.

    """
    try:
        content = json.loads(description_path(name).read_text())
        parts = {
            "queues": Queues(**{name: Queue(**one) for name, one in content["queues"].items() if one}),
            "functions": Functions(**content["functions"]),
            "executors": Executors(**content["executors"]),
            "users": [User(**user) for user in content.get("users", [])],
        }
        return StageDescription(**{**content, **parts})
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{description_path(name)} is not of this version: {error}") from error


def described() -> list[str]:
    """Return the names of all stages that describe themselves here."""
    return sorted(path.stem for path in _STAGES.glob("*.json"))


def at(api_url: str) -> StageDescription:
    """Return the description of the stage whose API is at this address.

    Raises
    ------
    FileNotFoundError
        No stage describes itself so.

    """
    for name in described():
        try:
            stage = load(name)
        except (FileNotFoundError, ValueError):  # gone meanwhile, or another version's
            continue
        if stage.apiUrl.rstrip("/") == api_url.rstrip("/"):
            return stage
    raise FileNotFoundError(f"no stage describes itself in build/stages as {api_url}")


def _kebab(name: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)


def _queues(outputs: dict[str, str]) -> Queues:
    urls = {
        one.name: [outputs.get(f"{one.name.capitalize()}{kind}Url", "") for kind in ("Queue", "Dlq")]
        for one in fields(Queues)
    }
    return Queues(**{name: Queue(*pair) for name, pair in urls.items() if any(pair)})


def from_outputs(outputs: dict[str, str], users: list[User], **place: Any) -> StageDescription:
    """Build a description from the stacks' outputs and where the stage runs."""
    return StageDescription(
        userPoolId=outputs["UserPoolId"],
        userPoolClientId=outputs["UserPoolClientId"],
        jobTable=outputs["JobTable"],
        resultBucket=outputs["ResultBucket"],
        queues=_queues(outputs),
        functions=Functions(
            authorizer=outputs["AuthorizerFunction"],
            processor=outputs["ProcessorFunction"],
            batchSimulator=outputs["BatchSimulatorFunction"],
            jobStatus=outputs["JobStatusFunction"],
            cancelJob=outputs["CancelJobFunction"],
            sweeper=outputs["SweeperFunction"],
            eventPublisher=outputs["EventPublisherFunction"],
            starter=outputs.get("StarterFunction", ""),
            completion=outputs.get("CompletionFunction", ""),
            reconciler=outputs.get("ReconcilerFunction", ""),
            workflowStep=outputs.get("WorkflowStepFunction", ""),
        ),
        eventBus=outputs["EventBus"],
        alarmTopic=outputs["AlarmTopicArn"],
        dashboards=[
            outputs[f"{name}Dashboard"]
            for name in ("Operations", "Executors", "Functions", "Load")
            if f"{name}Dashboard" in outputs
        ],
        loadLogGroup=outputs["LoadLogGroup"],
        executors=Executors(
            slotsTable=outputs.get("SlotsTable", ""),
            stateMachine=outputs.get("StateMachineArn", ""),
            batchJobQueue=outputs.get("BatchJobQueue", ""),
            ecsCluster=outputs.get("EcsCluster", ""),
        ),
        users=users,
        **place,
    )
